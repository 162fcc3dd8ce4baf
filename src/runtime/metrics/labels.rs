//! The closed sets of label values. What a user typed is never a label, only object names are.

use std::fmt::Write as _;

use countersign_core::fault::{Class, Failure};
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

macro_rules! labels {
    ($($(#[doc = $doc:literal])+ $set:ident { $($(#[doc = $value_doc:literal])+ $value:ident = $text:literal),+ $(,)? })+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $set { $($(#[doc = $value_doc])+ $value),+ }

        impl $set {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }

        impl EncodeLabelValue for $set {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    )+};
}

labels! {
    /// One of our controllers.
    Controller {
        /// Checks connections and logs in.
        Connection = "connection",
        /// Keeps trust domains and their authorities.
        TrustDomain = "trust_domain",
        /// Issues and stores certificates.
        Identity = "identity",
        /// Reads secrets and stores them.
        Binding = "binding",
        /// Writes who may talk to whom.
        Network = "network",
    }
    /// One of our kinds.
    Kind {
        /// A server, a login and its grants.
        VaultConnection = "VaultConnection",
        /// A namespace of identities with its authority.
        TrustDomain = "TrustDomain",
        /// A ServiceAccount's certificate.
        ServiceIdentity = "ServiceIdentity",
        /// Values of a server in a Secret.
        SecretBinding = "SecretBinding",
        /// Namespaces that are closed by default.
        Segment = "Segment",
        /// A server's consent.
        AccessGrant = "AccessGrant",
        /// A client's need.
        AccessRequest = "AccessRequest",
        /// A place outside the cluster.
        ExternalService = "ExternalService",
    }
    /// How a reconcile ended, in the words of controller-runtime.
    ReconcileResult {
        /// Settled until something changes.
        Success = "success",
        /// Failed.
        Error = "error",
        /// To be looked at again at once.
        Requeue = "requeue",
        /// To be looked at again at a known time.
        RequeueAfter = "requeue_after",
    }
    /// A Kubernetes resource we write.
    Resource {
        /// Targets and CA keys.
        Secrets = "secrets",
        /// Trust anchors for people and workloads.
        ConfigMaps = "configmaps",
        /// The leader's Lease.
        Leases = "leases",
        /// Events about our objects.
        Events = "events",
        /// Tokens of ServiceAccounts.
        Tokens = "serviceaccounts/token",
        /// Connections.
        VaultConnections = "vaultconnections",
        /// Trust domains.
        TrustDomains = "trustdomains",
        /// Identities.
        ServiceIdentities = "serviceidentities",
        /// Bindings.
        SecretBindings = "secretbindings",
        /// Segments.
        Segments = "segments",
        /// Grants.
        AccessGrants = "accessgrants",
        /// Requests.
        AccessRequests = "accessrequests",
        /// External services.
        ExternalServices = "externalservices",
        /// Who may talk to whom.
        NetworkPolicies = "networkpolicies",
        /// The definitions of our kinds, which are only read.
        CustomResources = "customresourcedefinitions",
    }
    /// How we write it.
    Verb {
        /// A new object.
        Create = "create",
        /// A merge patch.
        Patch = "patch",
        /// A server-side apply.
        Apply = "apply",
        /// A deletion.
        Delete = "delete",
    }
    /// How a write, a login or an issue ended.
    Outcome {
        /// Done.
        Success = "Success",
        /// Somebody else wrote first.
        Conflict = "Conflict",
        /// The other side said no.
        Refused = "Refused",
        /// No answer, or none that could be used.
        Failed = "Failed",
    }
    /// Why a certificate was asked for.
    Trigger {
        /// There was none.
        Initial = "Initial",
        /// Its renewal point was reached.
        Renewal = "Renewal",
        /// The spec changed.
        Spec = "Spec",
        /// Somebody asked for it.
        Requested = "Requested",
        /// The authority changed.
        Authority = "Authority",
    }
    /// A part of Vault.
    Engine {
        /// Login and tokens.
        Auth = "auth",
        /// Certificates.
        Pki = "pki",
        /// The server itself.
        Sys = "sys",
        /// Secrets.
        Kv = "kv",
    }
    /// What we ask of Vault.
    Operation {
        /// Exchange a ServiceAccount token.
        Login = "login",
        /// Look up, lengthen or end our token.
        Token = "token",
        /// Sign a CSR.
        Sign = "sign",
        /// Read an issuer or its chain.
        ReadIssuer = "read_issuer",
        /// Read a role.
        ReadRole = "read_role",
        /// Ask for our own rights.
        Capabilities = "capabilities",
        /// Health and seal state.
        Health = "health",
        /// What a mount is.
        ReadMount = "read_mount",
        /// Which versions a secret has.
        ReadMetadata = "read_metadata",
        /// The values of a secret.
        ReadValues = "read_values",
    }
    /// A named readiness check.
    Check {
        /// Our CRDs are present and current.
        Crds = "crds",
        /// On the leader: every cache was filled once.
        Caches = "caches",
        /// The API server answers.
        ApiServer = "api_server",
        /// On the leader: the admission policy that fences us refuses what it must.
        Fence = "fence",
    }
    /// A clock that ours is compared with.
    Against {
        /// The API server's.
        ApiServer = "api_server",
        /// The server of a connection.
        Vault = "vault",
    }
}

impl Outcome {
    /// The outcome of anything that ends in our `Failure`.
    pub fn of<T>(result: &Result<T, Failure>) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(failure) => Self::from(failure.class),
        }
    }
}

impl From<Class> for Outcome {
    fn from(class: Class) -> Self {
        match class {
            Class::Conflict => Self::Conflict,
            Class::Invalid | Class::Waiting | Class::Denied => Self::Refused,
            Class::Throttled | Class::Unavailable | Class::Bug => Self::Failed,
        }
    }
}

/// An HTTP status, or `none` where there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub Option<u16>);

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self.0 {
            Some(status) => write!(encoder, "{status}"),
            None => encoder.write_str("none"),
        }
    }
}

/// A closed enum of the core, written as the API spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Spelt<T>(pub T);

impl<T: std::fmt::Debug> EncodeLabelValue for Spelt<T> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        write!(encoder, "{:?}", self.0)
    }
}
