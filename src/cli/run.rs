//! `countersign run`: flags, their checks, and the one call that runs the operator.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::Duration};

use clap::Args;
use countersign_core::{
    leader::{DEFAULT_LEASE, Timing, TimingError},
    network::snapshot::NodeBlocks,
};
use tracing::Level;

use super::{FATAL, LEADERSHIP_LOST, OK, USAGE};
use crate::{
    controllers,
    runtime::{
        build,
        client::{connect, endpoint},
        clock::Clock,
        entropy::Entropy,
        listen::ListenAddress,
        metrics::Metrics,
        operator::{Ended, Parts, operate},
        panics,
        settings::{self, Namespaces, Settings},
        shutdown::Shutdown,
        telemetry,
    },
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Namespaces to work in, separated by commas; empty for all
    #[arg(long, env = "COUNTERSIGN_NAMESPACES", default_value = "", value_name = "NAMES", hide_default_value = true)]
    namespaces: Namespaces,

    /// Objects that each controller works on at a time
    #[arg(long, env = "COUNTERSIGN_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "COUNT")]
    concurrency: u16,

    /// How often the target of a settled object is looked at
    #[arg(long, env = "COUNTERSIGN_DRIFT_INTERVAL", default_value = "5m", value_parser = settings::drift_interval, value_name = "DURATION")]
    drift_interval: Duration,

    /// Where /metrics is served
    #[arg(long, env = "COUNTERSIGN_METRICS_ADDRESS", default_value = ":8080", value_name = "ADDRESS")]
    metrics_address: ListenAddress,

    /// Where /livez and /readyz are served
    #[arg(long, env = "COUNTERSIGN_PROBE_ADDRESS", default_value = ":8081", value_name = "ADDRESS")]
    probe_address: ListenAddress,

    /// Least severe log level: error, warn, info, debug or trace
    #[arg(long, env = "COUNTERSIGN_LOG_LEVEL", default_value = "info", value_parser = level, value_name = "LEVEL")]
    log_level: Level,

    /// json or text [default: text on a terminal, else json]
    #[arg(long, env = "COUNTERSIGN_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<telemetry::Format>,

    /// Name of the leader Lease in the operator's namespace
    #[arg(long, env = "COUNTERSIGN_LEASE_NAME", default_value = DEFAULT_LEASE, value_parser = settings::name, value_name = "NAME")]
    lease_name: String,

    /// How long a follower waits for a leader that does not renew
    #[arg(long, env = "COUNTERSIGN_LEASE_DURATION", default_value = "15s", value_parser = settings::duration, value_name = "DURATION")]
    lease_duration: Duration,

    /// How long a leader may write after its last renewal; it renews every duration - grace
    #[arg(long, env = "COUNTERSIGN_LEASE_GRACE", default_value = "10s", value_parser = settings::duration, value_name = "DURATION")]
    lease_grace: Duration,

    /// Namespace that the operator runs in
    #[arg(long, env = "COUNTERSIGN_OPERATOR_NAMESPACE", default_value = "countersign-system", value_parser = settings::label, value_name = "NAME")]
    operator_namespace: String,

    /// The operator's own ServiceAccount
    #[arg(long, env = "COUNTERSIGN_SERVICE_ACCOUNT", default_value = "countersign", value_parser = settings::name, value_name = "NAME")]
    service_account: String,

    /// DNS domain of the cluster
    #[arg(long, env = "COUNTERSIGN_CLUSTER_DOMAIN", default_value = "cluster.local", value_parser = settings::name, value_name = "DOMAIN")]
    cluster_domain: String,

    /// The only audiences that the operator's own account may mint tokens for
    #[arg(long, env = "COUNTERSIGN_TOKEN_AUDIENCES", default_value = "vault", value_parser = settings::audience, value_delimiter = ',', value_name = "AUDIENCES")]
    token_audiences: Vec<String>,

    /// Whether the data plane matches the addresses of nodes by ipBlock: Auto, Yes or No
    #[arg(long, env = "COUNTERSIGN_NODE_BLOCKS", default_value = "Auto", value_parser = node_blocks, value_name = "WORD")]
    node_blocks: NodeBlocks,

    /// For tests and demos: divides the waits between looks and retries
    #[arg(long, env = "COUNTERSIGN_TIME_SCALE", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "FACTOR")]
    time_scale: u32,

    /// For tests and demos: lets a connection point at this machine
    #[arg(long, env = "COUNTERSIGN_ALLOW_LOOPBACK_CONNECTIONS")]
    allow_loopback_connections: bool,

    /// Use this kubeconfig instead of the pod's own account
    #[arg(long, env = "COUNTERSIGN_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Runs the operator to its end.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let settings = match arguments.settings() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("error: {error}");
            return USAGE;
        }
    };
    let clock = Clock::system();
    let format = arguments.log_format.unwrap_or_else(telemetry::Format::of_stderr);
    if let Err(words) = telemetry::init(format, arguments.log_level, clock.clone()) {
        return fatal(words);
    }
    panics::log_places_only();
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        return fatal("no threads could be started");
    };
    let code = runtime.block_on(start(arguments, settings, clock));
    // A name lookup that hangs sits in a blocking thread; waiting for it would break the deadline.
    runtime.shutdown_background();
    code
}

async fn start(arguments: &Arguments, mut settings: Settings, clock: Clock) -> u8 {
    warn_of_test_settings(&settings);
    let metrics = Metrics::new();
    let Ok(shutdown) = Shutdown::on_signals() else { return fatal("signals cannot be heard") };
    let client = match connect(arguments.kubeconfig.as_deref(), &clock, &metrics).await {
        Ok(client) => client,
        Err(error) => return fatal(&error.to_string()),
    };
    let Ok(probes) = arguments.probe_address.bind().await else { return fatal("the probe address cannot be used") };
    let Ok(exposition) = arguments.metrics_address.bind().await else {
        return fatal("the metrics address cannot be used");
    };
    let port = |listener: &tokio::net::TcpListener| listener.local_addr().map_or(0, |address| address.port());
    tracing::info!(
        version = build::VERSION,
        revision = build::REVISION,
        probes = port(&probes),
        metrics = port(&exposition),
        "started"
    );
    settings.name_servers = name_servers(&std::fs::read_to_string(RESOLVER).unwrap_or_default());
    settings.api_server = match endpoint(arguments.kubeconfig.as_deref()).await {
        Ok(api_server) => api_server,
        Err(error) => return fatal(&error.to_string()),
    };
    let parts = Parts { settings, client, clock, entropy: Entropy::system(), probes, exposition, shutdown, metrics };
    match operate(parts, controllers::run).await {
        Ended::Stopped => {
            tracing::info!("stopped");
            OK
        }
        Ended::Fatal(words) => fatal(words),
        Ended::LeadershipLost => LEADERSHIP_LOST,
    }
}

fn warn_of_test_settings(settings: &Settings) {
    if settings.time_scale > 1 {
        tracing::warn!(factor = settings.time_scale, "time is scaled: only for tests and demos");
    }
    if settings.allow_loopback_connections {
        tracing::warn!("connections may point at this machine: only for tests and demos");
    }
}

fn fatal(words: &str) -> u8 {
    tracing::error!(why = words, "cannot go on");
    FATAL
}

/// Where a process reads whom to ask for names; a pod asks the Service of the cluster's name resolution.
const RESOLVER: &str = "/etc/resolv.conf";

/// The name servers of a resolver's configuration.
fn name_servers(text: &str) -> BTreeSet<IpAddr> {
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
    servers.collect()
}

fn node_blocks(text: &str) -> Result<NodeBlocks, &'static str> {
    match text {
        "Auto" => Ok(NodeBlocks::Auto),
        "Yes" => Ok(NodeBlocks::Yes),
        "No" => Ok(NodeBlocks::No),
        _ => Err("must be Auto, Yes or No"),
    }
}

fn level(text: &str) -> Result<Level, &'static str> {
    // `Level` itself also takes numbers and any case.
    match text {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err("must be error, warn, info, debug or trace"),
    }
}

impl Arguments {
    /// Checks what no single flag can.
    fn settings(&self) -> Result<Settings, TimingError> {
        Ok(Settings {
            namespaces: self.namespaces.clone(),
            concurrency: self.concurrency,
            drift_interval: self.drift_interval,
            operator_namespace: self.operator_namespace.clone(),
            service_account: self.service_account.clone(),
            cluster_domain: self.cluster_domain.clone(),
            token_audiences: self.token_audiences.iter().cloned().collect(),
            // Read from the kubeconfig, not given.
            api_server: None,
            // Read from the pod, not given.
            name_servers: BTreeSet::new(),
            node_blocks: self.node_blocks,
            lease: self.lease_name.clone(),
            timing: Timing::new(self.lease_duration, self.lease_grace)?,
            time_scale: self.time_scale,
            allow_loopback_connections: self.allow_loopback_connections,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(flags: &[&str]) -> Result<Arguments, clap::error::ErrorKind> {
        let line = Line::try_parse_from(std::iter::once(&"run").chain(flags));
        line.map(|line| line.arguments).map_err(|error| error.kind())
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let arguments = parse(&[]).unwrap();
        let expected = Settings {
            namespaces: Namespaces::All,
            concurrency: 16,
            drift_interval: Duration::from_secs(300),
            operator_namespace: "countersign-system".into(),
            service_account: "countersign".into(),
            cluster_domain: "cluster.local".into(),
            token_audiences: ["vault".to_owned()].into(),
            api_server: None,
            name_servers: BTreeSet::new(),
            node_blocks: NodeBlocks::Auto,
            lease: "countersign-controller".into(),
            timing: Timing::default(),
            time_scale: 1,
            allow_loopback_connections: false,
        };
        assert_eq!(arguments.settings(), Ok(expected));
        assert_eq!((arguments.log_level, arguments.log_format), (Level::INFO, None));
    }

    #[test]
    fn the_name_servers_of_the_pod_are_read() {
        let text = "search shop.svc.cluster.local\nnameserver 10.96.0.10\nnameserver\tfd00::a\noptions ndots:5\n";
        let expected: BTreeSet<IpAddr> = ["10.96.0.10", "fd00::a"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(name_servers(text), expected);
        assert!(name_servers("# nameserver 192.0.2.1").is_empty());
    }

    #[test]
    fn flags_are_checked() {
        for bad in [
            "--concurrency=0",
            "--drift-interval=1s",
            "--namespaces=A",
            "--lease-duration=15",
            "--log-level=INFO",
            "--log-format=yaml",
            "--time-scale=0",
            "--token-audiences=a,,b",
            "--cluster-domain=-",
            "--metrics-address=8080",
            "--node-blocks=yes",
        ] {
            assert_eq!(parse(&[bad]).err(), Some(clap::error::ErrorKind::ValueValidation), "{bad}");
        }
        assert_eq!(parse(&["--rbac-profile=Guarded"]).err(), Some(clap::error::ErrorKind::UnknownArgument));
        let together = parse(&["--lease-duration=10s", "--lease-grace=10s"]).unwrap();
        assert_eq!(together.settings(), Err(TimingError::NoMargin));
        let lists = parse(&["--token-audiences=a,b", "--namespaces=x,y"]).unwrap().settings().unwrap();
        assert_eq!(lists.token_audiences.len(), 2);
        assert!(lists.namespaces.contains("y") && !lists.namespaces.contains("z"));
    }
}
