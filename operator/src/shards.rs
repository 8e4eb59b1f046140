//! Calls to shards: `POST /load`, `POST /drain` and `POST /shed` on the control port, signed with the cluster's key.

mod wire;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use mcp_crds::control::{self, InvalidKey, KeyRing, Signed};
use mcp_crds::load::{DrainRequest, LoadReport, LoadRequest, ShedAnswer, ShedRequest};
use mcp_crds::shard::CONTROL_PORT;
use ring::rand::{SecureRandom, SystemRandom};

use self::wire::{Answer, Wire};
use crate::leader::{Closed, Fence};

/// For one call, from connect to the last byte: a shard that needs longer does not answer this time.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Path of the question for load.
const LOAD_PATH: &str = "/load";
/// Path of the order to drain.
const DRAIN_PATH: &str = "/drain";
/// Path of the order to end some streams.
const SHED_PATH: &str = "/shed";

/// Why a call to a shard brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It did not answer in time.
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
    /// It cannot be reached: not listening, a policy or a mesh in between.
    #[error("not reachable")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It answered with another status: 401 when it holds other keys.
    #[error("answered {status}: {body}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
    /// Its answer is no report.
    #[error("answered with something that is no report: {0}")]
    Malformed(String),
    /// The request could not be signed.
    #[error("cannot sign")]
    Sign(#[source] InvalidKey),
    /// Only who holds the lease may ask and order: the answer to a question tells a shard which configuration to serve.
    #[error(transparent)]
    Fenced(#[from] Closed),
    /// The keys hold none to sign with, or the system has no random bytes.
    #[error("nothing to sign with")]
    Unsigned,
}

impl CallError {
    /// One word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "Timeout",
            Self::Connect(_) => "Connect",
            Self::Status { status, .. } if *status == StatusCode::UNAUTHORIZED => "Unauthorized",
            Self::Status { .. } => "Status",
            Self::Malformed(_) => "Malformed",
            Self::Fenced(_) => "Fenced",
            Self::Sign(_) | Self::Unsigned => "Unsigned",
        }
    }
}

/// A client of the control port of shards; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shards {
    wire: Wire,
    port: u16,
    random: SystemRandom,
    fence: Fence,
}

impl Default for Shards {
    /// A client without a fence.
    fn default() -> Self {
        Self::behind(Fence::none())
    }
}

// === impl Shards ===

impl Shards {
    /// A client that calls while the fence is open.
    pub fn behind(fence: Fence) -> Self {
        Self { fence, ..Self::on_port(CONTROL_PORT) }
    }

    /// A client of shards that listen on another port: for tests.
    pub fn on_port(port: u16) -> Self {
        Self { wire: Wire::default(), port, random: SystemRandom::new(), fence: Fence::none() }
    }

    /// Asks for the load.
    ///
    /// # Errors
    /// When there is no usable answer within a second.
    pub async fn load(
        &self,
        address: &str,
        keys: &KeyRing,
        request: &LoadRequest,
        now: Timestamp,
    ) -> Result<LoadReport, CallError> {
        let answer = self.call(address, LOAD_PATH, keys, request, now).await?;
        let report: LoadReport = serde_json::from_slice(&answer).map_err(|error| CallError::Malformed(error.to_string()))?;
        if report.incarnation.is_empty() {
            return Err(CallError::Malformed("it has no incarnation".to_owned()));
        }
        Ok(report)
    }

    /// Orders a drain, or takes one back. May be repeated.
    ///
    /// # Errors
    /// When the shard does not say within a second that it does so.
    pub async fn drain(&self, address: &str, keys: &KeyRing, request: &DrainRequest, now: Timestamp) -> Result<(), CallError> {
        self.call(address, DRAIN_PATH, keys, request, now).await.map(drop)
    }

    /// Orders a shard that stays to end some of its streams. Not to be repeated: each order ends others.
    ///
    /// # Errors
    /// When the shard does not say within a second how many end.
    pub async fn shed(
        &self,
        address: &str,
        keys: &KeyRing,
        request: &ShedRequest,
        now: Timestamp,
    ) -> Result<ShedAnswer, CallError> {
        let answer = self.call(address, SHED_PATH, keys, request, now).await?;
        serde_json::from_slice(&answer).map_err(|error| CallError::Malformed(error.to_string()))
    }

    async fn call(
        &self,
        address: &str,
        path: &'static str,
        keys: &KeyRing,
        request: &(impl serde::Serialize + Sync),
        now: Timestamp,
    ) -> Result<Bytes, CallError> {
        let asked = Asked { address: endpoint(address, self.port)?, path, keys, body: body_of(request)?, now };
        match self.fence.guard(tokio::time::timeout(CALL_TIMEOUT, self.answer(&asked))).await? {
            Ok(answer) => read(answer?),
            Err(_) => Err(CallError::Timeout),
        }
    }

    /// Asks once; and once more on a new connection, when the kept one broke. An order that must not be repeated has a new
    /// connection from the start: one that breaks may have been heard.
    async fn answer(&self, asked: &Asked<'_>) -> Result<Answer, CallError> {
        if asked.path != SHED_PATH
            && let Some(answer) = self.wire.ask_again(asked.address, self.signed(asked)?).await
        {
            return Ok(answer);
        }
        self.wire.ask(asked.address, self.signed(asked)?).await.map_err(CallError::Connect)
    }

    /// A request of its own, each time: a shard believes a nonce once.
    fn signed(&self, asked: &Asked<'_>) -> Result<Request<Full<Bytes>>, CallError> {
        let Asked { address, path, keys, body, now } = asked;
        let key = keys.signing_key().ok_or(CallError::Unsigned)?;
        let mut nonce = [0; 16];
        self.random.fill(&mut nonce).map_err(|_| CallError::Unsigned)?;
        let (nonce, time) = (control::hex(&nonce), u64::try_from(now.as_second()).unwrap_or(0));
        let mac = control::sign(key, &Signed { method: "POST", path, time, nonce: &nonce, body }).map_err(CallError::Sign)?;
        Request::builder()
            .method(Method::POST)
            .uri(*path)
            .header(header::HOST, address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(control::KEY_ID_HEADER, &key.id)
            .header(control::TIME_HEADER, time)
            .header(control::NONCE_HEADER, nonce)
            .header(control::MAC_HEADER, mac)
            .body(Full::new(body.clone()))
            .map_err(|error| CallError::Connect(error.into()))
    }
}

/// What is asked, before it is signed.
struct Asked<'a> {
    address: SocketAddr,
    path: &'static str,
    keys: &'a KeyRing,
    body: Bytes,
    now: Timestamp,
}

fn body_of(request: &impl serde::Serialize) -> Result<Bytes, CallError> {
    serde_json::to_vec(request).map(Bytes::from).map_err(|error| CallError::Malformed(error.to_string()))
}

fn read((status, body): Answer) -> Result<Bytes, CallError> {
    if status.is_success() {
        return Ok(body);
    }
    let body = String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
    Err(CallError::Status { status, body })
}

/// Where a shard listens.
fn endpoint(address: &str, port: u16) -> Result<SocketAddr, CallError> {
    let address: IpAddr = address.parse().map_err(|error: std::net::AddrParseError| CallError::Connect(error.into()))?;
    Ok(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use http_body_util::BodyExt as _;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use mcp_crds::control::Key;
    use tokio::net::TcpListener;

    use super::*;

    fn ring() -> KeyRing {
        let key = Key::from_bytes(&[9; 32]);
        KeyRing { session: vec![], sealing: String::new(), signing: key.id.clone(), control: vec![key] }
    }

    /// A shard that verifies what it is asked and answers with what it is given.
    async fn shard(keys: KeyRing, status: StatusCode, answer: &'static str) -> Shards {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shards = Shards::on_port(listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let keys = keys.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let keys = keys.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let field = |name: &str| head.headers[name].to_str().unwrap().to_owned();
                        let nonce = field(control::NONCE_HEADER);
                        let time = field(control::TIME_HEADER).parse().unwrap();
                        let signed =
                            Signed { method: head.method.as_str(), path: head.uri.path(), time, nonce: &nonce, body: &body };
                        let verdict = control::verify(
                            &keys,
                            &field(control::KEY_ID_HEADER),
                            &field(control::MAC_HEADER),
                            &signed,
                            1_800_000_000,
                        );
                        let status = if verdict.is_ok() { status } else { StatusCode::UNAUTHORIZED };
                        let response = Response::builder().status(status).body(Full::new(Bytes::from(answer))).unwrap();
                        Ok::<_, Infallible>(response)
                    }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        shards
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[tokio::test]
    async fn a_shard_believes_a_signed_question() {
        let shards = shard(ring(), StatusCode::OK, r#"{"incarnation":"a","seq":1,"streams":7}"#).await;
        let report = shards.load("127.0.0.1", &ring(), &LoadRequest::default(), now()).await.unwrap();
        assert_eq!(report.streams, 7);
        shards.drain("127.0.0.1", &ring(), &DrainRequest::default(), now()).await.unwrap();
    }

    #[tokio::test]
    async fn a_shard_says_how_many_streams_it_ends() {
        let shards = shard(ring(), StatusCode::OK, r#"{"ended":7}"#).await;
        let asked = ShedRequest { bytes: 1 << 20, streams: 50 };
        assert_eq!(shards.shed("127.0.0.1", &ring(), &asked, now()).await.unwrap(), ShedAnswer { ended: 7 });
    }

    #[tokio::test]
    async fn other_keys_are_unauthorized() {
        let key = Key::from_bytes(&[1; 32]);
        let other = KeyRing { signing: key.id.clone(), control: vec![key], ..ring() };
        let shards = shard(ring(), StatusCode::OK, "{}").await;
        let error = shards.load("127.0.0.1", &other, &LoadRequest::default(), now()).await.unwrap_err();
        assert_eq!(error.reason(), "Unauthorized");
    }

    #[tokio::test]
    async fn what_is_no_report_is_not_believed() {
        for answer in ["", "[]", "{}", "ok"] {
            let shards = shard(ring(), StatusCode::OK, answer).await;
            let error = shards.load("127.0.0.1", &ring(), &LoadRequest::default(), now()).await.unwrap_err();
            assert_eq!(error.reason(), "Malformed", "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_does_not_answer_costs_a_second() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shards = Shards::on_port(listener.local_addr().unwrap().port());
        let error = shards.load("127.0.0.1", &ring(), &LoadRequest::default(), now()).await.unwrap_err();
        assert!(matches!(error.reason(), "Timeout" | "Connect"), "{error}");
    }

    #[test]
    fn an_address_of_either_family_is_reached_and_a_name_is_not_looked_up() {
        assert_eq!(endpoint("fd00::3", 9091).unwrap().to_string(), "[fd00::3]:9091");
        assert_eq!(endpoint("10.0.0.3", 9091).unwrap().to_string(), "10.0.0.3:9091");
        assert_eq!(endpoint("shard.example.com", 9091).unwrap_err().reason(), "Connect");
    }
}
