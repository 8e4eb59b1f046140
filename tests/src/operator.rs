//! An operator of one namespace, for tests that disturb it: installed from `manifests/overlays/namespaced`, as a user would.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::apply::{apply, documents};
use crate::failure::{Failure, Outcome};
use crate::namespace::Namespace;
use crate::process::Process;
use crate::run::{Run, repository};
use crate::wait::eventually;
use crate::{claim, cluster};

/// Name of its Deployment, its ServiceAccount and its Role.
pub const NAME: &str = "mcp-operator";
/// Where `make e2e` installs the operator that works in every namespace.
pub const SYSTEM_NAMESPACE: &str = "mcp-system";
const OVERLAY: &str = "manifests/overlays/namespaced";
const STARTS_WITHIN: Duration = Duration::from_secs(90);

/// The images under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Registry and path.
    pub registry: String,
    /// Of every image.
    pub tag: String,
}

/// An operator that works in one namespace only, and lives there.
#[derive(Clone)]
pub struct Operator {
    namespace: Namespace,
}

// === impl Images ===

impl Images {
    /// What `IMAGE_REGISTRY` and `IMAGE_TAG` say; `make e2e` sets them.
    pub fn from_env() -> Self {
        let read = |name, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
        Self { registry: read("IMAGE_REGISTRY", "localhost"), tag: read("IMAGE_TAG", "dev") }
    }

    /// `registry/NAME:tag`
    pub fn named(&self, name: &str) -> String {
        format!("{}/{name}:{}", self.registry, self.tag)
    }
}

// === impl Operator ===

impl Operator {
    /// The one of this namespace, whether it is installed or not.
    pub fn of(namespace: &Namespace) -> Self {
        Self { namespace: namespace.clone() }
    }

    /// Installs it and waits until it is Ready.
    ///
    /// # Errors
    /// When the manifests cannot be rendered or are refused, or it does not start.
    pub async fn install(namespace: &Namespace) -> Outcome<Self> {
        let images = Images::from_env();
        let overlay = repository().join(OVERLAY);
        let rendered = namespace.run().kubectl(&["kustomize", &overlay.to_string_lossy()]).await?;
        for mut document in documents(&rendered)? {
            // Of the whole cluster, and there already.
            if ["CustomResourceDefinition", "Namespace"].contains(&document["kind"].as_str().unwrap_or_default()) {
                continue;
            }
            settle(&mut document, namespace.name(), &images);
            apply(namespace.client(), namespace.name(), &document).await?;
        }
        let operator = Self::of(namespace);
        operator.until_ready().await?;
        Ok(operator)
    }

    /// Waits until every replica of the present Deployment is Ready and none of an older one is left.
    ///
    /// # Errors
    /// What its Deployment says instead.
    pub async fn until_ready(&self) -> Outcome {
        eventually("an operator that is Ready", STARTS_WITHIN, || async {
            let deployment = self.deployments().get(NAME).await?;
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.clone().unwrap_or_default();
            claim!(status.observed_generation >= deployment.metadata.generation, "not observed yet");
            let counts = [status.replicas, status.updated_replicas, status.ready_replicas].map(Option::unwrap_or_default);
            claim!(counts == [wanted; 3], "replicas, updated, ready: {counts:?} of {wanted}");
            Ok(())
        })
        .await
    }

    /// Changes the number of its replicas and waits until it is so.
    ///
    /// # Errors
    /// When it does not become so.
    pub async fn scale(&self, replicas: i32) -> Outcome {
        let change = json!({"spec": {"replicas": replicas}});
        self.deployments().patch(NAME, &PatchParams::default(), &Patch::Merge(change)).await?;
        self.until_ready().await?;
        eventually("no pod of the operator too many", STARTS_WITHIN, || async {
            let pods: Vec<_> = self.pods().await?.iter().map(kube::ResourceExt::name_any).collect();
            claim!(i32::try_from(pods.len()) == Ok(replicas), "pods: {}", pods.join(", "));
            Ok(())
        })
        .await
    }

    /// Its pods, also those that end.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self) -> Outcome<Vec<Pod>> {
        let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
        Ok(self.namespace.api::<Pod>().list(&ours).await?.items)
    }

    /// Its pods that are Ready and not ending, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn ready_pods(&self) -> Outcome<Vec<String>> {
        let pods = self.pods().await?;
        let live = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && cluster::is_ready(pod));
        Ok(live.map(kube::ResourceExt::name_any).collect())
    }

    /// Who holds its lease: the name of a process; none when nobody does.
    ///
    /// # Errors
    /// When the lease cannot be read.
    pub async fn holder(&self) -> Outcome<Option<String>> {
        let lease = self.leases().get_opt(NAME).await?;
        let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
        Ok(holder.filter(|holder| !holder.is_empty()))
    }

    /// Waits until a process holds its lease, but not the one of this name.
    ///
    /// # Errors
    /// Who holds it instead.
    pub async fn until_held(&self, not_by: Option<&str>, within: Duration) -> Outcome<String> {
        eventually("another holder of the lease", within, || async {
            let holder = self.holder().await?;
            let other = holder.clone().filter(|holder| Some(holder.as_str()) != not_by);
            other.ok_or_else(|| Failure::new(format!("it is held by {holder:?}")))
        })
        .await
    }

    /// The pod of a process that holds or held the lease.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn pod_of(&self, holder: &str) -> Outcome<Pod> {
        // A process adds something of its own to the name of its pod.
        let name = holder.rsplit_once('_').map_or(holder, |(pod, _)| pod);
        Ok(self.namespace.api::<Pod>().get(name).await?)
    }

    /// The process in one of its pods.
    ///
    /// # Errors
    /// When there is none, or the cluster does not run on this machine.
    pub fn process(pod: &Pod) -> Outcome<Process> {
        Process::of(pod, NAME)
    }

    /// Its leases.
    pub fn leases(&self) -> Api<Lease> {
        self.namespace.api()
    }

    /// Changes its Deployment by a strategic merge patch, as `kubectl patch` does.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn patch(&self, change: &Value) -> Outcome {
        self.deployments().patch(NAME, &PatchParams::default(), &Patch::Strategic(change)).await?;
        Ok(())
    }

    /// Its Deployment.
    pub fn deployments(&self) -> Api<Deployment> {
        self.namespace.api()
    }

    /// The namespace it lives in and works in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// Puts a rendered object of the overlay into a namespace, with the images under test.
fn settle(document: &mut Value, namespace: &str, images: &Images) {
    document["metadata"]["namespace"] = json!(namespace);
    for subject in list(document, "/subjects") {
        subject["namespace"] = json!(namespace);
    }
    if document["kind"] == "Deployment" {
        // One works as well as two; the tests of its leadership scale it.
        document["spec"]["replicas"] = json!(1);
    }
    for container in list(document, "/spec/template/spec/containers") {
        container["image"] = json!(images.named("mcp-operator"));
        for variable in list(container, "/env") {
            match variable["name"].as_str() {
                Some("MCP_OPERATOR_SERVER_IMAGE") => variable["value"] = json!(images.named("mcp-server")),
                Some("MCP_OPERATOR_NAMESPACES") => variable["value"] = json!(namespace),
                _ => {}
            }
        }
    }
}

/// The items of a list, none when there is no such list.
fn list<'a>(document: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    document.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Stops the operator that works in every namespace, when there is one; returns how many replicas it had.
///
/// # Errors
/// When it does not stop.
pub async fn stop_cluster_wide(run: &Run) -> Outcome<Option<i32>> {
    let deployments: Api<Deployment> = Api::namespaced(run.client.clone(), SYSTEM_NAMESPACE);
    let Some(deployment) = deployments.get_opt(NAME).await? else { return Ok(None) };
    let replicas = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    scale_cluster_wide(run, 0).await?;
    let pods: Api<Pod> = Api::namespaced(run.client.clone(), SYSTEM_NAMESPACE);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
    eventually("the end of the cluster-wide operator", STARTS_WITHIN, || async {
        let left: Vec<_> = pods.list(&ours).await?.items.iter().map(kube::ResourceExt::name_any).collect();
        claim!(left.is_empty(), "{}", left.join(", "));
        Ok(())
    })
    .await?;
    Ok(Some(replicas))
}

/// Gives the operator that works in every namespace this many replicas.
///
/// # Errors
/// What the API server says.
pub async fn scale_cluster_wide(run: &Run, replicas: i32) -> Outcome {
    let deployments: Api<Deployment> = Api::namespaced(run.client.clone(), SYSTEM_NAMESPACE);
    let change = json!({"spec": {"replicas": replicas}});
    let scaled = deployments.patch(NAME, &PatchParams::default(), &Patch::Merge(change)).await?;
    claim!(scaled.name_any() == NAME, "another Deployment was scaled");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_objects_move_into_the_namespace_with_the_images_under_test() {
        let images = Images { registry: "localhost".into(), tag: "t".into() };
        let mut binding = json!({"kind": "RoleBinding", "metadata": {"namespace": "a"}, "subjects": [{"namespace": "a"}]});
        settle(&mut binding, "b", &images);
        assert_eq!(binding.as_object().unwrap().len(), 3, "nothing is added");
        assert_eq!((&binding["metadata"]["namespace"], &binding["subjects"][0]["namespace"]), (&json!("b"), &json!("b")));
        let env = json!([
            {"name": "MCP_OPERATOR_SERVER_IMAGE", "value": "mcp-server"},
            {"name": "MCP_OPERATOR_NAMESPACES", "value": "mcp-system"},
            {"name": "MCP_OPERATOR_LOG_FORMAT", "value": "json"},
        ]);
        let mut deployment = json!({"spec": {"template": {"spec": {"containers": [{"image": "mcp-operator", "env": env}]}}}});
        settle(&mut deployment, "b", &images);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "localhost/mcp-operator:t");
        let values: Vec<_> = container["env"].as_array().unwrap().iter().map(|v| v["value"].as_str().unwrap()).collect();
        assert_eq!(values, ["localhost/mcp-server:t", "b", "json"]);
    }
}
