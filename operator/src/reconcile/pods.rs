//! Pods that others had their hands on: orphans are adopted, and labels of ours that were changed or removed are put back.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use mcp_crds::McpCluster;

use super::Context;
use super::act::Hand;
use super::objects::{adopted, news_of};
use super::turn::Turn;
use crate::apply::Writer;
use crate::desired::{self, pod};
use crate::error::Object;
use crate::names;
use crate::observe::{KnownPod, Shelved as _};
use crate::stages::PodRef;

impl Context {
    /// Takes in pods that belong here and do not say so: those that `--cascade=orphan` left, before others are created beside
    /// them, and those that lost the labels by which they are watched.
    pub(super) async fn take_in(&self, writer: &Writer, cluster: &Arc<McpCluster>, turn: &mut Turn) {
        let (name, namespace) = (desired::name_of(cluster), desired::namespace_of(cluster));
        for orphan in self.pods_named_as(cluster).iter().filter(|pod| is_orphan(name, pod)) {
            let object = Object::of::<Pod>(orphan.name());
            let attempt = writer.adopt_pod(orphan, desired::owner(cluster));
            if turn.attempt(self, cluster, &object, attempt).await == Some(true) {
                tracing::info!(shard = %object.name, "adopted");
                turn.tell(adopted(&object));
            }
        }
        for stray in self.stores.take_strays(namespace, |pod| names::shard_index(name, pod).is_some()) {
            let object = Object::of::<Pod>(&stray);
            let labels = |live: &Pod| pod::foreign_labels(name, live.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()));
            match turn.attempt(self, cluster, &object, writer.bring_home(&stray, labels)).await {
                Some(wrote) => turn.tell_all(news_of(&object, &wrote)),
                None => self.stores.stray(namespace, &stray),
            }
        }
    }
}

// === impl Hand ===

impl Hand<'_> {
    /// Puts back labels by which pods are found, counted and routed to.
    pub(super) async fn mend(&mut self) {
        for live in self.context.pods_named_as(self.cluster) {
            if !desired::owned(live.owners(), self.cluster) || live.is_terminating() {
                continue;
            }
            let labels = pod::foreign_labels(desired::name_of(self.cluster), live.labels());
            let (Some((first, _)), Some(uid)) = (labels.first(), live.uid()) else { continue };
            let pod = PodRef { name: live.name().to_owned(), uid: uid.to_owned() };
            let object = Object::of::<Pod>(&pod.name);
            let field = format!("metadata.labels.{first:?}");
            let wrote = self.attempt(&object, self.writer.put_labels_back(&pod, &labels, field)).await;
            self.turn.tell_all(wrote.and_then(|wrote| news_of(&object, &wrote)));
        }
    }
}

/// Whether a pod is a shard of this cluster that no controller owns.
fn is_orphan(cluster: &str, pod: &KnownPod) -> bool {
    !pod.is_terminating()
        && pod.labels().get(names::LABEL_CLUSTER).is_some_and(|label| label == cluster)
        && names::shard_index(cluster, pod.name()).is_some()
        && !pod.owners().iter().any(|owner| owner.controller == Some(true))
}
