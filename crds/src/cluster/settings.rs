//! `spec.limits`, `drain`, `transport`, `auth`, `networkPolicy` and `logging`: what shards take live.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::quantity::Size;

/// Limits of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// Accepted TCP connections; lower when the shard's file limit is.
    pub max_connections: i32,
    /// Held event streams.
    pub max_streams: i32,
    /// Requests being answered.
    pub max_in_flight_requests: i32,
    /// One request body; past it 413.
    pub max_request_size: Size,
    /// One request head; past it 431.
    pub max_header_size: Size,
    /// Nesting of a JSON body.
    #[serde(rename = "maxJSONDepth")]
    pub max_json_depth: i32,
    /// Queued for one slow reader before its stream is ended.
    pub max_stream_backlog: Size,
    /// Time for one request.
    pub request_timeout: Span,
    /// Time to receive a head and a body.
    pub read_timeout: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_streams: 10_000,
            max_in_flight_requests: 1024,
            max_request_size: Size::from("4Mi"),
            max_header_size: Size::from("32Ki"),
            max_json_depth: 64,
            max_stream_backlog: Size::from("256Ki"),
            request_timeout: Span::from("60s"),
            read_timeout: Span::from("15s"),
        }
    }
}

/// How a shard ends. A node drain uses the value the shard was born with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Drain {
    /// Streams end spread over this window.
    pub window: Span,
    /// Then requests finish, until this long after the start.
    pub timeout: Span,
}

impl Default for Drain {
    fn default() -> Self {
        Self { window: Span::from("60s"), timeout: Span::from("5m") }
    }
}

/// How clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Transport {
    /// Origins a browser may call from. Unset: a request with an Origin gets 403.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// Host names beside the Service's DNS names, `localhost` and IP literals, which are always allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Between keep-alive comments on a quiet stream. Keep it below your load balancer's idle timeout.
    pub keep_alive_period: Span,
    /// Absolute lifetime of a legacy session.
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
pub struct Auth {
    /// Anyone may call every tool.
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
    /// The least severe level that is written.
    pub level: LogLevel,
    /// Text for people, JSON for machines.
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
