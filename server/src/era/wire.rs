//! What both adapters do to an outcome and a fault.

use serde::Serialize;
use serde_json::{Value, json};

use super::Era;
use crate::dispatch::Outcome;
use crate::fault::Fault;
use crate::jsonrpc::{self, ErrorObject};

/// `Resource not found` of 2025-11-25 and older.
const LEGACY_RESOURCE_NOT_FOUND: i32 = -32002;

/// An outcome as the members of a JSON object, encoded, for an era. A stream has none.
///
/// # Errors
/// When a result cannot be encoded.
pub(super) fn result(outcome: Outcome<'_>, era: Era) -> Result<Vec<u8>, Fault> {
    match outcome {
        Outcome::Done | Outcome::Listen(_) => Ok(b"{}".to_vec()),
        Outcome::Discover(result) => encode(&result),
        Outcome::Page { list, items, next_cursor } => {
            let mut object = Vec::with_capacity(items.get().len() + 64);
            object.extend_from_slice(b"{\"");
            object.extend_from_slice(list.as_bytes());
            object.extend_from_slice(b"\":");
            object.extend_from_slice(items.get().as_bytes());
            if let Some(cursor) = next_cursor {
                object.extend_from_slice(b",\"nextCursor\":");
                object.extend_from_slice(&encode(&cursor)?);
            }
            object.push(b'}');
            Ok(object)
        }
        Outcome::Tool(result) => match era {
            Era::Modern => encode(&result),
            Era::Legacy => encode(&result.into_legacy()),
        },
        Outcome::Resource(result) => encode(&result),
        Outcome::Prompt(result) => encode(&result),
    }
}

pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(value).map_err(|error| Fault::Failed(format!("the result cannot be encoded: {error}")))
}

/// A fault as JSON-RPC tells it in an era. What is over capacity never comes here: it is an answer of HTTP.
pub(super) fn error(fault: &Fault, era: Era) -> ErrorObject {
    let message = fault.to_string();
    match fault {
        Fault::MethodNotFound => ErrorObject::new(jsonrpc::METHOD_NOT_FOUND, message),
        Fault::InvalidParams(_) => ErrorObject::new(jsonrpc::INVALID_PARAMS, message),
        Fault::ResourceNotFound { uri } => {
            let code = match era {
                Era::Modern => jsonrpc::INVALID_PARAMS,
                Era::Legacy => LEGACY_RESOURCE_NOT_FOUND,
            };
            let data: Value = json!({ "uri": uri });
            ErrorObject::new(code, message).with_data(data)
        }
        Fault::TimedOut(_) | Fault::OverCapacity(_) | Fault::Failed(_) => ErrorObject::new(jsonrpc::INTERNAL_ERROR, message),
    }
}
