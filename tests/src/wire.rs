//! HTTP/1.1 by hand: a client whose socket takes only what it reads, and reads only when it wants to.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// For a connection and for the head of an answer: tools here take six seconds at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a client that does not read: otherwise the kernel reads megabytes for it.
const SMALL_WINDOW: u32 = 16 << 10;
const LONGEST_HEAD: usize = 16 << 10;
/// The chunk that ends a body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// An answer of which the head was read.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// `Mcp-Session-Id`.
    pub session: Option<String>,
    /// Bytes of the body; none for a stream.
    length: Option<usize>,
    rest: Vec<u8>,
    socket: TcpStream,
}

/// Sends a request on a connection of its own.
///
/// # Errors
/// When no answer comes.
pub async fn ask(address: SocketAddr, request: &[u8], reads_slowly: bool) -> io::Result<Answer> {
    timeout(PATIENCE, async {
        let socket = TcpSocket::new_v4()?;
        if reads_slowly {
            socket.set_recv_buffer_size(SMALL_WINDOW)?;
        }
        let mut socket = socket.connect(address).await?;
        socket.write_all(request).await?;
        let mut bytes = Vec::with_capacity(1024);
        let end = loop {
            if socket.read_buf(&mut bytes).await? == 0 || bytes.len() > LONGEST_HEAD {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok(Answer {
            status,
            retry_after: field("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs),
            session: field("mcp-session-id"),
            length: field("content-length").and_then(|value| value.parse().ok()),
            rest: bytes.split_off(end + 4),
            socket,
        })
    })
    .await?
}

impl Answer {
    /// Reads to the end, so many bytes and then a pause, again and again. Returns how many there were, and whether that is all
    /// of it.
    pub async fn read(mut self, piece: usize, pause: Duration) -> (usize, bool) {
        let mut taken = self.rest.len();
        let mut tail = self.rest;
        let mut buffer = vec![0; piece.clamp(1, 64 << 10)];
        loop {
            if self.length.is_some_and(|length| taken >= length) {
                return (taken, true);
            }
            match self.socket.read(&mut buffer).await {
                Ok(0) | Err(_) => return (taken, self.length.is_none() && tail.ends_with(LAST_CHUNK)),
                Ok(read) => {
                    taken += read;
                    tail.extend_from_slice(&buffer[..read]);
                    tail.drain(..tail.len().saturating_sub(LAST_CHUNK.len()));
                }
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// A request of MCP 2026-07-28.
pub fn modern(address: SocketAddr, method: &str, mut params: Value) -> Vec<u8> {
    const VERSION: &str = "2026-07-28";
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "mcp-tests", "version": env!("CARGO_PKG_VERSION")},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let name = params["name"].as_str().map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
    let headers = format!("MCP-Protocol-Version: {VERSION}\r\nMcp-Method: {method}\r\n{name}");
    post(address, &headers, &json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
}

/// A message of MCP 2025-11-25, in a session if there is one.
pub fn legacy(address: SocketAddr, session: Option<&str>, message: &Value) -> Vec<u8> {
    post(address, &of_session(session), message)
}

/// Asks for the stream of a session.
pub fn listen(address: SocketAddr, session: &str) -> Vec<u8> {
    let headers = of_session(Some(session));
    format!("GET /mcp HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{headers}\r\n").into_bytes()
}

fn of_session(session: Option<&str>) -> String {
    session.map(|id| format!("MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {id}\r\n")).unwrap_or_default()
}

fn post(address: SocketAddr, headers: &str, message: &Value) -> Vec<u8> {
    let body = message.to_string();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    request.into_bytes()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What is read of a server that says `text` and closes.
    async fn read(text: &'static str) -> (u16, usize, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _ = socket.read(&mut request).await.unwrap();
            socket.write_all(text.as_bytes()).await.unwrap();
        });
        let answer = ask(address, &listen(address, "s"), true).await.unwrap();
        let status = answer.status;
        let (bytes, is_whole) = answer.read(4, Duration::ZERO).await;
        (status, bytes, is_whole)
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_told_from_one_that_ends() {
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef").await, (200, 6, true));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await, (200, 3, false));
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await, (200, 13, true));
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n3\r\nabc\r\n").await, (200, 8, false));
    }
}
