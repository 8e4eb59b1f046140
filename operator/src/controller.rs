//! Keeps the passes coming: watches wake them, scrapes wake them, failures bring them back; until a signal says stop.

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
use crate::memory::Memories;
use crate::metrics::Metrics;
use crate::observe::{Scraper, Wake, watch};
use crate::reconcile::{Context, reconcile, retry};
use crate::shards::Shards;

/// Passes under way at one time, in one scope.
const CONCURRENCY: u16 = 16;
/// For passes under way when the process is told to stop.
const FAREWELL: Duration = Duration::from_secs(15);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the API server cannot be configured, the admin port cannot be opened, or a loop ended that must not.
pub async fn run(config: Config) -> Result<()> {
    // kube and its TLS find the provider by themselves, unless two are linked in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Arc::new(config);
    let stop = CancellationToken::new();
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
    let listener = admin::listen(config.listen).await?;
    let client = client::connect(&config).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        scope = ?config.scope,
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
    let budget = Arc::new(Budget::default());
    let mut passes = JoinSet::new();
    let mut stores = vec![];
    for namespace in scopes {
        let realm = Realm::start(&config, &client, &metrics, &budget, namespace.as_deref(), &mut tasks);
        stores.push(realm.context.stores.clone());
        tasks.spawn(scrape(realm.context.clone(), realm.wakes, health.clone()));
        passes.spawn(pass_over(realm.context, realm.woken, stop.clone()));
    }
    let synced = health.clone();
    tasks.spawn(async move {
        for store in stores {
            store.listed().await;
        }
        tracing::info!("the first lists are complete");
        synced.set_synced();
        std::future::pending().await
    });

    let ended = tokio::select! {
        () = told_to_stop() => Ok(()),
        Some(ended) = tasks.join_next() => Err(ended.unwrap_or(Error::Ended("a task"))),
        Some(_) = passes.join_next() => Err(Error::Ended("the passes")),
    };
    stop.cancel();
    let farewell = async { while passes.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("passes were cut short: the next process repeats them");
    }
    ended
}

/// One scope: a namespace, or all.
struct Realm {
    context: Arc<Context>,
    wakes: UnboundedSender<Wake>,
    woken: UnboundedReceiver<Wake>,
}

impl Realm {
    fn start(
        config: &Arc<Config>,
        client: &Client,
        metrics: &Arc<Metrics>,
        budget: &Arc<Budget>,
        namespace: Option<&str>,
        tasks: &mut JoinSet<Error>,
    ) -> Self {
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
            shards: Shards::default(),
            random: SystemRandom::new(),
        });
        Self { context, wakes, woken }
    }
}

/// Passes over whichever cluster is woken, each cluster one at a time, until told to stop; then finishes those under way.
async fn pass_over(context: Arc<Context>, woken: UnboundedReceiver<Wake>, stop: CancellationToken) {
    // Before every list is complete, what is missing cannot be told from what is not known.
    tokio::select! {
        () = context.stores.listed() => {}
        () = stop.cancelled() => return,
    }
    let (store, waking) = (context.stores.clusters.clone(), context.clone());
    let queue = woken
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
async fn scrape(context: Arc<Context>, wakes: UnboundedSender<Wake>, health: Arc<Health>) -> Error {
    context.stores.listed().await;
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
