//! Addresses and names: pure, so that every other file can agree on them without asking the machine.
//!
//! Everything lives in 198.18.0.0/15, the range set aside for benchmarking networks (RFC 2544), which
//! no real network routes. One Ethernet segment joins the host, the control plane, the client and the nodes:
//!
//! ```text
//! host .1 ── lc-switch (bridge) ──┬── lc-control .2   etcd, API server, …, CoreDNS
//!            198.18.255.0/24      ├── lc-client  .3   tests and load, with a kube-proxy of its own
//!                                 └── lc-node-N  .10+N
//! ```

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The segment that joins everything, with its prefix length.
pub(crate) const SEGMENT_PREFIX: u8 = 24;
/// The host's end of its cable to the switch.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);
/// The control plane: the API server on 6443, CoreDNS on 53.
pub(crate) const CONTROL: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 2);
/// The client namespace.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 3);
/// More addresses of the client namespace: any of them can be bound, to have more source ports.
pub(crate) const CLIENT_SOURCES: &str = "198.18.254.0/24";
/// Every pod address.
pub(crate) const POD_RANGE: &str = "198.18.0.0/17";
/// Every Service address.
pub(crate) const SERVICE_RANGE: &str = "198.19.0.0/16";
/// The Service of the API server, the first of the range by convention.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// The Service of the cluster's DNS, the tenth of the range by convention.
pub(crate) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 10);
/// The DNS suffix of the cluster.
pub(crate) const DOMAIN: &str = "cluster.local";
/// The API server's port.
pub(crate) const API_PORT: u16 = 6443;
/// More nodes than any test wants and fewer than the segment and the pod range hold.
pub(crate) const MAX_NODES: u8 = 16;
/// The host's end of its cable.
pub(crate) const HOST_LINK: &str = "lc-host";

/// A network namespace that this tool makes. Its file is `/run/netns/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Netns {
    /// The bridge, and nothing else.
    Switch,
    /// The control plane and CoreDNS, apart from the nodes so that every node can be cut.
    Control,
    /// Where tests and load run.
    Client,
    /// A node with its pods' cables.
    Node(NodeName),
}

impl Netns {
    /// The address on the segment; the switch has none.
    pub(crate) fn address(self) -> Option<Ipv4Addr> {
        match self {
            Self::Switch => None,
            Self::Control => Some(CONTROL),
            Self::Client => Some(CLIENT),
            Self::Node(node) => Some(node.address()),
        }
    }

    /// The file that keeps the namespace.
    pub(crate) fn path(self) -> std::path::PathBuf {
        std::path::Path::new("/run/netns").join(self.to_string())
    }

    /// Whether a name under `/run/netns` is one of ours.
    pub(crate) fn is_ours(name: &str) -> bool {
        ["lc-switch", "lc-control", "lc-client"].contains(&name)
            || name.strip_prefix("lc-").is_some_and(|node| node.parse::<NodeName>().is_ok())
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("lc-switch"),
            Self::Control => f.write_str("lc-control"),
            Self::Client => f.write_str("lc-client"),
            Self::Node(node) => write!(f, "lc-{node}"),
        }
    }
}

/// A node, by its number from 1 up; written `node-N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct NodeName(u8);

impl NodeName {
    /// The nodes `node-1` to `node-COUNT`.
    pub(crate) fn first(count: u8) -> impl Iterator<Item = Self> {
        (1..=count.min(MAX_NODES)).map(Self)
    }

    /// The node's address on the segment.
    pub(crate) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 255, 10 + self.0)
    }

    /// The node's share of the pod range, taken from its top: the controller-manager hands out ranges
    /// from the bottom to nodes that bring none (fake nodes), and the two must not meet.
    pub(crate) fn pod_range(self) -> String {
        format!("198.18.{}.0/24", 128 - self.0)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{}", self.0)
    }
}

impl FromStr for NodeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("node-").unwrap_or(text);
        digits
            .parse::<u8>()
            .ok()
            .filter(|number| (1..=MAX_NODES).contains(number) && !digits.starts_with(['0', '+']))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a node: node-1 to node-{MAX_NODES}"))
    }
}

/// The URL that every kubeconfig of this cluster names; the host and all namespaces reach it.
pub(crate) fn api_url() -> String {
    format!("https://{CONTROL}:{API_PORT}")
}

/// Every route that a place on the segment needs: destination, and the neighbour that leads there.
///
/// Nodes and the client reach Services by a kube-proxy of their own. The host has none and must not
/// get one: it sends Service traffic to the client namespace, which translates it.
pub(crate) fn routes(at: Place, nodes: &[NodeName]) -> Vec<(String, Option<Ipv4Addr>)> {
    let mut routes: Vec<_> = nodes
        .iter()
        .filter(|node| at != Place::In(Netns::Node(**node)))
        .map(|node| (node.pod_range(), Some(node.address())))
        .collect();
    match at {
        Place::Host => {
            routes.push((CLIENT_SOURCES.into(), Some(CLIENT)));
            routes.push((SERVICE_RANGE.into(), Some(CLIENT)));
        }
        // A packet needs a route before kube-proxy rewrites where it goes; which one does not matter.
        Place::In(Netns::Client) => routes.push((SERVICE_RANGE.into(), None)),
        Place::In(Netns::Node(_)) => {
            routes.push((CLIENT_SOURCES.into(), Some(CLIENT)));
            routes.push((SERVICE_RANGE.into(), None));
        }
        Place::In(Netns::Control) => routes.push((CLIENT_SOURCES.into(), Some(CLIENT))),
        Place::In(Netns::Switch) => return Vec::new(),
    }
    routes
}

/// Somewhere that holds routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The machine's own namespace.
    Host,
    /// One of ours.
    In(Netns),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u8) -> Vec<NodeName> {
        NodeName::first(count).collect()
    }

    #[test]
    fn a_node_is_named_by_its_name_or_its_number() {
        assert_eq!("node-2".parse::<NodeName>(), "2".parse::<NodeName>());
        assert_eq!("node-2".parse::<NodeName>().unwrap().to_string(), "node-2");
    }

    #[test]
    fn what_is_not_a_node_is_refused() {
        for text in ["", "node-", "node-0", "0", "node-17", "node-02", "+1", "kubelet", "node-1/x"] {
            assert!(text.parse::<NodeName>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_and_pod_ranges_never_meet() {
        let all = nodes(MAX_NODES);
        let mut seen = vec![HOST, CONTROL, CLIENT];
        for node in &all {
            assert!(!seen.contains(&node.address()), "{node}");
            seen.push(node.address());
            let third: u8 = node.pod_range().split('.').nth(2).unwrap().parse().unwrap();
            assert!((64..128).contains(&third), "{node} is in the upper half of the pod range");
        }
    }

    #[test]
    fn a_node_has_no_route_to_its_own_pods_through_a_neighbour() {
        let [one, two] = nodes(2)[..] else { unreachable!() };
        let routes = routes(Place::In(Netns::Node(one)), &[one, two]);
        assert!(routes.contains(&(two.pod_range(), Some(two.address()))));
        assert!(!routes.iter().any(|(to, _)| *to == one.pod_range()));
    }

    #[test]
    fn the_host_reaches_services_through_the_client_namespace() {
        assert!(routes(Place::Host, &nodes(1)).contains(&(SERVICE_RANGE.into(), Some(CLIENT))));
    }

    #[test]
    fn only_our_namespaces_are_ours() {
        for ours in ["lc-switch", "lc-control", "lc-client", "lc-node-1", "lc-node-16"] {
            assert!(Netns::is_ours(ours), "{ours}");
        }
        for foreign in ["cni-1234", "lc-", "lc-node-17", "lc-other", "node-1"] {
            assert!(!Netns::is_ours(foreign), "{foreign}");
        }
    }
}
