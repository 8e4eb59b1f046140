//! Addresses no backend may have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names under which clouds serve instance credentials.
const METADATA_HOSTS: [&str; 4] = ["metadata.google.internal", "metadata.goog", "metadata", "instance-data"];

/// Why a shard never connects to an address, or none when it may: link-local and metadata addresses hand out the node's
/// credentials, unspecified and multicast ones name no host. Checked on literals by the compiler, and on each resolved
/// address by the shard.
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6),
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [169, 254, ..] => Some("a link-local address"),
        // Alibaba Cloud and Oracle Cloud keep theirs outside the link-local range.
        [100, 100, 100, 200] | [192, 0, 0, 192] => Some("a metadata address"),
        [0, ..] => Some("an unspecified address"),
        [224..=255, ..] => Some("a multicast or reserved address"),
        _ => None,
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        // Loopback, before the IPv4-compatible form below would read it as 0.0.0.1.
        [0, 0, 0, 0, 0, 0, 0, 1] => None,
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] => Some("a metadata address"),
        [0xff00..=0xffff, ..] => Some("a multicast or reserved address"),
        // IPv4 inside IPv6: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            forbidden_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    }
}

/// Why a literal host in a URL is refused, or none when it may be called: [`forbidden`] addresses, names of metadata
/// services, and numbers that some resolvers take for an address (`2852039166`, `0xa9fea9fe`).
pub fn forbidden_host(host: &str) -> Option<&'static str> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
    if let Ok(address) = bare.parse() {
        return forbidden(address);
    }
    if METADATA_HOSTS.contains(&bare) {
        return Some("the name of a metadata service");
    }
    let last = bare.rsplit('.').next().unwrap_or(bare);
    let numeric = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    (numeric && !last.is_empty()).then_some("a number some resolvers take for an address: write it as a.b.c.d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_refused_in_every_spelling() {
        for host in [
            "169.254.169.254",
            "[fe80::1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[fd00:ec2::254]",
            "2852039166",
            "0xa9fea9fe",
            "169.254.43518",
            "metadata.google.internal.",
            "Metadata",
            "0.0.0.0",
            "[::]",
            "239.1.1.1",
        ] {
            assert!(forbidden_host(host).is_some(), "{host}");
        }
    }

    #[test]
    fn ordinary_hosts_are_not() {
        for host in ["api.example.com", "10.0.0.7", "127.0.0.1", "[::1]", "[2001:db8::1]", "echo", "a1.b2", "x.svc.cluster.local"]
        {
            assert_eq!(forbidden_host(host), None, "{host}");
        }
    }
}
