//! What an account asked of the API server, counted from its audit log.
//!
//! The log is the API server's own account, so nothing the operator forgets to count is missing. Must
//! not know what is measured; the cases take what was written since they last asked.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

/// Field manager of an empty patch that reads a Secret; the server counts it as a patch, and nothing changes by it.
const READ_MANAGER: &str = "countersign.dev/read";

/// The Secret of the chart at which the operator tries its fence.
const CANARY: &str = "countersign-fence-canary";

/// The audit log, read on from where it was left.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: File,
    /// The start of a line whose end is not written yet.
    partial: Vec<u8>,
}

/// One request, as far as counting needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who asked.
    pub user: String,
    /// What was asked.
    pub kind: Kind,
    /// Plural name of the kind of object, with the subresource behind a slash.
    pub resource: String,
    /// Namespace of the object; empty without one.
    pub namespace: String,
    /// Whether the server said no.
    pub refused: bool,
    /// When it arrived.
    pub received: Timestamp,
    /// When it was answered.
    pub answered: Timestamp,
}

/// What kind of request it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One object, or an empty patch.
    Read,
    /// Objects.
    List,
    /// The start of a watch.
    Watch,
    /// A change of an object.
    Write,
    /// An Event.
    Event,
    /// Any request about a Lease: the election runs whether there is work or not.
    Lease,
    /// The operator's look at whether the admission policy that fences it is in force: as regular as the election.
    Probe,
    /// A token or a review, which leaves no object behind.
    Ask,
}

/// Requests of one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects read one by one.
    pub reads: u64,
    /// Lists.
    pub lists: u64,
    /// Changes that were accepted.
    pub writes: u64,
    /// Changes that were refused.
    pub refused_writes: u64,
    /// Events.
    pub events: u64,
}

impl AuditLog {
    /// Starts at the end of what is written now.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = open(path)?;
        file.seek(SeekFrom::End(0)).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, partial: Vec::new() })
    }

    /// The requests answered since the last call.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something that is no request.
    pub fn read(&mut self) -> Result<Vec<Request>> {
        let mut text = std::mem::take(&mut self.partial);
        self.rest(&mut text)?;
        // The server renames a file that has grown large and starts another.
        if self.is_renamed() {
            // What was written between the two looks still belongs to it.
            self.rest(&mut text)?;
            self.file = open(&self.path)?;
            self.rest(&mut text)?;
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.partial = text.split_off(whole);
        parse(&text)
    }

    fn rest(&mut self, text: &mut Vec<u8>) -> Result<()> {
        self.file.read_to_end(text).with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(())
    }

    fn is_renamed(&self) -> bool {
        let (open, named) = (self.file.metadata(), std::fs::metadata(&self.path));
        matches!((open, named), (Ok(open), Ok(named)) if open.ino() != named.ino())
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open the audit log {}", path.display()))
}

impl Counts {
    /// Counts what `user` asked.
    pub fn of(requests: &[Request], user: &str) -> Self {
        let mut counts = Self::default();
        for request in requests.iter().filter(|request| request.user == user) {
            match request.kind {
                Kind::Read => counts.reads += 1,
                Kind::List => counts.lists += 1,
                Kind::Write if request.refused => counts.refused_writes += 1,
                Kind::Write => counts.writes += 1,
                Kind::Event => counts.events += 1,
                Kind::Watch | Kind::Lease | Kind::Probe | Kind::Ask => {}
            }
        }
        counts
    }
}

/// A line of the log; everything else in it is of no interest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: Status,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: u16,
}

fn parse(text: &[u8]) -> Result<Vec<Request>> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut requests = Vec::new();
    for line in lines {
        let line: Line = serde_json::from_slice(line).context("the audit log holds a line of another form")?;
        requests.extend(request(line));
    }
    Ok(requests)
}

/// A long request has two lines: one when the answer starts, one when it ends. A watch is counted by the first.
fn request(line: Line) -> Option<Request> {
    let last = matches!(line.stage.as_str(), "ResponseComplete" | "Panic");
    let watch = line.verb == "watch";
    let counted = if watch { line.stage == "ResponseStarted" } else { last };
    if !counted {
        return None;
    }
    let kind = kind(&line.verb, &line.object_ref, &line.request_uri);
    let ObjectRef { resource, subresource, namespace, .. } = line.object_ref;
    let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
    Some(Request {
        user: line.user.username,
        kind,
        resource,
        namespace,
        refused: line.response_status.code >= 400,
        received: line.request_received_timestamp,
        answered: line.stage_timestamp,
    })
}

fn kind(verb: &str, object: &ObjectRef, uri: &str) -> Kind {
    match (verb, object.resource.as_str()) {
        (_, "leases") => Kind::Lease,
        (_, "events") => Kind::Event,
        ("watch", _) => Kind::Watch,
        ("list", _) => Kind::List,
        ("patch", "secrets") if object.name == CANARY => Kind::Probe,
        ("patch", _) if manager(uri).is_some_and(|manager| manager == READ_MANAGER) => Kind::Read,
        ("create", resource) if object.subresource == "token" || resource.ends_with("reviews") => Kind::Ask,
        ("create" | "update" | "patch" | "delete" | "deletecollection", _) => Kind::Write,
        _ => Kind::Read,
    }
}

/// The field manager that the query of a request names.
fn manager(uri: &str) -> Option<String> {
    let url = Url::parse("https://server").ok()?.join(uri).ok()?;
    let mut pairs = url.query_pairs();
    pairs.find(|(name, _)| name == "fieldManager").map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

    fn line(stage: &str, verb: &str, resource: &str, query: &str, code: u16) -> String {
        line_of(OPERATOR, stage, verb, resource, query, code)
    }

    fn line_of(user: &str, stage: &str, verb: &str, resource: &str, query: &str, code: u16) -> String {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let mut object =
            serde_json::json!({"resource": resource, "namespace": "shop", "name": "a", "apiVersion": "v1"});
        if !subresource.is_empty() {
            object["subresource"] = subresource.into();
        }
        let line = serde_json::json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "1", "stage": stage,
            "requestURI": format!("/api/v1/namespaces/shop/{resource}/a{query}"), "verb": verb,
            "user": {"username": user, "groups": ["system:authenticated"]}, "sourceIPs": ["127.0.0.1"],
            "objectRef": object, "responseStatus": {"metadata": {}, "code": code},
            "requestReceivedTimestamp": "2026-11-25T22:00:00.000001Z", "stageTimestamp": "2026-11-25T22:00:00.002001Z",
            "annotations": {"authorization.k8s.io/decision": "allow"},
        });
        format!("{line}\n")
    }

    fn counts(lines: &[String]) -> Counts {
        Counts::of(&parse(lines.concat().as_bytes()).unwrap(), OPERATOR)
    }

    #[test]
    fn an_empty_patch_by_the_reading_manager_is_a_read_and_any_other_patch_a_write() {
        let lines = [
            line("ResponseComplete", "patch", "secrets", "?fieldManager=countersign.dev%2Fread", 200),
            line("ResponseComplete", "patch", "secrets", "?fieldManager=countersign.dev%2Fread", 404),
            line("ResponseComplete", "patch", "secrets", "?force=false&fieldManager=countersign.dev%2Fidentity", 201),
            line("ResponseComplete", "patch", "serviceidentities/status", "", 200),
        ];
        assert_eq!(counts(&lines), Counts { reads: 2, writes: 2, ..Counts::default() });
    }

    #[test]
    fn refused_writes_are_no_writes_and_a_refused_read_is_no_refused_write() {
        let lines = [
            line("ResponseComplete", "patch", "serviceidentities/status", "", 409),
            line("ResponseComplete", "create", "secrets", "", 422),
            line("ResponseComplete", "get", "serviceaccounts", "", 404),
        ];
        assert_eq!(counts(&lines), Counts { reads: 1, refused_writes: 2, ..Counts::default() });
    }

    #[test]
    fn leases_probes_tokens_and_reviews_are_no_writes_and_events_are_apart() {
        let lines = [
            line("ResponseComplete", "patch", "leases", "", 200),
            line("ResponseComplete", "create", "serviceaccounts/token", "", 201),
            line("ResponseComplete", "create", "selfsubjectaccessreviews", "", 201),
            line("ResponseComplete", "create", "events", "", 201),
            line("ResponseComplete", "list", "serviceidentities", "", 200),
            line("ResponseComplete", "patch", "secrets", "?fieldManager=countersign.dev%2Fread", 422)
                .replace("\"name\":\"a\"", &format!("\"name\":\"{CANARY}\"")),
        ];
        assert_eq!(counts(&lines), Counts { events: 1, lists: 1, ..Counts::default() });
    }

    #[test]
    fn a_watch_counts_once_and_other_accounts_not_at_all() {
        let lines = [
            line("ResponseStarted", "watch", "serviceidentities", "?watch=1", 200),
            line("ResponseComplete", "watch", "serviceidentities", "?watch=1", 200),
            line_of("admin", "ResponseComplete", "create", "secrets", "", 201),
        ];
        let requests = parse(lines.concat().as_bytes()).unwrap();
        assert_eq!(requests.iter().map(|request| request.kind).collect::<Vec<_>>(), [Kind::Watch, Kind::Write]);
        assert_eq!(Counts::of(&requests, OPERATOR), Counts::default());
        assert_eq!(Counts::of(&requests, "admin").writes, 1);
    }

    #[test]
    fn times_are_kept() {
        let requests = parse(line("ResponseComplete", "get", "secrets", "", 200).as_bytes()).unwrap();
        let request = requests.first().unwrap();
        assert_eq!(request.answered.as_microsecond() - request.received.as_microsecond(), 2_000);
    }

    #[test]
    fn reading_goes_on_behind_half_a_line_and_behind_a_renamed_file() {
        let path = std::env::temp_dir().join(format!("countersign-audit-{}", std::process::id()));
        let (old, first) = (path.with_extension("old"), line("ResponseComplete", "get", "secrets", "", 200));
        std::fs::write(&path, &first).unwrap();
        let mut log = AuditLog::open(&path).unwrap();
        assert_eq!(log.read().unwrap(), []);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        let (half, rest) = first.split_at(40);
        file.write_all(half.as_bytes()).unwrap();
        assert_eq!(log.read().unwrap(), []);
        file.write_all(rest.as_bytes()).unwrap();
        file.write_all(half.as_bytes()).unwrap();
        assert_eq!(log.read().unwrap().len(), 1);
        file.write_all(rest.as_bytes()).unwrap();
        std::fs::rename(&path, &old).unwrap();
        std::fs::write(&path, [first.as_str(), first.as_str()].concat()).unwrap();
        assert_eq!(log.read().unwrap().len(), 3);
        assert_eq!(log.read().unwrap(), []);
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(old).unwrap();
    }

    #[test]
    fn a_line_of_another_form_is_an_error() {
        assert!(parse(b"{}\n").is_err());
    }
}
