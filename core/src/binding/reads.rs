//! What can be read of a server for a source, and what it answers: a vocabulary that kinds of sources share.

use crate::value::{
    kv::{Metadata, MountKind, Values},
    vault_path::VaultPath,
};

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum What {
    /// What the mount above this path is.
    Mount(VaultPath),
    /// The metadata of a secret.
    Metadata {
        /// The mount.
        mount: VaultPath,
        /// The path below it.
        path: VaultPath,
    },
    /// The values of a secret.
    Values {
        /// The mount.
        mount: VaultPath,
        /// The path below it.
        path: VaultPath,
        /// Which version; `None` = the newest.
        version: Option<i64>,
    },
    /// The values of a secret of an engine without versions.
    Unversioned {
        /// The mount.
        mount: VaultPath,
        /// The path below it.
        path: VaultPath,
    },
}

/// What was read.
#[derive(Debug, Clone)]
pub enum Answer {
    /// What the mount is.
    Mount(MountKind),
    /// The metadata.
    Metadata(Metadata),
    /// The values.
    Values(Values),
    /// The server knows us and refuses to show the metadata.
    MetadataDenied,
}

/// What the server told of a source in this pass.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What its mount is.
    pub mount: Option<MountKind>,
    /// Its metadata.
    pub metadata: Option<Metadata>,
    /// Whether the server refuses to show the metadata; the values are read each time instead.
    pub is_closed: bool,
    /// Its values.
    pub values: Option<Values>,
}

impl Known {
    /// Adds an answer.
    pub fn learn(&mut self, answer: Answer) {
        match answer {
            Answer::Mount(kind) => self.mount = Some(kind),
            Answer::Metadata(metadata) => self.metadata = Some(metadata),
            Answer::MetadataDenied => self.is_closed = true,
            Answer::Values(values) => self.values = Some(values),
        }
    }
}
