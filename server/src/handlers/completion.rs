//! `completion/complete` (2026-07-28 and 2025-11-25 `server/utilities/completion`).

use crate::dispatch::{Call, Outcome};
use crate::fault::Fault;
use crate::jsonrpc::MemberError;
use crate::mcp::completion::{Argument, CompleteResult, Context, Reference};

/// The values an argument may take that begin with what was typed.
///
/// What was filled in before is checked and not used: the catalog has no values that depend on others.
///
/// # Errors
/// When the parameters are malformed, or name what is not there.
pub fn complete<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    let reference: Reference = call.params.parsed("ref")?.ok_or(MemberError::Missing("ref"))?;
    let argument: Argument = call.params.parsed("argument")?.ok_or(MemberError::Missing("argument"))?;
    call.params.parsed::<Option<Context>>("context")?;
    let snapshot = &call.serving.snapshot;
    let values = match &reference {
        Reference::Prompt { name } => {
            let prompt = snapshot.prompt(name).ok_or_else(|| Fault::InvalidParams(format!("Unknown prompt: {name}")))?;
            prompt.completion(&argument.name)
        }
        Reference::Resource { uri } => {
            let template =
                snapshot.template(uri).ok_or_else(|| Fault::InvalidParams(format!("Unknown resource template: {uri}")))?;
            template.completion(&argument.name)
        }
    };
    let values = values.ok_or_else(|| Fault::InvalidParams(format!("Unknown argument: {}", argument.name)))?;
    Ok(Outcome::Completion(CompleteResult { completion: values.starting_with(&argument.value) }))
}
