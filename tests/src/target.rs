//! Which cluster the tests run on: named by the caller, never guessed.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::process::Command;

use crate::failure::{Outcome, While as _};
use crate::{claim, fail};

/// Names the cluster: `local` or `context:NAME`.
pub const ENV_CLUSTER: &str = "MCP_TEST_CLUSTER";
/// Path of the `local-cluster` program, for `local`.
pub const ENV_LOCAL_CLUSTER: &str = "LOCAL_CLUSTER";

/// Where the tests run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The cluster of `tests/local-cluster` on this machine.
    Local {
        /// Its program.
        program: PathBuf,
    },
    /// A context of the caller's kubeconfig.
    Context(String),
}

impl Target {
    /// Reads the target from the environment.
    ///
    /// # Errors
    /// What to set, for a person.
    pub fn from_env(read: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let named = read(ENV_CLUSTER).filter(|name| !name.is_empty());
        match named.as_deref() {
            Some("local") => match read(ENV_LOCAL_CLUSTER).filter(|path| !path.is_empty()) {
                Some(program) => Ok(Self::Local { program: program.into() }),
                None => Err(format!(
                    "{ENV_CLUSTER}=local needs {ENV_LOCAL_CLUSTER}, the path of the local-cluster program; `make e2e` sets both"
                )),
            },
            Some(name) => match name.strip_prefix("context:").filter(|context| !context.is_empty()) {
                Some(context) => Ok(Self::Context(context.to_owned())),
                None => Err(format!("{ENV_CLUSTER}={name}: write `local`, or `context:NAME` for a context of your kubeconfig")),
            },
            None => Err(format!(
                "these tests create and delete things on a Kubernetes cluster, so the cluster must be named: {ENV_CLUSTER}=local or \
                 {ENV_CLUSTER}=context:NAME (KUBECONFIG or a current context alone is never used). `make e2e` and \
                 `make e2e CLUSTER=context:NAME` set it"
            )),
        }
    }

    /// Whether the machine under the cluster is this one.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local { .. })
    }

    /// In words, for the first line of a run.
    pub fn describe(&self) -> String {
        match self {
            Self::Local { program } => format!("the local cluster of {}", program.display()),
            Self::Context(name) => format!("context {name} of your kubeconfig"),
        }
    }

    /// A client of this cluster and of no other.
    ///
    /// # Errors
    /// When there is no such cluster, or its configuration cannot be read.
    pub async fn client(&self) -> Outcome<Client> {
        let (kubeconfig, options) = match self {
            Self::Local { program } => {
                let path =
                    output(Command::new(program).arg("kubeconfig")).await.doing("asking local-cluster for its kubeconfig")?;
                let path = path.trim();
                claim!(path.starts_with('/'), "local-cluster printed no path of a kubeconfig: {path:?}");
                (Kubeconfig::read_from(path)?, KubeConfigOptions::default())
            }
            Self::Context(name) => {
                (Kubeconfig::read()?, KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() })
            }
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.doing("reading the kubeconfig")?;
        Ok(Client::try_from(config)?)
    }

    /// kubectl, pointed at this cluster.
    pub fn kubectl(&self) -> Command {
        match self {
            Self::Local { program } => {
                let mut command = Command::new(program);
                command.args(["exec", "--", "kubectl"]);
                command
            }
            Self::Context(name) => {
                let mut command = Command::new("kubectl");
                command.args(["--context", name]);
                command
            }
        }
    }
}

/// What a command prints.
///
/// # Errors
/// When it does not end with success; the failure carries what it said.
pub async fn output(command: &mut Command) -> Outcome<String> {
    let shown = format!("{:?}", command.as_std());
    let output = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await.doing(&shown)?;
    if !output.status.success() {
        fail!("{shown}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(cluster: Option<&str>, program: Option<&str>) -> Result<Target, String> {
        Target::from_env(|name| match name {
            ENV_CLUSTER => cluster.map(str::to_owned),
            ENV_LOCAL_CLUSTER => program.map(str::to_owned),
            "KUBECONFIG" => Some("/home/me/.kube/production".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn a_kubeconfig_alone_is_never_used() {
        for unnamed in [None, Some("")] {
            let refusal = target(unnamed, None).unwrap_err();
            assert!(refusal.contains("must be named"), "{refusal}");
        }
    }

    #[test]
    fn a_named_cluster_is_used() {
        assert_eq!(target(Some("context:kind-mcp"), None), Ok(Target::Context("kind-mcp".into())));
        assert_eq!(target(Some("local"), Some("/lc")), Ok(Target::Local { program: "/lc".into() }));
    }

    #[test]
    fn a_name_that_means_nothing_is_refused_with_what_to_write() {
        for name in ["kind-mcp", "context:", "Local"] {
            let refusal = target(Some(name), Some("/lc")).unwrap_err();
            assert!(refusal.contains("context:NAME"), "{refusal}");
        }
        assert!(target(Some("local"), None).unwrap_err().contains(ENV_LOCAL_CLUSTER));
    }
}
