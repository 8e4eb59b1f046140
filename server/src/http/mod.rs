//! An HTTP request → checks → bytes → an era's reply → an HTTP response.
//!
//! Checks run in this order and the first failure answers: Host and Origin, method, authentication, media types and
//! length, capacity; then, in the eras: JSON, envelope, era, session, metadata, version, headers, method, params.

mod body;
mod events;
mod origin;
mod running;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version as HttpVersion};
use http_body::Body;

use body::Rest;
pub use body::{Received, ReplyBody, Unread};
use events::Events;
use running::Running;

use crate::auth::Principal;
use crate::connection::{Busy, Connection};
use crate::era::{self, Accepts, Era, Payload, Reply, Resumed, SESSION_HEADER, VERSION_HEADER, accepts, legacy};
use crate::exchange::Outbox;
use crate::fault::Refused;
use crate::jsonrpc::{self, ErrorObject, Message};
use crate::load::InFlight;
use crate::patience::within;
use crate::rate::{self, Payer};
use crate::serving::Serving;
use crate::shard::Shard;

/// A call that takes longer is answered as an event stream, so that proxies on the way see bytes; most take no time and
/// are one JSON write.
const HEAD_DELAY: Duration = Duration::from_secs(5);
/// What requests and most answers are.
static JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The one endpoint.
pub const ENDPOINT: &str = "/mcp";

/// Answers a request of a connection. The connection is busy from the call on, not from the first poll: between the two hyper
/// reads on, and would be taken to wait for a head.
///
/// # Errors
/// Never: every failure is a response.
pub fn handle<B>(
    shard: &Arc<Shard>,
    connection: &Arc<Connection>,
    request: Request<B>,
) -> impl Future<Output = Result<Response<ReplyBody>, Infallible>> + use<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    let busy = connection.busy(request.version());
    let (shard, connection) = (Arc::clone(shard), Arc::clone(connection));
    let (head, body) = request.into_parts();
    let (version, allow, serving) = (head.version, allow(&head), shard.in_service());
    let allowed_origin = serving.as_deref().and_then(|serving| allowed_origin(serving, &head.headers));
    let checked = match (connection.refused(), serving) {
        (Some(why), _) => Err(shard.refuse(why)),
        (None, None) => Err(shard.refuse(Refused::NotReady)),
        (None, Some(serving)) => check(&shard, serving, &head),
    };
    let headers = head.headers;
    async move {
        let answer = match checked {
            Ok(Checked::Post(head)) => post(&shard, &connection, head, headers, body).await,
            Ok(Checked::Delete(principal)) => {
                let reply = Box::pin(legacy::end(&shard, &principal, &headers)).await;
                Answer::without(reply, &headers, body).await
            }
            Ok(Checked::Get(serving, principal)) => {
                let reply = Box::pin(legacy::listen(&shard, &serving, &principal, &headers)).await;
                Answer::without(reply, &headers, body).await
            }
            Ok(Checked::Other(reply)) | Err(reply) => Answer::without(reply, &headers, body).await,
            Ok(Checked::Nowhere(reply)) => Answer::Last(reply),
        };
        let last = matches!(answer, Answer::Last(_));
        if last {
            connection.doing().leave_bytes();
        }
        let closes = last || shard.drain.is_draining() || connection.refused().is_some();
        Ok(response(answer, version, closes, allow, allowed_origin, busy))
    }
}

/// A request that passed the checks of its head.
enum Checked {
    /// Its body is to be read.
    Post(PostHead),
    /// It ends a session, which takes the other shards.
    Delete(Principal),
    /// It opens the stream of a session, or resumes one, which may be on another shard.
    Get(Arc<Serving>, Principal),
    /// It has none, and is answered.
    Other(Reply),
    /// It does not say, or says twice, whom it is for: whoever sent it goes away (RFC 9112, 3.2).
    Nowhere(Reply),
}

/// What the head of a POST says.
struct PostHead {
    serving: Arc<Serving>,
    principal: Principal,
    /// Whether its sender takes an event stream.
    streams: bool,
}

/// What a request is answered with.
enum Answer {
    /// All there.
    Reply(Reply),
    /// All there, and the last of its connection: bytes are left of the request that nobody reads.
    Last(Reply),
    /// All there; it counts as a request until its last byte is sent.
    Counted(Reply, InFlight),
    /// It takes long: the head goes out now, the reply as an event.
    Running(Box<Running>),
    /// The same, and its client may come back for the rest.
    Events(Events),
}

impl Answer {
    /// An answer to a request whose body nobody asked for.
    async fn without<B>(reply: Reply, headers: &HeaderMap, body: B) -> Self
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match body::discard(body, headers).await {
            Rest::Taken => Self::Reply(reply),
            Rest::Left => Self::Last(reply),
        }
    }
}

/// The checks that need no body.
fn check(shard: &Shard, serving: Arc<Serving>, request: &http::request::Parts) -> Result<Checked, Reply> {
    if request.uri.path() != ENDPOINT {
        return Err(Reply::empty(404));
    }
    let headers = &request.headers;
    if !names_one_host(request) {
        return Ok(Checked::Nowhere(invalid(400, "a request names one Host")));
    }
    comes_from_where_it_may(&serving, request)?;
    match request.method {
        Method::POST | Method::GET | Method::DELETE => {}
        Method::OPTIONS if is_preflight(headers) => return Ok(Checked::Other(Reply::empty(204))),
        _ => return Err(Reply::empty(405)),
    }
    let principal = shard
        .authenticator
        .authenticate(headers)
        .map_err(|unauthenticated| Reply { challenge: Some(unauthenticated.challenge), ..Reply::empty(401) })?;
    if request.method == Method::POST {
        if !is_json(headers) {
            return Err(invalid(415, "Content-Type must be application/json"));
        }
        let Accepts { json: true, events } = accepts(headers) else {
            return Err(invalid(406, "Accept must list application/json and text/event-stream"));
        };
        return Ok(Checked::Post(PostHead { serving, principal, streams: events }));
    }
    // Only legacy versions have GET and DELETE.
    if is_modern(headers) {
        return Err(Reply::empty(405));
    }
    if request.method == Method::DELETE {
        return Ok(Checked::Delete(principal));
    }
    if !accepts(headers).events {
        return Err(invalid(406, "Accept must list text/event-stream"));
    }
    Ok(Checked::Get(serving, principal))
}

/// Reads a body and has it answered. No `async fn`: that keeps what it is given twice, and each connection has room for it.
fn post<B>(
    shard: &Arc<Shard>,
    connection: &Arc<Connection>,
    head: PostHead,
    headers: HeaderMap,
    body: B,
) -> impl Future<Output = Answer>
where
    B: Body<Data = Bytes> + Unpin,
{
    let PostHead { serving, principal, streams } = head;
    async move {
        let (received, in_flight) = match receive(shard, &serving, &principal, &headers, body).await {
            Ok(received) => received,
            Err(answer) => return answer,
        };
        let period = serving.transport.keep_alive;
        let outbox = Arc::new(Outbox::new(streams));
        let posted = Posted { principal, headers, received };
        let replying = reply(Arc::clone(shard), Arc::clone(connection), serving, posted, Arc::clone(&outbox));
        let mut running = Running::new(Arc::clone(shard), replying, outbox, in_flight, period);
        if !streams {
            let reply = running.reply().await;
            return running.counted(reply);
        }
        match within(HEAD_DELAY, running.head()).await {
            Ok(Some(reply)) => running.counted(reply),
            Ok(None) | Err(_) => running.streamed(),
        }
    }
}

/// Length, capacity, and the body.
async fn receive<B>(
    shard: &Arc<Shard>,
    serving: &Serving,
    principal: &Principal,
    headers: &HeaderMap,
    body: B,
) -> Result<(Received, InFlight), Answer>
where
    B: Body<Data = Bytes> + Unpin,
{
    let limits = &serving.limits;
    let declared = body.size_hint().exact();
    if declared.is_some_and(|length| length > limits.body) {
        return Err(Answer::Last(too_large(limits.body)));
    }
    let in_flight = match shard.admit_request(serving, principal) {
        Ok(in_flight) => in_flight,
        Err(why) => return Err(Answer::without(shard.refuse(why), headers, body).await),
    };
    match body::read(body, declared, limits, &shard.load).await {
        Ok(received) => Ok((received, in_flight)),
        Err(Unread::TooLarge) => Err(Answer::Last(too_large(limits.body))),
        Err(Unread::OverBudget) => Err(Answer::Last(shard.refuse(Refused::BodyBytes))),
        Err(Unread::TooSlow) => Err(Answer::Last(invalid(408, "the body took too long"))),
        Err(Unread::Broken) => Err(Answer::Last(invalid(400, "the body broke off, or is malformed"))),
    }
}

/// A request whose body was read.
struct Posted {
    principal: Principal,
    headers: HeaderMap,
    received: Received,
}

/// Decodes a body and has its era answer it. Owns all it needs, so that it can outlive its connection.
async fn reply(
    shard: Arc<Shard>,
    connection: Arc<Connection>,
    serving: Arc<Serving>,
    posted: Posted,
    outbox: Arc<Outbox>,
) -> Reply {
    let Posted { principal, headers, received } = posted;
    match jsonrpc::decode(&received.bytes, serving.limits.json_depth) {
        Err(error) => Reply::error(400, error.id, &error.error),
        Ok(jsonrpc::Body::Batch(messages)) => {
            let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
            if let Err(reply) = shard.admit_requests_of(&principal, &serving, count, None) {
                return reply;
            }
            let post = legacy::Post { principal, remembered: &connection.session, headers: &headers, outbox: &outbox };
            Box::pin(legacy::batch(&shard, &serving, post, &messages)).await
        }
        Ok(jsonrpc::Body::One(message)) => {
            let era = match &message {
                Message::Request(request) => era::of(&headers, Some(&request.method), Some(&request.params)),
                Message::Notification(notification) => era::of(&headers, None, Some(&notification.params)),
                Message::Response(_) => era::of(&headers, None, None),
            };
            if let Message::Request(request) = &message
                && let Err(reply) = shard.admit_requests_of(&principal, &serving, 1, Some(request.id))
            {
                return reply;
            }
            if let Message::Request(request) = &message
                && (era == Era::Modern || request.method == "initialize")
            {
                // What has no session is counted for its connection; what has one, where it is opened.
                let rate = rate::rate(serving.limits.requests_per_second, &request.method);
                if let Err(reply) = shard.admit_requests(Payer::Connection(&connection.bucket), rate, 1, Some(request.id)) {
                    return reply;
                }
            }
            match era {
                Era::Modern => era::modern::answer(&shard, &serving, principal, &headers, message, &outbox).await,
                Era::Legacy => {
                    let post = legacy::Post { principal, remembered: &connection.session, headers: &headers, outbox: &outbox };
                    legacy::answer(&shard, &serving, post, message).await
                }
            }
        }
    }
}

/// HTTP/1 names its host in one header, HTTP/2 at least in the target.
fn names_one_host(request: &http::request::Parts) -> bool {
    match request.headers.get_all(header::HOST).iter().count() {
        0 => request.version >= HttpVersion::HTTP_2 && request.uri.authority().is_some(),
        1 => true,
        _ => false,
    }
}

/// Host and Origin.
fn comes_from_where_it_may(serving: &Serving, request: &http::request::Parts) -> Result<(), Reply> {
    // HTTP/2 and absolute targets name the host in the URI.
    let host = request.uri.authority().map(http::uri::Authority::as_str);
    let host = host.or_else(|| request.headers.get(header::HOST).and_then(|value| value.to_str().ok()));
    if !host.is_some_and(|host| origin::host_is_allowed(&serving.transport, host)) {
        return Err(invalid(403, "this Host is not allowed; see transport.allowedHosts"));
    }
    if request.headers.contains_key(header::ORIGIN) && allowed_origin(serving, &request.headers).is_none() {
        return Err(invalid(403, "this Origin is not allowed; see transport.allowedOrigins"));
    }
    Ok(())
}

/// The one `Origin`, when it may call. Of two, no browser sent both.
fn allowed_origin(serving: &Serving, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(header::ORIGIN).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().is_ok_and(|text| origin::origin_is_allowed(&serving.transport, text)).then(|| value.clone())
}

/// A browser asks whether a page of an origin, which was found allowed, may send a request (Fetch, CORS preflight).
fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn is_modern(headers: &HeaderMap) -> bool {
    let version = headers.get(&VERSION_HEADER).and_then(|value| value.to_str().ok()).and_then(era::Version::parse);
    version.is_some_and(era::Version::is_modern)
}

/// What a request that is answered with 405 could have been (RFC 9110, 15.5.6).
fn allow(request: &http::request::Parts) -> &'static str {
    match request.method {
        Method::GET | Method::DELETE if is_modern(&request.headers) => "POST",
        Method::DELETE => "POST, GET",
        _ => "POST, GET, DELETE",
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let media = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media == "application/json" || media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn invalid(status: u16, message: &'static str) -> Reply {
    Reply::error(status, None, &ErrorObject::new(jsonrpc::INVALID_REQUEST, message))
}

fn too_large(limit: u64) -> Reply {
    let error = ErrorObject::new(jsonrpc::INVALID_REQUEST, format!("the body is larger than {limit} bytes"));
    Reply::error(413, None, &error)
}

/// The reply as HTTP. A held stream, and every response while draining, asks for a new connection after it: a Service
/// balances only new ones. HTTP/2 has no such header; there the connection itself says goodbye.
fn response(
    answer: Answer,
    version: HttpVersion,
    closes: bool,
    allow: &'static str,
    allowed_origin: Option<HeaderValue>,
    busy: Busy,
) -> Response<ReplyBody> {
    let mut headers = HeaderMap::new();
    // The head, at least.
    busy.says();
    let (reply, in_flight) = match answer {
        Answer::Reply(reply) | Answer::Last(reply) => (reply, None),
        Answer::Counted(reply, in_flight) => (reply, Some(in_flight)),
        Answer::Running(running) => return streamed(ReplyBody::running(running, busy), closes, version, allowed_origin),
        Answer::Events(events) => return streamed(ReplyBody::events(events, busy), closes, version, allowed_origin),
    };
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let is_stream = matches!(reply.payload, Payload::Stream(_));
    let body = match reply.payload {
        Payload::Empty => ReplyBody::full(Bytes::new(), in_flight, busy),
        Payload::Silence => {
            events(&mut headers);
            ReplyBody::full(Bytes::new(), in_flight, busy)
        }
        Payload::Json(json) => {
            headers.insert(header::CONTENT_TYPE, JSON.clone());
            ReplyBody::full(json, in_flight, busy)
        }
        Payload::Stream(stream) => {
            events(&mut headers);
            // Held, not being answered: it counts as a stream.
            drop(in_flight);
            ReplyBody::stream(stream, busy)
        }
        Payload::Resumed(Resumed { events: source, held, period }) => {
            events(&mut headers);
            ReplyBody::events(Events::new(source, Some(held), period), busy)
        }
    };
    if let Some(session) = reply.session.and_then(|session| HeaderValue::try_from(session).ok()) {
        headers.insert(SESSION_HEADER.clone(), session);
    }
    if let Some(delay) = reply.retry_after_ms {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(delay.div_ceil(1000)));
    }
    if let Some(challenge) = reply.challenge.and_then(|challenge| HeaderValue::try_from(challenge).ok()) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    finish(response, headers, (closes || is_stream) && version < HttpVersion::HTTP_2, allowed_origin)
}

/// The head of a reply that is still being made.
fn streamed(body: ReplyBody, closes: bool, version: HttpVersion, allowed_origin: Option<HeaderValue>) -> Response<ReplyBody> {
    let mut headers = HeaderMap::new();
    events(&mut headers);
    finish(Response::new(body), headers, closes && version < HttpVersion::HTTP_2, allowed_origin)
}

fn finish(
    mut response: Response<ReplyBody>,
    mut headers: HeaderMap,
    close: bool,
    allowed_origin: Option<HeaderValue>,
) -> Response<ReplyBody> {
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(origin) = allowed_origin {
        cross_origin(&mut headers, origin);
    }
    *response.headers_mut() = headers;
    response
}

/// The head of an event stream; the last line asks proxies not to keep events back (§Receiving Messages).
fn events(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

/// What a browser needs to let a page of an allowed origin read the answer (Fetch, HTTP extensions).
fn cross_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Content-Type, Accept, Authorization, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name, Last-Event-ID",
        ),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Mcp-Session-Id, Retry-After, WWW-Authenticate"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    /// Each connection inside hyper has room for one, and moves it about for each request.
    #[test]
    fn a_request_takes_no_more_room_than_it_did() {
        let (shard, connection) = (Arc::new(Shard::test()), Arc::new(Connection::new(None, &Arc::default())));
        let request = Request::new(Full::new(Bytes::new()));
        let size = size_of_val(&handle(&shard, &connection, request));
        assert!(size <= 1536, "{size} bytes");
    }
}
