//! Why a server does not start.

use std::io;
use std::net::SocketAddr;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is taken, or is not ours to take.
    #[error("cannot listen on {address} for {port} traffic")]
    Bind {
        /// `data`, `admin` or `control`.
        port: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The HTTP client of the backends cannot be set up.
    #[error("cannot set up the HTTP client")]
    Clients(#[source] crate::backend::InvalidRoots),
    /// The keys cannot be used.
    #[error("cannot use the keys")]
    Keys(#[source] crate::session::KeysError),
    /// The catalog of a manifest cannot be served.
    #[error("cannot serve the catalog: {}", .0.problems.join("; "))]
    Catalog(crate::catalog::BuildError),
}

/// An error and all its causes, one on each line.
pub fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str("\n  because: ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
