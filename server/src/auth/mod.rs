//! Who calls: anyone, or whom an [`Authenticator`] knows by the credentials of each request.
//!
//! A program on the library brings its own ([`crate::library::Program::authenticator`]). No field of the custom resource
//! reaches this seam yet: `mcp-server` itself takes anyone.

mod callers;
mod quota;

use http::HeaderMap;

pub use callers::Callers;
pub use quota::{Quota, Quotas, Share};

use crate::limits::Limits;

/// Who a request is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Unique among callers; empty is anonymous. It is sealed into session ids.
    pub name: String,
}

/// A request without, or with unusable, credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request is not authenticated")]
pub struct Unauthenticated {
    /// Value of `WWW-Authenticate`.
    pub challenge: String,
}

/// Finds out who a request is from, before its body is read.
pub trait Authenticator: Send + Sync + std::fmt::Debug {
    /// # Errors
    /// When the caller is to be asked for credentials: 401.
    fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Unauthenticated>;

    /// What one principal may take of a shard with these limits. Asked for every request of a principal with a name.
    fn quota(&self, _principal: &Principal, limits: &Limits) -> Quota {
        Quota::of(limits)
    }

    /// Whether what is answered may differ from caller to caller: then no cache may give it to another (2026-07-28
    /// `server/utilities/caching` §Cache Scope Field).
    fn tells_apart(&self) -> bool {
        true
    }
}

/// Anyone may call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Principal {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: String::new() }
    }

    /// Whether this is nobody in particular, who has no quota.
    pub fn is_anonymous(&self) -> bool {
        self.name.is_empty()
    }
}

impl Authenticator for Anonymous {
    fn authenticate(&self, _: &HeaderMap) -> Result<Principal, Unauthenticated> {
        Ok(Principal::anonymous())
    }

    fn tells_apart(&self) -> bool {
        false
    }
}
