//! The operator's part: it asks each shard for its load, tells it who is there, and names the configuration to serve.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mcp_crds::control::{KEY_ID_HEADER, Key, MAC_HEADER, NONCE_HEADER, Signed, TIME_HEADER, hex, sign};
use mcp_crds::load::{DrainRequest, LoadReport, LoadRequest, Member};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::folders::Folders;
use crate::shard::{Addresses, Shard};

/// Between two rounds of questions.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks at shards that start.
const STARTING: Duration = Duration::from_millis(50);
/// A shard serves long before that; three times what a busy machine of two cores took.
const SERVES_WITHIN: Duration = Duration::from_mins(1);
/// For one answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// In so many rounds a shard that has just begun is in step.
const ROUNDS_TO_BEGIN: u32 = 10;

/// Plays the operator of one cluster.
#[derive(Debug)]
pub(crate) struct Operator {
    key: Option<Key>,
    hash: String,
    membership: Mutex<Membership>,
}

/// Who is there.
#[derive(Clone, Debug, Default)]
struct Membership {
    epoch: u64,
    shards: Vec<Addresses>,
    members: Vec<Member>,
}

impl Operator {
    pub(crate) fn new(folders: &Folders, shards: &[Shard]) -> Self {
        let (key, hash) = (folders.keys.signing_key().cloned(), folders.hash.clone());
        let operator = Self { key, hash, membership: Mutex::default() };
        operator.enlist(shards);
        operator
    }

    /// These shards are there, and no others.
    pub(crate) fn enlist(&self, shards: &[Shard]) {
        let mut membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        membership.epoch += 1;
        membership.shards = shards.iter().map(|shard| shard.addresses).collect();
        membership.members = shards.iter().map(Shard::member).collect();
    }

    fn membership(&self) -> Membership {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until every shard serves the configuration, knows the members and is Ready.
    pub(crate) async fn until_serving(&self, shards: &mut [Shard]) -> Result<(), String> {
        let deadline = Instant::now() + SERVES_WITHIN;
        loop {
            for shard in &mut *shards {
                shard.still_runs()?;
            }
            match self.lagging().await {
                None => return Ok(()),
                Some(why) if Instant::now() >= deadline => return Err(why),
                Some(_) => sleep(STARTING).await,
            }
        }
    }

    /// What one of the shards is not yet.
    async fn lagging(&self) -> Option<String> {
        let membership = self.membership();
        for (shard, member) in membership.shards.iter().zip(&membership.members) {
            let name = &member.name;
            match self.ask(shard.control).await {
                Err(error) => return Some(format!("{name} does not answer: {error}")),
                Ok(report) if report.catalog_hash != self.hash => {
                    return Some(format!("{name} does not serve the configuration: {:?}", report.catalog_error));
                }
                Ok(report) if report.membership_epoch < membership.epoch => {
                    return Some(format!("{name} does not know the members"));
                }
                Ok(_) => {}
            }
            match ready(shard.admin).await {
                Ok(StatusCode::OK) => {}
                Ok(status) => return Some(format!("{name} is not ready: {status}")),
                Err(error) => return Some(format!("{name} does not say whether it is ready: {error}")),
            }
        }
        None
    }

    /// Asks for ever, as the operator does: a shard that is not asked thinks itself alone.
    pub(crate) async fn keep_asking(&self) {
        let mut rounds = 0;
        loop {
            match self.lagging().await {
                Some(why) if rounds >= ROUNDS_TO_BEGIN => eprintln!("fleet: {why}"),
                Some(_) => rounds += 1,
                None => rounds = 0,
            }
            sleep(PERIOD).await;
        }
    }

    /// One `POST /load`. The list goes with every one: a few members are no burden here.
    pub(crate) async fn ask(&self, shard: SocketAddr) -> Result<LoadReport, String> {
        let Membership { epoch, members, .. } = self.membership();
        let question = LoadRequest { membership_epoch: epoch, members: Some(members), serve: Some(self.hash.clone()) };
        let body = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
        let asking = self.post(shard, "/load", body);
        let answer = timeout(ANSWERS_WITHIN, asking).await.map_err(|_| format!("no answer in {ANSWERS_WITHIN:?}"))??;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
    }

    /// `POST /drain`: ends the streams over a window, and waits for requests.
    pub(crate) async fn drain(&self, shard: SocketAddr, window: Duration, patience: Duration) -> Result<(), String> {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let question = DrainRequest { window_ms: millis(window), timeout_ms: millis(patience), cancel: false };
        let body = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
        let asking = self.post(shard, "/drain", body);
        timeout(ANSWERS_WITHIN, asking).await.map_err(|_| format!("no answer in {ANSWERS_WITHIN:?}"))?.map(drop)
    }

    async fn post(&self, shard: SocketAddr, path: &str, body: Vec<u8>) -> Result<Bytes, String> {
        let key = self.key.as_ref().ok_or("no key to sign with")?;
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).map_err(|_| "no random bytes")?;
        let nonce = hex(&nonce);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let signed = Signed { method: "POST", path, time, nonce: &nonce, body: &body };
        let mac = sign(key, &signed).map_err(|error| error.to_string())?;
        let request = Request::post(path)
            .header("host", shard.to_string())
            .header(KEY_ID_HEADER, &key.id)
            .header(TIME_HEADER, time)
            .header(NONCE_HEADER, &nonce)
            .header(MAC_HEADER, mac)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let response = send(shard, request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        if status == StatusCode::OK { Ok(answer) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&answer))) }
    }
}

/// What a shard would tell the kubelet.
async fn ready(admin: SocketAddr) -> Result<StatusCode, String> {
    let request = Request::get("/readyz").header("host", admin.to_string()).body(Full::default());
    let asking = send(admin, request.map_err(|error| error.to_string())?);
    timeout(ANSWERS_WITHIN, asking).await.map_err(|_| format!("no answer in {ANSWERS_WITHIN:?}"))?.map(|answer| answer.status())
}

/// One request over one connection.
async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
    let socket = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| error.to_string())
}
