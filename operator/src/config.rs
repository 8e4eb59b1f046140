//! Settings: strings from flags and environment in, a validated [`Config`] out. All bad settings are reported together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mcp_crds::duration;
use tracing_subscriber::EnvFilter;

/// Shards are asked for their load this often, and may be asked at most this often and at least this often.
const SCRAPE_INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(1);

/// Longest name of an object.
const LONGEST_NAME: usize = 253;

/// Settings of `mcp-operator run`, as written.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Namespaces to work in, separated by commas. Unset: the whole cluster, which needs the ClusterRole; with names, a Role
    /// in each of them is enough.
    #[arg(
        long = "namespaces",
        visible_alias = "namespace",
        env = "MCP_OPERATOR_NAMESPACES",
        value_name = "NAMES",
        value_delimiter = ',',
        help_heading = "Scope"
    )]
    pub namespaces: Vec<String>,

    /// Image of the shards of an McpCluster that sets no `spec.image`. It is resolved once for each McpCluster and kept in
    /// its `status.image`, so that another value here never restarts a shard.
    #[arg(
        long,
        env = "MCP_OPERATOR_SERVER_IMAGE",
        value_name = "IMAGE",
        default_value = concat!("mcp-server:", env!("CARGO_PKG_VERSION")),
        help_heading = "Shards"
    )]
    pub server_image: String,

    /// How often every shard is asked for its load: 1s to 60s, in h, m, s or ms.
    #[arg(long, env = "MCP_OPERATOR_SCRAPE_INTERVAL", value_name = "DURATION", default_value = "5s", help_heading = "Shards")]
    pub scrape_interval: String,

    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "MCP_OPERATOR_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9090", help_heading = "Operator")]
    pub listen: String,

    /// `text` for people, `json` for machines.
    #[arg(long, env = "MCP_OPERATOR_LOG_FORMAT", value_name = "FORMAT", default_value = "text", help_heading = "Operator")]
    pub log_format: String,

    /// The least severe level that is logged: error, warn, info, debug or trace; or a filter, for example
    /// `info,mcp_operator=debug`.
    #[arg(long, env = "MCP_OPERATOR_LOG_LEVEL", value_name = "LEVEL", default_value = "info", help_heading = "Operator")]
    pub log_level: String,

    /// A kubeconfig. Unset: the file `$KUBECONFIG` names, ~/.kube/config, or the ServiceAccount of the pod, in this order.
    #[arg(long, env = "MCP_OPERATOR_KUBECONFIG", value_name = "FILE", help_heading = "Operator")]
    pub kubeconfig: Option<PathBuf>,

    /// The namespace this operator runs in: its lease is there, and it is the only one a shard's NetworkPolicy lets reach its
    /// control port.
    #[arg(long, env = "MCP_OPERATOR_NAMESPACE", value_name = "NAME", default_value = "mcp-system", help_heading = "Operator")]
    pub operator_namespace: String,

    /// Whether to wait for a lease before anything is written: of several operators one works, and another goes on within 20 s
    /// when it dies. `false` only where no other operator runs on the same namespaces.
    #[arg(
        long,
        env = "MCP_OPERATOR_LEADER_ELECT",
        value_name = "BOOL",
        default_value = "true",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Operator"
    )]
    pub leader_elect: String,

    /// Name of that lease. Operators with different scopes in one namespace need different ones.
    #[arg(long, env = "MCP_OPERATOR_LEASE_NAME", value_name = "NAME", default_value = "mcp-operator", help_heading = "Operator")]
    pub lease_name: String,

    /// DNS domain of the Kubernetes cluster: shards accept requests to the names of their Services in it.
    #[arg(
        long,
        env = "MCP_OPERATOR_CLUSTER_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local",
        help_heading = "Shards"
    )]
    pub cluster_domain: String,

    /// Whether to read the node of an evicted shard: the condition Draining then tells a node drain from the eviction of a
    /// single pod. It needs the right to get nodes, which a Role cannot give: `true` in the cluster-wide installation only.
    #[arg(
        long,
        env = "MCP_OPERATOR_READ_NODES",
        value_name = "BOOL",
        default_value = "false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Scope"
    )]
    pub read_nodes: String,

    /// Name of this process in the events it writes and in the lease it holds: the pod's name.
    #[arg(long, env = "MCP_OPERATOR_IDENTITY", value_name = "NAME", default_value = "mcp-operator", help_heading = "Operator")]
    pub identity: String,
}

/// Validated settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to work.
    pub scope: Scope,
    /// Image of shards without `spec.image`.
    pub server_image: String,
    /// Time between two questions to a shard.
    pub scrape_interval: Duration,
    /// Address of the admin port.
    pub listen: SocketAddr,
    /// JSON lines instead of text.
    pub json_logs: bool,
    /// A `tracing` filter.
    pub log_filter: String,
    /// A kubeconfig, when one was named.
    pub kubeconfig: Option<PathBuf>,
    /// The operator's own namespace.
    pub operator_namespace: String,
    /// The lease to hold before anything is written; none without election.
    pub lease: Option<String>,
    /// DNS domain of the Kubernetes cluster.
    pub cluster_domain: String,
    /// Whether nodes may be read.
    pub reads_nodes: bool,
    /// Name of this process in events and in the lease.
    pub identity: String,
}

/// Where the operator works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces.
    Cluster,
    /// These, sorted, without repeats.
    Namespaces(Vec<String>),
}

/// Every setting that cannot be used, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.join("\n"))]
pub struct BadSettings(pub Vec<String>);

impl Config {
    /// Parses every setting before it reports any.
    ///
    /// # Errors
    /// All settings that cannot be used, each with its flag, its variable and what would be right.
    pub fn parse(settings: &Settings) -> Result<Self, BadSettings> {
        let mut problems = vec![];
        let mut complain = |flag: &str, variable: &str, problem: String| {
            problems.push(format!("--{flag} (or ${variable}): {problem}"));
        };

        let mut namespaces: Vec<String> =
            settings.namespaces.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        namespaces.sort();
        namespaces.dedup();
        for name in namespaces.iter().filter(|name| !is_dns_label(name)) {
            complain("namespaces", "MCP_OPERATOR_NAMESPACES", not_a_namespace(name));
        }
        if !is_dns_label(&settings.operator_namespace) {
            complain("operator-namespace", "MCP_OPERATOR_NAMESPACE", not_a_namespace(&settings.operator_namespace));
        }
        let lease = lease(settings, &mut complain);
        if !settings.cluster_domain.split('.').all(is_dns_label) {
            complain(
                "cluster-domain",
                "MCP_OPERATOR_CLUSTER_DOMAIN",
                format!("{:?} is not a DNS domain, for example 'cluster.local'", settings.cluster_domain),
            );
        }
        if settings.server_image.is_empty() || settings.server_image.contains(char::is_whitespace) {
            complain(
                "server-image",
                "MCP_OPERATOR_SERVER_IMAGE",
                format!(
                    "{:?} is not the name of an image, for example 'registry.example.com/mcp-server:0.4.2'",
                    settings.server_image
                ),
            );
        }
        let scrape_interval = match duration::parse(&settings.scrape_interval) {
            Ok(interval) if SCRAPE_INTERVALS.contains(&interval) => interval,
            Ok(_) => {
                complain(
                    "scrape-interval",
                    "MCP_OPERATOR_SCRAPE_INTERVAL",
                    format!("{:?} must be from 1s to 60s", settings.scrape_interval),
                );
                Duration::ZERO
            }
            Err(error) => {
                complain("scrape-interval", "MCP_OPERATOR_SCRAPE_INTERVAL", error.to_string());
                Duration::ZERO
            }
        };
        let reads_nodes = settings.read_nodes == "true";
        if !matches!(settings.read_nodes.as_str(), "true" | "false") {
            complain("read-nodes", "MCP_OPERATOR_READ_NODES", format!("{:?} must be 'true' or 'false'", settings.read_nodes));
        }
        let listen = settings.listen.parse().map_err(|_| {
            complain(
                "listen",
                "MCP_OPERATOR_LISTEN",
                format!("{:?} is not an address with a port, for example '0.0.0.0:9090' or '[::]:9090'", settings.listen),
            );
        });
        let json_logs = match settings.log_format.as_str() {
            "json" => true,
            "text" => false,
            other => {
                complain("log-format", "MCP_OPERATOR_LOG_FORMAT", format!("{other:?} must be 'text' or 'json'"));
                false
            }
        };
        if let Err(error) = EnvFilter::builder().parse(&settings.log_level) {
            complain(
                "log-level",
                "MCP_OPERATOR_LOG_LEVEL",
                format!("{:?} must be error, warn, info, debug, trace or a filter: {error}", settings.log_level),
            );
        }
        if let Some(file) = settings.kubeconfig.as_ref().filter(|file| file.as_os_str().is_empty()) {
            complain("kubeconfig", "MCP_OPERATOR_KUBECONFIG", format!("'{}' is not the name of a file", file.display()));
        }
        if settings.identity.is_empty() || settings.identity.len() > 128 {
            complain("identity", "MCP_OPERATOR_IDENTITY", "must have 1 to 128 characters".to_owned());
        }

        let (true, Ok(listen)) = (problems.is_empty(), listen) else { return Err(BadSettings(problems)) };
        Ok(Self {
            scope: if namespaces.is_empty() { Scope::Cluster } else { Scope::Namespaces(namespaces) },
            server_image: settings.server_image.clone(),
            scrape_interval,
            listen,
            json_logs,
            log_filter: settings.log_level.clone(),
            kubeconfig: settings.kubeconfig.clone(),
            operator_namespace: settings.operator_namespace.clone(),
            lease,
            cluster_domain: settings.cluster_domain.clone(),
            reads_nodes,
            identity: settings.identity.clone(),
        })
    }
}

/// The lease to hold; none when no election is wanted.
fn lease(settings: &Settings, complain: &mut impl FnMut(&str, &str, String)) -> Option<String> {
    let name = &settings.lease_name;
    if name.len() > LONGEST_NAME || !name.split('.').all(is_dns_label) {
        let problem = format!("{name:?} is not the name of a lease, for example 'mcp-operator'");
        complain("lease-name", "MCP_OPERATOR_LEASE_NAME", problem);
    }
    match settings.leader_elect.as_str() {
        "true" => Some(name.clone()),
        "false" => None,
        other => {
            complain("leader-elect", "MCP_OPERATOR_LEADER_ELECT", format!("{other:?} must be 'true' or 'false'"));
            None
        }
    }
}

fn not_a_namespace(name: &str) -> String {
    format!("{name:?} is not the name of a namespace: use at most 63 lower-case letters, digits and '-'")
}

/// RFC 1123 label, as Kubernetes names namespaces.
fn is_dns_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    pub(crate) fn parse(flags: &[&str]) -> Result<Config, BadSettings> {
        Config::parse(&Line::parse_from(std::iter::once(&"mcp-operator").chain(flags)).settings)
    }

    #[test]
    fn the_defaults_are_usable_and_cluster_wide() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.scope, Scope::Cluster);
        assert_eq!(config.scrape_interval, Duration::from_secs(5));
        assert!(!config.json_logs);
    }

    #[test]
    fn only_a_process_that_is_told_so_works_without_a_lease() {
        for (flags, lease) in [
            (&[][..], Some("mcp-operator")),
            (&["--leader-elect"], Some("mcp-operator")),
            (&["--leader-elect", "--lease-name=other"], Some("other")),
            (&["--leader-elect=false"], None),
        ] {
            assert_eq!(parse(flags).unwrap().lease.as_deref(), lease, "{flags:?}");
        }
    }

    #[test]
    fn namespaces_are_sorted_and_counted_once() {
        let config = parse(&["--namespaces", "b, a,b", "--namespace", "c,"]).unwrap();
        assert_eq!(config.scope, Scope::Namespaces(vec!["a".into(), "b".into(), "c".into()]));
    }

    #[test]
    fn all_bad_settings_are_reported_together() {
        let problems = parse(&[
            "--namespaces=Upper,ok",
            "--server-image=two words",
            "--scrape-interval=1d",
            "--listen=9090",
            "--log-format=xml",
            "--log-level=a=b=c",
            "--operator-namespace=-x",
            "--leader-elect=maybe",
            "--lease-name=A_b",
        ])
        .unwrap_err();
        assert_eq!(problems.0.len(), 9, "{problems}");
        for (problem, part) in problems.0.iter().zip([
            "\"Upper\"",
            "\"-x\"",
            "\"A_b\"",
            "\"maybe\"",
            "\"two words\"",
            "\"1d\"",
            "\"9090\"",
            "\"xml\"",
            "\"a=b=c\"",
        ]) {
            assert!(problem.contains(part) && problem.contains("MCP_OPERATOR_"), "{problem}");
        }
    }

    #[test]
    fn nodes_are_read_only_where_we_are_told_that_we_may() {
        assert!(!parse(&[]).unwrap().reads_nodes);
        assert!(parse(&["--read-nodes"]).unwrap().reads_nodes && parse(&["--read-nodes=true"]).unwrap().reads_nodes);
        assert!(parse(&["--read-nodes=yes"]).unwrap_err().0[0].contains("MCP_OPERATOR_READ_NODES"));
    }

    #[test]
    fn a_scrape_interval_outside_its_bounds_is_refused() {
        for text in ["0s", "999ms", "61s"] {
            assert!(parse(&["--scrape-interval", text]).is_err(), "{text}");
        }
    }
}
