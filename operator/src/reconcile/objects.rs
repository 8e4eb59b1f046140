//! Everything but the pods: applied, put back when somebody changed it, adopted when it lost its owner, pruned when the spec no
//! longer asks for it.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::act::{Hand, active};
use crate::apply::{Told, Wrote};
use crate::desired;
use crate::error::Object;
use crate::events::News;
use crate::names;
use crate::observe::Child;

/// What is to be told about a write: only that it met somebody.
pub(super) fn news_of(object: &Object, wrote: &Wrote) -> Option<News> {
    match wrote {
        Wrote::Changed | Wrote::Unchanged => None,
        Wrote::PutBack(Told { field, by }) => {
            let by = by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            Some(News::normal("Restored", "Apply", format!("{object}: {field} was changed{by}, and is put back.")))
        }
        Wrote::Adopted => Some(adopted(object)),
    }
}

/// An orphan goes on under this resource.
pub(super) fn adopted(object: &Object) -> News {
    News::normal("Adopted", "Apply", format!("{object} had this cluster's labels and no owner: it is taken over."))
}

// === impl Hand ===

impl Hand<'_> {
    /// Applies every object but the pods; returns whether all that a pod needs is there.
    pub(super) async fn apply(&mut self) -> bool {
        let mut ready = self.context.remember(self.cluster, |memory| memory.keys.is_some());
        for object in desired::objects(self.cluster, &self.context.surroundings(), active(self.judged)) {
            match object {
                desired::Object::ServiceAccount(object) => ready &= self.put(object).await,
                desired::Object::Service(object) => drop(self.put(*object).await),
                desired::Object::PodDisruptionBudget(object) => drop(self.put(object).await),
                desired::Object::NetworkPolicy(object) => drop(self.put(object).await),
            }
        }
        let name = desired::name_of(self.cluster);
        if self.cluster.spec.network_policy.is_none() {
            self.prune::<NetworkPolicy>(&names::network_policy(name)).await;
        }
        if desired::service_account(self.cluster).is_none() {
            // Shards that still run under it mount no token, and notice nothing.
            self.prune::<ServiceAccount>(&names::service_account(name)).await;
        }
        self.turn.published = self.context.publish(self.writer, self.cluster, self.turn).await;
        ready && self.turn.published.is_some()
    }

    async fn put<K>(&mut self, object: K) -> bool
    where
        K: Child + Clone + Debug + Serialize + DeserializeOwned,
        PartialObjectMeta<K>: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let key = Object::of::<K>(object.meta().name.as_deref().unwrap_or_default());
        let wrote = self.attempt(&key, Box::pin(self.writer.apply(desired::seal(object)))).await;
        self.turn.tell_all(wrote.as_ref().and_then(|wrote| news_of(&key, wrote)));
        wrote.is_some()
    }

    async fn prune<K: Child + Clone + Debug + DeserializeOwned>(&mut self, name: &str) {
        self.attempt(&Object::of::<K>(name), self.writer.prune::<K>(name)).await;
    }
}
