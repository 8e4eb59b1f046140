//! What the servers of a benchmark have in common: how they start, how they end, and what they answer.
//!
//! ```text
//! bin/baseline-hyper    the echo tool on bare hyper: one typed parse, one write; streams that are held and say nothing
//! bin/baseline-rmcp     the echo tool on the official Rust SDK, with its defaults
//! bin/baseline-writes   no server: takes sockets, and writes one event to each in a loop
//! bin/baseline-ours     our library with three tools more: `wait` takes a minute, `slow` 50 ms, `raise` tells of an update
//! ```
//! Each listens on a port of its own choice (`baseline-ours` has the flags of a shard), says so in one line of JSON, and ends
//! when its standard input does.

use std::borrow::Cow;

use mcp_server::heap::{self, Allocator};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// That of the released server.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// What `wait` takes.
pub const WAIT: std::time::Duration = std::time::Duration::from_mins(1);
/// What `slow` takes.
pub const SLOW: std::time::Duration = std::time::Duration::from_millis(50);
/// The resource whose update `raise` tells.
pub const RAISED: &str = "bench://watched";
/// The event that `raise` leads to, on a stream with this id.
pub const EVENT: &str = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\"bench://watched\",\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":\"00000000-0000-0000-0000-000000000000\"}}}\n\n";

/// A JSON-RPC message, as far as an echo needs to know it.
#[derive(Debug, Deserialize)]
pub struct Asked<'a> {
    /// As it was sent; none for a notification.
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    /// What is asked.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// With what.
    #[serde(borrow)]
    pub params: Option<Params<'a>>,
}

/// The parameters of `tools/call`.
#[derive(Debug, Deserialize)]
pub struct Params<'a> {
    /// Of the tool.
    #[serde(borrow)]
    pub arguments: Option<Arguments<'a>>,
}

/// The arguments of `echo`.
#[derive(Debug, Deserialize)]
pub struct Arguments<'a> {
    /// What comes back, as JSON.
    #[serde(borrow)]
    pub text: Option<&'a RawValue>,
}

/// Listens on the loopback interface, and tells where.
///
/// # Errors
/// When there is no free port.
pub async fn listen() -> std::io::Result<TcpListener> {
    heap::settle();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{{\"url\":\"http://{}/mcp\",\"pid\":{}}}", listener.local_addr()?, std::process::id());
    Ok(listener)
}

/// Resolves when standard input ends.
pub async fn told_to_end() {
    let mut bytes = [0; 64];
    while tokio::io::stdin().read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

/// The answer to `tools/call` of `echo`, of the size of ours.
pub fn echoed(id: &str, text: &str, modern: bool) -> Vec<u8> {
    let of_era = if modern {
        r#""resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bench","version":"0.1.0"}},"#
    } else {
        ""
    };
    let mut body = Vec::with_capacity(128 + of_era.len() + id.len() + text.len());
    for part in [r#"{"jsonrpc":"2.0","id":"#, id, r#","result":{"#, of_era, r#""content":[{"type":"text","text":"#, text, "}]}}"]
    {
        body.extend_from_slice(part.as_bytes());
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_json_in_both_eras() {
        for modern in [true, false] {
            let body: serde_json::Value = serde_json::from_slice(&echoed("7", "\"a\"", modern)).expect("JSON");
            assert_eq!(body["result"]["content"][0]["text"], "a");
            assert_eq!(body["result"]["resultType"] == "complete", modern);
        }
    }
}
