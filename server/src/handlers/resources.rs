//! `resources/*` (2026-07-28 and 2025-11-25 `server/resources`).

use crate::catalog::{ReadError, Snapshot};
use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::session::{Change, SessionKey};

/// A page of the resources.
///
/// # Errors
/// When the cursor is unknown.
pub fn list<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    super::page(call, "resources", Snapshot::resources_page)
}

/// A page of the resource templates.
///
/// # Errors
/// When the cursor is unknown.
pub fn templates<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    super::page(call, "resourceTemplates", Snapshot::templates_page)
}

/// The contents of a resource: the one with that URI, or else of the template it was made of.
///
/// # Errors
/// When there is none with that URI, or its backend fails.
pub async fn read<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let uri = call.params.text("uri")?;
    let snapshot = &call.serving.snapshot;
    let read = match snapshot.resource(&uri) {
        Some(resource) => resource.read(call.asking()).await,
        None => match snapshot.matching(&uri) {
            Some(found) => found.read(&uri, call.asking()).await,
            None => Err(ReadError::NotFound),
        },
    };
    match read {
        Ok(result) => Ok(Outcome::Resource(result)),
        Err(ReadError::NotFound) => Err(Fault::ResourceNotFound { uri: uri.into_owned() }),
        Err(ReadError::Fault(fault)) => Err(fault),
        Err(error @ ReadError::Backend(_)) => Err(Fault::Failed(error.to_string())),
    }
}

/// Subscribes the session to a resource, which need not exist yet.
///
/// # Errors
/// When subscriptions are not declared, or there are too many.
pub async fn subscribe<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let session = subscriber(call)?;
    let uri = call.params.text("uri")?;
    super::change(call, session, Change::Subscribe(uri.as_ref().into())).await
}

/// Undoes it.
///
/// # Errors
/// When subscriptions are not declared.
pub async fn unsubscribe<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let session = subscriber(call)?;
    let uri = call.params.text("uri")?;
    super::change(call, session, Change::Unsubscribe(uri.as_ref().into())).await
}

fn subscriber(call: &Call<'_>) -> Result<SessionKey, Fault> {
    call.caller.session.filter(|_| call.capabilities.resources.subscribe).ok_or(Fault::MethodNotFound)
}
