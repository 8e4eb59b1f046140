//! One connection, in bytes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Answered, PATIENCE};

pub struct Wire {
    pub socket: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    /// Sends bytes. A server that has answered already may have closed its side: what it said is what counts.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.socket.write_all(bytes)).await.expect("a server that takes bytes");
    }

    pub async fn ask(&mut self, bytes: &[u8]) -> Answered {
        self.send(bytes).await;
        self.response(bytes.starts_with(b"HEAD")).await
    }

    /// One response; a 100 before it is put into its head. Of a stream, the head.
    pub async fn response(&mut self, to_head: bool) -> Answered {
        let mut head = self.head().await;
        if head.starts_with("HTTP/1.1 100") {
            head.push_str(&self.head().await);
        }
        let last = &head[head.rfind("HTTP/1.").unwrap()..];
        let status = last.split(' ').nth(1).unwrap().parse().unwrap();
        let length = last.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let body = self.bytes(if to_head { 0 } else { length.unwrap_or(0) }).await;
        Answered { status, head, body }
    }

    async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
            }
            assert!(self.more().await, "the connection ended before a head: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    async fn bytes(&mut self, length: usize) -> String {
        while self.read.len() < length {
            assert!(self.more().await, "the body broke off");
        }
        String::from_utf8(self.read.drain(..length).collect()).unwrap()
    }

    /// Reads until the text has come; returns all that was read, and forgets it.
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

    /// Reads to the end of the connection; a reset is one, too.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    async fn more(&mut self) -> bool {
        timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await.expect("bytes in time").is_ok_and(|read| read > 0)
    }
}
