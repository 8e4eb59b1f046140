//! A trace: what happens to a cluster, and when. The format is documented in docs/simulator.md.

mod check;
mod curve;
pub mod random;
mod units;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use curve::{Curve, Point};
pub use units::{Seconds, Size};

/// A trace file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trace {
    /// The file's name without `.yaml`; not in the file.
    #[serde(skip)]
    pub name: String,
    /// In a sentence.
    pub description: String,
    /// How long it is.
    pub duration: Seconds,
    /// The cluster, as an McpCluster says it.
    #[serde(default)]
    pub cluster: Cluster,
    /// What a shard is.
    #[serde(default)]
    pub shard: Shard,
    /// The nodes.
    #[serde(default)]
    pub nodes: Nodes,
    /// Who connects.
    pub clients: Vec<Clients>,
    /// What goes wrong.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// Bounds and limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    /// `autoscaling.minReplicas`.
    pub min_replicas: u32,
    /// `autoscaling.maxReplicas`.
    pub max_replicas: u32,
    /// `limits.maxConnections`.
    pub max_connections: u32,
    /// `resources.limits.memory`.
    pub memory: Size,
}

/// What a shard is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Shard {
    /// Memory of an idle one.
    pub base_memory: Size,
    /// From the pod's creation to Ready, at least…
    pub boot: Seconds,
    /// …and up to this much longer.
    pub boot_jitter: Seconds,
    /// Time over which a connection comes to own its memory.
    pub warm: Seconds,
}

/// The nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Nodes {
    /// Nodes.
    pub count: u32,
    /// Shards that fit one.
    pub shards: u32,
}

/// One kind of clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Clients {
    /// What they are called.
    pub name: String,
    /// How many want to be connected.
    pub count: Curve,
    /// Mean time a client stays before it leaves for good, and another comes; forever when absent.
    #[serde(default)]
    pub hold: Option<Seconds>,
    /// Memory that one connection comes to own.
    pub memory: Size,
    /// Connections that arrive at one shard together, as streams of one connection of a gateway.
    #[serde(default = "one")]
    pub together: u32,
    /// What they ask for.
    #[serde(default)]
    pub calls: Option<Calls>,
}

/// Calls of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Calls {
    /// Calls of one client in a minute.
    pub per_minute: f64,
    /// How long one takes.
    pub takes: Seconds,
    /// Memory one takes meanwhile: at most 5 % of the limit.
    pub memory: Size,
    /// Memory one never gives back.
    #[serde(default)]
    pub leaks: Size,
}

/// Something that goes wrong, or is done to the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// When.
    pub at: Seconds,
    /// What.
    pub what: What,
    /// For how long.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Seconds>,
    /// How many nodes or shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Which percentage of the shards or connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// By how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Seconds>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// `count` nodes die, and return after `for`.
    NodeLoss,
    /// The process of `count` shards ends without a word.
    ShardCrash,
    /// `percent` of the connections break, as when a proxy in front is restarted.
    ConnectionsLost,
    /// `percent` of the shards give no numbers for `for`: load report, metrics API and scrapes alike.
    ReportsSilent,
    /// Numbers are old by `by`, for `for`.
    ReportsDelayed,
    /// The autoscaler's process is away for `for`, and has forgotten what it did not write down.
    LeaderRestart,
    /// A new template, that works.
    Rollout,
    /// A new template whose pods never become Ready; taken back after `for`.
    BadRollout,
    /// No node takes a pod for `for`.
    Unschedulable,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { min_replicas: 1, max_replicas: 100, max_connections: 4000, memory: Size(512 << 20) }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self { base_memory: Size(40 << 20), boot: Seconds(8), boot_jitter: Seconds(7), warm: Seconds(30) }
    }
}

impl Default for Nodes {
    fn default() -> Self {
        Self { count: 10, shards: 110 }
    }
}

fn one() -> u32 {
    1
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what docs/simulator.md says; serde_yaml says where.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: serde_yaml::Error,
    },
    /// It makes no sense.
    #[error("{}:\n{}", path.display(), problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n"))]
    Invalid {
        /// Which.
        path: PathBuf,
        /// Each with the path of its field.
        problems: Vec<String>,
    },
    /// The folder has none.
    #[error("{}: no file ends in .yaml", .0.display())]
    Empty(PathBuf),
}

impl Trace {
    /// Reads a trace from text; `path` is for errors, and gives the name.
    ///
    /// # Errors
    /// When it is not a trace: all that is wrong with its values, or the first thing that is wrong with its form.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut trace: Self = serde_yaml::from_str(text).map_err(|source| Error::Malformed { path: path.to_owned(), source })?;
        trace.name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let problems = check::problems(&trace);
        if problems.is_empty() { Ok(trace) } else { Err(Error::Invalid { path: path.to_owned(), problems }) }
    }

    /// Reads a file, or every `.yaml` of a folder, by name.
    ///
    /// # Errors
    /// When one of them is not a trace, or there is none.
    pub fn read(path: &Path) -> Result<Vec<Self>, Error> {
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
        if !fs::metadata(path).map_err(unreadable)?.is_dir() {
            return Ok(vec![Self::parse(path, &fs::read_to_string(path).map_err(unreadable)?)?]);
        }
        let entries = fs::read_dir(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        let mut files: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
        files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
        files.sort();
        if files.is_empty() {
            return Err(Error::Empty(path.to_owned()));
        }
        let read = |file: &PathBuf| Self::read(file).map(|mut traces| traces.remove(0));
        files.iter().map(read).collect()
    }
}
