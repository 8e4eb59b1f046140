//! Tasks: calls that go on after they were answered with a handle (`extensions/tasks/specification`).
//!
//! ```text
//! tools/call → handler → create → CreateTaskResult          the handler goes on, alone
//!                          │
//!             working ⇄ input_required → completed | failed | cancelled → forgotten after its ttl
//!                          │                                   every change → notifications/tasks
//! tasks/get  tasks/update  tasks/cancel
//! ```
//! A task counts as work under way: a drain waits for it as for a request, until its deadline.

mod asker;
mod forward;
mod id;
mod store;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::forward::Request;
pub use self::id::TaskId;
pub use self::store::{Alone, Stored, TaskStore};
use crate::auth::Principal;
use crate::exchange::{Ask, Asker};
use crate::fault::{Fault, Refused};
use crate::jsonrpc;
use crate::limits::{MAX_TASK_BYTES, MAX_TASK_NOTIFICATION, MAX_TASK_RESULT, MAX_TASK_TTL, MAX_TASKS};
use crate::load::{Load, RunningTask};
use crate::mcp::subscriptions::Event;
use crate::mcp::tasks::{State, Task};
use crate::mcp::tools::CallToolResult;
use crate::session::{Incarnation, Tagger};
use crate::shard::Shard;

/// How long a task is kept, from its creation, when its tool does not say.
pub const TTL: Duration = Duration::from_mins(30);
/// How often clients are asked to look, at most.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The tasks that run on this shard, and those that ran and are not forgotten.
#[derive(Debug)]
pub struct Tasks {
    incarnation: Incarnation,
    tagger: Tagger,
    load: Arc<Load>,
    store: Box<dyn TaskStore>,
    next: AtomicU64,
    table: Mutex<Table>,
    shard: Mutex<Weak<Shard>>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    id: TaskId,
    sealed: Arc<str>,
    task: Task,
    /// What it counts in [`Table::bytes`].
    bytes: usize,
    /// Asked and not answered.
    asked: BTreeMap<String, Ask>,
    /// Answered and not taken.
    answered: BTreeMap<String, Value>,
    /// How often each key was asked: none is used twice.
    keys: HashMap<String, u32>,
    woken: Arc<Notify>,
    cancelled: CancellationToken,
    running: Option<RunningTask>,
}

/// A task of this shard, held by who runs it.
#[derive(Clone, Debug)]
pub struct Handle {
    tasks: Arc<Tasks>,
    id: TaskId,
    sealed: Arc<str>,
    cancelled: CancellationToken,
    /// When it is forgotten.
    expires: Instant,
}

impl Tasks {
    /// None yet.
    pub fn new(incarnation: Incarnation, tagger: Tagger, load: Arc<Load>, store: Box<dyn TaskStore>) -> Self {
        let (next, table) = (AtomicU64::new(1), Mutex::default());
        Self { incarnation, tagger, load, store, next, table, shard: Mutex::default() }
    }

    /// Whose streams hear of changes.
    pub(crate) fn attach(&self, shard: &Arc<Shard>) {
        *lock(&self.shard) = Arc::downgrade(shard);
    }

    /// Makes a task. It is found by its id when this returns.
    ///
    /// # Errors
    /// When there are as many as may be: 503.
    pub async fn create(
        self: &Arc<Self>,
        principal: &Principal,
        ttl: Duration,
        message: Option<String>,
    ) -> Result<Handle, Fault> {
        let ttl = ttl.min(MAX_TASK_TTL);
        let (created, number) = (epoch_ms(), self.next.fetch_add(1, Relaxed));
        let id = TaskId { runs: self.incarnation, keeps: self.store.keeper(), number };
        let sealed: Arc<str> = id.seal(&self.tagger, principal).into();
        let task = Task {
            state: State::Working,
            message,
            created,
            updated: created,
            ttl: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            poll_interval: u64::try_from(POLL_INTERVAL.as_millis()).unwrap_or(u64::MAX),
        };
        let (cancelled, bytes) = (CancellationToken::new(), task.bytes());
        {
            let mut table = lock(&self.table);
            if table.entries.len() >= MAX_TASKS {
                return Err(Fault::OverCapacity(Refused::Tasks));
            }
            let entry = Entry {
                id,
                sealed: Arc::clone(&sealed),
                task: task.clone(),
                bytes,
                asked: BTreeMap::new(),
                answered: BTreeMap::new(),
                keys: HashMap::new(),
                woken: Arc::default(),
                cancelled: cancelled.clone(),
                running: Some(self.load.task()),
            };
            table.bytes += bytes;
            table.entries.insert(number, entry);
        }
        let handle = Handle { tasks: Arc::clone(self), id, sealed, cancelled, expires: Instant::now() + ttl };
        self.store.put(id, &task).await;
        Ok(handle)
    }

    /// What a task is now, as `tasks/get` shows it.
    ///
    /// # Errors
    /// `-32602` when there is none with that id for this principal, `-32603` when another shard has it and cannot be asked.
    pub async fn get(&self, principal: &Principal, sealed: &str) -> Result<Map<String, Value>, Fault> {
        let id = self.open(principal, sealed)?;
        if id.runs == self.incarnation {
            return self.get_here(principal, sealed);
        }
        match self.forward(principal, sealed, id.runs, Request::Get).await {
            Ok(task) => task.ok_or_else(elsewhere),
            // It is gone; there may be a second record.
            Err(Fault::Failed(_)) => self.store.get(id).await.map(|task| task.detailed(sealed)).ok_or_else(elsewhere),
            Err(fault) => Err(fault),
        }
    }

    fn get_here(&self, principal: &Principal, sealed: &str) -> Result<Map<String, Value>, Fault> {
        let id = self.open_local(principal, sealed)?;
        let table = lock(&self.table);
        table.entries.get(&id.number).map(|entry| entry.task.detailed(sealed)).ok_or_else(unknown)
    }

    /// Takes answers to what a task asked. Keys that are not asked, or are answered already, are ignored; an answer that is
    /// none is refused, and its question stays.
    ///
    /// # Errors
    /// `-32602` when there is no such task, or an answer cannot be used.
    pub async fn update(&self, principal: &Principal, sealed: &str, responses: Map<String, Value>) -> Result<(), Fault> {
        let id = self.open(principal, sealed)?;
        if id.runs == self.incarnation {
            return self.update_here(principal, sealed, responses);
        }
        self.forward(principal, sealed, id.runs, Request::Update(responses)).await.map(drop)
    }

    fn update_here(&self, principal: &Principal, sealed: &str, responses: Map<String, Value>) -> Result<(), Fault> {
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
        self.forward(principal, sealed, id.runs, Request::Cancel).await.map(drop)
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

    /// What those of these that run, or ran, on this shard are now.
    pub fn now(&self, sealed: &[String]) -> Vec<Event> {
        if sealed.is_empty() {
            return Vec::new();
        }
        let table = lock(&self.table);
        let named = table.entries.values().filter(|entry| sealed.iter().any(|id| **id == *entry.sealed));
        named.filter_map(|entry| event(&entry.sealed, &entry.task)).collect()
    }

    /// How many are kept, running or not, and their bytes.
    pub fn kept(&self) -> (usize, usize) {
        let table = lock(&self.table);
        (table.entries.len(), table.bytes)
    }

    fn open(&self, principal: &Principal, sealed: &str) -> Result<TaskId, Fault> {
        TaskId::open(sealed, &self.tagger, principal).ok_or_else(unknown)
    }

    /// A task of this shard: numbers are unique on one only.
    fn open_local(&self, principal: &Principal, sealed: &str) -> Result<TaskId, Fault> {
        let id = self.open(principal, sealed)?;
        if id.runs == self.incarnation { Ok(id) } else { Err(elsewhere()) }
    }

    /// Changes a task that has not ended, keeps the second record up and tells who listens; none when there is no such task.
    fn change<T>(&self, number: u64, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let (changed, told) = {
            let mut table = lock(&self.table);
            let Table { entries, bytes } = &mut *table;
            let entry = entries.get_mut(&number)?;
            let before = entry.task.clone();
            let changed = change(entry);
            if before.state.is_terminal() {
                entry.task = before;
                return Some(changed);
            }
            entry.bound(*bytes);
            let now = entry.task.bytes();
            *bytes = (*bytes + now).saturating_sub(entry.bytes);
            entry.bytes = now;
            if entry.task.state.is_terminal() {
                entry.running = None;
                entry.asked.clear();
                entry.answered.clear();
            }
            let told = (entry.task != before).then(|| {
                entry.task.updated = epoch_ms().max(before.updated);
                (entry.id, Arc::clone(&entry.sealed), entry.task.clone())
            });
            (changed, told)
        };
        if let Some((id, sealed, task)) = told {
            self.tell(id, &sealed, task);
        }
        Some(changed)
    }

    fn tell(&self, id: TaskId, sealed: &Arc<str>, task: Task) {
        let Some(shard) = lock(&self.shard).upgrade() else { return };
        if let Some(event) = event(sealed, &task) {
            shard.raise(&event);
        }
        if id.keeps != Incarnation::default() {
            let shard = Arc::clone(&shard);
            tokio::spawn(async move { shard.tasks.store.put(id, &task).await });
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
        self.task.state =
            if self.asked.is_empty() { State::Working } else { State::InputRequired(self.asked.iter().map(request).collect()) };
    }

    /// What does not fit fails, and says so.
    fn bound(&mut self, kept: usize) {
        let size = self.task.bytes();
        let why = if size > MAX_TASK_RESULT {
            format!("the result has {size} bytes, and a task keeps {MAX_TASK_RESULT}")
        } else if kept + size > MAX_TASK_BYTES {
            "this server keeps all the results of tasks it may".to_owned()
        } else {
            return;
        };
        warn!(why, "a task fails: its state does not fit");
        self.task.message = Some(why.clone());
        self.task.state = State::Failed(jsonrpc::INTERNAL_ERROR, why);
        self.cancelled.cancel();
    }
}

// === impl Handle ===

impl Handle {
    /// MCP `CreateTaskResult`.
    pub fn seed(&self) -> Map<String, Value> {
        let table = lock(&self.tasks.table);
        table.entries.get(&self.id.number).map(|entry| entry.task.seed(&self.sealed)).unwrap_or_default()
    }

    /// When it must have ended.
    pub fn expires(&self) -> Instant {
        self.expires
    }

    /// Asks the client through the task.
    pub fn asker(&self) -> Arc<dyn Asker> {
        Arc::new(asker::TaskAsker(self.clone()))
    }

    /// Says how far it is.
    pub fn say(&self, message: &str) {
        self.tasks.change(self.id.number, |entry| entry.task.message = Some(message.to_owned()));
    }

    /// Runs it to its end, alone.
    pub fn run(self, work: impl Future<Output = Result<CallToolResult, Fault>> + Send + 'static) {
        tokio::spawn(async move {
            let state = tokio::select! {
                biased;
                () = self.cancelled.cancelled() => State::Cancelled,
                done = work => ended(done),
                () = sleep_until(self.expires) => State::Failed(jsonrpc::INTERNAL_ERROR, "the task took longer than its ttl".to_owned()),
            };
            self.tasks.change(self.id.number, |entry| {
                if let State::Failed(_, message) = &state {
                    entry.task.message = Some(message.clone());
                }
                entry.task.state = state;
            });
            // Kept for who comes for it; a client that has just seen it end has a moment in any case.
            sleep_until(self.expires.max(Instant::now() + POLL_INTERVAL)).await;
            self.forget();
        });
    }

    /// Forgets it.
    pub fn forget(&self) {
        let mut table = lock(&self.tasks.table);
        if let Some(entry) = table.entries.remove(&self.id.number) {
            table.bytes = table.bytes.saturating_sub(entry.bytes);
        }
    }
}

/// What a call ended with, as a state: only errors of the protocol fail a task.
fn ended(done: Result<CallToolResult, Fault>) -> State {
    let done = done.and_then(|result| {
        let mut result = serde_json::to_value(result).map_err(|error| Fault::Failed(error.to_string()))?;
        result["resultType"] = json!("complete");
        Ok(result)
    });
    match done {
        Ok(result) => State::Completed(result),
        Err(fault @ Fault::InvalidParams(_)) => State::Failed(jsonrpc::INVALID_PARAMS, fault.to_string()),
        Err(fault) => State::Failed(jsonrpc::INTERNAL_ERROR, fault.to_string()),
    }
}

/// The notification of a state, unless it is too large for one.
fn event(sealed: &Arc<str>, task: &Task) -> Option<Event> {
    let params = Value::Object(task.detailed(sealed)).to_string();
    (params.len() <= MAX_TASK_NOTIFICATION).then(|| Event::TaskChanged { id: Arc::clone(sealed), task: params.into() })
}

/// As the specification words it. The same for what never was, what is forgotten, and what is another's.
fn unknown() -> Fault {
    Fault::InvalidParams("Task not found".to_owned())
}

/// The id is good, and its task may be as well: nobody may take it for one that is gone.
fn elsewhere() -> Fault {
    Fault::Failed("The task is on another shard, which cannot be asked from here; try again".to_owned())
}

fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
