//! Rust: a handler of a program built on the library.

use std::any::Any;
use std::fmt;
use std::future::{Future, ready};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tracing::error;

use super::promise::Promise;
use super::{Answered, Asking};
use crate::fault::Fault;
use crate::library::{Arguments, Context, Failure, Handle};
use crate::mcp::lifecycle::ClientCapabilities;
use crate::mcp::tools::CallToolResult;

type Answering<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// What an author wrote, whatever its type.
pub(crate) struct Handler<T>(Arc<dyn Fn(Context) -> Answering<T> + Send + Sync>);

impl<T> Handler<T> {
    pub(crate) fn new<F, Fut>(handler: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        Self(Arc::new(move |context| Box::pin(handler(context))))
    }

    /// Runs it. A panic is an internal error of this call and nothing else.
    ///
    /// # Errors
    /// What it says instead of an answer.
    ///
    /// # Cancel safety
    /// Dropping the future drops the handler's.
    pub(crate) async fn run(&self, context: Context) -> Result<T, Failure> {
        let (name, handle) = (context.name().to_owned(), context.handle().clone());
        // The handler may also panic before there is a future.
        let running = AssertUnwindSafe(async { (self.0)(context).await });
        running.catch_unwind().await.unwrap_or_else(|panic| {
            error!(handler = name, panic = said(panic.as_ref()), "a handler panicked");
            if let Some(shard) = handle.shard() {
                shard.load.panicked();
            }
            Err(Failure::Fault(Fault::Failed(format!("{name} failed: an internal error"))))
        })
    }
}

/// A tool of the program.
#[derive(Debug)]
pub struct CodeTool {
    pub(crate) name: String,
    pub(crate) handler: Handler<CallToolResult>,
    pub(crate) handle: Handle,
    pub(crate) task: TaskRule,
}

/// When a call of a tool becomes a task, where the client can follow one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskRule {
    /// Before the handler begins; else when it says so.
    pub at_once: bool,
    /// Clients that cannot follow one are refused: `-32021`.
    pub required: bool,
    /// How long it is kept.
    pub ttl: Duration,
}

impl CodeTool {
    /// Answers one call. A result that breaks the promise never leaves, also when it comes later.
    ///
    /// # Errors
    /// What the handler says instead of a result.
    ///
    /// # Cancel safety
    /// Dropping the future drops the handler, unless it has become a task.
    pub(super) async fn call(&self, arguments: Arguments, asking: Asking<'_>, promise: Arc<Promise>) -> Result<Answered, Fault> {
        if self.task.required {
            asking.exchange.require(ClientCapabilities(ClientCapabilities::TASKS))?;
        }
        let (context, mut became) = Context::of_tool(&self.name, arguments, asking, self.handle.clone(), self.task.ttl);
        if self.task.at_once {
            context.become_task("").await.map_err(Fault::from)?;
        }
        let handler = self.handler.clone();
        let mut running: Pin<Box<dyn Future<Output = Result<CallToolResult, Fault>> + Send>> = Box::pin(async move {
            match handler.run(context).await {
                Ok(result) => Ok(promise.keep(result)),
                Err(Failure::Told(text)) => Ok(CallToolResult::error(text)),
                Err(Failure::Fault(fault)) => Err(fault),
            }
        });
        let task = if let Ok(task) = became.try_recv() {
            task
        } else {
            tokio::select! {
                biased;
                done = &mut running => {
                    let Ok(task) = became.try_recv() else { return done.map(Answered::Result) };
                    // It ended in the same breath.
                    running = Box::pin(ready(done));
                    task
                }
                Ok(task) = &mut became => task,
            }
        };
        let seed = task.seed();
        task.run(running);
        Ok(Answered::Task(seed))
    }
}

/// What a panic said: for the log, not for callers.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("something that is no text")
}

impl<T> Clone for Handler<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Handler<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}
