//! Writes. Each is sent only when it changes something, names the very object it means, and is counted.
//!
//! Objects are applied server-side with one field manager, and only when what was rendered differs from what was rendered
//! last: an empty apply is a write too. Pods are created with POST, labelled by merge patch and deleted, with their uid.
//!
//! # RBAC
//! get on what is watched (the objects by name), patch on services, configmaps, serviceaccounts, poddisruptionbudgets and
//! networkpolicies, delete on networkpolicies; get, create, patch on secrets; create, patch, delete on pods; patch on
//! mcpclusters/status.

mod rewrite;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource};
use mcp_crds::{McpCluster, McpClusterStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::client::patiently;
use crate::error::{Error, Object, Result, Step};
use crate::metrics::{Metrics, Write};
use crate::names;
use crate::observe::{Child, Stores};
use crate::stages::PodRef;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It was sent.
    Changed,
    /// There was nothing to change.
    Unchanged,
}

/// What became of a pod that was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there.
    New,
    /// A pod of ours had the name already: we were here before.
    Already,
    /// A pod that is not ours has the name.
    Taken,
}

/// Writes on behalf of one cluster.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    metrics: Arc<Metrics>,
    stores: Arc<Stores>,
    namespace: String,
    owner: String,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("namespace", &self.namespace).field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer for objects in this namespace whose owner is the McpCluster with this uid.
    pub fn new(client: Client, metrics: Arc<Metrics>, stores: Arc<Stores>, namespace: &str, owner: &str) -> Self {
        Self { client, metrics, stores, namespace: namespace.to_owned(), owner: owner.to_owned() }
    }

    /// Applies an object that carries the hash of what was rendered.
    ///
    /// # Errors
    /// `NameConflict` when an object of this name is not ours; what the API server said otherwise.
    pub async fn apply<K>(&self, object: K) -> Result<Wrote>
    where
        K: Child + Clone + Debug + Serialize + DeserializeOwned,
        PartialObjectMeta<K>: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let name = name_of(object.meta());
        let live = match K::shelf(&self.stores).get(&self.namespace, &name) {
            Some(known) => Some(known.metadata.clone()),
            // The watch shows only what carries our labels; somebody else's object does not.
            None => self.metadata::<K>(&name).await?,
        };
        if !self.must_write(&object, live.as_ref())? {
            return Ok(Wrote::Unchanged);
        }
        let applied = self.patch(object, live.and_then(|live| live.uid)).await?;
        K::shelf(&self.stores).wrote(metadata_of(&applied));
        Ok(Wrote::Changed)
    }

    /// Applies the Secret of credentials. Secrets are not watched: the present one is read by name first.
    ///
    /// # Errors
    /// As [`Writer::apply`].
    pub async fn apply_secret(&self, secret: Secret) -> Result<Wrote> {
        let live = self.metadata::<Secret>(&name_of(&secret.metadata)).await?;
        if !self.must_write(&secret, live.as_ref())? {
            return Ok(Wrote::Unchanged);
        }
        self.patch(secret, live.and_then(|live| live.uid)).await?;
        Ok(Wrote::Changed)
    }

    /// Deletes an owned object that the spec no longer asks for.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn prune<K>(&self, name: &str) -> Result<Wrote>
    where
        K: Child + Clone + Debug + DeserializeOwned,
    {
        let Some(known) = K::shelf(&self.stores).get(&self.namespace, name).filter(|known| self.owns(&known.metadata)) else {
            return Ok(Wrote::Unchanged);
        };
        let parameters = with_uid(known.metadata.uid.as_deref());
        let api: Api<K> = self.api();
        self.count::<K>(Step::Delete);
        let deleted = patiently(Step::Delete, Object::of::<K>(name), || api.delete(name, &parameters)).await;
        if is_gone(&deleted) {
            K::shelf(&self.stores).removed(&known);
            return Ok(Wrote::Changed);
        }
        deleted.map(|_| Wrote::Changed)
    }

    /// Reads a Secret by name.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn secret(&self, name: &str) -> Result<Option<Secret>> {
        let api: Api<Secret> = self.api();
        patiently(Step::Read, Object::of::<Secret>(name), || api.get_opt(name)).await
    }

    /// Reads a ConfigMap by name.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn config_map(&self, name: &str) -> Result<Option<ConfigMap>> {
        let api: Api<ConfigMap> = self.api();
        patiently(Step::Read, Object::of::<ConfigMap>(name), || api.get_opt(name)).await
    }

    /// Creates a Secret that must not be there; none when another process was faster.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn create_secret(&self, secret: &Secret) -> Result<Option<Secret>> {
        let api: Api<Secret> = self.api();
        self.count::<Secret>(Step::Create);
        let name = name_of(&secret.metadata);
        match patiently(Step::Create, Object::of::<Secret>(&name), || async { api.create(&posting(), secret).await }).await {
            Ok(created) => Ok(Some(created)),
            Err(error) if error.code() == Some(409) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a pod. That the name is taken is the proof against creating a shard twice.
    ///
    /// # Errors
    /// What the API server said: quota, admission, LimitRange.
    pub async fn create_pod(&self, pod: &Pod) -> Result<Created> {
        let api: Api<Pod> = self.api();
        let name = name_of(&pod.metadata);
        self.count::<Pod>(Step::Create);
        match patiently(Step::Create, Object::of::<Pod>(&name), || async { api.create(&posting(), pod).await }).await {
            Ok(created) => {
                self.stores.pods.wrote(created);
                Ok(Created::New)
            }
            Err(error) if error.code() == Some(409) => {
                let present = patiently(Step::Read, Object::of::<Pod>(&name), || api.get_opt(&name)).await?;
                match present {
                    Some(present) if self.owns(&present.metadata) => {
                        self.stores.pods.wrote(present);
                        Ok(Created::Already)
                    }
                    Some(_) => Ok(Created::Taken),
                    // It went away in between: the next pass creates it.
                    None => Ok(Created::Already),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Sets labels and annotations of this very pod; `None` removes one.
    ///
    /// # Errors
    /// What the API server said. That the pod is gone is none.
    pub async fn label_pod(
        &self,
        pod: &PodRef,
        labels: &[(&str, Option<&str>)],
        annotations: &[(&str, Option<&str>)],
    ) -> Result<()> {
        let map = |pairs: &[(&str, Option<&str>)]| -> serde_json::Map<String, serde_json::Value> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
        };
        let patch = Patch::Merge(json!({
            "metadata": {"uid": pod.uid, "labels": map(labels), "annotations": map(annotations)},
        }));
        let parameters = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api: Api<Pod> = self.api();
        self.count::<Pod>(Step::Label);
        let patched = patiently(Step::Label, Object::of::<Pod>(&pod.name), || api.patch(&pod.name, &parameters, &patch)).await;
        if is_gone(&patched) {
            return Ok(());
        }
        self.stores.pods.wrote(patched?);
        Ok(())
    }

    /// Deletes this very pod, with its own grace period and never by force.
    ///
    /// # Errors
    /// What the API server said. That the pod is gone is none.
    pub async fn delete_pod(&self, pod: &PodRef) -> Result<()> {
        let api: Api<Pod> = self.api();
        let parameters = with_uid(Some(&pod.uid));
        self.count::<Pod>(Step::Delete);
        let deleted = patiently(Step::Delete, Object::of::<Pod>(&pod.name), || api.delete(&pod.name, &parameters)).await;
        if is_gone(&deleted) {
            return Ok(());
        }
        if let Some(terminating) = deleted?.left() {
            self.stores.pods.wrote(terminating);
        }
        Ok(())
    }

    /// Replaces the status of this very resource.
    ///
    /// # Errors
    /// What the API server said. That the resource is gone is none.
    pub async fn patch_status(&self, name: &str, status: &McpClusterStatus) -> Result<()> {
        let api: Api<McpCluster> = self.api();
        let patch = Patch::Apply(json!({
            "apiVersion": McpCluster::api_version(&()),
            "kind": McpCluster::kind(&()),
            "metadata": {"name": name, "uid": self.owner},
            "status": status,
        }));
        self.count::<McpCluster>(Step::PatchStatus);
        let parameters = applying();
        let patched =
            patiently(Step::PatchStatus, Object::of::<McpCluster>(name), || api.patch_status(name, &parameters, &patch)).await;
        if is_gone(&patched) { Ok(()) } else { patched.map(drop) }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn metadata<K>(&self, name: &str) -> Result<Option<ObjectMeta>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = self.api();
        let found = patiently(Step::Read, Object::of::<K>(name), || api.get_metadata_opt(name)).await?;
        Ok(found.map(|found| found.metadata))
    }

    /// Whether an object differs from what was applied last.
    fn must_write<K: Resource<DynamicType = ()>>(&self, object: &K, live: Option<&ObjectMeta>) -> Result<bool> {
        let Some(live) = live else { return Ok(true) };
        if !self.owns(live) {
            return Err(Error::NameConflict { object: Object::of::<K>(&name_of(object.meta())) });
        }
        Ok(rendered(live) != rendered(object.meta()) || live.deletion_timestamp.is_some())
    }

    /// Server-side apply onto the object with this uid, so that another one that took its name is not touched.
    async fn patch<K>(&self, mut object: K, uid: Option<String>) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = name_of(object.meta());
        object.meta_mut().uid = uid;
        let api: Api<K> = self.api();
        let patch = Patch::Apply(object);
        self.count::<K>(Step::Apply);
        let parameters = applying();
        patiently(Step::Apply, Object::of::<K>(&name), || api.patch(&name, &parameters, &patch)).await
    }

    fn owns(&self, metadata: &ObjectMeta) -> bool {
        metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true) && owner.uid == self.owner)
    }

    fn count<K: Resource<DynamicType = ()>>(&self, step: Step) {
        let write = Write { kind: Object::of::<K>("").kind, step: step.as_str() };
        self.metrics.writes.get_or_create(&write).inc();
    }
}

fn applying() -> PatchParams {
    PatchParams::apply(names::FIELD_MANAGER).force()
}

fn posting() -> PostParams {
    PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn with_uid(uid: Option<&str>) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions { uid: uid.map(str::to_owned), resource_version: None })
}

/// Whether a write found that its very object is no more: no such name, or another uid.
fn is_gone<T>(result: &Result<T>) -> bool {
    result.as_ref().err().is_some_and(|error| matches!(error.code(), Some(404 | 409)))
}

fn name_of(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}

fn rendered(metadata: &ObjectMeta) -> Option<&String> {
    metadata.annotations.as_ref().and_then(|annotations| annotations.get(names::ANNOTATION_RENDERED_HASH))
}

fn metadata_of<K: Resource>(object: &K) -> PartialObjectMeta<K> {
    let mut metadata = object.meta().clone();
    metadata.managed_fields = None;
    PartialObjectMeta { types: None, metadata, _phantom: std::marker::PhantomData }
}
