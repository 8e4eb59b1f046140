//! One call on one connection, and what became of it, as its client saw it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect::connect;
use crate::mcp::{Era, Session};

/// The kernel asks again after 1, 3 and 7 seconds.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// Far longer than the call takes on a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// What is called, and what it answers.
const TOOL: &str = "greet";
const ANSWER: &str = "Hello.";

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The right answer.
    Answered {
        /// The answer said `Connection: close`.
        closes: bool,
    },
    /// 503 with a usable `Retry-After`: not accepted, and told so.
    Refused,
    /// No connection: refused, and by whom.
    ConnectionRefused(String),
    /// No connection: nobody said anything.
    ConnectionTimedOut,
    /// No connection, for another reason.
    NoConnection(String),
    /// The connection ended before a byte of the response.
    CutBeforeResponse(String),
    /// The connection ended within the response.
    CutWithinResponse(String),
    /// No answer came in time.
    Unanswered,
    /// Another answer.
    Wrong(String),
}

impl Fate {
    /// Its kind, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Answered { .. } => "answered",
            Self::Refused => "refused with 503 and Retry-After",
            Self::ConnectionRefused(_) => "connection refused",
            Self::ConnectionTimedOut => "connection timed out",
            Self::NoConnection(_) => "no connection",
            Self::CutBeforeResponse(_) => "connection cut before the response",
            Self::CutWithinResponse(_) => "connection cut within the response",
            Self::Unanswered => "not answered in time",
            Self::Wrong(_) => "wrong answer",
        }
    }

    /// What there is to say beyond its kind.
    pub fn detail(&self) -> &str {
        match self {
            Self::Answered { .. } | Self::Refused | Self::ConnectionTimedOut | Self::Unanswered => "",
            Self::ConnectionRefused(why)
            | Self::NoConnection(why)
            | Self::CutBeforeResponse(why)
            | Self::CutWithinResponse(why)
            | Self::Wrong(why) => why,
        }
    }

    /// Whether the client got less than it may expect.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Answered { .. } | Self::Refused => false,
            Self::ConnectionRefused(_)
            | Self::ConnectionTimedOut
            | Self::NoConnection(_)
            | Self::CutBeforeResponse(_)
            | Self::CutWithinResponse(_)
            | Self::Unanswered
            | Self::Wrong(_) => true,
        }
    }
}

/// A call of one era, ready to be made any number of times.
#[derive(Debug)]
pub(super) struct Call {
    era: Era,
    path: String,
    headers: HeaderMap,
    params: Value,
}

impl Call {
    pub(super) fn new(era: Era, url: &Url, session: &Session) -> Arc<Self> {
        let params = json!({"name": TOOL, "arguments": {}});
        let (mut headers, params) = match era {
            Era::Modern => {
                let message = crate::mcp::modern_message("tools/call", params);
                (crate::mcp::modern_headers(&message), message["params"].clone())
            }
            Era::Legacy => (session.headers().clone(), params),
        };
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        headers.insert(HOST, HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static("localhost")));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Arc::new(Self { era, path: url.path().to_owned(), headers, params })
    }

    pub(super) fn era(&self) -> Era {
        self.era
    }

    /// Connects, asks, reads all of the answer, and hangs up.
    pub(super) async fn make(&self, address: SocketAddr, id: u64) -> Fate {
        let stream = match timeout(CONNECTS_WITHIN, connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Fate::ConnectionRefused(error.to_string()),
            Ok(Err(error)) if error.kind() == ErrorKind::TimedOut => return Fate::ConnectionTimedOut,
            Ok(Err(error)) => return Fate::NoConnection(error.to_string()),
            Err(_) => return Fate::ConnectionTimedOut,
        };
        // The client's port, with which a packet trace or a table of connections is searched.
        let from = stream.local_addr().map(|address| address.port()).unwrap_or_default();
        let exchange = self.exchange(stream, id);
        match timeout(ANSWERED_WITHIN, exchange).await {
            Ok(Fate::CutBeforeResponse(why)) => Fate::CutBeforeResponse(format!("port {from}: {why}")),
            Ok(fate) => fate,
            Err(_) => Fate::Unanswered,
        }
    }

    async fn exchange(&self, stream: TcpStream, id: u64) -> Fate {
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = match http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await {
            Ok(made) => made,
            Err(error) => return Fate::CutBeforeResponse(causes(&error)),
        };
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": self.params});
        let mut request = Request::new(Full::new(Bytes::from(message.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        let exchange = async move {
            let response = match sender.send_request(request).await {
                Ok(response) => response,
                Err(error) => return Fate::CutBeforeResponse(causes(&error)),
            };
            let (head, body) = response.into_parts();
            match body.collect().await {
                Ok(body) => judge(&Response::from_parts(head, body.to_bytes()), id),
                Err(error) => Fate::CutWithinResponse(causes(&error)),
            }
        };
        tokio::pin!(exchange, connection);
        tokio::select! {
            biased;
            fate = &mut exchange => fate,
            // What the connection ended with is told to the exchange, which says what it meant.
            _ = &mut connection => exchange.await,
        }
    }
}

/// What an answer is to a call with this id.
fn judge(response: &Response<Bytes>, id: u64) -> Fate {
    let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let retry_after = header(RETRY_AFTER).and_then(|text| text.parse::<u32>().ok());
    if response.status() == 503 && retry_after.is_some_and(|seconds| (1..=3600).contains(&seconds)) {
        return Fate::Refused;
    }
    let body = response.body();
    let streamed = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"));
    let message =
        if streamed { crate::mcp::response_in(body, &json!(id)) } else { serde_json::from_slice(body).unwrap_or_default() };
    let answers = response.status() == 200
        && message["id"] == id
        && message["result"]["isError"] != Value::Bool(true)
        && message["result"]["content"][0]["text"] == ANSWER;
    if answers {
        Fate::Answered { closes: header(CONNECTION).is_some_and(|value| value.eq_ignore_ascii_case("close")) }
    } else {
        let body: String = String::from_utf8_lossy(body).chars().take(200).collect();
        Fate::Wrong(format!("HTTP {} Retry-After {retry_after:?} {body}", response.status().as_u16()))
    }
}

/// An error and its causes.
fn causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn call() -> Call {
        let (era, path, headers, params) = (Era::Modern, "/mcp".to_owned(), HeaderMap::new(), json!({"name": TOOL}));
        Call { era, path, headers, params }
    }

    /// What a call with id 7 becomes when its connection is handled like this.
    async fn fate<F: Future<Output = ()>>(serve: impl FnOnce(TcpStream) -> F) -> Fate {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let call = call();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            assert!(String::from_utf8_lossy(&request[..read]).starts_with("POST /mcp"));
            serve(stream).await;
        };
        tokio::join!(call.make(address, 7), served).0
    }

    async fn answered_with(text: &'static str) -> Fate {
        fate(|mut stream| async move { stream.write_all(text.as_bytes()).await.unwrap() }).await
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn only_the_right_answer_counts_as_one() {
        runtime().block_on(async {
            let right = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"Hello."}]}}"#;
            let right = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{right}", right.len());
            assert_eq!(answered_with(right.clone().leak()).await, Fate::Answered { closes: true });
            let others = answered_with(right.replace("\"id\":7", "\"id\":8").leak()).await;
            assert!(matches!(&others, Fate::Wrong(why) if why.contains("HTTP 200")), "{others:?}");
            let lost_session = answered_with("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
            assert!(matches!(&lost_session, Fate::Wrong(why) if why.contains("HTTP 404")), "{lost_session:?}");
        });
    }

    #[test]
    fn a_refusal_without_a_time_is_no_refusal_but_a_wrong_answer() {
        runtime().block_on(async {
            let polite = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n";
            assert_eq!(answered_with(polite).await, Fate::Refused);
            let curt = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            assert!(matches!(answered_with(curt).await, Fate::Wrong(_)));
        });
    }

    #[test]
    fn cuts_are_told_from_each_other_and_from_no_connection() {
        runtime().block_on(async {
            let before = fate(|stream| async move { drop(stream) }).await;
            assert!(matches!(before, Fate::CutBeforeResponse(_)), "{before:?}");
            let reset = fate(|stream| async move {
                let linger = stream.set_zero_linger();
                assert!(linger.is_ok());
                drop(stream);
            })
            .await;
            assert!(matches!(&reset, Fate::CutBeforeResponse(why) if why.contains("reset")), "{reset:?}");
            let within = answered_with("HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"json").await;
            assert!(matches!(within, Fate::CutWithinResponse(_)), "{within:?}");
            let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            assert!(matches!(call().make(closed, 7).await, Fate::ConnectionRefused(_)));
        });
    }
}
