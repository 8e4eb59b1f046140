//! A client's request about a task of another shard: asked where it runs, and of who has a record when that is gone. And what
//! other shards are answered.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout_at};

use super::record::{Record, Taken};
use super::said::{Message, Request, Said, record};
use super::{Tasks, elsewhere, epoch_ms, lock, unknown};
use crate::auth::Principal;
use crate::fault::Fault;
use crate::jsonrpc;
use crate::mcp::tasks::{State, Task};
use crate::session::Incarnation;
use crate::shard::Shard;
use crate::tasks::TaskId;

/// How long one shard is waited for.
pub(super) const ASK_TIME: Duration = Duration::from_secs(2);
/// How long it is looked for who can answer.
const REACH_TIME: Duration = Duration::from_secs(4);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What is known of a task whose shard does not answer.
enum Found {
    Record(Task),
    /// Everybody who may be alive was asked, and nobody has a record.
    Nowhere,
    /// Somebody could not be asked.
    Unsure,
}

impl Tasks {
    /// Has a client's request answered where its task runs, or by who has a record of it.
    pub(super) async fn reach(
        &self,
        principal: &Principal,
        sealed: &str,
        id: TaskId,
        request: Request,
    ) -> Result<Option<Map<String, Value>>, Fault> {
        let shard = self.shard().ok_or_else(elsewhere)?;
        let shows = request == Request::Get;
        let message = Message { principal: principal.name.clone(), id: sealed.to_owned(), request };
        let text = message.encode().ok_or_else(elsewhere)?;
        let deadline = Instant::now() + REACH_TIME;
        let mut changed = shard.peers.watch();
        loop {
            changed.mark_unchanged();
            match self.say(&shard, id.runs, text.clone()).await {
                Some(Said::Task(task)) => return Ok(Some(task)),
                Some(Said::Done) => return Ok(None),
                Some(Said::Refused(why)) => return Err(Fault::InvalidParams(why)),
                // Nothing that could be used, which an older shard may say as well.
                _ => {}
            }
            match self.find(&shard, principal, sealed, id).await {
                // A task that goes on takes no answer but where it runs.
                Found::Record(task) if shows || task.state.is_terminal() => return Ok(shows.then(|| task.detailed(sealed))),
                _ if id.is_over(epoch_ms(), 0) && shard.peers.is_gone(id.runs) => return Err(unknown()),
                Found::Nowhere if shard.peers.is_gone(id.runs) => {
                    let task = lost(id);
                    if shows {
                        self.give_up(principal, sealed, id, &task);
                    }
                    return Ok(shows.then(|| task.detailed(sealed)));
                }
                Found::Record(_) | Found::Nowhere | Found::Unsure => {}
            }
            let moved = async {
                tokio::select! {
                    _ = changed.changed() => {}
                    () = sleep(LOOK) => {}
                }
            };
            timeout_at(deadline, moved).await.map_err(|_| elsewhere())?;
        }
    }

    /// A client is told that a task has failed of which nobody has a record: from now on this shard answers for it, so that it
    /// stays so, also when those that were taken for gone had only been cut off.
    fn give_up(&self, principal: &Principal, sealed: &str, id: TaskId, task: &Task) {
        let told = record(self.incarnation, id, sealed.to_owned(), &principal.name, (1, task.clone()));
        lock(&self.table).copies.give_up(told);
        self.awake.notify_one();
    }

    /// Says something to one shard; none when it is not connected, or does not answer in time.
    pub(super) async fn say(&self, shard: &Shard, to: Incarnation, text: String) -> Option<Said> {
        let said = shard.peers.about_task(to, text, ASK_TIME).await?;
        serde_json::from_str(&said).ok()
    }

    /// The newest record of a task: here, where its id says, or anywhere.
    async fn find(&self, shard: &Shard, principal: &Principal, sealed: &str, id: TaskId) -> Found {
        if let Some(record) = lock(&self.table).copies.get(id.key()).filter(|record| record.id.created == id.created) {
            return Found::Record(record.task.clone());
        }
        let message = Message { principal: principal.name.clone(), id: sealed.to_owned(), request: Request::Find };
        let Some(text) = message.encode() else { return Found::Unsure };
        if let Some(Said::Record { task, .. }) = self.say(shard, id.keeps, text.clone()).await {
            return Found::Record(task);
        }
        match self.everywhere(shard, text).await {
            (Some((_, task)), _) => Found::Record(task),
            (None, true) => Found::Nowhere,
            (None, false) => Found::Unsure,
        }
    }

    /// The newest record that any other shard has, and whether all who may be alive have answered.
    pub(super) async fn everywhere(&self, shard: &Shard, text: String) -> (Option<(u64, Task)>, bool) {
        let asked = shard.peers.processes().into_iter().map(|peer| self.say(shard, peer, text.clone()));
        let (mut best, mut all): (Option<(u64, Task)>, _) = (None, shard.peers.is_whole());
        for said in join_all(asked).await {
            match said {
                Some(Said::Record { version, task }) if best.as_ref().is_none_or(|(best, _)| *best < version) => {
                    best = Some((version, task));
                }
                Some(_) => {}
                None => all = false,
            }
        }
        (best, all)
    }

    /// Answers another shard, the process `from`; none when it is not understood, or its id was made up.
    pub(crate) fn answer(self: &Arc<Self>, from: Incarnation, text: &str) -> Option<String> {
        let (principal, id, sealed, request) = Message::read(text, &self.tagger)?;
        let of_a_client = |answered: Result<Said, Fault>| match answered {
            Ok(said) => Some(said),
            Err(Fault::InvalidParams(why)) => Some(Said::Refused(why)),
            Err(_) => None,
        };
        let said = match request {
            Request::Get => of_a_client(self.get_here(&principal, &sealed).map(Said::Task)),
            Request::Update(responses) => of_a_client(self.update_here(&principal, &sealed, responses).map(|()| Said::Done)),
            Request::Cancel => of_a_client(self.cancel_here(&principal, &sealed).map(|()| Said::Done)),
            Request::Keep { version, task, leaving } => {
                Some(self.keep(from, record(from, id, sealed, &principal.name, (version, task)), leaving))
            }
            Request::Find => Some(self.known(id)),
            Request::Forget => Some(self.forget_copy(from, id)),
        };
        serde_json::to_string(&said?).ok()
    }

    /// `leaving`: its owner is about to end, so that who is to keep it must not be.
    fn keep(&self, from: Incarnation, told: Record, leaving: bool) -> Said {
        let Some(shard) = self.shard() else { return Said::Leaving };
        if told.id.runs == self.incarnation {
            return self.given_up(from, told);
        }
        let runs_here = shard.peers.is_connected(told.id.runs);
        let known = lock(&self.table).copies.get(told.id.key()).is_some();
        if shard.drain.is_draining() && (!known || leaving) {
            return Said::Leaving;
        }
        let id = told.id;
        let taken = lock(&self.table).copies.take(from, told, runs_here, epoch_ms());
        self.awake.notify_one();
        match taken {
            Taken::Kept => Said::Done,
            Taken::Full => {
                self.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Said::Full
            }
            Taken::Stands(version, task) => Said::Stands { version, task },
            Taken::Forged(why) => {
                tracing::warn!(why, number = id.number, "refused the record of a task from a peer");
                Said::Forged(why.to_owned())
            }
        }
    }

    fn known(&self, id: TaskId) -> Said {
        let table = lock(&self.table);
        let own = || table.entries.get(&id.number).filter(|_| id.runs == self.incarnation).map(|entry| &entry.record);
        let record = table.copies.get(id.key()).or_else(own);
        record.map_or(Said::Nothing, |record| Said::Record { version: record.version, task: record.task.clone() })
    }

    /// Another shard keeps the record; only who answers for it can say so, and no task is taken up again that was given up.
    fn forget_copy(&self, from: Incarnation, id: TaskId) -> Said {
        let mut table = lock(&self.table);
        match table.copies.get(id.key()) {
            Some(known) if known.owner == self.incarnation && from == id.runs => {
                Said::Stands { version: known.version, task: known.task.clone() }
            }
            Some(known) if known.owner != from => Said::Forged("another shard answers for it".to_owned()),
            Some(_) => {
                table.copies.remove(id.key());
                Said::Done
            }
            None => Said::Done,
        }
    }
}

/// What is left of a task of which no shard has a record any more.
fn lost(id: TaskId) -> Task {
    let why = "the shards that ran and kept this task are gone, and its result with them".to_owned();
    let ttl = u64::from(id.ttl);
    Task {
        state: State::Failed(jsonrpc::INTERNAL_ERROR, why.clone()),
        message: Some(why),
        created: id.created,
        updated: id.created,
        ttl,
        poll_interval: u64::try_from(super::POLL_INTERVAL.as_millis()).unwrap_or(u64::MAX),
    }
}
