//! The cluster as the caller of a read-only command may see it.
//!
//! Only reads, with the caller's own rights: what is forbidden comes back as the right that is
//! missing, never as an error. Of a Secret nothing but the metadata is ever asked for. Called by
//! `cli`; the operator itself reads through [`Cluster`](super::Cluster).

use std::{fmt::Debug, future::Future, time::Duration};

use countersign_core::explain::{Look, Right, Unseen};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, Resource,
    api::ListParams,
    core::{ClusterResourceScope, DeserializeGuard, NamespaceResourceScope, ObjectList},
};
use serde::de::DeserializeOwned;

/// Deadline of one object.
const ONE: Duration = Duration::from_secs(10);
/// Deadline of one page of a list.
const PAGE: Duration = Duration::from_secs(60);
/// Objects in one page.
const PAGE_SIZE: u32 = 500;
/// The most pages of one list; beyond that something is wrong with the server.
const MOST_PAGES: usize = 1_000;

/// A view of the cluster with the caller's rights.
#[derive(Clone)]
pub struct View {
    client: Client,
}

/// Which namespaces a list covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// The whole cluster.
    Everywhere,
    /// One namespace.
    Namespace(String),
}

/// A list: every object that could be read, and the metadata of those that could not.
#[derive(Debug, Clone)]
pub struct Listed<K> {
    /// What could be read.
    pub objects: Vec<K>,
    /// What could not.
    pub unreadable: Vec<ObjectMeta>,
}

impl View {
    /// What `client` may see.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The namespace of the kubeconfig's context, or of the pod.
    pub fn namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// One object of the whole cluster.
    pub async fn global<K>(&self, name: &str) -> Look<K>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
    {
        get::<K>(&Api::all(self.client.clone()), "", name).await
    }

    /// One object of a namespace.
    pub async fn local<K>(&self, namespace: &str, name: &str) -> Look<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        get::<K>(&Api::namespaced(self.client.clone(), namespace), namespace, name).await
    }

    /// The metadata of one object of a namespace; its content does not leave the API server.
    pub async fn metadata<K>(&self, namespace: &str, name: &str) -> Look<ObjectMeta>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        match within(ONE, api.get_metadata(name)).await {
            Ok(object) => Look::Found(object.metadata),
            Err(trouble) => trouble.look(right::<K>("get", namespace)),
        }
    }

    /// Every object of a kind.
    pub async fn list<K>(&self, span: &Span) -> Result<Listed<K>, Unseen>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        match span {
            Span::Everywhere => pages(&Api::all(self.client.clone()), "").await,
            Span::Namespace(namespace) => pages(&Api::namespaced(self.client.clone(), namespace), namespace).await,
        }
    }

    /// Every object of a kind that has no namespaces.
    pub async fn list_global<K>(&self) -> Result<Listed<K>, Unseen>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
    {
        pages(&Api::all(self.client.clone()), "").await
    }
}

async fn get<K>(api: &Api<DeserializeGuard<K>>, namespace: &str, name: &str) -> Look<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match within(ONE, api.get(name)).await {
        Ok(DeserializeGuard(Ok(object))) => Look::Found(object),
        Ok(DeserializeGuard(Err(_))) => Look::Hidden(Unseen::Unreadable),
        Err(trouble) => trouble.look(right::<K>("get", namespace)),
    }
}

async fn pages<K>(api: &Api<DeserializeGuard<K>>, namespace: &str) -> Result<Listed<K>, Unseen>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut listed = Listed { objects: Vec::new(), unreadable: Vec::new() };
    let mut params = ListParams::default().limit(PAGE_SIZE);
    for _ in 0..MOST_PAGES {
        let page: ObjectList<_> = match within(PAGE, api.list(&params)).await {
            Ok(page) => page,
            // A list of nothing is empty, so it is the kind itself that is missing.
            Err(Trouble::Absent) => return Err(Unseen::NoSuchKind),
            Err(trouble) => return Err(trouble.unseen(right::<K>("list", namespace))),
        };
        for DeserializeGuard(object) in page.items {
            match object {
                Ok(object) => listed.objects.push(object),
                Err(invalid) => listed.unreadable.push(invalid.metadata),
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(listed),
        }
    }
    Err(Unseen::Unanswered)
}

fn right<K: Resource<DynamicType = ()>>(verb: &'static str, namespace: &str) -> Right {
    let (plural, group) = (K::plural(&()), K::group(&()));
    let resource = if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") };
    Right { verb, resource, namespace: namespace.to_owned() }
}

/// Why a read brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Absent,
    Forbidden,
    Unanswered,
    Unreadable,
}

impl Trouble {
    fn look<T>(self, right: Right) -> Look<T> {
        if self == Self::Absent { Look::Absent } else { Look::Hidden(self.unseen(right)) }
    }

    fn unseen(self, right: Right) -> Unseen {
        match self {
            Self::Forbidden => Unseen::Forbidden(right),
            Self::Unreadable => Unseen::Unreadable,
            Self::Absent | Self::Unanswered => Unseen::Unanswered,
        }
    }
}

async fn within<T>(deadline: Duration, call: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_) => Err(Trouble::Unanswered),
    }
}

fn trouble(error: &kube::Error) -> Trouble {
    match error {
        kube::Error::Api(status) => match status.code {
            401 | 403 => Trouble::Forbidden,
            404 => Trouble::Absent,
            _ => Trouble::Unanswered,
        },
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Trouble::Unreadable,
        _ => Trouble::Unanswered,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use countersign_core::api::{ServiceIdentity, TrustDomain};
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// Requests as they arrived: path with query, and what was asked to be sent.
    type Seen = Arc<Mutex<Vec<(String, String)>>>;

    fn server(answer: fn(&str) -> (u16, Value)) -> (View, Seen) {
        let seen = Seen::default();
        let requests = seen.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let uri = request.uri().to_string();
            let accept = request.headers().get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
            requests.lock().unwrap().push((uri.clone(), accept.to_owned()));
            async move {
                let (status, body) = answer(&uri);
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, kube::Error>(Response::builder().status(status).body(body).unwrap())
            }
        });
        (View::new(Client::new(service, "here")), seen)
    }

    fn refusal(code: u16) -> (u16, Value) {
        (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "canary-7"}))
    }

    fn forbidden(verb: &'static str, resource: &str, namespace: &str) -> Unseen {
        Unseen::Forbidden(Right { verb, resource: resource.to_owned(), namespace: namespace.to_owned() })
    }

    #[tokio::test]
    async fn what_is_forbidden_comes_back_as_the_missing_right() {
        let (view, _) = server(|_| refusal(403));
        let account = view.local::<ServiceAccount>("pay", "api").await;
        assert_eq!(account, Look::Hidden(forbidden("get", "serviceaccounts", "pay")));
        let domain = view.global::<TrustDomain>("prod").await;
        assert_eq!(domain, Look::Hidden(forbidden("get", "trustdomains.countersign.dev", "")));
        let list = view.list::<ServiceIdentity>(&Span::Everywhere).await;
        assert_eq!(list.err(), Some(forbidden("list", "serviceidentities.countersign.dev", "")));
    }

    #[tokio::test]
    async fn absent_unanswered_and_unreadable_are_three_things() {
        let (view, _) = server(|_| refusal(404));
        assert_eq!(view.global::<TrustDomain>("prod").await, Look::Absent);
        assert_eq!(view.list_global::<TrustDomain>().await.err(), Some(Unseen::NoSuchKind));
        let (view, _) = server(|_| refusal(503));
        assert_eq!(view.global::<TrustDomain>("prod").await, Look::Hidden(Unseen::Unanswered));
        let (view, _) = server(|_| (200, json!({"metadata": {"name": "prod"}, "spec": {"name": 7}})));
        assert_eq!(view.global::<TrustDomain>("prod").await, Look::Hidden(Unseen::Unreadable));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_waited_for_ten_seconds() {
        let service = tower::service_fn(|_: Request<Body>| std::future::pending::<kube::Result<Response<Body>>>());
        let view = View::new(Client::new(service, "here"));
        let begun = tokio::time::Instant::now();
        assert_eq!(view.global::<TrustDomain>("prod").await, Look::Hidden(Unseen::Unanswered));
        assert_eq!(begun.elapsed(), ONE);
    }

    #[tokio::test]
    async fn of_a_secret_only_the_metadata_is_asked_for() {
        let (view, seen) = server(|_| {
            let meta = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "api-tls", "uid": "7"}});
            (200, meta)
        });
        let meta = view.metadata::<Secret>("pay", "api-tls").await;
        assert_eq!(meta.found().and_then(|meta| meta.uid.as_deref()), Some("7"));
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].0, "/api/v1/namespaces/pay/secrets/api-tls");
        assert!(seen[0].1.contains("PartialObjectMetadata"), "{seen:?}");
        assert!(!seen[0].1.split(',').any(|part| part.trim() == "application/json"), "{seen:?}");
    }

    #[tokio::test]
    async fn a_list_is_read_to_its_end_and_one_bad_object_costs_only_itself() {
        let (view, seen) = server(|uri| {
            let identity =
                |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "pay"}, "spec": spec});
            let good = json!({"trustDomain": "prod", "serviceAccountName": "api", "secret": {"name": "api-tls"}});
            let (next, items) = if uri.contains("continue=more") {
                ("", vec![identity("b", good)])
            } else {
                ("more", vec![identity("a", good), identity("bad", json!({"trustDomain": 7}))])
            };
            let list = json!({"kind": "ServiceIdentityList", "apiVersion": "countersign.dev/v1alpha1",
                "metadata": {"continue": next}, "items": items});
            (200, list)
        });
        let list = view.list::<ServiceIdentity>(&Span::Namespace("pay".to_owned())).await.unwrap();
        let names: Vec<_> = list.objects.iter().filter_map(|object| object.metadata.name.as_deref()).collect();
        assert_eq!(names, ["a", "b"]);
        let unreadable: Vec<_> = list.unreadable.iter().filter_map(|meta| meta.name.as_deref()).collect();
        assert_eq!(unreadable, ["bad"]);
        assert_eq!(seen.lock().unwrap().len(), 2);
    }
}
