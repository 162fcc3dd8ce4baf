//! Installs the CRDs on a real API server and sends it every case of `tests/bad_input`.
//!
//! A server refuses CRDs for reasons that no local check knows (the estimated cost of a rule, limits
//! of patterns), and it is the judge that counts: each case must get the expected verdict from it,
//! and the local judge must agree.
//!
//! Needs the feature `cluster` and COUNTERSIGN_TEST_ENV, the description that `cargo xtask cluster up` writes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod bad_input;

use std::{
    fs,
    time::{Duration, Instant},
};

use countersign_core::api::all_crds;
use http::{Method, Request};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use serde_json::Value;

use bad_input::{Case, Input, cases, judge::Judge};

/// A server answers by the schema it had before until its handlers are exchanged.
const UNTIL_SERVED: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_real_server_judges_every_case_as_expected() {
    let client = connect().await;
    let crds = all_crds();
    install(&client, &crds).await;
    let deadline = Instant::now() + UNTIL_SERVED;

    let (judge, cases) = (Judge::new(&crds), cases());
    let mut wrong = Vec::new();
    for case in &cases {
        let mut outcome = case.check(&send(&client, &crds, case).await);
        while outcome.is_err() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
            outcome = case.check(&send(&client, &crds, case).await);
        }
        let local = case.check(&judge.judge(&case.input));
        wrong.extend(outcome.err().map(|why| format!("{} on the server: {why}", case.name)));
        wrong.extend(local.err().map(|why| format!("{} by the schemas alone: {why}", case.name)));
    }
    assert!(wrong.is_empty(), "{} cases, wrong:\n{}", cases.len(), wrong.join("\n"));
    println!("{} cases, each judged by the server and by the schemas alone as expected", cases.len());
}

async fn connect() -> Client {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
    let description = std::env::var("COUNTERSIGN_TEST_ENV")
        .expect("COUNTERSIGN_TEST_ENV is not set: `cargo xtask cluster up` starts a cluster and prints it");
    let description: Value = serde_json::from_str(&fs::read_to_string(description).unwrap()).unwrap();
    let kubeconfig = Kubeconfig::read_from(description["kubeconfig"].as_str().unwrap()).unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // another test may have been first
    Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()).unwrap()
}

async fn install(client: &Client, crds: &[CustomResourceDefinition]) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds {
        let name = crd.metadata.name.as_deref().unwrap();
        let ours = PatchParams::apply("countersign.dev/tests").force();
        api.patch(name, &ours, &Patch::Apply(crd)).await.unwrap();
        let established = await_condition(api.clone(), name, is_crd_established());
        tokio::time::timeout(Duration::from_secs(30), established).await.unwrap().unwrap();
    }
}

/// Sends a case with strict field validation; nothing is left behind.
async fn send(client: &Client, crds: &[CustomResourceDefinition], case: &Case) -> Result<Value, String> {
    match &case.input {
        Input::Create(object) => {
            let path = collection(crds, object);
            request(client, Method::POST, &format!("{path}?{DRY}"), object.to_string(), "application/json").await
        }
        Input::Raw(text) => {
            let path =
                collection(crds, &serde_json::json!({"kind": "ServiceIdentity", "metadata": {"namespace": "default"}}));
            request(client, Method::POST, &format!("{path}?{DRY}"), text.clone(), "application/yaml").await
        }
        Input::Update { old, new } => {
            let path = collection(crds, old);
            let name = old["metadata"]["name"].as_str().unwrap();
            let json = "application/json";
            let stored =
                request(client, Method::POST, &format!("{path}?fieldValidation=Strict"), old.to_string(), json)
                    .await
                    .map_err(|words| format!("the old object is refused: {words}"))?;
            let mut new = new.clone();
            new["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
            let verdict = request(client, Method::PUT, &format!("{path}/{name}?{DRY}"), new.to_string(), json).await;
            request(client, Method::DELETE, &format!("{path}/{name}"), String::new(), json).await.unwrap();
            verdict
        }
    }
}

const DRY: &str = "fieldValidation=Strict&dryRun=All";

/// Where objects of this kind and namespace are created.
fn collection(crds: &[CustomResourceDefinition], object: &Value) -> String {
    let crd = crds.iter().find(|crd| object["kind"] == crd.spec.names.kind.as_str()).unwrap();
    let (group, version, plural) = (&crd.spec.group, &crd.spec.versions[0].name, &crd.spec.names.plural);
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/apis/{group}/{version}/{plural}"),
    }
}

async fn request(client: &Client, method: Method, uri: &str, body: String, media: &str) -> Result<Value, String> {
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", media)
        .header("accept", "application/json")
        .body(body.into_bytes())
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{uri}: {error}"),
    }
}
