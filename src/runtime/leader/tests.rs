//! The election against an API server that is slow, forgetful or somebody else's.

use http::Method;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;
use crate::runtime::{
    fake_leases::{FakeLeases, Fault},
    shutdown::{Shutdown, Trigger},
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Candidate {
    leadership: Leadership,
    health: Health,
    metrics: Metrics,
    resign: Trigger,
    task: JoinHandle<Ended>,
}

impl Candidate {
    fn start(server: &FakeLeases, me: &str) -> Self {
        let (clock, metrics) = (Clock::system(), Metrics::new());
        let health = Health::new(clock.clone());
        let candidacy = Candidacy {
            namespace: "countersign-system".into(),
            lease: "lease".into(),
            me: me.into(),
            timing: Timing::default(),
        };
        let (election, leadership) = Election::new(server.client(), candidacy, &clock, &metrics, &health);
        let (resign, resigning) = Shutdown::manual();
        let task = tokio::spawn(election.run(async move { resigning.requested().await }));
        Self { leadership, health, metrics, resign, task }
    }

    async fn leading(server: &FakeLeases, me: &str) -> Self {
        let candidate = Self::start(server, me);
        candidate.leadership.gained().await;
        candidate
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_candidate_creates_the_lease_and_renews_what_it_wrote() {
    let server = FakeLeases::default();
    let start = Instant::now();
    let candidate = Candidate::leading(&server, "a").await;
    assert!(candidate.leadership.may_write());
    sleep(s(21)).await;
    assert!(candidate.leadership.may_write());

    let writes = server.writes();
    let created = &writes[0];
    assert_eq!(created.method, Method::POST);
    assert!(
        created.uri.starts_with("/apis/coordination.k8s.io/v1/namespaces/countersign-system/leases?"),
        "{created:?}"
    );
    assert_eq!(created.body["spec"]["holderIdentity"], "a");
    assert_eq!(created.body["spec"]["leaseDurationSeconds"], 15);
    for (number, renewal) in writes.iter().enumerate().skip(1) {
        assert_eq!(renewal.method, Method::PATCH);
        assert_eq!(renewal.body["metadata"]["resourceVersion"], number.to_string(), "what was written last");
        assert_eq!(renewal.at.duration_since(start).as_secs(), 5 * number as u64);
    }
    assert!(writes.iter().all(|write| write.uri.contains("fieldManager=countersign.dev%2Fleader")), "{writes:?}");
    assert_eq!(writes.len(), 5);
    assert!(candidate.metrics.text().contains("leader_election_master_status{name=\"lease\"} 1\n"));
    assert!(candidate.health.ready().iter().all(|(_, trouble)| trouble.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_server_hangs_may_not_write_after_ten_seconds_and_is_lost() {
    let server = FakeLeases::default();
    let candidate = Candidate::leading(&server, "a").await;
    server.set_fault(Fault::Hang);
    sleep(Duration::from_millis(9_980)).await;
    assert!(candidate.leadership.may_write());
    sleep(Duration::from_millis(20)).await;
    assert!(!candidate.leadership.may_write());
    assert_eq!(candidate.task.await.unwrap(), Ended::Lost(Loss::NotRenewed));
    assert!(candidate.metrics.text().contains("countersign_leader 0\n"));
}

#[tokio::test(start_paused = true)]
async fn the_fence_closes_by_itself_when_the_election_is_stuck() {
    let server = FakeLeases::default();
    let candidate = Candidate::leading(&server, "a").await;
    candidate.task.abort();
    sleep(s(9)).await;
    assert!(candidate.leadership.may_write());
    sleep(s(1)).await;
    assert!(!candidate.leadership.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_is_lost_is_found_and_repeated() {
    let server = FakeLeases::default();
    let candidate = Candidate::leading(&server, "a").await;
    server.set_fault(Fault::LostAnswer);
    for _ in 0..300 {
        sleep(Duration::from_millis(100)).await;
        assert!(candidate.leadership.may_write());
    }
    assert_eq!(server.holder().as_deref(), Some("a"));
    assert!(!candidate.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_finds_another_holder_is_lost() {
    for (interfere, loss) in [
        ((|server: &FakeLeases| server.write_as("b")) as fn(&FakeLeases), Loss::OtherHolder),
        (|server| server.write_as(""), Loss::Cleared),
        (FakeLeases::delete, Loss::Deleted),
    ] {
        let server = FakeLeases::default();
        let candidate = Candidate::leading(&server, "a").await;
        interfere(&server);
        assert_eq!(candidate.task.await.unwrap(), Ended::Lost(loss));
        assert!(!candidate.leadership.may_write());
        assert_ne!(server.holder().as_deref(), Some("a"), "it did not take back what it lost");
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_takes_a_lease_unchanged_for_fifteen_seconds_whatever_its_dates_say() {
    let server = FakeLeases::default();
    server.write_as("dead");
    let start = Instant::now();
    let candidate = Candidate::leading(&server, "a").await;
    let waited = start.elapsed();
    assert!((s(15)..s(17)).contains(&waited), "{waited:?}");
    let lease = server.lease().unwrap();
    assert_eq!((&lease["spec"]["holderIdentity"], &lease["spec"]["leaseTransitions"]), (&"a".into(), &4.into()));
    assert!(candidate.leadership.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_follower_leaves_a_living_leader_alone_and_follows_its_release_at_once() {
    let server = FakeLeases::default();
    let first = Candidate::leading(&server, "a").await;
    let second = Candidate::start(&server, "b");
    for _ in 0..60 {
        sleep(s(1)).await;
        assert!(first.leadership.may_write() && !second.leadership.may_write());
    }
    let told = Instant::now();
    first.resign.request();
    assert_eq!(first.task.await.unwrap(), Ended::Resigned);
    assert!(!first.leadership.may_write());
    second.leadership.gained().await;
    assert!(told.elapsed() <= s(4), "{:?}", told.elapsed());
    assert_eq!(server.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_release_carries_the_version_and_clears_the_holder() {
    let server = FakeLeases::default();
    let candidate = Candidate::leading(&server, "a").await;
    candidate.resign.request();
    candidate.task.await.unwrap();
    let release = server.writes().pop().unwrap();
    assert_eq!(release.body["metadata"]["resourceVersion"], "1");
    assert!(release.body["spec"].as_object().unwrap()["holderIdentity"].is_null());
    assert_eq!(server.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_follower_resigns_without_a_write() {
    let server = FakeLeases::default();
    server.write_as("b");
    let candidate = Candidate::start(&server, "a");
    sleep(s(3)).await;
    candidate.resign.request();
    assert_eq!(candidate.task.await.unwrap(), Ended::Resigned);
    assert!(server.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_candidate_says_so_and_goes_on_asking() {
    let server = FakeLeases::default();
    server.set_fault(Fault::Refuse(403));
    let candidate = Candidate::start(&server, "a");
    sleep(s(60)).await;
    let words = "the API server refuses the leader Lease with status 403";
    assert_eq!(candidate.health.ready(), [(Check::ApiServer, Some(words.into()))]);
    assert!(candidate.health.live().iter().all(|(_, trouble)| trouble.is_none()));
    assert!(!candidate.leadership.may_write());
    server.set_fault(Fault::None);
    candidate.leadership.gained().await;
    assert_eq!(candidate.health.ready(), [(Check::ApiServer, None)]);
}

#[tokio::test(start_paused = true)]
async fn two_candidates_at_once_become_one_leader() {
    let server = FakeLeases::default();
    let candidates = [Candidate::start(&server, "a"), Candidate::start(&server, "b")];
    sleep(s(5)).await;
    assert_eq!(candidates.iter().filter(|candidate| candidate.leadership.may_write()).count(), 1);
}
