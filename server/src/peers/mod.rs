//! The mesh between the shards of a cluster: one connection for each pair, no hop beyond it, and no history.
//!
//! ```text
//! POST /load names the members → dial, or accept on the control port → greet (both prove the cluster's key) → in step
//! raise(event) → outbox → every link → hub of each peer          revoke(session) → every live peer has answered → 204
//! change(record) → the session's keeper → every live peer         respond → the shard that asked      cancel → all
//! resume → the shard that keeps the stream, batch by batch
//! ```
//! A process is not Ready before it is in step with every member, so that what ended before it began stays ended. It waits
//! for nobody who is dead: a refused connection counts as heard, and silence only [`members::GIVE_UP`] long. Two that begin at once do
//! not wait for each other to be Ready, only to greet. Without the operator's list it waits for [`LIST_WAIT`], in which the
//! peers of a process that was restarted in its place find it by themselves.

mod alive;
pub mod answer;
mod dial;
pub mod events;
pub mod handshake;
pub mod keep;
pub mod link;
pub mod members;
mod metrics;
pub mod resume;
pub mod wire;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use mcp_crds::load::Member;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

pub use dial::{PATH, accept};
pub use metrics::PeerMetrics;

use self::events::{Cursor, Inbox, Outbox};
use self::link::{Ended, Link, Unanswered};
use self::members::Members;
use self::metrics::{OutcomeLabel, WhatLabel, WhyLabel};
use self::wire::{Answer, Ask, Frame, fits};
use crate::limits::Jitter;
use crate::mcp::subscriptions::Event;
use crate::session::{Incarnation, SessionKey};
use crate::shard::Shard;

/// How long a process waits for the operator's list before it is Ready without.
pub const LIST_WAIT: Duration = Duration::from_secs(10);
/// How long a DELETE waits until every live peer has confirmed it; a little longer than until a silent one is given up.
pub const REVOKE_TIME: Duration = Duration::from_secs(4);
/// How long a posted response waits for the shard that asked.
const RESPOND_TIME: Duration = Duration::from_secs(5);
/// Connections to peers at one time: more than the largest cluster has shards.
pub const MAX_LINKS: usize = 512;
/// Sessions whose last stream here is gone and of which no peer was told yet.
const MAX_RELEASED: usize = 4096;
/// Between two looks while a process is not in step.
const LOOK: Duration = Duration::from_millis(50);

/// The mesh, as one shard sees it.
#[derive(Debug)]
pub struct Peers {
    name: String,
    incarnation: Incarnation,
    state: Mutex<State>,
    /// Grows with every connection that begins, is in step, or ends, and with every list.
    changed: watch::Sender<u64>,
    outbox: Mutex<Outbox>,
    /// Number of the newest event raised here.
    raised: watch::Sender<u64>,
    /// Keys are loaded: others can be greeted.
    begun: watch::Sender<bool>,
    settled: AtomicBool,
    /// Ends with the process.
    stop: CancellationToken,
    jitter: Jitter,
    metrics: PeerMetrics,
}

#[derive(Debug, Default)]
struct State {
    members: Members,
    links: HashMap<Incarnation, Arc<Link>>,
    departed: alive::Departed,
    inbox: Inbox,
}

/// A peer that may be alive has not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// Not in time.
    #[error("a peer did not confirm in time")]
    Late,
    /// It has no room left.
    #[error("a peer has no room left")]
    Full,
}

impl Peers {
    /// The mesh of a shard with this pod name. `alone`: there is no other shard and never will be.
    pub fn new(name: String, incarnation: Incarnation, alone: bool, metrics: PeerMetrics) -> Self {
        let seed = incarnation.iter().fold(0, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(*byte));
        Self {
            name,
            incarnation,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            outbox: Mutex::default(),
            raised: watch::Sender::new(0),
            begun: watch::Sender::new(false),
            settled: AtomicBool::new(alone),
            stop: CancellationToken::new(),
            jitter: Jitter::new(seed),
            metrics,
        }
    }

    /// Keys and a configuration are loaded: others can be greeted.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Whether this process is in step with the others, or need not wait to be. Once it is, it stays so.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    /// The operator said which list it holds, and the list when ours was another; returns the epoch of ours.
    pub fn told(&self, epoch: u64, list: Option<Vec<Member>>) -> u64 {
        let is_new = list.is_some();
        let mut state = self.lock();
        if let Some(list) = list {
            state.members.replace(&self.name, epoch, list, Instant::now());
            self.metrics.listed.set(i64::try_from(state.members.others().count()).unwrap_or(i64::MAX));
        }
        let epoch = state.members.epoch();
        drop(state);
        if is_new {
            self.touch();
        }
        epoch
    }

    /// Tells every peer of an event. Raised here is here already: the hub of this shard is the caller's.
    pub fn publish(&self, event: Event) {
        if !fits(&event) {
            self.metrics.events_lost.inc();
            return;
        }
        let number = self.outbox.lock().unwrap_or_else(PoisonError::into_inner).raise(event);
        self.raised.send_replace(number);
    }

    /// Has every live peer end a session that has ended here. A peer that was connected a moment ago may be alive, and is
    /// waited for; one that has never been is not Ready yet, and learns of it before it is.
    ///
    /// # Errors
    /// When one that may be alive has not confirmed in [`REVOKE_TIME`]. It will learn of it when it is connected again.
    pub async fn revoke(&self, session: SessionKey, expires: u64) -> Result<(), Unheard> {
        let start = Instant::now();
        let (_, all) = self.everywhere(&Ask::Revoke { session, expires }, REVOKE_TIME).await;
        self.metrics.everywhere_seconds.observe(start.elapsed().as_secs_f64());
        all
    }

    /// Gives a response that a client posted here to the shard that asked; `false` when nobody waits for it there.
    pub async fn respond(&self, asker: Incarnation, ask: Ask) -> bool {
        let Some(link) = self.lock().links.get(&asker).cloned().filter(|_| ask.fits()) else { return false };
        let answer = link.ask(ask, Instant::now() + RESPOND_TIME).await;
        self.count(&answer);
        answer == Ok(Answer::Done)
    }

    /// Asks a shard about a task; none when it cannot be asked, or does not answer in time.
    pub async fn about_task(&self, process: Incarnation, request: String, time: Duration) -> Option<String> {
        let ask = Ask::Task(request);
        let link = self.lock().links.get(&process).cloned().filter(|_| ask.fits())?;
        let answer = link.ask(ask, Instant::now() + time).await;
        self.count(&answer);
        match answer {
            Ok(Answer::Task(said)) => Some(said),
            Ok(Answer::Done | Answer::Full | Answer::Events(_) | Answer::Unknown) | Err(_) => None,
        }
    }

    /// Tells all peers something that needs no answer, and may be lost.
    pub fn tell(&self, frame: &Frame) {
        if !frame.fits() {
            return;
        }
        let links: Vec<_> = self.lock().links.values().cloned().collect();
        for link in links {
            link.tell(frame.clone());
        }
    }

    /// Whether every connected peer has said that it serves the configuration of this hash.
    pub fn all_serve(&self, hash: &str) -> bool {
        self.lock().links.values().all(|link| link.serves(hash))
    }

    /// Asks every live peer, those that come back within the time included; returns how many confirmed.
    async fn everywhere(&self, ask: &Ask, time: Duration) -> (usize, Result<(), Unheard>) {
        let deadline = Instant::now() + time;
        let mut changed = self.changed.subscribe();
        let mut confirmed = HashSet::new();
        loop {
            changed.mark_unchanged();
            let (links, missed) = {
                let state = self.lock();
                let links: Vec<_> = state.links.values().filter(|link| !confirmed.contains(&link.incarnation)).cloned().collect();
                let is_linked = |name: &str| state.links.values().any(|link| link.name == name);
                (links, state.members.any_missed(Instant::now(), is_linked))
            };
            let asked = links.iter().map(|link| async {
                let answer = link.ask(ask.clone(), deadline).await;
                self.count(&answer);
                (link.incarnation, answer)
            });
            let (mut lost, mut unheard) = (false, None);
            for (incarnation, answer) in join_all(asked).await {
                match answer {
                    Ok(Answer::Done) => {
                        confirmed.insert(incarnation);
                    }
                    Ok(Answer::Full | Answer::Task(_) | Answer::Events(_) | Answer::Unknown) => unheard = Some(Unheard::Full),
                    Err(Unanswered::Late) => unheard = unheard.or(Some(Unheard::Late)),
                    Err(Unanswered::Lost) => lost = true,
                }
            }
            if let Some(unheard) = unheard {
                return (confirmed.len(), Err(unheard));
            }
            if !lost && !missed {
                return (confirmed.len(), Ok(()));
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = sleep(LOOK) => {}
                () = sleep_until(deadline) => return (confirmed.len(), Err(Unheard::Late)),
            }
        }
    }

    /// Who puts the changes of a session in order: the process that made it, and when it is gone the lowest incarnation
    /// there is, on which all agree. None is this one.
    fn keeper_of(&self, session: SessionKey) -> Option<Arc<Link>> {
        if session.incarnation == self.incarnation {
            return None;
        }
        let state = self.lock();
        let lowest =
            || state.links.values().min_by_key(|link| link.incarnation).filter(|link| link.incarnation < self.incarnation);
        state.links.get(&session.incarnation).or_else(lowest).cloned()
    }

    /// Runs the mesh until the process ends: dials whom the operator names. `list_wait` is [`LIST_WAIT`] but in tests.
    pub async fn run(shard: Arc<Shard>, list_wait: Duration) {
        let peers = &shard.peers;
        let _stopped = peers.stop.clone().drop_guard();
        let mut begun = peers.begun.subscribe();
        if begun.wait_for(|begun| *begun).await.is_err() {
            return;
        }
        let since = Instant::now();
        let mut changed = peers.changed.subscribe();
        let mut dialing: HashMap<(String, String), Dialing> = HashMap::new();
        let (release, mut released) = mpsc::channel(MAX_RELEASED);
        shard.hub.tell_released(release);
        loop {
            changed.mark_unchanged();
            let others: HashSet<(String, String)> =
                peers.lock().members.others().map(|(name, address)| (name.to_owned(), address.to_owned())).collect();
            dialing.retain(|other, _| others.contains(other));
            for other in others {
                dialing.entry(other.clone()).or_insert_with(|| {
                    let (name, address) = other;
                    Dialing(tokio::spawn(dial::keep(Arc::clone(&shard), name, address)).abort_handle())
                });
            }
            peers.settle(Instant::now(), since + list_wait);
            tokio::select! {
                _ = changed.changed() => {}
                () = sleep(LOOK), if !peers.is_settled() => {}
                Some(session) = released.recv() => peers.tell(&Frame::Stream { session, opened: None }),
            }
        }
    }

    /// Counts that there was no room: for an `ended` session, or for a `record` of one.
    pub fn no_room(&self, what: &'static str) {
        self.metrics.refused.get_or_create(&WhatLabel { what }).inc();
    }

    /// Peers with a live connection, by pod.
    pub fn linked(&self) -> Vec<String> {
        let mut names: Vec<_> = self.lock().links.values().map(|link| link.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Decides whether there is nobody left to wait for.
    fn settle(&self, now: Instant, unlisted_until: Instant) {
        if self.is_settled() {
            return;
        }
        let state = self.lock();
        let all = if state.members.is_told() {
            let in_step = |name: &str| state.links.values().any(|link| link.name == name && link.is_in_step());
            state.members.all_heard(now, in_step)
        } else {
            // Others may know this process better than it knows them.
            now >= unlisted_until && state.links.values().all(|link| link.is_in_step())
        };
        if all {
            info!(linked = state.links.len(), listed = state.members.others().count(), "in step with the other shards");
            self.settled.store(true, Relaxed);
        }
    }

    /// Takes a connection whose peer has proved itself; `false` when there is a better one, or no room. Of two connections
    /// of a pair both sides keep the one that the lower incarnation dialed; of two by the same dialer, the newer.
    fn register(&self, link: &Arc<Link>) -> bool {
        let mut state = self.lock();
        let lower = self.incarnation.min(link.incarnation);
        match state.links.get(&link.incarnation) {
            Some(old) if old.dialer != link.dialer && link.dialer != lower => return false,
            Some(old) => old.close(),
            None if state.links.len() >= MAX_LINKS => return false,
            None => {}
        }
        state.links.insert(link.incarnation, Arc::clone(link));
        state.departed.remove(&link.incarnation);
        self.metrics.linked.set(i64::try_from(state.links.len()).unwrap_or(i64::MAX));
        drop(state);
        self.touch();
        true
    }

    /// Forgets a connection that ended.
    fn unregister(&self, shard: &Shard, link: &Arc<Link>, why: &Ended) {
        self.metrics.ended.get_or_create(&WhyLabel { why: why.label() }).inc();
        let mut state = self.lock();
        let is_current = state.links.get(&link.incarnation).is_some_and(|current| Arc::ptr_eq(current, link));
        if is_current {
            state.links.remove(&link.incarnation);
            state.members.lost(&link.name, Instant::now());
            state.departed.insert(link.incarnation, link.name.clone(), Instant::now());
            self.metrics.linked.set(i64::try_from(state.links.len()).unwrap_or(i64::MAX));
            debug!(peer = link.name, why = %why, "the connection to a peer ended");
            drop(state);
            self.touch();
            self.reclaim(shard, None, link.incarnation);
            // It may have been the one that was waited for.
            shard.tell_of_flips();
        }
    }

    /// Streams that stood back for one of another process, which is gone, are sent to again: the newest of all that are left.
    fn reclaim(&self, shard: &Shard, session: Option<SessionKey>, gone: Incarnation) {
        for (session, opened) in shard.hub.closed_elsewhere(session, gone) {
            self.tell(&Frame::Stream { session, opened: Some(opened) });
        }
    }

    fn is_linked(&self, name: &str) -> bool {
        self.lock().links.values().any(|link| link.name == name)
    }

    fn down(&self, name: &str) {
        self.lock().members.down(name);
        self.touch();
    }

    /// Tells those who wait for a change of the links. Never while they are locked: whoever waits looks at them.
    fn touch(&self) {
        self.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    fn count(&self, answer: &Result<Answer, Unanswered>) {
        let outcome = match answer {
            Ok(Answer::Done | Answer::Task(_) | Answer::Events(_)) => "done",
            Ok(Answer::Full) => "full",
            Ok(Answer::Unknown) => "unknown",
            Err(Unanswered::Lost) => "lost",
            Err(Unanswered::Late) => "late",
        };
        self.metrics.asks.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    // What links ask of the mesh.

    /// Whether an event of a peer is new here.
    fn hear(&self, origin: Incarnation, number: u64) -> bool {
        let mut state = self.lock();
        let State { inbox, links, .. } = &mut *state;
        let is_new = inbox.hear(origin, number, |origin| links.contains_key(origin));
        if is_new { &self.metrics.events_heard } else { &self.metrics.events_repeated }.inc();
        is_new
    }

    fn heard(&self, origin: &Incarnation) -> Option<u64> {
        self.lock().inbox.heard(origin)
    }

    fn watch_raised(&self) -> watch::Receiver<u64> {
        self.raised.subscribe()
    }

    fn resume(&self, heard: Option<u64>) -> Cursor {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner).resume(heard)
    }

    fn due(&self, cursor: &mut Cursor, most: usize) -> Vec<(u64, Event)> {
        let (due, lost) = self.outbox.lock().unwrap_or_else(PoisonError::into_inner).after(cursor, most);
        self.metrics.events_sent.inc_by(due.len() as u64);
        self.metrics.events_lost.inc_by(u64::from(lost));
        due
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that keeps a connection to one member, until dropped.
struct Dialing(AbortHandle);

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
