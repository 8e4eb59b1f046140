//! A rollout, as the operator does one: for each shard another process, which is Ready before the old one is drained, asked over
//! the control port, and ended once it holds nothing.
//!
//! The command asks for it at the address in `MCP_ROLL_URL`: `POST` begins a rollout (202, or 409 while one is under way), `GET`
//! says how it goes, as [`Progress`].

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::folders::Folders;
use crate::operator::Operator;
use crate::proxy::Upstreams;
use crate::shard::{self, Shard};
use crate::tally::Tally;

/// Over how long a drained shard ends its streams.
const WINDOW: Duration = Duration::from_millis(500);
/// For how long it is waited for what a shard has accepted: three times what the slowest client holds back its answer.
const DRAINED_WITHIN: Duration = Duration::from_mins(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Replaces every shard.
#[derive(Debug)]
pub(crate) struct Rolling {
    pub(crate) server: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) folders: Folders,
    pub(crate) operator: Arc<Operator>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) tally: Arc<Tally>,
    /// Those that run.
    pub(crate) shards: Arc<tokio::sync::Mutex<Vec<Shard>>>,
    pub(crate) progress: Mutex<Progress>,
}

/// How rollouts go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// One is under way.
    rolling: bool,
    /// Drains that were begun since the start.
    begun: u32,
    /// Shards that were drained and ended since the start.
    replaced: u32,
    /// Why the last one failed.
    failed: Option<String>,
}

impl Rolling {
    /// Answers the command for ever.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            let rolling = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let answer = rolling.answer(request.method());
                    std::future::ready(Ok::<_, Infallible>(answer))
                });
                let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
            });
        }
    }

    fn answer(self: &Arc<Self>, method: &Method) -> Response<Full<Bytes>> {
        let status = match *method {
            Method::GET => StatusCode::OK,
            Method::POST if self.begin() => StatusCode::ACCEPTED,
            Method::POST => StatusCode::CONFLICT,
            _ => StatusCode::METHOD_NOT_ALLOWED,
        };
        let Progress { rolling, begun, replaced, failed } = self.progress().clone();
        let sessions = self.tally.sessions();
        let said = serde_json::json!({
            "rolling": rolling, "begun": begun, "replaced": replaced, "failed": failed, "sessions": sessions});
        let mut response = Response::new(Full::from(said.to_string()));
        *response.status_mut() = status;
        response
    }

    fn begin(self: &Arc<Self>) -> bool {
        if std::mem::replace(&mut self.progress().rolling, true) {
            return false;
        }
        let rolling = Arc::clone(self);
        tokio::spawn(async move {
            let failed = rolling.roll().await.err();
            if let Some(why) = &failed {
                eprintln!("fleet: {why}");
            }
            let mut progress = rolling.progress();
            progress.rolling = false;
            progress.failed = failed;
        });
        true
    }

    async fn roll(&self) -> Result<(), String> {
        let mut shards = self.shards.lock().await;
        for _ in 0..shards.len() {
            let number = shards.iter().map(|shard| shard.number + 1).max().unwrap_or(0);
            let addresses = shard::free_addresses(1)?.pop().ok_or("no address")?;
            shards.push(Shard::start(&self.server, number, addresses, &self.folders, &self.logs, None)?);
            self.operator.enlist(&shards);
            self.operator.until_serving(&mut shards).await?;
            self.upstreams.add(number, addresses.data);
            let old = shards.remove(0);
            self.drain(&old).await?;
            drop(old);
            self.operator.enlist(&shards);
            self.progress().replaced += 1;
        }
        Ok(())
    }

    /// No new request goes to it; it is told to drain; then it is waited for.
    async fn drain(&self, old: &Shard) -> Result<(), String> {
        let taken_out = self.upstreams.take_out(old.number);
        self.operator.drain(old.addresses.control, WINDOW, DRAINED_WITHIN).await?;
        self.progress().begun += 1;
        let deadline = Instant::now() + DRAINED_WITHIN;
        loop {
            let report = self.operator.ask(old.addresses.control).await?;
            // A request that the proxy had shared out before may still be on its way.
            let on_its_way = taken_out.as_ref().is_some_and(|upstream| Arc::strong_count(upstream) > 1);
            if report.draining && report.streams == 0 && report.in_flight == 0 && !on_its_way {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("{} still has {} streams and {} requests", old.name, report.streams, report.in_flight));
            }
            sleep(LOOK).await;
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
