//! TLS of one connection: its own roots and nobody else's, TLS 1.2 or newer, no resumption.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use countersign_core::{
    api::Reason,
    connection::address::Surroundings,
    fault::{Class, Failure},
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs};
use rustls_pki_types::{
    CertificateDer,
    pem::{PemObject, SectionKind},
};

/// The most bytes of a CA bundle.
const MAX_BUNDLE: usize = 64 * 1024;
/// The most certificates of a CA bundle.
const MAX_CERTIFICATES: usize = 100;

/// Whom a connection trusts to vouch for the server; at least one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// CA certificates in PEM, ≤ 64 KiB and ≤ 100 of them.
    pub pem: Option<String>,
    /// The public web's roots as well, as built into the binary.
    pub public: bool,
}

/// The TLS settings of a connection with these roots.
pub(super) fn client_config(roots: &Roots) -> Result<ClientConfig, Failure> {
    let mut store = RootCertStore::empty();
    for certificate in roots.pem.as_deref().map(certificates).transpose()?.unwrap_or_default() {
        store.add(certificate).map_err(|_| refused("a certificate cannot be read"))?;
    }
    if roots.public {
        store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    if store.is_empty() {
        return Err(refused("there is no CA certificate"));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| super::classify::internal("the TLS library supports none of our versions"))?
        .with_root_certificates(store)
        .with_no_client_auth();
    // A resumed session would carry one login's connection secrets into the next.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    if pem.len() > MAX_BUNDLE {
        return Err(refused("it is above 64 KiB"));
    }
    let mut certificates = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
        match section.map_err(|_| refused("it is not PEM"))? {
            (SectionKind::Certificate, der) => certificates.push(CertificateDer::from(der)),
            _ => return Err(refused("it holds something else than certificates, perhaps a private key")),
        }
    }
    if certificates.is_empty() {
        return Err(refused("it is not PEM"));
    }
    if certificates.len() > MAX_CERTIFICATES {
        return Err(refused("it holds over 100 certificates"));
    }
    Ok(certificates)
}

fn refused(words: &str) -> Failure {
    Failure::new(Class::Invalid, Reason::CABundleInvalid, format!("the connection's CA bundle cannot be used: {words}"))
}

/// Resolves names for one connection, and refuses addresses that must not be contacted: what a name
/// points at is not known when the spec is checked, and may change. Asked anew for each connection,
/// nothing is cached.
pub(super) struct Resolver {
    /// Every name resolves to the addresses of this host: the URL then carries the name to verify
    /// while the connection goes to where the address says.
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) surroundings: Surroundings,
}

/// A name that resolves to nothing but forbidden addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forbidden;

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name resolves to an address that is never contacted")
    }
}

impl std::error::Error for Forbidden {}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = self.host.clone().unwrap_or_else(|| name.as_str().to_owned());
        let (surroundings, port) = (self.surroundings.clone(), self.port);
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            allowed(found, |address| surroundings.forbids(address, port))
        })
    }
}

fn allowed(
    found: Vec<SocketAddr>,
    forbids: impl Fn(IpAddr) -> bool,
) -> Result<Addrs, Box<dyn std::error::Error + Send + Sync>> {
    let some = !found.is_empty();
    let kept: Vec<_> = found.into_iter().filter(|address| !forbids(address.ip())).collect();
    if some && kept.is_empty() {
        return Err(Box::new(Forbidden));
    }
    Ok(Box::new(kept.into_iter()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn words(roots: &Roots) -> String {
        let failure = client_config(roots).err().unwrap();
        assert_eq!((failure.class, failure.reason), (Class::Invalid, Reason::CABundleInvalid));
        failure.message
    }

    #[test]
    fn bundles_of_certificates_only_are_taken() {
        let key = KeyPair::generate().unwrap();
        let ca = CertificateParams::default().self_signed(&key).unwrap().pem();
        let pem = |text: String| Roots { pem: Some(text), public: false };
        assert!(client_config(&pem(format!("# our CA\n{ca}{ca}"))).is_ok());
        for (text, class) in [
            (String::new(), "not PEM"),
            ("hello".to_owned(), "not PEM"),
            ("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n".to_owned(), "not PEM"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "cannot be read"),
            (format!("{ca}{}", key.serialize_pem()), "private key"),
            (ca.repeat(101), "100 certificates"),
            (ca.repeat(1_000), "64 KiB"),
        ] {
            let message = words(&pem(text));
            assert!(message.contains(class), "{message}");
        }
    }

    #[test]
    fn forbidden_addresses_are_left_out_and_none_left_is_an_error() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let metadata = |address: IpAddr| address == IpAddr::from([169, 254, 169, 254]);
        let both = vec![address("169.254.169.254"), address("10.0.0.7")];
        assert_eq!(allowed(both, metadata).unwrap().collect::<Vec<_>>(), [address("10.0.0.7")]);
        let error = allowed(vec![address("169.254.169.254")], metadata).err().unwrap();
        assert_eq!(error.downcast_ref(), Some(&Forbidden));
        assert_eq!(allowed(Vec::new(), metadata).unwrap().count(), 0, "an unknown name is no forbidden one");
    }

    #[test]
    fn without_roots_nobody_is_trusted_and_public_ones_must_be_asked_for() {
        assert!(words(&Roots::default()).contains("no CA certificate"));
        assert!(client_config(&Roots { pem: None, public: true }).is_ok());
    }
}
