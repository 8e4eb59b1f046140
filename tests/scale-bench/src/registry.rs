//! Tells the fake shards what real ones would find in their mounts: the keys and the configuration that the operator made.

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use mcp_crds::shard::{HASH_FILE, KEYS_FILE};

use crate::fleet::{Fleet, Name};
use crate::stub::Shared;

/// What the operator made.
const OURS: &str = "app.kubernetes.io/managed-by=mcp-operator,mcpcluster.dev/cluster";
const LABEL_CLUSTER: &str = "mcpcluster.dev/cluster";

/// Follows Secrets and ConfigMaps for as long as the process lives.
pub(crate) fn follow(client: &Client, fleet: &Shared) {
    let secrets: Api<Secret> = Api::all(client.clone());
    let config_maps: Api<ConfigMap> = Api::all(client.clone());
    tokio::spawn(watch(secrets, fleet.clone(), learn_secret));
    tokio::spawn(watch(config_maps, fleet.clone(), learn_config_map));
}

async fn watch<K>(api: Api<K>, fleet: Shared, learn: fn(&mut Fleet, &K))
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().labels(OURS);
    let mut objects = std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
    loop {
        match objects.try_next().await {
            Ok(Some(object)) => learn(&mut fleet.lock().unwrap_or_else(std::sync::PoisonError::into_inner), &object),
            Ok(None) => return,
            // It begins anew by itself.
            Err(error) => eprintln!("scale-bench: a watch was interrupted: {error}"),
        }
    }
}

fn learn_secret(fleet: &mut Fleet, secret: &Secret) {
    let file = secret.data.as_ref().and_then(|data| data.get(KEYS_FILE));
    if let Some(ring) = file.and_then(|file| serde_json::from_slice(&file.0).ok()) {
        fleet.learn_keys(&name_of(secret), ring);
    }
}

fn learn_config_map(fleet: &mut Fleet, config_map: &ConfigMap) {
    if let Some(hash) = config_map.data.as_ref().and_then(|data| data.get(HASH_FILE)) {
        fleet.learn_hash(&name_of(config_map), hash.clone());
    }
}

fn name_of(object: &impl kube::ResourceExt) -> Name {
    (object.namespace().unwrap_or_default(), object.labels().get(LABEL_CLUSTER).cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_of_the_cluster_that_its_label_names() {
        let labels = json!({LABEL_CLUSTER: "tools"});
        let config_map =
            json!({"metadata": {"namespace": "a", "name": "tools-config", "labels": labels}, "data": {HASH_FILE: "abc"}});
        let config_map: ConfigMap = serde_json::from_value(config_map).unwrap();
        assert_eq!(name_of(&config_map), ("a".to_owned(), "tools".to_owned()));
    }
}
