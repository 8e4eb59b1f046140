//! What a run needs on the cluster, and its removal. Everything is found by its label, so what a killed run left is removed by the
//! next one.

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use mcp_crds::McpCluster;
use mcp_tests::apply::{apply, documents};
use mcp_tests::failure::While as _;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Outcome, claim};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::manifests::{self, HOME, KWOK, LABEL, OPERATORS};
use crate::options::Options;
use crate::say;

/// The operator's CRD, as it ships.
const CRD: &str = include_str!("../../../crds/mcpclusters.yaml");
const CRD_NAME: &str = "mcpclusters.mcpcluster.dev";
/// Where an operator is installed as a rule.
const INSTALLED: (&str, &str) = ("mcp-system", "mcp-operator");
/// On its Deployment while it stands still: the replicas to give back.
const REPLICAS: &str = "mcpcluster.dev/scale-bench-replicas";
/// Requests of ours under way at one time.
const AT_ONCE: usize = 16;
/// Tokens outlive any run.
const TOKEN_SECONDS: i64 = 6 * 3600;
/// The namespaces' content is removed by the controller-manager, kind by kind.
const REMOVED_WITHIN: Duration = Duration::from_mins(15);

/// The cluster, with the administrator's rights.
#[derive(Clone)]
pub(crate) struct Site {
    pub client: Client,
    server: String,
    authority: String,
}

impl Site {
    /// Reads the administrator's kubeconfig.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) async fn open(kubeconfig: &Path) -> Outcome<Self> {
        let read = kube::config::Kubeconfig::read_from(kubeconfig).doing(&kubeconfig.display().to_string())?;
        let named = read.clusters.first().and_then(|named| named.cluster.as_ref());
        let field =
            |value: Option<String>, name: &str| value.ok_or_else(|| Failure::new(format!("the kubeconfig has no {name}")));
        let server = field(named.and_then(|cluster| cluster.server.clone()), "server")?;
        let authority =
            field(named.and_then(|cluster| cluster.certificate_authority_data.clone()), "certificate-authority-data")?;
        let config = kube::Config::from_custom_kubeconfig(read, &kube::config::KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)?, server, authority })
    }

    /// Makes all that has to be there before an operator starts, and writes the kubeconfigs of its accounts to the folder.
    ///
    /// # Errors
    /// What the API server refuses; and a cluster with McpClusters of somebody else.
    pub(crate) async fn prepare(&self, options: &Options, folder: &Path) -> Outcome {
        self.bring_crd().await?;
        let others =
            Api::<McpCluster>::all(self.client.clone()).list(&ListParams::default().labels(&format!("{LABEL}!=true"))).await?;
        claim!(
            others.items.is_empty(),
            "the cluster has McpClusters of others, which the operators under test would reconcile: {}/{} and {} more",
            others.items[0].namespace().unwrap_or_default(),
            others.items[0].name_any(),
            others.items.len() - 1
        );
        self.stop_installed().await?;
        let names = std::iter::once(HOME.to_owned()).chain((0..options.namespaces).map(manifests::namespace));
        for name in names {
            apply(&self.client, "", &manifests::namespace_manifest(&name)).await.doing(&name)?;
        }
        for name in OPERATORS.iter().chain([&KWOK]) {
            apply(&self.client, HOME, &manifests::account(name)).await.doing(name)?;
        }
        for object in manifests::rights()?.into_iter().chain(manifests::flow_schemas()?) {
            apply(&self.client, HOME, &object).await.doing("the operators' rights")?;
        }
        for name in OPERATORS.iter().chain([&KWOK]) {
            let token = self.token(name).await?;
            let path = kubeconfig(folder, name);
            std::fs::write(&path, manifests::kubeconfig(&self.server, &self.authority, &token).to_string())
                .doing(&path.display().to_string())?;
        }
        let nodes: Vec<_> = (0..options.nodes()).map(manifests::node).collect();
        self.create::<Node>(&Api::all(self.client.clone()), nodes).await
    }

    /// Creates objects, several at a time.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn create<K>(&self, api: &Api<K>, objects: Vec<Value>) -> Outcome
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
    {
        let creating = stream::iter(objects).map(|object| async move {
            let object: K = serde_json::from_value(object)?;
            let name = object.name_any();
            api.create(&PostParams::default(), &object).await.doing(&name)?;
            Ok::<_, Failure>(())
        });
        creating.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Whether every fake node is Ready and has its range of addresses.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) async fn nodes_ready(&self, wanted: u32) -> Outcome {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ours()).await?;
        let is_ready = |node: &&Node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            let is_up = conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
            let spec = node.spec.as_ref();
            // Until the node controller has looked, it is closed.
            let is_open = spec.and_then(|spec| spec.taints.as_ref()).is_none_or(|taints| taints.len() == 1);
            is_up && is_open && spec.is_some_and(|spec| spec.pod_cidr.is_some())
        };
        let ready = nodes.items.iter().filter(is_ready).count();
        claim!(ready == wanted as usize, "{ready} of {wanted} fake nodes are Ready");
        Ok(())
    }

    /// Removes everything that a run made, and gives an operator that was stopped its replicas back. May be called at any time,
    /// but not while an operator under test runs.
    ///
    /// # Errors
    /// What could not be removed; the rest is.
    pub(crate) async fn clear(&self) -> Outcome {
        let mut results = vec![];
        // Owners first, and pods without the time to end that nobody needs: the rest is left to the controller-manager.
        let namespaces = Api::<Namespace>::all(self.client.clone()).list(&ours()).await?;
        let names: Vec<_> = namespaces.items.iter().map(kube::ResourceExt::name_any).collect();
        if !names.is_empty() {
            say(&format!("removing the content of {} namespaces", names.len()));
        }
        results.push(self.empty(&names).await);
        results.push(self.remove_all::<Namespace>().await);
        results.push(self.remove_all::<ClusterRoleBinding>().await);
        results.push(self.remove_all::<ClusterRole>().await);
        results.push(self.remove_all::<FlowSchema>().await);
        results.push(
            eventually("the end of all namespaces of the run", REMOVED_WITHIN, || async {
                let left = Api::<Namespace>::all(self.client.clone()).list_metadata(&ours()).await?.items.len();
                claim!(left == 0, "{left} are left");
                Ok(())
            })
            .await,
        );
        // Last: a pod whose node is gone waits for the collector of orphans.
        results.push(self.remove_all::<Node>().await);
        results.push(self.remove_all::<CustomResourceDefinition>().await);
        results.push(self.start_installed().await);
        results.into_iter().collect()
    }

    async fn empty(&self, namespaces: &[String]) -> Outcome {
        let at_once = DeleteParams::default().grace_period(0);
        let emptying = stream::iter(namespaces).map(|name| {
            let at_once = &at_once;
            async move {
                let clusters = Api::<McpCluster>::namespaced(self.client.clone(), name);
                let orphaning = DeleteParams::background();
                match clusters.delete_collection(&orphaning, &ListParams::default()).await {
                    // No CRD, no McpClusters.
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    other => drop(other?),
                }
                Api::<Pod>::namespaced(self.client.clone(), name).delete_collection(at_once, &ListParams::default()).await?;
                Ok::<_, Failure>(())
            }
        });
        emptying.buffer_unordered(4).try_collect().await
    }

    async fn remove_all<K>(&self) -> Outcome
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        for object in api.list_metadata(&ours()).await?.items {
            match api.delete(&object.name_any(), &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other.doing(&object.name_any())?),
            }
        }
        Ok(())
    }

    /// The CRD, unless there is one; one of ours is labelled, and removed.
    async fn bring_crd(&self) -> Outcome {
        let api = Api::<CustomResourceDefinition>::all(self.client.clone());
        if api.get_opt(CRD_NAME).await?.is_none() {
            for mut document in documents(CRD)? {
                document["metadata"]["labels"][LABEL] = json!("true");
                apply(&self.client, "", &document).await.doing("the CRD")?;
            }
        }
        eventually("the CRD", Duration::from_mins(2), || async {
            let clusters = Api::<McpCluster>::all(self.client.clone());
            clusters.list_metadata(&ListParams::default().limit(1)).await?;
            Ok(())
        })
        .await
    }

    /// An operator that works in every namespace would reconcile the run's McpClusters, too.
    async fn stop_installed(&self) -> Outcome {
        let api = Api::<Deployment>::namespaced(self.client.clone(), INSTALLED.0);
        let Some(deployment) = api.get_opt(INSTALLED.1).await? else { return Ok(()) };
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        if replicas == 0 {
            return Ok(());
        }
        say(&format!("the operator of {} stands still meanwhile", INSTALLED.0));
        let change = json!({"metadata": {"annotations": {REPLICAS: replicas.to_string()}}, "spec": {"replicas": 0}});
        api.patch(INSTALLED.1, &PatchParams::default(), &Patch::Merge(change)).await?;
        eventually("the end of the installed operator", Duration::from_mins(2), || async {
            let pods = Api::<Pod>::namespaced(self.client.clone(), INSTALLED.0);
            let left =
                pods.list_metadata(&ListParams::default().labels(&format!("app.kubernetes.io/name={}", INSTALLED.1))).await?;
            claim!(left.items.is_empty(), "{} pods of it are left", left.items.len());
            Ok(())
        })
        .await
    }

    async fn start_installed(&self) -> Outcome {
        let api = Api::<Deployment>::namespaced(self.client.clone(), INSTALLED.0);
        let Some(deployment) = api.get_opt(INSTALLED.1).await? else { return Ok(()) };
        let Some(replicas) = deployment.annotations().get(REPLICAS).and_then(|text| text.parse::<i32>().ok()) else {
            return Ok(());
        };
        let change = json!({"metadata": {"annotations": {REPLICAS: null}}, "spec": {"replicas": replicas}});
        api.patch(INSTALLED.1, &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }

    async fn token(&self, account: &str) -> Outcome<String> {
        let request = TokenRequest {
            spec: TokenRequestSpec { audiences: vec![], bound_object_ref: None, expiration_seconds: Some(TOKEN_SECONDS) },
            ..TokenRequest::default()
        };
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), HOME);
        let granted = api.create_token_request(account, &PostParams::default(), &request).await.doing(account)?;
        granted.status.map(|status| status.token).ok_or_else(|| Failure::new(format!("no token for {account}")))
    }
}

/// The file in the folder that lets in as this account.
pub(crate) fn kubeconfig(folder: &Path, account: &str) -> std::path::PathBuf {
    folder.join(format!("{account}.kubeconfig"))
}

fn ours() -> ListParams {
    ListParams::default().labels(&format!("{LABEL}=true"))
}
