//! The contract between the operator and a shard: environment, mounts, ports, and the configuration document.
//!
//! The ConfigMap `{cluster}-config` holds one compressed [`ShardConfig`] and its hash. A shard serves what its hash says;
//! any image whose entrypoint obeys these names and ports is a shard.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ring::digest;
use serde::{Deserialize, Serialize};

use crate::catalog::CompiledCatalog;
use crate::control::hex;

/// Client traffic: `/mcp`.
pub const DATA_PORT: u16 = 8080;
/// Open inside the cluster: `/livez`, `/readyz`, `/metrics`.
pub const ADMIN_PORT: u16 = 9090;
/// Authenticated: `/load`, `/drain`, `/shed`, and the peers.
pub const CONTROL_PORT: u16 = 9091;

/// Name of the `McpCluster`.
pub const ENV_CLUSTER: &str = "MCP_CLUSTER";
/// Its namespace.
pub const ENV_NAMESPACE: &str = "MCP_NAMESPACE";
/// Name of this shard: the pod's name.
pub const ENV_SHARD: &str = "MCP_SHARD";
/// Folder of [`CONFIG_FILE`] and [`HASH_FILE`].
pub const ENV_CONFIG_DIR: &str = "MCP_CONFIG_DIR";
/// Folder of [`KEYS_FILE`].
pub const ENV_KEYS_DIR: &str = "MCP_KEYS_DIR";
/// Folder of credentials, one file for each referenced key of a Secret.
pub const ENV_CREDENTIALS_DIR: &str = "MCP_CREDENTIALS_DIR";
/// How long a SIGTERM may drain, as a [`crate::duration::Span`]: the value the shard was born with.
pub const ENV_DRAIN_TIMEOUT: &str = "MCP_DRAIN_TIMEOUT";
/// Over how long a SIGTERM ends held streams, as a [`crate::duration::Span`].
pub const ENV_DRAIN_WINDOW: &str = "MCP_DRAIN_WINDOW";

/// Where the operator mounts the ConfigMap.
pub const CONFIG_DIR: &str = "/etc/mcp/config";
/// Where the operator mounts the keys.
pub const KEYS_DIR: &str = "/etc/mcp/keys";
/// Where the operator mounts the credentials.
pub const CREDENTIALS_DIR: &str = "/etc/mcp/credentials";
/// The compressed [`ShardConfig`], under `binaryData`.
pub const CONFIG_FILE: &str = "shard.json.gz";
/// Its hash, under `data`.
pub const HASH_FILE: &str = "hash";
/// A [`crate::control::KeyRing`].
pub const KEYS_FILE: &str = "keys.json";

/// The largest document the operator publishes, compressed: what a ConfigMap holds, less room for its metadata.
pub const MAX_CONFIG_BYTES: usize = 1_000_000;
/// The largest document a shard unpacks: a bound on what a compressed megabyte may become.
const MAX_UNPACKED_BYTES: u64 = 64 << 20;

/// Everything about a shard that may change while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardConfig {
    /// Limits of one shard.
    pub limits: Limits,
    /// What clients may send from, and how streams are kept alive.
    pub transport: Transport,
    /// Graceful end.
    pub drain: Drain,
    /// What is logged.
    pub logging: Logging,
    /// What is served.
    pub catalog: CompiledCatalog,
}

/// Limits of one shard; past each, 503 and `Retry-After` or the protocol's own error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Accepted TCP connections.
    pub max_connections: u32,
    /// Held event streams.
    pub max_streams: u32,
    /// Requests being answered.
    pub max_in_flight_requests: u32,
    /// Bytes of one request body.
    pub max_request_size: u64,
    /// Bytes of one request head.
    pub max_header_size: u64,
    /// Nesting of a JSON body.
    pub max_json_depth: u32,
    /// Bytes queued for one slow reader before its stream is ended.
    pub max_stream_backlog: u64,
    /// Time for one request.
    pub request_timeout_ms: u64,
    /// Time to receive a head and a body.
    pub read_timeout_ms: u64,
    /// Requests of one session, or of one connection that has none; none: only the built-in bound on calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Longest time a stream is held; none: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_stream_age_ms: Option<u64>,
}

/// Transport settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// Origins a browser may call from, `scheme://host[:port]`, lower case. `*` is not a value.
    pub allowed_origins: Vec<String>,
    /// Host names that are accepted beside `localhost` and IP literals, lower case, without port. The operator adds the
    /// Service's DNS names.
    pub allowed_hosts: Vec<String>,
    /// Time between keep-alive comments on a quiet stream.
    pub keep_alive_period_ms: u64,
    /// Absolute lifetime of a legacy session.
    pub session_lifetime_ms: u64,
}

/// Graceful end of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Streams end spread over this window.
    pub window_ms: u64,
    /// Then requests finish, until this long after the start.
    pub timeout_ms: u64,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// A `tracing` level: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// JSON lines instead of text. Read at start only.
    pub json: bool,
}

/// A configuration ready to publish or just received: the document and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// SHA-256 of the uncompressed document, hexadecimal.
    pub hash: String,
    /// The document, gzip.
    pub bytes: Vec<u8>,
}

/// Why a published configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Not gzip, or larger than a shard unpacks.
    #[error("the configuration does not unpack")]
    Unpack(#[source] std::io::Error),
    /// Unpacked to more than the bound.
    #[error("the configuration unpacks to more than {MAX_UNPACKED_BYTES} bytes")]
    TooLarge,
    /// The hash beside it names another document: the two files are from different moments.
    #[error("the configuration has hash {actual}, its hash file says {expected}")]
    Hash {
        /// Of the document.
        actual: String,
        /// In the file.
        expected: String,
    },
    /// Not a configuration.
    #[error("the configuration is malformed")]
    Malformed(#[source] serde_json::Error),
}

impl ShardConfig {
    /// Compresses the document and names it by its hash. The same configuration always packs to the same bytes.
    ///
    /// # Errors
    /// When it cannot be serialised.
    pub fn pack(&self) -> std::io::Result<Packed> {
        let document = serde_json::to_vec(self)?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&document)?;
        Ok(Packed { hash: hash(&document), bytes: encoder.finish()? })
    }

    /// Reads a published document and checks it against the hash published with it.
    ///
    /// # Errors
    /// When it does not unpack, does not match, or is malformed.
    pub fn unpack(bytes: &[u8], expected: &str) -> Result<Self, UnpackError> {
        let mut document = Vec::new();
        GzDecoder::new(bytes).take(MAX_UNPACKED_BYTES + 1).read_to_end(&mut document).map_err(UnpackError::Unpack)?;
        if document.len() as u64 > MAX_UNPACKED_BYTES {
            return Err(UnpackError::TooLarge);
        }
        let actual = hash(&document);
        if actual != expected {
            return Err(UnpackError::Hash { actual, expected: expected.to_owned() });
        }
        serde_json::from_slice(&document).map_err(UnpackError::Malformed)
    }
}

fn hash(document: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, document).as_ref())
}
