//! What is kept of a pod: what a pass reads of it, as it reads it. There are thousands of pods, and each has ten times as many
//! bytes; and a pass looks at all of a cluster's at once, many times a minute.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::shelf::Shelved;
use crate::names;
use crate::stages::ObservedShard;

/// A pod that may be a shard.
#[derive(Clone, Debug)]
pub struct KnownPod {
    /// As it was when this version of it was made; its index is that of no cluster yet.
    shard: ObservedShard,
    version: Option<Box<str>>,
    shared: Arc<Shared>,
}

/// What shards of one cluster have in common, and share in memory.
#[derive(Clone, Debug, Default, PartialEq)]
struct Shared {
    namespace: String,
    labels: BTreeMap<String, String>,
    owners: Vec<OwnerReference>,
    template: Option<String>,
    sync: Option<String>,
}

impl From<Pod> for KnownPod {
    fn from(mut pod: Pod) -> Self {
        let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let mut shard = ObservedShard::read(&pod);
        shard.name.shrink_to_fit();
        let mut owners = pod.metadata.owner_references.take().unwrap_or_default();
        owners.shrink_to_fit();
        Self {
            shard,
            version: pod.metadata.resource_version.map(String::into_boxed_str),
            shared: Arc::new(Shared {
                namespace: pod.metadata.namespace.unwrap_or_default(),
                labels: pod.metadata.labels.unwrap_or_default(),
                owners,
                template: annotations.remove(names::ANNOTATION_TEMPLATE),
                sync: annotations.remove(names::ANNOTATION_SYNC),
            }),
        }
    }
}

impl Shelved for KnownPod {
    fn namespace(&self) -> &str {
        &self.shared.namespace
    }

    fn name(&self) -> &str {
        &self.shard.name
    }

    fn uid(&self) -> Option<&str> {
        Some(&*self.shard.uid).filter(|uid| !uid.is_empty())
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    fn share(&mut self, with: &Self) {
        if self.shared == with.shared {
            self.shared = with.shared.clone();
        }
    }
}

impl KnownPod {
    /// The shard of this cluster that the pod is; none when its name is not one of a shard, or it has no uid.
    pub fn shard(&self, cluster: &str) -> Option<ObservedShard> {
        let index = names::shard_index(cluster, &self.shard.name)?;
        self.uid().map(|_| ObservedShard { index, ..self.shard.clone() })
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.shared.labels
    }

    /// Its owners.
    pub fn owners(&self) -> &[OwnerReference] {
        &self.shared.owners
    }

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.shard.terminating.is_some()
    }

    /// The template it was born with, JSON.
    pub fn template(&self) -> Option<&str> {
        self.shared.template.as_deref()
    }

    /// The mark of the mounted objects that its kubelet was last told of.
    pub fn sync(&self) -> Option<&str> {
        self.shared.sync.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, labels: &[(&str, &str)]) -> KnownPod {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "agents", "uid": "u", "resourceVersion": "7", "labels": labels,
                "annotations": {names::ANNOTATION_TEMPLATE: "{}", names::ANNOTATION_SYNC: "s", names::ANNOTATION_TEMPLATE_HASH: "h"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "McpCluster", "name": "tools", "uid": "c", "controller": true}],
            },
        }))
        .unwrap();
        KnownPod::from(pod)
    }

    #[test]
    fn a_pod_with_a_uid_is_a_shard_of_the_cluster_that_its_name_says() {
        let known = pod("tools-3", &[]);
        assert_eq!(known.shard("tools").map(|shard| (shard.index, shard.name, shard.template_hash)), {
            Some((3, "tools-3".into(), Some("h".into())))
        });
        assert_eq!((known.template(), known.sync(), known.owners()[0].uid.as_str()), (Some("{}"), Some("s"), "c"));
        assert!(known.shard("tool").is_none());
        let mut without_uid = Pod::default();
        without_uid.metadata.name = Some("tools-3".into());
        assert!(KnownPod::from(without_uid).shard("tools").is_none());
    }

    #[test]
    fn what_shards_have_in_common_is_there_once() {
        let (first, mut second, mut other) = (pod("tools-0", &[("a", "b")]), pod("tools-1", &[("a", "b")]), pod("tools-2", &[]));
        second.share(&first);
        other.share(&first);
        assert!(Arc::ptr_eq(&first.shared, &second.shared));
        assert!(!Arc::ptr_eq(&first.shared, &other.shared) && other.labels().is_empty());
    }
}
