//! Throw-away TLS for the proxies: one authority a run, one certificate for loopback.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What a proxy presents, and what its clients must trust.
#[derive(Clone)]
pub struct Identity {
    /// Certificate of the authority, PEM.
    pub authority: String,
    /// For the listeners.
    pub server: Arc<ServerConfig>,
}

impl Identity {
    /// A new authority and a certificate for 127.0.0.1.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "fault proxy CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("cannot make a key")?;
        let authority = CertifiedIssuer::self_signed(params, key).context("cannot sign an authority")?;
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("cannot make a key")?;
        let leaf = params.signed_by(&key, &authority).context("cannot sign a certificate")?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut server =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { authority: authority.pem(), server: Arc::new(server) })
    }
}
