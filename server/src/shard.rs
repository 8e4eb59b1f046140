//! The shard as its parts see it: what is in force, what it carries, and whether it takes more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use mcp_crds::load::GuardStage;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::{Authenticator, Principal, Quotas};
use crate::drain::Drain;
use crate::era::Reply;
use crate::exchange::{Asks, Calls, Resumes};
use crate::fault::Refused;
use crate::flips::Untold;
use crate::guard::Guard;
use crate::hub::Hub;
use crate::jsonrpc::{self, ErrorObject};
use crate::library::Code;
use crate::limits::{Jitter, RATE_SPREAD_MS, stream_bytes};
use crate::load::{HeldStream, InFlight, Load, OpenConnection};
use crate::mcp::subscriptions::Event;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::peers::wire::Frame;
use crate::rate::{Payer, Rates, Wait};
use crate::serving::{Environment, Serving};
use crate::session::{Full, Page, Record, SessionKey, Sessions, TooMany};
use crate::tasks::Tasks;
use crate::telemetry::LogLevel;

/// One shard.
#[derive(Debug)]
pub struct Shard {
    serving: ArcSwapOption<Serving>,
    untold: Untold,
    /// What it carries.
    pub load: Arc<Load>,
    /// Its held streams.
    pub hub: Hub,
    /// Its session ids.
    pub sessions: Sessions,
    /// What it asked clients.
    pub asks: Arc<Asks>,
    /// Legacy requests that run.
    pub calls: Arc<Calls>,
    /// Streams of legacy requests that can be resumed.
    pub resumes: Arc<Resumes>,
    /// Calls that go on after their answer.
    pub tasks: Arc<Tasks>,
    /// Whether it ends.
    pub drain: Drain,
    /// How many requests its clients make.
    pub rates: Rates,
    /// Its memory.
    pub guard: Guard,
    /// Who calls.
    pub authenticator: Arc<dyn Authenticator>,
    /// What each of them has taken.
    pub quotas: Quotas,
    /// What it counts.
    pub metrics: Metrics,
    /// Spreads what clients do next.
    pub jitter: Jitter,
    /// What the process may use.
    pub environment: Environment,
    /// There is no other shard: sessions end and are subscribed here and nowhere else.
    pub standalone: bool,
    /// The other shards.
    pub peers: Peers,
    /// What the program adds to every catalog.
    pub code: Code,
    /// Start of the process, seconds since the epoch.
    pub started_at: u64,
    /// Ends with the process: connections go after the request they are in.
    pub leave: CancellationToken,
    log: LogLevel,
    reports: AtomicU64,
}

/// What a shard is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its session ids.
    pub sessions: Sessions,
    /// Who calls.
    pub authenticator: Arc<dyn Authenticator>,
    /// What it carries, and may carry.
    pub load: Arc<Load>,
    /// What it counts.
    pub metrics: Metrics,
    /// What the process may use.
    pub environment: Environment,
    /// There is no other shard.
    pub standalone: bool,
    /// The other shards.
    pub peers: Peers,
    /// What the program adds to every catalog.
    pub code: Code,
    /// How long endpoints lag.
    pub lag: Duration,
    /// The log.
    pub log: LogLevel,
}

impl Shard {
    /// A shard that serves nothing yet.
    pub fn new(parts: Parts) -> Self {
        let seed = parts.sessions.incarnation();
        let load = parts.load;
        let tasks = Tasks::new(seed, parts.sessions.tagger(), Arc::clone(&load));
        let resumes = Resumes::new(seed, parts.sessions.tagger(), Arc::clone(&load));
        Self {
            serving: ArcSwapOption::empty(),
            untold: Untold::default(),
            load,
            resumes: Arc::new(resumes),
            tasks: Arc::new(tasks),
            hub: Hub::default(),
            drain: Drain::new(parts.lag),
            rates: Rates::new(),
            guard: Guard::default(),
            authenticator: parts.authenticator,
            quotas: Quotas::default(),
            metrics: parts.metrics,
            jitter: Jitter::new(u64::from_le_bytes([seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], seed[6], seed[7]])),
            environment: parts.environment,
            standalone: parts.standalone,
            peers: parts.peers,
            code: parts.code,
            started_at: epoch_seconds(),
            asks: Arc::new(Asks::new(parts.sessions.incarnation(), parts.sessions.tagger())),
            calls: Arc::default(),
            sessions: parts.sessions,
            leave: CancellationToken::new(),
            log: parts.log,
            reports: AtomicU64::new(0),
        }
    }

    /// A shard on its own, for tests of its parts.
    #[cfg(test)]
    pub(crate) fn test() -> Self {
        use crate::session::{generated_ring, random};
        let incarnation = random();
        Self::new(Parts {
            sessions: Sessions::new(incarnation, generated_ring()).unwrap(),
            authenticator: Arc::new(crate::auth::Anonymous),
            load: Arc::default(),
            metrics: Metrics::new(prometheus_client::registry::Registry::default()),
            environment: Environment { open_files: 1024, memory_limit: 0, loopback_origins: false },
            standalone: true,
            peers: Peers::new("test".to_owned(), incarnation, true, crate::peers::PeerMetrics::default()),
            code: Code::default(),
            lag: crate::drain::ENDPOINT_LAG,
            log: LogLevel::default(),
        })
    }

    /// What is in force.
    pub fn serving(&self) -> Option<Arc<Serving>> {
        self.serving.load_full()
    }

    /// What clients are served with: nothing before this process is in step with the other shards.
    pub fn in_service(&self) -> Option<Arc<Serving>> {
        self.serving().filter(|_| self.peers.is_settled())
    }

    /// Something happened on this shard: every stream of the cluster that wants it hears it. What all shards see by
    /// themselves, a catalog that comes into force, is for [`Hub::notify`].
    pub fn raise(&self, event: &Event) {
        self.hub.notify(event);
        if !self.standalone {
            self.peers.publish(event.clone());
        }
    }

    /// Something happened on another shard: the streams of this one that want it hear it.
    pub fn hear(&self, event: &Event) {
        self.tasks.heard(event);
        self.hub.notify(event);
    }

    /// Whether calls may become tasks: only handlers of a program can.
    pub fn offers_tasks(&self) -> bool {
        !self.code.tools.is_empty()
    }

    /// Ends a session here: it opens no more, and its streams end.
    ///
    /// # Errors
    /// When too many ended sessions are remembered already: it goes on.
    pub fn end_session(&self, session: SessionKey, expires: u64, now: u64) -> Result<(), Full> {
        self.sessions.revoke(session, expires, now).inspect_err(|_| self.peers.no_room("ended"))?;
        self.hub.end_session(session);
        self.asks.end_session(session);
        self.resumes.end_session(session);
        self.sessions.forget(session);
        Ok(())
    }

    /// The newest stream of a session begins here: those on other shards stand back (2025-11-25 `basic/transports` §Multiple
    /// Connections: a message goes to one of them).
    pub fn hold_newest(&self, session: SessionKey) {
        let opened = epoch_micros();
        self.hub.refresh(session, || self.sessions.record(session));
        self.hub.opened(session, opened);
        self.peers.tell(&Frame::Stream { session, opened: Some(opened) });
    }

    /// Goes by what is kept of a session, which has changed.
    pub fn go_by(&self, session: SessionKey, record: &Record) {
        self.hub.refresh(session, || self.sessions.record(session));
        if let Some(level) = record.level {
            // It has room for as many as there may be records.
            let _ = self.sessions.levels.set(session, level);
        }
    }

    /// Takes in what another shard keeps of a session.
    ///
    /// # Errors
    /// When a bound is in the way.
    pub fn learn_record(&self, session: SessionKey, record: &Record) -> Result<(), TooMany> {
        if self.sessions.has_ended(session) {
            return Ok(());
        }
        let learned = self.sessions.learn_record(session, record, epoch_seconds());
        if learned.inspect_err(|_| self.peers.no_room("record"))? {
            self.go_by(session, record);
        }
        Ok(())
    }

    /// Takes in what another shard keeps of sessions.
    pub fn learn_records(&self, records: &[(SessionKey, Record)]) {
        let refused = records.iter().filter(|(session, record)| self.learn_record(*session, record).is_err()).count();
        if refused > 0 {
            tracing::warn!(refused, "there is no room for what another shard keeps of sessions");
        }
    }

    /// Ends here what has ended elsewhere.
    pub fn learn_ended(&self, pages: &[Page]) {
        if pages.is_empty() {
            return;
        }
        if let Err(error) = self.sessions.learn_ended(pages, epoch_seconds()) {
            self.peers.no_room("ended");
            tracing::warn!(%error, "sessions that ended on another shard go on here");
        }
        let kept = self.sessions.records(0).into_iter().map(|(session, _)| session);
        for session in self.hub.sessions().into_iter().chain(kept).filter(|session| self.sessions.has_ended(*session)) {
            self.hub.end_session(session);
            self.asks.end_session(session);
            self.resumes.end_session(session);
            self.sessions.forget(session);
        }
    }

    /// Puts a configuration in force. The streams are told what changed once every shard serves it.
    pub fn serve(&self, serving: &Arc<Serving>) {
        self.log.set(&serving.log_level);
        let before = self.serving.swap(Some(Arc::clone(serving)));
        if let Some(before) = before {
            self.untold.add(serving.changes(&before), Instant::now());
        }
        self.peers.tell(&Frame::Serves(serving.snapshot.hash().to_owned()));
        self.peers.begin();
        self.tell_of_flips();
    }

    /// Tells the streams of what came into force, once no shard could answer them otherwise. To be called when that may be so.
    pub fn tell_of_flips(&self) {
        let Some(serving) = self.serving() else { return };
        for event in self.untold.due(Instant::now(), || self.peers.all_serve(serving.snapshot.hash())) {
            self.hub.notify(&event);
        }
    }

    /// Whether it answers: it has a configuration, and is in step with the other shards.
    pub fn is_ready(&self) -> bool {
        self.serving.load().is_some() && self.peers.is_settled()
    }

    /// Connections it can hold; what the process may open, before a configuration is loaded.
    pub fn hard_cap(&self) -> u64 {
        self.serving().map_or(self.environment.open_files, |serving| serving.limits.connections)
    }

    /// Admits a connection.
    ///
    /// # Errors
    /// Which limit is in the way.
    pub fn admit_connection(&self) -> Result<OpenConnection, Refused> {
        if self.drain.refuses() {
            return Err(Refused::Draining);
        }
        self.load.connection(self.hard_cap()).ok_or(Refused::Connections)
    }

    /// Admits a held stream, whose filter has so many bytes.
    ///
    /// # Errors
    /// Which limit is in the way.
    pub fn admit_stream(&self, serving: &Serving, principal: &Principal, filter: usize) -> Result<HeldStream, Refused> {
        self.admit_growth()?;
        let stream = self.load.stream(serving.limits.streams).ok_or(Refused::Streams)?;
        let stream = if principal.is_anonymous() {
            stream
        } else {
            let quota = self.authenticator.quota(principal, &serving.limits);
            stream.of(self.quotas.stream(principal, quota.streams).ok_or(Refused::PrincipalStreams)?)
        };
        if self.load.room().grow(stream_bytes(filter)) { Ok(stream) } else { Err(Refused::Memory) }
    }

    /// Admits a request.
    ///
    /// # Errors
    /// Which limit is in the way.
    pub fn admit_request(&self, serving: &Serving, principal: &Principal) -> Result<InFlight, Refused> {
        if self.load.owes_all_it_may() {
            return Err(Refused::AnswerBytes);
        }
        if self.guard.is_shedding() || self.load.room().is_full() {
            return Err(Refused::Memory);
        }
        let request = self.load.request(serving.limits.in_flight).ok_or(Refused::InFlight)?;
        if principal.is_anonymous() {
            return Ok(request);
        }
        let quota = self.authenticator.quota(principal, &serving.limits);
        let share = self.quotas.request(principal, quota.in_flight).ok_or(Refused::PrincipalInFlight)?;
        Ok(request.of(share))
    }

    /// Admits what stays: a stream or a session.
    ///
    /// # Errors
    /// Which limit is in the way.
    pub fn admit_growth(&self) -> Result<(), Refused> {
        if self.drain.refuses() {
            return Err(Refused::Draining);
        }
        if self.guard.stage() >= GuardStage::RefusingStreams {
            return Err(Refused::Memory);
        }
        Ok(())
    }

    /// The answer to what is over a limit: 503, a jittered `Retry-After`, and a JSON-RPC error without id, since the
    /// body may not have been read.
    pub fn refuse(&self, why: Refused) -> Reply {
        let delay = self.jitter.retry_after_ms();
        self.load.rejected(why, delay);
        let error = ErrorObject::new(jsonrpc::INTERNAL_ERROR, format!("Over capacity: {why}. Try again later."));
        Reply { retry_after_ms: Some(delay), ..Reply::error(503, None, &error) }
    }

    /// Counts requests for their principal, whatever sessions and connections they use; a batch has several.
    ///
    /// # Errors
    /// With the answer to too many, as [`Self::admit_requests`].
    pub fn admit_requests_of(
        &self,
        principal: &Principal,
        serving: &Serving,
        requests: u32,
        id: Option<&RawValue>,
    ) -> Result<(), Reply> {
        if principal.is_anonymous() {
            return Ok(());
        }
        let rate = self.authenticator.quota(principal, &serving.limits).requests_per_second;
        self.admit_requests(Payer::Principal(&principal.name), Some(rate), requests, id)
    }

    /// Counts requests of a client; a batch has several.
    ///
    /// # Errors
    /// With the answer to too many: 429 and a `Retry-After` that is spread, so that they do not all come back at one moment.
    pub fn admit_requests(&self, payer: Payer<'_>, rate: Option<u32>, requests: u32, id: Option<&RawValue>) -> Result<(), Reply> {
        let Some(rate) = rate else { return Ok(()) };
        self.rates.take(payer, rate, requests).map_err(|Wait(wait)| {
            let delay = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(self.jitter.between(RATE_SPREAD_MS));
            let whom = match payer {
                Payer::Connection(_) => "connection",
                Payer::Session(_) => "session",
                Payer::Principal(_) => "caller",
            };
            let message = format!("Too many requests: this {whom} may make {rate} a second. Try again later.");
            let error = ErrorObject::new(jsonrpc::INTERNAL_ERROR, message);
            Reply { retry_after_ms: Some(delay), ..Reply::error(429, id, &error) }
        })
    }

    /// Load reports given since the start.
    pub fn reports(&self) -> u64 {
        self.reports.load(Relaxed)
    }

    /// The number of the next load report.
    pub fn next_report(&self) -> u64 {
        self.reports.fetch_add(1, Relaxed) + 1
    }
}

/// The wall clock in microseconds, for what happens so fast that a millisecond puts it in no order.
pub fn epoch_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The wall clock in milliseconds, for what other processes put in order.
pub fn epoch_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The wall clock, for what other processes must agree on.
pub fn epoch_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
