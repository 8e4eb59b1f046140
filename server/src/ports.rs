//! The small servers of the admin and control ports: HTTP/1.1, few connections, short bodies, short times.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Connections of one port at one time: kubelet, Prometheus, operator, and a person. Peers leave it with their upgrade.
const CONNECTIONS: usize = 64;
/// Bytes of one body: a membership list of 300 shards fits many times.
const MAX_BODY: usize = 1 << 20;
/// Time for a body.
const READ_TIME: Duration = Duration::from_secs(5);
/// Time for a head, which begins with the answer before it: the operator comes again every five seconds, and is to find its
/// connection open.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// A connection is closed after this long whatever it does; callers come again.
const LIFETIME: Duration = Duration::from_mins(5);

/// A request, whole.
pub type Whole = Request<Bytes>;

/// Serves a port until told to stop.
pub async fn serve<F, A>(listener: TcpListener, stop: CancellationToken, answer: F)
where
    F: Fn(Whole) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send,
{
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept connections for a moment");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(request, answer.clone()));
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // A connection that breaks off is the caller's to report.
            let _ = timeout(LIFETIME, serving).await;
            drop(permit);
        });
    }
}

async fn handle<F, A>(request: Request<Incoming>, answer: F) -> Result<Response<Full<Bytes>>, Infallible>
where
    F: Fn(Whole) -> A,
    A: Future<Output = Response<Full<Bytes>>>,
{
    let (parts, body) = request.into_parts();
    Ok(match timeout(READ_TIME, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => answer(Request::from_parts(parts, body.to_bytes())).await,
        Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off\n"),
        Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
    })
}

/// A line for people.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body)
}

/// A response of a media type.
pub fn typed(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_comes_every_few_seconds_finds_its_connection_open_and_who_says_nothing_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, stop.clone(), |_| async { text(StatusCode::OK, "report") }));
        for _ in 0..3 {
            caller.write_all(b"POST /load HTTP/1.1\r\nhost: shard\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            let mut answer = vec![];
            while !answer.ends_with(b"report") {
                assert!(caller.read_buf(&mut answer).await.unwrap() > 0, "closed between two reports");
            }
            sleep(Duration::from_secs(10)).await;
        }
        let mut rest = vec![];
        assert_eq!(caller.read_to_end(&mut rest).await.unwrap(), 0);
        stop.cancel();
        serving.await.unwrap();
    }
}
