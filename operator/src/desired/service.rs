//! The three Services: clients connect to the placed shards, all shards stay referenced, and each has a DNS name.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mcp_crds::McpCluster;
use mcp_crds::cluster::ServiceType;
use mcp_crds::shard;

use super::{metadata, name_of};
use crate::names;

/// The port clients connect to.
pub fn client_port(cluster: &McpCluster) -> i32 {
    cluster.spec.service.port.unwrap_or(80)
}

/// What clients connect to: the shards that are placed.
pub fn client_service(cluster: &McpCluster) -> Service {
    let name = name_of(cluster);
    let theirs = &cluster.spec.service;
    let mut metadata = metadata(cluster, names::client_service(name));
    metadata.annotations = (!theirs.annotations.is_empty()).then(|| theirs.annotations.clone());
    let mut labels = theirs.labels.clone();
    labels.extend(names::labels(name));
    metadata.labels = Some(labels);

    let mut selector = names::shard_selector(name);
    selector.insert(names::LABEL_PLACED.to_owned(), names::PLACED.to_owned());
    let kind = match theirs.kind {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            selector: Some(selector),
            ports: Some(vec![port(names::PORT_DATA, client_port(cluster))]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// All shards, placed or not: some data planes cut or re-hash the connections of an endpoint that no Service references.
pub fn members_service(cluster: &McpCluster) -> Service {
    let name = name_of(cluster);
    Service {
        metadata: metadata(cluster, names::members_service(name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(names::shard_selector(name)),
            ports: Some(vec![port(names::PORT_DATA, i32::from(shard::DATA_PORT))]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A DNS name for each shard from its first moment, because shards look for each other before they are ready.
pub fn shards_service(cluster: &McpCluster) -> Service {
    let name = name_of(cluster);
    Service {
        metadata: metadata(cluster, names::shards_service(name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::shard_selector(name)),
            ports: Some(vec![
                port(names::PORT_DATA, i32::from(shard::DATA_PORT)),
                port(names::PORT_ADMIN, i32::from(shard::ADMIN_PORT)),
                port(names::PORT_CONTROL, i32::from(shard::CONTROL_PORT)),
            ]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port(name: &str, port: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_label_of_the_user_cannot_take_an_object_from_us() {
        let cluster = samples::cluster(
            "hello",
            "{resources: {limits: {memory: 512Mi}}, service: {labels: {mcpcluster.dev/cluster: other, team: a}}}",
        );
        let labels = client_service(&cluster).metadata.labels.unwrap();
        assert_eq!(labels[names::LABEL_CLUSTER], "hello");
        assert_eq!(labels["team"], "a");
    }

    #[test]
    fn only_the_client_service_asks_for_placement() {
        let cluster = samples::quickstart();
        let selector = |service: Service| service.spec.unwrap().selector.unwrap();
        assert!(selector(client_service(&cluster)).contains_key(names::LABEL_PLACED));
        assert!(!selector(members_service(&cluster)).contains_key(names::LABEL_PLACED));
        assert!(!selector(shards_service(&cluster)).contains_key(names::LABEL_PLACED));
    }
}
