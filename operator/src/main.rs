//! `mcp-operator`: flags → run | crd | explain.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mcp_operator::config::{Config, Settings};
use mcp_operator::{controller, heap, telemetry};

/// Runs MCP servers on Kubernetes: turns every McpCluster into shard pods and one endpoint in front of them, adds shards
/// when connections or memory ask for it, drains the right one when they are no longer needed, and explains what it does in
/// `kubectl get mcpclusters` and `kubectl describe`.
#[derive(Parser)]
#[command(name = "mcp-operator", version, max_term_width = 100)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconciles McpClusters until it is told to stop (SIGTERM, SIGINT).
    ///
    /// Every flag may be given as the environment variable beside it; a flag wins. Bad settings are reported together, and
    /// nothing is touched before all of them are right.
    #[command(after_help = "Examples:\n  \
        mcp-operator run                                            in a pod, for the whole cluster\n  \
        mcp-operator run --namespaces agents,staging                with Roles in two namespaces only\n  \
        mcp-operator run --kubeconfig ./admin.conf --log-level debug   from a laptop\n  \
        mcp-operator run --leader-elect=false                       where certainly no other one runs\n\n\
        Exit status: 0 after a signal, 1 when it cannot go on or has lost its lease, 2 for bad settings.")]
    Run(Box<Settings>),
    /// Prints the CustomResourceDefinition, for `kubectl apply --server-side -f -`.
    Crd,
    /// Tells what the operator would decide about an McpCluster, and why, without a cluster and without touching anything.
    ///
    /// One file is the McpCluster, as you would apply it or as `kubectl get mcpcluster NAME -o yaml` prints it; the other says
    /// what there is: shards, their connections and their memory. The decision is the operator's own. Also told is what comes
    /// next if nothing else changes.
    #[command(after_help = "Examples:\n  \
        mcp-operator explain -f cluster.yaml --observed observed.yaml\n  \
        kubectl get mcpcluster tools -o yaml | mcp-operator explain -f - --observed observed.yaml\n\n\
        The format of observed.yaml is in docs/operations.md; manifests/explain/observed.yaml has every field.\n\n\
        Exit status: 0 when it was explained, 1 when a file cannot be read, 2 for mistakes in one.")]
    Explain {
        /// File with the McpCluster; `-` is the standard input.
        #[arg(short, long = "filename", value_name = "FILE")]
        file: PathBuf,
        /// File that says what there is; `-` is the standard input.
        #[arg(long, value_name = "FILE")]
        observed: PathBuf,
    },
}

fn main() -> ExitCode {
    match Line::parse().command {
        Command::Crd => print(&mcp_crds::cluster::crd_yaml()),
        Command::Explain { file, observed } => explain(&file, &observed),
        Command::Run(settings) => match Config::parse(&settings) {
            Ok(config) => run(config),
            Err(problems) => {
                eprintln!("mcp-operator: these settings cannot be used:");
                for problem in problems.0 {
                    eprintln!("  {problem}");
                }
                ExitCode::from(2)
            }
        },
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("mcp-operator: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn explain(cluster: &Path, observed: &Path) -> ExitCode {
    let read = |file: &Path| {
        let text = if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
        text.map_err(|error| eprintln!("mcp-operator: cannot read {}: {error}", file.display()))
    };
    if cluster == observed {
        eprintln!("mcp-operator: -f and --observed name the same file");
        return ExitCode::from(2);
    }
    let (Ok(cluster_text), Ok(observed_text)) = (read(cluster), read(observed)) else { return ExitCode::FAILURE };
    let (cluster_name, observed_name) = (cluster.display().to_string(), observed.display().to_string());
    match mcp_operator::explain::explain((&cluster_name, &cluster_text), (&observed_name, &observed_text)) {
        Ok(text) => print(&text),
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            ExitCode::from(2)
        }
    }
}

fn run(config: Config) -> ExitCode {
    heap::settle();
    telemetry::start(&config.log_filter, config.json_logs);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = %error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    runtime.spawn(heap::keep_trimmed());
    let ended = runtime.block_on(controller::run(config));
    // A name that is being looked up would hold the process for as long as the resolver is patient.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = error.reason(), error = %telemetry::chain(&error), "cannot go on");
            ExitCode::FAILURE
        }
    }
}
