//! The servers that are compared, each started the same way: on one core, told where it listens, ended with its input.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::proc;
use crate::pin;
use crate::processes::Worker;

/// The core of the servers, and that of the load.
pub(super) const CORES: (usize, usize) = (0, 1);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Shards of ours, with the operator's part played by `fleet`.
    Ours(usize),
    /// The same, of the program that has `wait` and `raise`.
    OursWithTools(usize),
    Hyper,
    Sdk,
    /// So many loops that write.
    Writes(usize),
}

/// What a group of figures needs of our shards that others do not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    /// Requests of a shard at one time, instead of the default.
    pub(super) in_flight: Option<u32>,
    /// Each in a control group with this limit, MiB, where the machine lets one be made.
    pub(super) memory: Option<u32>,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours(_) | Self::OursWithTools(_) => "ours",
            Self::Hyper => "hyper",
            Self::Sdk => "SDK",
            Self::Writes(_) => "write loop",
        }
    }
}

/// A server that runs. It ends with this value.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) urls: Vec<String>,
    pub(super) pids: Vec<u32>,
    admins: Vec<String>,
    groups: Vec<PathBuf>,
    _workers: Vec<Worker>,
}

impl Server {
    pub(super) fn start(kind: Kind, needs: Needs, binaries: &Path, scratch: &Path) -> Result<Self, String> {
        pin(CORES.0)?;
        let started = Self::start_here(kind, needs, binaries, scratch);
        pin(CORES.1)?;
        started
    }

    fn start_here(kind: Kind, needs: Needs, binaries: &Path, scratch: &Path) -> Result<Self, String> {
        let binary = |name: &str| binaries.join(name);
        let fleet = |server: &str, shards: usize| {
            let mut command = Command::new(binary("fleet"));
            command.arg("--server").arg(binary(server)).arg("--manifest").arg(manifest(scratch, needs)?);
            command.arg("--logs").arg(scratch.join("logs")).arg(format!("--shards={shards}")).arg("--direct");
            command.args(needs.memory.map(|mib| format!("--memory-limit={mib}")));
            command.args(["--", "sh", "-c", "echo \"{\\\"shards\\\":$MCP_SHARDS}\"; exec cat"]);
            Ok::<_, String>(command)
        };
        let (mut command, count) = match kind {
            Kind::Ours(shards) => (fleet("mcp-server", shards)?, 1),
            Kind::OursWithTools(shards) => (fleet("baseline-ours", shards)?, 1),
            Kind::Hyper => (Command::new(binary("baseline-hyper")), 1),
            Kind::Sdk => (Command::new(binary("baseline-rmcp")), 1),
            Kind::Writes(loops) => (Command::new(binary("baseline-writes")), loops),
        };
        let mut workers = (0..count).map(|_| Worker::start(&mut command)).collect::<Result<Vec<_>, _>>()?;
        let mut shards = Vec::new();
        for worker in &mut workers {
            match kind {
                Kind::Ours(_) | Kind::OursWithTools(_) => {
                    shards.extend(worker.hear("shards")?["shards"].as_array().cloned().unwrap_or_default());
                }
                Kind::Hyper | Kind::Sdk | Kind::Writes(_) => shards.push(worker.hear("url")?),
            }
        }
        let text = |name: &str| shards.iter().filter_map(|one| Some(one[name].as_str()?.to_owned())).collect::<Vec<_>>();
        let pids = shards.iter().filter_map(|one| u32::try_from(one["pid"].as_u64()?).ok()).collect();
        let groups = text("group").into_iter().map(PathBuf::from).collect();
        Ok(Self { kind, urls: text("url"), pids, admins: text("admin"), groups, _workers: workers })
    }

    pub(super) fn rss(&self) -> u64 {
        proc::rss(&self.pids)
    }

    pub(super) fn cpu(&self) -> Duration {
        proc::cpu(&self.pids)
    }

    /// What the kernel charges each shard for, without what it could drop: bytes. Of the process alone where it has no
    /// control group.
    pub(super) fn charged(&self) -> Vec<u64> {
        if self.groups.is_empty() {
            return self.pids.iter().map(|pid| proc::rss(&[*pid])).collect();
        }
        self.groups.iter().map(|group| proc::charged(group)).collect()
    }

    /// Whether each shard has a memory limit.
    pub(super) fn is_limited(&self) -> bool {
        !self.groups.is_empty()
    }

    /// A metric, summed over labels and shards; zero where there are none.
    pub(super) fn metric(&self, name: &str) -> f64 {
        self.admins.iter().filter_map(|admin| scrape(admin).ok()).map(|text| sum(&text, name)).sum()
    }
}

/// The catalog of the benchmarks: a hundred tools, and limits that are there but not reached unless a group needs them to be.
fn manifest(scratch: &Path, needs: Needs) -> Result<PathBuf, String> {
    let memory = needs.memory.map_or("4Gi".to_owned(), |mib| format!("{mib}Mi"));
    let in_flight = needs.in_flight.map_or(String::new(), |requests| format!(", maxInFlightRequests: {requests}"));
    let mut text = format!(
        "apiVersion: mcpcluster.dev/v1alpha1\nkind: McpCluster\nmetadata: {{name: bench}}\nspec:\n  \
        resources: {{limits: {{memory: {memory}}}}}\n  \
        limits: {{maxConnections: 20000, maxStreams: 20000, requestsPerSecond: 100000, requestTimeout: 120s{in_flight}}}\n  \
        catalog:\n    tools:\n"
    );
    for n in 0..100 {
        let name = if n == 50 { "echo".to_owned() } else { format!("tool-{n}") };
        text += &format!(
            "    - name: {name}\n      description: Says what it is told.\n      \
            inputSchema: {{type: object, properties: {{text: {{type: string, maxLength: 100000}}}}, required: [text]}}\n      \
            template: {{content: [{{text: \"{{text}}\"}}]}}\n"
        );
    }
    let path = scratch.join("bench.yaml");
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn scrape(admin: &str) -> std::io::Result<String> {
    let address = admin.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(socket, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    Ok(text)
}

fn sum(text: &str, name: &str) -> f64 {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
    lines.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// A mode of this program in a process of its own, on the core of the load.
pub(super) fn load(arguments: &[&str]) -> Result<Worker, String> {
    let fixed = ["--json".to_owned(), format!("--core={}", CORES.1)];
    let arguments: Vec<_> = fixed.into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect();
    Worker::own(&arguments)
}

/// A mode that ends by itself: its one line.
pub(super) fn measure(arguments: &[&str], member: &str) -> Result<Value, String> {
    load(arguments)?.hear(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_taken_for_a_longer_name() {
        let text = "mcp_streams 3\nmcp_streams_shed 9\nmcp_rejected_total{reason=\"a\"} 1\nmcp_rejected_total{reason=\"b\"} 2\n";
        assert!((sum(text, "mcp_streams") - 3.0).abs() < 1e-9);
        assert!((sum(text, "mcp_rejected_total") - 3.0).abs() < 1e-9);
    }
}
