//! The ConfigMap a shard mounts: the compiled catalog and everything else that may change while it runs.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use mcp_crds::McpCluster;
use mcp_crds::catalog::CompiledCatalog;
use mcp_crds::shard::{self, Packed, ShardConfig};

use super::{Surroundings, metadata, name_of, namespace_of};
use crate::names;

/// A configuration that no ConfigMap can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the compiled catalog has {bytes} bytes compressed, and a ConfigMap holds {}: shorten texts, or split the catalog over two McpClusters",
    shard::MAX_CONFIG_BYTES
)]
pub struct TooLarge {
    /// Compressed size.
    pub bytes: usize,
}

/// What shards of this cluster are to serve.
pub fn shard_config(cluster: &McpCluster, surroundings: &Surroundings, catalog: CompiledCatalog) -> ShardConfig {
    mcp_crds::shard_config(&cluster.spec, catalog, &service_hosts(cluster, surroundings))
}

/// The ConfigMap that publishes a configuration.
///
/// # Errors
/// When it is larger than a ConfigMap may be.
pub fn config_map(cluster: &McpCluster, packed: &Packed) -> Result<ConfigMap, TooLarge> {
    if packed.bytes.len() > shard::MAX_CONFIG_BYTES {
        return Err(TooLarge { bytes: packed.bytes.len() });
    }
    Ok(ConfigMap {
        metadata: metadata(cluster, names::config_map(name_of(cluster))),
        data: Some(BTreeMap::from([(shard::HASH_FILE.to_owned(), packed.hash.clone())])),
        binary_data: Some(BTreeMap::from([(shard::CONFIG_FILE.to_owned(), ByteString(packed.bytes.clone()))])),
        immutable: None,
    })
}

/// Every DNS name of the Services: a browser cannot be made to rebind these.
fn service_hosts(cluster: &McpCluster, surroundings: &Surroundings) -> Vec<String> {
    let (name, namespace) = (name_of(cluster), namespace_of(cluster));
    let services = [names::client_service(name), names::members_service(name), names::shards_service(name)];
    services
        .into_iter()
        .flat_map(|service| {
            [
                format!("{service}.{namespace}"),
                format!("{service}.{namespace}.svc"),
                format!("{service}.{namespace}.svc.{}", surroundings.cluster_domain),
                service,
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use mcp_crds::catalog::{CacheScope, Implementation};

    use super::super::samples;
    use super::*;

    fn catalog() -> CompiledCatalog {
        CompiledCatalog {
            server_info: Implementation { name: "tools".into(), version: "1".into(), ..Implementation::default() },
            instructions: None,
            ttl_ms: 60_000,
            cache_scope: CacheScope::Private,
            ..CompiledCatalog::default()
        }
    }

    #[test]
    fn the_live_settings_of_a_cluster() {
        insta::assert_yaml_snapshot!(shard_config(&samples::production(), &samples::surroundings(), catalog()));
    }

    #[test]
    fn the_same_configuration_has_the_same_hash_and_a_changed_one_another() {
        let pack = |cluster: &McpCluster| shard_config(cluster, &samples::surroundings(), catalog()).pack().unwrap();
        let mut cluster = samples::production();
        assert_eq!(pack(&cluster), pack(&cluster));
        let before = pack(&cluster).hash;
        cluster.spec.limits.max_connections += 1;
        assert_ne!(pack(&cluster).hash, before);
    }

    #[test]
    fn a_configuration_over_a_megabyte_is_refused_with_its_size() {
        let packed = Packed { hash: "ab".into(), bytes: vec![0; shard::MAX_CONFIG_BYTES + 1] };
        assert_eq!(config_map(&samples::quickstart(), &packed), Err(TooLarge { bytes: shard::MAX_CONFIG_BYTES + 1 }));
    }
}
