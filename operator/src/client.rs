//! The way to the API server: a client that gives up in time, and a bounded retry.
//!
//! kube retries 429, 503 and 504 fifteen times by default, for minutes: longer than a lease. We switch that off, retry twice,
//! and leave the rest to the next pass, which decides again on what is true then.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::{Instant, sleep, timeout_at};
use tower::limit::ConcurrencyLimitLayer;

use crate::error::{Error, Object, Result, Step};
use crate::leader::{Closed, Fence};

/// For one request with its retries: well under the time a pass may take, and under a lease of 15 s.
const DEADLINE: Duration = Duration::from_secs(10);
/// Tries of one request.
const TRIES: u32 = 3;
/// Before the second try; doubled for the third.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Requests under way at one time: so many connections the API server has to hold, and we. Each takes 60 KB, and those of a
/// burst stay: hyper's pool looks for idle ones only when it needs one, and takes the one used last.
const AT_ONCE: usize = 32;
/// To establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client from the named kubeconfig, or from what the environment offers. Whatever is written with it passes the fence first.
///
/// # Errors
/// When no configuration is found, or the one found cannot be used.
pub async fn connect(config: &crate::config::Config, fence: &Fence) -> Result<Client> {
    let builder = ClientBuilder::try_from(find(config).await?).map_err(|e| Error::Connect(e.into()))?;
    // The fence is passed last, by a request that has its turn.
    Ok(builder.with_layer(fence).with_layer(&ConcurrencyLimitLayer::new(AT_ONCE)).build())
}

/// A client for the lease alone, with connections of its own: it is what opens the fence, and no other request delays it.
///
/// # Errors
/// As [`connect`].
pub async fn connect_for_lease(config: &crate::config::Config) -> Result<Client> {
    Client::try_from(find(config).await?).map_err(|e| Error::Connect(e.into()))
}

async fn find(config: &crate::config::Config) -> Result<Config> {
    let mut kube = match &config.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(|e| Error::Connect(e.into()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|e| Error::Connect(e.into()))?
        }
        None => Config::infer().await.map_err(|e| Error::Connect(e.into()))?,
    };
    kube.connect_timeout = Some(CONNECT_TIMEOUT);
    kube.default_retry = false;
    Ok(kube)
}

/// Sends a request until it is answered, at most three times and at most ten seconds. Every request of ours may be sent
/// twice: names are fixed, patches and deletes name the uid they mean. A write ends with the lease, if that is earlier.
///
/// # Errors
/// The API server's last answer, or that there was none in time, or that the lease is not ours.
pub async fn patiently<T, F>(step: Step, object: Object, mut request: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let deadline = Instant::now() + DEADLINE;
    let mut pause = FIRST_PAUSE;
    let mut tries = 1;
    loop {
        let Ok(answer) = timeout_at(deadline, Box::pin(request())).await else {
            return Err(Error::Timeout { step, object });
        };
        match answer {
            Ok(value) => return Ok(value),
            Err(kube::Error::Service(error)) if error.is::<Closed>() => return Err(Error::Fenced { step, object }),
            Err(source) if tries < TRIES && passes(&source) && Instant::now() + pause < deadline => {
                tracing::debug!(%step, %object, error = %source, "trying again");
                sleep(pause).await;
                pause *= 2;
                tries += 1;
            }
            Err(source) => return Err(Error::Api { step, object, source: Box::new(source) }),
        }
    }
}

/// Whether an error is of the kind that passes by itself.
fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 500 | 502 | 503 | 504),
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use kube::core::Status;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn answer(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure("no", "Some").with_code(code)))
    }

    fn object() -> Object {
        Object { kind: "Pod", name: "a-0".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_overloaded_api_server_is_asked_three_times() {
        let tries = Cell::new(0);
        let result: Result<()> = patiently(Step::Apply, object(), || {
            tries.set(tries.get() + 1);
            async { Err(answer(503)) }
        })
        .await;
        assert_eq!((tries.get(), result.unwrap_err().code()), (3, Some(503)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_not_repeated() {
        let tries = Cell::new(0);
        let result: Result<()> = patiently(Step::Create, object(), || {
            tries.set(tries.get() + 1);
            async { Err(answer(403)) }
        })
        .await;
        assert_eq!((tries.get(), result.unwrap_err().code()), (1, Some(403)));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_deadline() {
        let begun = Instant::now();
        let result: Result<()> = patiently(Step::Delete, object(), std::future::pending::<kube::Result<()>>).await;
        assert!(matches!(result, Err(Error::Timeout { .. })));
        assert_eq!(begun.elapsed(), DEADLINE);
    }

    /// An API server that takes its time, and the most requests it had to answer at one time.
    async fn slow_server() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, most) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (open, counted) = (Arc::new(AtomicUsize::new(0)), most.clone());
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let (open, counted) = (open.clone(), counted.clone());
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        counted.fetch_max(open.fetch_add(1, Relaxed) + 1, Relaxed);
                        sleep(Duration::from_millis(20)).await;
                        open.fetch_sub(1, Relaxed);
                        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                    }
                });
            }
        });
        (address, most)
    }

    #[tokio::test]
    async fn a_burst_of_requests_is_sent_a_few_at_a_time() {
        let (address, most) = slow_server().await;
        let scratch = tempfile::tempdir().unwrap();
        let kubeconfig = scratch.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\nclusters: [{{name: it, cluster: {{server: \"http://{address}\"}}}}]\n\
             users: [{{name: it, user: {{}}}}]\ncontexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n"
        );
        std::fs::write(&kubeconfig, text).unwrap();
        let config =
            crate::config::tests::parse(&["--kubeconfig", kubeconfig.to_str().unwrap(), "--leader-elect=false"]).unwrap();
        let client = connect(&config, &Fence::none()).await.unwrap();
        let ask = async || client.request_text(http::Request::get("/version").body(vec![]).unwrap()).await.unwrap();
        let answers = futures::future::join_all((0..10 * AT_ONCE).map(|_| ask())).await;
        assert!(answers.iter().all(|answer| answer == "{}"));
        assert!((2..=AT_ONCE).contains(&most.load(Relaxed)), "{most:?}");
    }
}
