//! The clients of the load. Each does its one thing until it is dropped, comes back after a refusal when it was told to, and
//! after an end within a second or two.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mcp_tests::wire::{self, Answer};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::tally::{Fate, Tally};

/// Bytes of the filter of a stream: near the most that a shard keeps.
const FILTER: usize = 12 << 10;
/// How long an abandoned call is waited for: the stream has begun, and its answer comes later.
const ABANDONED_AFTER: Duration = Duration::from_millis(200);

/// Where clients go, and where they note what they see.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub address: SocketAddr,
    pub tally: Arc<Tally>,
    /// Tells clients apart.
    pub number: usize,
}

impl Client {
    /// Holds a stream with a large filter: what is subscribed to is kept by the shard.
    pub(crate) async fn subscribe(self) {
        let uris: Vec<String> = (0..FILTER / 64).map(|n| format!("notes://{}/{n:0>20}", self.number)).collect();
        let filter = json!({"notifications": {"resourceSubscriptions": uris}});
        let request = wire::modern(self.address, "subscriptions/listen", filter);
        loop {
            let pause = self.hold(&request).await;
            sleep(pause).await;
        }
    }

    /// A legacy session: holds its stream, and now and then makes a call that takes long and goes away before its answer is
    /// there, which the shard then keeps.
    pub(crate) async fn session(self) {
        loop {
            let session = match self.initialize().await {
                Ok(session) => session,
                Err(pause) => {
                    sleep(pause).await;
                    continue;
                }
            };
            let abandoning = async {
                loop {
                    self.abandon(&session).await;
                    sleep(self.spread(Duration::from_secs(8))).await;
                }
            };
            let request = wire::listen(self.address, &session);
            let pause = tokio::select! {
                pause = self.hold(&request) => pause,
                () = abandoning => Duration::ZERO,
            };
            sleep(pause).await;
        }
    }

    /// Calls a tool again and again, and reads its answer so many bytes in every pause.
    pub(crate) async fn call(self, tool: &'static str, piece: usize, pause: Duration) {
        loop {
            let wait = self.call_once(tool, piece, pause, Duration::ZERO).await;
            sleep(wait).await;
        }
    }

    /// One call. The answer is not read before `first`.
    pub(crate) async fn call_once(&self, tool: &str, piece: usize, pause: Duration, first: Duration) -> Duration {
        let request = wire::modern(self.address, "tools/call", json!({"name": tool, "arguments": {}}));
        let answer = match self.ask(&request, true).await {
            Ok(answer) => answer,
            Err(pause) => return pause,
        };
        sleep(first).await;
        let (bytes, is_whole) = answer.read(piece, pause).await;
        self.tally.took(bytes);
        // An error of a tool is short; every answer of these tools is long.
        self.tally.add(match (is_whole, bytes > 10_000) {
            (true, true) => Fate::Answered,
            (true, false) => Fate::Failed,
            (false, _) => Fate::Cut,
        });
        self.spread(Duration::from_millis(200))
    }

    async fn initialize(&self) -> Result<String, Duration> {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "m", "version": "1"}});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
        let answer = self.ask(&wire::legacy(self.address, None, &message), false).await?;
        answer.session.clone().ok_or_else(|| {
            self.tally.add(Fate::Failed);
            self.spread(Duration::from_secs(1))
        })
    }

    async fn abandon(&self, session: &str) {
        let call: Value = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "slow", "arguments": {}}});
        let request = wire::legacy(self.address, Some(session), &call);
        if let Ok(answer) = self.ask(&request, false).await {
            sleep(ABANDONED_AFTER).await;
            drop(answer);
        }
    }

    /// Holds a stream to its end; returns when to come back.
    async fn hold(&self, request: &[u8]) -> Duration {
        let answer = match self.ask(request, false).await {
            Ok(answer) => answer,
            Err(pause) => return pause,
        };
        self.tally.add(Fate::Opened);
        let (_, is_whole) = answer.read(512, Duration::ZERO).await;
        self.tally.add(if is_whole { Fate::Ended } else { Fate::Cut });
        self.spread(Duration::from_secs(1))
    }

    async fn ask(&self, request: &[u8], reads_slowly: bool) -> Result<Answer, Duration> {
        match wire::ask(self.address, request, reads_slowly).await {
            Ok(answer) if answer.status == 200 => Ok(answer),
            Ok(answer) if answer.status == 503 => {
                self.tally.add(Fate::Refused);
                Err(answer.retry_after.unwrap_or(Duration::from_secs(1)))
            }
            Ok(_) => {
                self.tally.add(Fate::Failed);
                Err(self.spread(Duration::from_secs(1)))
            }
            Err(_) => {
                self.tally.add(Fate::Unreachable);
                Err(self.spread(Duration::from_secs(1)))
            }
        }
    }

    /// That time, and up to as much again: by the client's number, so that they do not come all at once.
    fn spread(&self, time: Duration) -> Duration {
        time + time * u32::try_from(self.number % 16).unwrap_or(0) / 16
    }
}
