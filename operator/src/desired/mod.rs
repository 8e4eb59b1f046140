//! The objects of a cluster, built whole from its spec: pure, so that a snapshot of each is a test.
//!
//! Pods are not among the applied objects: they are created with POST and never applied (see [`pod`]).

mod account;
mod config;
mod disruption;
mod image;
mod network;
pub mod pod;
mod secret;
mod service;

use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use mcp_crds::McpCluster;
use mcp_crds::control::hex;
use ring::digest;
use serde::Serialize;

pub use account::service_account;
pub use config::{TooLarge, config_map, shard_config};
pub use disruption::disruption_budget;
pub use image::image;
pub use network::network_policy;
pub use secret::{MalformedKeys, credentials_secret, key_ring, key_ring_file, key_ring_mark, keys_secret};
pub use service::{client_port, client_service, members_service, shards_service};

use crate::names;

/// An object that follows from the spec alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Without any right.
    ServiceAccount(ServiceAccount),
    /// Client, members or headless.
    Service(Box<Service>),
    /// Over the active shards.
    PodDisruptionBudget(PodDisruptionBudget),
    /// Opt-in.
    NetworkPolicy(NetworkPolicy),
}

/// What a cluster's installation lends to its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Namespace of the operator.
    pub operator_namespace: String,
    /// DNS domain of the Kubernetes cluster.
    pub cluster_domain: String,
}

/// The objects that follow from the spec alone, in the order they are applied: what pods need comes first.
///
/// The configuration and the credentials follow from the catalog's references too, and the disruption budget from the
/// number of active shards; their builders are called where these are known.
pub fn objects(cluster: &McpCluster, surroundings: &Surroundings, active: u32) -> Vec<Object> {
    let mut objects = vec![];
    objects.extend(service_account(cluster).map(Object::ServiceAccount));
    objects.push(Object::Service(Box::new(shards_service(cluster))));
    objects.push(Object::Service(Box::new(members_service(cluster))));
    objects.push(Object::Service(Box::new(client_service(cluster))));
    objects.push(Object::PodDisruptionBudget(disruption_budget(cluster, active)));
    objects.extend(network_policy(cluster, surroundings).map(Object::NetworkPolicy));
    objects
}

/// Name of the cluster; empty only for one that was never stored.
pub fn name_of(cluster: &McpCluster) -> &str {
    cluster.metadata.name.as_deref().unwrap_or_default()
}

/// Namespace of the cluster.
pub fn namespace_of(cluster: &McpCluster) -> &str {
    cluster.metadata.namespace.as_deref().unwrap_or_default()
}

/// The reference by which garbage collection removes everything of a deleted cluster. Without `blockOwnerDeletion`: it
/// would need the right to set finalizers, and would make a delete wait.
pub fn owner(cluster: &McpCluster) -> OwnerReference {
    OwnerReference {
        api_version: McpCluster::api_version(&()).into_owned(),
        kind: McpCluster::kind(&()).into_owned(),
        name: name_of(cluster).to_owned(),
        uid: cluster.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Whether an object belongs to this cluster: to this very resource, not to an earlier one of the same name.
pub fn owned_by(metadata: &ObjectMeta, cluster: &McpCluster) -> bool {
    owned(metadata.owner_references.as_deref().unwrap_or_default(), cluster)
}

/// Whether one of these owners is this cluster, as the controller.
pub fn owned(owners: &[OwnerReference], cluster: &McpCluster) -> bool {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    !uid.is_empty() && owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// Metadata of every object of a cluster.
fn metadata(cluster: &McpCluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: cluster.metadata.namespace.clone(),
        labels: Some(names::labels(name_of(cluster))),
        owner_references: Some(vec![owner(cluster)]),
        ..ObjectMeta::default()
    }
}

/// First 16 digits of the SHA-256 of an object's JSON: the same object always has the same one.
pub fn fingerprint<T: Serialize>(object: &T) -> String {
    let json = serde_json::to_vec(object).unwrap_or_default();
    hex(&digest::digest(&digest::SHA256, &json).as_ref()[..8])
}

/// An object with the hash of what was rendered, by which a later pass sees that there is nothing to apply.
pub fn seal<K: Resource + Serialize>(mut object: K) -> K {
    let hash = fingerprint(&object);
    object.meta_mut().annotations.get_or_insert_default().insert(names::ANNOTATION_RENDERED_HASH.to_owned(), hash);
    object
}

/// An object with the generation of the resource that it was rendered for: for messages, not for comparison.
pub fn of_generation<K: Resource>(cluster: &McpCluster, mut object: K) -> K {
    let generation = cluster.metadata.generation.unwrap_or_default().to_string();
    object.meta_mut().annotations.get_or_insert_default().insert(names::ANNOTATION_GENERATION.to_owned(), generation);
    object
}

/// The generation that [`of_generation`] wrote.
pub fn generation_of(metadata: &ObjectMeta) -> Option<i64> {
    metadata.annotations.as_ref()?.get(names::ANNOTATION_GENERATION)?.parse().ok()
}

// === impl Object ===

impl Object {
    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::ServiceAccount(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::PodDisruptionBudget(object) => &object.metadata,
            Self::NetworkPolicy(object) => &object.metadata,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! The clusters that snapshots are taken of.

    use super::*;

    pub(crate) fn surroundings() -> Surroundings {
        Surroundings { operator_namespace: "mcp-system".into(), cluster_domain: "cluster.local".into() }
    }

    pub(crate) fn cluster(name: &str, spec: &str) -> McpCluster {
        let spec = serde_yaml::from_str(spec).unwrap();
        let mut cluster = McpCluster::new(name, spec);
        cluster.metadata.namespace = Some("agents".into());
        cluster.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
        cluster.metadata.generation = Some(1);
        cluster
    }

    /// What a first user writes.
    pub(crate) fn quickstart() -> McpCluster {
        cluster("hello", "{resources: {limits: {memory: 512Mi}}}")
    }

    /// Everything a pod and a Service can be told.
    pub(crate) fn production() -> McpCluster {
        cluster(
            "tools",
            r#"
image: registry.example.com/mcp-server:0.4.2
imagePullPolicy: IfNotPresent
env: [{name: RUST_BACKTRACE, value: "1"}, {name: PROXY, valueFrom: {configMapKeyRef: {name: proxy, key: url}}}]
resources: {requests: {cpu: "1"}, limits: {memory: 512Mi}}
autoscaling: {minReplicas: 3, maxReplicas: 60}
drain: {window: 60s, timeout: 5m}
transport: {allowedOrigins: ["https://chat.example.com"], allowedHosts: [mcp.example.com]}
service: {type: LoadBalancer, port: 443, annotations: {example.com/lb: "yes"}, labels: {team: platform}}
auth: {anonymous: {}}
networkPolicy: {}
podTemplate:
  metadata: {labels: {team: platform}, annotations: {example.com/cost-centre: "42"}}
  spec:
    serviceAccountName: tools
    imagePullSecrets: [{name: registry}]
    priorityClassName: agents
    tolerations: [{key: mcp, operator: Exists}]
    topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway}]
"#,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_references_never_block_a_deletion() {
        let cluster = samples::production();
        for object in objects(&cluster, &samples::surroundings(), 3) {
            let owners = object.metadata().owner_references.as_deref().unwrap();
            assert_eq!(owners.len(), 1);
            assert_eq!(owners[0].block_owner_deletion, None);
            assert!(owned_by(object.metadata(), &cluster));
        }
    }

    #[test]
    fn an_object_of_an_earlier_cluster_of_this_name_is_not_ours() {
        let cluster = samples::quickstart();
        let mut later = cluster.clone();
        later.metadata.uid = Some("another".into());
        assert!(!owned_by(&metadata(&cluster, "hello".into()), &later));
    }

    #[test]
    fn snapshots_of_all_applied_objects() {
        for cluster in [samples::quickstart(), samples::production()] {
            let objects: Vec<serde_json::Value> = objects(&cluster, &samples::surroundings(), 12)
                .iter()
                .map(|object| match object {
                    Object::ServiceAccount(o) => serde_json::to_value(o).unwrap(),
                    Object::Service(o) => serde_json::to_value(o).unwrap(),
                    Object::PodDisruptionBudget(o) => serde_json::to_value(o).unwrap(),
                    Object::NetworkPolicy(o) => serde_json::to_value(o).unwrap(),
                })
                .collect();
            insta::assert_yaml_snapshot!(format!("objects_{}", name_of(&cluster)), objects);
        }
    }
}
