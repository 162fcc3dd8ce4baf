//! The key of the installation, made once and kept in a Secret of the operator's namespace.

use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_core::{
    api::Reason,
    fault::Failure,
    value::{
        keyed::{InstallKey, KEY_LENGTH},
        secret_data::SecretBytes,
    },
};

use crate::{cluster::Cluster, runtime::entropy::Entropy};

/// The key, once it was read.
#[derive(Default)]
pub struct InstallKeys(Mutex<Option<InstallKey>>);

impl InstallKeys {
    /// The key of the installation; made by whoever needs it first.
    ///
    /// # Errors
    /// Where it can be neither read nor stored; none is used that is not stored.
    pub async fn get(&self, cluster: &Cluster, entropy: &Entropy) -> Result<InstallKey, Failure> {
        if let Some(key) = self.lock().clone() {
            return Ok(key);
        }
        let key = match cluster.install_key().await? {
            Some(key) => key,
            None => Self::make(cluster, entropy).await?,
        };
        *self.lock() = Some(key.clone());
        Ok(key)
    }

    async fn make(cluster: &Cluster, entropy: &Entropy) -> Result<InstallKey, Failure> {
        let bytes = SecretBytes::new(entropy.bytes::<KEY_LENGTH>()?.to_vec());
        match cluster.create_install_key(&bytes).await {
            Ok(()) => {}
            // Another pass, or another leader, was first: theirs counts.
            Err(failure) if failure.reason == Reason::WriteConflict => {}
            Err(failure) => return Err(failure),
        }
        let gone = || {
            let words = "the install key was stored a moment ago and is not there; looking again";
            Failure::new(countersign_core::fault::Class::Conflict, Reason::WriteConflict, words)
        };
        cluster.install_key().await?.ok_or_else(gone)
    }

    fn lock(&self) -> MutexGuard<'_, Option<InstallKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
