//! What a handler may answer instead of a result. The eras give it a code and a status.

use crate::exchange::{InputRequired, Interrupted};
use crate::jsonrpc::MemberError;
use crate::mcp::lifecycle::ClientCapabilities;

/// A request that failed. Tool failures are results (`isError`), not faults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The server has no such method, in this era or with these capabilities.
    #[error("Method not found")]
    MethodNotFound,
    /// The parameters are not what the method takes.
    #[error("Invalid params: {0}")]
    InvalidParams(String),
    /// No such resource; modern −32602, legacy −32002, both with the URI as data.
    #[error("Resource not found: {uri}")]
    ResourceNotFound {
        /// As asked for.
        uri: String,
    },
    /// The client did not declare what the request needs of it (2026-07-28 `basic/index` §_meta).
    #[error("The client must declare {0}")]
    MissingCapability(ClientCapabilities),
    /// No failure: the client is asked, and comes back with its answers (2026-07-28 `basic/patterns/mrtr`).
    #[error("The client is asked and comes back")]
    InputRequired(Box<InputRequired>),
    /// A request with its id still runs in its session (2025-11-25 `basic/index` §Requests).
    #[error("Invalid request: a request with this id is still running in this session")]
    DuplicateId,
    /// The client cancelled it: nothing is answered (2025-11-25 `basic/utilities/cancellation`).
    #[error("The request was cancelled")]
    Cancelled,
    /// It was not done within the time for one request.
    #[error("The request took longer than {0} ms")]
    TimedOut(u64),
    /// A limit is reached: 503 and `Retry-After`.
    #[error("Over capacity: {0}")]
    OverCapacity(Refused),
    /// What should have answered failed; the message is safe to show.
    #[error("{0}")]
    Failed(String),
}

/// Which limit refused a request: the label of a metric and the words of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// `limits.maxConnections`
    Connections,
    /// `limits.maxStreams`
    Streams,
    /// `limits.maxInFlightRequests`
    InFlight,
    /// The principal's share of the streams.
    PrincipalStreams,
    /// The principal's share of the requests in flight.
    PrincipalInFlight,
    /// The budget of bytes of bodies.
    BodyBytes,
    /// The budget of bytes of answers that clients have not taken.
    AnswerBytes,
    /// As many tasks as a shard keeps.
    Tasks,
    /// The memory guard refuses new streams and sessions, and next to the limit everything.
    Memory,
    /// The shard drains.
    Draining,
    /// No configuration is loaded yet, or this shard is not in step with the others.
    NotReady,
    /// Another shard that may be alive has not confirmed.
    Peers,
}

impl Refused {
    /// Every reason, for metrics.
    pub const ALL: [Self; 12] = [
        Self::Connections,
        Self::Streams,
        Self::InFlight,
        Self::PrincipalStreams,
        Self::PrincipalInFlight,
        Self::BodyBytes,
        Self::AnswerBytes,
        Self::Tasks,
        Self::Memory,
        Self::Draining,
        Self::NotReady,
        Self::Peers,
    ];

    /// Label of its metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Streams => "streams",
            Self::InFlight => "in_flight",
            Self::PrincipalStreams => "principal_streams",
            Self::PrincipalInFlight => "principal_in_flight",
            Self::BodyBytes => "body_bytes",
            Self::AnswerBytes => "answer_bytes",
            Self::Tasks => "tasks",
            Self::Memory => "memory",
            Self::Draining => "draining",
            Self::NotReady => "not_ready",
            Self::Peers => "peers",
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connections => "this shard holds all the connections it may",
            Self::Streams => "this shard holds all the streams it may",
            Self::InFlight => "this shard answers all the requests it may",
            Self::PrincipalStreams => "this caller holds all the streams it may on this shard",
            Self::PrincipalInFlight => "this shard answers all the requests of this caller it may",
            Self::BodyBytes => "this shard reads all the request bytes it may",
            Self::AnswerBytes => "this shard holds all the answers it may that their clients have not taken",
            Self::Tasks => "this shard keeps all the tasks it may",
            Self::Memory => "this shard is short of memory",
            Self::Draining => "this shard is draining",
            Self::NotReady => "this shard is not ready yet",
            Self::Peers => "another shard has not confirmed yet",
        })
    }
}

impl From<Interrupted> for Fault {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::InputRequired(required) => Self::InputRequired(required),
            Interrupted::Fault(fault) => fault,
        }
    }
}

impl From<MemberError> for Fault {
    fn from(error: MemberError) -> Self {
        Self::InvalidParams(error.to_string())
    }
}
