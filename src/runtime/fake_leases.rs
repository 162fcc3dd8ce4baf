//! An API server with one Lease, for tests: optimistic concurrency and the faults an election meets.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// What goes wrong with the next requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    /// Nothing.
    #[default]
    None,
    /// They arrive nowhere and are never answered.
    Hang,
    /// Writes are stored and never answered, once.
    LostAnswer,
    /// They are refused with this status.
    Refuse(u16),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) body: Value,
    /// When, on tokio's clock.
    pub(crate) at: tokio::time::Instant,
}

#[derive(Debug, Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    fault: Fault,
    seen: Vec<Seen>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeLeases(Arc<Mutex<State>>);

impl FakeLeases {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect_bytes().await?;
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let at = tokio::time::Instant::now();
                let uri = head.uri.to_string();
                match server.answer(&Seen { method: head.method, uri, body, at }) {
                    Some((status, answer)) => {
                        let body = Body::from(answer.to_string().into_bytes());
                        Ok::<_, kube::Error>(Response::builder().status(status).body(body).unwrap())
                    }
                    None => std::future::pending().await,
                }
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }

    /// The Lease as it is stored.
    pub(crate) fn lease(&self) -> Option<Value> {
        self.0.lock().unwrap().lease.clone()
    }

    pub(crate) fn holder(&self) -> Option<String> {
        self.lease()?["spec"]["holderIdentity"].as_str().map(Into::into)
    }

    /// Somebody else writes the Lease.
    pub(crate) fn write_as(&self, holder: &str) {
        let mut state = self.0.lock().unwrap();
        let renewed = "2999-01-01T00:00:00.000000Z";
        state.store(json!({ "spec": { "holderIdentity": holder, "leaseTransitions": 3, "renewTime": renewed } }));
    }

    pub(crate) fn delete(&self) {
        self.0.lock().unwrap().lease = None;
    }

    /// All writes so far.
    pub(crate) fn writes(&self) -> Vec<Seen> {
        self.0.lock().unwrap().seen.iter().filter(|seen| seen.method != Method::GET).cloned().collect()
    }

    fn answer(&self, request: &Seen) -> Option<(u16, Value)> {
        let mut state = self.0.lock().unwrap();
        state.seen.push(request.clone());
        match state.fault {
            Fault::Hang => return None,
            Fault::Refuse(code) => return Some(status(code)),
            Fault::None | Fault::LostAnswer => {}
        }
        let answer = state.apply(request);
        if state.fault == Fault::LostAnswer && request.method != Method::GET {
            state.fault = Fault::None;
            return None;
        }
        Some(answer)
    }
}

impl State {
    fn apply(&mut self, request: &Seen) -> (u16, Value) {
        match (&request.method, &self.lease) {
            (&Method::GET, Some(lease)) => (200, lease.clone()),
            (&Method::POST, None) => (201, self.store(request.body.clone())),
            (&Method::POST, Some(_)) => status(409),
            (&Method::PATCH, Some(lease)) => {
                let carried = &request.body["metadata"]["resourceVersion"];
                if !carried.is_null() && *carried != lease["metadata"]["resourceVersion"] {
                    return status(409);
                }
                let mut next = lease.clone();
                merge(&mut next, &request.body);
                (200, self.store(next))
            }
            (_, None) => status(404),
            (method, _) => panic!("an election sends no {method}"),
        }
    }

    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        merge(&mut lease, &json!({ "metadata": { "name": "lease", "resourceVersion": self.version.to_string() } }));
        self.lease = Some(lease.clone());
        lease
    }
}

fn status(code: u16) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    (code, json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason }))
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        let fields = into.as_object_mut().unwrap();
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), value);
        }
    }
}
