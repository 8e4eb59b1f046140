//! Why a call to a REST API failed.

use std::time::Duration;

use http::StatusCode;
use mcp_crds::catalog::template::ExpandError;

/// Why a call failed. The text is for the caller: it says what to do next, and holds no address, header or credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The arguments make no URL.
    #[error("{0}")]
    Arguments(#[from] ExpandError),
    /// As many calls as may are running, and as many as may are waiting.
    #[error("{backend} is busy: {limit} calls are running and others are waiting; try again in a few seconds")]
    Busy {
        /// How callers know it.
        backend: String,
        /// Calls at one time.
        limit: usize,
    },
    /// The shard holds as many bytes of answers as it may.
    #[error("{backend} was not read: this server is holding as much as it can; try again in a few seconds")]
    Full {
        /// How callers know it.
        backend: String,
    },
    /// A credential is not there, or cannot be sent.
    #[error("{backend} cannot be called: key {key} of Secret {secret} {problem}")]
    Credential {
        /// How callers know it.
        backend: String,
        /// Name of the Secret.
        secret: String,
        /// Key in it.
        key: String,
        /// What is wrong with it; never its value.
        problem: &'static str,
    },
    /// Its name resolves to addresses that are never called.
    #[error("{backend} cannot be called: its address is not allowed (link-local, metadata, unspecified or multicast)")]
    ForbiddenAddress {
        /// How callers know it.
        backend: String,
    },
    /// No connection.
    #[error("{backend} cannot be reached: {reason}")]
    Connect {
        /// How callers know it.
        backend: String,
        /// In general terms.
        reason: &'static str,
    },
    /// No answer in time, the queue included.
    #[error("{backend} did not answer within {after:?}")]
    Timeout {
        /// How callers know it.
        backend: String,
        /// The time it had.
        after: Duration,
    },
    /// The connection broke after the request was sent.
    #[error("{backend} broke off its answer")]
    Interrupted {
        /// How callers know it.
        backend: String,
    },
    /// An answer other than success.
    #[error("{backend} answered {status}{}{excerpt}", if excerpt.is_empty() { "" } else { ": " })]
    Status {
        /// How callers know it.
        backend: String,
        /// The status.
        status: StatusCode,
        /// The beginning of a textual body.
        excerpt: String,
    },
    /// A redirect; following one would let the REST API choose whom we call with our credentials.
    #[error("{backend} answered {status}, a redirect, and redirects are not followed")]
    Redirect {
        /// How callers know it.
        backend: String,
        /// The status.
        status: StatusCode,
    },
    /// More than is read.
    #[error("{backend} answered with more than the {limit} bytes this catalog entry accepts; ask for less")]
    TooLarge {
        /// How callers know it.
        backend: String,
        /// `response.maxSize`.
        limit: usize,
    },
    /// Something other than JSON where JSON is needed.
    #[error("{backend} answered with something that is not JSON")]
    NotJson {
        /// How callers know it.
        backend: String,
    },
    /// JSON, but without what is selected.
    #[error("{backend} answered without {query}")]
    NothingSelected {
        /// How callers know it.
        backend: String,
        /// `response.select`.
        query: String,
    },
    /// A media type that fits no content block.
    #[error("{backend} answered with {media_type}, which cannot be shown")]
    MediaType {
        /// How callers know it.
        backend: String,
        /// Its type, without parameters.
        media_type: String,
    },
}

/// Kinds of errors: a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Arguments that make no URL.
    Arguments,
    /// Too many calls, or bytes of answers, at one time.
    Busy,
    /// A credential that is missing or cannot be sent.
    Credential,
    /// No connection, or a forbidden address.
    Connect,
    /// No answer in time.
    Timeout,
    /// A broken answer.
    Interrupted,
    /// A status that is not success, redirects included.
    Status,
    /// An answer that cannot be used.
    Response,
    /// A caller that went away, or a shard that ended.
    Cancelled,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Arguments,
        Self::Busy,
        Self::Credential,
        Self::Connect,
        Self::Timeout,
        Self::Interrupted,
        Self::Status,
        Self::Response,
        Self::Cancelled,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arguments => "Arguments",
            Self::Busy => "Busy",
            Self::Credential => "Credential",
            Self::Connect => "Connect",
            Self::Timeout => "Timeout",
            Self::Interrupted => "Interrupted",
            Self::Status => "Status",
            Self::Response => "Response",
            Self::Cancelled => "Cancelled",
        }
    }
}

impl CallError {
    /// Whether the REST API said that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. })
    }

    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Arguments(_) => ErrorKind::Arguments,
            Self::Busy { .. } | Self::Full { .. } => ErrorKind::Busy,
            Self::Credential { .. } => ErrorKind::Credential,
            Self::ForbiddenAddress { .. } | Self::Connect { .. } => ErrorKind::Connect,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
            Self::Status { .. } | Self::Redirect { .. } => ErrorKind::Status,
            Self::TooLarge { .. } | Self::NotJson { .. } | Self::NothingSelected { .. } | Self::MediaType { .. } => {
                ErrorKind::Response
            }
        }
    }
}
