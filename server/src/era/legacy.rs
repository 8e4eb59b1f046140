//! 2025-11-25, 2025-06-18 and 2025-03-26: a handshake, then requests with a session id
//! (2025-11-25 `basic/lifecycle`, `basic/transports`; 2025-03-26 `basic/index` §Batching).

use std::sync::Arc;

use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Era, LAST_EVENT_HEADER, Payload, Reply, SESSION_HEADER, VERSION_HEADER, Version, wire};
use crate::auth::Principal;
use crate::dispatch::{Call, Caller, Method};
use crate::exchange::resume::{Resumed, Whereabouts};
use crate::exchange::{Asking, Delivered, Exchange, Outbox, Route};
use crate::fault::{Fault, Refused};
use crate::hub::Kind;
use crate::jsonrpc::{self, ErrorObject, Message, Notification, Request, Response};
use crate::load::HeldStream;
use crate::mcp::lifecycle::{ClientCapabilities, InitializeResult, ServerCapabilities};
use crate::peers::keep::Keeper;
use crate::peers::resume::{From, NotHandedOn, handed_on};
use crate::peers::wire::{Ask, Frame};
use crate::rate::{self, Payer};
use crate::serving::Serving;
use crate::session::{Claims, Remembered, SessionKey};
use crate::shard::{Shard, epoch_seconds};

/// A session, opened.
struct Session {
    key: SessionKey,
    claims: Claims,
}

/// A POST, beside its body.
#[derive(Debug)]
pub struct Post<'a> {
    /// Who sent it.
    pub principal: Principal,
    /// The session its connection named last.
    pub remembered: &'a Remembered,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// What is said before its response.
    pub outbox: &'a Arc<Outbox>,
}

/// What names a session.
#[derive(Clone, Copy)]
struct Named<'a> {
    /// Who must have made it.
    principal: &'a Principal,
    /// The one the connection named last.
    remembered: Option<&'a Remembered>,
    headers: &'a HeaderMap,
}

/// Answers one message.
pub async fn answer(shard: &Arc<Shard>, serving: &Serving, post: Post<'_>, message: Message<'_>) -> Reply {
    let Post { principal, remembered, headers, outbox } = post;
    if let Message::Request(request) = &message
        && request.method == "initialize"
    {
        return match belongs_to_none(shard, &principal, headers, request.id) {
            Ok(()) => initialize(shard, serving, &principal, request),
            Err(reply) => reply,
        };
    }
    let id = match &message {
        Message::Request(request) => Some(request.id),
        Message::Notification(_) | Message::Response(_) => None,
    };
    let session = match session(shard, Named { principal: &principal, remembered: Some(remembered), headers }, id) {
        Ok(session) => session,
        Err(reply) => return reply,
    };
    if let Message::Request(request) = &message
        && let Err(reply) = counted(shard, serving, &session, [request])
    {
        return reply;
    }
    match message {
        Message::Request(request) => match answer_request(shard, serving, principal, &session, &request, outbox).await {
            Ok(Some(body)) => Reply::json(200, body),
            Ok(None) => Reply::silence(),
            Err(reply) => reply,
        },
        Message::Notification(notification) => {
            heard(shard, &session, &notification);
            Reply::empty(202)
        }
        Message::Response(response) => Box::pin(responded(shard, &session, &response)).await,
    }
}

/// Answers a batch: 2025-03-26 only. The answers come in the order of the requests; without any, 202.
pub async fn batch(shard: &Arc<Shard>, serving: &Serving, post: Post<'_>, messages: &[&RawValue]) -> Reply {
    let Post { principal, remembered, headers, outbox } = post;
    let session = match session(shard, Named { principal: &principal, remembered: Some(remembered), headers }, None) {
        Ok(session) => session,
        Err(reply) => return reply,
    };
    if session.claims.version != Version::V2025_03_26 {
        let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "batches are of 2025-03-26 only");
        return Reply::error(400, None, &error);
    }
    let messages: Vec<_> = messages.iter().map(|message| jsonrpc::decode_message(message.get().as_bytes())).collect();
    if let Some(why) = misplaced(&messages) {
        return Reply::error(400, None, &ErrorObject::new(jsonrpc::INVALID_REQUEST, why));
    }
    let requests = messages.iter().filter_map(|message| match message {
        Ok(Message::Request(request)) => Some(request),
        Ok(Message::Notification(_) | Message::Response(_)) | Err(_) => None,
    });
    if let Err(reply) = counted(shard, serving, &session, requests) {
        return reply;
    }
    let mut answers = Vec::new();
    let mut asked = false;
    for message in messages {
        let answer = match message {
            Ok(Message::Request(request)) => {
                asked = true;
                match answer_request(shard, serving, principal.clone(), &session, &request, outbox).await {
                    Ok(Some(body)) => body,
                    Ok(None) => continue,
                    Err(reply) => return reply,
                }
            }
            Ok(Message::Notification(notification)) => {
                heard(shard, &session, &notification);
                continue;
            }
            Ok(Message::Response(response)) => match responded(shard, &session, &response).await {
                Reply { status: 202, .. } => continue,
                refused => return refused,
            },
            Err(error) => jsonrpc::failure(error.id, &error.error),
        };
        answers.push(if answers.is_empty() { b'[' } else { b',' });
        answers.extend_from_slice(&answer);
    }
    if answers.is_empty() {
        // Of what was asked, all was cancelled.
        return if asked { Reply::silence() } else { Reply::empty(202) };
    }
    answers.push(b']');
    Reply::json(200, answers)
}

/// Counts the requests of a message for its session, all or none.
fn counted<'a, 'r: 'a>(
    shard: &Shard,
    serving: &Serving,
    session: &Session,
    requests: impl IntoIterator<Item = &'a Request<'r>>,
) -> Result<(), Reply> {
    let (mut rate, mut number, mut id) = (None, 0, None);
    for request in requests {
        if let Some(bound) = rate::rate(serving.limits.requests_per_second, &request.method) {
            rate = Some(bound);
            id = (number == 0).then_some(request.id);
            number += 1;
        }
    }
    shard.admit_requests(Payer::Session(session.key), rate, number, id)
}

/// Why a batch is refused before any of it is executed (2025-03-26 `basic/transports` §Sending Messages, 3; `basic/lifecycle`
/// §Initialization).
fn misplaced(messages: &[Result<Message<'_>, jsonrpc::DecodeError<'_>>]) -> Option<&'static str> {
    let (mut requests, mut responses) = (false, false);
    for message in messages {
        match message {
            Ok(Message::Request(request)) if request.method == "initialize" => {
                return Some("initialize is no part of a batch");
            }
            Ok(Message::Request(_)) => requests = true,
            Ok(Message::Response(_)) => responses = true,
            Ok(Message::Notification(_)) | Err(_) => {}
        }
    }
    (requests && responses).then_some("a batch holds requests or responses")
}

/// Opens the GET stream of a session, or resumes that of one of its requests.
pub async fn listen(shard: &Arc<Shard>, serving: &Serving, principal: &Principal, headers: &HeaderMap) -> Reply {
    let session = match session(shard, Named { principal, remembered: None, headers }, None) {
        Ok(session) => session,
        Err(reply) => return reply,
    };
    let held = match shard.admit_stream(serving, principal, 0) {
        Ok(held) => held,
        Err(why) => return shard.refuse(why),
    };
    if headers.contains_key(&LAST_EVENT_HEADER) {
        return resume(shard, serving, session.key, headers, held).await;
    }
    let stream = shard.hub.hold(Kind::Session { session: session.key }, serving.limits.backlog, held);
    shard.hold_newest(session.key);
    if shard.sessions.has_ended(session.key) {
        // Between the two looks another shard ended it.
        shard.hub.end_session(session.key);
    }
    Reply { payload: Payload::Stream(stream), ..Reply::empty(200) }
}

/// Resumes the stream of a request behind the event a client heard last, wherever it is kept (`transports` §Resumability and
/// Redelivery). Only these streams have event ids: what a session's own GET stream says is not told again.
async fn resume(shard: &Arc<Shard>, serving: &Serving, session: SessionKey, headers: &HeaderMap, held: HeldStream) -> Reply {
    let refused = |message| {
        shard.resumes.count(Resumed::Refused);
        Reply::error(400, None, &ErrorObject::new(jsonrpc::INVALID_REQUEST, message))
    };
    let mut ids = headers.get_all(&LAST_EVENT_HEADER).iter();
    let id = ids.next().filter(|_| ids.next().is_none()).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let events = match shard.resumes.find(session, id) {
        Whereabouts::Forged => return refused("this Last-Event-ID was not given out to this session"),
        Whereabouts::Here(slot, after) => match shard.resumes.resume(session, slot, after) {
            Some(reader) => {
                shard.resumes.count(Resumed::Here);
                reader.boxed()
            }
            None => return refused(FORGOTTEN),
        },
        Whereabouts::Elsewhere(keeps, slot, after) => {
            let from = From { keeps, session, slot, after };
            match handed_on(shard, from, serving.transport.keep_alive).await {
                Ok(events) => {
                    shard.resumes.count(Resumed::Elsewhere);
                    events
                }
                Err(NotHandedOn::Forgotten) => return refused(FORGOTTEN),
                Err(NotHandedOn::Full) => return shard.refuse(Refused::Streams),
                Err(NotHandedOn::Unheard) => return shard.refuse(Refused::Peers),
            }
        }
    };
    let period = serving.transport.keep_alive;
    Reply { payload: Payload::Resumed(super::Resumed { events, held, period }), ..Reply::empty(200) }
}

/// There is nothing to come back for: what was read, what nobody came for in time, what went with its shard, or was too much.
const FORGOTTEN: &str = "this stream has ended or is not kept any more: what is still missing must be asked for again";

/// Ends a session on every shard: 204 says that all have confirmed it. When as many are remembered as may be it is 405, which
/// the specification allows; when a shard that may be alive has not confirmed, 503: it will learn of it, but has not yet.
pub async fn end(shard: &Arc<Shard>, principal: &Principal, headers: &HeaderMap) -> Reply {
    let session = match session(shard, Named { principal, remembered: None, headers }, None) {
        Ok(session) => session,
        Err(reply) => return reply,
    };
    let expires = session.claims.expires;
    if shard.end_session(session.key, expires, epoch_seconds()).is_err() {
        return Reply::empty(405);
    }
    match shard.peers.revoke(session.key, expires).await {
        Ok(()) => Reply::empty(204),
        Err(_) => shard.refuse(Refused::Peers),
    }
}

fn initialize(shard: &Arc<Shard>, serving: &Serving, principal: &Principal, request: &Request<'_>) -> Reply {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "its shape is checked, its content is the client's own")]
    struct ClientInfo {
        name: String,
        version: String,
    }
    let timer = shard.metrics.request(Method::Initialize, Version::LATEST_LEGACY, Instant::now());
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
        params.object::<ClientInfo>("clientInfo")?;
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
            capabilities: ServerCapabilities::new(true),
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
    outbox: &Arc<Outbox>,
) -> Result<Option<Vec<u8>>, Reply> {
    outbox.belongs_to(session.key, session.claims.version);
    let failure = |fault: &Fault| jsonrpc::failure(Some(request.id), &wire::error(fault, Era::Legacy));
    let Some(method) = Method::parse(&request.method, Era::Legacy).filter(|method| *method != Method::Initialize) else {
        return Ok(Some(failure(&Fault::MethodNotFound)));
    };
    let caller = Caller {
        principal,
        version: session.claims.version,
        capabilities: ClientCapabilities(session.claims.capabilities),
        session: Some(session.key),
    };
    let asking = if method.may_ask() { Asking::Live(Arc::clone(&shard.asks), session.key) } else { Asking::No };
    let exchange = Exchange::silent(caller.version, caller.capabilities)
        .on(outbox)
        .with_progress(request.params.meta("progressToken"))
        .with_level(shard.sessions.levels.get(session.key))
        .asking(asking);
    let since = Instant::now();
    let call = Call {
        method,
        params: &request.params,
        caller: &caller,
        serving,
        capabilities: ServerCapabilities::new(true),
        keeper: Keeper::new(shard, session.claims.expires),
        tasks: &shard.tasks,
        exchange: &exchange,
        since,
        deadline: since + serving.limits.request_time,
    };
    let outcome = wire::run(shard, &call, Some(request.id)).await;
    let body = outcome.and_then(|outcome| {
        let mut body = jsonrpc::success_up_to_result(request.id, 128);
        wire::result(outcome, Era::Legacy, &mut body)?;
        body.push(b'}');
        Ok(body)
    });
    match body {
        Ok(body) => Ok(Some(body)),
        Err(Fault::Cancelled) => Ok(None),
        Err(Fault::OverCapacity(why)) => Err(shard.refuse(why)),
        Err(fault @ Fault::DuplicateId) => Err(Reply::error(400, Some(request.id), &wire::error(&fault, Era::Legacy))),
        Err(fault) => Ok(Some(failure(&fault))),
    }
}

/// A notification of the client. What is malformed or too late is ignored (`basic/utilities/cancellation` §Error Handling).
fn heard(shard: &Shard, session: &Session, notification: &Notification<'_>) {
    if notification.method == "notifications/cancelled"
        && let Some(id) = notification.params.get("requestId").filter(|id| jsonrpc::is_id(id))
        && !shard.calls.cancel(session.key, id)
    {
        // Another shard may run it.
        shard.peers.tell(&Frame::Cancel { session: session.key, id: id.get().to_owned() });
    }
}

/// A posted response: 202 when it answers a question that still waits, else 400.
async fn responded(shard: &Shard, session: &Session, response: &Response<'_>) -> Reply {
    let id = response.id.and_then(jsonrpc::raw_text).unwrap_or_default();
    let delivered = match shard.asks.route(session.key, &id) {
        Route::Local(slot) => shard.asks.deliver(session.key, slot, response.outcome) == Delivered::Taken,
        Route::Other(asker, slot) => {
            let (failed, outcome) = match response.outcome {
                Ok(result) => (false, result.get().to_owned()),
                Err(error) => (true, error.get().to_owned()),
            };
            shard.peers.respond(asker, Ask::Respond { session: session.key, slot, failed, outcome }).await
        }
        Route::Forged => false,
    };
    if delivered { Reply::empty(202) } else { unexpected_response() }
}

/// `initialize` begins a session and belongs to none. In one it comes too late; with the id of one that has ended it gets what
/// every request with that id gets (`transports` §Session Management, 3 and 4).
fn belongs_to_none(shard: &Shard, principal: &Principal, headers: &HeaderMap, id: &RawValue) -> Result<(), Reply> {
    if !headers.contains_key(&SESSION_HEADER) {
        return Ok(());
    }
    open(shard, Named { principal, remembered: None, headers }, Some(id))?;
    let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, "initialize begins a session, and this one has begun");
    Err(Reply::error(400, Some(id), &error))
}

/// Opens the session a request names, when it also speaks one of its versions. A connection may remember the last.
fn session(shard: &Shard, from: Named<'_>, id: Option<&RawValue>) -> Result<Session, Reply> {
    let mut versions = from.headers.get_all(&VERSION_HEADER).iter();
    let is_legacy = |name: &HeaderValue| name.to_str().ok().and_then(Version::parse).is_some_and(|version| !version.is_modern());
    if versions.next().is_some_and(|version| !is_legacy(version) || versions.next().is_some()) {
        let spoken = Version::ALL.map(Version::name).join(", ");
        let message = format!("Unsupported MCP-Protocol-Version: this server speaks {spoken}, one at a time");
        return Err(Reply::error(400, id, &ErrorObject::new(jsonrpc::INVALID_REQUEST, message)));
    }
    open(shard, from, id)
}

/// Opens a session. 400 without an id, 404 when it does not open: the client starts a new one.
fn open(shard: &Shard, from: Named<'_>, id: Option<&RawValue>) -> Result<Session, Reply> {
    let Named { principal, remembered, headers } = from;
    let refused = |status, message: String| Reply::error(status, id, &ErrorObject::new(jsonrpc::INVALID_REQUEST, message));
    let mut tokens = headers.get_all(&SESSION_HEADER).iter();
    let token = tokens.next().filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| refused(400, "Mcp-Session-Id is missing: initialize first".to_owned()))?;
    if tokens.next().is_some() {
        return Err(refused(400, "Mcp-Session-Id is there more than once".to_owned()));
    }
    let token = token.to_str().map_err(|_| refused(404, "Session not found".to_owned()))?;
    let opened = match remembered {
        Some(remembered) => shard.sessions.open_again(remembered, token, epoch_seconds()),
        None => shard.sessions.open(token, epoch_seconds()),
    };
    match opened {
        Ok((key, claims)) if claims.principal == principal.name => Ok(Session { key, claims }),
        Ok(_) => Err(refused(404, "Session not found".to_owned())),
        Err(error) => Err(refused(404, format!("Session not found: {error}"))),
    }
}

/// Nobody waits for it: the request ended, or this server never asked.
fn unexpected_response() -> Reply {
    Reply::error(400, None, &ErrorObject::new(jsonrpc::INVALID_REQUEST, "this response answers no request of the server"))
}
