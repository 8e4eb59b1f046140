//! `spec.limits`, `drain`, `rollout`, `disruption`, `transport`, `auth`, `networkPolicy` and `logging`: what restarts no shard.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::portion::Portion;
use crate::quantity::Size;
use crate::rules;

/// Limits of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// Accepted TCP connections; lower when the shard's file limit is.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: i32,
    /// Held event streams: agents that wait for notifications. Unset: as many as `maxConnections`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_streams: Option<i32>,
    /// Requests being answered at one time.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_in_flight_requests: i32,
    /// Largest body of one request, as a quantity; past it 413.
    #[schemars(transform = rules::size("1Ki", "256Mi"))]
    pub max_request_size: Size,
    /// Largest head of one request, as a quantity; past it 431.
    #[schemars(transform = rules::size("4Ki", "1Mi"))]
    pub max_header_size: Size,
    /// Deepest nesting of a JSON body.
    #[serde(rename = "maxJSONDepth")]
    #[schemars(range(min = 8, max = 128))]
    pub max_json_depth: i32,
    /// Queued for one slow reader before its stream is ended, as a quantity: a reader that does not read costs no more.
    #[schemars(transform = rules::size("16Ki", "16Mi"))]
    pub max_stream_backlog: Size,
    /// Time for one request, backends included.
    #[schemars(transform = rules::span("100ms", "1h", "60s"))]
    pub request_timeout: Span,
    /// Time to receive a head and a body: what a slow sender may take.
    #[schemars(transform = rules::span("100ms", "10m", "15s"))]
    pub read_timeout: Span,
    /// Requests of one session, or of one connection that has no session, per second, with a second's worth at once; past it
    /// 429 and `Retry-After`. Unset: only tool calls and completions are bounded, at 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub requests_per_second: Option<i32>,
    /// Streams are ended with their result before they are this old, each up to a tenth earlier, so that they do not end
    /// together: clients open another, on any shard. It evens out load over hours. Unset: they are held for as long as both
    /// sides want.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::span("1m", "720h", "4h"))]
    pub max_stream_age: Option<Span>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_streams: None,
            max_in_flight_requests: 1024,
            max_request_size: Size::from("4Mi"),
            max_header_size: Size::from("32Ki"),
            max_json_depth: 64,
            max_stream_backlog: Size::from("256Ki"),
            request_timeout: Span::from("60s"),
            read_timeout: Span::from("15s"),
            requests_per_second: None,
            max_stream_age: None,
        }
    }
}

impl Limits {
    /// Event streams that a shard may hold.
    pub fn streams(&self) -> i32 {
        self.max_streams.unwrap_or(self.max_connections)
    }
}

/// How a shard ends. A node drain uses the value the shard was born with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(transform = rules::rule(
    "duration(self.window) < duration(self.timeout)",
    "`window` must be less than `timeout`: streams end over the window, the rest of `timeout` is for requests still running"
))]
pub struct Drain {
    /// Streams end spread over this window, so that agents do not all come back at once.
    #[schemars(transform = rules::span("0s", "6h", "60s"))]
    pub window: Span,
    /// Requests finish, until this long after the start of the drain; then the shard is deleted.
    #[schemars(transform = rules::span("1s", "24h", "5m"))]
    pub timeout: Span,
}

impl Default for Drain {
    fn default() -> Self {
        Self { window: Span::from("60s"), timeout: Span::from("5m") }
    }
}

/// How a changed template replaces shards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Rollout {
    /// Pods a rollout may have beyond the desired ones, those that drain for it included: a number, or a percentage of the
    /// shards, rounded up. So many shards are replaced at one time. Unset: 10%, at least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::portion("maxSurge"))]
    pub max_surge: Option<Portion>,
}

/// What Kubernetes may take away by itself: node drains, evictions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Disruption {
    /// Shards that may be evicted at one time: a number, or a percentage of the shards, rounded down, but always one. The
    /// PodDisruptionBudget holds the number that follows, and moves with the size. Unset: 10%, at least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::portion("maxUnavailable"))]
    pub max_unavailable: Option<Portion>,
}

/// How clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Transport {
    /// Origins a browser may call from, for example `https://chat.example.com`. Unset: a request with an Origin gets 403.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1, max = 253)), transform = rules::list_set(64), transform = rules::rule(
        "self.all(o, o.matches('^[A-Za-z][A-Za-z0-9+.-]*://[^/?#@* ]+$'))",
        "each must be an origin, scheme and host without path, for example 'https://chat.example.com'; '*' is not one"
    ))]
    pub allowed_origins: Vec<String>,
    /// Host names clients use, beside the Service's DNS names, `localhost` and IP literals, which are always allowed. A
    /// request with another Host gets 403: it comes from a page that bent DNS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1, max = 253)), transform = rules::list_set(64), transform = rules::rule(
        "self.all(h, h.matches('^[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?$'))",
        "each must be a host name without scheme and port, for example 'mcp.example.com'"
    ))]
    pub allowed_hosts: Vec<String>,
    /// Time between keep-alive comments on a quiet stream. Keep it below your load balancer's idle timeout.
    #[schemars(transform = rules::span("1s", "10m", "25s"))]
    pub keep_alive_period: Span,
    /// Absolute lifetime of a legacy session (MCP 2025-11-25 and older): after it clients start a new one. 720h is 30 days.
    #[schemars(transform = rules::span("1m", "8760h", "720h"))]
    pub session_lifetime: Span,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            allowed_origins: vec![],
            allowed_hosts: vec![],
            keep_alive_period: Span::from("25s"),
            session_lifetime: Span::from("720h"),
        }
    }
}

/// Who may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(transform = rules::rule("has(self.anonymous)", "set `anonymous: {}` to let anyone call every tool"))]
pub struct Auth {
    /// `{}`: anyone who can reach the Service may call every tool, also from outside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
}

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Anonymous {}

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkPolicy {}

/// What shards log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Logging {
    /// The least severe level that is written: Error, Warn, Info, Debug or Trace.
    pub level: LogLevel,
    /// JSON, a line of it for each event, for machines; Text for people. Read when a shard starts.
    pub format: LogFormat,
}

/// Level of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// Something happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

/// Format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    /// For machines.
    #[default]
    JSON,
    /// For people.
    Text,
}
