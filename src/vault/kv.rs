//! Reads from KV engines: what a mount is, which versions a secret has, its values.
//!
//! Answers become plain facts of [`countersign_core::value::kv`]; what they mean for a binding is decided there. A
//! value is wiped on drop and never shown, and a body that does not read as expected is not quoted.

use std::collections::BTreeMap;

use countersign_core::{
    api::Reason,
    binding::reads,
    fault::{Class, Failure},
    value::{
        kv::{Engine, Metadata, MountKind, RemoteValue, Values, Version},
        vault_path::VaultPath,
    },
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    classify,
    request::{Answer, ApiPath, Call, Request},
    session::Session,
};

impl Session {
    /// Reads what a binding asks for, as whoever this session is.
    ///
    /// # Errors
    /// As the server answers. A refusal of metadata is an answer of its own: the values may be readable all the same.
    pub async fn read(&self, what: &reads::What) -> Result<reads::Answer, Failure> {
        match what {
            reads::What::Mount(path) => self.mount(path).await.map(reads::Answer::Mount),
            reads::What::Metadata { mount, path } => {
                let request = read_metadata(mount, path);
                match self.send(&request).await {
                    Ok(answer) => metadata(&request, &answer).map(reads::Answer::Metadata),
                    Err(failed) if failed.is_forbidden() => Ok(reads::Answer::MetadataDenied),
                    Err(failed) => Err(failed.failure),
                }
            }
            reads::What::Values { mount, path, version } => {
                let request = read_values(mount, path, *version);
                versioned(&request, &self.send(&request).await?).map(reads::Answer::Values)
            }
            reads::What::Unversioned { mount, path } => {
                let request = Request::get(Call::Values, ApiPath::mount(mount).below(path));
                let answer = self.send(&request).await?;
                let fields = fields(&request, answer.data(&request)?)?;
                Ok(reads::Answer::Values(Values { version: None, fields }))
            }
        }
    }

    async fn mount(&self, path: &VaultPath) -> Result<MountKind, Failure> {
        let request = Request::get(Call::Mount, ApiPath::fixed("sys/internal/ui/mounts").below(path));
        match self.send(&request).await {
            Ok(answer) => mount(&request, &answer),
            // The server hides a mount from who has no right below it, and answers alike where there is none.
            Err(failed) if failed.is_forbidden() => {
                let words = format!("{request}: there is no such mount, or the account may not know of it");
                Err(Failure::new(Class::Waiting, Reason::MountMissing, words))
            }
            Err(failed) => Err(failed.failure),
        }
    }
}

fn read_metadata(mount: &VaultPath, path: &VaultPath) -> Request {
    Request::get(Call::Metadata, ApiPath::mount(mount).then("metadata").below(path))
}

fn read_values(mount: &VaultPath, path: &VaultPath, version: Option<i64>) -> Request {
    let request = Request::get(Call::Values, ApiPath::mount(mount).then("data").below(path));
    match version {
        Some(number) => request.version(number),
        None => request,
    }
}

fn mount(request: &Request, answer: &Answer) -> Result<MountKind, Failure> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(rename = "type")]
        type_: String,
        #[serde(default)]
        options: Option<BTreeMap<String, String>>,
        path: String,
    }
    let wire: Wire = answer.data(request)?;
    if wire.type_ != "kv" && wire.type_ != "generic" {
        return Ok(MountKind::Other);
    }
    let version = wire.options.unwrap_or_default().remove("version");
    let engine = match version.as_deref() {
        Some("2") => Engine::V2,
        Some("1") | None => Engine::V1,
        Some(_) => return Ok(MountKind::Other),
    };
    let path = wire.path.trim_end_matches('/').parse().map_err(|_| classify::misunderstood(request))?;
    Ok(MountKind::Kv { engine, path })
}

/// One version, as both answers have it.
#[derive(Deserialize)]
struct VersionWire {
    created_time: Timestamp,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl VersionWire {
    fn version(self, request: &Request, number: i64) -> Result<Version, Failure> {
        let deleted = match self.deletion_time.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| classify::misunderstood(request))?),
        };
        Ok(Version { number, created: self.created_time, deleted, destroyed: self.destroyed })
    }
}

fn metadata(request: &Request, answer: &Answer) -> Result<Metadata, Failure> {
    #[derive(Deserialize)]
    struct Wire {
        current_version: i64,
        versions: BTreeMap<String, VersionWire>,
    }
    let wire: Wire = answer.data(request)?;
    let mut versions = BTreeMap::new();
    for (number, version) in wire.versions {
        let number = number.parse().map_err(|_| classify::misunderstood(request))?;
        versions.insert(number, version.version(request, number)?);
    }
    Ok(Metadata { current: wire.current_version, versions })
}

fn versioned(request: &Request, answer: &Answer) -> Result<Values, Failure> {
    #[derive(Deserialize)]
    struct Facts {
        version: i64,
        #[serde(flatten)]
        version_facts: VersionWire,
    }
    #[derive(Deserialize)]
    struct Wire {
        data: RemoteValue,
        metadata: Facts,
    }
    let wire: Wire = answer.data(request)?;
    let number = wire.metadata.version;
    let version = wire.metadata.version_facts.version(request, number)?;
    Ok(Values { version: Some(version), fields: fields(request, wire.data)? })
}

fn fields(request: &Request, value: RemoteValue) -> Result<BTreeMap<String, RemoteValue>, Failure> {
    match value {
        RemoteValue::Object(fields) => Ok(fields),
        _ => Err(classify::misunderstood(request)),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};
    use zeroize::Zeroizing;

    use super::*;

    fn answer(body: &str) -> Answer {
        Answer { status: StatusCode::OK, retry_after: None, body: Zeroizing::new(body.as_bytes().to_vec()) }
    }

    fn path(text: &str) -> VaultPath {
        text.parse().unwrap()
    }

    #[test]
    fn every_path_is_the_documented_one() {
        let (mount, below) = (path("team/kv"), VaultPath::below_a_mount("auth/db.main").unwrap());
        let metadata = read_metadata(&mount, &below);
        assert_eq!(metadata.to_string(), "GET /v1/team/kv/metadata/auth/db.main");
        let values = read_values(&mount, &below, Some(7));
        assert_eq!(
            (values.to_string().as_str(), values.query.as_deref()),
            ("GET /v1/team/kv/data/auth/db.main", Some("version=7"))
        );
        assert_eq!(read_values(&mount, &below, None).query, None);
    }

    #[test]
    fn a_mount_is_known_by_type_and_version() {
        let request = read_metadata(&path("kv"), &path("a"));
        let read = |data: Value| mount(&request, &answer(&json!({ "data": data }).to_string()));
        let kv = |engine| Ok(MountKind::Kv { engine, path: path("team/kv") });
        let table = [
            (json!({"type": "kv", "options": {"version": "2"}, "path": "team/kv/"}), kv(Engine::V2)),
            (json!({"type": "kv", "options": {"version": "1"}, "path": "team/kv/"}), kv(Engine::V1)),
            (json!({"type": "kv", "options": null, "path": "team/kv/"}), kv(Engine::V1)),
            (json!({"type": "generic", "path": "team/kv/"}), kv(Engine::V1)),
            (json!({"type": "kv", "options": {"version": "3"}, "path": "team/kv/"}), Ok(MountKind::Other)),
            (json!({"type": "database", "path": "team/kv/"}), Ok(MountKind::Other)),
            (json!({"type": "kv", "path": "../kv/"}), Err(classify::misunderstood(&request))),
        ];
        for (data, expected) in table {
            assert_eq!(read(data.clone()), expected, "{data}");
        }
    }

    #[test]
    fn versions_and_values_are_read() {
        let request = read_values(&path("kv"), &path("a"), None);
        let facts = json!({"created_time": "2026-01-02T03:04:05.123456789Z", "deletion_time": "", "destroyed": false});
        let gone =
            json!({"created_time": "2026-01-02T03:04:05Z", "deletion_time": "2026-02-01T00:00:00Z", "destroyed": true});
        let body = json!({"data": {"current_version": 2, "versions": {"1": gone, "2": facts}}});
        let read = metadata(&request, &answer(&body.to_string())).unwrap();
        assert_eq!((read.current, read.versions.len()), (2, 2));
        assert!(read.versions[&1].destroyed && read.versions[&1].deleted.is_some());
        let mut facts = facts;
        facts["version"] = json!(2);
        facts["custom_metadata"] = Value::Null;
        let body = json!({"data": {"data": {"k": "v"}, "metadata": facts}}).to_string();
        let values = versioned(&request, &answer(&body)).unwrap();
        assert_eq!(values.version.as_ref(), Some(&read.versions[&2]));
        assert_eq!(values.fields.len(), 1);
        for bad in [
            r#"{"data":{"data":{"k":"a","k":"b"},"metadata":{"version":1,"created_time":"2026-01-02T03:04:05Z"}}}"#,
            r#"{"data":{"data":null,"metadata":{"version":1,"created_time":"2026-01-02T03:04:05Z"}}}"#,
            r#"{"data":{"data":{},"metadata":{"version":1,"created_time":"yesterday"}}}"#,
            r#"{"data":{"data":{}}}"#,
        ] {
            assert_eq!(versioned(&request, &answer(bad)), Err(classify::misunderstood(&request)), "{bad}");
        }
    }
}
