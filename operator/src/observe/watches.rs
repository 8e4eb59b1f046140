//! The watches of one scope: McpClusters, their pods, and the metadata of everything else we own or a catalog refers to.
//!
//! # RBAC
//! get, list, watch on mcpclusters, pods, services, configmaps, serviceaccounts, poddisruptionbudgets, networkpolicies.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::channel::oneshot;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, reflector};
use kube::{Api, Client, Resource};
use mcp_crds::McpCluster;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::{KnownObject, KnownPod, Shelf, Shelved as _};
use crate::error::Error;
use crate::names;

/// Objects of a page of a list.
const PAGE: u32 = 100;

/// A reason to look at a cluster, or at several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// This one.
    Cluster(ObjectRef<McpCluster>),
    /// Those whose catalog refers to this ConfigMap.
    ConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// This one is gone; nothing is to be remembered of it.
    Gone {
        /// Its uid.
        uid: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Everything that is watched in one scope.
#[derive(Debug)]
pub struct Stores {
    /// McpClusters.
    pub clusters: Store<McpCluster>,
    /// Whether their first list is complete. The store's own signal reaches one waiter only: the others would wait for ever.
    clusters_listed: tokio::sync::watch::Sender<bool>,
    /// To each watch: list again, and say when that is complete.
    again: Mutex<Vec<UnboundedSender<oneshot::Sender<()>>>>,
    /// Pods of any cluster.
    pub pods: Shelf<KnownPod>,
    /// Metadata of the Services.
    pub services: Shelf<KnownObject>,
    /// Metadata of the ConfigMaps that are ours.
    pub config_maps: Shelf<KnownObject>,
    /// Metadata of the ServiceAccounts.
    pub accounts: Shelf<KnownObject>,
    /// Metadata of the disruption budgets.
    pub budgets: Shelf<KnownObject>,
    /// Metadata of the network policies.
    pub policies: Shelf<KnownObject>,
    /// Pods that went out of sight without being deleted, by namespace and name: somebody may have taken their labels.
    strays: Mutex<BTreeSet<(String, String)>>,
}

/// A kind of object we own and watch by its metadata.
pub trait Child: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Sized {
    /// Where its metadata are.
    fn shelf(stores: &Stores) -> &Shelf<KnownObject>;
}

impl Child for Service {
    fn shelf(stores: &Stores) -> &Shelf<KnownObject> {
        &stores.services
    }
}

impl Child for ConfigMap {
    fn shelf(stores: &Stores) -> &Shelf<KnownObject> {
        &stores.config_maps
    }
}

impl Child for ServiceAccount {
    fn shelf(stores: &Stores) -> &Shelf<KnownObject> {
        &stores.accounts
    }
}

impl Child for PodDisruptionBudget {
    fn shelf(stores: &Stores) -> &Shelf<KnownObject> {
        &stores.budgets
    }
}

impl Child for NetworkPolicy {
    fn shelf(stores: &Stores) -> &Shelf<KnownObject> {
        &stores.policies
    }
}

impl Stores {
    /// Waits until every first list is complete.
    pub async fn listed(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.clusters_listed.subscribe().wait_for(|listed| *listed).await;
        self.pods.listed().await;
        self.services.listed().await;
        self.config_maps.listed().await;
        self.accounts.listed().await;
        self.budgets.listed().await;
        self.policies.listed().await;
    }

    /// Lists everything once more, and waits until that is complete: then all that was written before is known.
    pub async fn list_again(&self) {
        let watches = self.again.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let complete = watches.iter().map(|watch| {
            let (complete, listed) = oneshot::channel();
            let _ = watch.unbounded_send(complete);
            listed
        });
        // A watch that ended has ended the process.
        futures::future::join_all(complete.collect::<Vec<_>>()).await;
    }

    fn asked_again(&self) -> UnboundedReceiver<oneshot::Sender<()>> {
        let (ask, asked) = unbounded();
        self.again.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
        asked
    }

    /// Takes in that a pod went out of sight without being deleted.
    pub fn stray(&self, namespace: &str, pod: &str) {
        let mut strays = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
        strays.insert((namespace.to_owned(), pod.to_owned()));
    }

    /// Hands out such pods of a namespace, once.
    pub fn take_strays(&self, namespace: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut strays = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = strays.iter().filter(|(of, pod)| of == namespace && wanted(pod)).cloned().collect();
        strays.retain(|stray| !taken.contains(stray));
        taken.into_iter().map(|(_, pod)| pod).collect()
    }
}

/// Starts the watches of one scope: a namespace, or all of them. They end with `tasks`.
pub fn watch(client: &Client, namespace: Option<&str>, wakes: &UnboundedSender<Wake>, tasks: &mut JoinSet<Error>) -> Arc<Stores> {
    let (clusters, writer) = reflector::store();
    let stores = Arc::new(Stores {
        clusters,
        clusters_listed: tokio::sync::watch::Sender::new(false),
        again: Mutex::default(),
        pods: Shelf::default(),
        services: Shelf::default(),
        config_maps: Shelf::default(),
        accounts: Shelf::default(),
        budgets: Shelf::default(),
        policies: Shelf::default(),
        strays: Mutex::default(),
    });
    tasks.spawn(watch_clusters(api(client, namespace), writer, stores.clone(), wakes.clone()));
    tasks.spawn(watch_pods(api(client, namespace), stores.clone(), wakes.clone()));
    tasks.spawn(watch_config_maps(api(client, namespace), stores.clone(), wakes.clone()));
    tasks.spawn(watch_children::<Service>(api(client, namespace), stores.clone(), wakes.clone()));
    tasks.spawn(watch_children::<ServiceAccount>(api(client, namespace), stores.clone(), wakes.clone()));
    tasks.spawn(watch_children::<PodDisruptionBudget>(api(client, namespace), stores.clone(), wakes.clone()));
    tasks.spawn(watch_children::<NetworkPolicy>(api(client, namespace), stores.clone(), wakes.clone()));
    stores
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// In short pages: a page is in memory as a whole, with all that is not kept of it.
fn all_of_them() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

/// Only what we made.
fn ours() -> watcher::Config {
    all_of_them().labels(&format!("{}={},{}", names::LABEL_MANAGED_BY, names::MANAGED_BY, names::LABEL_CLUSTER))
}

/// Follows a watch for as long as the process lives; a failed one is begun again with a back-off.
async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    mut again: UnboundedReceiver<oneshot::Sender<()>>,
    what: &'static str,
    mut on: impl FnMut(Event<K>),
) -> Error
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let begin = || watcher::watcher(api.clone(), config.clone()).default_backoff().boxed();
    let (mut events, mut waiting) = (begin(), None);
    let mut failures = 0_u32;
    loop {
        let event = tokio::select! {
            biased;
            Some(complete) = again.next() => {
                waiting = Some(complete);
                events = begin();
                continue;
            }
            event = events.try_next() => event,
        };
        match event {
            Ok(Some(event)) => {
                failures = 0;
                let complete = matches!(event, Event::InitDone);
                on(event);
                if let Some(waiting) = waiting.take_if(|_| complete) {
                    let _ = waiting.send(());
                }
            }
            Ok(None) => return Error::Ended(what),
            Err(error) => {
                // One line for a lost connection, louder when it stays: an unreachable API server must not flood the log.
                failures += 1;
                match failures {
                    1 => tracing::debug!(what, %error, "watch interrupted"),
                    2..=4 => tracing::info!(what, %error, failures, "watch interrupted"),
                    _ => tracing::warn!(what, %error, failures, "watch interrupted"),
                }
            }
        }
    }
}

/// A McpCluster wakes its pass when its generation, its annotations or its deletion changed: not by our own status patches.
async fn watch_clusters(
    api: Api<McpCluster>,
    mut writer: Writer<McpCluster>,
    stores: Arc<Stores>,
    wakes: UnboundedSender<Wake>,
) -> Error {
    let mut known: HashMap<String, (u64, String, String)> = HashMap::new();
    let mut listing: Option<Vec<String>> = None;
    follow(api, all_of_them(), stores.asked_again(), "the watch of McpClusters", |event| {
        let event = event.modify(|cluster| cluster.metadata.managed_fields = None);
        writer.apply_watcher_event(&event);
        match event {
            Event::Init => listing = Some(vec![]),
            Event::InitApply(cluster) | Event::Apply(cluster) => {
                let (uid, fingerprint) = (uid_of(&cluster.metadata), predicate(&cluster));
                if let Some(listed) = &mut listing {
                    listed.push(uid.clone());
                }
                let entry = (fingerprint, text(cluster.metadata.namespace.as_ref()), text(cluster.metadata.name.as_ref()));
                if known.insert(uid, entry).map(|before| before.0) != Some(fingerprint) {
                    send(&wakes, Wake::Cluster(ObjectRef::from_obj(&cluster)));
                }
            }
            Event::Delete(cluster) => {
                if let Some((_, namespace, name)) = known.remove(&uid_of(&cluster.metadata)) {
                    send(&wakes, Wake::Gone { uid: uid_of(&cluster.metadata), namespace, name });
                }
            }
            Event::InitDone => {
                stores.clusters_listed.send_replace(true);
                let listed = listing.take().unwrap_or_default();
                known.retain(|uid, (_, namespace, name)| {
                    let here = listed.contains(uid);
                    if !here {
                        send(&wakes, Wake::Gone { uid: uid.clone(), namespace: namespace.clone(), name: name.clone() });
                    }
                    here
                });
            }
        }
    })
    .await
}

async fn watch_pods(api: Api<Pod>, stores: Arc<Stores>, wakes: UnboundedSender<Wake>) -> Error {
    follow(api, ours(), stores.asked_again(), "the watch of pods", |event| {
        for (pod, gone) in stores.pods.learn(known(event)) {
            if gone && !pod.is_terminating() {
                stores.stray(pod.namespace(), pod.name());
            }
            let controller = pod.owners().iter().find(|owner| owner.controller == Some(true));
            let controller = controller.map(|owner| (&*owner.kind, &*owner.name));
            let label = pod.labels().get(names::LABEL_CLUSTER).map(String::as_str);
            wake_owner(controller, label, pod.namespace(), &wakes);
        }
    })
    .await
}

async fn watch_children<K>(api: Api<PartialObjectMeta<K>>, stores: Arc<Stores>, wakes: UnboundedSender<Wake>) -> Error
where
    K: Child + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    follow(api, ours(), stores.asked_again(), "a watch of owned objects", |event| {
        for (object, _) in K::shelf(&stores).learn(known(event)) {
            wake_owner_of(&object, &wakes);
        }
    })
    .await
}

/// All ConfigMaps by their metadata: ours are kept, and any other may be one that a catalog refers to.
async fn watch_config_maps(api: Api<PartialObjectMeta<ConfigMap>>, stores: Arc<Stores>, wakes: UnboundedSender<Wake>) -> Error {
    follow(api, all_of_them(), stores.asked_again(), "the watch of ConfigMaps", |event| {
        let mut theirs = None;
        let event = match event {
            Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) if !is_ours(&object.metadata) => {
                theirs = Some(object);
                None
            }
            event => Some(event),
        };
        if let Some(object) = theirs {
            let (namespace, name) = (text(object.metadata.namespace.as_ref()), text(object.metadata.name.as_ref()));
            // One of ours whose labels somebody took is seen no longer, as with every other kind.
            if stores.config_maps.get(&namespace, &name).is_some() {
                let object = KnownObject::from(object);
                stores.config_maps.removed(&object);
                wake_owner_of(&object, &wakes);
            }
            send(&wakes, Wake::ConfigMap { namespace, name });
        }
        for (object, _) in event.map(|event| stores.config_maps.learn(known(event))).unwrap_or_default() {
            wake_owner_of(&object, &wakes);
        }
    })
    .await
}

fn is_ours(metadata: &ObjectMeta) -> bool {
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    label(names::LABEL_MANAGED_BY).is_some_and(|by| by == names::MANAGED_BY) && label(names::LABEL_CLUSTER).is_some()
}

/// What a pass depends on.
fn predicate(cluster: &McpCluster) -> u64 {
    let mut hasher = DefaultHasher::new();
    cluster.metadata.generation.hash(&mut hasher);
    cluster.metadata.annotations.hash(&mut hasher);
    cluster.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    hasher.finish()
}

/// Wakes the cluster that controls an object, by the kind and name of its controller; of an object that lost its owner, the
/// cluster that its label names.
fn wake_owner(controller: Option<(&str, &str)>, label: Option<&str>, namespace: &str, wakes: &UnboundedSender<Wake>) {
    let name = match controller {
        Some((kind, name)) => Some(name).filter(|_| kind == McpCluster::kind(&())),
        None => label,
    };
    if let Some(name) = name {
        send(wakes, Wake::Cluster(ObjectRef::new(name).within(namespace)));
    }
}

fn wake_owner_of(object: &KnownObject, wakes: &UnboundedSender<Wake>) {
    let controller = object.controller().map(|controller| (&*controller.kind, &*controller.name));
    wake_owner(controller, object.cluster(), object.namespace(), wakes);
}

/// The receiver lives as long as the watches; when it is gone, so is the process.
fn send(wakes: &UnboundedSender<Wake>, wake: Wake) {
    let _ = wakes.unbounded_send(wake);
}

fn uid_of(metadata: &ObjectMeta) -> String {
    text(metadata.uid.as_ref())
}

fn text(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

/// Of an object only what a pass reads.
fn known<K, L: From<K>>(event: Event<K>) -> Event<L> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(object.into()),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(object.into()),
        Event::Delete(object) => Event::Delete(object.into()),
    }
}
