//! Which server is put under load: loopback and the local cluster's networks, and no other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::str::FromStr;
use std::sync::LazyLock;

/// The networks of the local cluster: 198.18.0.0/15, set aside for benchmarks by RFC 2544.
const LOCAL_CLUSTER: (u32, u32) = (0xc612_0000, 0xfffe_0000);

/// An endpoint, `http://ADDRESS:PORT/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
        let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
        let path = if path.is_empty() { "/mcp".to_owned() } else { path };
        let authority = match authority.strip_prefix("localhost") {
            Some(port) => format!("127.0.0.1{port}"),
            None => authority.to_owned(),
        };
        let address: SocketAddr = authority
            .parse()
            .map_err(|_| format!("{url:?}: give an address and a port, for example http://127.0.0.1:8080/mcp"))?;
        if !is_ours(address.ip()) {
            return Err(format!(
                "{url:?} is refused: load goes only to loopback (127.0.0.0/8, ::1) and to the local cluster (198.18.0.0/15)"
            ));
        }
        if path.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return Err(format!("{url:?}: the path has a space or a control character in it"));
        }
        Ok(Self { address, path })
    }
}

/// Whether load may go there.
fn is_ours(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.to_bits() & LOCAL_CLUSTER.1 == LOCAL_CLUSTER.0,
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| is_ours(ip.into())),
    }
}

/// Whether this process is in the client namespace of the local cluster: 198.18.254.0/24 is its own.
static AMONG_CLIENTS: LazyLock<bool> = LazyLock::new(|| TcpListener::bind((Ipv4Addr::new(198, 18, 254, 1), 0)).is_ok());

/// The address that the nth connection comes from: as many as are allowed, in turn, of the loopback network, or of those that the
/// client namespace of the local cluster has. None elsewhere, where there is but one.
pub(crate) fn source(to: SocketAddr, n: usize, sources: u8) -> Option<IpAddr> {
    let IpAddr::V4(ip) = to.ip() else { return None };
    let nth = u8::try_from(n % usize::from(sources.max(1))).unwrap_or(0);
    if sources < 2 {
        None
    } else if ip.is_loopback() {
        Some(Ipv4Addr::new(127, 0, 0, 1 + nth).into())
    } else {
        AMONG_CLIENTS.then(|| Ipv4Addr::new(198, 18, 254, 1 + nth).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_goes_to_loopback_and_the_local_cluster_only() {
        for url in ["http://127.0.0.1:80/mcp", "http://127.9.9.9:1", "http://[::1]:80/x", "http://198.19.255.254:8080/mcp"] {
            url.parse::<Target>().unwrap();
        }
        for url in
            ["http://10.0.0.1:80/", "http://198.20.0.1:80/", "http://198.17.0.1:80/", "http://8.8.8.8:80", "http://[::2]:80/"]
        {
            let why = url.parse::<Target>().unwrap_err();
            assert!(why.contains("is refused"), "{why}");
        }
        assert!("http://[::ffff:10.0.0.1]:80/".parse::<Target>().is_err());
        assert!("https://127.0.0.1:80/".parse::<Target>().is_err());
        assert!("http://example.com:80/".parse::<Target>().is_err(), "names are not looked up");
        assert!("http://127.0.0.1:80/a b".parse::<Target>().is_err());
    }

    #[test]
    fn the_path_is_mcp_where_none_is_given() {
        assert_eq!("http://localhost:80".parse::<Target>().unwrap().path, "/mcp");
        assert_eq!("http://localhost:80/x/y".parse::<Target>().unwrap().path, "/x/y");
    }

    #[test]
    fn connections_come_from_several_addresses_in_turn() {
        let to = "127.0.0.1:80".parse().unwrap();
        let from = |n| source(to, n, 3).unwrap().to_string();
        assert_eq!([from(0), from(1), from(2), from(3)], ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]);
        assert_eq!(source(to, 5, 1), None);
        assert_eq!(source("198.18.0.1:80".parse().unwrap(), 5, 3), None);
    }
}
