//! A Secret that one of our objects owns, as it is to be written.

use std::collections::BTreeMap;

use crate::value::secret_data::SecretBytes;

/// A whole Secret to write, in one server-side apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretWrite {
    /// Namespace of the owner.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// Its type, which cannot be changed later.
    pub type_: String,
    /// The version it must still have; `None` = it must not exist.
    pub expected: Option<String>,
    /// Owner reference, unless the Secret is to stay behind.
    pub owner: Option<Owner>,
    /// Labels, ours included.
    pub labels: BTreeMap<String, String>,
    /// Annotations, ours included.
    pub annotations: BTreeMap<String, String>,
    /// All keys.
    pub data: BTreeMap<String, SecretBytes>,
}

/// The owner of a Secret; its kind is that of the controller that writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
}
