//! One server process: binds its ports, starts its tasks, and ends as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::auth::Anonymous;
use crate::backend::Clients;
use crate::config::{Config, Source};
use crate::control::Control;
use crate::drain::Phase;
use crate::error::Error;
use crate::hub::Pace;
use crate::library::Code;
use crate::listener::Returns;
use crate::load::Load;
use crate::manifest::Manifest;
use crate::memory::Group;
use crate::metrics::Metrics;
use crate::peers::{self, PeerMetrics, Peers};
use crate::serving::{Environment, Serving};
use crate::session::{Sessions, generated_ring, random};
use crate::shard::{Parts, Shard};
use crate::staging::Staging;
use crate::tasks::Tasks;
use crate::telemetry::LogLevel;
use crate::watch::Watcher;
use crate::{admin, guard, listener, ports};

/// How often an ending process looks whether it may go.
const LOOK: Duration = Duration::from_millis(50);
/// How long connections may take to go once all is over: those whose request is on its way, those whose answer is. Less than
/// what a pod is given beyond `drain.timeout` before it is killed.
const LAST_BYTES: Duration = Duration::from_secs(5);
/// The same for a process that was told to end at once.
const LAST_BYTES_AT_ONCE: Duration = Duration::from_secs(1);
/// A drain without values of its own, before a configuration is loaded.
const DRAIN: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(5));

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Drain, then end. With `--manifest` a second one ends at once. In a pod it changes nothing: a kubelet that was restarted
    /// sends its signal again, and has SIGKILL when it means it.
    Drain,
    /// End at once.
    Now,
}

/// A server whose ports are bound.
#[derive(Debug)]
pub struct Server {
    config: Config,
    shard: Arc<Shard>,
    staging: Arc<Staging>,
    clients: Arc<Clients>,
    group: Option<Group>,
    data: TcpListener,
    admin: TcpListener,
    control: Option<TcpListener>,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Clients.
    pub data: SocketAddr,
    /// `/livez /readyz /metrics`
    pub admin: SocketAddr,
    /// `/load /drain`
    pub control: Option<SocketAddr>,
}

/// Binds and runs a server until it has ended.
///
/// # Errors
/// Why it does not start.
pub async fn run(
    config: Config,
    manifest: Option<Manifest>,
    log: LogLevel,
    code: Code,
    endings: mpsc::Receiver<Ending>,
) -> Result<(), Error> {
    Server::bind_with(config, manifest, log, code).await?.run(endings).await;
    Ok(())
}

impl Server {
    /// Binds the ports and builds what needs no folder. `manifest` is what the file of [`Source::Manifest`] says.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn bind(config: Config, manifest: Option<Manifest>, log: LogLevel) -> Result<Self, Error> {
        Self::bind_with(config, manifest, log, Code::default()).await
    }

    /// The same, with what a program adds to every catalog.
    ///
    /// # Errors
    /// Why it does not start.
    pub async fn bind_with(config: Config, manifest: Option<Manifest>, log: LogLevel, code: Code) -> Result<Self, Error> {
        let bind =
            |port, address| async move { listener::bind(address).await.map_err(|source| Error::Bind { port, address, source }) };
        let data = bind("data", config.listen).await?;
        let admin = bind("admin", config.admin_listen).await?;
        let control = match config.control_listen {
            Some(address) => Some(bind("control", address).await?),
            None => None,
        };
        let mut registry = Registry::default();
        let group = Group::own().unwrap_or_else(|error| {
            warn!(%error, "cannot find the control group of this process: its memory is not guarded");
            None
        });
        let environment = Environment {
            open_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft),
            memory_limit: group.as_ref().and_then(|group| group.read().ok()?.limit).unwrap_or(0),
            loopback_origins: config.loopback_origins(),
        };
        let load = Arc::new(Load::within(environment.memory_limit));
        let clients = Clients::from_environment().map_err(Error::Clients)?.within(load.budgets(), Arc::clone(load.room()));
        clients.register(&mut registry);
        // The keys of a shard come from its folder, before anything is served; until then these open and seal nothing.
        let ring = manifest.as_ref().and_then(|manifest| manifest.keys.clone()).unwrap_or_else(generated_ring);
        let incarnation = random();
        let sessions = Sessions::new(incarnation, ring).map_err(Error::Keys)?;
        let standalone = matches!(config.source, Source::Manifest { .. });
        let peer_metrics = PeerMetrics::default();
        peer_metrics.register(&mut registry);
        let shard = Arc::new(Shard::new(Parts {
            sessions,
            authenticator: code.authenticator.clone().unwrap_or_else(|| Arc::new(Anonymous)),
            load,
            metrics: Metrics::new(registry),
            environment,
            standalone,
            peers: Peers::new(config.shard.clone(), incarnation, standalone, peer_metrics),
            code,
            lag: config.endpoint_lag,
            log,
        }));
        shard.code.handle.attach(&shard);
        shard.tasks.attach(&shard);
        let (staging, clients) = (Arc::new(Staging::default()), Arc::new(clients));
        if let Some(reading) = group.as_ref().and_then(|group| group.read().ok()) {
            let limit = reading.limit.unwrap_or(0);
            shard.guard.update(guard::Reading { working_set: reading.used, limit, ..guard::Reading::default() });
        }
        if let Some(Manifest { config, credentials, .. }) = manifest {
            let serving = Serving::build(&config, "manifest", &environment, Arc::new(credentials), &clients, &shard.code);
            staging.stage(&shard, Arc::new(serving.map_err(Error::Catalog)?), Instant::now());
        }
        Ok(Self { config, shard, staging, clients, group, data, admin, control })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            data: self.data.local_addr()?,
            admin: self.admin.local_addr()?,
            control: self.control.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }

    /// The shard: for tests, and for applications that look inside.
    pub fn shard(&self) -> Arc<Shard> {
        Arc::clone(&self.shard)
    }

    /// Runs until it has ended.
    pub async fn run(self, endings: mpsc::Receiver<Ending>) {
        let Self { config, shard, staging, clients, group, data, admin, control } = self;
        let stop = CancellationToken::new();
        let _stopped = stop.clone().drop_guard();
        if let Ok(address) = data.local_addr() {
            info!(shard = config.shard, %address, version = env!("CARGO_PKG_VERSION"), "listening on {}", crate::http::ENDPOINT);
        }
        // Dropped, and so ended, with this function.
        let mut tasks = JoinSet::new();
        if let Source::Folders(folders) = config.source.clone() {
            let watcher = Watcher::new(Arc::clone(&shard), Arc::clone(&staging), folders, clients);
            tasks.spawn(watcher.run(stop.clone()));
        }
        let connections = TaskTracker::new();
        tasks.spawn(hold_streams(Arc::clone(&shard), connections.clone()));
        if let Some(group) = group {
            tasks.spawn(guard::watch(Arc::clone(&shard), group));
        }
        let accepting = tasks.spawn(listener::accept(data, Arc::clone(&shard), connections));
        tasks.spawn(ports::serve(admin, stop.clone(), {
            let shard = Arc::clone(&shard);
            move |request| {
                let response = admin::answer(&shard, &request);
                std::future::ready(response)
            }
        }));
        tasks.spawn(Tasks::watch(Arc::clone(&shard)));
        if !shard.standalone {
            tasks.spawn(Peers::run(Arc::clone(&shard), config.list_wait));
        }
        if let Some(control) = control {
            let (shard, staging, state) = (Arc::clone(&shard), Arc::clone(&staging), Arc::new(Control::default()));
            tasks.spawn(ports::serve(control, stop.clone(), move |mut request| {
                let response = if request.uri().path() == peers::PATH {
                    peers::accept(&shard, &mut request)
                } else {
                    state.answer(&shard, &staging, &request)
                };
                std::future::ready(response)
            }));
        }
        wait_for_the_end(&config, &shard, endings).await;
        if !shard.standalone {
            shard.tasks.leave().await;
        }
        shard.leave.cancel();
        // The data port is answered to the last connection, and the kubelet and the operator as long.
        let patience = if shard.drain.is_draining() { LAST_BYTES } else { LAST_BYTES_AT_ONCE };
        let deadline = Instant::now() + patience;
        while !accepting.is_finished() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        info!(connections = shard.load.connections(), "ended");
    }
}

/// Runs the hub, and hands it the drain and the end.
async fn hold_streams(shard: Arc<Shard>, connections: TaskTracker) {
    let mut phase = shard.drain.watch();
    let follow = async {
        loop {
            match *phase.borrow_and_update() {
                Phase::Serving => shard.hub.keep_all(),
                Phase::Draining(draining) => shard.hub.end_all(draining.streams_end),
            }
            if phase.changed().await.is_err() {
                return;
            }
        }
    };
    let pace = || match shard.serving() {
        Some(serving) => Pace { comments: serving.transport.keep_alive, lifetime: serving.limits.stream_age },
        None => Pace { comments: Duration::from_secs(25), lifetime: None },
    };
    let leave = async {
        shard.leave.cancelled().await;
        shard.hub.let_go();
    };
    let (returns, take_back) = Returns::new(&shard, connections);
    tokio::join!(shard.hub.run(pace, |returned| returns.take(returned)), follow, leave, take_back);
}

/// Returns when the process may end.
async fn wait_for_the_end(config: &Config, shard: &Shard, mut endings: mpsc::Receiver<Ending>) {
    let mut is_ending = false;
    loop {
        tokio::select! {
            Some(asked) = endings.recv() => match asked {
                Ending::Now => return,
                Ending::Drain if !is_ending => {
                    is_ending = true;
                    begin_the_end(config, shard);
                }
                Ending::Drain => match config.source {
                    Source::Manifest { .. } => return,
                    Source::Folders(_) => info!("told again to end: it is under way"),
                },
            },
            () = sleep(LOOK), if is_ending => {
                if let Some(draining) = shard.drain.phase().draining()
                    && draining.is_over(Instant::now(), shard.drain.lag(), shard.load.streams(), shard.load.unfinished())
                {
                    return;
                }
            }
            // Nobody is left who could ask for an end.
            else => std::future::pending().await,
        }
    }
}

fn begin_the_end(config: &Config, shard: &Shard) {
    let configured = shard.serving().map_or(DRAIN, |serving| {
        (Duration::from_millis(serving.drain.window_ms), Duration::from_millis(serving.drain.timeout_ms))
    });
    let window = config.drain_window.unwrap_or(configured.0);
    let timeout = config.drain_timeout.unwrap_or(configured.1);
    shard.drain.begin(window, timeout, true);
    info!(?window, ?timeout, streams = shard.load.streams(), "draining, then ending");
}
