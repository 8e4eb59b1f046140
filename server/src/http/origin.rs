//! Who may call from where: the defence against DNS rebinding (2026-07-28 `basic/transports/streamable-http` §Security).

use std::net::{IpAddr, Ipv4Addr};

use http::uri::Authority;

use crate::serving::Transport;

/// Whether a request for this host may be answered: `localhost`, an IP literal, or a name that was allowed.
pub(super) fn host_is_allowed(transport: &Transport, host: &str) -> bool {
    if is_plainly_allowed(transport, host) {
        return true;
    }
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    is_local(name) || is_address(name) || transport.hosts.iter().any(|allowed| allowed == name)
}

/// The usual forms of that, a name or an IPv4 address and perhaps a port, without a parser of URIs.
fn is_plainly_allowed(transport: &Transport, host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let is_port = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    is_port && (transport.hosts.iter().any(|allowed| allowed == name) || name == "localhost" || name.parse::<Ipv4Addr>().is_ok())
}

/// Whether a page of this origin may call.
pub(super) fn origin_is_allowed(transport: &Transport, origin: &str) -> bool {
    let origin = origin.to_ascii_lowercase();
    transport.origins.contains(&origin) || (transport.loopback_origins && is_loopback(&origin))
}

/// `http://localhost:1234` and its like: a page of this machine.
fn is_loopback(origin: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme)) else {
        return false;
    };
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    is_local(authority.host()) || address(authority.host()).is_some_and(|address| address.is_loopback())
}

fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn is_address(name: &str) -> bool {
    address(name).is_some()
}

fn address(name: &str) -> Option<IpAddr> {
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn transport(loopback_origins: bool) -> Transport {
        Transport {
            origins: vec!["https://chat.example.com".to_owned()],
            hosts: vec!["hello.default.svc".to_owned()],
            loopback_origins,
            keep_alive: Duration::from_secs(1),
            session_lifetime: Duration::from_secs(1),
        }
    }

    #[test]
    fn names_of_the_service_and_addresses_are_allowed() {
        for host in [
            "hello.default.svc",
            "Hello.Default.svc:8080",
            "hello.default.svc.",
            "localhost:3000",
            "10.0.0.7:8080",
            "[fd00::1]:8080",
        ] {
            assert!(host_is_allowed(&transport(false), host), "{host}");
        }
    }

    #[test]
    fn a_name_an_attacker_rebinds_is_not() {
        for host in ["evil.example.com", "evil.example.com:8080", "localhost.evil.com", "", "a b", "10.0.0.7.evil.com"] {
            assert!(!host_is_allowed(&transport(false), host), "{host}");
        }
    }

    #[test]
    fn origins_are_allowed_by_name_and_loopback_only_on_a_laptop() {
        assert!(origin_is_allowed(&transport(false), "https://chat.example.com"));
        for origin in ["http://chat.example.com", "https://chat.example.com.evil.com", "null", "https://evil.com"] {
            assert!(!origin_is_allowed(&transport(true), origin), "{origin}");
        }
        for origin in ["http://localhost:5173", "http://127.0.0.1:6274", "https://[::1]:8443"] {
            assert!(origin_is_allowed(&transport(true), origin), "{origin}");
            assert!(!origin_is_allowed(&transport(false), origin), "{origin}");
        }
        assert!(!origin_is_allowed(&transport(true), "http://localhost.evil.com"));
    }
}
