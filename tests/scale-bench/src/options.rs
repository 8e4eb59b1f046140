//! What a run is made of: flags in, checked sizes out.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mcp_tests::{Outcome, claim};

/// Pods that a fake node takes: its range of addresses is a /24.
pub(crate) const PODS_PER_NODE: u32 = 240;
/// Fake nodes that the pod range of the local cluster has room for beside the real ones.
const MOST_NODES: u32 = 110;
/// The largest McpCluster there may be.
const MOST_SHARDS: u32 = 300;

/// The operator at scale: McpClusters with thousands of fake pods (kwok) on a real API server, and one program that answers load
/// reports for all of them. Prints a table and writes it as JSON.
///
/// Everything it makes on the cluster and on the machine it removes again, also when it fails.
#[derive(Debug, Parser)]
#[command(name = "scale-bench", version, max_term_width = 100)]
pub(crate) struct Line {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Measure. Needs root, and a cluster of `local-cluster` without other McpClusters; an operator that is installed there
    /// stands still meanwhile.
    Run(Options),
    /// Remove what a run left that was killed.
    Clear(Cluster),
}

/// Where the cluster is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Cluster {
    /// The administrator's kubeconfig (`local-cluster kubeconfig`).
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// The network namespace with the bridge that the API server is on.
    #[arg(long, value_name = "NAME", default_value = "lc-switch")]
    pub switch: String,
    /// A free address on that bridge: a /24.
    #[arg(long, value_name = "ADDRESS", default_value = "198.18.255.200")]
    pub address: Ipv4Addr,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub cluster: Cluster,
    /// The API server's audit log [default: audit.log beside the kubeconfig].
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// The operator to measure, a release build.
    #[arg(long, value_name = "FILE")]
    pub operator: PathBuf,
    /// kwok (`local-cluster kwok`).
    #[arg(long, value_name = "FILE")]
    pub kwok: PathBuf,
    /// McpClusters, beside the large one.
    #[arg(long, value_name = "NUMBER", default_value_t = 500)]
    pub clusters: u32,
    /// Shards of each at rest.
    #[arg(long, value_name = "NUMBER", default_value_t = 6)]
    pub shards: u32,
    /// Shards of the large one; 0: none.
    #[arg(long, value_name = "NUMBER", default_value_t = MOST_SHARDS)]
    pub large: u32,
    /// The load of each but the large one grows to so many times what it is at rest.
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    pub factor: u32,
    /// Namespaces that the McpClusters are spread over.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub namespaces: u32,
    /// How long to watch at rest, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub rest: u64,
    /// How long pods may take to be there and Ready, seconds; then the run fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub patience: u64,
    /// The folder for logs, table and JSON.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

impl Options {
    /// Refuses sizes that cannot be.
    ///
    /// # Errors
    /// What to change.
    pub(crate) fn check(&self) -> Outcome {
        claim!(self.clusters >= 1 && self.shards >= 1 && self.factor >= 2, "--clusters and --shards begin at 1, --factor at 2");
        claim!(self.namespaces >= 1, "--namespaces begins at 1");
        claim!(
            self.shards * self.factor <= MOST_SHARDS && self.large <= MOST_SHARDS,
            "an McpCluster has at most {MOST_SHARDS} shards: lower --shards, --factor or --large"
        );
        claim!(
            self.nodes() <= MOST_NODES,
            "{} pods need {} fake nodes, and the pod range has room for {MOST_NODES}",
            self.pods_at_most(),
            self.nodes()
        );
        Ok(())
    }

    /// Shards of each McpCluster when its load has grown.
    pub(crate) fn grown(&self) -> u32 {
        self.shards * self.factor
    }

    pub(crate) fn pods_at_rest(&self) -> u32 {
        self.clusters * self.shards + self.large
    }

    pub(crate) fn pods_at_most(&self) -> u32 {
        self.clusters * self.grown() + self.large
    }

    /// Fake nodes: room for all pods and a tenth more, for those that are replaced.
    pub(crate) fn nodes(&self) -> u32 {
        (self.pods_at_most() * 11).div_ceil(PODS_PER_NODE * 10).max(3)
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.audit_log.clone().unwrap_or_else(|| self.cluster.kubeconfig.with_file_name("audit.log"))
    }
}

#[cfg(test)]
impl Options {
    /// Those of a run with these flags, and nothing said of where things are.
    pub(crate) fn test(more: &[&str]) -> Self {
        let line = ["scale-bench", "run", "--kubeconfig=k", "--operator=o", "--kwok=w", "--out=d"];
        match Line::parse_from(line.iter().chain(more)).verb {
            Verb::Run(options) => options,
            Verb::Clear(_) => unreachable!(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_goal_and_fit_the_pod_range() {
        let options = Options::test(&[]);
        assert_eq!((options.pods_at_rest(), options.pods_at_most()), (3_300, 12_300));
        assert!((49..=MOST_NODES).contains(&options.nodes()), "{}", options.nodes());
        options.check().unwrap();
    }

    #[test]
    fn what_the_pod_range_or_a_cluster_cannot_hold_is_refused() {
        for more in [&["--clusters=2000"][..], &["--shards=100"], &["--large=301"], &["--factor=1"], &["--namespaces=0"]] {
            assert!(Options::test(more).check().is_err(), "{more:?}");
        }
    }
}
