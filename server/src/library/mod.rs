//! A tool server in Rust: what a program adds to the catalog, and how it is run.
//!
//! ```text
//! Program (tools, prompts, resources, each with its handler) → Code (checked, immutable) → joined with every catalog
//!                                                                    │
//!                                        Context → handler → Answer | Failure
//! ```
//!
//! A program built on this is a shard like `mcp-server`: the same flags, the same `MCP_*` variables, the same three ports.
//! What it adds is served on the same path as what a catalog says: the same checks of arguments and results, the same
//! limits, pages and metrics. `docs/library.md` is the guide.

#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
mod guide {}

mod answer;
mod code;
mod context;
mod define;
mod handle;
mod process;
mod program;

pub use self::answer::{Answer, Failure, Message, Read, Structured};
pub use self::code::{Code, InvalidProgram};
pub use self::context::{Arguments, Context, NoArguments};
pub use self::define::{Prompt, Resource, ResourceTemplate, Tool};
pub use self::handle::Handle;
pub use self::program::Program;

pub use crate::auth::{Authenticator, Callers, Principal, Quota, Unauthenticated};
pub use crate::limits::Limits;
pub use crate::mcp::content::{ContentBlock, ResourceContents};
