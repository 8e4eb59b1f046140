//! The server that all rows are sent to.

use std::net::SocketAddr;

use serde_json::json;

use crate::harness::{Running, config, tool};

/// A shard with sessions of every legacy version.
pub struct World {
    server: Running,
    sessions: Vec<(&'static str, String)>,
    /// A session of another cluster.
    pub foreign: String,
    /// A session whose time is over before it began.
    pub expired: String,
}

pub const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

impl World {
    pub async fn start() -> Self {
        let mut config = config();
        config.limits.read_timeout_ms = 20_000;
        config.limits.max_request_size = 256 << 10;
        let mut strict = tool("strict", "What is given is right.");
        strict.definition.input_schema =
            json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
        let mut mirror = tool("mirror", "Mirrored.");
        mirror.definition.input_schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
            "page": {"type": "object", "properties": {"size": {"type": "integer", "x-mcp-header": "Size"}}},
        }});
        config.catalog.tools.extend([strict, mirror]);
        let server = Running::start(&config).await;
        let mut client = server.client().await;
        let mut sessions = Vec::new();
        for version in LEGACY {
            sessions.push((version, client.initialize(version).await.1));
        }
        let other = Running::start(&config).await;
        let foreign = other.client().await.initialize(LEGACY[0]).await.1;
        config.transport.session_lifetime_ms = 0;
        let short = Running::with_keys(Some(&config), server.ring.clone(), std::time::Duration::from_millis(200)).await;
        let expired = short.client().await.initialize(LEGACY[0]).await.1;
        drop(client);
        Self { server, sessions, foreign, expired }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.addresses.data
    }

    /// A session of a version.
    pub fn session(&self, version: &str) -> &str {
        &self.sessions.iter().find(|(name, _)| *name == version).unwrap().1
    }

    /// A session of 2025-11-25.
    pub fn latest(&self) -> &str {
        self.session(LEGACY[0])
    }

    /// Everything that was taken for a request was given back.
    pub async fn is_as_it_was(&self) {
        self.server
            .until("as it was", |shard| {
                let load = &shard.load;
                (load.connections(), load.streams(), load.in_flight(), load.body_bytes(), load.orphans()) == (0, 0, 0, 0, 0)
            })
            .await;
    }
}
