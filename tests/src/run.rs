//! One run of the tests: its client, its mark on everything it makes, and what dead runs left behind.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::failure::{Failure, Outcome, While as _};
use crate::target::{Target, output};
use crate::wait::eventually;
use crate::{apply, audit, claim, fail};

/// Namespaces are named for it.
pub const NAMESPACE: &str = "mcp-test";
/// Label of every namespace that a run makes; its value names the run.
pub const RUN_LABEL: &str = "mcp-tests/run";
/// Label with the machine of the run.
const MACHINE_LABEL: &str = "mcp-tests/machine";
/// Label with the process of the run.
const PROCESS_LABEL: &str = "mcp-tests/process";
/// Namespaces end with their pods, and a pod may drain.
const NAMESPACES_END_WITHIN: Duration = Duration::from_mins(2);

/// Whose CustomResourceDefinition the tests work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// The one that is installed.
    Installed,
    /// The one in `crds/`, applied first.
    OfThisCheckout,
}

/// One run of the tests on one cluster.
pub struct Run {
    /// Where.
    pub target: Target,
    /// As whom: the administrator of the kubeconfig.
    pub client: Client,
    /// How long the audit log was when this run began, where there is one.
    pub audit_began: u64,
    id: String,
    machine: String,
    next: AtomicU32,
}

impl Run {
    /// Connects, checks that the operator's API is installed (or installs that of this checkout), and removes what dead runs
    /// of this machine left.
    ///
    /// # Errors
    /// When the cluster does not answer or has no `McpCluster`s.
    pub async fn start(target: Target, definition: Definition) -> Outcome<Self> {
        let client = target.client().await?;
        client.apiserver_version().await.doing("asking the API server for its version")?;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        if definition == Definition::OfThisCheckout {
            apply_definition(&client).await?;
        }
        if definitions.get_opt("mcpclusters.mcpcluster.dev").await?.is_none() {
            fail!(
                "the cluster has no CustomResourceDefinition mcpclusters.mcpcluster.dev: `make e2e` installs the operator first"
            );
        }
        let machine = output(&mut Command::new("hostname")).await.unwrap_or_else(|_| "unknown".to_owned());
        let machine: String = machine.trim().chars().filter(char::is_ascii_alphanumeric).take(40).collect();
        let audit_began = audit::length(&target).await;
        let run = Self { target, client, audit_began, id: random_suffix(), machine, next: AtomicU32::new(0) };
        run.sweep().await?;
        Ok(run)
    }

    /// How many nodes take pods.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn nodes(&self) -> Outcome<usize> {
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?.items;
        let takes_pods = |node: &&Node| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true));
        Ok(nodes.iter().filter(takes_pods).count())
    }

    /// A name that no other run and no other test of this run uses.
    pub fn unique(&self, stem: &str) -> String {
        format!("{stem}-{}-{}", self.id, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// What the name of every namespace of this run begins with.
    pub fn prefix(&self) -> String {
        format!("{NAMESPACE}-{}-", self.id)
    }

    /// What marks a namespace as this run's.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [(RUN_LABEL, self.id.clone()), (MACHINE_LABEL, self.machine.clone()), (PROCESS_LABEL, std::process::id().to_string())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// Waits until every namespace of this run is gone.
    ///
    /// # Errors
    /// Which are still there, and why Kubernetes says they are.
    pub async fn finish(&self) -> Outcome {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(&format!("{RUN_LABEL}={}", self.id));
        eventually("the end of every test namespace", NAMESPACES_END_WITHIN, || async {
            let left = namespaces.list(&ours).await?;
            let shown: Vec<_> = left.items.iter().map(remains).collect();
            claim!(shown.is_empty(), "still there: {}", shown.join("; "));
            Ok(())
        })
        .await
    }

    /// Deletes the namespaces of this run, for a run that is interrupted.
    pub async fn abandon(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(&format!("{RUN_LABEL}={}", self.id));
        for namespace in namespaces.list(&ours).await.map(|list| list.items).unwrap_or_default() {
            if let Some(name) = namespace.metadata.name {
                let _ = namespaces.delete(&name, &DeleteParams::background()).await;
            }
        }
    }

    /// Deletes namespaces of runs on this machine whose process is gone.
    async fn sweep(&self) -> Outcome {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let mine = ListParams::default().labels(&format!("{MACHINE_LABEL}={}", self.machine));
        for namespace in namespaces.list(&mine).await?.items {
            let process = namespace.metadata.labels.as_ref().and_then(|labels| labels.get(PROCESS_LABEL));
            let dead = process.is_none_or(|process| is_dead(process));
            if let (true, Some(name)) = (dead, namespace.metadata.name.as_deref()) {
                println!("deleting namespace {name}: the run that made it is gone");
                namespaces.delete(name, &DeleteParams::background()).await?;
            }
        }
        Ok(())
    }

    /// Runs kubectl and returns what it prints.
    ///
    /// # Errors
    /// When it does not succeed; the failure carries what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> Outcome<String> {
        output(self.target.kubectl().args(arguments)).await
    }

    /// Runs kubectl with an input.
    ///
    /// # Errors
    /// As [`Run::kubectl`].
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Outcome<String> {
        let mut command = self.target.kubectl();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().doing("starting kubectl")?;
        let mut stdin = child.stdin.take().ok_or_else(|| Failure::new("kubectl has no standard input"))?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            fail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Applies the CustomResourceDefinition of this checkout.
///
/// # Errors
/// What the API server says.
pub async fn apply_definition(client: &Client) -> Outcome {
    for document in apply::documents(&read("crds/mcpclusters.yaml")?)? {
        apply::apply(client, "", &document).await?;
    }
    Ok(())
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Reads a file of the repository.
///
/// # Errors
/// When it cannot be read; the failure names it.
pub fn read(path: &str) -> Outcome<String> {
    std::fs::read_to_string(repository().join(path)).doing(path)
}

fn remains(namespace: &Namespace) -> String {
    let conditions = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let why: Vec<_> =
        conditions.filter(|c| c.status == "True").map(|c| c.message.clone().unwrap_or_else(|| c.type_.clone())).collect();
    format!("{} ({})", namespace.metadata.name.clone().unwrap_or_default(), why.join("; "))
}

/// Whether no process has this id. Where there is no `/proc`, nobody is declared dead.
fn is_dead(process: &str) -> bool {
    Path::new("/proc/self").exists() && !Path::new("/proc").join(process).exists()
}

/// Five hexadecimal digits that another run will hardly draw: the standard library seeds its hasher from the system.
fn random_suffix() -> String {
    format!("{:05x}", RandomState::new().build_hasher().finish() & 0xf_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_dead_and_an_impossible_one_is() {
        assert!(!is_dead(&std::process::id().to_string()));
        assert!(is_dead("4194305"), "above the largest process id of Linux");
    }

    #[test]
    fn suffixes_fit_a_name_and_differ() {
        let suffixes: std::collections::BTreeSet<_> = (0..20).map(|_| random_suffix()).collect();
        assert!(suffixes.len() > 18, "{suffixes:?}");
        assert!(suffixes.iter().all(|suffix| suffix.len() == 5), "{suffixes:?}");
    }
}
