//! Namespaces, cables and routes, made with `ip`.

use std::fs;
use std::path::Path;

use crate::error::{At, Result};
use crate::plan::{self, HOST, HOST_LINK, Netns, NodeName, Place, SEGMENT_PREFIX};
use crate::run::{command, ip, output};

/// The bridge in the switch's namespace.
const BRIDGE: &str = "switch";

/// Makes the switch, the control plane's and the client's namespaces, and the host's cable.
pub(crate) fn build() -> Result<()> {
    make_namespace(Netns::Switch)?;
    ip(&format!("-n {} link add {BRIDGE} type bridge", Netns::Switch))?;
    ip(&format!("-n {} link set {BRIDGE} up", Netns::Switch))?;

    ip(&format!("link add {HOST_LINK} type veth peer name host netns {}", Netns::Switch))?;
    plug_in("host")?;
    ip(&format!("addr add {HOST}/{SEGMENT_PREFIX} dev {HOST_LINK}"))?;
    ip(&format!("link set {HOST_LINK} up"))?;

    for netns in [Netns::Control, Netns::Client] {
        make_namespace(netns)?;
        cable(netns)?;
    }
    // The client owns a whole range: any of its addresses can be bound without being configured.
    ip(&format!("-n {} route add local {} dev lo", Netns::Client, plan::CLIENT_SOURCES))?;
    sysctl(Netns::Client, &[("net.ipv4.ip_local_port_range", "10000 65535")])
}

/// Makes a node's namespace and plugs it in.
pub(crate) fn add_node(node: NodeName) -> Result<()> {
    make_namespace(Netns::Node(node))?;
    cable(Netns::Node(node))
}

/// Removes a node's namespace, its cable, and the routes to its pods.
pub(crate) fn remove_node(node: NodeName) -> Result<()> {
    let range = node.pod_range();
    // The switch's end first: a namespace goes when the last process in it has, and takes the other end along.
    ip(&format!("-n {} link del {node}", Netns::Switch))?;
    ip(&format!("netns del {}", Netns::Node(node)))?;
    ip(&format!("route flush {range}"))?;
    for netns in [Netns::Control, Netns::Client] {
        ip(&format!("-n {netns} route flush {range}"))?;
    }
    Ok(())
}

/// Gives every place the routes that this set of nodes needs. A node that is gone leaves its route on the others: to an address
/// that nobody has.
pub(crate) fn route(nodes: &[NodeName]) -> Result<()> {
    let namespaces = [Netns::Control, Netns::Client].into_iter().chain(nodes.iter().copied().map(Netns::Node));
    for place in std::iter::once(Place::Host).chain(namespaces.map(Place::In)) {
        let (at, dev) = match place {
            Place::Host => (String::new(), HOST_LINK),
            Place::In(netns) => (format!("-n {netns} "), "eth0"),
        };
        for (to, via) in plan::routes(place, nodes) {
            let via = via.map_or_else(String::new, |via| format!("via {via} "));
            ip(&format!("{at}route replace {to} {via}dev {dev}"))?;
        }
    }
    Ok(())
}

/// Pulls a node's cable out of the switch, or plugs it back in. The node sees its carrier go.
pub(crate) fn set_cable(node: NodeName, plugged: bool) -> Result<()> {
    let state = if plugged { "up" } else { "down" };
    ip(&format!("-n {} link set {node} {state}", Netns::Switch))
}

/// Whether a node's cable is plugged in.
pub(crate) fn is_plugged(node: NodeName) -> Result<bool> {
    let netns = Netns::Switch.to_string();
    let name = node.to_string();
    let shown = output(&mut command("ip", ["-n", &netns, "-br", "link", "show", &name]))?;
    Ok(shown.split_whitespace().nth(1) == Some("UP"))
}

/// Removes every namespace that is ours, and the host's link with its routes.
pub(crate) fn remove() -> Result<()> {
    let dir = Path::new("/run/netns");
    let names = match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<Vec<_>>>()
            .at("reading", dir)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).at("reading", dir),
    };
    // The host's end first: its other end goes with the switch, but not at once.
    if Path::new("/sys/class/net").join(HOST_LINK).exists() {
        ip(&format!("link del {HOST_LINK}"))?;
    }
    for name in names.iter().filter(|name| Netns::is_ours(name)) {
        ip(&format!("netns del {name}"))?;
    }
    Ok(())
}

fn make_namespace(netns: Netns) -> Result<()> {
    ip(&format!("netns add {netns}"))?;
    ip(&format!("-n {netns} link set lo up"))?;
    sysctl(
        netns,
        &[
            ("net.ipv4.ip_forward", "1"),
            // Pods are routed, and the way back may be another: strict checks would drop it.
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
        ],
    )
}

/// A cable from the switch, where it has the name of the namespace, to the namespace's `eth0`.
fn cable(netns: Netns) -> Result<()> {
    let address = netns.address().expect("only the switch has no address");
    let name = netns.to_string();
    let port = name.strip_prefix("lc-").expect("our namespaces have the prefix");
    ip(&format!("-n {} link add {port} type veth peer name eth0 netns {netns}", Netns::Switch))?;
    plug_in(port)?;
    ip(&format!("-n {netns} addr add {address}/{SEGMENT_PREFIX} dev eth0"))?;
    ip(&format!("-n {netns} link set eth0 up"))
}

fn plug_in(port: &str) -> Result<()> {
    ip(&format!("-n {} link set {port} master {BRIDGE} up", Netns::Switch))
}

/// Sets kernel parameters of a network namespace.
fn sysctl(netns: Netns, settings: &[(&str, &str)]) -> Result<()> {
    let script = settings
        .iter()
        .map(|(name, value)| format!("echo '{value}' > /proc/sys/{}", name.replace('.', "/")))
        .collect::<Vec<_>>()
        .join(" && ");
    let net = format!("--net={}", netns.path().display());
    output(&mut command("nsenter", [&net, "sh", "-c", &script])).map(drop)
}
