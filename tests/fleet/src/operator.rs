//! The operator's part: it asks each shard for its load, tells it who is there, and names the configuration to serve.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mcp_crds::control::{KEY_ID_HEADER, Key, MAC_HEADER, NONCE_HEADER, Signed, TIME_HEADER, hex, sign};
use mcp_crds::load::{LoadReport, LoadRequest, Member};
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
/// The only membership there is.
const EPOCH: u64 = 1;

/// Plays the operator of one cluster.
#[derive(Debug)]
pub(crate) struct Operator {
    key: Option<Key>,
    hash: String,
    shards: Vec<Addresses>,
    members: Vec<Member>,
}

impl Operator {
    pub(crate) fn new(folders: &Folders, shards: &[Shard]) -> Self {
        Self {
            key: folders.keys.signing_key().cloned(),
            hash: folders.hash.clone(),
            shards: shards.iter().map(|shard| shard.addresses).collect(),
            members: shards.iter().map(Shard::member).collect(),
        }
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
        for (shard, member) in self.shards.iter().zip(&self.members) {
            let name = &member.name;
            match self.ask(shard.control).await {
                Err(error) => return Some(format!("{name} does not answer: {error}")),
                Ok(report) if report.catalog_hash != self.hash => {
                    return Some(format!("{name} does not serve the configuration: {:?}", report.catalog_error));
                }
                Ok(report) if report.membership_epoch != EPOCH => return Some(format!("{name} does not know the members")),
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
    pub(crate) async fn keep_asking(self) {
        loop {
            if let Some(why) = self.lagging().await {
                eprintln!("fleet: {why}");
            }
            sleep(PERIOD).await;
        }
    }

    /// One `POST /load`. The list goes with every one: a few members are no burden here.
    async fn ask(&self, shard: SocketAddr) -> Result<LoadReport, String> {
        let question =
            LoadRequest { membership_epoch: EPOCH, members: Some(self.members.clone()), serve: Some(self.hash.clone()) };
        let body = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
        let asking = self.post(shard, "/load", body);
        let answer = timeout(ANSWERS_WITHIN, asking).await.map_err(|_| format!("no answer in {ANSWERS_WITHIN:?}"))??;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
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
