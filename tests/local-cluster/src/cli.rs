//! The command line.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::command::{client_place, node_place};
use crate::enter::{self, Place};
use crate::error::{At, Error, Result};
use crate::machine::Machine;
use crate::part::{Part, Target};
use crate::plan::{MAX_NODES, NodeName};
use crate::progress::{say, show};
use crate::state::{NodeRecord, State};
use crate::up::Wish;
use crate::{binaries, down, image, network, node, packages, status, up};

/// Real Kubernetes 1.35 on a bare Debian machine: etcd, the control plane, nodes with containerd,
/// CoreDNS, each in network namespaces of its own. Nothing leaves the machine.
#[derive(Debug, Parser)]
#[command(name = "local-cluster", version, max_term_width = 100)]
struct Cli {
    /// The state folder [default: .cache/local-cluster/state in the workspace].
    #[arg(long, global = true, env = "LOCAL_CLUSTER_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// The folder of built programs [default: .cache/local-cluster in the workspace].
    #[arg(long, global = true, env = "LOCAL_CLUSTER_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring the cluster up and wait until it answers; start what does not run of one that is up.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_NODES)))]
        nodes: u8,
        /// The memory that the pods of a node may use, e.g. 2Gi [default: all of the machine's].
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        node_memory: Option<u64>,
    },
    /// Remove the cluster with everything it left on the machine, also after a crash.
    Down,
    /// Show what runs; exit with 1 unless everything does.
    Status,
    /// Print the path of the administrator's kubeconfig.
    Kubeconfig {
        /// Print its content.
        #[arg(long)]
        raw: bool,
    },
    /// Run a command in the client namespace, which resolves and reaches Services; or on a node.
    Exec {
        /// The node to run on, with its network and its mounts: `ctr` and `nft` show the node's.
        #[arg(long, value_name = "NODE")]
        node: Option<NodeName>,
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Import a docker-archive into every node, also those that join later.
    LoadImage {
        #[arg(required = true, value_name = "TAR")]
        archives: Vec<PathBuf>,
    },
    /// Print the log of a part, or `audit`: the API server's audit log.
    Logs {
        /// Go on printing.
        #[arg(long, short)]
        follow: bool,
        /// etcd, apiserver, controller-manager, scheduler, coredns, kube-proxy/client, kubelet/node-1,
        /// kube-proxy/node-1, containerd/node-1, …, or audit.
        component: String,
    },
    /// End a part (SIGKILL), or everything on a node, at once.
    Kill {
        /// A part, as in `logs`, or a node.
        target: Target,
    },
    /// Start a part or a node that was killed.
    Start {
        /// A part, as in `logs`, or a node.
        target: Target,
    },
    /// Stop a part where it is (SIGSTOP): it keeps its connections and does not answer.
    Pause {
        /// A part, as in `logs`.
        component: Part,
    },
    /// Let a paused part go on (SIGCONT).
    Resume {
        /// A part, as in `logs`.
        component: Part,
    },
    /// Pull a node's network cable.
    Cut { node: NodeName },
    /// Plug a node's network cable in, or add the node if there is none of this name.
    Join {
        node: NodeName,
        /// For a node that is added: the memory that its pods may use.
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        node_memory: Option<u64>,
    },
    /// Remove a node: its processes and pods at once, and what is kept of it.
    Leave { node: NodeName },
    /// Build the programs and the pause image, and start nothing.
    Build,
    /// Build kwok, which plays nodes and pods that are not there (`make scale-bench`), and print its path.
    Kwok,
    /// Build metrics-server, which a stock HPA reads (`make memory-bench`), and print its path.
    MetricsServer,
    #[command(hide = true)]
    Enter {
        #[command(flatten)]
        place: Place,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    #[command(hide = true)]
    ArrangeNode { folder: PathBuf },
}

/// Does what the command line says.
pub(crate) fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    // These two run inside: nothing of the caller's folders concerns them.
    match &cli.verb {
        Verb::Enter { place, command } => return Err(enter::become_program(place, command)),
        Verb::ArrangeNode { folder } => return enter::arrange_node(folder).map(|()| ExitCode::SUCCESS),
        _ => (),
    }
    let workspace = workspace()?;
    let absolute = |path: Option<PathBuf>, default: &str| {
        let path = path.unwrap_or_else(|| workspace.join(default));
        std::path::absolute(&path).at("finding", path)
    };
    let cache = absolute(cli.cache, ".cache/local-cluster")?;
    let state = State::at(absolute(cli.state, ".cache/local-cluster/state")?)?;
    act(cli.verb, state, &workspace, &cache)
}

fn act(verb: Verb, state: State, workspace: &Path, cache: &Path) -> Result<ExitCode> {
    match verb {
        Verb::Up { nodes, node_memory } => up::up(state, workspace, cache, &Wish { nodes, node_memory })?,
        Verb::Down => down::down(&state)?,
        Verb::Status => {
            let (table, healthy) = status::table(&Cluster::find(state)?)?;
            show(&table);
            return Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::Kubeconfig { raw } => {
            let path = Cluster::find(state)?.state.kubeconfig();
            if raw {
                show(&std::fs::read_to_string(&path).at("reading", path)?);
            } else {
                show(&format!("{}\n", path.display()));
            }
        }
        Verb::Exec { node, command } => return Err(exec(&Cluster::find(state)?, node, &command)),
        Verb::LoadImage { archives } => {
            let (_machine, cluster) = change(state)?;
            for archive in archives {
                image::load(&cluster, &archive)?;
            }
        }
        Verb::Logs { follow, component } => return Err(logs(&state, &component, follow)),
        Verb::Kill { target } => {
            let (_machine, cluster) = change(state)?;
            match target {
                Target::Part(part) => cluster.signal(part, Signal::SIGKILL)?,
                Target::Node(name) => node::kill(known(&cluster, name)?)?,
            }
        }
        Verb::Start { target } => {
            let (_machine, mut cluster) = change(state)?;
            start(&mut cluster, target)?;
        }
        Verb::Pause { component } => change(state)?.1.signal(component, Signal::SIGSTOP)?,
        Verb::Resume { component } => change(state)?.1.signal(component, Signal::SIGCONT)?,
        Verb::Cut { node } => {
            let (_machine, cluster) = change(state)?;
            network::set_cable(known(&cluster, node)?, false)?;
        }
        Verb::Join { node, node_memory } => {
            let (_machine, mut cluster) = change(state)?;
            if cluster.record.has_node(node) {
                node::plug_in(&cluster, node)?;
            } else {
                say(&format!("adding {node}"));
                node::join(&mut cluster, NodeRecord { name: node, memory: node_memory })?;
            }
        }
        Verb::Leave { node } => {
            let (_machine, mut cluster) = change(state)?;
            known(&cluster, node)?;
            if cluster.record.nodes.len() == 1 {
                return Err(Error::Refused(format!("{node} is the last one: `local-cluster down` removes the cluster")));
            }
            node::leave(&mut cluster, node)?;
        }
        Verb::Kwok => show(&format!("{}\n", binaries::beside(workspace, cache, "kwok")?.display())),
        Verb::MetricsServer => show(&format!("{}\n", binaries::beside(workspace, cache, "metrics-server")?.display())),
        Verb::Build => {
            packages::ensure()?;
            let programs = binaries::build(workspace, cache)?;
            for path in [programs.kubernetes, programs.coredns, programs.pause] {
                show(&format!(
                    "{}
",
                    path.display()
                ));
            }
        }
        Verb::Enter { .. } | Verb::ArrangeNode { .. } => unreachable!("handled before"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The machine's lock and the cluster, for a command that changes something.
fn change(state: State) -> Result<(Machine, Cluster)> {
    // Asked first: a refusal must not leave a lock file behind.
    Cluster::find(state.clone())?;
    let machine = Machine::lock()?;
    Ok((machine, Cluster::find(state)?))
}

fn start(cluster: &mut Cluster, target: Target) -> Result<()> {
    match target {
        Target::Node(name) => {
            known(cluster, name)?;
            node::start(cluster, name)
        }
        Target::Part(part) => {
            if !cluster.record.parts().contains(&part) {
                return Err(cluster.no_such_part(part));
            }
            start_part(cluster, part)
        }
    }
}

fn start_part(cluster: &mut Cluster, part: Part) -> Result<()> {
    if matches!(part, Part::ControllerManager | Part::Scheduler) {
        // They end when it does not answer.
        up::wait_api_server(cluster)?;
    }
    if !cluster.start(part)? {
        say(&format!("{part} is running already"));
    }
    match part {
        Part::Apiserver => up::wait_api_server(cluster),
        _ => Ok(()),
    }
}

fn known(cluster: &Cluster, name: NodeName) -> Result<NodeName> {
    if cluster.record.has_node(name) {
        return Ok(name);
    }
    let names: Vec<_> = cluster.record.node_names().iter().map(ToString::to_string).collect();
    Err(Error::Refused(format!("this cluster has no {name}; it has {}", names.join(", "))))
}

/// Becomes the command. Returns only when that fails.
fn exec(cluster: &Cluster, node: Option<NodeName>, command: &[OsString]) -> Error {
    let place = node.map_or_else(|| client_place(&cluster.state), node_place);
    let mut path = cluster.record.programs.kubernetes.clone().into_os_string();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    // What is inside is never behind a proxy.
    let no_proxy = |name: &str| {
        let others = env::var(name).map_or_else(|_| String::new(), |others| format!(",{others}"));
        format!("198.18.0.0/15,.svc,.{}{others}", crate::plan::DOMAIN)
    };
    let (name, args) = command.split_first().expect("clap asks for a command");
    match place.command(name) {
        Err(error) => error,
        Ok(mut enter) => {
            enter
                .args(args)
                .env("PATH", path)
                .env("KUBECONFIG", cluster.state.kubeconfig())
                .env("KUBECACHEDIR", cluster.state.dir().join("kubectl-cache"))
                .env("NO_PROXY", no_proxy("NO_PROXY"))
                .env("no_proxy", no_proxy("no_proxy"));
            become_command(enter)
        }
    }
}

/// Becomes `tail`. The cluster need not be up: the log of one that did not come up is the one to read.
fn logs(state: &State, component: &str, follow: bool) -> Error {
    let path = if component == "audit" {
        state.audit_log()
    } else {
        match component.parse::<Part>() {
            Ok(part) => state.log(part),
            Err(message) => return Error::Refused(message),
        }
    };
    let mut tail = std::process::Command::new("tail");
    tail.args(["-n", "+1"]).args(follow.then_some("-F")).arg(path);
    become_command(tail)
}

fn become_command(mut command: std::process::Command) -> Error {
    use std::os::unix::process::CommandExt as _;
    let source = command.exec();
    Error::Run { program: crate::run::describe(&command), source }
}

/// The workspace that the caller stands in, or else the one that this program was built from.
fn workspace() -> Result<PathBuf> {
    let here = env::current_dir().at("finding", ".")?;
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/"));
    here.ancestors()
        .chain([built])
        .find(|dir| dir.join("tests/local-cluster/go/kubernetes/go.mod").is_file())
        .map(Path::to_owned)
        .ok_or_else(|| Error::Refused("run this inside the workspace that it belongs to".into()))
}

/// `512Mi`, `2Gi`, `1G` or plain bytes, as in Kubernetes.
fn parse_size(text: &str) -> Result<u64, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(format!("{unit:?} is not a unit: Ki, Mi, Gi, k, M, G")),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("{text:?} is not a size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_those_of_kubernetes() {
        assert_eq!(parse_size("512Mi"), Ok(512 << 20));
        assert_eq!(parse_size("2G"), Ok(2_000_000_000));
        assert_eq!(parse_size("77"), Ok(77));
        for text in ["", "0", "Gi", "1.5Gi", "1gb", "99999999999Gi", "-1"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn zero_nodes_and_too_many_are_refused() {
        for count in ["0", "17"] {
            assert!(Cli::try_parse_from(["local-cluster", "up", "--nodes", count]).is_err());
        }
    }

    #[test]
    fn what_follows_the_dashes_is_the_command_as_it_stands() {
        let cli = Cli::try_parse_from(["local-cluster", "exec", "--", "kubectl", "get", "--raw=/readyz"]).unwrap();
        assert!(matches!(cli.verb, Verb::Exec { node: None, command } if command.len() == 3));
    }
}
