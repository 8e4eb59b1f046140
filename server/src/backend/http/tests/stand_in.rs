//! A small REST API on loopback that remembers what it was asked.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub(super) type Body = BoxBody<Bytes, Infallible>;
type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// Path and query, as on the wire.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

#[derive(Clone)]
pub(super) struct StandIn {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    count: watch::Receiver<usize>,
}

impl StandIn {
    /// Answers every request with what the function makes of it.
    pub(super) async fn start(answer: impl Fn(Seen) -> Response<Body> + Clone + Send + Sync + 'static) -> Self {
        Self::start_async(move |seen| {
            let response = answer(seen);
            Box::pin(async move { response })
        })
        .await
    }

    pub(super) async fn start_async(answer: impl Fn(Seen) -> Answer + Clone + Send + Sync + 'static) -> Self {
        Self::listen(None, answer).await
    }

    pub(super) async fn start_tls(tls: TlsAcceptor) -> Self {
        Self::listen(Some(tls), |_| Box::pin(async { text(200, "text/plain", "secure") })).await
    }

    async fn listen(tls: Option<TlsAcceptor>, answer: impl Fn(Seen) -> Answer + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (counter, count) = watch::channel(0);
        let counter = Arc::new(counter);
        let stand_in = Self { address, seen: seen.clone(), count };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, counter, answer, tls) = (seen.clone(), counter.clone(), answer.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, seen, counter, answer).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, seen, counter, answer).await;
                            }
                        }
                    }
                });
            }
        });
        stand_in
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The one request there was.
    pub(super) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// Waits until so many requests have arrived.
    pub(super) async fn arrived(&self, requests: usize) {
        self.count.clone().wait_for(|count| *count >= requests).await.unwrap();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    socket: S,
    seen: Arc<Mutex<Vec<Seen>>>,
    counter: Arc<watch::Sender<usize>>,
    answer: impl Fn(Seen) -> Answer,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let (seen, counter, answer) = (&seen, &counter, &answer);
        async move {
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let request = Seen {
                method: head.method,
                target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                headers: head.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            };
            seen.lock().unwrap().push(request.clone());
            counter.send_modify(|count| *count += 1);
            Ok::<_, Infallible>(answer(request).await)
        }
    });
    // A client that hangs up is part of some tests.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

/// A short answer.
pub(super) fn text(status: u16, media_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    Response::builder().status(status).header("content-type", media_type).body(Full::new(body.into()).boxed()).unwrap()
}
