//! One namespace for each test: restricted, removed afterwards, explained on failure.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace as CoreNamespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Client, Resource, ResourceExt};
use mcp_crds::McpCluster;

use crate::cluster::Cluster;
use crate::diagnose::diagnose;
use crate::failure::{Failure, Outcome, While as _};
use crate::operator::Operator;
use crate::run::{self, Run};
use crate::wait::eventually;
use crate::{apply, claim};

/// Who works in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operated {
    /// The operator that works in every namespace.
    ClusterWide,
    /// One that works here only, and lives here.
    ByItsOwn,
    /// There is nothing to do.
    ByNobody,
}

/// A namespace of one test.
#[derive(Clone)]
pub struct Namespace {
    run: Arc<Run>,
    name: Arc<str>,
}

impl Namespace {
    /// Runs a test in a namespace of its own, at most for `within`, with an operator of its own there when `operated` asks
    /// for one. The namespace is deleted whether the test succeeds, fails or panics; its end is awaited by [`Run::finish`].
    ///
    /// # Errors
    /// Why the test failed, with what the namespace looked like then.
    pub async fn with<Fut>(run: Arc<Run>, operated: Operated, within: Duration, test: impl FnOnce(Self) -> Fut) -> Outcome
    where
        Fut: Future<Output = Outcome>,
    {
        let namespace = Self::create(run).await?;
        let body = async {
            if operated == Operated::ByItsOwn {
                Operator::install(&namespace).await.doing("installing an operator")?;
            }
            test(namespace.clone()).await
        };
        let outcome = match tokio::time::timeout(within, AssertUnwindSafe(body).catch_unwind()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Failure::new(format!("panicked: {}", panic_message(panic.as_ref())))),
            Err(_) => Err(Failure::new(format!("did not end within {within:?}"))),
        };
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(why) => Err(Failure::new(format!("{why}\n\n{}", diagnose(namespace.client(), &namespace.name).await))),
        };
        let removed = namespace.delete().await;
        outcome.and(removed)
    }

    async fn create(run: Arc<Run>) -> Outcome<Self> {
        let name = run.unique(run::NAMESPACE);
        let mut labels = run.labels();
        labels.insert("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned());
        let object = CoreNamespace {
            metadata: ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() },
            ..CoreNamespace::default()
        };
        let namespaces: Api<CoreNamespace> = Api::all(run.client.clone());
        namespaces.create(&PostParams::default(), &object).await.doing("making a namespace")?;
        let namespace = Self { run, name: name.into() };
        // Pods are refused until it exists, and its arrival would look like something left behind.
        eventually("the default ServiceAccount", Duration::from_secs(20), || async {
            claim!(namespace.api::<ServiceAccount>().get_opt("default").await?.is_some(), "not there");
            Ok(())
        })
        .await?;
        Ok(namespace)
    }

    /// Another namespace of the same run, for a test that needs two. The test deletes it; what it leaves behind is removed with
    /// the run.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn beside(&self) -> Outcome<Self> {
        Self::create(self.run.clone()).await
    }

    async fn delete(&self) -> Outcome {
        // What the pods had to show was shown: they end now. The namespace controller would look again only after half of
        // the longest grace period, which is minutes for shards that may drain.
        let ended = self.end_pods().await;
        let namespaces: Api<CoreNamespace> = Api::all(self.client().clone());
        namespaces.delete(&self.name, &DeleteParams::background()).await.doing("deleting the namespace")?;
        ended
    }

    async fn end_pods(&self) -> Outcome {
        let (background, all) = (DeleteParams::background(), ListParams::default());
        let at_once = DeleteParams::default().grace_period(1);
        let _ = self.api::<McpCluster>().delete_collection(&background, &all).await.doing("deleting the McpClusters")?;
        let _ = self.api::<Deployment>().delete_collection(&background, &all).await.doing("deleting the Deployments")?;
        eventually("the end of the pods", Duration::from_secs(45), || async {
            let pods: Api<Pod> = self.api();
            let _ = pods.delete_collection(&at_once, &all).await?;
            let left: Vec<_> = pods.list(&all).await?.items.iter().map(ResourceExt::name_any).collect();
            claim!(left.is_empty(), "{}", left.join(", "));
            Ok(())
        })
        .await
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run it belongs to.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.run.client
    }

    /// The objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client().clone(), &self.name)
    }

    /// The `McpCluster` of this name in this namespace, whether it exists or not.
    pub fn cluster(&self, name: &str) -> Cluster {
        Cluster::new(self.clone(), name)
    }

    /// Applies every document of `yaml` here, server-side and strictly validated.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn apply(&self, yaml: &str) -> Outcome {
        for document in apply::documents(yaml)? {
            apply::apply(self.client(), &self.name, &document).await?;
        }
        Ok(())
    }

    /// Asks the API server whether it would accept a change here, and stores nothing.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn ask(&self, change: apply::Change, document: &serde_json::Value) -> Result<(), kube::Error> {
        apply::ask(self.client(), &self.name, change, document).await
    }

    /// Runs kubectl in this namespace.
    ///
    /// # Errors
    /// When it does not succeed; the failure carries what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> Outcome<String> {
        let here = ["--namespace", &self.name];
        self.run.kubectl(&[&here[..], arguments].concat()).await
    }

    /// Runs kubectl in this namespace with an input.
    ///
    /// # Errors
    /// When it does not succeed; the failure carries what it said.
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Outcome<String> {
        let here = ["--namespace", &self.name];
        self.run.kubectl_with_input(&[&here[..], arguments].concat(), input).await
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
