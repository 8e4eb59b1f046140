//! The echo tool on bare hyper 1: the least an HTTP server can do for the same bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mcp_baseline::{Asked, echoed, listen, told_to_end};
use tokio::net::TcpListener;

/// A reply of one piece, or a stream that says one thing and is held.
enum Reply {
    Whole(Bytes),
    Held(Bytes),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let reply = self.get_mut();
        match reply {
            Self::Whole(bytes) | Self::Held(bytes) if !bytes.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            Self::Whole(_) => Poll::Ready(None),
            Self::Held(_) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Held(_) => SizeHint::default(),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let listener = match listen().await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("baseline-hyper: {error}");
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        () = serve(listener) => {}
        () = told_to_end() => {}
    }
    ExitCode::SUCCESS
}

async fn serve(listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    if request.method() == Method::GET {
        return Ok(held(": held\n\n"));
    }
    let modern = request.headers().get("mcp-protocol-version").is_some_and(|version| version == "2026-07-28");
    let Ok(body) = request.into_body().collect().await else { return Ok(status(StatusCode::BAD_REQUEST)) };
    let body = body.to_bytes();
    let Ok(asked) = serde_json::from_slice::<Asked<'_>>(&body) else { return Ok(status(StatusCode::BAD_REQUEST)) };
    let Some(id) = asked.id else { return Ok(status(StatusCode::ACCEPTED)) };
    let id = id.get();
    match &*asked.method {
        "subscriptions/listen" => Ok(held(&format!(
            "event: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{id}}}}}}}\n\n"
        ))),
        "initialize" => {
            let result = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{{}},\"serverInfo\":{{\"name\":\"bench\",\"version\":\"0.1.0\"}}}}}}"
            );
            let mut response = json(result.into());
            response.headers_mut().insert("mcp-session-id", HeaderValue::from_static("baseline"));
            Ok(response)
        }
        "tools/call" => {
            let text = asked.params.and_then(|params| params.arguments).and_then(|arguments| arguments.text);
            Ok(json(echoed(id, text.map_or("\"\"", |text| text.get()), modern)))
        }
        _ => Ok(json(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}").into())),
    }
}

fn json(body: Vec<u8>) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn held(first: &str) -> Response<Reply> {
    let mut response = Response::new(Reply::Held(Bytes::copy_from_slice(first.as_bytes())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn status(status: StatusCode) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}
