//! Answers every request with what arrived, as JSON: the REST API behind the samples and tests of the `http` backend.
//!
//! `GET /livez` answers 200 for the kubelet; `GET /text?bytes=N&after=MS` so many bytes of text, so many milliseconds later;
//! `GET /hold?bytes=N` keeps so many bytes of memory until it is asked again.
//! `ECHO_LISTEN` is the address, by default `0.0.0.0:8080`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A body that is echoed is read whole.
const MAX_BODY: usize = 1 << 20;
/// The longest text.
const MAX_TEXT: usize = 8 << 20;
/// The most memory that is held.
const MAX_HELD: usize = 4 << 30;

/// What is held.
static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::var("ECHO_LISTEN").unwrap_or_else(|_| "0.0.0.0:8080".to_owned()).parse()?;
    let listener = TcpListener::bind(address).await?;
    println!("http-echo listens on {address}");
    // The first process of a container gets no default action for a signal.
    let mut stop = signal(SignalKind::terminate())?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.recv() => return Ok(()),
        };
        let (connection, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        tokio::spawn(async move {
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(connection), service_fn(echo)).await {
                eprintln!("connection: {error}");
            }
        });
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/livez" {
        return Ok(Response::new(Full::from("ok\n")));
    }
    if request.uri().path() == "/text" {
        return Ok(text(request.uri().query().unwrap_or_default()).await);
    }
    if request.uri().path() == "/hold" {
        return Ok(hold(request.uri().query().unwrap_or_default()));
    }
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(answer(StatusCode::PAYLOAD_TOO_LARGE, &json!({"error": error.to_string()}))),
    };
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers.entry(name.as_str()).and_modify(|seen| *seen = format!("{seen}, {value}")).or_insert_with(|| value.into_owned());
    }
    let text = String::from_utf8_lossy(&body);
    let seen = json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": headers,
        "body": text,
        // So that a response can be selected from by JSONPath.
        "json": serde_json::from_slice::<Value>(&body).unwrap_or(Value::Null),
    });
    Ok(answer(StatusCode::OK, &seen))
}

/// A number in a query; 0 when there is none.
fn number(query: &str, name: &str) -> usize {
    let of_name = |pair: &str| pair.split_once('=').filter(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok());
    query.split('&').find_map(of_name).unwrap_or(0)
}

/// A text of a size, after a time.
async fn text(query: &str) -> Response<Full<Bytes>> {
    tokio::time::sleep(Duration::from_millis(number(query, "after") as u64)).await;
    let mut response = Response::new(Full::from("x".repeat(number(query, "bytes").min(MAX_TEXT))));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain"));
    response
}

/// Holds so much memory, and no longer what was held before. Written, so that it is there.
fn hold(query: &str) -> Response<Full<Bytes>> {
    let bytes = number(query, "bytes").min(MAX_HELD);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    *held = Vec::new();
    *held = vec![1; bytes];
    Response::new(Full::from(format!("{bytes} bytes are held\n")))
}

fn answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{value}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}
