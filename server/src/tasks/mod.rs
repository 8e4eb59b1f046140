//! Tasks: calls that go on after they were answered with a handle (`extensions/tasks/specification`).
//!
//! ```text
//! tools/call → handler → create → kept on two shards → CreateTaskResult          the handler goes on, alone
//!                                      │
//!                 working ⇄ input_required → completed | failed | cancelled → forgotten after its ttl
//!                                      │                    every change → its keeper; → notifications/tasks
//! tasks/get  tasks/update  tasks/cancel → where it runs → or, when that is gone, who has its record
//! ```
//! A task counts as work under way: a drain waits for it as for a request, until its deadline. What a shard knows when it
//! ends, it hands to another. A task whose shard is lost before it has ended is `failed`, never unknown.

mod asker;
mod forward;
mod handle;
mod id;
mod keep;
mod listen;
mod record;
mod said;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use self::handle::Handle;
pub use self::id::TaskId;
use self::record::{Copies, Kept, Record};
use self::said::Request;
use crate::auth::Principal;
use crate::exchange::Ask;
use crate::fault::{Fault, Refused};
use crate::jsonrpc;
use crate::limits::{MAX_TASK_NOTIFICATION, MAX_TASK_RESULT, MAX_TASK_TTL, MAX_TASKS};
use crate::load::{Load, RunningTask};
use crate::mcp::subscriptions::Event;
use crate::mcp::tasks::{State, Task};
use crate::session::{Incarnation, Tagger};
use crate::shard::Shard;

/// How long a task is kept, from its creation, when its tool does not say.
pub const TTL: Duration = Duration::from_mins(30);
/// How often clients are asked to look, at most.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The tasks that run on this shard, those that ran and are not forgotten, and the records of those of others.
#[derive(Debug)]
pub struct Tasks {
    incarnation: Incarnation,
    tagger: Tagger,
    load: Arc<Load>,
    next: AtomicU64,
    table: Mutex<Table>,
    shard: Mutex<Weak<Shard>>,
    /// There is something to look after.
    awake: Notify,
    /// The process ends.
    leaving: AtomicBool,
    /// Tasks whose state is asked for on behalf of who has begun to listen; `true` when they were heard of meanwhile.
    asked: Mutex<HashMap<Arc<str>, bool>>,
    /// Records of others there was no room for.
    refused: AtomicU64,
    /// Tasks of others that have failed because their shard was lost.
    lost: AtomicU64,
}

/// What is counted of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Running on this shard, or ended and not forgotten.
    pub kept: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Records of tasks of other shards.
    pub copies: usize,
    /// Their bytes.
    pub copy_bytes: usize,
    /// Records of others there was no room for, since the start.
    pub refused: u64,
    /// Tasks of others that have failed because their shard was lost, since the start.
    pub lost: u64,
}

#[derive(Debug)]
struct Table {
    entries: HashMap<u64, Entry>,
    bytes: usize,
    copies: Copies,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    /// What it has become, before anybody is shown it: the keeper is to know first.
    ending: Option<Task>,
    /// What it counts in [`Table::bytes`].
    bytes: usize,
    /// Asked and not answered.
    asked: BTreeMap<String, Ask>,
    /// Answered and not taken.
    answered: BTreeMap<String, Value>,
    /// How often each key was asked: none is used twice.
    keys: HashMap<String, u32>,
    woken: Arc<Notify>,
    /// Told when its record has been sent, or cannot be.
    settled: Arc<Notify>,
    cancelled: CancellationToken,
    running: Option<RunningTask>,
    /// When it is forgotten.
    expires: Instant,
}

impl Tasks {
    /// None yet.
    pub fn new(incarnation: Incarnation, tagger: Tagger, load: Arc<Load>) -> Self {
        let copies = Copies::new(incarnation, load.budgets().task_copies);
        let table = Table { entries: HashMap::new(), bytes: 0, copies };
        Self {
            incarnation,
            tagger,
            load,
            next: AtomicU64::new(1),
            table: Mutex::new(table),
            shard: Mutex::default(),
            awake: Notify::new(),
            leaving: AtomicBool::new(false),
            asked: Mutex::default(),
            refused: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Whose streams hear of changes.
    pub(crate) fn attach(&self, shard: &Arc<Shard>) {
        *lock(&self.shard) = Arc::downgrade(shard);
    }

    fn shard(&self) -> Option<Arc<Shard>> {
        lock(&self.shard).upgrade()
    }

    /// Makes a task. It is found by its id when this returns, also when this shard is lost
    /// (`extensions/tasks/specification` §Task Creation).
    ///
    /// # Errors
    /// When there are as many as may be, here or on all who could keep the second record: 503.
    ///
    /// # Cancel safety
    /// Without its handle the task is forgotten.
    pub async fn create(
        self: &Arc<Self>,
        principal: &Principal,
        ttl: Duration,
        message: Option<String>,
    ) -> Result<Handle, Fault> {
        let ttl = ttl.min(MAX_TASK_TTL);
        let (created, number) = (epoch_ms(), self.next.fetch_add(1, Relaxed));
        // A day in milliseconds fits.
        let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
        let id = TaskId { runs: self.incarnation, keeps: Incarnation::default(), number, created, ttl: ttl_ms };
        let sealed: Arc<str> = id.seal(&self.tagger, principal).into();
        let task = Task {
            state: State::Working,
            message,
            created,
            updated: created,
            ttl: u64::from(ttl_ms),
            poll_interval: u64::try_from(POLL_INTERVAL.as_millis()).unwrap_or(u64::MAX),
        };
        let (cancelled, bytes, expires) = (CancellationToken::new(), task.bytes(), Instant::now() + ttl);
        let (owner, kept) = (self.incarnation, Kept::default());
        let record = Record { id, sealed, principal: principal.name.as_str().into(), task, version: 1, owner, kept };
        {
            let mut table = lock(&self.table);
            if table.entries.len() >= MAX_TASKS {
                return Err(Fault::OverCapacity(Refused::Tasks));
            }
            let entry = Entry {
                record: record.clone(),
                ending: None,
                bytes,
                asked: BTreeMap::new(),
                answered: BTreeMap::new(),
                keys: HashMap::new(),
                woken: Arc::default(),
                settled: Arc::default(),
                cancelled: cancelled.clone(),
                running: Some(self.load.task()),
                expires,
            };
            table.bytes += bytes;
            table.entries.insert(number, entry);
        }
        let sealed = self.keep_new(principal, record).await?;
        self.awake.notify_one();
        Ok(Handle { tasks: Arc::clone(self), number, sealed, cancelled, expires })
    }

    /// What a task is now, as `tasks/get` shows it.
    ///
    /// # Errors
    /// `-32602` when there is none with that id for this principal, `-32603` when those who know it cannot be asked.
    pub async fn get(&self, principal: &Principal, sealed: &str) -> Result<Map<String, Value>, Fault> {
        let id = self.open(principal, sealed)?;
        if id.runs == self.incarnation {
            return self.get_here(principal, sealed);
        }
        self.reach(principal, sealed, id, Request::Get).await?.ok_or_else(elsewhere)
    }

    fn get_here(&self, principal: &Principal, sealed: &str) -> Result<Map<String, Value>, Fault> {
        let id = self.open_local(principal, sealed)?;
        let table = lock(&self.table);
        table.entries.get(&id.number).map(|entry| entry.record.task.detailed(sealed)).ok_or_else(unknown)
    }

    /// Takes answers to what a task asked. Keys that are not asked, or are answered already, are ignored; an answer that is
    /// none is refused, and its question stays.
    ///
    /// # Errors
    /// `-32602` when there is no such task, or an answer cannot be used.
    pub async fn update(
        self: &Arc<Self>,
        principal: &Principal,
        sealed: &str,
        responses: Map<String, Value>,
    ) -> Result<(), Fault> {
        let id = self.open(principal, sealed)?;
        if id.runs == self.incarnation {
            return self.update_here(principal, sealed, responses);
        }
        self.reach(principal, sealed, id, Request::Update(responses)).await.map(drop)
    }

    fn update_here(self: &Arc<Self>, principal: &Principal, sealed: &str, responses: Map<String, Value>) -> Result<(), Fault> {
        let id = self.open_local(principal, sealed)?;
        self.change(id.number, |entry| {
            for (key, value) in &responses {
                if let Some(ask) = entry.asked.get(key) {
                    ask.read(value)
                        .map_err(|why| Fault::InvalidParams(format!("params.inputResponses[{key:?}] is no answer: {why}")))?;
                }
            }
            for (key, value) in responses {
                if entry.asked.remove(&key).is_some() {
                    entry.answered.insert(key, value);
                }
            }
            entry.show_asked();
            entry.woken.notify_waiters();
            Ok(())
        })
        .ok_or_else(unknown)?
    }

    /// Cancels a task: what runs is dropped. One that has ended stays as it is.
    ///
    /// # Errors
    /// `-32602` when there is no such task.
    pub async fn cancel(&self, principal: &Principal, sealed: &str) -> Result<(), Fault> {
        let id = self.open(principal, sealed)?;
        if id.runs == self.incarnation {
            return self.cancel_here(principal, sealed);
        }
        self.reach(principal, sealed, id, Request::Cancel).await.map(drop)
    }

    fn cancel_here(&self, principal: &Principal, sealed: &str) -> Result<(), Fault> {
        let id = self.open_local(principal, sealed)?;
        let table = lock(&self.table);
        table.entries.get(&id.number).map(|entry| entry.cancelled.cancel()).ok_or_else(unknown)
    }

    /// Whether an id was given to this principal, by any shard.
    pub fn knows(&self, principal: &Principal, sealed: &str) -> bool {
        TaskId::open(sealed, &self.tagger, principal).is_some()
    }

    /// What is counted.
    pub fn counts(&self) -> Counts {
        let table = lock(&self.table);
        let (copies, copy_bytes) = table.copies.size();
        let (refused, lost) = (self.refused.load(Relaxed), self.lost.load(Relaxed));
        Counts { kept: table.entries.len(), bytes: table.bytes, copies, copy_bytes, refused, lost }
    }

    fn open(&self, principal: &Principal, sealed: &str) -> Result<TaskId, Fault> {
        TaskId::open(sealed, &self.tagger, principal).ok_or_else(unknown)
    }

    /// A task of this shard: numbers are unique on one only.
    fn open_local(&self, principal: &Principal, sealed: &str) -> Result<TaskId, Fault> {
        let id = self.open(principal, sealed)?;
        if id.runs == self.incarnation { Ok(id) } else { Err(elsewhere()) }
    }

    /// Why a state may not be kept beside others that take so many bytes.
    fn unfit(&self, task: &Task, others: usize) -> Option<String> {
        let size = task.bytes();
        if size > MAX_TASK_RESULT {
            Some(format!("the result has {size} bytes, and a task keeps {MAX_TASK_RESULT}"))
        } else if (others + size) as u64 > self.load.budgets().tasks {
            Some("this server keeps all the results of tasks it may".to_owned())
        } else {
            None
        }
    }

    /// Changes a task that has not ended, tells who listens, and has the second record follow; none when there is no such task.
    fn change<T>(self: &Arc<Self>, number: u64, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut table = lock(&self.table);
        let Table { entries, bytes, .. } = &mut *table;
        let entry = entries.get_mut(&number)?;
        let before = entry.record.task.clone();
        let changed = change(entry);
        if before.state.is_terminal() || entry.ending.is_some() {
            entry.record.task = before;
            return Some(changed);
        }
        if let Some(why) = self.unfit(&entry.record.task, *bytes - entry.bytes) {
            entry.fail(why);
        }
        entry.weigh(bytes);
        if entry.record.task == before {
            return Some(changed);
        }
        entry.record.task.updated = epoch_ms().max(before.updated);
        entry.record.version += 1;
        let is_idle = !std::mem::replace(&mut entry.record.kept.busy, true);
        let (key, entry) = (entry.record.id.key(), &*entry);
        // Told while it is locked: what is told later is newer.
        self.tell(&entry.record.sealed, &entry.record.task);
        drop(table);
        if is_idle {
            self.spread(key);
        }
        Some(changed)
    }

    fn tell(&self, sealed: &Arc<str>, task: &Task) {
        if let (Some(shard), Some(event)) = (self.shard(), event(sealed, task)) {
            shard.raise(&event);
        }
    }
}

impl Entry {
    /// The state that shows what is asked.
    fn show_asked(&mut self) {
        let request = |(key, ask): (&String, &Ask)| {
            let params = ask.params(crate::mcp::version::Version::V2026_07_28, key);
            (key.clone(), json!({"method": ask.method(), "params": params}))
        };
        self.record.task.state =
            if self.asked.is_empty() { State::Working } else { State::InputRequired(self.asked.iter().map(request).collect()) };
    }

    /// It has failed.
    fn fail(&mut self, why: String) {
        warn!(why, "a task fails");
        self.record.task.message = Some(why.clone());
        self.record.task.state = State::Failed(jsonrpc::INTERNAL_ERROR, why);
        self.cancelled.cancel();
    }

    /// Counts what it takes now, and lets go of what an ended task needs no more.
    fn weigh(&mut self, total: &mut usize) {
        if self.record.task.state.is_terminal() {
            self.running = None;
            self.asked.clear();
            self.answered.clear();
        }
        let now = self.record.task.bytes().max(self.ending.as_ref().map_or(0, Task::bytes));
        *total = *total - self.bytes + now;
        self.bytes = now;
    }

    /// What the keeper is to have.
    fn newest(&self) -> &Task {
        self.ending.as_ref().unwrap_or(&self.record.task)
    }
}

/// The notification of a state, unless it is too large for one.
fn event(sealed: &Arc<str>, task: &Task) -> Option<Event> {
    shown(sealed, task.detailed(sealed))
}

fn shown(sealed: &Arc<str>, task: Map<String, Value>) -> Option<Event> {
    let params = Value::Object(task).to_string();
    (params.len() <= MAX_TASK_NOTIFICATION).then(|| Event::TaskChanged { id: Arc::clone(sealed), task: params.into() })
}

/// As the specification words it. The same for what never was, what is forgotten, and what is another's.
fn unknown() -> Fault {
    Fault::InvalidParams("Task not found".to_owned())
}

/// The id is good, and its task may be as well: nobody may take it for one that is gone.
fn elsewhere() -> Fault {
    Fault::Failed("The shards that know this task cannot be asked now; try again".to_owned())
}

fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
