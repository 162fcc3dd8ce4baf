//! The client of the API server.
//!
//! In a cluster by the pod's own account, outside by a kubeconfig that was named; the ambient
//! `KUBECONFIG` is never used, or an operator started on a laptop would run against whatever cluster
//! the last command used. The built-in retry is off: it repeats writes for minutes inside one call.

use std::{fmt, path::Path, time::Duration};

use countersign_core::connection::address::Host;
use http::{Response, header::DATE};
use jiff::{Timestamp, fmt::rfc2822};
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::util::MapResponseLayer;

use super::{
    clock::Clock,
    metrics::{Against, Metrics},
};

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the server may take to read a request.
const WRITE: Duration = Duration::from_secs(10);

/// Why there is no client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientError {
    /// Not in a cluster, and no kubeconfig named.
    NotInCluster,
    /// The kubeconfig cannot be read or used.
    Kubeconfig,
    /// The TLS settings or credentials cannot be used.
    Unusable,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotInCluster => {
                "no API server: not in a pod with a service account token and CA file; outside of a cluster give --kubeconfig"
            }
            Self::Kubeconfig => "the kubeconfig cannot be read, or its current context is not complete",
            Self::Unusable => "the CA or credentials for the API server cannot be used",
        })
    }
}

impl std::error::Error for ClientError {}

/// Host and port of the API server that [`connect`] talks to.
pub async fn endpoint(kubeconfig: Option<&Path>) -> Result<Option<(Host, u16)>, ClientError> {
    let url = configuration(kubeconfig).await?.cluster_url;
    let port = url.port_u16().unwrap_or(443);
    Ok(url.host().and_then(Host::parse).map(|host| (host, port)))
}

/// A client whose answers also keep `clock` honest. Does not contact the server.
pub async fn connect(kubeconfig: Option<&Path>, clock: &Clock, metrics: &Metrics) -> Result<Client, ClientError> {
    let mut config = configuration(kubeconfig).await?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(WRITE);
    let builder = ClientBuilder::try_from(config).map_err(|_| ClientError::Unusable)?;
    let (clock, metrics) = (clock.clone(), metrics.clone());
    let watch_clock = MapResponseLayer::new(move |response: Response<_>| {
        note_time(&response, &clock, &metrics);
        response
    });
    Ok(builder.with_layer(&watch_clock).build())
}

async fn configuration(kubeconfig: Option<&Path>) -> Result<Config, ClientError> {
    match kubeconfig {
        None => Config::incluster().map_err(|_| ClientError::NotInCluster),
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|_| ClientError::Kubeconfig)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|_| ClientError::Kubeconfig)
        }
    }
}

/// Compares our clock with the `Date` of an answer.
fn note_time<B>(response: &Response<B>, clock: &Clock, metrics: &Metrics) {
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
    if let Some(server) = date.and_then(http_date) {
        metrics.set_clock_skew(Against::ApiServer, clock.follow(server).as_secs());
    }
}

/// Reads an HTTP date, which is RFC 2822's with the zone `GMT`.
pub fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_from_another_time_moves_the_clock() {
        let clock = Clock::simulated(at("2026-01-01T00:00:00Z"), 0);
        let metrics = Metrics::new();
        let answer = |date: &str| Response::builder().header(DATE, date).body(()).unwrap();
        note_time(&answer("Thu, 01 Jan 2026 01:00:00 GMT"), &clock, &metrics);
        assert_eq!(clock.now(), at("2026-01-01T01:00:00Z"));
        assert!(metrics.text().contains("countersign_clock_skew_seconds{against=\"api_server\"} 3600\n"));
        note_time(&answer("yesterday"), &clock, &metrics);
        note_time(&Response::new(()), &clock, &metrics);
        assert_eq!(clock.now(), at("2026-01-01T01:00:00Z"), "what is no date changes nothing");
    }

    #[tokio::test]
    async fn a_named_kubeconfig_is_used_and_nothing_else() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (clock, metrics) = (Clock::system(), Metrics::new());
        assert_eq!(connect(None, &clock, &metrics).await.err(), Some(ClientError::NotInCluster));
        let missing = Path::new("does/not/exist");
        assert_eq!(connect(Some(missing), &clock, &metrics).await.err(), Some(ClientError::Kubeconfig));

        let path = std::env::temp_dir().join(format!("countersign-kubeconfig-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(
            b"apiVersion: v1\nkind: Config\ncurrent-context: c\n\
              clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n\
              contexts: [{name: c, context: {cluster: c, user: u, namespace: here}}]\n\
              users: [{name: u, user: {}}]\n",
        )
        .unwrap();
        let client = connect(Some(&path), &clock, &metrics).await;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(client.unwrap().default_namespace(), "here");
    }
}
