//! Must we act? The triggers, top to bottom; the first that fires is the named cause.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::{KeyAlgorithm, KeySpec},
    identity::{
        gates::Admitted,
        intent::Intent,
        renewal, requests,
        world::{Stored, TargetView, World},
    },
    value::{
        secret_data::SecretBytes,
        x509::{KeyKind, Leaf},
    },
};

/// Why a certificate is issued, or only the Secret rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Trigger {
    /// There is no Secret, or no readable certificate in it.
    SecretMissing,
    /// The stored key does not belong to the stored certificate.
    KeyMismatch,
    /// The stored names differ from the wanted ones.
    NamesChanged,
    /// The stored key is not of the wanted kind.
    KeyPolicyChanged,
    /// The stored certificate is not from the domain's active authority.
    IssuerChanged,
    /// The stored certificate has ended.
    Expired,
    /// The renewal point has passed.
    RenewalDue,
    /// A person asked for it.
    RequestedNow,
    /// Only roots, labels, annotations or ownership changed: the Secret is rewritten without a signature.
    RootsChanged,
}

impl Trigger {
    /// Every trigger, in order of precedence.
    pub const ALL: [Self; 9] = [
        Self::SecretMissing,
        Self::KeyMismatch,
        Self::NamesChanged,
        Self::KeyPolicyChanged,
        Self::IssuerChanged,
        Self::Expired,
        Self::RenewalDue,
        Self::RequestedNow,
        Self::RootsChanged,
    ];

    /// Whether it takes a new certificate.
    pub fn needs_signature(self) -> bool {
        self != Self::RootsChanged
    }

    /// Whether the stored certificate is still what the spec asks for, so that the new one must not end earlier.
    pub fn is_plain_renewal(self) -> bool {
        matches!(self, Self::RenewalDue | Self::RequestedNow)
    }
}

/// The first trigger that fires.
pub fn first(
    intent: &Intent,
    world: &World,
    admitted: &Admitted<'_>,
    rendering: &str,
    now: Timestamp,
) -> Option<Trigger> {
    let TargetView::Present(stored) = &world.target else { return Some(Trigger::SecretMissing) };
    let (Some(leaf), Some(key)) = (&stored.leaf, &stored.key) else { return Some(Trigger::SecretMissing) };
    if *key != leaf.spki {
        return Some(Trigger::KeyMismatch);
    }
    if leaf.names != admitted.names {
        return Some(Trigger::NamesChanged);
    }
    if !satisfies(leaf.key, intent.key.unwrap_or(admitted.domain.default_key)) {
        return Some(Trigger::KeyPolicyChanged);
    }
    if leaf.not_after <= now {
        return Some(Trigger::Expired);
    }
    if !is_from_active_authority(stored, leaf, admitted) {
        return Some(Trigger::IssuerChanged);
    }
    if renewal::point(&intent.uid, leaf, intent.renew_before).at <= now {
        return Some(Trigger::RenewalDue);
    }
    if requests::pending(intent, world).is_some() {
        return Some(Trigger::RequestedNow);
    }
    let roots = stored.data.get("ca.crt").map(SecretBytes::expose);
    if stored.rendering.as_deref() != Some(rendering) || roots != Some(admitted.domain.roots.as_bytes()) {
        return Some(Trigger::RootsChanged);
    }
    None
}

fn is_from_active_authority(stored: &Stored, leaf: &Leaf, admitted: &Admitted<'_>) -> bool {
    stored.trusted && leaf.authority_key_id.as_deref() == Some(admitted.domain.active.subject_key_id.as_slice())
}

/// Whether a stored key is of the wanted kind.
fn satisfies(key: KeyKind, wanted: KeySpec) -> bool {
    match (wanted.algorithm, wanted.size) {
        (KeyAlgorithm::ECDSA, None | Some(256)) => key == KeyKind::Ecdsa256,
        (KeyAlgorithm::ECDSA, Some(_)) => key == KeyKind::Ecdsa384,
        (KeyAlgorithm::Ed25519, _) => key == KeyKind::Ed25519,
        (KeyAlgorithm::RSA, size) => u32::try_from(size.unwrap_or(3_072)).is_ok_and(|bits| key == KeyKind::Rsa(bits)),
    }
}
