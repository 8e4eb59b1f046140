//! `mcp-operator`: flags → run | crd.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mcp_operator::config::{Config, Settings};
use mcp_operator::{controller, telemetry};

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
}

fn main() -> ExitCode {
    match Line::parse().command {
        Command::Crd => {
            let written = std::io::stdout().write_all(mcp_crds::cluster::crd_yaml().as_bytes());
            // A reader that has seen enough is no failure.
            match written {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    eprintln!("mcp-operator: {error}");
                    ExitCode::FAILURE
                }
                Ok(()) | Err(_) => ExitCode::SUCCESS,
            }
        }
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

fn run(config: Config) -> ExitCode {
    telemetry::start(&config.log_filter, config.json_logs);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = %error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
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
