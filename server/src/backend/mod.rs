//! What answers a tool, a resource or a prompt.
//!
//! ```text
//! arguments → { fixed | template | http } → CallToolResult
//!                                   │
//!             gate (calls at one time) → client (DNS, TLS, pool) → REST API
//! ```
//!
//! A failed call is a value the model can read: [`CallError`] has a text for callers, which names no address, no header
//! and no credential, and a kind for metrics.

mod budget;
pub mod client;
pub mod credentials;
mod error;
pub mod fixed;
mod gate;
pub mod http;
pub mod metrics;
pub mod template;

pub use client::{Clients, InvalidRoots};
pub use credentials::Credentials;
pub use error::{CallError, ErrorKind};

use serde_json::{Map, Value};
use tokio::time::Instant;

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
}

impl Backend {
    /// Answers one call, at the latest at the deadline.
    ///
    /// # Errors
    /// When the REST API, or the way to it, failed.
    ///
    /// # Cancel safety
    /// Dropping the future ends the call; what the REST API has done by then stays done.
    pub async fn call(&self, arguments: &Map<String, Value>, deadline: Instant) -> Result<CallToolResult, CallError> {
        match self {
            Self::Fixed(result) => Ok(result.clone()),
            Self::Template(template) => Ok(template.expand(arguments)),
            Self::Http(call) => call.call(arguments, deadline).await,
        }
    }
}
