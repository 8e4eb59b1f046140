//! The running parts of the cluster and their names on the command line: pure.

use std::fmt;
use std::str::FromStr;

use crate::plan::{Netns, NodeName};

/// A process of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Etcd,
    Apiserver,
    ControllerManager,
    Scheduler,
    Coredns,
    /// The kube-proxy of the client namespace: it keeps Services reachable when any node is cut.
    ClientProxy,
    Containerd(NodeName),
    Kubelet(NodeName),
    KubeProxy(NodeName),
}

impl Part {
    /// The parts that are there whatever the nodes, in the order in which they start.
    pub(crate) const CLUSTER: [Self; 6] =
        [Self::Etcd, Self::Apiserver, Self::ControllerManager, Self::Scheduler, Self::Coredns, Self::ClientProxy];

    /// The parts of one node, in the order in which they start.
    pub(crate) fn of_node(node: NodeName) -> [Self; 3] {
        [Self::Containerd(node), Self::Kubelet(node), Self::KubeProxy(node)]
    }

    /// The node that the part belongs to.
    pub(crate) fn node(self) -> Option<NodeName> {
        match self {
            Self::Containerd(node) | Self::Kubelet(node) | Self::KubeProxy(node) => Some(node),
            Self::Etcd | Self::Apiserver | Self::ControllerManager | Self::Scheduler | Self::Coredns | Self::ClientProxy => None,
        }
    }

    /// The network namespace that the part runs in.
    pub(crate) fn netns(self) -> Netns {
        match self {
            Self::Etcd | Self::Apiserver | Self::ControllerManager | Self::Scheduler | Self::Coredns => Netns::Control,
            Self::ClientProxy => Netns::Client,
            Self::Containerd(node) | Self::Kubelet(node) | Self::KubeProxy(node) => Netns::Node(node),
        }
    }

    /// The name of the program, as `argv[0]` shows it.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Coredns => "coredns",
            Self::ClientProxy | Self::KubeProxy(_) => "kube-proxy",
            Self::Containerd(_) => "containerd",
            Self::Kubelet(_) => "kubelet",
        }
    }

    /// The name as part of a file name.
    pub(crate) fn slug(self) -> String {
        self.to_string().replace('/', "-")
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd => f.write_str("etcd"),
            Self::Apiserver => f.write_str("apiserver"),
            Self::ControllerManager => f.write_str("controller-manager"),
            Self::Scheduler => f.write_str("scheduler"),
            Self::Coredns => f.write_str("coredns"),
            Self::ClientProxy => f.write_str("kube-proxy/client"),
            Self::Containerd(node) => write!(f, "containerd/{node}"),
            Self::Kubelet(node) => write!(f, "kubelet/{node}"),
            Self::KubeProxy(node) => write!(f, "kube-proxy/{node}"),
        }
    }
}

impl FromStr for Part {
    type Err = String;

    /// A part of a node without its node (`kubelet`) is the one of `node-1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, place) = text.split_once('/').unwrap_or((text, "node-1"));
        let name = name.strip_prefix("kube-").filter(|rest| *rest != "proxy").unwrap_or(name);
        if text.contains('/') && !["containerd", "kubelet", "kube-proxy"].contains(&name) {
            return Err(unknown(text));
        }
        match (name, place) {
            ("etcd", _) => Ok(Self::Etcd),
            ("apiserver", _) => Ok(Self::Apiserver),
            ("controller-manager", _) => Ok(Self::ControllerManager),
            ("scheduler", _) => Ok(Self::Scheduler),
            ("coredns", _) => Ok(Self::Coredns),
            ("kube-proxy", "client") => Ok(Self::ClientProxy),
            ("containerd", node) => node.parse().map(Self::Containerd),
            ("kubelet", node) => node.parse().map(Self::Kubelet),
            ("kube-proxy", node) => node.parse().map(Self::KubeProxy),
            _ => Err(unknown(text)),
        }
    }
}

fn unknown(text: &str) -> String {
    format!(
        "{text:?} is not a part: etcd, apiserver, controller-manager, scheduler, coredns, \
         kube-proxy/client, or containerd, kubelet, kube-proxy with /node-N"
    )
}

/// What `kill` and `start` act on: one part, or a whole node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Part(Part),
    Node(NodeName),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(node) = text.parse() {
            return Ok(Self::Node(node));
        }
        text.parse().map(Self::Part).map_err(|error: String| error + ", or a node: node-N")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found_by_the_name_it_shows() {
        let node: NodeName = "node-3".parse().unwrap();
        for part in Part::CLUSTER.into_iter().chain(Part::of_node(node)) {
            assert_eq!(part.to_string().parse::<Part>(), Ok(part));
        }
    }

    #[test]
    fn the_upstream_name_of_a_part_works_too() {
        assert_eq!("kube-apiserver".parse::<Part>(), Ok(Part::Apiserver));
        assert_eq!("kube-scheduler".parse::<Part>(), Ok(Part::Scheduler));
    }

    #[test]
    fn a_node_part_without_a_node_is_that_of_the_first() {
        assert_eq!("kubelet".parse::<Part>(), "kubelet/node-1".parse());
        assert_eq!("kube-proxy".parse::<Part>(), "kube-proxy/node-1".parse());
    }

    #[test]
    fn a_control_plane_part_has_no_node() {
        for text in ["etcd/node-1", "apiserver/client", "kubelet/client", "kubelet/", "dns", ""] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_is_a_node_or_a_part() {
        assert_eq!("2".parse::<Target>(), "node-2".parse());
        assert_eq!("etcd".parse::<Target>(), Ok(Target::Part(Part::Etcd)));
    }
}
