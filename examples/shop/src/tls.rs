//! TLS configurations from PEM files, and what a peer's certificate says.
//!
//! Both sides speak TLS 1.3 only and never resume a session: every connection verifies both
//! certificates anew. Does no I/O; [`crate::reload`] brings the files.

use std::{fmt::Write as _, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{Resumption, danger::HandshakeSignatureValid},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use serde_json::{Map, Value};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::reload::{Files, Loaded};

/// The three files of one snapshot. No `Debug`: one of them is a private key.
pub struct Pem {
    /// `tls.crt`: the leaf, then intermediates.
    pub chain: Vec<u8>,
    /// `tls.key`: the leaf's private key.
    pub key: Vec<u8>,
    /// `ca.crt`: whom to trust.
    pub roots: Vec<u8>,
}

impl Pem {
    /// The three files out of a snapshot.
    pub fn of(mut files: Files) -> Result<Self> {
        Ok(Self { chain: files.take("tls.crt")?, key: files.take("tls.key")?, roots: files.take("ca.crt")? })
    }
}

/// One side's configuration, with the serial of the certificate it presents.
pub struct Endpoint<C> {
    /// Ready for use by any number of connections.
    pub config: Arc<C>,
    /// Hex, as [`Leaf::serial`].
    pub serial: String,
}

impl<C> Loaded for Endpoint<C> {
    fn state(&self) -> Map<String, Value> {
        Map::from_iter([("serial".to_owned(), self.serial.as_str().into())])
    }
}

/// The server's side: it demands a client certificate that chains to `ca.crt` and carries one of `client_ids`.
pub fn server(pem: &Pem, client_ids: &[String]) -> Result<Endpoint<ServerConfig>> {
    let (chain, key, serial) = identity(pem)?;
    let webpki = WebPkiClientVerifier::builder_with_provider(roots(&pem.roots)?, provider())
        .build()
        .context("ca.crt cannot verify clients")?;
    let verifier = NamedClients { webpki, ids: client_ids.to_vec() };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)
        .context("tls.crt and tls.key do not fit together")?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Endpoint { config: Arc::new(config), serial })
}

/// The client's side: it presents `tls.crt` and verifies the server's chain and name.
pub fn client(pem: &Pem) -> Result<Endpoint<ClientConfig>> {
    let (chain, key, serial) = identity(pem)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(&pem.roots)?)
        .with_client_auth_cert(chain, key)
        .context("tls.crt and tls.key do not fit together")?;
    config.resumption = Resumption::disabled();
    Ok(Endpoint { config: Arc::new(config), serial })
}

/// A client that verifies the server but has no certificate of its own.
pub fn anonymous(ca_crt: &[u8]) -> Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(ca_crt)?)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What a certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Serial number: lower-case hex, two digits a byte, without a leading zero byte.
    pub serial: String,
    /// The one URI name, if there is exactly one and it is a SPIFFE id.
    pub spiffe_id: Option<String>,
}

impl Leaf {
    /// Reads a DER certificate; fails if it is not one.
    pub fn read(der: &[u8]) -> Result<Self> {
        let (_, certificate) = parse_x509_certificate(der).context("not an X.509 certificate")?;
        let names = certificate.subject_alternative_name().context("duplicate subject alternative names")?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
            .collect();
        // A second URI would make it a matter of taste whose certificate this is.
        let spiffe_id = match uris.as_slice() {
            [only] if only.starts_with("spiffe://") => Some((*only).to_owned()),
            _ => None,
        };
        Ok(Self { serial: hex(certificate.raw_serial()), spiffe_id })
    }
}

/// The leaf of the chain a peer presented.
pub fn peer(presented: Option<&[CertificateDer<'_>]>) -> Result<Leaf> {
    let leaf = presented.and_then(<[_]>::first).context("the peer presented no certificate")?;
    Leaf::read(leaf)
}

fn identity(pem: &Pem) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, String)> {
    let chain = certificates(&pem.chain).context("tls.crt is not PEM")?;
    let Some(leaf) = chain.first() else { bail!("tls.crt holds no certificate") };
    let serial = Leaf::read(leaf).context("tls.crt")?.serial;
    let key = PrivateKeyDer::from_pem_slice(&pem.key).ok().context("tls.key holds no private key")?;
    Ok((chain, key, serial))
}

fn roots(ca_crt: &[u8]) -> Result<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    for root in certificates(ca_crt).context("ca.crt is not PEM")? {
        store.add(root).context("ca.crt holds a certificate that cannot be a root")?;
    }
    ensure!(!store.is_empty(), "ca.crt holds no certificate");
    Ok(Arc::new(store))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?)
}

fn hex(serial: &[u8]) -> String {
    let significant = serial.iter().skip_while(|byte| **byte == 0);
    significant.fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The web's verification of client certificates, and then the list of who may call.
///
/// Checking the id here rather than after the handshake turns a stranger away with a TLS alert,
/// before a byte of its request is read.
#[derive(Debug)]
struct NamedClients {
    webpki: Arc<dyn ClientCertVerifier>,
    ids: Vec<String>,
}

impl ClientCertVerifier for NamedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.webpki.verify_client_cert(end_entity, intermediates, now)?;
        let leaf = Leaf::read(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if leaf.spiffe_id.is_some_and(|id| self.ids.contains(&id)) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
