//! What became of the pods: looked at several times a second, because a container that is killed takes its counters with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use mcp_tests::cgroup::{self, Group};
use mcp_tests::cluster::is_ready;
use mcp_tests::{Namespace, Outcome};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

const PERIOD: Duration = Duration::from_millis(250);

/// Looks at the pods of one side until dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pods: BTreeMap<String, Fate>,
    /// Time of pods, all together.
    pub shard_time: Duration,
    /// How many were Ready, whenever that changed: since the start, and how many.
    pub sizes: Vec<(Duration, usize)>,
}

/// What became of one pod.
#[derive(Clone, Debug, Default)]
struct Fate {
    name: String,
    group: Option<(String, Group)>,
    oom_kills: BTreeMap<String, u64>,
    oom_states: BTreeSet<String>,
    restarts: i32,
    peak: u64,
}

impl Watch {
    /// Of the pods with these labels, whose server is the container of this name.
    pub(crate) fn start(namespace: &Namespace, labels: String, container: &'static str) -> Self {
        let (seen, pods) = (Arc::<Mutex<Seen>>::default(), namespace.api::<Pod>());
        let writing = seen.clone();
        let task = tokio::spawn(async move {
            let (begun, mut last) = (Instant::now(), Instant::now());
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                // The API server may be slow for a moment.
                let Ok(found) = list(&pods, &labels).await else { continue };
                let now = Instant::now();
                let mut seen = writing.lock().unwrap_or_else(PoisonError::into_inner);
                seen.look(&found, container, now - begun, now - last);
                last = now;
            }
        });
        Self { seen, task }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn list(pods: &Api<Pod>, labels: &str) -> Outcome<Vec<Pod>> {
    Ok(pods.list(&ListParams::default().labels(labels)).await?.items)
}

// === impl Seen ===

impl Seen {
    fn look(&mut self, pods: &[Pod], container: &str, now: Duration, since: Duration) {
        // Whoever pays for pods pays from the start of the container to its end.
        let running = pods.iter().filter(|pod| cgroup::container_id(pod, container).is_some()).count();
        self.shard_time += since * u32::try_from(running).unwrap_or(u32::MAX);
        let ready = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).count();
        if self.sizes.last().is_none_or(|(_, size)| *size != ready) {
            self.sizes.push((now, ready));
        }
        for pod in pods {
            let fate = self.pods.entry(pod.uid().unwrap_or_default()).or_default();
            fate.name = pod.name_any();
            fate.look(pod, container);
        }
    }

    /// Processes killed for memory: by the counters of the control groups, and, for a container that was gone before its counter
    /// was read, by what the kubelet says of it.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.pods.values().map(|fate| fate.oom_kills.values().sum::<u64>().max(fate.oom_states.len() as u64)).sum()
    }

    /// Containers that were started again.
    pub(crate) fn restarts(&self) -> i32 {
        self.pods.values().map(|fate| fate.restarts).sum()
    }

    /// The most that one of them used, bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.pods.values().map(|fate| fate.peak).max().unwrap_or(0)
    }

    /// The most that were Ready.
    pub(crate) fn largest(&self) -> usize {
        self.sizes.iter().map(|(_, size)| *size).max().unwrap_or(0)
    }

    /// `memory-0: peak 71 MiB, oom_kill 0, restarts 0; …`
    pub(crate) fn describe(&self) -> Vec<String> {
        let of = |fate: &Fate| {
            format!(
                "{}: peak {} MiB, oom_kill {}, restarts {}, lastState OOMKilled {}",
                fate.name,
                fate.peak >> 20,
                fate.oom_kills.values().sum::<u64>(),
                fate.restarts,
                fate.oom_states.len()
            )
        };
        let mut described: Vec<_> = self.pods.values().map(of).collect();
        described.sort();
        described
    }
}

// === impl Fate ===

impl Fate {
    fn look(&mut self, pod: &Pod, container: &str) {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        for status in statuses {
            self.restarts = self.restarts.max(status.restart_count);
            for state in [&status.state, &status.last_state].into_iter().flatten() {
                let ended = state.terminated.as_ref().filter(|ended| ended.reason.as_deref() == Some("OOMKilled"));
                if let Some(ended) = ended {
                    self.oom_states.insert(ended.container_id.clone().unwrap_or_default());
                }
            }
        }
        let Some(id) = cgroup::container_id(pod, container) else { return };
        if self.group.as_ref().is_none_or(|(known, _)| known != id) {
            self.group = Group::of(pod, container).ok().map(|group| (id.to_owned(), group));
        }
        let Some((id, group)) = &self.group else { return };
        if let Ok(kills) = group.oom_kills() {
            let most = self.oom_kills.entry(id.clone()).or_default();
            *most = kills.max(*most);
        }
        self.peak = self.peak.max(group.working_set().unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(last_state: &serde_json::Value, restarts: i32) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "uid": "1"},
            "status": {"containerStatuses": [{
                "name": "mcp-server", "image": "i", "imageID": "i", "ready": true, "restartCount": restarts,
                "lastState": last_state, "containerID": "containerd://none",
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn a_kill_counts_though_its_control_group_is_gone_and_once() {
        let mut seen = Seen::default();
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "containerID": "containerd://x"}});
        for _ in 0..3 {
            seen.look(&[pod(&killed, 1)], "mcp-server", Duration::ZERO, Duration::from_secs(1));
        }
        assert_eq!((seen.oom_kills(), seen.restarts(), seen.shard_time), (1, 1, Duration::from_secs(3)));
        let mut calm = Seen::default();
        calm.look(&[pod(&json!({}), 0)], "mcp-server", Duration::ZERO, Duration::from_secs(1));
        assert_eq!((calm.oom_kills(), calm.restarts(), calm.sizes.len()), (0, 0, 1));
    }
}
