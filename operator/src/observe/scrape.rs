//! One round of questions to all shards: many at once, and over in three seconds, so that one dead node delays nobody.

use std::collections::{HashMap, HashSet};
use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use mcp_crds::control::KeyRing;
use mcp_crds::load::LoadRequest;
use tokio::time::{Instant, timeout_at};

use super::rounds::{Arranged, Rounds, Sign};
use crate::metrics::{Metrics, Outcome};
use crate::shards::{CallError, Shards};
use crate::stages::Received;

/// Questions under way at one time.
const AT_ONCE: usize = 256;
/// A round ends after this long; who has not been asked by then is asked first in the next.
const ROUND: Duration = Duration::from_secs(3);

/// A shard to ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// Uid of its McpCluster.
    pub cluster: String,
    /// Uid of its pod.
    pub pod: String,
    /// Name of its pod, for the log.
    pub name: String,
    /// The node it is on.
    pub node: Option<String>,
    /// Its address.
    pub address: String,
    /// What to sign with.
    pub keys: Arc<KeyRing>,
    /// The question.
    pub request: LoadRequest,
}

/// Asks shards, and remembers which nodes do not answer.
#[derive(Clone, Debug)]
pub struct Scraper {
    shards: Shards,
    metrics: Arc<Metrics>,
    rounds: Arc<Mutex<Rounds>>,
}

/// What a shard answered, and whom it was.
type Answer = (Target, Result<Received, CallError>);

impl Scraper {
    /// A scraper that calls with this client.
    pub fn new(shards: Shards, metrics: Arc<Metrics>) -> Self {
        Self { shards, metrics, rounds: Arc::default() }
    }

    /// Asks all of them once, but for those of a node from which nothing came lately: of these one, and the others when that
    /// one gives a sign of life. Each report is stamped when it arrives; a shard without a usable answer is only counted.
    pub async fn round(&self, targets: Vec<Target>) -> Vec<(Target, Received)> {
        let begun = Instant::now();
        let deadline = begun + ROUND;
        let mut unasked: HashSet<String> = targets.iter().map(|target| target.pod.clone()).collect();
        let Arranged { first, held } = self.rounds.lock().unwrap_or_else(PoisonError::into_inner).begin(targets);
        let mut answers = self.ask(first, deadline).await;
        let signs = signs(&answers);
        let (revived, dead): (Vec<_>, Vec<_>) = held.into_iter().partition(|target| shows_life(&signs, target));
        answers.extend(self.ask(revived, deadline).await);
        for target in answers.iter().map(|(target, _)| target).chain(&dead) {
            unasked.remove(&target.pod);
        }
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner).end(&signs, unasked);
        self.metrics.round_seconds.observe(begun.elapsed().as_secs_f64());
        answers.into_iter().filter_map(|(target, answer)| Some((target, answer.ok()?))).collect()
    }

    async fn ask(&self, targets: Vec<Target>, deadline: Instant) -> Vec<Answer> {
        // Boxed: the runtime keeps what woke it last for a socket, and with that the place of the whole exchange, for as long as
        // the connection is kept.
        let asked = futures::stream::iter(targets).map(|target| {
            Box::pin(async move {
                let answer = self.shards.load(&target.address, &target.keys, &target.request, Timestamp::now()).await;
                (target, answer.map(|report| Received { report, at: Timestamp::now() }))
            })
        });
        let mut asked = asked.buffer_unordered(AT_ONCE);
        let mut answers = vec![];
        while let Ok(Some((target, answer))) = timeout_at(deadline, asked.next()).await {
            match &answer {
                Ok(_) => self.count("ok"),
                Err(error) => {
                    self.count(error.reason());
                    log(&target, error);
                }
            }
            answers.push((target, answer));
        }
        answers
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.scrapes.get_or_create(&Outcome { outcome }).inc();
    }
}

/// What the answers show of each node: life when any of its shards shows it.
fn signs(answers: &[Answer]) -> HashMap<String, Sign> {
    let mut signs = HashMap::new();
    for (target, answer) in answers {
        let Some(node) = &target.node else { continue };
        let sign = match answer {
            Err(error) if is_silence(error) => Sign::Silence,
            Ok(_) | Err(_) => Sign::Life,
        };
        let known = signs.entry(node.clone()).or_insert(sign);
        if sign == Sign::Life {
            *known = sign;
        }
    }
    signs
}

fn shows_life(signs: &HashMap<String, Sign>, target: &Target) -> bool {
    target.node.as_ref().and_then(|node| signs.get(node)) == Some(&Sign::Life)
}

/// Whether nothing at all came back. A refused connection came back from somewhere.
fn is_silence(error: &CallError) -> bool {
    match error {
        CallError::Timeout => true,
        CallError::Connect(_) => {
            let causes = std::iter::successors(error.source(), |cause| (*cause).source());
            let mut kinds = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
            kinds.any(|kind| matches!(kind, ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable))
        }
        CallError::Status { .. } | CallError::Malformed(_) | CallError::Sign(_) | CallError::Unsigned | CallError::Fenced(_) => {
            false
        }
    }
}

/// A shard that starts or ends does not answer, and that is no news; one that refuses our keys is.
fn log(target: &Target, error: &CallError) {
    let chain = crate::telemetry::chain(error);
    match error {
        CallError::Timeout | CallError::Connect(_) | CallError::Fenced(_) => {
            tracing::debug!(shard = %target.name, error = %chain, "no load report");
        }
        CallError::Status { .. } | CallError::Malformed(_) | CallError::Sign(_) | CallError::Unsigned => {
            tracing::warn!(shard = %target.name, error = %chain, "no load report");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use mcp_crds::control::Key;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A node: every shard of it has its address. One that is off takes connections and says nothing, as the other end of a
    /// cut cable seems to.
    struct Node {
        asked: AtomicUsize,
        is_on: AtomicBool,
    }

    impl Node {
        async fn at(address: SocketAddr) -> (Arc<Self>, u16) {
            let node = Arc::new(Self { asked: AtomicUsize::new(0), is_on: AtomicBool::new(true) });
            let listener = TcpListener::bind(address).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let here = node.clone();
            tokio::spawn(async move {
                while let Ok((mut socket, _)) = listener.accept().await {
                    let node = here.clone();
                    tokio::spawn(async move {
                        let mut request = vec![0; 4096];
                        while socket.read(&mut request).await.unwrap_or(0) > 0 {
                            node.asked.fetch_add(1, Ordering::Relaxed);
                            if !node.is_on.load(Ordering::Relaxed) {
                                return std::future::pending().await;
                            }
                            let body = r#"{"incarnation":"a","seq":1}"#;
                            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                            socket.write_all(answer.as_bytes()).await.unwrap();
                        }
                    });
                }
            });
            (node, port)
        }

        fn asked(&self) -> usize {
            self.asked.swap(0, Ordering::Relaxed)
        }
    }

    fn targets(node: &str, address: &str, count: usize) -> Vec<Target> {
        let key = Key::from_bytes(&[9; 32]);
        let keys = KeyRing { session: vec![], sealing: String::new(), signing: key.id.clone(), control: vec![key] };
        let target = |n: usize| Target {
            cluster: "c".into(),
            pod: format!("{node}-{n}"),
            name: format!("{node}-{n}"),
            node: Some(node.into()),
            address: address.into(),
            keys: Arc::new(keys.clone()),
            request: LoadRequest::default(),
        };
        (0..count).map(target).collect()
    }

    #[tokio::test]
    async fn the_shards_of_a_dead_node_are_not_asked_each_and_all_are_again_in_the_round_in_which_it_is_back() {
        let (near, port) = Node::at("127.0.0.1:0".parse().unwrap()).await;
        let (far, _) = Node::at(SocketAddr::new([127, 0, 0, 2].into(), port)).await;
        let scraper = Scraper::new(Shards::on_port(port), Arc::default());
        let all = || [targets("near", "127.0.0.1", 3), targets("far", "127.0.0.2", 40)].concat();
        assert_eq!(scraper.round(all()).await.len(), 43);
        assert_eq!((near.asked(), far.asked()), (3, 40));

        far.is_on.store(false, Ordering::Relaxed);
        for asked in [40, 40, 1, 1] {
            assert_eq!(scraper.round(all()).await.len(), 3, "the others answer as before");
            assert_eq!((near.asked(), far.asked()), (3, asked));
        }
        far.is_on.store(true, Ordering::Relaxed);
        assert_eq!(scraper.round(all()).await.len(), 43);
    }

    #[tokio::test]
    async fn a_refused_connection_is_a_sign_of_life() {
        let (_, port) = Node::at("127.0.0.1:0".parse().unwrap()).await;
        let scraper = Scraper::new(Shards::on_port(port), Arc::default());
        let answers = scraper.ask(targets("far", "127.0.0.3", 1), Instant::now() + ROUND).await;
        assert_eq!(answers[0].1.as_ref().unwrap_err().reason(), "Connect");
        assert_eq!(signs(&answers)["far"], Sign::Life);
    }
}
