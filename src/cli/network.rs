//! What the commands about the network read: the same facts as the operator, with the caller's rights.

use countersign_core::{
    api::{AccessGrant, AccessRequest, ExternalService, Segment},
    explain::Unseen,
    network::{
        applied::Standing,
        decide::{Decision, Objects, Touched, decide},
        observed::{
            Found, Resolvers, SeenCronJob, SeenDaemonSet, SeenDeployment, SeenEndpointSlice, SeenJob, SeenNode,
            SeenPod, SeenReplicaSet, SeenService, SeenServiceRange, SeenStatefulSet, snapshot,
        },
    },
};
use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace, ServiceAccount},
    networking::v1::NetworkPolicy,
};

use crate::cluster::inspect::{Span, View};

/// Reads the cluster and decides as the operator would, without writing.
///
/// # Errors
/// What could not be seen: with a part of the facts every answer would be a guess.
pub(super) async fn look(view: &View, now: Timestamp) -> Result<Decision, Unseen> {
    let all = &Span::Everywhere;
    let (segments, grants, requests, externals) = try_join!(
        view.list_global::<Segment>(),
        view.list::<AccessGrant>(all),
        view.list::<AccessRequest>(all),
        view.list::<ExternalService>(all),
    )?;
    let (namespaces, accounts, services, slices) = try_join!(
        view.list_global::<Namespace>(),
        view.list::<ServiceAccount>(all),
        view.list::<SeenService>(all),
        view.list::<SeenEndpointSlice>(all),
    )?;
    let (pods, deployments, stateful_sets, daemon_sets) = try_join!(
        view.list::<SeenPod>(all),
        view.list::<SeenDeployment>(all),
        view.list::<SeenStatefulSet>(all),
        view.list::<SeenDaemonSet>(all),
    )?;
    let (replica_sets, jobs, cron_jobs, nodes, service_ranges, policies) = try_join!(
        view.list::<SeenReplicaSet>(all),
        view.list::<SeenJob>(all),
        view.list::<SeenCronJob>(all),
        view.list_global::<SeenNode>(),
        view.list_global::<SeenServiceRange>(),
        view.list::<NetworkPolicy>(all),
    )?;
    let found = Found {
        namespaces: namespaces.objects.iter().map(|object| &object.metadata).collect(),
        accounts: accounts.objects.iter().map(|object| &object.metadata).collect(),
        pods: pods.objects.iter().collect(),
        deployments: deployments.objects.iter().collect(),
        stateful_sets: stateful_sets.objects.iter().collect(),
        daemon_sets: daemon_sets.objects.iter().collect(),
        replica_sets: replica_sets.objects.iter().collect(),
        jobs: jobs.objects.iter().collect(),
        cron_jobs: cron_jobs.objects.iter().collect(),
        services: services.objects.iter().collect(),
        slices: slices.objects.iter().collect(),
        nodes: nodes.objects.iter().collect(),
        service_ranges: service_ranges.objects.iter().collect(),
    };
    let objects = Objects {
        segments: segments.objects.iter().collect(),
        grants: grants.objects.iter().collect(),
        requests: requests.objects.iter().collect(),
        externals: externals.objects.iter().collect(),
    };
    let touched = Touched { at: std::collections::BTreeMap::new(), since: now };
    let snapshot = snapshot(&found, &Resolvers::default());
    Ok(decide(&objects, snapshot, Standing::read(&policies.objects), &touched, 1, now))
}
