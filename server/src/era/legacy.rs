//! 2025-11-25, 2025-06-18 and 2025-03-26: a handshake, then requests with a session id
//! (2025-11-25 `basic/lifecycle`, `basic/transports`; 2025-03-26 `basic/index` §Batching).

use std::sync::Arc;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{Era, Payload, Reply, SESSION_HEADER, VERSION_HEADER, Version, wire};
use crate::auth::Principal;
use crate::dispatch::{Call, Caller, Method, dispatch};
use crate::fault::Fault;
use crate::hub::Kind;
use crate::jsonrpc::{self, ErrorObject, Message, Request};
use crate::mcp::lifecycle::{ClientCapabilities, InitializeResult, ServerCapabilities};
use crate::serving::Serving;
use crate::session::{Claims, SessionKey};
use crate::shard::{Shard, epoch_seconds};

/// A session, opened.
struct Session {
    key: SessionKey,
    claims: Claims,
}

/// Answers one message.
pub async fn answer(
    shard: &Arc<Shard>,
    serving: &Serving,
    principal: Principal,
    headers: &HeaderMap,
    message: Message<'_>,
) -> Reply {
    if let Message::Request(request) = &message
        && request.method == "initialize"
    {
        return initialize(shard, serving, &principal, request);
    }
    let id = match &message {
        Message::Request(request) => Some(request.id),
        Message::Notification(_) | Message::Response => None,
    };
    let session = match session(shard, &principal, headers, id) {
        Ok(session) => session,
        Err(reply) => return reply,
    };
    match message {
        Message::Request(request) => match answer_request(shard, serving, principal, &session, &request).await {
            Ok(body) => Reply::json(200, body),
            Err(reply) => reply,
        },
        Message::Notification(_) => Reply::empty(202),
        Message::Response => unexpected_response(),
    }
}

/// Answers a batch: 2025-03-26 only. The answers come in the order of the requests; without any, 202.
pub async fn batch(
    shard: &Arc<Shard>,
    serving: &Serving,
    principal: Principal,
    headers: &HeaderMap,
    messages: &[&RawValue],
) -> Reply {
    let session = match session(shard, &principal, headers, None) {
        Ok(session) => session,
        Err(reply) => return reply,
    };
    if session.claims.version != Version::V2025_03_26 {
        let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "batches are of 2025-03-26 only");
        return Reply::error(400, None, &error);
    }
    let mut answers = Vec::new();
    for message in messages {
        let answer = match jsonrpc::decode_message(message.get().as_bytes()) {
            Ok(Message::Request(request)) => match answer_request(shard, serving, principal.clone(), &session, &request).await {
                Ok(body) => body,
                Err(reply) => return reply,
            },
            Ok(Message::Notification(_)) => continue,
            Ok(Message::Response) => return unexpected_response(),
            Err(error) => jsonrpc::failure(error.id, &error.error),
        };
        answers.push(if answers.is_empty() { b'[' } else { b',' });
        answers.extend_from_slice(&answer);
    }
    if answers.is_empty() {
        return Reply::empty(202);
    }
    answers.push(b']');
    Reply::json(200, answers)
}

/// Opens the GET stream of a session.
pub fn listen(shard: &Arc<Shard>, serving: &Serving, principal: &Principal, headers: &HeaderMap) -> Reply {
    let session = match session(shard, principal, headers, None) {
        Ok(session) => session,
        Err(reply) => return reply,
    };
    match shard.admit_stream(serving) {
        Ok(counted) => {
            let stream = shard.hub.hold(Kind::Session { session: session.key }, serving.limits.backlog, counted);
            Reply { payload: Payload::Stream(stream), ..Reply::empty(200) }
        }
        Err(why) => shard.refuse(why),
    }
}

/// Ends a session, where this shard is the only one that could know it; elsewhere 405, which the specification allows:
/// another shard would go on serving it.
pub fn end(shard: &Arc<Shard>, principal: &Principal, headers: &HeaderMap) -> Reply {
    let session = match session(shard, principal, headers, None) {
        Ok(session) => session,
        Err(reply) => return reply,
    };
    if shard.standalone && shard.sessions.revoke(session.key, session.claims.expires, epoch_seconds()) {
        shard.hub.end_session(session.key);
        Reply::empty(204)
    } else {
        Reply::empty(405)
    }
}

fn initialize(shard: &Arc<Shard>, serving: &Serving, principal: &Principal, request: &Request<'_>) -> Reply {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "its shape is checked, its content is the client's own")]
    struct ClientInfo {
        name: String,
        version: String,
    }
    let timer = shard.metrics.request(Method::Initialize, Version::LATEST_LEGACY);
    if let Err(why) = shard.admit_growth() {
        timer.done(Some(&Fault::OverCapacity(why)));
        return shard.refuse(why);
    }
    let params = &request.params;
    let read = || -> Result<(Version, ClientCapabilities), Fault> {
        let version = params.text("protocolVersion")?;
        let capabilities = params.get("capabilities").and_then(ClientCapabilities::read);
        let capabilities =
            capabilities.ok_or_else(|| Fault::InvalidParams("params.capabilities is missing or malformed".to_owned()))?;
        params.parsed::<ClientInfo>("clientInfo")?;
        Ok((Version::parse(&version).filter(|v| !v.is_modern()).unwrap_or(Version::LATEST_LEGACY), capabilities))
    };
    let sealed = read().and_then(|(version, capabilities)| {
        let now = epoch_seconds();
        let claims = Claims {
            issued: now,
            expires: now.saturating_add(serving.transport.session_lifetime.as_secs()),
            version,
            capabilities: capabilities.0,
            principal: principal.name.clone(),
        };
        let token = shard.sessions.seal(&claims).map_err(|error| Fault::Failed(error.to_string()))?;
        let result = wire::encode(&InitializeResult {
            protocol_version: version.name(),
            capabilities: ServerCapabilities::new(shard.standalone),
            server_info: serving.snapshot.server_info(),
            instructions: serving.snapshot.instructions(),
        })?;
        Ok((token, result))
    });
    timer.done(sealed.as_ref().err());
    match sealed {
        Ok((token, result)) => Reply { session: Some(token), ..Reply::json(200, jsonrpc::success(request.id, &result)) },
        Err(fault) => Reply::error(200, Some(request.id), &wire::error(&fault, Era::Legacy)),
    }
}

async fn answer_request(
    shard: &Arc<Shard>,
    serving: &Serving,
    principal: Principal,
    session: &Session,
    request: &Request<'_>,
) -> Result<Vec<u8>, Reply> {
    let failure = |fault: &Fault| jsonrpc::failure(Some(request.id), &wire::error(fault, Era::Legacy));
    let Some(method) = Method::parse(&request.method, Era::Legacy).filter(|method| *method != Method::Initialize) else {
        return Ok(failure(&Fault::MethodNotFound));
    };
    let timer = shard.metrics.request(method, session.claims.version);
    let caller = Caller {
        principal,
        version: session.claims.version,
        capabilities: ClientCapabilities(session.claims.capabilities),
        session: Some(session.key),
    };
    let call = Call {
        method,
        params: &request.params,
        caller: &caller,
        serving,
        capabilities: ServerCapabilities::new(shard.standalone),
        hub: &shard.hub,
        deadline: Instant::now() + serving.limits.request_time,
    };
    let outcome = match timeout_at(call.deadline, dispatch(&call)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Fault::TimedOut(u64::try_from(serving.limits.request_time.as_millis()).unwrap_or(u64::MAX))),
    };
    timer.done(outcome.as_ref().err());
    match outcome.and_then(|outcome| wire::result(outcome, Era::Legacy)) {
        Ok(result) => Ok(jsonrpc::success(request.id, &result)),
        Err(Fault::OverCapacity(why)) => Err(shard.refuse(why)),
        Err(fault) => Ok(failure(&fault)),
    }
}

/// Opens the session a request names. 400 without one, 404 when it does not open: the client starts a new one.
fn session(shard: &Shard, principal: &Principal, headers: &HeaderMap, id: Option<&RawValue>) -> Result<Session, Reply> {
    let refused = |status, message: String| Reply::error(status, id, &ErrorObject::new(jsonrpc::INVALID_REQUEST, message));
    if let Some(version) = headers.get(VERSION_HEADER)
        && version.to_str().ok().and_then(Version::parse).is_none_or(Version::is_modern)
    {
        let spoken = Version::ALL.map(Version::name).join(", ");
        return Err(refused(400, format!("Unsupported MCP-Protocol-Version: this server speaks {spoken}")));
    }
    let token = headers
        .get(SESSION_HEADER)
        .ok_or_else(|| refused(400, "Mcp-Session-Id is missing: initialize first".to_owned()))?
        .to_str()
        .map_err(|_| refused(404, "Session not found".to_owned()))?;
    match shard.sessions.open(token, epoch_seconds()) {
        Ok((key, claims)) if claims.principal == principal.name => Ok(Session { key, claims }),
        Ok(_) => Err(refused(404, "Session not found".to_owned())),
        Err(error) => Err(refused(404, format!("Session not found: {error}"))),
    }
}

/// This server asks clients nothing yet, so a response answers nothing.
fn unexpected_response() -> Reply {
    Reply::error(400, None, &ErrorObject::new(jsonrpc::INVALID_REQUEST, "this response answers no request of the server"))
}
