//! What a proxy answers in the server's stead, at every call that fits: for answers that a well server cannot be made to
//! give.

use std::time::Duration;

use super::call::{Request, Side};

/// One answer for many calls to OpenBao.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The whole path, for example `secret/metadata/pay/database`.
    pub path: String,
    /// The answer.
    pub canned: Canned,
}

impl Rule {
    /// Whether the rule is about this call.
    pub fn fits(&self, request: &Request) -> bool {
        request.side == Side::Vault && request.resource == self.path
    }
}

/// An answer that is not the server's.
#[derive(Debug, Clone)]
pub enum Canned {
    /// This status with this body.
    Answer {
        /// The status.
        status: u16,
        /// The body.
        body: Vec<u8>,
        /// One header more: `location`, `retry-after`.
        header: Option<(&'static str, String)>,
    },
    /// This body with 200, and then the connection breaks before it is whole.
    CutShort(Vec<u8>),
    /// The connection is reset.
    Reset,
    /// Nothing for so long, then a reset.
    Silence(Duration),
}

impl Canned {
    /// A status with a body.
    pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer { status, body: body.into(), header: None }
    }

    /// A refusal as Vault and OpenBao word it.
    pub fn refusal(status: u16) -> Self {
        Self::answer(status, r#"{"errors":["an injected fault"]}"#)
    }

    /// The same with one header more.
    #[must_use]
    pub fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Answer { status, body, .. } => Self::Answer { status, body, header: Some((name, value.into())) },
            other => other,
        }
    }
}
