//! Who calls. One answer today, anonymous; the seam for the others.

use http::HeaderMap;

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
}

/// Anyone may call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Principal {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: String::new() }
    }
}

impl Authenticator for Anonymous {
    fn authenticate(&self, _: &HeaderMap) -> Result<Principal, Unauthenticated> {
        Ok(Principal::anonymous())
    }
}
