//! Rewriting a Secret of ours in place: one version of it, and no other.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Writer, is_gone, name_of};
use crate::client::patiently;
use crate::error::{Object, Result, Step};
use crate::names;

// === impl Writer ===

impl Writer {
    /// Sets these keys and annotations of a Secret as it was read, and leaves the others. None when it changed meanwhile, or is
    /// gone: then it is to be read again.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn rewrite_secret(
        &self,
        read: &ObjectMeta,
        data: &[(&str, Vec<u8>)],
        annotations: &[(&str, String)],
    ) -> Result<Option<Secret>> {
        let data: serde_json::Map<_, _> =
            data.iter().map(|(key, value)| ((*key).to_owned(), json!(ByteString(value.clone())))).collect();
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        self.patch_this_version(read, json!({"data": data, "metadata": {"annotations": annotations}})).await
    }

    pub(super) async fn patch_this_version(&self, read: &ObjectMeta, mut change: Value) -> Result<Option<Secret>> {
        change["metadata"]["uid"] = json!(read.uid);
        change["metadata"]["resourceVersion"] = json!(read.resource_version);
        let name = name_of(read);
        let api: Api<Secret> = self.api();
        let parameters = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(change);
        self.count::<Secret>(Step::Apply);
        let patched = patiently(Step::Apply, Object::of::<Secret>(&name), || api.patch(&name, &parameters, &patch)).await;
        if is_gone(&patched) { Ok(None) } else { patched.map(Some) }
    }
}
