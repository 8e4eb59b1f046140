//! 2026-07-28: every request carries its version and capabilities, in `_meta` and mirrored in headers
//! (`basic/index` §_meta; `basic/transports/streamable-http` §Request Metadata, §Server Validation).

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use mcp_crds::catalog::CacheScope;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::mirror::{decode, single};
use super::{Era, Payload, Reply, VERSION_HEADER, Version, accepts, wire};
use crate::auth::Principal;
use crate::dispatch::{Caching, Call, Caller, Method, Outcome};
use crate::exchange::{Asking, Exchange, Inputs, Outbox};
use crate::fault::Fault;
use crate::hub::Kind;
use crate::jsonrpc::{self, ErrorObject, Message, Params, Request};
use crate::mcp::lifecycle::{ClientCapabilities, ServerCapabilities};
use crate::mcp::logging::LoggingLevel;
use crate::peers::keep::Keeper;
use crate::serving::Serving;
use crate::shard::{Shard, epoch_seconds};

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
static METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
static NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");

/// The headers and the body say different things, or a header is missing.
pub const HEADER_MISMATCH: i32 = -32020;
/// The version is not spoken here.
pub const UNSUPPORTED_VERSION: i32 = -32022;

/// Whether parameters carry modern metadata, whole or not.
pub fn has_metadata(params: &Params<'_>) -> bool {
    [META_VERSION, META_CAPABILITIES, META_CLIENT].into_iter().any(|key| params.meta(key).is_some())
}

/// Answers one message.
pub async fn answer(
    shard: &Arc<Shard>,
    serving: &Serving,
    principal: Principal,
    headers: &HeaderMap,
    message: Message<'_>,
    outbox: &Arc<Outbox>,
) -> Reply {
    match message {
        Message::Request(request) => match answer_request(shard, serving, principal, headers, &request, outbox).await {
            Ok(reply) => reply,
            Err(Refusal { status, error }) => Reply::error(status, Some(request.id), &error),
        },
        // The core protocol has none over HTTP; extensions may (§Sending Messages, 5).
        Message::Notification(_) => Reply::empty(202),
        Message::Response(_) => {
            Reply::error(400, None, &ErrorObject::new(jsonrpc::INVALID_REQUEST, "clients send no responses in this version"))
        }
    }
}

/// A request that is answered with an error, and its HTTP status.
struct Refusal {
    status: u16,
    error: ErrorObject,
}

async fn answer_request(
    shard: &Arc<Shard>,
    serving: &Serving,
    principal: Principal,
    headers: &HeaderMap,
    request: &Request<'_>,
    outbox: &Arc<Outbox>,
) -> Result<Reply, Refusal> {
    let params = &request.params;
    let (version, capabilities) = metadata(headers, params)?;
    matches_headers(headers, serving, request)?;
    let method = Method::parse(&request.method, Era::Modern).ok_or_else(|| refusal(&Fault::MethodNotFound))?;
    let caller = Caller { principal, version, capabilities, session: None };
    let inputs = Inputs { principal: &caller.principal, method: method.name(), params };
    let asking = if method.may_ask() {
        Asking::Replay(inputs.open(&shard.sessions, epoch_seconds).map_err(|fault| refusal(&fault))?)
    } else {
        Asking::No
    };
    let exchange = Exchange::silent(version, capabilities)
        .on(outbox)
        .with_progress(params.meta("progressToken"))
        .with_level(log_level(params))
        .asking(asking);
    let since = Instant::now();
    let call = Call {
        method,
        params,
        caller: &caller,
        serving,
        capabilities: ServerCapabilities::new(true).with_tasks(shard.offers_tasks()),
        // No request of this era changes what is kept of a session.
        keeper: Keeper::new(shard, 0),
        tasks: &shard.tasks,
        exchange: &exchange,
        since,
        deadline: since + serving.limits.request_time,
    };
    match wire::run(shard, &call, None).await {
        Ok(Outcome::Listen(filter)) => {
            if !accepts(headers).events {
                let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "Accept must list text/event-stream");
                return Err(Refusal { status: 406, error });
            }
            let counted = match shard.admit_stream(serving, &caller.principal, filter.bytes()) {
                Ok(counted) => counted,
                Err(why) => return Ok(shard.refuse(why)),
            };
            let tasks = filter.task_ids.clone();
            let kind = Kind::Listen { id: request.id.get().into(), filter, server_info: Arc::clone(&serving.server_info) };
            let stream = shard.hub.hold(kind, serving.limits.backlog, counted);
            // What has changed before anyone listened is heard all the same.
            shard.tasks.show(&caller.principal, tasks);
            Ok(Reply { payload: Payload::Stream(stream), ..Reply::empty(200) })
        }
        Ok(Outcome::InputRequired(required)) => {
            let state = inputs.seal(&shard.sessions, &required.answers, epoch_seconds()).map_err(|fault| refusal(&fault))?;
            let result = json!({ "inputRequests": required.requests, "requestState": state });
            let write = |out: &mut Vec<u8>| wire::encode_into(&result, out);
            let body = success(request.id, "input_required", None, &serving.server_info, write);
            Ok(Reply::json(200, body.map_err(|fault| refusal(&fault))?))
        }
        Ok(outcome) => {
            let cacheable = outcome.is_cacheable();
            let kind = if matches!(outcome, Outcome::TaskCreated(_)) { "task" } else { "complete" };
            let caching = cacheable.then(|| caching(shard, serving, params));
            let write = |out: &mut Vec<u8>| wire::result(outcome, Era::Modern, out);
            let body = success(request.id, kind, caching, &serving.server_info, write);
            Ok(Reply::json(200, body.map_err(|fault| refusal(&fault))?))
        }
        Err(Fault::OverCapacity(why)) => Ok(shard.refuse(why)),
        Err(fault) => Err(refusal(&fault)),
    }
}

/// An unknown method is 404 (§Protocol Version Header); what a handler answers is an ordinary response.
fn refusal(fault: &Fault) -> Refusal {
    let status = match fault {
        Fault::MethodNotFound => 404,
        Fault::MissingCapability(_) | Fault::DuplicateId => 400,
        Fault::InvalidParams(_)
        | Fault::ResourceNotFound { .. }
        | Fault::InputRequired(_)
        | Fault::Cancelled
        | Fault::TimedOut(_)
        | Fault::OverCapacity(_)
        | Fault::Failed(_) => 200,
    };
    Refusal { status, error: wire::error(fault, Era::Modern) }
}

/// The required metadata; then whether the header says the same version; then whether it is spoken here.
fn metadata(headers: &HeaderMap, params: &Params<'_>) -> Result<(Version, ClientCapabilities), Refusal> {
    let malformed = |what: &str| Refusal {
        status: 400,
        error: ErrorObject::new(
            jsonrpc::INVALID_PARAMS,
            format!("Invalid params: params._meta[\"{what}\"] is missing or malformed"),
        ),
    };
    let name = params.meta(META_VERSION).and_then(jsonrpc::raw_text).ok_or_else(|| malformed(META_VERSION))?;
    let capabilities =
        params.meta(META_CAPABILITIES).and_then(ClientCapabilities::read).ok_or_else(|| malformed(META_CAPABILITIES))?;
    if params.meta(META_LOG_LEVEL).is_some() && log_level(params).is_none() {
        return Err(malformed(META_LOG_LEVEL));
    }
    let sent = single(headers, &VERSION_HEADER).map_err(mismatch)?;
    let version = Version::parse(&name).filter(|version| version.is_modern());
    if let Some(sent) = &sent
        && *sent != name
    {
        return Err(differs("MCP-Protocol-Version", sent, &name));
    }
    let version = version.ok_or_else(|| Refusal {
        status: 400,
        error: ErrorObject::new(UNSUPPORTED_VERSION, "Unsupported protocol version").with_data(json!({
            "supported": Version::ALL.map(Version::name),
            "requested": name,
        })),
    })?;
    if sent.is_none() {
        return Err(missing("MCP-Protocol-Version"));
    }
    Ok((version, capabilities))
}

/// What the client wants to hear of log messages (`server/utilities/logging` §Per-request log level).
fn log_level(params: &Params<'_>) -> Option<LoggingLevel> {
    params.meta(META_LOG_LEVEL).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// The other headers mirror the body (§Server Validation).
fn matches_headers(headers: &HeaderMap, serving: &Serving, request: &Request<'_>) -> Result<(), Refusal> {
    let same = |name: &str, header: &HeaderName, body: &str| {
        let sent = single(headers, header).map_err(mismatch)?.ok_or_else(|| missing(name))?;
        // Only names may be encoded; a method never needs to be.
        let sent = if *header == NAME_HEADER { decode(sent).map_err(mismatch)? } else { sent };
        if sent == body { Ok(()) } else { Err(differs(name, &sent, body)) }
    };
    same("Mcp-Method", &METHOD_HEADER, &request.method)?;
    let named = match &*request.method {
        "tools/call" | "prompts/get" => request.params.text("name"),
        "resources/read" => request.params.text("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => request.params.text("taskId"),
        _ => return Ok(()),
    };
    let Ok(named) = named else {
        // Without the member the request is malformed, which the handler says; but a header must mirror something.
        let there = headers.contains_key(&NAME_HEADER);
        return if there { Err(mismatch("Header mismatch: Mcp-Name is there, its member is not".to_owned())) } else { Ok(()) };
    };
    same("Mcp-Name", &NAME_HEADER, &named)?;
    if request.method == "tools/call" && serving.mirrored.any(&named) {
        let arguments = request.params.parsed::<Value>("arguments").ok().flatten().unwrap_or_default();
        serving.mirrored.check(&named, &arguments, headers).map_err(mismatch)?;
    }
    Ok(())
}

fn mismatch(message: String) -> Refusal {
    Refusal { status: 400, error: ErrorObject::new(HEADER_MISMATCH, message) }
}

fn missing(name: &str) -> Refusal {
    mismatch(format!("Header mismatch: {name} is missing"))
}

fn differs(name: &str, sent: &str, body: &str) -> Refusal {
    mismatch(format!("Header mismatch: {name} is {sent:?}, the body says {body:?}"))
}

/// What a cache may do with a result: never give one caller's to another, where callers are told apart; nothing at all with
/// what depends on answers that no cache sees (`server/utilities/caching` §Cache Key).
fn caching(shard: &Shard, serving: &Serving, params: &Params<'_>) -> Caching {
    if params.get("inputResponses").or_else(|| params.get("requestState")).is_some() {
        return Caching { ttl_ms: 0, scope: CacheScope::Private };
    }
    let (ttl_ms, said) = (serving.snapshot.ttl_ms(), serving.snapshot.cache_scope());
    Caching { ttl_ms, scope: if shard.authenticator.tells_apart() { CacheScope::Private } else { said } }
}

/// The response with a result, in one buffer: what every result of this version carries, then the members of the object that
/// `write` adds.
///
/// # Errors
/// When it cannot be written.
fn success(
    id: &RawValue,
    kind: &str,
    caching: Option<Caching>,
    server_info: &str,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Fault>,
) -> Result<Vec<u8>, Fault> {
    let mut body = jsonrpc::success_up_to_result(id, 256 + server_info.len());
    body.extend_from_slice(b"{\"resultType\":\"");
    body.extend_from_slice(kind.as_bytes());
    body.push(b'"');
    if let Some(Caching { ttl_ms, scope }) = caching {
        let scope = match scope {
            CacheScope::Private => "private",
            CacheScope::Public => "public",
        };
        body.extend_from_slice(format!(",\"ttlMs\":{ttl_ms},\"cacheScope\":\"{scope}\"").as_bytes());
    }
    body.extend_from_slice(b",\"_meta\":{\"io.modelcontextprotocol/serverInfo\":");
    body.extend_from_slice(server_info.as_bytes());
    body.push(b'}');
    let object = body.len();
    write(&mut body)?;
    // The brace that opens the object becomes the comma before its members, where it has any.
    if body.len() > object + 2 {
        body[object] = b',';
    } else {
        body.truncate(object);
        body.push(b'}');
    }
    body.push(b'}');
    Ok(body)
}
