//! Orphans. An object with our labels and without a controller is adopted, as controllers do: what
//! `kubectl delete --cascade=orphan` left goes on under a new resource of the same name.
//!
//! Before that the API server is asked once more for the resource. Watches of two kinds come in no order: the garbage collector
//! takes our name off an object, and we hear of that before we hear that our resource is being deleted. What we took over in
//! its name then would be deleted with it.

use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams};
use mcp_crds::McpCluster;
use serde_json::json;

use super::{Writer, is_gone};
use crate::client::patiently;
use crate::error::{Object, Result, Step};
use crate::names;
use crate::observe::{KnownObject, KnownPod, Shelved as _};

// === impl Writer ===

impl Writer {
    /// Whether the resource is still there, the same one, and not about to go: asked of the API server, never of a watch.
    pub(super) async fn may_adopt(&self) -> Result<bool> {
        let api: Api<McpCluster> = self.api();
        let object = Object::of::<McpCluster>(&self.cluster);
        let found = patiently(Step::Read, object, || api.get_metadata_opt(&self.cluster)).await?;
        Ok(found.is_some_and(|found| {
            found.metadata.uid.as_deref() == Some(self.owner.as_str()) && found.metadata.deletion_timestamp.is_none()
        }))
    }

    /// Makes this resource the controller of a pod that has none. `false` when the pod, or the resource, goes or has changed
    /// meanwhile: then a watch tells.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn adopt_pod(&self, pod: &KnownPod, owner: OwnerReference) -> Result<bool> {
        if !self.may_adopt().await? {
            return Ok(false);
        }
        let name = pod.name().to_owned();
        let owners: Vec<_> = pod.owners().iter().cloned().chain([owner]).collect();
        let patch = Patch::Merge(json!({"metadata": {
            "uid": pod.uid(), "resourceVersion": pod.version(), "ownerReferences": owners,
        }}));
        let parameters = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api: Api<Pod> = self.api();
        self.count::<Pod>(Step::Label);
        let patched = patiently(Step::Label, Object::of::<Pod>(&name), || api.patch(&name, &parameters, &patch)).await;
        if is_gone(&patched) {
            return Ok(false);
        }
        self.stores.pods.wrote(patched?);
        Ok(true)
    }

    /// Makes a Secret that has no owner ours. None when it, or the resource, goes or has changed meanwhile: then both are to be
    /// read again.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn adopt_secret(&self, read: &ObjectMeta, owner: &OwnerReference) -> Result<Option<Secret>> {
        if !self.may_adopt().await? {
            return Ok(None);
        }
        self.patch_this_version(read, json!({"metadata": {"ownerReferences": [owner]}})).await
    }
}

/// Whether an object has no controller and the labels of the one that is to be applied.
pub(super) fn is_orphan(live: &KnownObject, object: &ObjectMeta) -> bool {
    let label = |key: &str| object.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let same = |label: Option<&str>, wanted: Option<&str>| label.is_some() && label == wanted;
    live.controller().is_none()
        && !live.is_terminating()
        && same(live.cluster(), label(names::LABEL_CLUSTER))
        && same(live.managed_by(), label(names::LABEL_MANAGED_BY))
}
