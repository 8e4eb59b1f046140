//! What both adapters do to an outcome and a fault.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout_at;

use super::Era;
use crate::dispatch::{Call, Outcome, dispatch};
use crate::exchange::DuplicateId;
use crate::fault::Fault;
use crate::jsonrpc::{self, ErrorObject};
use crate::shard::Shard;

/// `Resource not found` of 2025-11-25 and older.
const LEGACY_RESOURCE_NOT_FOUND: i32 = -32002;

/// `MissingRequiredClientCapability` of 2026-07-28.
const MISSING_CAPABILITY: i32 = -32021;

/// Runs a request to its end, its deadline, or its cancellation, and counts it. `id` is that of a legacy request.
///
/// It is polled once before anything else is thought of: most requests need no timer and are over before a client could
/// cancel them.
pub(super) async fn run<'a>(shard: &Shard, call: &Call<'a>, id: Option<&RawValue>) -> Result<Outcome<'a>, Fault> {
    let timer = shard.metrics.request(call.method, call.caller.version, call.since);
    let outcome = match call.caller.session.zip(id) {
        Some((session, id)) if shard.calls.is_running(session, id) => Err(Fault::DuplicateId),
        named => {
            let mut running = pin!(dispatch(call));
            match poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => {
                    let running = timeout_at(call.deadline, running);
                    let ended = match named.map(|(session, id)| shard.calls.register(session, id)) {
                        None => Ok(running.await),
                        Some(Ok(mut registered)) => tokio::select! {
                            biased;
                            () = registered.cancelled() => Err(Fault::Cancelled),
                            ended = running => Ok(ended),
                        },
                        Some(Err(DuplicateId)) => Err(Fault::DuplicateId),
                    };
                    let millis = || u64::try_from(call.serving.limits.request_time.as_millis()).unwrap_or(u64::MAX);
                    ended.and_then(|ended| ended.unwrap_or_else(|_| Err(Fault::TimedOut(millis()))))
                }
            }
        }
    };
    match &outcome {
        Ok(Outcome::InputRequired(required)) => timer.done(Some(&Fault::InputRequired(required.clone()))),
        Ok(_) => timer.done(None),
        Err(fault) => timer.done(Some(fault)),
    }
    outcome
}

/// Adds an outcome as a JSON object, for an era. A stream has no members.
///
/// # Errors
/// When a result cannot be encoded.
pub(super) fn result(outcome: Outcome<'_>, era: Era, object: &mut Vec<u8>) -> Result<(), Fault> {
    match outcome {
        Outcome::Done | Outcome::Listen(_) => {
            object.extend_from_slice(b"{}");
            Ok(())
        }
        Outcome::Discover(result) => encode_into(&result, object),
        Outcome::Page { list, items, next_cursor } => {
            object.reserve(items.get().len() + 64);
            object.extend_from_slice(b"{\"");
            object.extend_from_slice(list.as_bytes());
            object.extend_from_slice(b"\":");
            object.extend_from_slice(items.get().as_bytes());
            if let Some(cursor) = next_cursor {
                object.extend_from_slice(b",\"nextCursor\":");
                encode_into(&cursor, object)?;
            }
            object.push(b'}');
            Ok(())
        }
        Outcome::Tool(result) => match era {
            Era::Modern => encode_into(&result, object),
            Era::Legacy => encode_into(&result.into_legacy(), object),
        },
        Outcome::TaskCreated(task) | Outcome::Task(task) => encode_into(&task, object),
        Outcome::Resource(result) => encode_into(&result, object),
        Outcome::Prompt(result) => encode_into(&result, object),
        Outcome::Completion(result) => encode_into(&result, object),
        // The modern adapter seals the state first; no legacy request ends like this.
        Outcome::InputRequired(_) => Err(Fault::Failed("the client cannot be asked here".to_owned())),
    }
}

pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// Adds a value as JSON.
///
/// # Errors
/// When it cannot be encoded.
pub(super) fn encode_into(value: &impl Serialize, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    serde_json::to_writer(bytes, value).map_err(|error| Fault::Failed(format!("the result cannot be encoded: {error}")))
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
        Fault::DuplicateId => ErrorObject::new(jsonrpc::INVALID_REQUEST, message),
        Fault::MissingCapability(missing) => {
            let code = match era {
                Era::Modern => MISSING_CAPABILITY,
                // These revisions have no code for it; the request is not one for this client.
                Era::Legacy => jsonrpc::INVALID_REQUEST,
            };
            ErrorObject::new(code, message).with_data(json!({ "requiredCapabilities": missing.object() }))
        }
        // Answered before it comes here: with a result, and not at all.
        Fault::InputRequired(_) | Fault::Cancelled | Fault::TimedOut(_) | Fault::OverCapacity(_) | Fault::Failed(_) => {
            ErrorObject::new(jsonrpc::INTERNAL_ERROR, message)
        }
    }
}
