//! `resources/*` (2026-07-28 and 2025-11-25 `server/resources`).

use serde_json::value::RawValue;

use crate::catalog::ReadError;
use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::session::SessionKey;

/// A page of the resources.
///
/// # Errors
/// When the cursor is unknown.
pub fn list<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let cursor = super::cursor(call.params)?;
    let page = call.serving.snapshot.resources_page(cursor.as_deref()).map_err(|_| super::unknown_cursor())?;
    Ok(Outcome::Page { list: "resources", items: page.items, next_cursor: page.next_cursor })
}

/// The resource templates: the catalog has none.
///
/// # Errors
/// When there is a cursor: no page has a next one.
pub fn templates<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    match super::cursor(call.params)? {
        Some(_) => Err(super::unknown_cursor()),
        None => Ok(Outcome::Page { list: "resourceTemplates", items: none(), next_cursor: None }),
    }
}

/// `[]`
fn none() -> &'static RawValue {
    static NONE: std::sync::LazyLock<Box<RawValue>> =
        std::sync::LazyLock::new(|| RawValue::from_string("[]".to_owned()).unwrap_or_default());
    &NONE
}

/// The contents of a resource.
///
/// # Errors
/// When there is none with that URI, or its backend fails.
pub async fn read<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let uri = call.params.text("uri")?;
    let resource =
        call.serving.snapshot.resource(&uri).ok_or_else(|| Fault::ResourceNotFound { uri: uri.clone().into_owned() })?;
    match resource.read(call.asking()).await {
        Ok(result) => Ok(Outcome::Resource(result)),
        Err(ReadError::Fault(fault)) => Err(fault),
        Err(error) => Err(Fault::Failed(error.to_string())),
    }
}

/// Subscribes the session to a resource, which need not exist yet.
///
/// # Errors
/// When subscriptions are not declared, or there are too many.
pub fn subscribe<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let session = subscriber(call)?;
    let uri = call.params.text("uri")?;
    if call.hub.subscribe(session, &uri) { Ok(Outcome::Done) } else { Err(Fault::Failed("too many subscriptions".to_owned())) }
}

/// Undoes it.
///
/// # Errors
/// When subscriptions are not declared.
pub fn unsubscribe<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let session = subscriber(call)?;
    call.hub.unsubscribe(session, &call.params.text("uri")?);
    Ok(Outcome::Done)
}

fn subscriber(call: &Call<'_>) -> Result<SessionKey, Fault> {
    call.caller.session.filter(|_| call.capabilities.resources.subscribe).ok_or(Fault::MethodNotFound)
}
