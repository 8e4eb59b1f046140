//! What answers a tool, a resource or a prompt.
//!
//! ```text
//! arguments → { fixed | template | http | code } → CallToolResult
//!                                   │
//!             gate (calls at one time) → client (DNS, TLS, pool) → REST API
//! ```
//!
//! A failed call is a value the model can read: [`CallError`] has a text for callers, which names no address, no header
//! and no credential, and a kind for metrics.

mod budget;
pub mod client;
pub(crate) mod code;
pub mod credentials;
mod error;
pub mod fixed;
pub(crate) mod gate;
pub mod http;
pub mod metrics;
pub(crate) mod promise;
pub mod template;

pub use client::{Clients, InvalidRoots};
pub use credentials::Credentials;
pub use error::{CallError, ErrorKind};

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::time::Instant;

use self::promise::Promise;
use crate::dispatch::Caller;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::mcp::tools::CallToolResult;

/// What answers a tool.
#[derive(Debug)]
pub enum Backend {
    /// Always the same.
    Fixed(CallToolResult),
    /// The same, with arguments put in.
    Template(template::Template),
    /// A call to a REST API.
    Http(Box<http::HttpTool>),
    /// A handler of the program.
    Code(Box<code::CodeTool>),
}

/// Who asks, and until when an answer is of use.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// Until when.
    pub deadline: Instant,
    /// What is said meanwhile.
    pub exchange: &'a Exchange,
}

/// What a tool answers.
#[derive(Debug)]
pub enum Answered {
    /// Its result.
    Result(CallToolResult),
    /// MCP `CreateTaskResult`: it goes on by itself.
    Task(Map<String, Value>),
}

impl Backend {
    /// Answers one call, at the latest at the deadline. A result that breaks the promise never leaves.
    ///
    /// # Errors
    /// What a handler of the program says instead of a result. A REST API that failed is a result that says so.
    ///
    /// # Cancel safety
    /// Dropping the future ends the call; what the REST API or the handler has done by then stays done.
    pub(crate) async fn call(
        &self,
        arguments: Map<String, Value>,
        asking: Asking<'_>,
        promise: &Arc<Promise>,
    ) -> Result<Answered, Fault> {
        match self {
            Self::Fixed(result) => Ok(Answered::Result(promise.keep(result.clone()))),
            Self::Template(template) => Ok(Answered::Result(promise.keep(template.expand(&arguments)))),
            Self::Http(call) => {
                let result = Box::pin(call.call(&arguments, asking.deadline)).await;
                Ok(Answered::Result(
                    result.map_or_else(|error| CallToolResult::error(error.to_string()), |result| promise.keep(result)),
                ))
            }
            Self::Code(tool) => Box::pin(tool.call(arguments, asking, Arc::clone(promise))).await,
        }
    }
}
