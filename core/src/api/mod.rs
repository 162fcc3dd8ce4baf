//! Wire types: one kind a file, nothing but serde, schema and accessors.

#![allow(
    clippy::duplicated_attributes,
    reason = "the printer columns of a kind share the words `type_` and `priority`"
)]

mod access_grant;
mod access_request;
mod common;
mod condition;
mod crd;
mod documented;
mod external_service;
mod network;
mod reason;
mod rule;
mod secret_binding;
mod segment;
mod service_identity;
mod trust_domain;
mod vault_connection;

pub use access_grant::*;
pub use access_request::*;
pub use common::*;
pub use condition::*;
pub use crd::{all_crds, crd_files, serves};
pub use external_service::*;
pub use network::*;
pub use reason::*;
pub use secret_binding::*;
pub use segment::*;
pub use service_identity::*;
pub use trust_domain::*;
pub use vault_connection::*;

/// The API group of every kind.
pub const GROUP: &str = "countersign.dev";
/// The served and stored version.
pub const VERSION: &str = "v1alpha1";

/// Asks for action now, whatever its value; echoed in `status.lastHandledRequest` when done.
pub const REQUESTED_AT: &str = "countersign.dev/requested-at";
/// UID of the object that owns a target; on everything we write.
pub const OWNER_UID_LABEL: &str = "countersign.dev/owner-uid";
/// `<kind>/<name>` of the owner, for people and for restore.
pub const OWNER_ANNOTATION: &str = "countersign.dev/owner";
/// Keyed hash of what a target was rendered from.
pub const CONTENT_HASH: &str = "countersign.dev/content-hash";
/// Digest of what a target was made of: the spec and the identity of each source.
pub const INPUT_HASH: &str = "countersign.dev/input-hash";
/// The standard label that says who manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value on everything we write.
pub const MANAGED_BY: &str = "countersign";
/// Consent of a foreign Secret's owner.
pub const ACCEPT_LABEL: &str = "countersign.dev/accept";
/// Must be `"true"` on a CRD of ours before it can be deleted.
pub const ALLOW_DELETION: &str = "countersign.dev/allow-deletion";
/// SHA-256 of a CRD's schemas, hex; on every CRD of ours.
pub const SCHEMA_HASH: &str = "countersign.dev/schema-hash";
