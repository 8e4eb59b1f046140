//! A server on free ports with folders of its own, and clients that speak to it in bytes.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcp_crds::catalog::{
    Answer, CacheScope, CompiledCatalog, CompiledHttp, CompiledResource, CompiledTool, ContentBlock, Contents, Implementation,
    Method, Prompt, PromptArgument, PromptMessage, ResourceDefinition, Role, ToolDefinition, ToolOutput,
};
use mcp_crds::control::{self, KeyRing, Signed};
use mcp_crds::load::LoadReport;
use mcp_crds::shard::{CONFIG_FILE, Drain, HASH_FILE, KEYS_FILE, Limits, Logging, ShardConfig, Transport};
use mcp_server::config::{Config, Source};
use mcp_server::library::Code;
use mcp_server::server::Addresses;
use mcp_server::session::generated_ring;
use mcp_server::shard::Shard;
use mcp_server::telemetry::LogLevel;
use mcp_server::watch::Folders;
use mcp_server::{Ending, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const MODERN: &str = "2026-07-28";

/// A running shard.
pub struct Running {
    pub addresses: Addresses,
    pub shard: Arc<Shard>,
    pub folder: TempDir,
    pub ring: KeyRing,
    pub ends: mpsc::Sender<Ending>,
    pub ended: JoinHandle<()>,
}

pub fn tool(name: &str, text: &str) -> CompiledTool {
    CompiledTool {
        definition: ToolDefinition {
            name: name.to_owned(),
            title: None,
            description: Some(format!("Says {text}.")),
            icons: vec![],
            annotations: None,
            input_schema: json!({"type": "object", "properties": {"name": {"type": "string"}}}),
            output_schema: None,
        },
        answer: Answer::Template(ToolOutput {
            content: vec![ContentBlock { text: Some(text.to_owned()), ..ContentBlock::default() }],
            ..ToolOutput::default()
        }),
        max_in_flight_requests: None,
    }
}

pub fn config() -> ShardConfig {
    ShardConfig {
        limits: Limits {
            max_connections: 100,
            max_streams: 100,
            max_in_flight_requests: 100,
            max_request_size: 64 << 10,
            max_header_size: 16 << 10,
            max_json_depth: 32,
            max_stream_backlog: 64 << 10,
            request_timeout_ms: 5_000,
            read_timeout_ms: 2_000,
            requests_per_second: None,
            max_stream_age_ms: None,
        },
        transport: Transport {
            allowed_origins: vec!["https://chat.example.com".to_owned()],
            allowed_hosts: vec!["hello.default.svc".to_owned()],
            keep_alive_period_ms: 60_000,
            session_lifetime_ms: 3_600_000,
        },
        drain: Drain { window_ms: 500, timeout_ms: 5_000 },
        logging: Logging { level: "info".to_owned(), json: false },
        catalog: CompiledCatalog {
            server_info: Implementation { name: "test".to_owned(), version: "7".to_owned(), ..Implementation::default() },
            instructions: Some("Be kind.".to_owned()),
            ttl_ms: 60_000,
            cache_scope: CacheScope::Public,
            backends: vec![],
            tools: vec![tool("greet", "Hello, {name}!")],
            resources: vec![CompiledResource {
                definition: ResourceDefinition {
                    uri: "test://note".to_owned(),
                    name: "note".to_owned(),
                    title: None,
                    description: None,
                    mime_type: Some("text/plain".to_owned()),
                    size: None,
                    icons: vec![],
                    annotations: None,
                },
                contents: Contents::Text("A note.".to_owned()),
            }],
            prompts: vec![Prompt {
                name: "ask".to_owned(),
                title: None,
                description: None,
                icons: vec![],
                arguments: vec![PromptArgument { name: "topic".to_owned(), required: true, ..PromptArgument::default() }],
                messages: vec![PromptMessage {
                    role: Role::User,
                    content: ContentBlock { text: Some("Tell me about {topic}.".to_owned()), ..ContentBlock::default() },
                }],
            }],
            ..CompiledCatalog::default()
        },
    }
}

/// Publishes a configuration as the kubelet would show it; returns its hash.
pub fn publish(folder: &Path, config: &ShardConfig) -> String {
    let packed = config.pack().unwrap();
    std::fs::write(folder.join(CONFIG_FILE), &packed.bytes).unwrap();
    std::fs::write(folder.join(HASH_FILE), &packed.hash).unwrap();
    packed.hash
}

impl Running {
    /// A shard that serves a configuration.
    pub async fn start(config: &ShardConfig) -> Self {
        Self::with_keys(Some(config), generated_ring(), Duration::from_millis(200)).await
    }

    /// A shard that serves a configuration and a program.
    pub async fn with_code(config: &ShardConfig, code: Code) -> Self {
        let running = Self::bind(Some(config), generated_ring(), Duration::from_millis(200), code).await;
        running.until("ready", Shard::is_ready).await;
        running
    }

    /// A shard with these keys; without a configuration it waits for one.
    pub async fn with_keys(config: Option<&ShardConfig>, ring: KeyRing, lag: Duration) -> Self {
        let running = Self::bind(config, ring, lag, Code::default()).await;
        if config.is_some() {
            running.until("ready", Shard::is_ready).await;
        }
        running
    }

    /// A shard that may not be ready.
    pub async fn bind(config: Option<&ShardConfig>, ring: KeyRing, lag: Duration, code: Code) -> Self {
        Self::member("test-0", config, ring, (lag, Duration::ZERO), code).await
    }

    /// A shard of this name that waits for the operator's list, and that may not be ready. `waits`: how long endpoints lag,
    /// and how long it waits for the list.
    pub async fn member(
        name: &str,
        config: Option<&ShardConfig>,
        ring: KeyRing,
        (lag, list_wait): (Duration, Duration),
        code: Code,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join(KEYS_FILE), serde_json::to_vec(&ring).unwrap()).unwrap();
        if let Some(config) = config {
            publish(folder.path(), config);
        }
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let settings = Config {
            source: Source::Folders(Folders {
                config: folder.path().to_owned(),
                keys: folder.path().to_owned(),
                credentials: folder.path().join("none"),
            }),
            listen: local,
            admin_listen: local,
            control_listen: Some(local),
            shard: name.to_owned(),
            drain_window: None,
            drain_timeout: None,
            endpoint_lag: lag,
            list_wait,
            workers: 1,
            json_log: None,
        };
        let server = Server::bind_with(settings, None, LogLevel::default(), code).await.unwrap();
        let (addresses, shard) = (server.addresses().unwrap(), server.shard());
        let (ends, endings) = mpsc::channel(2);
        let ended = tokio::spawn(server.run(endings));
        Self { addresses, shard, folder, ring, ends, ended }
    }

    /// Waits for a condition of the shard.
    pub async fn until(&self, what: &str, condition: impl Fn(&Shard) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.shard) {
            assert!(Instant::now() < deadline, "not {what} in {PATIENCE:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends a signed request to the control port.
    pub async fn control(&self, path: &str, body: &Value) -> Answered {
        static NONCE: AtomicU64 = AtomicU64::new(1);
        let nonce = format!("{:032x}", NONCE.fetch_add(1, Ordering::Relaxed));
        self.control_signed(path, body, &nonce, self.ring.signing_key().unwrap()).await
    }

    pub async fn control_signed(&self, path: &str, body: &Value, nonce: &str, key: &control::Key) -> Answered {
        let body = body.to_string();
        let time = mcp_server::shard::epoch_seconds();
        let mac = control::sign(key, &Signed { method: "POST", path, time, nonce, body: body.as_bytes() }).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nx-mcp-key-id: {}\r\nx-mcp-time: {time}\r\nx-mcp-nonce: {nonce}\r\nx-mcp-mac: {mac}\r\ncontent-length: {}\r\n\r\n{body}",
            key.id,
            body.len()
        );
        Client::connect(self.addresses.control.unwrap()).await.exchange(head.as_bytes()).await
    }

    pub async fn load(&self, body: &Value) -> LoadReport {
        let answered = self.control("/load", body).await;
        assert_eq!(answered.status, 200, "{}", answered.body);
        serde_json::from_str(&answered.body).unwrap()
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.addresses.data).await
    }

    pub async fn admin(&self, path: &str) -> Answered {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        Client::connect(self.addresses.admin).await.exchange(head.as_bytes()).await
    }
}

/// A response.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answered {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn error_code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error in {self:?}"))
    }
}

/// One connection.
pub struct Client<S = TcpStream> {
    pub socket: S,
    read: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(socket: S) -> Self {
        Self { socket, read: Vec::new() }
    }

    /// Sends bytes and reads one response with a body of known length.
    pub async fn exchange(&mut self, bytes: &[u8]) -> Answered {
        self.socket.write_all(bytes).await.unwrap();
        self.response().await
    }

    pub async fn response(&mut self) -> Answered {
        let head = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(|value| value.trim().to_owned()))
            .map_or(0, |value| value.parse::<usize>().unwrap());
        while self.read.len() < length {
            assert!(self.more().await, "the body broke off after {head}");
        }
        let body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        Answered { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body }
    }

    /// Reads a head and leaves what follows.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.more().await, "the connection ended before a head: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// Reads until the text has come; returns all that was read.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            let said = String::from_utf8_lossy(&self.read).into_owned();
            if said.contains(text) {
                self.read.clear();
                return said;
            }
            assert!(self.more().await, "ended without {text:?}: {said}");
        }
    }

    /// Reads to the end of the connection.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    async fn more(&mut self) -> bool {
        timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await.expect("bytes in time").is_ok_and(|read| read > 0)
    }

    pub async fn post(&mut self, headers: &[(&str, &str)], body: &str) -> Answered {
        self.socket.write_all(post(headers, body).as_bytes()).await.unwrap();
        self.response().await
    }

    /// A modern request, with the headers it needs.
    pub async fn modern(&mut self, method: &str, params: Value) -> Answered {
        let (headers, body) = modern(method, params);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.post(&headers, &body).await
    }

    /// A legacy handshake; returns the session id.
    pub async fn initialize(&mut self, version: &str) -> (Answered, String) {
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let answered = self.post(&[], &body.to_string()).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        let session = answered.header("mcp-session-id").unwrap().to_owned();
        (answered, session)
    }

    pub async fn legacy(&mut self, session: &str, method: &str, params: Value) -> Answered {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        self.post(&[("mcp-session-id", session), ("mcp-protocol-version", "2025-11-25")], &body).await
    }
}

/// A POST to /mcp; headers given replace those every client sends.
pub fn post(headers: &[(&str, &str)], body: &str) -> String {
    let mut head = "POST /mcp HTTP/1.1\r\n".to_owned();
    let usual = [("host", "localhost"), ("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let usual = usual.into_iter().filter(|(name, _)| !headers.iter().any(|(given, _)| given == name));
    for (name, value) in usual.chain(headers.iter().copied()).filter(|(_, value)| !value.is_empty()) {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

pub fn meta() -> Value {
    json!({"io.modelcontextprotocol/protocolVersion": MODERN,
           "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
           "io.modelcontextprotocol/clientCapabilities": {}})
}

/// Headers and body of a modern request.
pub fn modern(method: &str, mut params: Value) -> (Vec<(String, String)>, String) {
    if params.get("_meta").is_none() {
        params["_meta"] = meta();
    }
    let version = params["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str().unwrap_or(MODERN).to_owned();
    let mut headers = vec![("mcp-protocol-version".to_owned(), version), ("mcp-method".to_owned(), method.to_owned())];
    let named = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    };
    headers.extend(named.map(|name| ("mcp-name".to_owned(), name.to_owned())));
    (headers, json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string())
}

/// A configuration with a tool that a REST API answers: one that accepts, tells the test, and waits for its word.
pub async fn slow() -> (ShardConfig, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config();
    config.catalog.tools[0].answer = Answer::Http(CompiledHttp {
        backend: None,
        method: Method::Get,
        url: format!("http://{}/slow", upstream.local_addr().unwrap()),
        headers: vec![],
        body: None,
        select: None,
        text: None,
        max_size: 1024,
        timeout_ms: 20_000,
    });
    config.limits.request_timeout_ms = 20_000;
    (config, upstream)
}

/// The call of a REST API arrives; what is left of it is returned.
pub async fn arrives(upstream: &TcpListener) -> TcpStream {
    let (mut call, _) = upstream.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(call.read_buf(&mut head).await.unwrap() > 0);
    }
    call
}
