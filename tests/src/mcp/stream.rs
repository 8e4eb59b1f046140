//! Held streams of both eras, and how each of them ended.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::legacy::Session;
use super::{Era, modern, sse};
use crate::failure::{Failure, Outcome, While as _};
use crate::reach::Endpoint;
use crate::{claim, claim_eq};

/// The head of a stream comes at once; so does the acknowledgement.
const OPENS_WITHIN: Duration = Duration::from_secs(20);
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Modern: the response of `subscriptions/listen` came, then the body ended (2026-07-28, Graceful Closure).
    Completed,
    /// The body ended as HTTP wants it. For a legacy stream this is the graceful end: its server may close it at any time.
    Closed,
    /// The connection broke.
    Cut(String),
}

impl End {
    /// Whether a stream of this era ended as its specification says.
    pub fn is_graceful(&self, era: Era) -> bool {
        match (self, era) {
            (Self::Completed, Era::Modern) | (Self::Closed, Era::Legacy) => true,
            (Self::Completed, Era::Legacy) | (Self::Closed, Era::Modern) | (Self::Cut(_), _) => false,
        }
    }
}

/// A request for a stream that was answered with something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
    /// The body.
    pub body: String,
}

impl Refusal {
    /// Whether a client can act on it: 503 with a `Retry-After` of at least a second.
    ///
    /// # Errors
    /// What it is instead.
    pub fn is_overload(&self) -> Outcome {
        claim_eq!(self.status, 503, "HTTP status of {}", self.body);
        let seconds = self.retry_after.as_ref().and_then(|text| text.parse::<u32>().ok());
        claim!(seconds.is_some_and(|s| (1..=3600).contains(&s)), "503 without a usable Retry-After: {:?}", self.retry_after);
        Ok(())
    }
}

/// What came of asking for a stream.
#[derive(Debug)]
pub enum Opened {
    /// It is held.
    Held(Stream),
    /// The server said no.
    Refused(Refusal),
}

/// A held stream. Dropping it closes its connection.
#[derive(Debug)]
pub struct Stream {
    era: Era,
    end: watch::Receiver<Option<(End, Instant)>>,
    heard: watch::Receiver<Vec<Value>>,
    reader: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Stream {
    /// Asks for a stream.
    ///
    /// # Errors
    /// When no HTTP answer comes, or one that breaks the protocol.
    pub async fn open(endpoint: &Endpoint, era: Era) -> Outcome<Opened> {
        let opening = async {
            match era {
                Era::Modern => open_modern(endpoint).await,
                Era::Legacy => open_legacy(endpoint).await,
            }
        };
        tokio::time::timeout(OPENS_WITHIN, opening).await.doing("opening a stream")?
    }

    /// Asks for the stream of a session that is open already.
    ///
    /// # Errors
    /// When no HTTP answer comes, or one that breaks the protocol.
    pub async fn of_session(session: &Session) -> Outcome<Opened> {
        tokio::time::timeout(OPENS_WITHIN, listen(session)).await.doing("opening a session's stream")?
    }

    /// Its era.
    pub fn era(&self) -> Era {
        self.era
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<End> {
        self.end.borrow().as_ref().map(|(end, _)| end.clone())
    }

    /// When it ended, if it has.
    pub fn ended_at(&self) -> Option<Instant> {
        self.end.borrow().as_ref().map(|(_, at)| *at)
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// When it is still held after `within`.
    pub async fn until_end(&self, within: Duration) -> Outcome<End> {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some);
        let ended = tokio::time::timeout(within, ended).await.doing("waiting for a stream to end")?;
        let ended = ended?.clone();
        ended.map(|(end, _)| end).ok_or_else(|| Failure::new("a stream ended without an end"))
    }

    /// Waits for a notification of this method that was not there among the first `after`; returns how many there were with it.
    ///
    /// # Errors
    /// What was heard instead, when it does not come within that time or the stream ends.
    pub async fn until_heard(&self, method: &str, after: usize, within: Duration) -> Outcome<usize> {
        let mut heard = self.heard.clone();
        let place = |said: &Vec<Value>| said.iter().skip(after).position(|message| message["method"] == method);
        let waited = tokio::time::timeout(within, heard.wait_for(|said| place(said).is_some())).await;
        if let Ok(Ok(said)) = waited {
            return Ok(after + place(&said).unwrap_or_default() + 1);
        }
        let said = self.heard.borrow().clone();
        Err(Failure::new(format!("within {within:?}, no {method}: {said:?}, {:?}", self.ended())))
    }

    fn read(era: Era, response: Response, mut events: sse::Events) -> Self {
        let (report, end) = watch::channel(None);
        let (note, heard) = watch::channel(Vec::new());
        let reader = tokio::spawn(async move {
            let mut body = response.bytes_stream();
            let mut completed = false;
            let end = loop {
                match body.next().await {
                    Some(Ok(bytes)) => {
                        for data in events.push(&bytes) {
                            completed |= is_completion(&data);
                            note.send_modify(|heard| heard.extend(serde_json::from_str::<Value>(&data)));
                        }
                    }
                    Some(Err(error)) => break End::Cut(Failure::from(error).to_string()),
                    None if completed => break End::Completed,
                    None => break End::Closed,
                }
            };
            let _ = report.send(Some((end, Instant::now())));
        });
        Self { era, end, heard, reader }
    }
}

/// Opens `count` streams, up to sixteen at a time.
///
/// # Errors
/// When one of them is refused or does not open.
pub async fn hold(endpoint: &Endpoint, era: Era, count: usize) -> Outcome<Vec<Stream>> {
    let endpoint = Arc::new(endpoint.clone());
    let opening = (0..count).map(|_| {
        let endpoint = endpoint.clone();
        async move {
            match Stream::open(&endpoint, era).await? {
                Opened::Held(stream) => Ok(stream),
                Opened::Refused(refusal) => Err(Failure::new(format!("a stream was refused: {refusal:?}"))),
            }
        }
    });
    futures::stream::iter(opening).buffer_unordered(16).try_collect().await
}

async fn open_modern(endpoint: &Endpoint) -> Outcome<Opened> {
    let message = modern::message("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let request = endpoint.http.post(endpoint.url.clone()).headers(modern::headers(&message));
    let request = request.header(ACCEPT, "application/json, text/event-stream").json(&message);
    let mut response = request.send().await.doing("opening a stream by subscriptions/listen")?;
    if !is_event_stream(&response) {
        return refused(response).await;
    }
    // The first message is the acknowledgement (2026-07-28, Acknowledgment).
    let mut events = sse::Events::default();
    let first = loop {
        let bytes = response.chunk().await.doing("waiting for the acknowledgement")?;
        let bytes = bytes.ok_or_else(|| Failure::new("a stream ended before its acknowledgement"))?;
        if let Some(data) = events.push(&bytes).into_iter().next() {
            break serde_json::from_str::<Value>(&data).doing(&data)?;
        }
    };
    claim_eq!(first["method"], "notifications/subscriptions/acknowledged", "first message, {first}");
    claim_eq!(first["params"]["_meta"][SUBSCRIPTION], message["id"], "subscription id of {first}");
    Ok(Opened::Held(Stream::read(Era::Modern, response, events)))
}

async fn open_legacy(endpoint: &Endpoint) -> Outcome<Opened> {
    let session = match Session::try_open(endpoint).await? {
        Ok(session) => session,
        Err(reply) => {
            let retry_after = reply.header(RETRY_AFTER.as_str()).map(str::to_owned);
            return Ok(Opened::Refused(Refusal { status: reply.status, retry_after, body: reply.body }));
        }
    };
    listen(&session).await
}

async fn listen(session: &Session) -> Outcome<Opened> {
    let response = session.listen().await?;
    if !is_event_stream(&response) {
        return refused(response).await;
    }
    Ok(Opened::Held(Stream::read(Era::Legacy, response, sse::Events::default())))
}

fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    response.status() == 200 && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

async fn refused(response: Response) -> Outcome<Opened> {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = response.text().await.doing("reading a refusal")?;
    Ok(Opened::Refused(Refusal { status, retry_after, body }))
}

/// Whether an event is the response of `subscriptions/listen` that ends its subscription.
fn is_completion(data: &str) -> bool {
    let message: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    message["id"] == 1 && message["result"]["resultType"] == "complete" && message["result"]["_meta"][SUBSCRIPTION] == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_response_of_the_subscription_completes_it() {
        assert!(is_completion(
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#
        ));
        assert!(!is_completion(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        assert!(!is_completion(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#));
    }

    #[test]
    fn each_era_has_its_own_graceful_end() {
        assert!(End::Completed.is_graceful(Era::Modern));
        assert!(!End::Closed.is_graceful(Era::Modern));
        assert!(End::Closed.is_graceful(Era::Legacy));
        assert!(!End::Cut(String::new()).is_graceful(Era::Legacy));
    }
}
