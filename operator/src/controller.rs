//! Keeps the passes coming: watches wake them, scrapes wake them, failures bring them back; until a signal says stop.
//!
//! Watches run from the start, passes and scrapes only while this process leads.

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use kube::Client;
use kube::runtime::controller::{self, ReconcileRequest, applier};
use kube::runtime::reflector::ObjectRef;
use mcp_crds::McpCluster;
use ring::rand::SystemRandom;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Health};
use crate::budget::Budget;
use crate::client;
use crate::config::{Config, Scope};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::leader::{Candidate, Fence, Gate};
use crate::memory::Memories;
use crate::metrics::Metrics;
use crate::observe::{Scraper, Stores, Wake, watch};
use crate::reconcile::{Context, reconcile, retry};
use crate::shards::Shards;

/// While something is waited for, the admin port is told this often that nothing hangs.
const BEAT: Duration = Duration::from_secs(10);
/// Passes under way at one time, in one scope.
const CONCURRENCY: u16 = 16;
/// For passes under way when the process is told to stop.
const FAREWELL: Duration = Duration::from_secs(15);

/// To give the lease back.
const HANDOVER: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the API server cannot be configured, the admin port cannot be opened, a loop ended that must not, or the lease was lost.
pub async fn run(config: Config) -> Result<()> {
    // kube and its TLS find the provider by themselves, unless two are linked in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Arc::new(config);
    let stop = CancellationToken::new();
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
    let listener = admin::listen(config.listen).await?;
    let (gate, fence) = Gate::new();
    let fence = if config.lease.is_some() { fence } else { Fence::none() };
    let client = client::connect(&config, &fence).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        scope = ?config.scope,
        lease = config.lease,
        listen = %config.listen,
        server_image = %config.server_image,
        "started"
    );

    let mut tasks = JoinSet::new();
    let admin = admin::serve(listener, health.clone(), metrics.clone(), stop.clone());
    tasks.spawn(async move { admin.await.err().unwrap_or(Error::Ended("the admin port")) });
    let scopes = match &config.scope {
        Scope::Cluster => vec![None],
        Scope::Namespaces(names) => names.iter().map(|name| Some(name.clone())).collect(),
    };
    let shared =
        Shared { config: config.clone(), client, fence: fence.clone(), metrics: metrics.clone(), budget: Arc::default() };
    let mut passes = JoinSet::new();
    let (mut stores, turn) = (vec![], Turn::default());
    for namespace in scopes {
        let realm = Realm::start(&shared, namespace.as_deref(), &mut tasks);
        stores.push(realm.context.stores.clone());
        tasks.spawn(scrape(realm.context.clone(), realm.wakes, health.clone(), turn.clone()));
        passes.spawn(pass_over(realm.context, realm.woken, turn.clone(), stop.clone()));
    }
    let retire = CancellationToken::new();
    let mut election = std::pin::pin!(elect(&config, gate, health.clone(), metrics, stores.clone(), retire.clone()));
    tasks.spawn(take_over(stores, fence, health, turn));

    let ended = tokio::select! {
        () = told_to_stop() => Ok(()),
        Some(ended) = tasks.join_next() => Err(ended.unwrap_or(Error::Ended("a task"))),
        Some(_) = passes.join_next() => Err(Error::Ended("the passes")),
        // Another leads, or may lead: nothing is left to do well.
        lost = &mut election => return lost.and(Err(Error::Ended("the election"))),
    };
    stop.cancel();
    // The lease is renewed until the passes under way are done, and given back after that.
    let farewell = async { while passes.join_next().await.is_some() {} };
    tokio::select! {
        done = tokio::time::timeout(FAREWELL, farewell) => if done.is_err() {
            tracing::warn!("passes were cut short: the next process repeats them");
        },
        lost = &mut election => return lost.and(ended),
    }
    passes.shutdown().await;
    tasks.shutdown().await;
    retire.cancel();
    match tokio::time::timeout(HANDOVER, election).await {
        Ok(retired) => ended.and(retired),
        Err(_) => ended,
    }
}

/// Stands for election as soon as this process could lead, until it retires or loses.
async fn elect(
    config: &Config,
    gate: Gate,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stores: Vec<Arc<Stores>>,
    retire: CancellationToken,
) -> Result<()> {
    let Some(lease) = &config.lease else {
        metrics.leader.set(1);
        health.set_candidate();
        retire.cancelled().await;
        return Ok(());
    };
    let client = client::connect_for_lease(config).await?;
    let candidate = Candidate::new(client, (&config.operator_namespace, lease), &config.identity, gate, health.clone(), metrics)?;
    for store in stores {
        if retire.run_until_cancelled(while_beating(&health, store.listed())).await.is_none() {
            return Ok(());
        }
    }
    candidate.run(retire).await
}

/// Starts the work when it is this process's turn. What the leader before it wrote last may not have come by the watches yet,
/// and a watch may have been interrupted for a while: everything is listed once more first.
async fn take_over(stores: Vec<Arc<Stores>>, fence: Fence, health: Arc<Health>, turn: Turn) -> Error {
    for store in &stores {
        while_beating(&health, store.listed()).await;
    }
    tracing::info!("the first lists are complete");
    health.set_synced();
    fence.opened().await;
    for store in &stores {
        while_beating(&health, store.list_again()).await;
    }
    tracing::info!("taking over");
    turn.begin();
    std::future::pending().await
}

/// Waits for something that the API server may delay for as long as it is away, which is no hang of ours.
async fn while_beating<T>(health: &Health, wait: impl Future<Output = T>) -> T {
    let mut wait = std::pin::pin!(wait);
    loop {
        match tokio::time::timeout(BEAT, &mut wait).await {
            Ok(done) => return done,
            Err(_) => health.beat(),
        }
    }
}

/// Whether it is this process's turn to work. It never ends but with the process.
#[derive(Clone, Debug)]
struct Turn(Arc<tokio::sync::watch::Sender<bool>>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(tokio::sync::watch::Sender::new(false)))
    }
}

impl Turn {
    fn begin(&self) {
        self.0.send_replace(true);
    }

    async fn begun(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

/// What all scopes share.
struct Shared {
    config: Arc<Config>,
    client: Client,
    fence: Fence,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
}

/// One scope: a namespace, or all.
struct Realm {
    context: Arc<Context>,
    wakes: UnboundedSender<Wake>,
    woken: UnboundedReceiver<Wake>,
}

impl Realm {
    fn start(shared: &Shared, namespace: Option<&str>, tasks: &mut JoinSet<Error>) -> Self {
        let Shared { config, client, fence, metrics, budget } = shared;
        let (wakes, woken) = unbounded();
        let stores = watch(client, namespace, &wakes, tasks);
        let context = Arc::new(Context {
            config: config.clone(),
            client: client.clone(),
            stores,
            memories: Memories::default(),
            metrics: metrics.clone(),
            budget: budget.clone(),
            events: Events::new(client.clone(), &config.identity),
            shards: Shards::behind(fence.clone()),
            random: SystemRandom::new(),
        });
        Self { context, wakes, woken }
    }
}

/// Passes over whichever cluster is woken, each cluster one at a time, until told to stop; then finishes those under way.
async fn pass_over(context: Arc<Context>, mut woken: UnboundedReceiver<Wake>, turn: Turn, stop: CancellationToken) {
    // Before our turn wakes lead to nothing; kept, they would fill the memory of a process that waits for weeks.
    let mut begun = std::pin::pin!(turn.begun());
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = &mut begun => break,
            wake = woken.next() => if wake.is_none() { return },
        }
    }
    let (store, waking) = (context.stores.clusters.clone(), context.clone());
    let all: Vec<_> = store.state().iter().map(|cluster| Wake::Cluster(ObjectRef::from_obj(&**cluster))).collect();
    let queue = futures::stream::iter(all)
        .chain(woken)
        .flat_map(move |wake| futures::stream::iter(requests(&waking, wake)))
        .take_until(stop.cancelled_owned())
        .map(Ok::<_, std::convert::Infallible>);
    let config = controller::Config::default().concurrency(CONCURRENCY);
    applier(|cluster, context| reconcile(cluster, context).boxed(), retry, context, store, queue, config)
        .for_each(|done| async move {
            match done {
                Ok((cluster, _)) => tracing::trace!(%cluster, "passed"),
                // It was deleted in between; failures of passes are told by `retry`.
                Err(error) => tracing::debug!(%error, "pass not completed"),
            }
        })
        .await;
}

/// The passes that something asks for.
fn requests(context: &Context, wake: Wake) -> Vec<ReconcileRequest<McpCluster>> {
    match wake {
        Wake::Cluster(cluster) => context.stores.clusters.get(&cluster).map(|_| cluster.into()).into_iter().collect(),
        Wake::ConfigMap { namespace, name } => context
            .stores
            .clusters
            .state()
            .iter()
            .filter(|cluster| cluster.metadata.namespace.as_deref() == Some(namespace.as_str()))
            .filter(|cluster| {
                context.remember(cluster, |memory| {
                    let refers = memory.catalog.refers.contains(&name);
                    memory.catalog.stale |= refers;
                    refers
                })
            })
            .map(|cluster| ObjectRef::from_obj(&**cluster).into())
            .collect(),
        Wake::Gone { uid, namespace, name } => {
            context.memories.forget(&uid);
            context.metrics.forget(&namespace, &name);
            vec![]
        }
    }
}

/// Asks every shard for its load again and again, and wakes the clusters for which something follows from the answers.
async fn scrape(context: Arc<Context>, wakes: UnboundedSender<Wake>, health: Arc<Health>, turn: Turn) -> Error {
    turn.begun().await;
    let scraper = Scraper::new(context.shards.clone(), context.metrics.clone());
    let mut ticks = interval(context.config.scrape_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let clusters = context.stores.clusters.state();
        let flipping = round(&context, &scraper, &clusters, &wakes).await;
        if !flipping.is_empty() {
            // All have loaded the new configuration: tell them now, not at the next tick.
            round(&context, &scraper, &flipping, &wakes).await;
        }
        health.beat();
    }
}

async fn round(
    context: &Context,
    scraper: &Scraper,
    clusters: &[Arc<McpCluster>],
    wakes: &UnboundedSender<Wake>,
) -> Vec<Arc<McpCluster>> {
    let answers = scraper.round(context.targets(clusters, Timestamp::now())).await;
    let (woken, flipping) = context.hear(clusters, answers, Timestamp::now());
    for cluster in woken {
        let _ = wakes.unbounded_send(Wake::Cluster(ObjectRef::from_obj(&*cluster)));
    }
    flipping
}

/// Waits for SIGTERM or SIGINT.
async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("signals cannot be waited for");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
    }
}
