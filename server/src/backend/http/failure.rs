//! What a failure of the client means to a caller.

use std::error::Error;
use std::io;

use crate::backend::CallError;
use crate::backend::client::Forbidden;

/// The failure in general terms; the log gets the particulars, addresses included, but not the URL, which holds arguments.
pub(super) fn classify(backend: &str, error: reqwest::Error) -> CallError {
    let error = error.without_url();
    tracing::debug!(backend, error = %chain(&error), "request failed");
    let backend = backend.to_owned();
    if finds::<Forbidden>(&error) {
        return CallError::ForbiddenAddress { backend };
    }
    if !error.is_connect() {
        return CallError::Interrupted { backend };
    }
    let reason = if error.is_dns() {
        "its name does not resolve"
    } else if finds::<rustls::Error>(&error) {
        "its certificate is not trusted, or it does not speak TLS"
    } else if error.is_timeout() {
        "it accepts no connection in time"
    } else {
        "it accepts no connection"
    };
    CallError::Connect { backend, reason }
}

/// Whether an error of this type is among the causes. `io::Error` hides what it wraps from `source`.
fn finds<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<E>() {
            return true;
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if wrapped.is_some_and(|wrapped| finds::<E>(wrapped)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error and its causes, one after the other.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
