//! `prompts/list` and `prompts/get` (2026-07-28 `server/prompts`).

use serde_json::{Map, Value};

use crate::catalog::{PromptError, Snapshot};
use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;

/// A page of the prompts.
///
/// # Errors
/// When the cursor is unknown.
pub fn list<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    super::page(call, "prompts", Snapshot::prompts_page)
}

/// A prompt, with its arguments substituted.
///
/// # Errors
/// When it is unknown, or an argument is missing or malformed.
pub async fn get<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let name = call.params.text("name")?;
    let prompt = call.serving.snapshot.prompt(&name).ok_or_else(|| Fault::InvalidParams(format!("Unknown prompt: {name}")))?;
    let arguments: Map<String, Value> = call.params.parsed::<Option<_>>("arguments")?.flatten().unwrap_or_default();
    match prompt.get(arguments, call.asking()).await {
        Ok(result) => Ok(Outcome::Prompt(result)),
        Err(PromptError::Fault(fault)) => Err(fault),
        Err(error @ (PromptError::Missing(_) | PromptError::NotAString(_))) => Err(Fault::InvalidParams(error.to_string())),
    }
}
