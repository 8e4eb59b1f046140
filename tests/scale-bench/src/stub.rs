//! The control port of every fake shard: one listener on all addresses, which shard is meant is told by the address that was called.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mcp_crds::control::{KEY_ID_HEADER, MAC_HEADER, NONCE_HEADER, Signed, TIME_HEADER};
use mcp_crds::load::{DrainRequest, ShedAnswer};
use mcp_crds::shard::CONTROL_PORT;
use mcp_tests::Outcome;
use mcp_tests::failure::While as _;
use tokio::net::TcpListener;

use crate::fleet::{Asked, Fleet, Silent};

/// All fake shards, shared with who changes their load.
pub(crate) type Shared = Arc<Mutex<Fleet>>;

/// Opens the port on every address of this network namespace, and answers on a thread of its own until the process ends.
///
/// # Errors
/// When the port is taken.
pub(crate) fn start(fleet: Shared) -> Outcome {
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, CONTROL_PORT)).doing("opening the control port")?;
    listener.set_nonblocking(true).doing("opening the control port")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("starting the stub")?;
    std::thread::Builder::new().name("stub".into()).spawn(move || runtime.block_on(serve(listener, fleet))).doing("the stub")?;
    Ok(())
}

async fn serve(listener: std::net::TcpListener, fleet: Shared) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        // Out of descriptors, perhaps: the next one may go.
        let Ok((socket, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let Ok(IpAddr::V4(address)) = socket.local_addr().map(|local| local.ip()) else { continue };
        let _ = socket.set_nodelay(true);
        let fleet = fleet.clone();
        let service = service_fn(move |request| {
            let fleet = fleet.clone();
            async move { Ok::<_, Infallible>(answer(&fleet, address, request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn answer(fleet: &Shared, address: Ipv4Addr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return say(StatusCode::BAD_REQUEST, "") };
    let body = body.to_bytes();
    let field = |name| header(&head.headers, name);
    let (Some(key), Some(mac), Some(nonce)) = (field(KEY_ID_HEADER), field(MAC_HEADER), field(NONCE_HEADER)) else {
        return say(StatusCode::UNAUTHORIZED, "not signed");
    };
    let Some(time) = field(TIME_HEADER).and_then(|time| time.parse().ok()) else {
        return say(StatusCode::UNAUTHORIZED, "not signed");
    };
    let path = head.uri.path();
    let asked = Asked { address, key, mac, signed: Signed { method: head.method.as_str(), path, time, nonce, body: &body } };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut fleet = fleet.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = match path {
        "/load" => fleet.report(asked, now).map(|report| json(&report)),
        "/drain" => match serde_json::from_slice::<DrainRequest>(&body) {
            Ok(order) => fleet.drain(asked, order.cancel, now).map(|()| "{}".into()),
            Err(_) => Err(Silent::Malformed),
        },
        // Its streams end with nobody behind them: none comes back elsewhere, so none is ended.
        "/shed" => fleet.believe(asked, now).map(|_| json(&ShedAnswer { ended: 0 })),
        _ => return say(StatusCode::NOT_FOUND, ""),
    };
    match answer {
        Ok(text) => Response::new(Full::new(text.into())),
        Err(Silent::Refused(refusal)) => say(StatusCode::UNAUTHORIZED, &refusal.to_string()),
        Err(Silent::Starting) => say(StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Err(Silent::Malformed) => say(StatusCode::BAD_REQUEST, "no such question"),
    }
}

fn json(answer: &impl serde::Serialize) -> String {
    // Numbers and strings: they always serialize.
    serde_json::to_string(answer).unwrap_or_default()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn say(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(why.as_bytes())));
    *response.status_mut() = status;
    response
}
