//! MCP clients over Streamable HTTP, written against the specification and not against our server.
//!
//! ```text
//! modern   2026-07-28: every request carries its own version and capabilities
//! legacy   2025-11-25: initialize, then requests of a session
//! stream   held streams of both eras, and how each of them ended
//! sse      bytes → events
//! reply    one HTTP answer: status, headers, JSON-RPC message
//! ```

mod legacy;
mod modern;
mod reply;
mod sse;
mod stream;

pub use legacy::Session;
pub use modern::Modern;
pub(crate) use modern::{headers as modern_headers, message as modern_message};
pub use reply::Reply;
pub(crate) use reply::response_in;
pub use stream::{End, Opened, Refusal, Stream, hold};

/// Which revision a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28.
    Modern,
    /// 2025-11-25.
    Legacy,
}

impl Era {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Modern, Self::Legacy];

    /// The protocol version of the era's requests.
    pub fn version(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Legacy => "2025-11-25",
        }
    }
}
