//! What a server says about itself, without a login.

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    classify,
    request::{Answer, ApiPath, Call, Request},
};

/// Which product answers, as far as its health answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// HashiCorp Vault.
    Vault,
    /// OpenBao.
    OpenBao,
}

/// The answer of `sys/health`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "these are the server's own, independent flags")]
pub struct Health {
    /// A guess by structure, good enough to show.
    pub product: Product,
    /// As the server writes it, for example `2.7.2`; at most 64 characters.
    pub version: String,
    /// Whether the server was ever initialised.
    pub initialized: bool,
    /// Whether it is sealed.
    pub sealed: bool,
    /// Whether it is a standby; one that forwards requests serves us as well.
    pub standby: bool,
    /// Whether it is a secondary for disaster recovery, which serves nobody.
    pub recovery_secondary: bool,
    /// The server's clock.
    pub server_time: Timestamp,
}

#[derive(Deserialize)]
struct Wire {
    initialized: bool,
    sealed: bool,
    #[serde(default)]
    standby: bool,
    // Only Vault sends these two, in every edition.
    performance_standby: Option<bool>,
    enterprise: Option<bool>,
    #[serde(default)]
    replication_dr_mode: String,
    server_time_utc: i64,
    version: String,
}

/// The request for it. Sent without the connection's namespace: only the root namespace answers it.
pub(super) fn request() -> Request {
    Request::get(Call::Health, ApiPath::fixed("sys/health"))
}

/// Reads the answer, whatever its status: the object says the same and more.
pub(super) fn read(answer: &Answer) -> Result<Health, Failure> {
    let wire: Wire = serde_json::from_slice(&answer.body).map_err(|_| classify::not_vault(&request()))?;
    let server_time = Timestamp::from_second(wire.server_time_utc).map_err(|_| classify::misunderstood(&request()))?;
    let vault = wire.performance_standby.is_some() || wire.enterprise.is_some();
    Ok(Health {
        product: if vault { Product::Vault } else { Product::OpenBao },
        version: wire.version.chars().filter(char::is_ascii_graphic).take(64).collect(),
        initialized: wire.initialized,
        sealed: wire.sealed,
        standby: wire.standby || wire.performance_standby == Some(true),
        recovery_secondary: wire.replication_dr_mode == "secondary",
        server_time,
    })
}

impl Health {
    /// Whether the server can serve us. A standby counts: it forwards, or redirects, which shows at
    /// the first call.
    pub fn usable(&self) -> Result<(), Failure> {
        let unusable = |reason, words: &str| Err(Failure::new(Class::Unavailable, reason, words));
        if !self.initialized {
            unusable(Reason::VaultSealed, "the server is not initialised")
        } else if self.sealed {
            unusable(Reason::VaultSealed, "the server is sealed; unseal it")
        } else if self.recovery_secondary {
            unusable(
                Reason::VaultUnavailable,
                "the server is a secondary for disaster recovery; point `address` at the primary",
            )
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use zeroize::Zeroizing;

    use super::*;

    fn answer(body: &str) -> Answer {
        Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after: None,
            body: Zeroizing::new(body.as_bytes().to_vec()),
        }
    }

    const OPENBAO: &str = r#"{"initialized":true,"sealed":false,"standby":false,"replication_performance_mode":"disabled",
        "replication_dr_mode":"disabled","server_time_utc":1795494373,"version":"2.7.2","cluster_name":"c","cluster_id":"i"}"#;
    const VAULT: &str = r#"{"initialized":true,"sealed":false,"standby":true,"performance_standby":false,
        "replication_performance_mode":"disabled","replication_dr_mode":"disabled","server_time_utc":1795494373,
        "version":"1.21.0","enterprise":false,"echo_duration_ms":0,"clock_skew_ms":0}"#;

    #[test]
    fn both_products_are_read() {
        let bao = read(&answer(OPENBAO)).unwrap();
        assert_eq!((bao.product, bao.version.as_str(), bao.standby), (Product::OpenBao, "2.7.2", false));
        assert_eq!(bao.server_time, Timestamp::from_second(1_795_494_373).unwrap());
        assert_eq!(bao.usable(), Ok(()));
        let vault = read(&answer(VAULT)).unwrap();
        assert_eq!((vault.product, vault.version.as_str(), vault.standby), (Product::Vault, "1.21.0", true));
        assert_eq!(vault.usable(), Ok(()), "a standby that forwards serves us");
    }

    #[test]
    fn what_cannot_serve_says_why() {
        for (from, to, reason) in [
            (r#""sealed":false"#, r#""sealed":true"#, Reason::VaultSealed),
            (r#""initialized":true"#, r#""initialized":false"#, Reason::VaultSealed),
            (r#""replication_dr_mode":"disabled""#, r#""replication_dr_mode":"secondary""#, Reason::VaultUnavailable),
        ] {
            let failure = read(&answer(&OPENBAO.replace(from, to))).unwrap().usable().unwrap_err();
            assert_eq!((failure.class, failure.reason), (Class::Unavailable, reason), "{to}");
        }
    }

    #[test]
    fn another_objects_health_and_a_lying_clock_are_refused() {
        assert_eq!(read(&answer(r#"{"status":"UP"}"#)).unwrap_err().reason, Reason::NotVault);
        let lying = OPENBAO.replace("1795494373", "9223372036854775807");
        assert_eq!(read(&answer(&lying)).unwrap_err().reason, Reason::UpstreamInvalid);
    }

    #[test]
    fn a_version_is_cut_to_what_a_status_can_show() {
        let long = OPENBAO.replace("2.7.2", &format!("2.7\\n{}", "x".repeat(500)));
        let version = read(&answer(&long)).unwrap().version;
        assert_eq!(version.len(), 64);
        assert!(version.starts_with("2.7x"));
    }
}
