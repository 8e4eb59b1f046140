//! The operator is killed, stopped, cut off and replaced, in the middle of its work; and nobody notices.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use kube::runtime::watcher::{Config, Event, watcher};
use mcp_tests::audit::Reader;
use mcp_tests::cluster::{CLUSTER_LABEL, STARTS_WITHIN, STATE_LABEL, is_ready, restarts, uid};
use mcp_tests::failure::While as _;
use mcp_tests::target::{Target, output};
use mcp_tests::traffic::Streams;
use mcp_tests::wait::{eventually, throughout};
use mcp_tests::{Cluster, Failure, Namespace, Operator, Outcome, Rate, Traffic, claim, claim_eq, fail, operator};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::manifest::small;

/// A lease that is not renewed may be taken after this long.
const LEASE: Duration = Duration::from_secs(15);
/// Promised: 20 s. Waited for: three times that.
const MOVES_WITHIN: Duration = Duration::from_mins(1);
/// Streams of each era on each shard.
const HELD: usize = 4;
const KILLS: u32 = 20;
/// The longest time between the start of a process and its end, in milliseconds.
const LONGEST_LIFE: u64 = 4_000;
/// The most shards that are asked for.
const MOST: usize = 4;
/// More than that for a moment: what a rollout adds, 10 % and at least one.
const SURGE: usize = 1;

/// Every shard that was ever there, watched without a gap.
struct Census {
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// By uid.
    shards: BTreeMap<String, Shard>,
    /// The most that were neither draining nor ending at one time.
    most: usize,
}

#[derive(Default)]
struct Shard {
    name: String,
    /// It was asked to drain, or to end.
    victim: bool,
    gone: bool,
}

impl Drop for Census {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Census {
    /// Watches from now on; returns when the present shards were seen.
    async fn take(cluster: &Cluster) -> Outcome<Self> {
        let events =
            watcher(cluster.namespace().api::<Pod>(), Config::default().labels(&format!("{CLUSTER_LABEL}={}", cluster.name())));
        let seen = Arc::<Mutex<Seen>>::default();
        let reader = {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut events = std::pin::pin!(events);
                while let Some(event) = events.next().await {
                    // What breaks a watch is tried again by it.
                    if let Ok(event) = event {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).hear(event);
                    }
                }
            })
        };
        let census = Self { seen, reader };
        let expected = cluster.pods().await?.len();
        eventually("the first census", Duration::from_secs(20), || async {
            claim_eq!(census.look(|seen| seen.shards.len()), expected, "shards");
            Ok(())
        })
        .await?;
        Ok(census)
    }

    fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Names of all that were asked to drain or to end.
    fn victims(&self) -> BTreeSet<String> {
        self.look(|seen| seen.shards.values().filter(|shard| shard.victim).map(|shard| shard.name.clone()).collect())
    }
}

impl Seen {
    fn hear(&mut self, event: Event<Pod>) {
        match event {
            Event::Init | Event::InitDone => {}
            Event::Apply(pod) | Event::InitApply(pod) => {
                let ends = pod.metadata.deletion_timestamp.is_some();
                let drains = pod.labels().get(STATE_LABEL).is_some_and(|state| state == "draining");
                let shard = self.shards.entry(uid(&pod)).or_default();
                shard.name = pod.name_any();
                shard.victim |= ends || drains;
                let active = self.shards.values().filter(|shard| !shard.victim && !shard.gone).count();
                self.most = self.most.max(active);
            }
            Event::Delete(pod) => {
                let shard = self.shards.entry(uid(&pod)).or_default();
                (shard.name, shard.victim, shard.gone) = (pod.name_any(), true, true);
            }
        }
    }
}

/// A sequence that its seed determines (splitmix64): a run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// What `MCP_TEST_SEED` says, or another one each time; it is printed.
fn seed() -> u64 {
    let said = std::env::var("MCP_TEST_SEED").ok().and_then(|text| text.parse().ok());
    said.unwrap_or_else(|| RandomState::new().build_hasher().finish())
}

/// What a person does to a cluster, in turn: scale-out, rollout, scale-in with a drain, all at once.
fn wish(turn: u32) -> Value {
    let again =
        |number: u32| json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": format!("turn {number}")}}});
    match turn % 5 {
        0 => json!({"spec": {"replicas": MOST}}),
        1 => json!({"spec": {"podTemplate": again(turn)}}),
        2 => json!({"spec": {"replicas": 2}}),
        3 => json!({"spec": {"replicas": MOST, "podTemplate": again(turn)}}),
        _ => json!({"spec": {"replicas": 3}}),
    }
}

/// The only pod of the operator with a process in it.
async fn living(operator: &Operator) -> Outcome<Pod> {
    eventually("a process of the operator", STARTS_WITHIN, || async {
        let pods = operator.pods().await?;
        let live = pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none() && Operator::process(pod).is_ok());
        live.ok_or_else(|| Failure::new("there is none"))
    })
    .await
}

pub(crate) async fn killed_at_twenty_moments_it_loses_and_doubles_nothing(namespace: Namespace) -> Outcome {
    let mut writes = Reader::from_now(namespace.run()).await?;
    let operator = Operator::of(&namespace);
    namespace.apply(&small("tough", &json!({"replicas": 2})).to_string()).await?;
    let cluster = namespace.cluster("tough");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let census = Census::take(&cluster).await?;
    let mut streams = Streams::on_each_shard(&cluster, HELD).await?;
    let traffic = Traffic::start(&cluster, Rate::per_second(50)).await?;

    let seed = seed();
    println!("killed_at_twenty_moments: MCP_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let pods: Api<Pod> = namespace.api();
    for turn in 0..KILLS {
        let pod = living(&operator).await?;
        cluster.patch(&wish(turn)).await?;
        // Some of them end before they lead, some in the middle of it, some when all is done.
        let life = Duration::from_millis(dice.roll(LONGEST_LIFE));
        traffic.mark(format!("kill {turn} after {life:?}"));
        sleep_until(Instant::now() + life).await;
        Operator::process(&pod)?.kill().await?;
        // In the same pod the kubelet would wait longer each time, and a lease whose holder is dead for 15 s: neither is tried
        // here. Sometimes the kubelet is faster, and the next process is one in a pod that is gone already, told to end at once.
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        let _ = operator.leases().delete(operator::NAME, &DeleteParams::default()).await;
    }
    traffic.mark("at rest");
    cluster.patch(&json!({"spec": {"replicas": 3}})).await?;
    cluster.until_settled(3, Duration::from_mins(3)).await.doing(&format!("seed {seed}"))?;
    eventually("three shards, and no other pod", STARTS_WITHIN, || async {
        let pods = cluster.pods().await?;
        let shown: Vec<_> = pods.iter().map(|pod| (pod.name_any(), is_ready(pod), pod.labels().get(STATE_LABEL))).collect();
        claim!(pods.len() == 3 && pods.iter().all(is_ready), "{shown:?}");
        Ok(())
    })
    .await?;

    // Nothing twice: never more than a decision asked for; every pod accounted for by one creation.
    let (ever, most) = census.look(|seen| (seen.shards.len(), seen.most));
    claim!(most <= MOST + SURGE, "{most} shards were active at one time, at most {MOST} were asked for (seed {seed})");
    let mut created = 0;
    let user = format!(":{}:{}", namespace.name(), operator::NAME);
    for write in writes.writes(&user, namespace.name())? {
        claim!(!write.forbidden, "{write:?} was not allowed");
        created += usize::from(write.resource == "pods" && write.verb == "create" && write.code == 201);
    }
    claim_eq!(created, ever, "pods created, by the audit log, and pods seen (seed {seed})");

    let victims = census.victims();
    let victims: Vec<&str> = victims.iter().map(String::as_str).collect();
    streams.none_ended_but_on(&victims)?;
    for victim in victims.iter().filter(|victim| streams.on(victim) > 0) {
        streams.all_ended_gracefully_on(victim)?;
    }
    streams.forget(&victims);
    let report = traffic.stop().await?;
    println!("{report}");
    report.everything_answered().doing(&format!("seed {seed}"))
}

pub(crate) async fn a_dead_leader_is_followed_and_work_goes_on(namespace: Namespace) -> Outcome {
    let operator = Operator::of(&namespace);
    operator.scale(2).await?;
    namespace.apply(&small("followed", &json!({"replicas": 2})).to_string()).await?;
    let cluster = namespace.cluster("followed");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let before: BTreeSet<_> = cluster.ready_pods().await?.iter().map(uid).collect();
    let streams = Streams::on_each_shard(&cluster, HELD).await?;

    let leader = operator.until_held(None, MOVES_WITHIN).await?;
    let pod = operator.pod_of(&leader).await?;
    cluster.patch(&json!({"spec": {"replicas": 3}})).await?;
    Operator::process(&pod)?.kill().await?;
    let killed = Instant::now();
    let next = operator.until_held(Some(&leader), MOVES_WITHIN).await?;
    println!("the lease moved from {leader} to {next} within {:.1} s; promised: 20 s", killed.elapsed().as_secs_f64());

    cluster.patch(&json!({"spec": {"replicas": 4}})).await?;
    cluster.until_settled(4, STARTS_WITHIN).await?;
    let now: BTreeSet<_> = cluster.ready_pods().await?.iter().map(uid).collect();
    claim!(before.is_subset(&now), "a shard was replaced: {before:?}, then {now:?}");
    streams.none_ended_but_on(&[])
}

pub(crate) async fn a_leader_that_was_stopped_past_its_lease_writes_nothing(namespace: Namespace) -> Outcome {
    let operator = Operator::of(&namespace);
    operator.scale(2).await?;
    namespace.apply(&small("fenced", &json!({"replicas": 1})).to_string()).await?;
    let cluster = namespace.cluster("fenced");
    cluster.until_settled(1, STARTS_WITHIN).await?;

    let leader = operator.until_held(None, MOVES_WITHIN).await?;
    let pod = operator.pod_of(&leader).await?;
    let process = Operator::process(&pod)?;
    process.pause().await?;
    let stopped = async {
        // It finds this waiting for it when it goes on, and knows of no other leader.
        cluster.patch(&json!({"spec": {"replicas": 2}})).await?;
        let next = operator.until_held(Some(&leader), MOVES_WITHIN).await?;
        println!("{next} leads, {leader} is stopped");
        cluster.until_settled(2, STARTS_WITHIN).await
    }
    .await;
    // Work for both, from the moment at which it goes on.
    let changed = cluster.patch(&json!({"spec": {"replicas": 4}})).await;
    let mut requests = Reader::from_now(namespace.run()).await?;
    process.resume().await?;
    stopped?;
    changed?;
    cluster.until_settled(4, STARTS_WITHIN).await?;
    eventually("the end of the process that was stopped", Duration::from_secs(30), || async {
        claim!(!process.is_there(), "it is still there");
        Ok(())
    })
    .await?;

    let (mut by_it, mut by_the_other) = (vec![], 0);
    let user = format!(":{}:{}", namespace.name(), operator::NAME);
    requests.each(&user, |request| {
        if !request.is_write() {
            return;
        }
        if request.pod == pod.name_any() {
            by_it.push(request);
        } else {
            by_the_other += 1;
        }
    })?;
    claim!(by_it.is_empty(), "it wrote after its lease had passed to another: {by_it:?}");
    claim!(by_the_other > 0, "the new leader had nothing to write, so this shows nothing");
    // Its container starts again, with a clear word of why, and waits for its turn.
    operator.until_ready().await?;
    let log = namespace.kubectl(&["logs", &pod.name_any(), "--previous"]).await?;
    claim!(log.contains("LeaseLost"), "its last words say nothing of the lease:\n{log}");
    Ok(())
}

/// What must stay as it is while the operator, or the API server, is away: the shards and their streams.
struct Untouched {
    cluster: Cluster,
    before: BTreeSet<String>,
    streams: Streams,
    traffic: Traffic,
}

impl Untouched {
    async fn set(namespace: &Namespace, name: &str, shards: i32) -> Outcome<Self> {
        namespace.apply(&small(name, &json!({"replicas": shards})).to_string()).await?;
        let cluster = namespace.cluster(name);
        cluster.until_settled(shards, STARTS_WITHIN).await?;
        let before = cluster.ready_pods().await?.iter().map(uid).collect();
        let streams = Streams::on_each_shard(&cluster, HELD).await?;
        let traffic = Traffic::start(&cluster, Rate::per_second(200)).await?;
        Ok(Self { cluster, before, streams, traffic })
    }

    /// Then one more shard is asked for, and comes; all others are as before, and nothing was lost.
    async fn and_one_more(self) -> Outcome {
        let more = i32::try_from(self.before.len())? + 1;
        self.traffic.mark("one more");
        self.cluster.patch(&json!({"spec": {"replicas": more}})).await?;
        self.cluster.until_settled(more, STARTS_WITHIN).await?;
        let pods = self.cluster.ready_pods().await?;
        let now: BTreeSet<_> = pods.iter().map(uid).collect();
        claim!(self.before.is_subset(&now), "a shard was replaced: {:?}, then {now:?}", self.before);
        claim_eq!(pods.iter().map(restarts).sum::<i32>(), 0, "restarts of shards");
        self.streams.none_ended_but_on(&[])?;
        let report = self.traffic.stop().await?;
        println!("{report}");
        report.everything_answered()
    }
}

pub(crate) async fn an_upgrade_of_the_operator_restarts_no_shard_and_loses_nothing(namespace: Namespace) -> Outcome {
    let operator = Operator::of(&namespace);
    operator.scale(2).await?;
    let scene = Untouched::set(&namespace, "kept", 3).await?;
    let leader = operator.until_held(None, MOVES_WITHIN).await?;
    let pods: BTreeSet<_> = operator.ready_pods().await?.into_iter().collect();

    // Another version has another default image: what was resolved once is kept, also for a shard that is made later.
    scene.traffic.mark("upgrade");
    let env = json!([
        {"name": "MCP_OPERATOR_SERVER_IMAGE", "value": "registry.example.com/mcp-server:next"},
        {"name": "MCP_OPERATOR_LOG_LEVEL", "value": "debug"},
    ]);
    let containers = json!([{"name": "operator", "env": env}]);
    let rolled = {
        operator.patch(&json!({"spec": {"template": {"spec": {"containers": containers}}}})).await?;
        let (operator, leader) = (operator.clone(), leader.clone());
        tokio::spawn(async move { longest_silence(&operator, &leader).await })
    };
    operator.until_ready().await?;
    eventually("only new processes", STARTS_WITHIN, || async {
        let now = operator.pods().await?;
        let old: Vec<_> = now.iter().map(ResourceExt::name_any).filter(|name| pods.contains(name)).collect();
        claim!(old.is_empty(), "of the old ones there are {old:?}");
        Ok(())
    })
    .await?;
    let (silence, handovers) = rolled.await??;
    println!("an upgrade: {handovers} handovers, at most {:.1} s between two renewals; promised: 5 s", silence.as_secs_f64());
    claim!(silence < LEASE, "the lease was not given back: nobody renewed it for {silence:?}");
    scene.and_one_more().await
}

/// The longest time for which nobody renewed the lease, and how often it passed on, until the operator has settled.
async fn longest_silence(operator: &Operator, first: &str) -> Outcome<(Duration, u32)> {
    let (mut longest, mut handovers) = (Duration::ZERO, 0);
    let (mut last, mut renewed) = (first.to_owned(), None);
    let (begun, mut since) = (Instant::now(), Instant::now());
    while begun.elapsed() < STARTS_WITHIN {
        let spec = operator.leases().get(operator::NAME).await?.spec.unwrap_or_default();
        if let Some(holder) = spec.holder_identity
            && spec.renew_time != renewed
        {
            renewed = spec.renew_time;
            longest = longest.max(since.elapsed());
            since = Instant::now();
            if holder != last {
                handovers += 1;
                last = holder;
            }
        }
        let pods = operator.pods().await?;
        let settled = pods.len() == 2 && pods.iter().all(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        if handovers > 0 && settled && pods.iter().any(|pod| last.starts_with(&pod.name_any())) {
            return Ok((longest, handovers));
        }
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
    fail!("after {handovers} handovers, {last} held the lease last, and the operator did not settle")
}

/// SIGSTOP for a part of the local cluster; SIGCONT at the latest when dropped.
struct Paused {
    program: std::path::PathBuf,
    part: &'static str,
}

impl Paused {
    async fn part(namespace: &Namespace, part: &'static str) -> Outcome<Self> {
        let Target::Local { program } = &namespace.run().target else { fail!("only a part of the local cluster can be stopped") };
        output(Command::new(program).args(["pause", part])).await?;
        Ok(Self { program: program.clone(), part })
    }

    async fn resume(&self) -> Outcome {
        output(Command::new(&self.program).args(["resume", self.part])).await.map(drop)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // Once more does no harm.
        let resumed = std::process::Command::new(&self.program).args(["resume", self.part]).status();
        if !resumed.is_ok_and(|status| status.success()) {
            eprintln!("{} may still be stopped: local-cluster resume {}", self.part, self.part);
        }
    }
}

pub(crate) async fn an_api_server_that_stands_still_for_a_minute_costs_nothing(namespace: Namespace) -> Outcome {
    let operator = Operator::of(&namespace);
    operator.scale(2).await?;
    let scene = Untouched::set(&namespace, "offline", 3).await?;
    let leader = operator.until_held(None, MOVES_WITHIN).await?;

    scene.traffic.mark("the API server stands still");
    let paused = Paused::part(&namespace, "apiserver").await?;
    // Four leases long.
    let held = throughout("streams and calls without an API server", LEASE * 4, || async {
        scene.streams.none_ended_but_on(&[])?;
        scene.traffic.so_far().everything_answered()
    })
    .await;
    paused.resume().await?;
    scene.traffic.mark("the API server goes on");
    held?;
    // Who led has ended by then; whoever leads now is another process.
    let next = operator.until_held(Some(&leader), MOVES_WITHIN).await?;
    println!("{leader} led before, {next} leads after");
    scene.and_one_more().await
}
