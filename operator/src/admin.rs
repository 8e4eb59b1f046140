//! The admin port: `/livez`, `/readyz`, `/metrics`. Open, read-only, and without a word about any cluster's content.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// A loop that has not come round for this long hangs: the kubelet should start us again.
const HANGS_AFTER: Duration = Duration::from_mins(2);
/// For one request, so that a peer that never finishes its head holds nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the operator works, seen from outside.
#[derive(Debug)]
pub struct Health {
    born: Instant,
    last_round: AtomicU64,
    synced: AtomicBool,
    stands: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            last_round: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            stands: AtomicBool::new(false),
        }
    }
}

impl Health {
    /// The loop came round: over the shards in a leader, to the lease in one that waits.
    pub fn beat(&self) {
        self.last_round.store(self.age().as_secs(), Ordering::Relaxed);
    }

    /// Every store has been filled once.
    pub fn set_synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    /// The lease can be read and written, or none is needed.
    pub fn set_candidate(&self) {
        self.stands.store(true, Ordering::Relaxed);
    }

    /// Whether the loop still comes round.
    pub fn live(&self) -> bool {
        self.age().saturating_sub(Duration::from_secs(self.last_round.load(Ordering::Relaxed))) < HANGS_AFTER
    }

    /// Whether this process can lead, now or when its turn comes: one that waits for its turn is Ready, or no newer one would
    /// ever replace the leader. What is missing otherwise.
    pub fn ready(&self) -> Result<(), &'static str> {
        if !self.synced.load(Ordering::Relaxed) {
            return Err("the first lists are not complete");
        }
        if !self.stands.load(Ordering::Relaxed) {
            return Err("the lease could not be read yet: see the log");
        }
        Ok(())
    }

    fn age(&self) -> Duration {
        self.born.elapsed()
    }
}

/// Serves the admin port until it is told to stop.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>, stop: CancellationToken) -> Result<()> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return Ok(()),
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of descriptors, or a peer that left while it waited: the next one may fare better.
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (health, metrics, stop) = (health.clone(), metrics.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), &health, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Opens the admin port.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen(address: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn answer(method: &Method, path: &str, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (status, kind, body) = match (method, path) {
        (&Method::GET, "/livez") if health.live() => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        (&Method::GET, "/livez") => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "the loop hangs\n".to_owned()),
        (&Method::GET, "/readyz") => match health.ready() {
            Ok(()) => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{missing}\n")),
        },
        (&Method::GET, "/metrics") => (StatusCode::OK, OPEN_METRICS, metrics.render()),
        (_, "/livez" | "/readyz" | "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, TEXT, "there are /livez, /readyz and /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(path: &str, health: &Health) -> StatusCode {
        answer(&Method::GET, path, health, &Metrics::default()).status()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_when_it_could_lead_and_live_while_the_loop_comes_round() {
        let health = Health::default();
        assert_eq!(status("/readyz", &health), StatusCode::SERVICE_UNAVAILABLE);
        health.set_synced();
        assert_eq!(status("/readyz", &health), StatusCode::SERVICE_UNAVAILABLE);
        health.set_candidate();
        assert_eq!(status("/readyz", &health), StatusCode::OK);

        tokio::time::advance(HANGS_AFTER / 2).await;
        assert_eq!(status("/livez", &health), StatusCode::OK);
        tokio::time::advance(HANGS_AFTER).await;
        assert_eq!(status("/livez", &health), StatusCode::SERVICE_UNAVAILABLE);
        health.beat();
        assert_eq!(status("/livez", &health), StatusCode::OK);
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let health = Health::default();
        assert_eq!(status("/", &health), StatusCode::NOT_FOUND);
        let response = answer(&Method::POST, "/metrics", &health, &Metrics::default());
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
