//! The HTTP client of a shard: one pool of connections for all catalogs it ever serves, and what it refuses to connect to.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mcp_crds::catalog::address;
use prometheus_client::registry::Registry;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use tokio::sync::Semaphore;

use super::budget::Budget;
use super::gate::Gate;
use super::metrics::Metrics;
use crate::limits::Budgets;
use crate::room::Room;

/// Time to a connection, TLS included; the rest of a call's time is for its answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept for each host.
const MAX_IDLE_PER_HOST: usize = 32;
/// How long an idle connection is kept: below the 60 s of common load balancers, so that a request rarely meets a closed one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// The most fields in the head of an answer.
const MAX_RESPONSE_HEADERS: usize = 128;

/// Names looked up at one time. A lookup holds a thread and cannot be called off: without a bound, a dead DNS server would
/// collect hundreds of them.
const MAX_LOOKUPS: usize = 16;

/// What calls share, across generations of the catalog: connections, bounds and metrics.
#[derive(Debug)]
pub struct Clients {
    http: reqwest::Client,
    metrics: Metrics,
    gates: Mutex<HashMap<String, Weak<Gate>>>,
    answers: Arc<Budget>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client of the backends cannot be set up")]
pub struct InvalidRoots(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Looks a name up.
type Lookup = dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync;

/// A resolver that hides forbidden addresses, whatever the name was.
struct Guard {
    lookup: Arc<Lookup>,
}

/// All addresses of a name are forbidden.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to {why}")]
pub(super) struct Forbidden {
    name: String,
    why: &'static str,
}

impl Clients {
    /// A client that trusts the certificate authorities of the machine: the bundle `SSL_CERT_FILE` names (or the folders
    /// in `SSL_CERT_DIR`), else the usual places such as `/etc/ssl/certs/ca-certificates.crt`. Without any, `http:` works
    /// and every `https:` call fails with an error that says so.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn from_environment() -> Result<Self, InvalidRoots> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a certificate authority was not read");
        }
        if found.certs.is_empty() {
            tracing::warn!("no certificate authorities were found: set SSL_CERT_FILE, or calls to https backends will fail");
        }
        Self::new(found.certs)
    }

    /// A client that trusts these certificate authorities and no others.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, InvalidRoots> {
        let lookups = Arc::new(Semaphore::new(MAX_LOOKUPS));
        Self::with_lookup(roots, Arc::new(move |name| Box::pin(system_lookup(lookups.clone(), name))))
    }

    pub(super) fn with_lookup(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
        lookup: Arc<Lookup>,
    ) -> Result<Self, InvalidRoots> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(roots).map_err(|error| InvalidRoots(error.into()))?)
            .dns_resolver(Guard { lookup })
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("mcp-server/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_max_headers(MAX_RESPONSE_HEADERS)
            .build()
            .map_err(|error| InvalidRoots(error.into()))?;
        Ok(Self {
            http,
            metrics: Metrics::default(),
            gates: Mutex::default(),
            answers: Budget::of(Budgets::default().backends, Arc::default()),
        })
    }

    /// The same in a process with such budgets and such a room: of answers it holds no more than its part.
    #[must_use]
    pub fn within(self, budgets: Budgets, room: Arc<Room>) -> Self {
        Self { answers: Budget::of(budgets.backends, room), ..self }
    }

    /// Mounts the metrics of all backends; once for each registry.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Bytes of answers that may be held.
    pub(super) fn answers(&self) -> &Arc<Budget> {
        &self.answers
    }

    /// The gate of a tool: its label in metrics is no name of a backend, which has no colon.
    pub(crate) fn tool_gate(&self, tool: &str, limit: u32) -> Arc<Gate> {
        self.gate(&format!("tool:{tool}"), limit)
    }

    /// The gate of a backend: the one in use when its limit is unchanged, so that a new catalog does not double it.
    pub(super) fn gate(&self, label: &str, limit: u32) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| gate.strong_count() > 0);
        let same = |gate: &Arc<Gate>| u32::try_from(gate.limit()).is_ok_and(|current| current == limit.max(1));
        if let Some(gate) = gates.get(label).and_then(Weak::upgrade).filter(same) {
            return gate;
        }
        let gate = Arc::new(Gate::new(limit, self.metrics.backend(label)));
        gates.insert(label.to_owned(), Arc::downgrade(&gate));
        gate
    }
}

fn tls(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut store = RootCertStore::empty();
    // A bundle may hold certificates this library does not read; the others still count.
    store.add_parsable_certificates(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn system_lookup(lookups: Arc<Semaphore>, name: String) -> io::Result<Vec<IpAddr>> {
    let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
    let lookup = move || {
        let found = (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect());
        drop(permit);
        found
    };
    tokio::task::spawn_blocking(lookup).await?
}

// === impl Guard ===

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let found = (self.lookup)(name.clone());
        Box::pin(async move {
            let found = found.await?;
            let allowed: Vec<_> = found.iter().filter(|address| address::forbidden(**address).is_none()).collect();
            match found.iter().find_map(|address| address::forbidden(*address)) {
                Some(why) if allowed.is_empty() => Err(Forbidden { name, why }.into()),
                Some(_) | None => {
                    let addresses: Vec<_> = allowed.into_iter().map(|address| SocketAddr::new(*address, 0)).collect();
                    Ok(Box::new(addresses.into_iter()) as Addrs)
                }
            }
        })
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(addresses: &[&str]) -> Result<Vec<IpAddr>, String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let guard = Guard {
            lookup: Arc::new(move |_| {
                let addresses = addresses.clone();
                Box::pin(async move { Ok(addresses) })
            }),
        };
        let found = guard.resolve("api.test".parse().unwrap()).await.map_err(|error| error.to_string())?;
        Ok(found.map(|address| address.ip()).collect())
    }

    #[tokio::test]
    async fn forbidden_addresses_are_hidden_after_resolution() {
        for address in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "0.0.0.0", "::", "224.0.0.1"] {
            let error = resolve(&[address]).await.unwrap_err();
            assert!(error.contains("api.test resolves to"), "{address}: {error}");
        }
        let mixed = resolve(&["169.254.169.254", "127.0.0.1", "::1"]).await.unwrap();
        assert_eq!(mixed, ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_reloaded_catalog_shares_the_bound_of_a_backend() {
        let clients = Clients::new([]).unwrap();
        let first = clients.gate("tickets", 4);
        assert!(Arc::ptr_eq(&first, &clients.gate("tickets", 4)));
        assert!(!Arc::ptr_eq(&first, &clients.gate("tickets", 5)), "a changed limit is a new gate");
        assert!(!Arc::ptr_eq(&first, &clients.gate("other", 4)));
    }
}
