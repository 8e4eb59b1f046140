//! Where a second record of a task is.

use std::fmt::Debug;
use std::future::{Future, ready};
use std::pin::Pin;

use super::TaskId;
use crate::mcp::tasks::Task;
use crate::session::Incarnation;

/// A future of a store.
pub type Stored<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Keeps the records of tasks beside the shard that runs them, and finds those that run elsewhere.
pub trait TaskStore: Debug + Send + Sync {
    /// Who is to keep the second record of a new task; zeros for nobody.
    fn keeper(&self) -> Incarnation;

    /// Keeps a record, newer than the one before. Done when [`TaskStore::get`] would find it: a new task is told to its
    /// client only then (`extensions/tasks/specification` §Task Creation).
    fn put<'a>(&'a self, id: TaskId, task: &'a Task) -> Stored<'a, ()>;

    /// The record of a task that another shard runs, or ran.
    fn get(&self, id: TaskId) -> Stored<'_, Option<Task>>;
}

/// No second record: the tasks of a process end with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl TaskStore for Alone {
    fn keeper(&self) -> Incarnation {
        Incarnation::default()
    }

    fn put<'a>(&'a self, _: TaskId, _: &'a Task) -> Stored<'a, ()> {
        Box::pin(ready(()))
    }

    fn get(&self, _: TaskId) -> Stored<'_, Option<Task>> {
        Box::pin(ready(None))
    }
}
