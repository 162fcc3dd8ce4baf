//! Paths that lead out of a grant, tried by a tenant: none is sent, and the server's own record is the witness.

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{Change, array, path_of, text},
    bao,
    cluster::{Cluster, unique},
    conditions::{TRUTH, ready, reports},
    manifests::account,
    operator, records,
    wait::until,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

/// What stands for the tenant's namespace in an attack, and for the neighbour's.
const OWN: &str = "OWN";
const OTHER: &str = "OTHER";

/// Mount and path; `secret/OWN/**` is granted, and `secret/OTHER/a` is what the attacker wants.
const ATTACKS: [(&str, &str); 60] = [
    ("secret", "OTHER/a"),
    ("secret", "OWN-x/a"),
    ("secret", "OWN"),
    ("secret", "OWNx/a"),
    ("secret", "own/a"),
    ("secret", "OWN/../OTHER/a"),
    ("secret", "OWN/./../OTHER/a"),
    ("secret", "OWN/a/../../OTHER/a"),
    ("secret", "OWN//../OTHER/a"),
    ("secret", "../secret/OTHER/a"),
    ("secret", "./OTHER/a"),
    ("secret", "/OTHER/a"),
    ("secret", "//OTHER/a"),
    ("secret", "OWN//a"),
    ("secret", "OWN/a/"),
    ("secret", "OWN/."),
    ("secret", "OWN/.."),
    ("secret", "OWN/%2e%2e/OTHER/a"),
    ("secret", "OWN/%2E%2E/OTHER/a"),
    ("secret", "OWN/%2e%2e%2fOTHER%2fa"),
    ("secret", "OWN/..%2fOTHER/a"),
    ("secret", "OWN/%252e%252e/OTHER/a"),
    ("secret", "OWN%2f..%2fOTHER/a"),
    ("secret", "OWN/..\\OTHER\\a"),
    ("secret", "OWN\\..\\OTHER/a"),
    ("secret", "OWN/a\u{0}"),
    ("secret", "OWN/a%00"),
    ("secret", "OWN/a\n"),
    ("secret", "OWN/a\r\nX-Vault-Namespace: OTHER"),
    ("secret", "OWN/a\t"),
    ("secret", "OWN/a b"),
    ("secret", " OWN/a"),
    ("secret", "OWN/a "),
    ("secret", "OWN/a?list=true"),
    ("secret", "OWN/a?version=1"),
    ("secret", "OWN/a#x"),
    ("secret", "OWN/a;x"),
    ("secret", "OWN/a&b"),
    ("secret", "OWN/*"),
    ("secret", "OWN/**"),
    ("secret", "*/a"),
    ("secret", "+/a"),
    ("secret", "{namespace}/a"),
    ("secret", "{{namespace}}/a"),
    ("secret", "ОTHER/a"),
    ("secret", "OWN/\u{2024}\u{2024}/OTHER/a"),
    ("secret", "OWN\u{2215}..\u{2215}OTHER/a"),
    ("secret", "OWN/a\u{200b}"),
    ("secret/data", "OTHER/a"),
    ("secret/metadata", "OTHER/a"),
    ("secret/OWN", "../OTHER/a"),
    ("secret/../secret", "OTHER/a"),
    ("secret/data/OWN/..", "OTHER/a"),
    ("secret/", "OTHER/a"),
    ("/secret", "OTHER/a"),
    ("SECRET", "OTHER/a"),
    ("sys", "mounts"),
    ("sys/internal", "ui/mounts"),
    ("auth/token", "create"),
    ("cubbyhole", "OWN/a"),
];

#[tokio::test]
async fn no_path_leaves_its_grant() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let (name, server) = (format!("paths-{}", unique()), bao::Bao::of(&cluster)?);
    let (own, other) = (cluster.namespace("paths").await?, cluster.namespace("neighbour").await?);
    server.login_role(&name).await?;
    let connection = bao::granting(&cluster, &name, &name, &[&own])?;
    cluster.api.apply(&connection).await?;
    cluster.api.apply(&account(&own, "app")).await?;
    reports(&cluster.api, &path_of(&connection)?, &ready(), TRUTH).await?;
    for namespace in [&own, &other] {
        server.write(&format!("secret/data/{namespace}/a"), &json!({"data": {"key": "canary-of-a-neighbour"}})).await?;
    }
    // The positive control: what is granted arrives, and the record shows it.
    let honest = binding(&own, &name, "honest", "secret", &format!("{own}/a"));
    cluster.api.apply(&honest).await?;
    reports(&cluster.api, &path_of(&honest)?, &ready(), TRUTH).await?;

    let tried = stream::iter(ATTACKS.iter().enumerate()).map(|(at, (mount, path))| {
        let (mount, path) = (filled(mount, &own, &other), filled(path, &own, &other));
        let object = binding(&own, &name, &format!("attack-{at}"), &mount, &path);
        attack(&cluster, object, format!("{mount:?} {path:?}"))
    });
    let at_admission: Vec<bool> = tried.buffer_unordered(8).try_collect().await?;
    let refused = at_admission.iter().filter(|refused| **refused).count();
    let all = records::of(&cluster)?;
    let ours: Vec<_> = all.iter().filter(|one| one.namespace == own).collect();
    ensure!(
        ours.iter().any(|one| one.path == format!("secret/data/{own}/a")),
        "the record does not show what was read: {ours:?}"
    );
    let outside: Vec<_> = ours.iter().filter(|one| !one.is_a_tenants()).collect();
    ensure!(outside.is_empty(), "asked for outside the grant: {outside:?}");
    let told = all.iter().filter(|one| one.path.contains(&other) && !one.namespace.is_empty()).collect::<Vec<_>>();
    ensure!(told.is_empty(), "somebody asked for the neighbour's: {told:?}");
    println!("{} attacks: {refused} refused at admission, the others by the operator", ATTACKS.len());
    Ok(())
}

/// Whether admission refused it; the operator refuses what admission lets in.
async fn attack(cluster: &Cluster, object: Value, what: String) -> Result<bool> {
    let path = path_of(&object)?;
    let answer = cluster.api.patch(Change::Apply, &format!("{path}?fieldManager=e2e&force=true"), &object).await?;
    if answer.status == 422 {
        return Ok(true);
    }
    ensure!(answer.is_success(), "{what}: {} {}", answer.status, answer.message());
    let told = until("the operator refuses it", TRUTH, async || {
        let told = cluster.api.get(&path).await?;
        let reasons: Vec<&str> = array(&told, "/status/conditions").iter().map(|one| text(one, "/reason")).collect();
        let is_refused = reasons.iter().any(|reason| ["PathNotAllowed", "InvalidSpec"].contains(reason));
        Ok(if is_refused { Ok(()) } else { Err(reasons.join(", ")) })
    });
    told.await.with_context(|| what.clone())?;
    let secret = format!(
        "/api/v1/namespaces/{}/secrets/{}",
        text(&object, "/metadata/namespace"),
        text(&object, "/metadata/name")
    );
    ensure!(cluster.api.find(&secret).await?.is_none(), "{what}: a Secret was written");
    Ok(false)
}

fn filled(text: &str, own: &str, other: &str) -> String {
    text.replace(OWN, own).replace(OTHER, other)
}

fn binding(namespace: &str, connection: &str, name: &str, mount: &str, path: &str) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "connection": connection, "serviceAccountName": "app",
            "sources": [{"name": "app", "kv": {"mount": mount, "path": path}}],
            "secret": {"name": name, "data": [{"each": "app"}]},
        },
    })
}
