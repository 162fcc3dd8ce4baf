//! Reads from servers, shared: what several bindings ask as one account at one moment is asked once, unless somebody
//! waits for what is there now.
//!
//! What a mount is, is remembered for a day. Values are held while they are on the way and a second longer, for those
//! that are due at the same moment; never across accounts, and never on disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_core::{
    api::Reason,
    binding::reads::{Answer, What},
    connection::lanes::{Asker, Lane},
    fault::{Class, Failure},
};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::time::Instant;

use super::connections::Connections;
use crate::vault::{Tenant, asked_by};

/// How long it is believed what a mount is.
const MOUNTS_FOR: Duration = Duration::from_secs(24 * 3_600);
/// How long an answer is shared after it came.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Who reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reader {
    /// An account of a namespace.
    Tenant(Tenant),
    /// The operator.
    Operator,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    connection: String,
    reader: Reader,
    what: What,
}

type Answering = Shared<BoxFuture<'static, Result<Answer, Failure>>>;

/// The reads of every binding; clones share them.
#[derive(Clone)]
pub struct Reading {
    connections: Connections,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    mounts: HashMap<(String, What), (Instant, Answer)>,
    answers: HashMap<Key, Answering>,
}

impl Reading {
    /// Nothing is known yet.
    pub fn new(connections: Connections) -> Self {
        Self { connections, kept: Arc::default() }
    }

    /// Reads `what` by a connection as `reader`; `fresh`: an answer that was asked for before will not do.
    ///
    /// # Errors
    /// As the server answers, or `ConnectionNotReady` where there is nothing to ask by.
    pub async fn read(&self, connection: &str, reader: Reader, what: &What, fresh: bool) -> Result<Answer, Failure> {
        let place = (connection.to_owned(), what.clone());
        let is_mount = matches!(what, What::Mount(_));
        if is_mount && let Some(known) = self.known_mount(&place) {
            return Ok(known);
        }
        let key = Key { connection: connection.to_owned(), reader, what: what.clone() };
        let result = self.share(key, fresh).await;
        match &result {
            Ok(answer) if is_mount => drop(self.lock().mounts.insert(place, (Instant::now(), answer.clone()))),
            // The engine is not what it was: look again before the next read.
            Err(failure) if matches!(failure.reason, Reason::MountMissing | Reason::NotKv) => {
                self.lock().mounts.retain(|(other, _), _| other != connection);
            }
            Ok(_) | Err(_) => {}
        }
        result
    }

    fn known_mount(&self, place: &(String, What)) -> Option<Answer> {
        let mut kept = self.lock();
        kept.mounts.retain(|_, (since, _)| since.elapsed() < MOUNTS_FOR);
        kept.mounts.get(place).map(|(_, answer)| answer.clone())
    }

    fn share(&self, key: Key, fresh: bool) -> Answering {
        let mut kept = self.lock();
        if !fresh && let Some(answering) = kept.answers.get(&key) {
            return answering.clone();
        }
        let lane = if fresh { Lane::New } else { Lane::Periodic };
        let namespace = match &key.reader {
            Reader::Tenant(tenant) => tenant.namespace.clone(),
            Reader::Operator => String::new(),
        };
        let asking = asked_by(Asker { lane, namespace }, self.ask(key.clone()));
        let answering = asking.boxed().shared();
        kept.answers.insert(key.clone(), answering.clone());
        let (all, answered) = (self.kept.clone(), answering.clone());
        // It is brought to its end even if the pass that began it is not.
        tokio::spawn(async move {
            let _ = answered.clone().await;
            tokio::time::sleep(SHARED_FOR).await;
            let mut kept = all.lock().unwrap_or_else(PoisonError::into_inner);
            // A newer one may have taken its place; that has an end of its own.
            if kept.answers.get(&key).is_some_and(|other| other.ptr_eq(&answered)) {
                kept.answers.remove(&key);
            }
        });
        answering
    }

    fn ask(&self, key: Key) -> BoxFuture<'static, Result<Answer, Failure>> {
        let session = match &key.reader {
            Reader::Tenant(tenant) => self.connections.tenant(&key.connection, tenant),
            Reader::Operator => self.connections.session(&key.connection),
        };
        async move {
            match session {
                Some(session) => session.read(&key.what).await,
                None => Err(not_ready(&key.connection)),
            }
        }
        .boxed()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that nobody can ask by yet, or any more.
pub fn not_ready(connection: &str) -> Failure {
    let words =
        format!("connection {connection} is not ready; `countersign explain vaultconnection/{connection}` says why");
    Failure::new(Class::Waiting, Reason::ConnectionNotReady, words)
}
