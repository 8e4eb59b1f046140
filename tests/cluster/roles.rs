//! What the operator may do against what it did: nothing is granted that is not used, and nothing was asked for that is not
//! granted.

use std::collections::BTreeMap;

use http::Request as HttpRequest;
use k8s_openapi::api::core::v1::{Namespace as CoreNamespace, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use mcp_tests::audit::{Reader, Request};
use mcp_tests::cluster::STARTS_WITHIN;
use mcp_tests::operator::{NAME, SYSTEM_NAMESPACE};
use mcp_tests::roles::of_the_operator;
use mcp_tests::run::Run;
use mcp_tests::{Namespace, Outcome, claim};
use serde_json::json;

use crate::manifest::small;

/// An operator of one namespace, and an `McpCluster` in another.
pub(crate) async fn an_operator_of_one_namespace_leaves_others_alone(namespace: Namespace) -> Outcome {
    let other = namespace.beside().await?;
    other.apply(&small("theirs", &json!({"replicas": 1})).to_string()).await?;
    namespace.apply(&small("ours", &json!({"replicas": 1})).to_string()).await?;
    namespace.cluster("ours").until_settled(1, STARTS_WITHIN).await?;
    // Whatever wakes it, it does not look there: also not when both change.
    for (namespace, cluster) in [(&other, "theirs"), (&namespace, "ours")] {
        namespace.cluster(cluster).patch(&json!({"spec": {"replicas": 2}})).await?;
    }
    namespace.cluster("ours").until_settled(2, STARTS_WITHIN).await?;
    let theirs = other.cluster("theirs").get().await?;
    claim!(theirs.status.is_none(), "the other namespace's McpCluster has a status: {:?}", theirs.status);
    let pods = other.api::<Pod>().list(&ListParams::default()).await?.items.len();
    claim!(pods == 0, "{pods} pods in the other namespace");
    let mut strayed = Vec::new();
    Reader::from_the_start_of(namespace.run()).await?.each(&user(namespace.name()), |request| {
        if request.namespace != namespace.name() {
            strayed.push(request);
        }
    })?;
    claim!(strayed.is_empty(), "asked outside of its namespace: {strayed:?}");
    let namespaces: Api<CoreNamespace> = Api::all(namespace.client().clone());
    namespaces.delete(other.name(), &DeleteParams::background()).await?;
    Ok(())
}

/// `system:serviceaccount:NAMESPACE:mcp-operator`, from its end.
fn user(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{NAME}")
}

/// Runs last: over everything that the operators of this run asked for.
pub(crate) async fn every_right_was_used_and_no_request_was_denied(namespace: Namespace) -> Outcome {
    let asked = Asked::read(namespace.run()).await?;
    claim!(asked.cluster_wide > 0 && asked.namespaced > 0, "not both kinds of installation asked for something: {asked:?}");
    claim!(asked.denied.is_empty(), "denied by authorization: {:#?}", asked.denied);
    claim!(asked.strayed.is_empty(), "asked by the operator of another namespace: {:#?}", asked.strayed);
    let secrets: Vec<_> = asked.used.keys().filter(|used| ["/secrets list", "/secrets watch"].contains(&used.as_str())).collect();
    claim!(secrets.is_empty(), "Secrets were listed or watched: {secrets:?}");

    let granted = of_the_operator()?;
    let unused: Vec<_> = granted.iter().filter(|right| !asked.used.contains_key(*right)).map(String::as_str).collect();
    claim!(unused.is_empty(), "granted and never used: {}", unused.join(", "));
    Ok(())
}

/// Renewals of the cluster-wide operator's lease have a FlowSchema, at the level of Kubernetes' own: the API server counts what it
/// served by it (KEP-1040).
pub(crate) async fn the_lease_is_renewed_before_other_requests(namespace: Namespace) -> Outcome {
    let request = HttpRequest::get("/metrics").body(Vec::new())?;
    let metrics = namespace.client().request_text(request).await?;
    let served = metrics.lines().filter(|line| {
        line.starts_with("apiserver_flowcontrol_dispatched_requests_total{")
            && line.contains(r#"flow_schema="mcp-operator-lease""#)
            && line.contains(r#"priority_level="leader-election""#)
    });
    let served: f64 = served.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    println!("    {served} requests about the lease");
    claim!(served >= 10.0, "{served} requests were served by the FlowSchema");
    Ok(())
}

/// What the operators of a run asked for.
#[derive(Debug, Default)]
struct Asked {
    /// Requests of the operator that works in every namespace.
    cluster_wide: u64,
    /// Requests of operators of one namespace.
    namespaced: u64,
    /// How often each right was used.
    used: BTreeMap<String, u64>,
    denied: Vec<Request>,
    /// Requests of an operator of one namespace that were not about it.
    strayed: Vec<Request>,
}

impl Asked {
    async fn read(run: &Run) -> Outcome<Self> {
        let mut reader = Reader::from_the_start_of(run).await?;
        let (ours, system) = (format!("system:serviceaccount:{}", run.prefix()), user(SYSTEM_NAMESPACE));
        let mut asked = Self::default();
        let take = move || {
            reader.each(&format!(":{NAME}"), |request| {
                if request.user == system {
                    asked.cluster_wide += 1;
                } else if request.user.starts_with(&ours) {
                    asked.namespaced += 1;
                    let home = request.user.rsplit(':').nth(1).unwrap_or_default();
                    // A node is nobody's; the right to look at one is given to an operator by name.
                    if request.namespace != home && request.permission() != "/nodes get" && asked.strayed.len() < 10 {
                        asked.strayed.push(request.clone());
                    }
                } else {
                    return; // of another run on the same cluster
                }
                if request.forbidden && asked.denied.len() < 10 {
                    asked.denied.push(request.clone());
                }
                for permission in request.permissions() {
                    *asked.used.entry(permission).or_default() += 1;
                }
            })?;
            Ok(asked)
        };
        tokio::task::spawn_blocking(take).await?
    }
}
