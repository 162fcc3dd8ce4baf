//! May we act? The gates, top to bottom; the first closed one ends the pass.
//!
//! A closed gate never touches what is stored. The grants are asked before anything is sent, at every pass and on
//! live objects: a grant that is gone stops reading, and the Secret stays.

use jiff::Timestamp;

use crate::{
    api::{Reason, SecretBinding},
    binding::{
        intent::Intent,
        source::Source,
        world::{Connection, ConnectionView, TargetView, World},
    },
    fault::{Class, Failure},
    grants::{self, Asked, Permit},
};

/// Who reads each source, by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted<'a> {
    /// The readers.
    pub readers: Vec<Permit>,
    /// UID of the connection.
    pub connection: &'a str,
}

/// Asks every gate.
///
/// # Errors
/// What the first closed one says.
pub fn check<'a>(intent: &Intent, world: &'a World) -> Result<Admitted<'a>, Failure> {
    let waiting = |reason, words: String| Failure::new(Class::Waiting, reason, words);
    if intent.deleting {
        return Err(waiting(Reason::Deleting, "the object is being deleted".to_owned()));
    }
    if intent.suspended {
        return Err(waiting(Reason::Suspended, "spec.suspend is set; the Secret stays as it is".to_owned()));
    }
    if world.terminating {
        let words = format!("namespace {} is being deleted; nothing more is written there", intent.namespace);
        return Err(waiting(Reason::NamespaceTerminating, words));
    }
    let admitted = admit(intent, world)?;
    target(intent, world)?;
    Ok(admitted)
}

/// Why nobody can be asked now, if so. Asked only when something is due: what is stored needs no server.
pub fn outage(world: &World) -> Option<&Failure> {
    match &world.connection {
        ConnectionView::Known(connection) => connection.outage.as_ref(),
        ConnectionView::Missing => None,
    }
}

/// The older binding that names the same Secret, as `Kind/name`.
///
/// Of two the one that was created first keeps it; within one second the UID decides, so that both come to the same
/// answer. One that is being deleted claims nothing any more.
pub fn older_claim<'a>(intent: &Intent, all: impl IntoIterator<Item = &'a SecretBinding>) -> Option<String> {
    let mine = (intent.created, intent.uid.as_str());
    let older = all
        .into_iter()
        .filter(|rival| {
            rival.metadata.namespace.as_deref() == Some(intent.namespace.as_str())
                && rival.spec.secret.name == intent.target.name
                && rival.metadata.deletion_timestamp.is_none()
        })
        .map(|rival| {
            let created = rival.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            (created, rival.metadata.uid.as_deref().unwrap_or_default(), rival.metadata.name.as_deref())
        })
        .filter(|(created, uid, _)| (*created, *uid) < mine)
        .min()?;
    Some(format!("SecretBinding/{}", older.2.unwrap_or_default()))
}

/// Whether the connection lets the binding read what it names.
///
/// # Errors
/// `ConnectionNotAllowed` in the same words whether there is no such connection or no grant for the namespace.
pub fn admit<'a>(intent: &Intent, world: &'a World) -> Result<Admitted<'a>, Failure> {
    let refused = || {
        let words = format!(
            "connection {} does not exist or has no grant for namespace {}; ask the platform for one",
            intent.connection, intent.namespace
        );
        Failure::new(Class::Waiting, Reason::ConnectionNotAllowed, words)
    };
    let ConnectionView::Known(connection) = &world.connection else { return Err(refused()) };
    let Connection { grants, uid, takes_accounts, .. } = &**connection;
    if !grants::admits(grants, &intent.namespace, &world.labels) {
        return Err(refused());
    }
    let reader = |source: &Source| {
        let asked = Asked {
            namespace: &intent.namespace,
            labels: &world.labels,
            account: intent.service_account.as_deref(),
            path: source.kind.path(),
            secret_type: &intent.target.type_,
        };
        grants::authorize(grants, &asked, &world.longer_namespaces)
    };
    let readers = intent.sources.iter().map(reader).collect::<Result<Vec<_>, _>>()?;
    if readers.iter().any(|reader| matches!(reader, Permit::ServiceAccount { .. })) {
        if !takes_accounts {
            let words = format!(
                "connection {} does not log in by kubernetes or jwt, so no ServiceAccount can; its grant must say as: Operator",
                intent.connection
            );
            return Err(Failure::new(Class::Invalid, Reason::InvalidSpec, words));
        }
        if !world.account_exists {
            let account = intent.service_account.as_deref().unwrap_or_default();
            let words = format!("serviceaccount {account} does not exist in namespace {}", intent.namespace);
            return Err(Failure::new(Class::Waiting, Reason::ServiceAccountMissing, words));
        }
    }
    Ok(Admitted { readers, connection: uid })
}

fn target(intent: &Intent, world: &World) -> Result<(), Failure> {
    let name = &intent.target.name;
    if !world.fenced {
        let words = "the admission policy that fences the operator is not in force; no Secret is touched";
        return Err(Failure::new(Class::Waiting, Reason::FenceMissing, words));
    }
    if let ConnectionView::Known(connection) = &world.connection
        && connection.login.as_ref() == Some(name)
    {
        let words = format!("secret \"{name}\" is what connection {} logs in with", intent.connection);
        return Err(Failure::new(Class::Invalid, Reason::TargetForbidden, words));
    }
    if let Some(rival) = &world.claimed_by {
        let words = format!("secret \"{name}\" is claimed by the older {rival}");
        return Err(Failure::new(Class::Waiting, Reason::TargetClaimed, words));
    }
    if let Err(failure) = &world.key {
        return Err(failure.clone());
    }
    let foreign = || {
        let words = format!("secret \"{name}\" is not managed by this object; name another, or delete it");
        Failure::new(Class::Waiting, Reason::TargetNotOwned, words)
    };
    let stored = match &world.target {
        TargetView::Unread(failure) => return Err(failure.clone()),
        TargetView::Absent => return Ok(()),
        TargetView::Foreign => return Err(foreign()),
        TargetView::Present(stored) => stored,
    };
    if stored.owner_uid.as_deref() != Some(intent.uid.as_str()) {
        return Err(foreign());
    }
    if stored.immutable {
        let words = format!("secret \"{name}\" is immutable; delete it to have it written anew");
        return Err(Failure::new(Class::Invalid, Reason::TargetImmutable, words));
    }
    if stored.type_ != intent.target.type_ {
        let words = format!("secret \"{name}\" has another type than {}, which cannot be changed", intent.target.type_);
        return Err(Failure::new(Class::Invalid, Reason::TargetTypeMismatch, words));
    }
    Ok(())
}
