//! A run, step by step: rest, a leader that is killed, a load that grows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use mcp_crds::McpCluster;
use mcp_tests::audit::Reader;
use mcp_tests::failure::While as _;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Outcome, claim};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::children::Child;
use crate::exposition::Exposition;
use crate::figures::{Figures, Goal};
use crate::fleet::{Name, at_rest};
use crate::manifests::{self, HOME, KWOK, KWOK_NODE, OPERATORS, Planned};
use crate::options::Options;
use crate::proc::{Usage, usage};
use crate::requests::{KWOK_USER, Requests, by_kind};
use crate::say;
use crate::site::{Site, kubeconfig};
use crate::stub::Shared;

/// The end of the user names of all operators under test.
const OPERATOR: &str = "-operator";
/// The admin port of the first; the others have those after it.
const FIRST_PORT: u16 = 9_100;
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_secs(1);
const PROGRESS: Duration = Duration::from_secs(10);
/// Statuses are written at most once a minute: quiet for longer is at rest.
const QUIET: Duration = Duration::from_secs(65);
const STARTS_WITHIN: Duration = Duration::from_mins(3);
const AT_ONCE: usize = 16;
/// Of the pods that are deleted while the leader dies, so many are gone before.
const DELETED_BEFORE: usize = 4;
/// Pods of a page.
const PAGE: u32 = 500;
const MIB: f64 = 1_048_576.0;

/// What is there while a run goes on.
pub(crate) struct Story<'a> {
    options: &'a Options,
    site: &'a Site,
    fleet: Shared,
    folder: PathBuf,
    plan: Vec<Planned>,
    log: Reader,
    requests: Requests,
    /// By their number, which is that of their account and of their port.
    operators: BTreeMap<usize, Child>,
    kwok: Option<Child>,
    http: reqwest::Client,
    pub(crate) figures: Figures,
    /// What no figure says: requests by kind, and what else is worth knowing.
    pub(crate) notes: Vec<String>,
}

impl<'a> Story<'a> {
    /// Prepares a run; nothing is started yet.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub(crate) fn new(options: &'a Options, site: &'a Site, fleet: Shared, folder: &Path) -> Outcome<Self> {
        Ok(Self {
            options,
            site,
            fleet,
            folder: folder.to_owned(),
            plan: manifests::plan(options),
            log: Reader::from_the_end_of(options.audit_log())?,
            requests: Requests::default(),
            operators: BTreeMap::new(),
            kwok: None,
            http: reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?,
            figures: Figures::default(),
            notes: vec![],
        })
    }

    /// All of it. The programs are left running: see [`Story::stop`].
    ///
    /// # Errors
    /// The first thing that does not come about.
    pub(crate) async fn tell(&mut self) -> Outcome {
        self.figures.add("pods at rest", "", f64::from(self.options.pods_at_rest()), None);
        self.figures.add("pods once the load has grown", "", f64::from(self.options.pods_at_most()), None);
        self.start_nodes().await?;
        self.start_operator(0).await?;
        self.start_operator(1).await?;
        self.create().await?;
        self.rest().await?;
        self.count_shards("at rest", false).await?;
        self.lose_the_leader().await?;
        self.grow().await
    }

    /// Ends the programs, operators first.
    pub(crate) async fn stop(&mut self) {
        for operator in self.operators.values_mut() {
            let _ = operator.kill().await;
        }
    }

    async fn start_nodes(&mut self) -> Outcome {
        say(&format!("{} fake nodes", self.options.nodes()));
        let stages = tokio::process::Command::new(&self.options.kwok).arg("stages").output().await.doing("kwok stages")?;
        let file = self.folder.join("stages.yaml");
        std::fs::write(&file, stages.stdout).doing(&file.display().to_string())?;
        let words = [
            format!("--kubeconfig={}", kubeconfig(&self.folder, KWOK).display()),
            format!("--config={}", file.display()),
            "--manage-all-nodes=false".into(),
            format!("--manage-nodes-with-annotation-selector={}={}", KWOK_NODE.0, KWOK_NODE.1),
            format!("--node-ip={}", self.options.cluster.address),
            "--node-lease-duration-seconds=40".into(),
        ];
        self.kwok = Some(Child::start("kwok", &self.options.kwok, &words, &self.folder)?);
        let nodes = self.options.nodes();
        eventually("fake nodes that are Ready", STARTS_WITHIN, || self.site.nodes_ready(nodes)).await
    }

    async fn start_operator(&mut self, number: usize) -> Outcome {
        let account = OPERATORS[number];
        let words = [
            "run".into(),
            format!("--kubeconfig={}", kubeconfig(&self.folder, account).display()),
            format!("--listen=127.0.0.1:{}", port(number)),
            format!("--identity={account}"),
            format!("--operator-namespace={HOME}"),
            "--read-nodes".into(),
            "--log-format=json".into(),
        ];
        self.operators.insert(number, Child::start(account, &self.options.operator, &words, &self.folder)?);
        eventually(&format!("{account} that is Ready"), STARTS_WITHIN, || async {
            let answer = self.http.get(format!("http://127.0.0.1:{}/readyz", port(number))).send().await?;
            claim!(answer.status() == 200, "/readyz answers {}", answer.status());
            Ok(())
        })
        .await
    }

    /// The operator that leads.
    async fn leader(&self) -> Outcome<usize> {
        for number in self.operators.keys().copied() {
            if let Ok(seen) = self.scrape(number).await
                && seen.sum("mcp_operator_leader", "") > 0.0
            {
                return Ok(number);
            }
        }
        Err(Failure::new("none of the operators leads"))
    }

    async fn scrape(&self, number: usize) -> Outcome<Exposition> {
        let answer = self.http.get(format!("http://127.0.0.1:{}/metrics", port(number))).send().await?;
        Ok(Exposition::new(answer.text().await?))
    }

    fn read_log(&mut self) -> Outcome {
        let requests = &mut self.requests;
        self.log.each_of(&[OPERATOR, KWOK_USER], |request| requests.learn(&request))
    }

    /// Creates all McpClusters, and waits until their shards are Ready.
    async fn create(&mut self) -> Outcome {
        say(&format!("{} McpClusters, {} pods", self.plan.len(), self.options.pods_at_rest()));
        let begun = Timestamp::now();
        let mut by_namespace: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for planned in &self.plan {
            // No more than at rest: connections that come at once, or move when a shard is lost, look like a load that grows.
            by_namespace.entry(planned.name.0.clone()).or_default().push(manifests::cluster(planned, planned.shards));
        }
        for (namespace, clusters) in by_namespace {
            self.site.create::<McpCluster>(&Api::namespaced(self.site.client.clone(), &namespace), clusters).await?;
        }
        let ready = self.until_ready(self.options.pods_at_rest()).await?;
        self.set_load(1);
        let created = self.requests.created(begun);
        self.figures.add("created from nothing: all pods POSTed", "s", since(begun, created.last().copied()), None);
        self.figures.add("created from nothing: all pods Ready", "s", since(begun, Some(ready)), None);
        Ok(())
    }

    /// The connections of every McpCluster but the large one: so many times what they are at rest.
    fn set_load(&self, factor: u32) {
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        for planned in &self.plan {
            let load = at_rest(planned.shards, self.options.factor);
            fleet.set_load(&planned.name, if planned.grown > planned.shards { load * u64::from(factor) } else { load });
        }
    }

    /// Waits until the leader counts so many shards as active and as Ready; returns when.
    async fn until_ready(&mut self, pods: u32) -> Outcome<Timestamp> {
        let (begun, mut told) = (Instant::now(), Instant::now());
        loop {
            sleep(LOOK).await;
            self.still_run()?;
            self.read_log()?;
            let (mut active, mut ready) = (0.0, 0.0);
            if let Ok(leader) = self.leader().await
                && let Ok(seen) = self.scrape(leader).await
            {
                active = seen.sum("mcp_cluster_shards", "state=\"active\"");
                ready = seen.sum("mcp_cluster_shards", "state=\"ready\"");
            }
            if [active, ready].iter().all(|count| (count - f64::from(pods)).abs() < 0.5) {
                return Ok(Timestamp::now());
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                say(&format!("  {:.0} s: {active} shards, {ready} Ready, of {pods}", begun.elapsed().as_secs_f64()));
            }
            claim!(
                begun.elapsed() < self.options.patience(),
                "after {:?} there are {active} shards, {ready} of them Ready, of {pods}: --patience says how long to wait",
                self.options.patience()
            );
        }
    }

    /// Nothing that was started may have ended.
    fn still_run(&mut self) -> Outcome {
        self.operators.values_mut().chain(&mut self.kwok).try_for_each(Child::still_runs)
    }

    /// What the operators do when there is nothing to do.
    async fn rest(&mut self) -> Outcome {
        say("waiting for rest");
        let quiet = self.until_quiet().await?;
        self.figures.add("until the last write before rest", "s", quiet, None);

        let leader = self.leader().await?;
        let seconds = self.options.rest;
        say(&format!("at rest for {seconds} s"));
        let (from, before, took) = (Timestamp::now(), self.scrape(leader).await?, self.usages()?);
        sleep(Duration::from_secs(seconds)).await;
        let (to, after, taken) = (Timestamp::now(), self.scrape(leader).await?, self.usages()?);
        self.still_run()?;
        // A request is in the log when it is answered.
        sleep(LOOK).await;
        self.read_log()?;
        self.figures_at_rest((from, to), leader, (&before, &after), (&took, &taken))
    }

    /// Lets every McpCluster grow; nothing asks for it yet.
    async fn unbound(&self) -> Outcome {
        let client = &self.site.client;
        let patches = stream::iter(&self.plan).map(|planned| async move {
            let api = Api::<McpCluster>::namespaced(client.clone(), &planned.name.0);
            let change = Patch::Merge(json!({"spec": {"autoscaling": {"maxReplicas": planned.grown}}}));
            api.patch(&planned.name.1, &PatchParams::default(), &change).await.doing(&planned.name.1).map(drop)
        });
        patches.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Waits until no operator wrote anything for a while; returns how long it took until the last write.
    async fn until_quiet(&mut self) -> Outcome<f64> {
        let begun = Instant::now();
        let (mut last, mut since, mut told) = (None, Instant::now(), Instant::now());
        while since.elapsed() < QUIET {
            sleep(LOOK).await;
            self.still_run()?;
            self.read_log()?;
            let now = self.requests.last_write().cloned();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if told.elapsed() >= PROGRESS * 3 {
                told = Instant::now();
                let what = last.as_ref().map_or("nothing", |sent| sent.what.as_str());
                say(&format!("  quiet for {:.0} s; the last write: {what}", since.elapsed().as_secs_f64()));
            }
            if begun.elapsed() >= self.options.patience() {
                self.notes.push(format!("It did not come to rest: last {last:?}. The figures at rest are not of rest."));
                break;
            }
        }
        Ok(begun.elapsed().saturating_sub(since.elapsed()).as_secs_f64())
    }

    fn usages(&self) -> Outcome<BTreeMap<usize, Usage>> {
        self.operators.iter().map(|(number, operator)| Ok((*number, usage(operator.id())?))).collect()
    }

    fn figures_at_rest(
        &mut self,
        (from, to): (Timestamp, Timestamp),
        leader: usize,
        (before, after): (&Exposition, &Exposition),
        (took, taken): (&BTreeMap<usize, Usage>, &BTreeMap<usize, Usage>),
    ) -> Outcome {
        let minutes = to.duration_since(from).as_secs_f64() / 60.0;
        let rate = |count: usize| count_of(count) / minutes;
        let all = || self.requests.between(from, to);
        let writes: Vec<_> = all().filter(|sent| sent.is_write && !sent.is_lease).collect();
        let figures = &mut self.figures;
        figures.add("at rest: API requests of both operators", "1/min", rate(all().count()), None);
        figures.add("at rest: writes but for the Lease", "1/min", rate(writes.len()), Some(Goal::Exactly(0.0)));
        figures.add(
            "at rest: writes of the Lease",
            "1/min",
            rate(all().filter(|sent| sent.is_write && sent.is_lease).count()),
            None,
        );
        for (what, name) in [("reconcile", "mcp_operator_pass_seconds"), ("scrape round", "mcp_operator_scrape_round_seconds")] {
            let added = after.histogram(name)?.since(&before.histogram(name)?);
            let is_round = what == "scrape round";
            for (words, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let goal = (is_round && words == "p99").then_some(Goal::Below(3.0));
                figures.add(format!("at rest: {what} {words}"), "s", added.quantile(quantile), goal);
            }
            figures.add(format!("at rest: {what}s"), "1/min", added.count() / minutes, None);
        }
        let cores = |number: usize| (taken[&number].cpu - took[&number].cpu) / (minutes * 60.0);
        let mib = |bytes: u64| bytes_of(bytes) / MIB;
        figures.add("at rest: CPU of the leader", "cores", cores(leader), Some(Goal::Below(0.2)));
        figures.add("at rest: RSS of the leader", "MiB", mib(taken[&leader].rss), Some(Goal::Below(64.0)));
        figures.add("until rest: highest RSS of the leader", "MiB", mib(taken[&leader].peak), None);
        for other in taken.keys().copied().filter(|other| *other != leader) {
            figures.add("at rest: CPU of the one that waits", "cores", cores(other), None);
            figures.add("at rest: RSS of the one that waits", "MiB", mib(taken[&other].rss), None);
        }
        let kinds: Vec<_> = by_kind(all()).iter().map(|(what, count)| format!("{what} {count}")).collect();
        self.notes.push(format!("Requests at rest, in {minutes:.1} min: {}.", kinds.join(", ")));
        if !writes.is_empty() {
            self.notes.push(format!("Writes at rest: {:?}.", by_kind(writes.into_iter())));
        }
        let scrapes = after.by_labels("mcp_operator_scrapes_total");
        self.notes.push(format!("Scrapes of the leader since its start: {scrapes:?}."));
        Ok(())
    }

    /// Kills the leader while it replaces a shard of every McpCluster.
    async fn lose_the_leader(&mut self) -> Outcome {
        let leader = self.leader().await?;
        let mut dying = self.operators.remove(&leader).ok_or_else(|| Failure::new("no leader"))?;
        say(&format!("deleting a shard of every McpCluster, and killing {} meanwhile", dying.name()));
        let before = Timestamp::now();
        let doomed: Vec<Name> = self.plan.iter().map(|planned| planned.name.clone()).collect();
        let (first, rest) = doomed.split_at(doomed.len() / DELETED_BEFORE);
        self.delete_first_shards(first).await?;
        dying.kill().await?;
        let killed = Timestamp::now();
        self.delete_first_shards(rest).await?;
        let replaced = self.until_all(self.options.pods_at_rest()).await?;
        self.read_log()?;
        let others = self.operators.keys().map(|number| OPERATORS[*number]);
        let acting = others.filter_map(|other| self.requests.first_write_of(other, killed)).min();
        let figures = &mut self.figures;
        figures.add("leader killed: until the next one writes", "s", since(killed, acting), Some(Goal::Below(20.0)));
        figures.add("leader killed: until all shards are there again", "s", since(killed, Some(replaced)), None);
        let created = self.requests.created(before).len();
        let double = self.requests.refused_as_double(before);
        let again = self.requests.taken_by_kwok(before);
        let extra = count_of(created) - count_of(doomed.len() + again);
        figures.add("leader killed: pods created beyond those deleted", "", extra, Some(Goal::Exactly(0.0)));
        self.notes.push(format!(
            "Leader killed: {} shards deleted, {again} more by kwok, {created} created, {double} times a name was taken.",
            doomed.len()
        ));
        if extra != 0.0 {
            let by_cluster = self.requests.created_by_cluster(before);
            let odd = doomed.iter().filter_map(|(namespace, name)| {
                let created = by_cluster.get(&(namespace.as_str(), name.as_str())).map_or(&[][..], Vec::as_slice);
                (created.len() != 1).then(|| format!("{namespace}/{name}: {created:?}"))
            });
            self.notes.push(format!("Leader killed: not one pod created, but: {}.", odd.collect::<Vec<_>>().join("; ")));
        }
        self.count_shards("leader killed", false).await
    }

    async fn delete_first_shards(&self, clusters: &[Name]) -> Outcome {
        let at_once = DeleteParams::default().grace_period(0);
        let deleting = stream::iter(clusters).map(|(namespace, name)| {
            let at_once = &at_once;
            async move {
                let pods = Api::<Pod>::namespaced(self.site.client.clone(), namespace);
                pods.delete(&format!("{name}-0"), at_once).await.doing(name).map(drop)
            }
        });
        deleting.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Waits until there are exactly so many pods; returns when.
    async fn until_all(&mut self, pods: u32) -> Outcome<Timestamp> {
        let begun = Instant::now();
        loop {
            let found = self.shards().await?.values().map(Vec::len).sum::<usize>();
            if found == pods as usize {
                return Ok(Timestamp::now());
            }
            claim!(begun.elapsed() < self.options.patience(), "after {:?} there are {found} of {pods} pods", begun.elapsed());
            self.still_run()?;
            sleep(LOOK).await;
        }
    }

    /// The live pods of every McpCluster of the run, by the uid of their owner.
    async fn shards(&self) -> Outcome<BTreeMap<String, Vec<String>>> {
        let mut by_owner: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let api = Api::<Pod>::all(self.site.client.clone());
        let mut page = ListParams::default().labels("app.kubernetes.io/managed-by=mcp-operator").limit(PAGE);
        loop {
            let pods = api.list_metadata(&page).await?;
            for pod in pods.items.iter().filter(|pod| pod.meta().deletion_timestamp.is_none()) {
                let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
                let owner = owner.map(|owner| owner.uid.clone()).unwrap_or_default();
                by_owner.entry(owner).or_default().push(pod.name_any());
            }
            match pods.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => return Ok(by_owner),
            }
        }
    }

    /// Compares what is there with what should be, cluster by cluster.
    async fn count_shards(&mut self, when: &str, grown: bool) -> Outcome {
        let mut shards = self.shards().await?;
        let clusters = Api::<McpCluster>::all(self.site.client.clone()).list_metadata(&ListParams::default()).await?;
        let uids: BTreeMap<Name, String> = clusters
            .items
            .iter()
            .map(|one| ((one.namespace().unwrap_or_default(), one.name_any()), one.uid().unwrap_or_default()))
            .collect();
        let (mut missing, mut extra) = (0, 0);
        for planned in &self.plan {
            let there = uids.get(&planned.name).and_then(|uid| shards.remove(uid)).map_or(0, |shards| shards.len());
            let wanted = if grown { planned.grown } else { planned.shards } as usize;
            missing += wanted.saturating_sub(there);
            extra += there.saturating_sub(wanted);
        }
        // What is left belongs to no McpCluster of the run.
        extra += shards.values().map(Vec::len).sum::<usize>();
        self.figures.add(format!("{when}: shards too many"), "", count_of(extra), Some(Goal::Exactly(0.0)));
        self.figures.add(format!("{when}: shards lost"), "", count_of(missing), Some(Goal::Exactly(0.0)));
        Ok(())
    }

    /// The load of every McpCluster but the large one grows at once.
    async fn grow(&mut self) -> Outcome {
        // Two again, as it is installed.
        self.start_operator(2).await?;
        self.until_ready(self.options.pods_at_rest()).await?;
        self.unbound().await?;
        say("waiting for rest");
        self.until_quiet().await?;
        let more = self.options.pods_at_most() - self.options.pods_at_rest();
        say(&format!("load × {}: {more} pods are to come", self.options.factor));
        let jumped = Timestamp::now();
        self.set_load(self.options.factor);
        let ready = self.until_ready(self.options.pods_at_most()).await?;
        self.read_log()?;
        let created = self.requests.created(jumped);
        let figures = &mut self.figures;
        let name = format!("load × {}", self.options.factor);
        figures.add(
            format!("{name}: until the first pod is POSTed"),
            "s",
            since(jumped, created.first().copied()),
            Some(Goal::Below(10.0)),
        );
        figures.add(
            format!("{name}: until all pods are POSTed"),
            "s",
            since(jumped, created.last().copied()),
            Some(Goal::Below(90.0)),
        );
        figures.add(format!("{name}: until all shards are Ready"), "s", since(jumped, Some(ready)), None);
        figures.add(format!("{name}: pods POSTed"), "", count_of(created.len()), None);
        let leader = self.leader().await?;
        let (seen, taken) = (self.scrape(leader).await?, self.usages()?);
        let rounds = seen.histogram("mcp_operator_scrape_round_seconds")?;
        let Usage { rss, peak, .. } = taken[&leader];
        self.figures.add(format!("{name}: RSS of the leader"), "MiB", bytes_of(rss) / MIB, None);
        self.figures.add(format!("{name}: highest RSS of the leader"), "MiB", bytes_of(peak) / MIB, None);
        self.figures.add(format!("{name}: scrape round p99, since the start of the leader"), "s", rounds.quantile(0.99), None);
        self.count_shards(&name, true).await
    }
}

/// The admin port of an operator.
fn port(number: usize) -> u16 {
    FIRST_PORT + u16::try_from(number).unwrap_or_default()
}

/// Seconds from one moment to another.
fn since(from: Timestamp, to: Option<Timestamp>) -> Option<f64> {
    to.map(|to| to.duration_since(from).as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "counts of pods and requests are small")]
fn count_of(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^53")]
fn bytes_of(bytes: u64) -> f64 {
    bytes as f64
}
