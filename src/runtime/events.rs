//! Kubernetes events about our objects: best effort, bounded, dropped first.
//!
//! An event never delays or fails a pass: it waits in a short queue, and when that is full, or the
//! API server refuses or is slow, it is dropped and counted. What a person must act on is a condition.
//! The note is the reason's explanation and nothing else, because repeats within six minutes keep the
//! first note.

use std::{collections::BTreeMap, time::Duration};

use countersign_core::api::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::timeout,
};

use super::{
    leader::Leadership,
    metrics::{Controller, Metrics, Outcome, Resource, Verb},
};

/// How many events may wait.
const QUEUE: usize = 256;
/// How long one may take to be published.
const DEADLINE: Duration = Duration::from_secs(10);

/// What we were doing; the event's `action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Reading and checking a spec.
    Accept,
    /// Reaching a server.
    Connect,
    /// Logging in.
    Login,
    /// Making or loading an authority.
    Prepare,
    /// Getting a first certificate.
    Issue,
    /// Getting the next one.
    Renew,
    /// Reading what a binding names.
    Refresh,
    /// Writing a target.
    Store,
    /// Closing or opening namespaces.
    Enforce,
    /// Ending an object's outside state.
    CleanUp,
}

/// Whether somebody should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A change was made.
    Normal,
    /// A new episode of failure began.
    Warning,
}

/// One event; there is one per change or new episode of failure, none per retry.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Who reports it.
    pub controller: Controller,
    /// Whether somebody should look.
    pub severity: Severity,
    /// What we were doing.
    pub action: Action,
    /// The named cause.
    pub reason: Reason,
    /// The object it is about, with its UID.
    pub about: ObjectReference,
    /// The target, where there is one.
    pub target: Option<ObjectReference>,
}

/// Where notices are dropped off. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Events {
    queue: Sender<Notice>,
    metrics: Metrics,
}

/// Publishes what is in the queue.
pub struct Publisher {
    queue: Receiver<Notice>,
    recorders: BTreeMap<Controller, Recorder>,
    leadership: Leadership,
    metrics: Metrics,
}

impl Events {
    /// A queue, and the publisher to be run as a task. `instance` is the pod.
    pub fn new(client: &Client, instance: &str, leadership: Leadership, metrics: Metrics) -> (Self, Publisher) {
        let (sender, receiver) = channel(QUEUE);
        let recorder = |controller: Controller| {
            let reporter = Reporter {
                controller: format!("countersign.dev/{}", controller.as_str()),
                instance: Some(instance.to_owned()),
            };
            (controller, Recorder::new(client.clone(), reporter))
        };
        let recorders = Controller::ALL.iter().copied().map(recorder).collect();
        let events = Self { queue: sender, metrics: metrics.clone() };
        (events, Publisher { queue: receiver, recorders, leadership, metrics })
    }

    /// Drops a notice off; never waits.
    pub fn publish(&self, notice: Notice) {
        if self.queue.try_send(notice).is_err() {
            self.metrics.count_dropped_event();
        }
    }
}

impl Publisher {
    /// Runs until every [`Events`] is gone and the queue is empty.
    pub async fn run(mut self) {
        while let Some(notice) = self.queue.recv().await {
            if !self.try_publish(&notice).await {
                self.metrics.count_dropped_event();
            }
        }
    }

    async fn try_publish(&self, notice: &Notice) -> bool {
        let Some(recorder) = self.recorders.get(&notice.controller) else { return false };
        if !self.leadership.may_write() {
            return false;
        }
        let published = timeout(DEADLINE, recorder.publish(&notice.event(), &notice.about)).await;
        let outcome = match &published {
            Ok(Ok(())) => Outcome::Success,
            Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => Outcome::Refused,
            Ok(Err(_)) | Err(_) => Outcome::Failed,
        };
        self.metrics.count_write(Resource::Events, Verb::Create, outcome);
        outcome == Outcome::Success
    }
}

impl Notice {
    fn event(&self) -> Event {
        Event {
            type_: match self.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: format!("{:?}", self.reason),
            action: format!("{:?}", self.action),
            note: Some(note(self.reason)),
            secondary: self.target.clone(),
        }
    }
}

/// The explanation of a reason on one line.
fn note(reason: Reason) -> String {
    reason.explanation().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;
    use crate::runtime::clock::Clock;

    fn notice(name: &str) -> Notice {
        Notice {
            controller: Controller::Identity,
            severity: Severity::Warning,
            action: Action::Issue,
            reason: Reason::RoleRefused,
            about: ObjectReference {
                namespace: Some("shop".into()),
                name: Some(name.into()),
                uid: Some("u-1".into()),
                ..ObjectReference::default()
            },
            target: None,
        }
    }

    fn dropped(metrics: &Metrics) -> u64 {
        let text = metrics.text();
        let line = text.lines().find(|line| line.starts_with("countersign_events_dropped_total")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// A server that echoes what is created and keeps it, or hangs.
    fn server(hang: bool) -> (Client, Arc<Mutex<Vec<Value>>>) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&kept);
        let service = tower::service_fn(move |request: Request<Body>| {
            let seen = Arc::clone(&seen);
            async move {
                if hang {
                    std::future::pending::<()>().await;
                }
                let bytes = request.into_body().collect_bytes().await?;
                seen.lock().unwrap().push(serde_json::from_slice(&bytes).unwrap());
                Ok::<_, kube::Error>(Response::new(Body::from(bytes)))
            }
        });
        (Client::new(service, "default"), kept)
    }

    #[tokio::test]
    async fn a_notice_becomes_one_event_with_a_constant_note_and_a_repeat_a_series() {
        let (client, kept) = server(false);
        let metrics = Metrics::new();
        let leadership = Leadership::forced(Clock::system());
        let (events, publisher) = Events::new(&client, "pod-1", leadership, metrics.clone());
        events.publish(notice("orders"));
        events.publish(notice("orders"));
        drop(events);
        publisher.run().await;
        let kept = kept.lock().unwrap();
        let first = &kept[0];
        assert_eq!(first["reason"], "RoleRefused");
        assert_eq!(first["action"], "Issue");
        assert_eq!(first["note"], "The issuer's role refuses the request.");
        assert_eq!(first["reportingController"], "countersign.dev/identity");
        assert_eq!(first["reportingInstance"], "pod-1");
        assert_eq!(first["regarding"]["uid"], "u-1");
        assert_eq!(kept[1]["series"]["count"], 2);
        assert_eq!((kept.len(), dropped(&metrics)), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_and_a_slow_server_drop_and_count() {
        let (client, _) = server(true);
        let metrics = Metrics::new();
        let leadership = Leadership::forced(Clock::system());
        let (events, publisher) = Events::new(&client, "pod-1", leadership, metrics.clone());
        for number in 0..QUEUE + 3 {
            events.publish(notice(&number.to_string()));
        }
        assert_eq!(dropped(&metrics), 3);
        drop(events);
        publisher.run().await;
        assert_eq!(dropped(&metrics), 3 + QUEUE as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_published_behind_a_closed_fence() {
        let (client, kept) = server(false);
        let metrics = Metrics::new();
        let leadership = Leadership::forced(Clock::system());
        let (events, publisher) = Events::new(&client, "pod-1", leadership, metrics.clone());
        tokio::time::advance(Duration::from_secs(3_600)).await;
        events.publish(notice("orders"));
        drop(events);
        publisher.run().await;
        assert_eq!((kept.lock().unwrap().len(), dropped(&metrics)), (0, 1));
    }

    #[test]
    fn every_note_is_within_the_api_s_limit() {
        assert!(Reason::ALL.iter().all(|reason| (1..=1_024).contains(&note(*reason).len())));
    }
}
