//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// A load that takes memory, on an `McpCluster` and on a Deployment of the same image with the stock HPA, one after the other,
/// on the local cluster: who is refused, cut off and killed, and what it costs.
///
/// `MCP_TEST_CLUSTER`, `LOCAL_CLUSTER`, `IMAGE_REGISTRY` and `IMAGE_TAG` name the cluster and the images, as in the end-to-end
/// tests; `make memory-bench` sets them.
#[derive(Debug, Parser)]
#[command(name = "memory-bench", version, max_term_width = 100)]
pub(crate) struct Options {
    /// Only one of the two.
    #[arg(long, value_enum)]
    pub only: Option<Side>,
    /// The program that the HPA reads from; without it there is no HPA's side.
    #[arg(long, value_name = "FILE")]
    pub metrics_server: Option<PathBuf>,
    /// Where the table, the JSON and what `kubectl describe` said go.
    #[arg(long, value_name = "DIR", default_value = ".cache/memory-bench")]
    pub out: PathBuf,
    /// Memory limit of a shard, mebibytes.
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u64).range(64..=512))]
    pub limit: u64,
    /// How long the everyday clients, and then the heavy tenant with them, are held before the next part begins, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub hold: u64,
    /// Bursts of 100 MiB/s.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub bursts: u32,
}

/// Who sizes the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// The operator.
    Ours,
    /// A `HorizontalPodAutoscaler` on memory.
    Hpa,
}

impl Side {
    /// In the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Hpa => "hpa",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Options::command().debug_assert();
    }
}
