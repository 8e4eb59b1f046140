//! Evictions that are node drains: told apart by looking at the node, once for each evicted shard.

use std::collections::{BTreeMap, HashSet};

use mcp_crds::McpCluster;

use super::Context;
use crate::desired;
use crate::observe::is_leaving;
use crate::stages::Disruption;

impl Context {
    /// Looks at the nodes of shards that are being evicted, when it may. An eviction names no cause: somebody asked for this
    /// very pod, or for every pod of a node.
    pub(super) async fn look_at_nodes(&self, cluster: &McpCluster) {
        if !self.config.reads_nodes {
            return;
        }
        let pods = self.pods_named_as(cluster);
        let known: HashSet<String> = self.remember(cluster, |memory| memory.leaving.keys().cloned().collect());
        let mut evicted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let ours = pods.iter().filter(|pod| desired::owned(pod.owners(), cluster));
        for shard in ours.filter_map(|pod| pod.shard(desired::name_of(cluster))) {
            let asks =
                shard.terminating.is_some() && shard.disruption == Some(Disruption::Evicted) && !known.contains(&shard.uid);
            if let Some(node) = shard.node.filter(|_| asks) {
                evicted.entry(node).or_default().push(shard.uid);
            }
        }
        for (node, shards) in evicted {
            match is_leaving(&self.client, &node).await {
                Ok(leaving) => {
                    self.remember(cluster, |memory| memory.leaving.extend(shards.into_iter().map(|uid| (uid, leaving))));
                }
                // It is a word in a condition: the next pass asks again.
                Err(error) => tracing::info!(node, %error, "cannot tell whether the node is drained"),
            }
        }
    }
}
