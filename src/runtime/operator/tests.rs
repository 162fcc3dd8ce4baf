//! A whole run against an API server that hangs at the worst time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use countersign_core::leader::{DEFAULT_LEASE, Timing};
use tokio::time::{Instant, sleep};

use super::*;
use crate::runtime::{
    fake_leases::{FakeLeases, Fault},
    listen::ListenAddress,
    settings::Namespaces,
    shutdown::TOTAL,
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings() -> Settings {
    Settings {
        api_server: None,
        namespaces: Namespaces::All,
        concurrency: 16,
        drift_interval: s(300),
        operator_namespace: "countersign-system".into(),
        service_account: "countersign".into(),
        cluster_domain: "cluster.local".into(),
        token_audiences: ["vault".to_owned()].into(),
        lease: DEFAULT_LEASE.into(),
        timing: Timing::default(),
        name_servers: std::collections::BTreeSet::new(),
        node_blocks: countersign_core::network::snapshot::NodeBlocks::Auto,
        time_scale: 1,
        allow_loopback_connections: false,
    }
}

async fn parts(server: &FakeLeases, shutdown: Shutdown) -> Parts {
    let address: ListenAddress = "127.0.0.1:0".parse().unwrap();
    Parts {
        settings: settings(),
        client: server.client(),
        clock: Clock::system(),
        entropy: Entropy::seeded(1, "candidate"),
        probes: address.bind().await.unwrap(),
        exposition: address.bind().await.unwrap(),
        shutdown,
        metrics: Metrics::new(),
    }
}

/// Controllers that end when they are told to.
async fn obedient(handles: Handles) {
    handles.shutdown.requested().await;
}

#[tokio::test(start_paused = true)]
async fn controllers_run_only_while_leading_and_end_before_the_lease_is_released() {
    let server = FakeLeases::default();
    server.write_as("dead");
    let (trigger, shutdown) = Shutdown::manual();
    let started_at = Arc::new(std::sync::Mutex::new(None));
    let start = Instant::now();
    let (seen, observed) = (Arc::clone(&started_at), server.clone());
    let run = tokio::spawn(operate(parts(&server, shutdown).await, move |handles: Handles| async move {
        *seen.lock().unwrap() = Some(start.elapsed());
        assert!(handles.leadership.may_write());
        handles.shutdown.requested().await;
        sleep(s(3)).await;
        assert!(handles.leadership.may_write(), "the lease is kept until the work is done");
        assert!(observed.holder().is_some());
    }));
    sleep(s(30)).await;
    assert!(started_at.lock().unwrap().is_some_and(|at| at >= s(15)), "not before it led");
    trigger.request();
    assert_eq!(run.await.unwrap(), Ended::Stopped);
    assert_eq!(server.holder(), None);
}

/// Stops a run whose work hangs; the API server hangs from `after` the signal on. Says how long it took.
async fn stop_with_hanging_work(after: Duration) -> Duration {
    let server = FakeLeases::default();
    let (trigger, shutdown) = Shutdown::manual();
    let run = tokio::spawn(operate(parts(&server, shutdown).await, |_| std::future::pending::<()>()));
    sleep(s(4)).await;
    let told = Instant::now();
    trigger.request();
    tokio::spawn(async move {
        sleep(after).await;
        server.set_fault(Fault::Hang);
    });
    assert_eq!(run.await.unwrap(), Ended::Stopped);
    told.elapsed()
}

#[tokio::test(start_paused = true)]
async fn it_stops_within_ten_seconds_whenever_the_api_server_hangs() {
    for after in [s(0), s(2), s(7), s(60)] {
        let took = stop_with_hanging_work(after).await;
        assert!(took < TOTAL, "hanging after {after:?} it took {took:?}");
    }
    assert!(stop_with_hanging_work(s(7)).await > DRAIN, "the work had its time and the release was tried");
}

#[tokio::test(start_paused = true)]
async fn a_follower_stops_in_time_when_the_api_server_hangs_from_the_start() {
    let server = FakeLeases::default();
    server.set_fault(Fault::Hang);
    let (trigger, shutdown) = Shutdown::manual();
    let run = tokio::spawn(operate(parts(&server, shutdown).await, obedient));
    sleep(s(1)).await;
    let told = Instant::now();
    trigger.request();
    assert_eq!(run.await.unwrap(), Ended::Stopped);
    assert!(told.elapsed() < s(2), "{:?}", told.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_drops_the_work_where_it_is() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let server = FakeLeases::default();
    let (_trigger, shutdown) = Shutdown::manual();
    let dropped = Arc::new(AtomicBool::new(false));
    let work = Dropped(Arc::clone(&dropped));
    let run = tokio::spawn(operate(parts(&server, shutdown).await, |_| async move {
        let _work = work;
        std::future::pending::<()>().await;
    }));
    sleep(s(4)).await;
    server.set_fault(Fault::Hang);
    let told = Instant::now();
    assert_eq!(run.await.unwrap(), Ended::LeadershipLost);
    assert!(told.elapsed() <= s(10), "{:?}", told.elapsed());
    tokio::task::yield_now().await;
    assert!(dropped.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn controllers_that_end_by_themselves_are_fatal_and_leave_the_lease_to_another() {
    for panics in [false, true] {
        let server = FakeLeases::default();
        let (_trigger, shutdown) = Shutdown::manual();
        let controllers = move |_: Handles| async move { assert!(!panics, "on purpose") };
        assert_eq!(operate(parts(&server, shutdown).await, controllers).await, Ended::Fatal("the controllers ended"));
        assert_eq!(server.holder(), None);
    }
}
