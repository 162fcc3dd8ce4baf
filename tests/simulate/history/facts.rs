//! The facts that events speak of: names, keys, leaves, stored contents, specs.

use std::{borrow::Cow, ops::Deref, ptr, sync::Arc};

use countersign_core::api::DeletionPolicy;

/// A string that costs nothing to copy when it is known at build time.
#[derive(Debug, Clone, Eq, PartialOrd, Ord)]
pub struct Text(Cow<'static, str>);

/// Most texts that are compared are copies of one literal.
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(&raw const *self.0, &raw const *other.0) || self.0 == other.0
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

macro_rules! opaque {
    ($($(#[doc = $doc:literal])+ $name:ident($inner:ty)),+ $(,)?) => {
        $($(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);)+
    };
}

opaque! {
    /// UID of a Kubernetes object.
    Uid(u64),
    /// A private key and its public key, whoever holds them.
    KeyPair(u64),
    /// Serial number of a leaf.
    Serial(u64),
    /// One CA key pair that signs leaves.
    AuthorityId(u64),
    /// One trust anchor.
    Root(u64),
    /// Place of an object in [`super::History::objects`].
    ObjectId(usize),
}

/// Full name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for a cluster-scoped kind.
    pub namespace: Text,
    /// Its name.
    pub name: Text,
}

/// The kinds that occur in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `Secret`: a target, or an embedded authority in the operator's namespace.
    Secret,
    /// `ConfigMap`.
    ConfigMap,
    /// `events.k8s.io/Event`.
    Event,
    /// The leader `Lease`.
    Lease,
    /// `ServiceAccount`.
    ServiceAccount,
    /// `Service` that is not ExternalName.
    Service,
    /// `ServiceIdentity`.
    ServiceIdentity,
    /// `TrustDomain`.
    TrustDomain,
    /// `VaultConnection`.
    VaultConnection,
}

/// Which private key was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA P-256.
    P256,
    /// ECDSA P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA of so many bits.
    Rsa(u16),
}

/// What a certificate says, decoded by the observer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The key it certifies.
    pub public_key: KeyPair,
    /// Algorithm and size of that key.
    pub key_kind: KeyKind,
    /// The SPIFFE URI; empty if there is none, or more than one.
    pub spiffe_id: Text,
    /// DNS names.
    pub dns_names: Vec<Text>,
    /// IP addresses in canonical form.
    pub ip_addresses: Vec<Text>,
    /// Start of validity, seconds.
    pub not_before: i64,
    /// End of validity, seconds.
    pub not_after: i64,
    /// Serial number.
    pub serial: Serial,
    /// Who signed it.
    pub authority: AuthorityId,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Whether signature, chain, AKI and the remaining rows of the certificate profile hold.
    pub verifies: bool,
}

/// The decoded data of a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The pair that `tls.key` belongs to; none if absent or empty.
    pub tls_key: Option<KeyPair>,
    /// The first certificate of `tls.crt`; none if absent or empty.
    pub tls_crt: Option<Arc<Leaf>>,
    /// The certificates of `ca.crt`.
    pub ca_crt: Vec<Root>,
    /// Every other key that is not empty.
    pub other: Vec<OtherKey>,
}

/// A further key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherKey {
    /// Its name.
    pub name: Text,
    /// The key pair inside, if it holds a private key.
    pub key_pair: Option<KeyPair>,
}

/// An object as the server holds it at one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// UID of the object itself.
    pub uid: Option<Uid>,
    /// Label `app.kubernetes.io/managed-by: countersign`.
    pub labelled: bool,
    /// Label `countersign.dev/owner-uid`.
    pub owner_uid: Option<Uid>,
    /// UID of the controller ownerReference.
    pub owner_reference: Option<Uid>,
    /// The data, for a Secret.
    pub content: Content,
}

/// The spec of a ServiceIdentity, parsed by the observer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentitySpec {
    /// The `TrustDomain`.
    pub trust_domain: ObjectId,
    /// The `ServiceAccount`, in the same namespace.
    pub service_account: ObjectId,
    /// The `Service`s, in the same namespace.
    pub services: Vec<ObjectId>,
    /// Further DNS names.
    pub dns_names: Vec<Text>,
    /// IP addresses in canonical form.
    pub ip_addresses: Vec<Text>,
    /// Seconds asked for.
    pub ttl: Option<i64>,
    /// Key asked for.
    pub key: Option<KeyKind>,
    /// Seconds before the end.
    pub renew_before: Option<i64>,
    /// The target `Secret`.
    pub secret: ObjectId,
    /// What becomes of the target.
    pub deletion_policy: DeletionPolicy,
    /// Whether all action is stopped.
    pub suspend: bool,
}

/// The spec of a TrustDomain, as far as leaves depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    /// The SPIFFE trust domain.
    pub name: Text,
    /// Who signs.
    pub issuer: Issuer,
    /// Default lifetime, seconds.
    pub ttl: i64,
    /// Default key.
    pub key: KeyKind,
    /// Whether `api.<ns>` and `api` are names too.
    pub short_names: bool,
    /// Names beyond the caller's own.
    pub allow: Vec<AllowRule>,
}

/// Who signs for a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issuer {
    /// A role of a PKI mount.
    Vault {
        /// The `VaultConnection`.
        connection: ObjectId,
        /// The mount.
        mount: Text,
        /// The role.
        role: Text,
    },
    /// Keys in the operator's namespace.
    Embedded,
}

/// Names beyond the caller's own, for some namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowRule {
    /// The namespaces the rule's selector matches.
    pub namespaces: Vec<Text>,
    /// Suffix patterns.
    pub dns_names: Vec<Text>,
    /// CIDRs.
    pub ip_ranges: Vec<Text>,
    /// Longest lifetime, seconds.
    pub max_ttl: Option<i64>,
}

/// One authority of a trust domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    /// Its id.
    pub id: AuthorityId,
    /// Its key pair.
    pub key: KeyPair,
    /// Its trust anchor.
    pub root: Root,
    /// End of its certificate, seconds.
    pub not_after: i64,
    /// Whether it signs, is trusted, or both.
    pub state: AuthorityState,
}

/// `status.authorities[].state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityState {
    /// Known, not yet signing.
    Prepared,
    /// Signing.
    Active,
    /// Trusted, not signing any more.
    Draining,
    /// Gone.
    Retired,
}
