//! Nodes: joining, killing, starting and cutting them.

use std::fs;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::certs::{self, Authority, Subject};
use crate::cgroup::{self, Hierarchies};
use crate::cluster::Cluster;
use crate::command::{config_file, kubeconfig, mount_namespace};
use crate::down::unmount_below;
use crate::enter::NODE_FOLDERS;
use crate::error::{At, Result, Step};
use crate::machine::MOUNT_NAMESPACES;
use crate::part::Part;
use crate::plan::{Netns, NodeName, POD_RANGE};
use crate::process::Life;
use crate::progress::say;
use crate::run::{command, ip, output};
use crate::state::NodeRecord;
use crate::wait::{self, Poll};
use crate::{config, image, network};

/// How long a node may take to be Ready: seconds on an idle machine, more while something compiles.
const READY: Duration = Duration::from_mins(3);

/// Makes everything of a node that does not need the API server, and starts its containerd.
pub(crate) fn prepare(cluster: &mut Cluster, node: NodeRecord) -> Result<()> {
    let name = node.name;
    network::add_node(name)?;
    let hierarchies = Hierarchies::mounted()?;
    hierarchies.make(&cgroup::of_parts(Netns::Node(name)))?;
    hierarchies.make(&cgroup::of_pods(name))?;
    make_mount_namespace(cluster, name)?;
    write_config(cluster, &node)?;
    cluster.record.nodes.push(node);
    cluster.record.nodes.sort_by_key(|node| node.name);
    network::route(&cluster.record.node_names())?;
    cluster.start(Part::Containerd(name)).map(drop)
}

/// Makes a prepared node known to the API server and starts its other parts.
pub(crate) fn register(cluster: &mut Cluster, name: NodeName) -> Result<()> {
    cluster.apply(&config::node_object(name), &name.to_string())?;
    image::wait_for_containerd(cluster, name)?;
    cluster.start(Part::Kubelet(name))?;
    cluster.start(Part::KubeProxy(name))?;
    load_known_images(cluster, name)
}

/// Adds a node to a cluster that is up, and waits until it is Ready.
pub(crate) fn join(cluster: &mut Cluster, node: NodeRecord) -> Result<()> {
    let name = node.name;
    prepare(cluster, node)?;
    register(cluster, name)?;
    wait_ready(cluster, name)
}

/// Waits until the API server says that a node is Ready.
pub(crate) fn wait_ready(cluster: &Cluster, name: NodeName) -> Result<()> {
    cluster.until(&format!("{name} Ready"), READY, &Part::of_node(name), || {
        let now = Seen::now(cluster, name);
        if now.ready { Poll::Ready(()) } else { Poll::Pending(format!("{now:?}")) }
    })
}

/// What the API server knows of a node. It says what it last heard, however long ago that was: a node
/// that was away is back when one of the two times has changed.
#[derive(Debug, Default)]
struct Seen {
    ready: bool,
    /// When the kubelet last reported the node's conditions: at its start, and when they change.
    reported: String,
    /// When the kubelet last renewed its lease: every ten seconds, and at its start before it is ready.
    renewed: String,
}

impl Seen {
    fn now(cluster: &Cluster, name: NodeName) -> Self {
        let name = name.to_string();
        // No answer is a time as well: one that changes when there is one.
        let ask = |args: &[&str]| output(cluster.kubectl(args).arg("--request-timeout=5s")).unwrap_or_default();
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")]['status','lastHeartbeatTime']}";
        let condition = ask(&["get", "node", &name, "-o", path]);
        let (ready, reported) = condition.split_once(' ').unwrap_or_default();
        let path = "jsonpath={.spec.renewTime}";
        let renewed = ask(&["get", "lease", &name, "-n", "kube-node-lease", "-o", path]);
        Self { ready: ready == "True", reported: reported.into(), renewed }
    }
}

/// Waits until a node is Ready and has been heard of since `before`, by the time that `heard` picks.
fn wait_back(cluster: &Cluster, name: NodeName, before: &Seen, heard: fn(&Seen) -> &String) -> Result<()> {
    cluster.until(&format!("{name} back and Ready"), READY, &Part::of_node(name), || {
        let now = Seen::now(cluster, name);
        let back = now.ready && heard(&now) != heard(before);
        if back { Poll::Ready(()) } else { Poll::Pending(format!("{now:?}")) }
    })
}

/// Ends everything that runs on a node, at once, as a power failure does.
pub(crate) fn kill(name: NodeName) -> Result<()> {
    let hierarchies = Hierarchies::mounted()?;
    // The parts first: they would start containers again.
    hierarchies.kill(&cgroup::of_parts(Netns::Node(name)))?;
    hierarchies.kill(&cgroup::of_pods(name))
}

/// Removes a node: what runs on it, at once, and what the API server and the machine keep of it. Pods that were on it go without a
/// word, as after a loss that is known to be for ever. The record goes last: what fails on the way can be asked for again.
pub(crate) fn leave(cluster: &mut Cluster, name: NodeName) -> Result<()> {
    kill(name)?;
    let on_it = format!("--field-selector=spec.nodeName={name}");
    output(&mut cluster.kubectl(&["delete", "node", &name.to_string(), "--ignore-not-found"]))?;
    output(&mut cluster.kubectl(&["delete", "pods", "--all-namespaces", &on_it, "--force", "--grace-period=0"]))?;

    drop_mount_namespace(name)?;
    let hierarchies = Hierarchies::mounted()?;
    hierarchies.remove(&cgroup::of_pods(name))?;
    hierarchies.remove(&cgroup::of_parts(Netns::Node(name)))?;
    let folder = cluster.state.node(name);
    unmount_below(&folder)?;
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).at("removing", folder),
        Ok(()) | Err(_) => {}
    }
    network::remove_node(name)?;

    cluster.record.nodes.retain(|node| node.name != name);
    for part in Part::of_node(name) {
        cluster.record.processes.remove(&part.to_string());
    }
    cluster.state.save(&cluster.record)
}

/// Starts what does not run of a node. One on which nothing runs starts as after a power failure: with
/// its disk, without its `/run`.
pub(crate) fn start(cluster: &mut Cluster, name: NodeName) -> Result<()> {
    let before = Seen::now(cluster, name);
    if Hierarchies::mounted()?.processes(&cgroup::of_parts(Netns::Node(name))).is_empty() {
        kill(name)?;
        drop_mount_namespace(name)?;
        pull_pod_cables(name)?;
        make_mount_namespace(cluster, name)?;
        // A kubelet that finds the groups of dead containers tries each for seconds.
        let hierarchies = Hierarchies::mounted()?;
        hierarchies.remove(&cgroup::of_pods(name))?;
        hierarchies.make(&cgroup::of_pods(name))?;
    }
    let mut started = false;
    for part in Part::of_node(name) {
        let fresh = cluster.start(part)?;
        if fresh && part == Part::Containerd(name) {
            // A kubelet that finds no socket ends.
            image::wait_for_containerd(cluster, name)?;
        }
        started |= fresh && part == Part::Kubelet(name);
    }
    load_known_images(cluster, name)?;
    if started {
        wait_back(cluster, name, &before, |seen| &seen.reported)?;
    }
    Ok(())
}

/// Plugs a node's cable in and waits until the cluster has noticed; there is nothing to notice while its kubelet is dead.
pub(crate) fn plug_in(cluster: &Cluster, name: NodeName) -> Result<()> {
    if network::is_plugged(name)? {
        return Ok(());
    }
    let before = Seen::now(cluster, name);
    network::set_cable(name, true)?;
    if matches!(cluster.life(Part::Kubelet(name)), Life::Dead | Life::Ending) {
        say(&format!("{name} is plugged in, and its kubelet does not run: `local-cluster start {name}`"));
        return Ok(());
    }
    wait_back(cluster, name, &before, |seen| &seen.renewed)
}

fn load_known_images(cluster: &Cluster, name: NodeName) -> Result<()> {
    image::wait_for_containerd(cluster, name)?;
    image::import(&cluster.record.programs.pause, name)?;
    for archive in image::kept(&cluster.state)? {
        image::import(&archive, name)?;
    }
    Ok(())
}

fn write_config(cluster: &Cluster, node: &NodeRecord) -> Result<()> {
    let (state, name) = (&cluster.state, node.name);
    let authority = Authority::load(state, Authority::CLUSTER)?;
    certs::save(state, &format!("kubelet-{name}-server"), &authority.sign(&Subject::kubelet_server(name))?)?;
    let client = authority.sign(&Subject::node(name))?;
    let text = config::kubeconfig(authority.certificate(), &name.to_string(), &client.certificate, &client.key);
    state.write(&kubeconfig(state, &name.to_string()), &text)?;

    let kubelet = config::kubelet(name, &state.pki(), machine_memory()?, node.memory);
    state.write(&config_file(state, Part::Kubelet(name)), &kubelet)?;
    let proxy = config::kube_proxy(&kubeconfig(state, "kube-proxy"), name, POD_RANGE);
    state.write(&config_file(state, Part::KubeProxy(name)), &proxy)?;
    let folder = state.node(name);
    let containerd = config::containerd(&folder, may_lower_oom_score());
    state.write(&config_file(state, Part::Containerd(name)), &containerd)?;
    state.write(&folder.join("net.d/10-pods.conflist"), &config::cni(name))
}

/// The machine's memory, in bytes.
fn machine_memory() -> Result<u64> {
    let path = "/proc/meminfo";
    let text = fs::read_to_string(path).at("reading", path)?;
    Ok(text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or(0, |kib| kib << 10))
}

/// Whether containers may be made less likely to be killed than their parent: CAP_SYS_RESOURCE, bit 24.
fn may_lower_oom_score() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
            .is_some_and(|capabilities| capabilities & (1 << 24) != 0)
    })
}

fn make_mount_namespace(cluster: &Cluster, name: NodeName) -> Result<()> {
    prepare_mount_namespaces()?;
    for (path, _) in NODE_FOLDERS {
        fs::create_dir_all(path).at("making the folder", path)?;
    }
    let file = mount_namespace(name);
    fs::write(&file, "").at("making", &file)?;
    let own = std::env::current_exe().at("finding", "/proc/self/exe")?;
    let mut unshare = command("unshare", [format!("--mount={}", file.display())]);
    unshare.args(["--propagation", "unchanged", "--"]).arg(own).arg("arrange-node").arg(cluster.state.node(name));
    output(&mut unshare).map(drop)
}

/// Makes the folder that keeps mount namespaces a mount of its own, and private: the kernel keeps them
/// nowhere else.
fn prepare_mount_namespaces() -> Result<()> {
    const NONE: Option<&str> = None;
    fs::create_dir_all(MOUNT_NAMESPACES).at("making the folder", MOUNT_NAMESPACES)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").at("reading", "/proc/self/mountinfo")?;
    if mounts.lines().any(|line| line.split(' ').nth(4) == Some(MOUNT_NAMESPACES)) {
        return Ok(());
    }
    mount(Some(MOUNT_NAMESPACES), MOUNT_NAMESPACES, NONE, MsFlags::MS_BIND, NONE)
        .and_then(|()| mount(NONE, MOUNT_NAMESPACES, NONE, MsFlags::MS_PRIVATE, NONE))
        .step(format!("making {MOUNT_NAMESPACES} a private mount"))
}

/// Lets a node's mount namespace go, and with it every mount in it.
fn drop_mount_namespace(name: NodeName) -> Result<()> {
    let file = mount_namespace(name);
    match umount2(&file, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno).step(format!("unmounting {}", file.display())),
    }
}

/// Pulls what cables there are to pods of before: a new pod could get an address that still leads to an old one. Their
/// network namespaces go with the mounts, but some much later, when the last socket in them has given up on its peer.
fn pull_pod_cables(name: NodeName) -> Result<()> {
    let netns = Netns::Node(name).to_string();
    wait::until(&format!("no pod cables on {name}"), Duration::from_secs(20), || {
        let links = output(&mut command("ip", ["-n", &netns, "-br", "link"]))?;
        let left: Vec<_> =
            links.lines().filter_map(|line| line.split(['@', ' ']).next()).filter(|link| link.starts_with("veth")).collect();
        for cable in &left {
            // It may go by itself at this moment.
            let _ = ip(&format!("-n {netns} link delete {cable}"));
        }
        Ok(if left.is_empty() { Poll::Ready(()) } else { Poll::Pending(links) })
    })
}
