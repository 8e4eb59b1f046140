//! One file for each family of methods. A handler reads its parameters, asks the catalog, and knows no wire.

pub mod completion;
pub mod logging;
pub mod prompts;
pub mod resources;
pub mod server;
pub mod subscriptions;
pub mod tasks;
pub mod tools;

use std::borrow::Cow;

use crate::catalog::{Page, Snapshot, UnknownCursor};
use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::jsonrpc::Params;
use crate::session::{Change, SessionKey};

/// Changes what is kept of a session: on every shard, once it is answered.
async fn change<'a>(call: &Call<'a>, session: SessionKey, change: Change) -> Result<Outcome<'a>, Fault> {
    match call.keeper.change(session, change).await {
        Ok(()) => Ok(Outcome::Done),
        Err(unkept) => Err(Fault::Failed(unkept.to_string())),
    }
}

/// A page of a list.
fn page<'a>(
    call: &Call<'a>,
    list: &'static str,
    of: impl FnOnce(&'a Snapshot, Option<&str>) -> Result<Page<'a>, UnknownCursor>,
) -> Result<Outcome<'a>, Fault> {
    let cursor = cursor(call.params)?;
    let page = of(&call.serving.snapshot, cursor.as_deref());
    let page = page.map_err(|UnknownCursor| Fault::InvalidParams("unknown cursor; begin again without one".to_owned()))?;
    Ok(Outcome::Page { list, items: page.items, next_cursor: page.next_cursor })
}

/// The cursor of a list request (2026-07-28 `server/utilities/pagination`).
fn cursor<'a>(params: &Params<'a>) -> Result<Option<Cow<'a, str>>, Fault> {
    Ok(params.get("cursor").map(|_| params.text("cursor")).transpose()?)
}
