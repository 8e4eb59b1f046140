//! One row: sends, and compares what comes back with the document.

use std::net::SocketAddr;

use crate::ask::{Ask, ID};
use crate::harness::Answered;
use crate::table::{self, Body, Connection, Expected};
use crate::wire::Wire;
use crate::world::World;
use serde_json::Value;

/// Looks closer at an answer.
pub type Closer = fn(&[u8], &Answered);

/// A row of the table: everything that is sent must be answered as it says, each on a connection of its own.
pub struct Row {
    pub name: &'static str,
    sends: Vec<Vec<u8>>,
    ends_its_side: bool,
    last_words: Option<&'static str>,
    closer: Option<Closer>,
}

/// A row.
pub fn row(name: &'static str, asks: impl IntoIterator<Item = Ask>) -> Row {
    raw(name, asks.into_iter().map(|ask| ask.bytes()))
}

/// A row of bytes that are no whole request.
pub fn raw(name: &'static str, sends: impl IntoIterator<Item = Vec<u8>>) -> Row {
    let sends: Vec<_> = sends.into_iter().collect();
    assert!(!sends.is_empty(), "{name} sends nothing");
    Row { name, sends, ends_its_side: false, last_words: None, closer: None }
}

impl Row {
    /// And the answer is looked at closer.
    pub fn and(self, closer: Closer) -> Self {
        Self { closer: Some(closer), ..self }
    }

    /// After its bytes the client ends its side.
    pub fn then_ends(self) -> Self {
        Self { ends_its_side: true, ..self }
    }

    /// After the answer something more comes, which begins like this.
    pub fn then_hears(self, words: &'static str) -> Self {
        Self { last_words: Some(words), ..self }
    }

    /// Sends all of it; what is not as the document says.
    pub async fn check(&self, world: &World) -> Vec<String> {
        let expected = table::of(self.name);
        let mut failures = Vec::new();
        for bytes in &self.sends {
            let (address, expected, bytes) = (world.address(), expected.clone(), bytes.clone());
            let (ends, words, closer) = (self.ends_its_side, self.last_words, self.closer);
            let sent = String::from_utf8_lossy(&bytes).chars().take(600).collect::<String>();
            // A task, so that one row that panics does not hide the others.
            let checked = tokio::spawn(async move { check(address, &expected, &bytes, ends, words, closer).await });
            if let Err(panic) = checked.await.map_err(tokio::task::JoinError::into_panic) {
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
                failures.push(format!("{}: {}\n--- sent:\n{sent}\n---", self.name, said.unwrap_or_default()));
            }
        }
        failures
    }
}

async fn check(address: SocketAddr, expected: &Expected, bytes: &[u8], ends: bool, words: Option<&str>, closer: Option<Closer>) {
    let mut client = Wire::connect(address).await;
    client.send(bytes).await;
    if ends {
        tokio::io::AsyncWriteExt::shutdown(&mut client.socket).await.unwrap();
    }
    let answered = client.response(bytes.starts_with(b"HEAD")).await;
    if words.is_none() {
        says_what_becomes_of_it(expected, &answered);
    }
    compare(expected, &answered);
    if let Some(closer) = closer {
        closer(bytes, &answered);
    }
    match expected.connection {
        Connection::Kept => is_kept(&mut client).await,
        Connection::Closed => {
            let rest = client.rest().await;
            assert!(rest.starts_with(words.unwrap_or_default()) && rest.is_empty() == words.is_none(), "then came {rest}");
        }
        Connection::Held => {}
    }
}

/// A connection that ends says so; only HTTP/1.0 and hyper's own refusals of a head do not.
fn says_what_becomes_of_it(expected: &Expected, answered: &Answered) {
    let closes = answered.header("connection").is_some_and(|value| value == "close");
    let is_own =
        answered.head.starts_with("HTTP/1.1") && answered.header("date").is_some() && answered.header("content-type").is_some();
    assert!(!is_own || closes != (expected.connection == Connection::Kept), "connection: {answered:?}");
}

/// Whether an answer is what the document says.
pub fn compare(expected: &Expected, answered: &Answered) {
    assert_eq!(Some(answered.status), expected.status, "{answered:?}");
    let media = answered.header("content-type");
    match expected.body {
        Body::None => assert_eq!((answered.body.as_str(), media), ("", None)),
        Body::Events => assert_eq!(media, Some("text/event-stream")),
        Body::Error | Body::ErrorWithId | Body::Result | Body::ToolError | Body::Batch => {
            assert_eq!(media, Some("application/json"), "{answered:?}");
            message(expected, &answered.json());
        }
    }
}

fn message(expected: &Expected, message: &Value) {
    let code = message["error"]["code"].as_i64();
    assert_eq!(code, expected.code, "{message}");
    match expected.body {
        Body::Error => assert!(message.get("id").is_none(), "{message}"),
        Body::ErrorWithId => assert_eq!(message["id"], ID, "{message}"),
        Body::Result => assert!(message["result"].is_object() && message["result"]["isError"] != true, "{message}"),
        Body::ToolError => assert_eq!(message["result"]["isError"], true, "{message}"),
        Body::Batch => assert!(message.is_array(), "{message}"),
        Body::None | Body::Events => {}
    }
    if code.is_some() {
        assert_eq!(message["jsonrpc"], "2.0");
        assert!(!message["error"]["message"].as_str().unwrap().is_empty());
    }
}

/// The next request of a connection is answered.
pub async fn is_kept(client: &mut Wire) {
    let next = client.ask(&Ask::modern("server/discover", serde_json::json!({})).bytes()).await;
    assert_eq!(next.status, 200, "the next request: {next:?}");
    assert_eq!(next.json()["id"], ID, "{next:?}");
}
