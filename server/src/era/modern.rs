//! 2026-07-28: every request carries its version and capabilities, in `_meta` and mirrored in headers
//! (`basic/index` §_meta; `basic/transports/streamable-http` §Request Metadata, §Server Validation).

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use mcp_crds::catalog::CacheScope;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{Era, Payload, Reply, VERSION_HEADER, Version, accepts, wire};
use crate::auth::Principal;
use crate::dispatch::{Call, Caller, Method, Outcome, dispatch};
use crate::fault::Fault;
use crate::hub::Kind;
use crate::jsonrpc::{self, ErrorObject, Message, Params, Request};
use crate::mcp::lifecycle::{ClientCapabilities, ServerCapabilities};
use crate::mcp::logging::LoggingLevel;
use crate::serving::Serving;
use crate::shard::Shard;

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

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
) -> Reply {
    match message {
        Message::Request(request) => match answer_request(shard, serving, principal, headers, &request).await {
            Ok(reply) => reply,
            Err(Refusal { status, error }) => Reply::error(status, Some(request.id), &error),
        },
        // The core protocol has none over HTTP; extensions may (§Sending Messages, 5).
        Message::Notification(_) => Reply::empty(202),
        Message::Response => {
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
) -> Result<Reply, Refusal> {
    let params = &request.params;
    let (version, capabilities) = metadata(params)?;
    matches_headers(headers, version, request)?;
    let method = Method::parse(&request.method, Era::Modern).ok_or_else(|| refusal(&Fault::MethodNotFound))?;
    let timer = shard.metrics.request(method, version);
    let caller = Caller { principal, version, capabilities, session: None };
    let call = Call {
        method,
        params,
        caller: &caller,
        serving,
        capabilities: ServerCapabilities::new(true),
        hub: &shard.hub,
        deadline: Instant::now() + serving.limits.request_time,
    };
    let outcome = match timeout_at(call.deadline, dispatch(&call)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Fault::TimedOut(u64::try_from(serving.limits.request_time.as_millis()).unwrap_or(u64::MAX))),
    };
    timer.done(outcome.as_ref().err());
    match outcome {
        Ok(Outcome::Listen(filter)) => {
            if !accepts(headers, "text/event-stream") {
                let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "Accept must list text/event-stream");
                return Err(Refusal { status: 406, error });
            }
            let counted = match shard.admit_stream(serving) {
                Ok(counted) => counted,
                Err(why) => return Ok(shard.refuse(why)),
            };
            let kind = Kind::Listen { id: request.id.get().into(), filter, server_info: Arc::clone(&serving.server_info) };
            let stream = shard.hub.hold(kind, serving.limits.backlog, counted);
            Ok(Reply { payload: Payload::Stream(stream), ..Reply::empty(200) })
        }
        Ok(outcome) => {
            let cacheable = outcome.is_cacheable();
            let result = wire::result(outcome, Era::Modern).map_err(|fault| refusal(&fault))?;
            let result = complete(&result, cacheable.then_some(serving), &serving.server_info);
            Ok(Reply::json(200, jsonrpc::success(request.id, &result)))
        }
        Err(Fault::OverCapacity(why)) => Ok(shard.refuse(why)),
        Err(fault) => Err(refusal(&fault)),
    }
}

/// An unknown method is 404 (§Protocol Version Header); what a handler answers is an ordinary response.
fn refusal(fault: &Fault) -> Refusal {
    let status = match fault {
        Fault::MethodNotFound => 404,
        Fault::InvalidParams(_)
        | Fault::ResourceNotFound { .. }
        | Fault::TimedOut(_)
        | Fault::OverCapacity(_)
        | Fault::Failed(_) => 200,
    };
    Refusal { status, error: wire::error(fault, Era::Modern) }
}

/// The required metadata, then the version.
fn metadata(params: &Params<'_>) -> Result<(Version, ClientCapabilities), Refusal> {
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
    if params.meta(META_LOG_LEVEL).is_some_and(|raw| serde_json::from_str::<LoggingLevel>(raw.get()).is_err()) {
        return Err(malformed(META_LOG_LEVEL));
    }
    match Version::parse(&name).filter(|version| version.is_modern()) {
        Some(version) => Ok((version, capabilities)),
        None => Err(Refusal {
            status: 400,
            error: ErrorObject::new(UNSUPPORTED_VERSION, "Unsupported protocol version").with_data(json!({
                "supported": Version::ALL.map(Version::name),
                "requested": name,
            })),
        }),
    }
}

/// The headers mirror the body (§Server Validation).
fn matches_headers(headers: &HeaderMap, version: Version, request: &Request<'_>) -> Result<(), Refusal> {
    let mismatch = |message: String| Refusal { status: 400, error: ErrorObject::new(HEADER_MISMATCH, message) };
    let header = |name: &'static str| single(headers, name).map_err(mismatch);
    let same = |name: &str, sent: Option<Cow<'_, str>>, body: &str| match sent {
        None => Err(mismatch(format!("Header mismatch: {name} is missing"))),
        Some(sent) if sent == body => Ok(()),
        Some(sent) => Err(mismatch(format!("Header mismatch: {name} is {sent:?}, the body says {body:?}"))),
    };
    same("MCP-Protocol-Version", header(VERSION_HEADER)?, version.name())?;
    same("Mcp-Method", header(METHOD_HEADER)?, &request.method)?;
    let named = match &*request.method {
        "tools/call" | "prompts/get" => request.params.text("name"),
        "resources/read" => request.params.text("uri"),
        _ => return Ok(()),
    };
    // Without the member the request is malformed, which the handler says.
    let Ok(named) = named else { return Ok(()) };
    let sent = header(NAME_HEADER)?.map(decode_value).transpose().map_err(mismatch)?;
    same("Mcp-Name", sent, &named)
}

/// A header that must not be there twice, as text.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<Cow<'a, str>>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("Header mismatch: {name} is there more than once"));
    }
    value.to_str().map(|text| Some(Cow::Borrowed(text))).map_err(|_| format!("Header mismatch: {name} is not visible ASCII"))
}

/// A value, out of the Base64 form when it is in it (§Value Encoding).
fn decode_value(sent: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    let Some(encoded) = sent.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else { return Ok(sent) };
    BASE64
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Cow::Owned)
        .ok_or_else(|| "Header mismatch: a value is not Base64 of UTF-8".to_owned())
}

/// Adds what every result of this version carries to an encoded object.
fn complete(object: &[u8], caching: Option<&Serving>, server_info: &str) -> Vec<u8> {
    let caching = caching.map_or_else(String::new, |serving| {
        let scope = match serving.snapshot.cache_scope() {
            CacheScope::Private => "private",
            CacheScope::Public => "public",
        };
        format!(",\"ttlMs\":{},\"cacheScope\":\"{scope}\"", serving.snapshot.ttl_ms())
    });
    let mut result = Vec::with_capacity(object.len() + caching.len() + server_info.len() + 80);
    result.extend_from_slice(b"{\"resultType\":\"complete\"");
    result.extend_from_slice(caching.as_bytes());
    result.extend_from_slice(b",\"_meta\":{\"io.modelcontextprotocol/serverInfo\":");
    result.extend_from_slice(server_info.as_bytes());
    result.push(b'}');
    if object.len() > 2 {
        result.push(b',');
    }
    result.extend_from_slice(object.get(1..).unwrap_or(b"}"));
    result
}
