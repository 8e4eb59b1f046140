//! Rust: a handler of a program built on the library.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt as _;
use tracing::error;

use super::Asking;
use crate::fault::Fault;
use crate::library::{Arguments, Context, Failure, Handle};
use crate::mcp::tools::CallToolResult;

type Answered<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// What an author wrote, whatever its type.
pub(crate) struct Handler<T>(Arc<dyn Fn(Context) -> Answered<T> + Send + Sync>);

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
        let name = context.name().to_owned();
        // The handler may also panic before there is a future.
        let running = AssertUnwindSafe(async { (self.0)(context).await });
        running.catch_unwind().await.unwrap_or_else(|panic| {
            error!(handler = name, panic = said(panic.as_ref()), "a handler panicked");
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
}

impl CodeTool {
    /// Answers one call.
    ///
    /// # Errors
    /// What the handler says instead of a result.
    pub(super) async fn call(&self, arguments: Arguments, asking: Asking<'_>) -> Result<CallToolResult, Fault> {
        match self.handler.run(Context::new(&self.name, arguments, asking, self.handle.clone())).await {
            Ok(result) => Ok(result),
            Err(Failure::Told(text)) => Ok(CallToolResult::error(text)),
            Err(Failure::Fault(fault)) => Err(fault),
        }
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
