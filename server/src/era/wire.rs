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
    let timer = shard.metrics.request(call.method, call.caller.version);
    let outcome = match call.caller.session.zip(id) {
        Some((session, id)) if shard.calls.is_running(session, id) => Err(Fault::DuplicateId),
        named => {
            let mut running = pin!(timeout_at(call.deadline, dispatch(call)));
            let ended = match poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await {
                Poll::Ready(ended) => Ok(ended),
                Poll::Pending => match named.map(|(session, id)| shard.calls.register(session, id)) {
                    None => Ok(running.await),
                    Some(Ok(mut registered)) => tokio::select! {
                        biased;
                        () = registered.cancelled() => Err(Fault::Cancelled),
                        ended = running => Ok(ended),
                    },
                    Some(Err(DuplicateId)) => Err(Fault::DuplicateId),
                },
            };
            ended.and_then(|ended| match ended {
                Ok(outcome) => outcome,
                Err(_) => Err(Fault::TimedOut(u64::try_from(call.serving.limits.request_time.as_millis()).unwrap_or(u64::MAX))),
            })
        }
    };
    match &outcome {
        Ok(Outcome::InputRequired(required)) => timer.done(Some(&Fault::InputRequired(required.clone()))),
        Ok(_) => timer.done(None),
        Err(fault) => timer.done(Some(fault)),
    }
    outcome
}

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
        Outcome::TaskCreated(task) | Outcome::Task(task) => encode(&task),
        Outcome::Resource(result) => encode(&result),
        Outcome::Prompt(result) => encode(&result),
        Outcome::Completion(result) => encode(&result),
        // The modern adapter seals the state first; no legacy request ends like this.
        Outcome::InputRequired(_) => Err(Fault::Failed("the client cannot be asked here".to_owned())),
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
