//! Traffic that proves that nothing is lost: calls at a fixed rate, each on a TCP connection of its own through the client
//! Service, modern and legacy in turn, and held streams whose shard is known.
//!
//! ```text
//! Traffic::start → one call each 1/rate s, whatever became of the others → Fate → Tally → Report
//! Streams        held on known shards → who ended, how, when
//! ```
//!
//! A request is **accepted** when its TCP connection was established and it was not answered by a well-formed refusal: 503 with
//! a usable `Retry-After`. Every accepted request must be answered, with the right answer. A connection that is refused or does
//! not come about means that the Service had no shard to offer, or one that was gone; that is a loss too, though nothing was
//! accepted.

mod call;
mod connect;
mod report;
mod streams;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::call::Call;
use self::report::Tally;
use crate::cluster::Cluster;
use crate::failure::{Outcome, While as _};
use crate::mcp::{Era, Session};
use crate::reach::Endpoint;

pub use call::Fate;
pub use report::{Loss, Phase, Report};
pub use streams::{Held, Streams};

/// Calls that may be under way: far more than a rate needs while each is answered, few enough for a file limit.
const AT_ONCE: usize = 2_000;
/// A test that forgets its traffic does not keep it for ever.
const LONGEST: Duration = Duration::from_mins(20);

/// How often a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u32);

impl Rate {
    /// So many calls each second; at least one.
    pub fn per_second(calls: u32) -> Self {
        Self(calls.max(1))
    }

    fn period(self) -> Duration {
        Duration::from_secs(1) / self.0
    }
}

/// Calls under way. Dropping it ends them.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    caller: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    rate: Rate,
    ends: AtomicBool,
    tally: Mutex<Tally>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.caller.abort();
    }
}

impl Traffic {
    /// Calls the tool `greet` of a cluster, which answers `Hello.`, from now on.
    ///
    /// # Errors
    /// When the cluster has no endpoint, or opens no legacy session.
    pub async fn start(cluster: &Cluster, rate: Rate) -> Outcome<Self> {
        Self::through(cluster.endpoint().await?, rate).await
    }

    /// As [`Traffic::start`], through another Service than that of clients.
    ///
    /// # Errors
    /// When it opens no legacy session.
    pub async fn through(endpoint: Endpoint, rate: Rate) -> Outcome<Self> {
        // One session for all: any shard serves it, and none may ever answer that it does not know it.
        let session = Session::open(&endpoint).await.doing("opening the session of the traffic")?;
        let calls = Era::BOTH.map(|era| Call::new(era, &endpoint.url, &session));
        let shared = Shared { started: Instant::now(), rate, ends: AtomicBool::new(false), tally: Mutex::default() };
        let shared = Arc::new(shared);
        let address = endpoint.address;
        let caller = {
            let shared = shared.clone();
            tokio::spawn(async move {
                // The endpoint keeps its forwarder.
                let _endpoint = endpoint;
                shared.call(address, &calls).await;
            })
        };
        Ok(Self { shared, caller })
    }

    /// Names what happens from now on, for the report.
    pub fn mark(&self, what: impl Into<String>) {
        self.shared.tally().mark(self.shared.started.elapsed(), what.into());
    }

    /// What became of the calls so far.
    pub fn so_far(&self) -> Report {
        self.shared.report()
    }

    /// Begins no more calls, waits for those under way, and says what became of all.
    ///
    /// # Errors
    /// When the caller itself broke.
    pub async fn stop(mut self) -> Outcome<Report> {
        self.shared.ends.store(true, Ordering::Relaxed);
        (&mut self.caller).await.doing("the traffic")?;
        Ok(self.shared.report())
    }
}

impl Shared {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> Report {
        self.tally().report(self.rate.0, self.started.elapsed())
    }

    /// An open loop: a call begins when its time has come, whatever became of the others.
    async fn call(self: &Arc<Self>, address: SocketAddr, calls: &[Arc<Call>; 2]) {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut under_way = JoinSet::new();
        let mut ticks = interval(self.rate.period());
        // A machine that was busy makes up for it: the number of calls is what was asked for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0_u64.. {
            ticks.tick().await;
            if self.ends.load(Ordering::Relaxed) || self.started.elapsed() > LONGEST {
                break;
            }
            while under_way.try_join_next().is_some() {}
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                self.tally().skip();
                continue;
            };
            let (shared, call) = (self.clone(), calls[usize::from(number % 2 == 1)].clone());
            let phase = self.tally().send();
            under_way.spawn(async move {
                let _slot = slot;
                let at = shared.started.elapsed();
                let fate = call.make(address, number).await;
                shared.tally().record(phase, at, shared.started.elapsed(), call.era(), fate);
            });
        }
        while under_way.join_next().await.is_some() {}
    }
}
