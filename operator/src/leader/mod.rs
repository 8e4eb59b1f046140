//! One of several operators leads: it holds a Lease, and only who holds it writes.
//!
//! ```text
//! election   the judgement: Lease, moments, now → what to ask, what we are
//! fence      leave to write until the term ends, before every request
//! here       the loop: asks the API server what the election wants to know, opens and closes the fence
//! ```
//!
//! The times are those of the control plane's own components. A lease that is given back is taken within two seconds; one
//! whose holder is gone, after 15 s and the two it takes to look. A leader that cannot renew for 10 s ends its process: what
//! it remembers may be wrong by then, and a new process remembers nothing that is not written down.
//!
//! # RBAC
//! create on leases; get and update on the lease of this name.

pub mod election;
pub mod fence;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::election::Loss;
use self::election::{Answer, Ask, Election, Standing};
pub use self::fence::{Closed, Fence, Gate};
use crate::admin::Health;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names;
use crate::telemetry;

/// A lease that was not renewed for this long may be taken.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long leads no more. The rest is for what it has sent already.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two renewals, and between two looks of those who wait.
const RETRY: Duration = Duration::from_secs(2);
/// For one request: half of what a leader has, so that one silence is not the end.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// The same complaint is loud after this many, and every so many.
const LOUD_EVERY: u32 = 15;

/// One process that would lead.
#[derive(Debug)]
pub struct Candidate {
    election: Election,
    api: Api<Lease>,
    lease: String,
    namespace: String,
    me: String,
    gate: Gate,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    random: SystemRandom,
    complaints: u32,
}

// === impl Candidate ===

impl Candidate {
    /// A candidate for a lease, with a client of its own that tries nothing twice. `identity` is the pod's name; a container
    /// that starts again in the same pod is another candidate.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn new(
        client: Client,
        (namespace, lease): (&str, &str),
        identity: &str,
        gate: Gate,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let random = SystemRandom::new();
        let mut unique = [0; 4];
        random.fill(&mut unique).map_err(|_| Error::Random)?;
        let me = format!("{identity}_{:08x}", u32::from_be_bytes(unique));
        Ok(Self {
            election: Election::new(me.clone()),
            api: Api::namespaced(client, namespace),
            lease: lease.to_owned(),
            namespace: namespace.to_owned(),
            me,
            gate,
            health,
            metrics,
            random,
            complaints: 0,
        })
    }

    /// Stands for election, leads, and gives the lease back when told to stop.
    ///
    /// # Errors
    /// When the lease was lost: the process must end, and has written nothing since.
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        tracing::info!(lease = %self.lease, namespace = %self.namespace, identity = %self.me, "standing for election");
        let (mut holder, mut leads) = (None, false);
        loop {
            let asked = Instant::now();
            let ask = self.election.ask(&self.lease, asked, Timestamp::now());
            let Some(answer) = stop.run_until_cancelled(self.answer(&ask, asked)).await else { break };
            let now = Instant::now();
            self.election.hear(&ask, answer, asked, now);
            match self.election.standing(now) {
                Standing::Leader(end) => {
                    self.gate.open_until(end);
                    self.metrics.leader.set(1);
                    if !std::mem::replace(&mut leads, true) {
                        tracing::info!(lease = %self.lease, namespace = %self.namespace, identity = %self.me, "leading");
                    }
                }
                Standing::Standby => {
                    // A leader's loop over the shards beats; nobody else has one.
                    self.health.beat();
                    let seen = self.election.holder().map(str::to_owned);
                    if seen != holder {
                        tracing::info!(holder = seen.as_deref().unwrap_or("nobody"), "another one leads");
                        holder = seen;
                    }
                }
                Standing::Lost(loss) => return Err(self.lost(loss)),
            }
            let due = self.election.due(asked, now, self.jitter());
            if stop.run_until_cancelled(sleep_until(due)).await.is_none() {
                break;
            }
            if let Standing::Lost(loss) = self.election.standing(Instant::now()) {
                return Err(self.lost(loss));
            }
        }
        self.release().await;
        Ok(())
    }

    fn lost(&self, loss: Loss) -> Error {
        self.gate.close();
        self.metrics.leader.set(0);
        Error::LeaseLost { lease: format!("{}/{}", self.namespace, self.lease), loss }
    }

    /// Asks, within the deadline of a request and, for a leader, of its term.
    async fn answer(&mut self, ask: &Ask, asked: Instant) -> Answer {
        let deadline = match self.election.standing(asked) {
            Standing::Leader(end) => end.min(asked + ANSWERS_WITHIN),
            Standing::Standby | Standing::Lost(_) => asked + ANSWERS_WITHIN,
        };
        let answered = timeout_at(deadline, Box::pin(self.send(ask))).await;
        let said = match answered {
            Ok(Ok(Some(lease))) => {
                self.health.set_candidate();
                self.complaints = 0;
                return Answer::Present(Box::new(lease));
            }
            Ok(Ok(None)) => return Answer::Absent,
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => return Answer::Conflict,
            // A namespace that does not exist is no missing lease: creating one would be refused for ever.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && matches!(ask, Ask::Replace(_)) => return Answer::Absent,
            Ok(Err(error)) => telemetry::chain(&error),
            Err(_) => "no answer from the API server in time".to_owned(),
        };
        self.complain(&said);
        Answer::Failed
    }

    async fn send(&self, ask: &Ask) -> kube::Result<Option<Lease>> {
        let by = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match ask {
            Ask::Read => self.api.get_opt(&self.lease).await,
            Ask::Create(lease) => self.api.create(&by, lease).await.map(Some),
            Ask::Replace(lease) => self.api.replace(&self.lease, &by, lease).await.map(Some),
        }
    }

    /// Loud when it concerns a leader, and now and then: a missing right is seen, an API server that is away floods nothing.
    fn complain(&mut self, said: &str) {
        let leads = matches!(self.election.standing(Instant::now()), Standing::Leader(_));
        let (lease, namespace) = (&self.lease, &self.namespace);
        if leads || self.complaints.is_multiple_of(LOUD_EVERY) {
            tracing::warn!(%lease, %namespace, error = said, leads, "the lease cannot be read or written");
        } else {
            tracing::debug!(%lease, %namespace, error = said, "the lease cannot be read or written");
        }
        self.complaints = self.complaints.saturating_add(1);
    }

    /// Gives the lease back, so that the next leader need not wait for its end. Nothing is written from here on.
    async fn release(&mut self) {
        self.gate.close();
        self.metrics.leader.set(0);
        // A renewal that was cut short may have been granted: then the version that we know is refused, and read again.
        for _ in 0..2 {
            let Some(released) = self.election.released(Timestamp::now()) else { return };
            let (asked, ask) = (Instant::now(), Ask::Replace(Box::new(released)));
            match self.answer(&ask, asked).await {
                Answer::Present(_) => {
                    tracing::info!(lease = %self.lease, namespace = %self.namespace, "lease given back");
                    return;
                }
                Answer::Conflict => {
                    let read = self.answer(&Ask::Read, asked).await;
                    self.election.hear(&Ask::Read, read, asked, Instant::now());
                }
                Answer::Absent | Answer::Failed => return,
            }
        }
    }

    fn jitter(&self) -> f64 {
        let mut byte = [0];
        // Without randomness all wait equally long, which is no reason to fail.
        let _ = self.random.fill(&mut byte);
        f64::from(byte[0]) / 255.0
    }
}
