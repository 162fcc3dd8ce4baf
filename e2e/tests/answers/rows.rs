//! The rows: answers, and what each is told as.

use std::{ops::RangeInclusive, time::Duration};

use countersign_e2e::crash::script::Canned;
use serde_json::{Value, json};

/// At which of its two paths a secret is answered for.
#[derive(Debug, Clone)]
pub enum At {
    /// At its metadata.
    Metadata(Canned),
    /// At its values; its metadata are true.
    Values(Canned),
    /// At its values, and its metadata are refused.
    ClosedValues(Canned),
    /// Its metadata are refused, its values are true.
    Closed,
    /// At neither: the real server answers.
    Nowhere,
}

/// What is done at the server, or to the binding, so that the real server answers so.
#[derive(Debug, Clone)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// The newest version is deleted.
    Delete,
    /// The newest version is destroyed.
    Destroy,
    /// The source is pinned to this version.
    Pin(i64),
    /// The source is in this mount.
    Mount(&'static str),
    /// The newest version has these values.
    Values(Value),
}

/// One row.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name, which is that of everything it makes.
    pub name: String,
    /// The answer.
    pub at: At,
    /// The real cause.
    pub step: Step,
    /// The reason that is told.
    pub reason: &'static str,
    /// Whether a person must act (`Stalled`), or work goes on by itself (`Reconciling`).
    pub stalled: bool,
    /// How often it is tried in the first eight seconds, where that is judged.
    pub calls: Option<RangeInclusive<usize>>,
    /// Whether another binding of the same connection is served meanwhile.
    pub others_are_well: bool,
}

/// Tried once: the next try is minutes away.
const ONCE: RangeInclusive<usize> = 1..=1;
/// Tried again after 2, 4, 8 s (±20 %).
const OWN_BACK_OFF: RangeInclusive<usize> = 2..=3;
/// The connection's breaker probes after 5 s (±20 %).
const BREAKER: RangeInclusive<usize> = 1..=2;

fn row(name: &str, at: At, reason: &'static str) -> Row {
    Row { name: name.to_owned(), at, step: Step::Nothing, reason, stalled: false, calls: None, others_are_well: false }
}

impl Row {
    fn stalled(mut self) -> Self {
        self.stalled = true;
        self
    }

    fn tried(mut self, calls: RangeInclusive<usize>) -> Self {
        self.calls = Some(calls);
        self
    }

    fn by(mut self, step: Step) -> Self {
        self.step = step;
        self
    }

    fn alone(mut self) -> Self {
        self.others_are_well = true;
        self
    }
}

/// Every row; `elsewhere` is where redirects lead.
pub fn all(elsewhere: &str) -> Vec<Row> {
    let mut rows = named(elsewhere);
    rows.extend(real());
    rows.extend(bodies());
    rows.extend(values());
    rows.extend(statuses());
    rows
}

/// The answer table, as far as a proxy must give the answers.
fn named(elsewhere: &str) -> Vec<Row> {
    let refusal = Canned::refusal;
    let redirect = |status| refusal(status).with("location", elsewhere);
    vec![
        row("sealed", At::Metadata(refusal(503)), "VaultSealed").tried(BREAKER),
        row("uninitialised", At::Metadata(refusal(501)), "VaultSealed").tried(BREAKER),
        row("reset", At::Metadata(Canned::Reset), "VaultUnavailable").tried(BREAKER),
        row("silent", At::Metadata(Canned::Silence(Duration::from_secs(6))), "VaultUnavailable").tried(BREAKER),
        row("backend", At::Metadata(refusal(500)), "BackendFailing").tried(OWN_BACK_OFF).alone(),
        row("backend-values", At::Values(refusal(502)), "BackendFailing").tried(OWN_BACK_OFF).alone(),
        row("fast", At::Metadata(refusal(429)), "Throttled").tried(BREAKER),
        row("fast-told", At::Metadata(refusal(429).with("retry-after", "30")), "Throttled").tried(ONCE),
        row("denied", At::ClosedValues(refusal(403)), "AccessDenied").stalled().alone(),
        row("nothing", At::Metadata(Canned::answer(404, r#"{"errors":[]}"#)), "RemoteMissing").tried(ONCE).alone(),
        row("unmounted", At::Metadata(refusal(404)), "MountMissing").tried(ONCE).alone(),
        row("method", At::Metadata(refusal(405)), "NotKv").stalled().tried(ONCE).alone(),
        row("behind", At::Metadata(refusal(412)), "VaultUnavailable").tried(BREAKER),
        row("replica", At::Metadata(refusal(472)), "VaultUnavailable").tried(BREAKER),
        row("secondary", At::Metadata(refusal(473)), "VaultUnavailable").tried(BREAKER),
        row("redirect", At::Metadata(redirect(307)), "StandbyRedirect").tried(BREAKER),
        row("redirect-values", At::Values(redirect(308)), "StandbyRedirect").tried(BREAKER),
        row("moved", At::Metadata(redirect(301)), "NotVault").tried(BREAKER),
        row("page", At::Metadata(Canned::answer(200, "<html>welcome</html>")), "NotVault").tried(BREAKER),
        row("firewall", At::Metadata(Canned::answer(403, "<html>blocked</html>")), "NotVault").tried(BREAKER),
        row("cut", At::Metadata(Canned::CutShort(br#"{"data":{"current_ver"#.to_vec())), "VaultUnavailable")
            .tried(BREAKER),
        row("huge", At::Metadata(Canned::answer(200, vec![b' '; 3 << 20])), "UpstreamInvalid").tried(BREAKER),
        row("huge-values", At::Values(Canned::answer(200, vec![b'['; 3 << 20])), "UpstreamInvalid").tried(BREAKER),
    ]
}

/// Those that the real server can be made to give.
fn real() -> Vec<Row> {
    let missing = json!({"user": "canary-user"});
    let number = json!({"password": 4_711});
    let nothing = json!({"password": null});
    vec![
        row("deleted", At::Nowhere, "RemoteDeleted").by(Step::Delete).tried(ONCE).alone(),
        row("destroyed", At::Nowhere, "RemoteDeleted").by(Step::Destroy).tried(ONCE).alone(),
        row("deleted-closed", At::Closed, "RemoteDeleted").by(Step::Delete).alone(),
        row("no-version", At::Nowhere, "RemoteVersionMissing").by(Step::Pin(99)).stalled().tried(ONCE).alone(),
        row("no-mount", At::Nowhere, "MountMissing").by(Step::Mount("nowhere")).tried(ONCE).alone(),
        row("no-key", At::Nowhere, "RemoteKeyMissing").by(Step::Values(missing)).tried(ONCE).alone(),
        row("number", At::Nowhere, "NonStringValue").by(Step::Values(number)).alone(),
        row("null", At::Nowhere, "RemoteKeyMissing").by(Step::Values(nothing)).alone(),
    ]
}

/// Metadata that are no metadata.
fn bodies() -> Vec<Row> {
    let deep = format!(r#"{{"data":{{"a":{}"#, "[".repeat(10_000));
    let version = |facts: &str| format!(r#"{{"data":{{"current_version":1,"versions":{{{facts}}}}}}}"#);
    let odd: Vec<(&str, Vec<u8>)> = vec![
        ("empty", b"".to_vec()),
        ("null-body", b"null".to_vec()),
        ("list", b"[]".to_vec()),
        ("text", b"\"metadata\"".to_vec()),
        ("number-body", b"1".to_vec()),
        ("half", br#"{"data":{"current_version":2,"#.to_vec()),
        ("twice", br#"{"data":{}}{"data":{}}"#.to_vec()),
        ("no-data", br"{}".to_vec()),
        ("null-data", br#"{"data":null}"#.to_vec()),
        ("list-data", br#"{"data":[]}"#.to_vec()),
        ("no-facts", br#"{"data":{}}"#.to_vec()),
        ("text-number", br#"{"data":{"current_version":"2","versions":{}}}"#.to_vec()),
        ("fraction", br#"{"data":{"current_version":1.5,"versions":{}}}"#.to_vec()),
        ("overflow", br#"{"data":{"current_version":99999999999999999999,"versions":{}}}"#.to_vec()),
        ("list-versions", br#"{"data":{"current_version":1,"versions":[]}}"#.to_vec()),
        ("null-versions", br#"{"data":{"current_version":1,"versions":null}}"#.to_vec()),
        ("named-version", version(r#""one":{"created_time":"2026-01-02T03:04:05Z"}"#).into_bytes()),
        ("no-time", version(r#""1":{}"#).into_bytes()),
        ("odd-time", version(r#""1":{"created_time":"yesterday"}"#).into_bytes()),
        ("far-time", version(r#""1":{"created_time":"99999-01-01T00:00:00Z"}"#).into_bytes()),
        ("odd-end", version(r#""1":{"created_time":"2026-01-02T03:04:05Z","deletion_time":"soon"}"#).into_bytes()),
        ("odd-truth", version(r#""1":{"created_time":"2026-01-02T03:04:05Z","destroyed":"no"}"#).into_bytes()),
        ("deep", deep.into_bytes()),
        ("bytes", vec![0xff, 0xfe, 0x00, 0x7b]),
        ("spoilt-text", b"{\"data\":\"\xff\xfe\"}".to_vec()),
    ];
    let reason = |body: &[u8]| {
        let is_json_object = body.starts_with(b"{");
        if is_json_object || body.is_empty() { "UpstreamInvalid" } else { "NotVault" }
    };
    let mut rows: Vec<Row> = odd
        .into_iter()
        .map(|(name, body)| {
            let reason = reason(&body);
            row(&format!("metadata-{name}"), At::Metadata(Canned::answer(200, body)), reason)
        })
        .collect();
    let none = br#"{"data":{"current_version":0,"versions":{}}}"#.to_vec();
    rows.push(row("metadata-none", At::Metadata(Canned::answer(200, none)), "RemoteMissing"));
    rows
}

/// Values that are no values, or not those that were asked for.
fn values() -> Vec<Row> {
    let facts =
        r#""metadata":{"version":2,"created_time":"2026-01-02T03:04:05Z","deletion_time":"","destroyed":false}"#;
    let other = facts.replace("\"version\":2", "\"version\":7");
    let towers = format!(r#"{{"data":{{"data":{{"password":{}1{}}},{facts}}}}}"#, "[".repeat(70), "]".repeat(70));
    let whole = |data: &str, facts: &str| format!(r#"{{"data":{{"data":{data},{facts}}}}}"#);
    [
        ("null", whole("null", facts), "UpstreamInvalid"),
        ("list", whole("[]", facts), "UpstreamInvalid"),
        ("text", whole("\"x\"", facts), "UpstreamInvalid"),
        ("twice", whole(r#"{"password":"a","password":"b"}"#, facts), "UpstreamInvalid"),
        ("tower", towers, "UpstreamInvalid"),
        ("no-facts", r#"{"data":{"data":{"password":"x"}}}"#.to_owned(), "UpstreamInvalid"),
        ("other-version", whole(r#"{"password":"x"}"#, &other), "WriteConflict"),
        ("other-time", whole(r#"{"password":"x"}"#, facts), "WriteConflict"),
        ("page", "<html/>".to_owned(), "NotVault"),
        ("half", r#"{"data":{"data":{"password":"x""#.to_owned(), "UpstreamInvalid"),
    ]
    .into_iter()
    .map(|(name, body, reason)| row(&format!("values-{name}"), At::Values(Canned::answer(200, body)), reason))
    .collect()
}

/// Statuses that no server of this kind gives here.
fn statuses() -> Vec<Row> {
    let refused: [(u16, &str); 18] = [
        (203, "UpstreamInvalid"),
        (300, "NotVault"),
        (302, "NotVault"),
        (303, "NotVault"),
        (304, "NotVault"),
        (400, "InternalError"),
        (402, "InternalError"),
        (406, "InternalError"),
        (409, "InternalError"),
        (410, "InternalError"),
        (413, "InternalError"),
        (418, "InternalError"),
        (422, "InternalError"),
        (451, "InternalError"),
        (504, "VaultUnavailable"),
        (505, "VaultUnavailable"),
        (520, "VaultUnavailable"),
        (599, "VaultUnavailable"),
    ];
    refused
        .into_iter()
        .map(|(status, reason)| {
            let row = row(&format!("status-{status}"), At::Metadata(Canned::refusal(status)), reason);
            if reason == "InternalError" { row.stalled() } else { row }
        })
        .collect()
}
