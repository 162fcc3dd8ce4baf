//! Requests and answers as plain values, so that one can be repeated with another token and
//! built or read in a test without a server.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use countersign_core::{
    fault::{Class, Failure},
    value::{
        secret_data::SecretBytes,
        vault_path::{Segment, VaultPath, encode},
    },
};
use http::{HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::classify;

/// What a request is for; decides what a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A login at an auth method.
    Login,
    /// Looking up, renewing or revoking our own token.
    Token,
    /// A signature.
    Sign,
    /// Reading or listing issuers.
    Issuer,
    /// Reading a role.
    Role,
    /// Asking for our own rights.
    Capabilities,
    /// The health of the server.
    Health,
    /// What a mount is.
    Mount,
    /// The metadata of a secret.
    Metadata,
    /// The values of a secret.
    Values,
}

/// The part of a URL after `/v1/`; every piece that is not ours is a parsed segment, encoded again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiPath(String);

impl ApiPath {
    /// A path that starts with our own words.
    pub(super) fn fixed(words: &'static str) -> Self {
        Self(words.to_owned())
    }

    /// A path that starts at a mount.
    pub(super) fn mount(mount: &VaultPath) -> Self {
        let segments: Vec<String> = mount.segments().iter().map(|segment| encode(segment.as_str())).collect();
        Self(segments.join("/"))
    }

    pub(super) fn then(mut self, words: &'static str) -> Self {
        self.0.push('/');
        self.0.push_str(words);
        self
    }

    pub(super) fn below(self, mount: &VaultPath) -> Self {
        Self(format!("{}/{}", self.0, Self::mount(mount).0))
    }

    pub(super) fn segment(mut self, segment: &Segment) -> Self {
        self.0.push('/');
        self.0.push_str(&encode(segment.as_str()));
        self
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A request without its token. Shows its method and path only: a body may hold a credential.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) call: Call,
    pub(super) method: Method,
    pub(super) path: ApiPath,
    pub(super) query: Option<Cow<'static, str>>,
    pub(super) body: Option<Bytes>,
}

impl Request {
    pub(super) fn get(call: Call, path: ApiPath) -> Self {
        Self { call, method: Method::GET, path, query: None, body: None }
    }

    /// A GET with `list=true`, which every proxy understands; the verb LIST is not one of HTTP's.
    pub(super) fn list(call: Call, path: ApiPath) -> Self {
        Self { query: Some(Cow::Borrowed("list=true")), ..Self::get(call, path) }
    }

    /// The same request for one version of a secret.
    pub(super) fn version(self, number: i64) -> Self {
        Self { query: Some(Cow::Owned(format!("version={number}"))), ..self }
    }

    pub(super) fn post(call: Call, path: ApiPath) -> Self {
        Self { method: Method::POST, ..Self::get(call, path) }
    }

    /// A body without secrets.
    pub(super) fn json(self, body: &serde_json::Value) -> Self {
        Self { body: Some(Bytes::from(body.to_string())), ..self }
    }

    /// A body with a credential, wiped when the last copy of the request is dropped.
    pub(super) fn secret_json(self, body: &impl Serialize) -> Result<Self, Failure> {
        // Room for a credential of the usual size, so that growing does not leave copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(8 * 1024));
        match serde_json::to_writer(&mut *text, body) {
            Ok(()) => Ok(Self { body: Some(Bytes::from_owner(text)), ..self }),
            Err(_) => Err(classify::internal(&format!("{self}: the request cannot be written as JSON"))),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} /v1/{}", self.method, self.path.0)
    }
}

/// A login token: no `Debug`, no `Display`, marked sensitive for the HTTP library, wiped on drop.
#[derive(Clone)]
pub(super) struct Token(HeaderValue);

impl Token {
    /// `None` if the bytes cannot be a header's value, for example because of a trailing newline.
    pub(super) fn new(secret: &SecretBytes) -> Option<Self> {
        // The header shares these bytes with every request instead of copying them.
        let owner = Zeroizing::new(secret.expose().to_vec());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(owner)).ok()?;
        value.set_sensitive(true);
        (!value.is_empty()).then_some(Self(value))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// An answer, read to its end. The body may hold a credential: it is wiped on drop and never shown.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The server's wish, in whole seconds.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

#[derive(Deserialize)]
struct WithData<T> {
    data: T,
}

#[derive(Deserialize)]
struct WithAuth<T> {
    auth: T,
}

impl Answer {
    /// The `data` of a successful answer.
    pub(super) fn data<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failure> {
        self.decode(request).map(|WithData { data }| data)
    }

    /// The `auth` of a successful login or renewal.
    pub(super) fn auth<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failure> {
        self.decode(request).map(|WithAuth { auth }| auth)
    }

    // serde's own message quotes the offending value; it stays here.
    fn decode<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| classify::misunderstood(request))
    }
}

/// A call that did not succeed. The status lets the session tell a dead token from trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallFailed {
    /// `None` if no complete answer came.
    pub(super) status: Option<StatusCode>,
    pub(super) failure: Failure,
}

impl CallFailed {
    /// The server knows no such token, or the token may not do this: one cannot tell from the answer.
    pub(super) fn is_forbidden(&self) -> bool {
        self.status == Some(StatusCode::FORBIDDEN) && self.failure.class == Class::Denied
    }
}

impl From<Failure> for CallFailed {
    fn from(failure: Failure) -> Self {
        Self { status: None, failure }
    }
}

impl From<CallFailed> for Failure {
    fn from(failed: CallFailed) -> Self {
        failed.failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_from_encoded_segments() {
        let mount: VaultPath = "team-a/pki".parse().unwrap();
        let role: Segment = "work.load_1".parse().unwrap();
        let path = ApiPath::fixed("auth").below(&mount).then("role").segment(&role);
        assert_eq!(path.as_str(), "auth/team-a/pki/role/work.load_1");
    }

    #[test]
    fn a_token_with_a_newline_is_none_and_a_good_one_is_sensitive() {
        assert!(Token::new(&SecretBytes::from("s.abc\n".to_owned())).is_none());
        assert!(Token::new(&SecretBytes::from(String::new())).is_none());
        let token = Token::new(&SecretBytes::from("s.abc".to_owned())).unwrap();
        assert!(token.header().is_sensitive());
        assert_eq!(format!("{:?}", token.header()), "Sensitive");
    }

    #[test]
    fn a_negative_or_missing_number_is_an_answer_not_understood() {
        #[derive(Deserialize)]
        struct Ttl {
            #[expect(dead_code, reason = "only its type matters")]
            ttl: u64,
        }
        let request = Request::get(Call::Token, ApiPath::fixed("auth/token/lookup-self"));
        for body in [r#"{"data":{"ttl":-1}}"#, r#"{"data":{}}"#, r#"{"data":null}"#, r#"{"data":{"ttl":1,"ttl":2}}"#] {
            let answer =
                Answer { status: StatusCode::OK, retry_after: None, body: Zeroizing::new(body.as_bytes().to_vec()) };
            let failure = answer.data::<Ttl>(&request).err().unwrap();
            assert_eq!(failure, classify::misunderstood(&request), "{body}");
        }
    }
}
