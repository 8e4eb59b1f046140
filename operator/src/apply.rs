//! Writes. Each is sent only when it changes something, names the very object it means, and is counted.
//!
//! Objects are applied server-side with one field manager, and only when what was rendered differs from what was rendered
//! last, or when somebody changed a field of it since: an empty apply is a write too. Pods are created with POST, labelled by
//! merge patch and deleted, with their uid.
//!
//! # RBAC
//! get on what is watched (the objects by name), patch on services, configmaps, serviceaccounts, poddisruptionbudgets and
//! networkpolicies, delete on networkpolicies and serviceaccounts; get, create, patch on secrets; create, patch, delete on
//! pods; get on mcpclusters, patch on mcpclusters/status. Where the API server runs the admission plugin
//! OwnerReferencesPermissionEnforcement, who adopts an object must be allowed to delete it: `manifests/adoption.yaml`.

mod adopt;
mod contest;
mod rewrite;
#[cfg(test)]
mod tests;

pub use contest::{Contests, Told};

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
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
use crate::observe::{Child, KnownObject, Shelved as _, Stores, fields};
use crate::stages::PodRef;

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It was sent.
    Changed,
    /// There was nothing to change.
    Unchanged,
    /// Somebody had changed a field of ours.
    PutBack(Told),
    /// The object had no owner.
    Adopted,
}

/// Why an object is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// It is not there, ends, or was rendered otherwise.
    Apply,
    /// It has our labels and no owner.
    Adopt,
    /// Somebody took this field.
    PutBack(String),
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
    cluster: String,
    owner: String,
    contests: Arc<Contests>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("namespace", &self.namespace).field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer for the objects of this McpCluster.
    pub fn new(
        client: Client,
        metrics: Arc<Metrics>,
        stores: Arc<Stores>,
        contests: Arc<Contests>,
        cluster: &McpCluster,
    ) -> Self {
        let metadata = &cluster.metadata;
        Self {
            client,
            metrics,
            stores,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            cluster: name_of(metadata),
            owner: metadata.uid.clone().unwrap_or_default(),
            contests,
        }
    }

    /// Applies an object that carries the hash of what was rendered.
    ///
    /// # Errors
    /// `NameConflict` when an object of this name is not ours, `Contested` while somebody keeps changing it; what the API
    /// server said otherwise.
    pub async fn apply<K>(&self, object: K) -> Result<Wrote>
    where
        K: Child + Clone + Debug + Serialize + DeserializeOwned,
        PartialObjectMeta<K>: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let name = name_of(object.meta());
        let live = match K::shelf(&self.stores).get(&self.namespace, &name) {
            Some(known) => Some(known),
            // The watch shows only what carries our labels; somebody else's object does not.
            None => self.metadata::<K>(&name).await?.map(|metadata| Arc::new(KnownObject::from(&metadata))),
        };
        let (wrote, applied) = self.bring_about(object, live.as_deref()).await?;
        if let Some(applied) = applied {
            K::shelf(&self.stores).wrote(applied);
        }
        self.unless_fought(Object::of::<K>(&name), wrote)
    }

    /// Applies the Secret of credentials. Secrets are not watched: the present one is read by name first.
    ///
    /// # Errors
    /// As [`Writer::apply`].
    pub async fn apply_secret(&self, secret: Secret) -> Result<Wrote> {
        let name = name_of(&secret.metadata);
        let live = self.metadata::<Secret>(&name).await?.map(|metadata| KnownObject::from(&metadata));
        let (wrote, _) = self.bring_about(secret, live.as_ref()).await?;
        self.unless_fought(Object::of::<Secret>(&name), wrote)
    }

    /// Deletes an owned object that the spec no longer asks for.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn prune<K>(&self, name: &str) -> Result<Wrote>
    where
        K: Child + Clone + Debug + DeserializeOwned,
    {
        let Some(known) = K::shelf(&self.stores).get(&self.namespace, name).filter(|known| self.controls(known)) else {
            return Ok(Wrote::Unchanged);
        };
        let parameters = with_uid(known.uid());
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

    /// Puts labels of this very pod back, as often as [`Contests`] allow.
    ///
    /// # Errors
    /// `Contested` while somebody keeps changing them; what the API server said otherwise.
    pub async fn put_labels_back(&self, pod: &PodRef, labels: &[(String, String)], field: String) -> Result<Wrote> {
        let object = Object::of::<Pod>(&pod.name);
        if !self.contests.may_put_back(&object.to_string(), Timestamp::now()) {
            return Err(Error::Contested { object, field, by: None });
        }
        let told = Told { field, by: None };
        self.contests.tell(&object.to_string(), told.clone());
        let labels: Vec<_> = labels.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))).collect();
        self.label_pod(pod, &labels, &[]).await?;
        self.unless_fought(object, Wrote::PutBack(told))
    }

    /// Looks for a pod that went out of sight, and puts back the labels by which it is seen. `foreign` says which those are.
    ///
    /// # Errors
    /// As [`Writer::put_labels_back`]. That there is no such pod of ours is none.
    pub async fn bring_home(&self, name: &str, foreign: impl Fn(&Pod) -> Vec<(String, String)>) -> Result<Wrote> {
        let api: Api<Pod> = self.api();
        let found = patiently(Step::Read, Object::of::<Pod>(name), || api.get_opt(name)).await?;
        let ours = found.filter(|pod| self.owns(&pod.metadata) && pod.metadata.deletion_timestamp.is_none());
        let Some((pod, uid)) = ours.and_then(|pod| pod.metadata.uid.clone().map(|uid| (pod, uid))) else {
            return Ok(Wrote::Unchanged);
        };
        let labels = foreign(&pod);
        let Some((first, _)) = labels.first() else { return Ok(Wrote::Unchanged) };
        let field = format!("metadata.labels.{first:?}");
        self.put_labels_back(&PodRef { name: name.to_owned(), uid }, &labels, field).await
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
    pub async fn patch_status(&self, status: &McpClusterStatus) -> Result<()> {
        let (api, name): (Api<McpCluster>, _) = (self.api(), self.cluster.as_str());
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

    /// Writes an object when there is a need to; returns what the API server made of it.
    async fn bring_about<K>(&self, object: K, live: Option<&KnownObject>) -> Result<(Wrote, Option<KnownObject>)>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let key = Object::of::<K>(&name_of(object.meta()));
        let wrote = match self.need(&object, live)? {
            Need::Nothing => return Ok((Wrote::Unchanged, None)),
            Need::Apply => Wrote::Changed,
            Need::Adopt if !self.may_adopt().await? => return Ok((Wrote::Unchanged, None)),
            Need::Adopt => Wrote::Adopted,
            Need::PutBack(field) if !self.contests.may_put_back(&key.to_string(), Timestamp::now()) => {
                // No news comes when the pause is over: as any other refusal, it is tried again.
                let by = self.contests.told(&key.to_string()).and_then(|told| told.by);
                return Err(Error::Contested { object: key, field, by });
            }
            Need::PutBack(field) => {
                // Only our own entry is kept; who wrote last is asked for when somebody wants to know.
                let by = self.metadata::<K>(&key.name).await?.as_ref().and_then(fields::last_other);
                let told = Told { field, by };
                self.contests.tell(&key.to_string(), told.clone());
                Wrote::PutBack(told)
            }
        };
        let uid = live.and_then(|live| live.uid()).map(str::to_owned);
        let applied = KnownObject::from(self.patch(object, uid).await?.meta());
        self.contests.applied(&key.to_string(), fields::digest(applied.fields().as_deref()));
        Ok((wrote, Some(applied)))
    }

    fn need<K: Resource<DynamicType = ()> + Serialize>(&self, object: &K, live: Option<&KnownObject>) -> Result<Need> {
        let key = || Object::of::<K>(&name_of(object.meta()));
        let Some(live) = live else { return Ok(Need::Apply) };
        if !self.controls(live) {
            return if adopt::is_orphan(live, object.meta()) {
                Ok(Need::Adopt)
            } else {
                Err(Error::NameConflict { object: key() })
            };
        }
        if live.rendered() != rendered(object.meta()) || live.is_terminating() {
            return Ok(Need::Apply);
        }
        let ours = live.fields();
        match fields::lost(object, ours.as_deref()) {
            Some(field) if !self.contests.is_all_we_get(&key().to_string(), fields::digest(ours.as_deref())) => {
                Ok(Need::PutBack(field))
            }
            Some(_) | None => Ok(Need::Nothing),
        }
    }

    /// A fight over an object is told as long as it lasts, whatever was written in between.
    fn unless_fought(&self, object: Object, wrote: Wrote) -> Result<Wrote> {
        match (&wrote, self.contests.fight(&object.to_string(), Timestamp::now())) {
            (Wrote::Unchanged | Wrote::PutBack(_), Some(Told { field, by })) => Err(Error::Contested { object, field, by }),
            _ => Ok(wrote),
        }
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

    fn controls(&self, object: &KnownObject) -> bool {
        object.controller().is_some_and(|controller| *controller.uid == *self.owner)
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

fn rendered(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(names::ANNOTATION_RENDERED_HASH).map(String::as_str)
}
