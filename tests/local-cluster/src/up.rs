//! `up`: from nothing to a cluster that answers.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::binaries;
use crate::certs::{self, Authority, Subject};
use crate::cgroup::{self, Hierarchies};
use crate::cluster::Cluster;
use crate::command::{client_place, config_file, kubeconfig};
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::part::Part;
use crate::plan::{CLIENT_SOURCES, Netns, NodeName};
use crate::process::Life;
use crate::progress::say;
use crate::run::output;
use crate::state::{NodeRecord, Record, State};
use crate::{config, down, machine, network, node, packages, wait};

/// How long the control plane may take: five seconds on an idle machine.
const CONTROL_PLANE: Duration = Duration::from_mins(3);

/// What `up` was asked for.
pub(crate) struct Wish {
    pub nodes: u8,
    pub node_memory: Option<u64>,
}

/// Brings the cluster up, or says that it is.
pub(crate) fn up(state: State, workspace: &Path, cache: &Path, wish: &Wish) -> Result<()> {
    packages::ensure()?;
    // Before the build, which may take minutes; and not held during it.
    machine::Machine::lock()?.refuse_foreign(state.dir())?;
    let programs = binaries::build(workspace, cache)?;

    let mut machine = Machine::lock()?;
    machine.refuse_foreign(state.dir())?;
    let record = state.load().unwrap_or_default();
    let mut cluster = Cluster { state, record };
    if cluster.record.complete && cluster.record.is_alive() {
        match repair(&mut cluster, wish) {
            // What lived a moment ago was being killed: there is nothing to repair.
            Err(Error::Died { .. }) if !cluster.record.is_alive() => (),
            result => return result,
        }
    }
    if let Some(holder) = machine.holder()? {
        say(&format!("removing what a cluster that ended left: {}", holder.display()));
        down::sweep(&State::at(holder)?)?;
    }
    down::sweep(&cluster.state)?;
    machine.hold(cluster.state.dir())?;
    let mut cluster = Cluster { record: Record { programs, ..Record::default() }, ..cluster };
    build(&mut cluster, wish)?;
    say("the cluster is up");
    say(&format!("  export KUBECONFIG={}", cluster.state.kubeconfig().display()));
    Ok(())
}

/// A second `up`: lets go on what is paused, starts what does not run, plugs in what is cut, adds nodes that are missing to
/// the number that is asked for, and changes nothing else. So a test that died in the middle of a disaster needs no `down`.
fn repair(cluster: &mut Cluster, wish: &Wish) -> Result<()> {
    let nodes = cluster.record.nodes.len();
    say(&format!("already up, with {nodes} node{}", if nodes == 1 { "" } else { "s" }));
    let nodes_before = cluster.record.node_names();
    for part in cluster.record.parts() {
        if cluster.life(part) == Life::Paused {
            cluster.signal(part, Signal::SIGCONT)?;
            say(&format!("resumed {part}"));
        }
    }
    for part in Part::CLUSTER {
        if cluster.start(part)? {
            say(&format!("started {part}"));
        }
        if part == Part::Apiserver {
            wait_api_server(cluster)?;
        }
    }
    for name in cluster.record.node_names() {
        if !network::is_plugged(name)? {
            say(&format!("plugging {name} in"));
            node::plug_in(cluster, name)?;
        }
        if Part::of_node(name).into_iter().any(|part| matches!(cluster.life(part), Life::Dead | Life::Ending)) {
            say(&format!("starting {name}"));
            node::start(cluster, name)?;
        }
    }
    for name in NodeName::first(wish.nodes).filter(|name| !nodes_before.contains(name)) {
        say(&format!("adding {name}"));
        node::join(cluster, NodeRecord { name, memory: wish.node_memory })?;
    }
    wait_answering(cluster)
}

fn build(cluster: &mut Cluster, wish: &Wish) -> Result<()> {
    let names: Vec<_> = NodeName::first(wish.nodes).collect();
    say("writing certificates and configuration");
    cluster.state.create()?;
    cluster.state.save(&cluster.record)?;
    write_certificates(&cluster.state)?;
    write_config(&cluster.state, names[0])?;
    let hierarchies = Hierarchies::mounted()?;
    for netns in [Netns::Control, Netns::Client] {
        hierarchies.make(&cgroup::of_parts(netns))?;
    }
    network::build()?;

    say("starting etcd and the API server");
    cluster.start(Part::Etcd)?;
    cluster.start(Part::Apiserver)?;
    for name in &names {
        node::prepare(cluster, NodeRecord { name: *name, memory: wish.node_memory })?;
    }
    wait_api_server(cluster)?;

    say("starting the other parts");
    // Before CoreDNS: without its rights it would be refused, and try again only after a while.
    cluster.apply(&config::dns_objects(), "dns")?;
    for part in Part::CLUSTER {
        cluster.start(part)?;
    }
    for name in &names {
        node::register(cluster, *name)?;
    }
    for name in &names {
        say(&format!("waiting for {name}"));
        node::wait_ready(cluster, *name)?;
    }
    wait_answering(cluster)?;
    cluster.record.complete = true;
    cluster.state.save(&cluster.record)
}

/// Pods can be made when their service account is there; and what a test asks for, it asks by name.
fn wait_answering(cluster: &Cluster) -> Result<()> {
    say("waiting for the default service account");
    cluster.until("the default service account", CONTROL_PLANE, &Part::CLUSTER, || {
        wait::succeeds(output(&mut cluster.kubectl(&["get", "serviceaccount", "default", "-n", "default"])))
    })?;
    say("waiting for DNS");
    cluster.until("a Service's name resolved in the client namespace", CONTROL_PLANE, &Part::CLUSTER, || {
        wait::succeeds(resolve(cluster, "kubernetes.default.svc.cluster.local"))
    })?;
    Ok(())
}

/// Asks the cluster's DNS as a test would, from the client namespace.
fn resolve(cluster: &Cluster, name: &str) -> Result<String> {
    let mut getent = client_place(&cluster.state).command("getent")?;
    // A question that is asked before there is a way to the answer is lost: do not wait for it.
    getent.args(["hosts", name]).env("RES_OPTIONS", "timeout:1 attempts:1");
    output(&mut getent)
}

/// The components that exit when the API server is not ready may start after this.
pub(crate) fn wait_api_server(cluster: &Cluster) -> Result<()> {
    cluster.until("the API server ready", CONTROL_PLANE, &[Part::Etcd, Part::Apiserver], || {
        wait::succeeds(output(&mut cluster.kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"])))
    })?;
    Ok(())
}

fn write_certificates(state: &State) -> Result<()> {
    let cluster = Authority::new(Authority::CLUSTER)?;
    cluster.save(state)?;
    let front_proxy = Authority::new(Authority::FRONT_PROXY)?;
    front_proxy.save(state)?;
    certs::make_service_account_key(state)?;

    certs::save(state, "kube-apiserver", &cluster.sign(&Subject::api_server())?)?;
    let kubelet_client = Subject::user("kube-apiserver-kubelet-client", Some("system:masters"));
    certs::save(state, "apiserver-kubelet-client", &cluster.sign(&kubelet_client)?)?;
    let proxy_client = front_proxy.sign(&Subject::user("front-proxy-client", None))?;
    certs::save(state, "front-proxy-client", &proxy_client)?;

    for (file, name, user, group) in [
        (state.kubeconfig(), "admin", "admin", Some("system:masters")),
        (kubeconfig(state, "controller-manager"), "controller-manager", "system:kube-controller-manager", None),
        (kubeconfig(state, "scheduler"), "scheduler", "system:kube-scheduler", None),
        (kubeconfig(state, "kube-proxy"), "kube-proxy", "system:kube-proxy", None),
        (kubeconfig(state, "coredns"), "coredns", "system:coredns", None),
    ] {
        let pair = cluster.sign(&Subject::user(user, group))?;
        state.write(&file, &config::kubeconfig(cluster.certificate(), name, &pair.certificate, &pair.key))?;
    }
    Ok(())
}

fn write_config(state: &State, any_node: NodeName) -> Result<()> {
    state.write(&state.config().join("audit-policy"), &config::audit_policy())?;
    state.write(&config_file(state, Part::Coredns), &config::corefile(&kubeconfig(state, "coredns")))?;
    state.write(&state.resolv_conf(), &config::resolv_conf())?;
    // The client is no node, and kube-proxy wants to be on one. "Inside" are the extra source
    // addresses alone, which must keep their ports; the host's connections must be translated.
    let client = config::kube_proxy(&kubeconfig(state, "kube-proxy"), any_node, CLIENT_SOURCES);
    state.write(&config_file(state, Part::ClientProxy), &client)?;
    make_world_readable(&state.resolv_conf())
}

/// Commands in the client namespace may run as somebody else than root.
fn make_world_readable(path: &Path) -> Result<()> {
    use crate::error::At as _;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).at("opening up", path)
}
