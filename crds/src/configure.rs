//! Spec + compiled catalog → the document a shard is configured with.

use crate::catalog::CompiledCatalog;
use crate::cluster::{LogFormat, LogLevel, McpClusterSpec};
use crate::duration::Span;
use crate::quantity::{Bytes, Size};
use crate::shard::{Drain, Limits, Logging, ShardConfig, Transport};

/// The configuration of the shards of a cluster: numbers for quantities and durations, the Service's names among the hosts.
///
/// Total: what validation would have refused becomes the nearest value that is safe. `service_hosts` are DNS names under
/// which the Service is reached.
pub fn shard_config(spec: &McpClusterSpec, catalog: CompiledCatalog, service_hosts: &[String]) -> ShardConfig {
    let limits = &spec.limits;
    let transport = &spec.transport;
    let mut allowed_hosts: Vec<String> =
        service_hosts.iter().chain(&transport.allowed_hosts).map(|host| host.to_ascii_lowercase()).collect();
    allowed_hosts.sort_unstable();
    allowed_hosts.dedup();
    ShardConfig {
        limits: Limits {
            max_connections: count(limits.max_connections),
            max_streams: count(limits.streams()),
            max_in_flight_requests: count(limits.max_in_flight_requests),
            max_request_size: bytes(&limits.max_request_size),
            max_header_size: bytes(&limits.max_header_size),
            max_json_depth: count(limits.max_json_depth),
            max_stream_backlog: bytes(&limits.max_stream_backlog),
            request_timeout_ms: milliseconds(&limits.request_timeout),
            read_timeout_ms: milliseconds(&limits.read_timeout),
            requests_per_second: limits.requests_per_second.map(count),
            max_stream_age_ms: limits.max_stream_age.as_ref().map(milliseconds),
        },
        transport: Transport {
            allowed_origins: transport.allowed_origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
            allowed_hosts,
            keep_alive_period_ms: milliseconds(&transport.keep_alive_period),
            session_lifetime_ms: milliseconds(&transport.session_lifetime),
        },
        drain: Drain { window_ms: milliseconds(&spec.drain.window), timeout_ms: milliseconds(&spec.drain.timeout) },
        logging: Logging {
            level: match spec.logging.level {
                LogLevel::Error => "error",
                LogLevel::Warn => "warn",
                LogLevel::Info => "info",
                LogLevel::Debug => "debug",
                LogLevel::Trace => "trace",
            }
            .to_owned(),
            json: match spec.logging.format {
                LogFormat::JSON => true,
                LogFormat::Text => false,
            },
        },
        catalog,
    }
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0).max(1)
}

fn bytes(size: &Size) -> u64 {
    Bytes::try_from(size).unwrap_or_default().0
}

fn milliseconds(span: &Span) -> u64 {
    u64::try_from(span.or_zero().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::{CompileInput, compile};

    fn catalog() -> CompiledCatalog {
        let input = CompileInput { cluster: "tools", catalog: None, config_maps: &BTreeMap::new(), server_version: "1" };
        compile(&input).unwrap().catalog
    }

    #[test]
    fn quantities_and_durations_become_numbers() {
        let spec: McpClusterSpec = serde_json::from_value(serde_json::json!({
            "limits": {"maxRequestSize": "4Mi", "requestTimeout": "1m30s"},
            "transport": {"allowedOrigins": ["https://Chat.example.com"], "allowedHosts": ["MCP.example.com", "tools"]},
        }))
        .unwrap();
        let config = shard_config(&spec, catalog(), &["tools".to_owned(), "tools.agents".to_owned()]);
        assert_eq!(config.limits.max_request_size, 4 << 20);
        assert_eq!(config.limits.request_timeout_ms, 90_000);
        assert_eq!(config.limits.max_connections, 10_000);
        assert_eq!(config.drain.timeout_ms, 300_000);
        assert_eq!(config.transport.allowed_origins, ["https://chat.example.com"]);
        assert_eq!(config.transport.allowed_hosts, ["mcp.example.com", "tools", "tools.agents"]);
        assert!(config.logging.json);
    }

    #[test]
    fn a_shard_holds_as_many_streams_as_connections_unless_told_otherwise() {
        let streams = |limits: serde_json::Value| {
            let spec: McpClusterSpec = serde_json::from_value(serde_json::json!({ "limits": limits })).unwrap();
            shard_config(&spec, catalog(), &[]).limits.max_streams
        };
        assert_eq!(streams(serde_json::json!({})), 10_000);
        assert_eq!(streams(serde_json::json!({"maxConnections": 20_000})), 20_000);
        assert_eq!(streams(serde_json::json!({"maxConnections": 20_000, "maxStreams": 500})), 500);
    }
}
