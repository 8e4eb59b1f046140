//! One round of questions to all shards: many at once, and over in three seconds, so that one dead node delays nobody.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use mcp_crds::control::KeyRing;
use mcp_crds::load::LoadRequest;
use tokio::time::{Instant, timeout_at};

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
    /// Its address.
    pub address: String,
    /// What to sign with.
    pub keys: Arc<KeyRing>,
    /// The question.
    pub request: LoadRequest,
}

/// Asks shards.
#[derive(Clone, Debug)]
pub struct Scraper {
    shards: Shards,
    metrics: Arc<Metrics>,
}

impl Scraper {
    /// A scraper that calls with this client.
    pub fn new(shards: Shards, metrics: Arc<Metrics>) -> Self {
        Self { shards, metrics }
    }

    /// Asks all of them once. Each report is stamped when it arrives; a shard without a usable answer is only counted.
    pub async fn round(&self, targets: Vec<Target>) -> Vec<(Target, Received)> {
        let begun = Instant::now();
        let deadline = begun + ROUND;
        let asked = futures::stream::iter(targets).map(|target| async move {
            let answer = self.shards.load(&target.address, &target.keys, &target.request, Timestamp::now()).await;
            (target, answer)
        });
        let mut answers = asked.buffer_unordered(AT_ONCE);
        let mut received = vec![];
        while let Ok(Some((target, answer))) = timeout_at(deadline, answers.next()).await {
            match answer {
                Ok(report) => {
                    self.count("ok");
                    received.push((target, Received { report, at: Timestamp::now() }));
                }
                Err(error) => {
                    self.count(error.reason());
                    log(&target, &error);
                }
            }
        }
        self.metrics.round_seconds.observe(begun.elapsed().as_secs_f64());
        received
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.scrapes.get_or_create(&Outcome { outcome }).inc();
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
