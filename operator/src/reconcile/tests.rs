mod keys;
mod sheds;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use mcp_crds::shard;
use serde_json::{Value, json};

use super::*;
use crate::fake_api::{Asked, FakeApi, Refusal};

/// A cluster of two shards whose catalog names a ConfigMap and a Secret.
const SPEC: &str = r"
replicas: 2
resources: {limits: {memory: 512Mi}}
catalog:
  backends: [{name: api, url: 'https://api.example.com', authorization: {bearer: {secretKeyRef: {name: api, key: token}}}}]
  tools: [{name: call, http: {backend: api, url: /x}}]
  sources: [{name: extra, configMapKeyRef: {name: extra, key: catalog.yaml}}]
";

struct World {
    api: FakeApi,
    context: Arc<Context>,
    cluster: Arc<McpCluster>,
}

impl World {
    async fn new(spec: &str) -> Self {
        Self::refusing(spec, |_| None).await
    }

    async fn refusing(spec: &str, refuses: Refusal) -> Self {
        Self::on(spec, FakeApi::refusing(refuses)).await
    }

    async fn on(spec: &str, api: FakeApi) -> Self {
        let cluster = Arc::new(desired::samples::cluster("tools", spec));
        let config_map = json!({"metadata": {"name": "extra"}, "data": {"catalog.yaml": "tools: [{name: two, static: {content: [{text: Two}]}}]"}});
        let secret = json!({"metadata": {"name": "api"}, "data": {"token": "czNjcmV0"}});
        let api = api
            .with("configmaps/extra", config_map)
            .with("secrets/api", secret)
            .with("mcpclusters/tools/status", serde_json::to_value(&*cluster).unwrap());
        let (client, stores) = api.client().await;
        let context = Arc::new(Context {
            config: Arc::new(Config {
                scope: crate::config::Scope::Cluster,
                server_image: "mcp-server:1".into(),
                scrape_interval: Duration::from_secs(5),
                listen: "127.0.0.1:0".parse().unwrap(),
                json_logs: false,
                log_filter: String::new(),
                kubeconfig: None,
                operator_namespace: "mcp-system".into(),
                lease: None,
                cluster_domain: "cluster.local".into(),
                reads_nodes: false,
                identity: "test".into(),
            }),
            budget: Arc::default(),
            events: Events::new(client.clone(), "test"),
            client,
            stores,
            memories: Memories::default(),
            metrics: Arc::default(),
            shards: Shards::default(),
            random: SystemRandom::new(),
        });
        Self { api, context, cluster }
    }

    async fn pass(&self) -> Vec<String> {
        reconcile(self.cluster.clone(), self.context.clone()).await.unwrap();
        let writes = self.api.take_writes();
        writes.iter().map(Asked::line).filter(|line| !line.contains("events/")).collect()
    }

    fn change(&mut self, change: impl FnOnce(&mut McpCluster)) {
        let mut cluster = (*self.cluster).clone();
        change(&mut cluster);
        cluster.metadata.generation = cluster.metadata.generation.map(|generation| generation + 1);
        self.cluster = Arc::new(cluster);
    }

    fn condition(&self, kind: &str) -> String {
        let status = self.api.object("mcpclusters/tools/status").unwrap();
        let conditions = status["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let one = conditions.iter().find(|condition| condition["type"] == kind).cloned().unwrap_or(Value::Null);
        format!("{} {}", one["status"].as_str().unwrap_or_default(), one["reason"].as_str().unwrap_or_default())
    }
}

#[tokio::test]
async fn a_first_pass_makes_everything_in_the_order_pods_need_and_a_second_writes_nothing() {
    let world = World::new(SPEC).await;
    let mut writes = world.pass().await;
    let pods = writes.iter().position(|line| line.contains("pods/")).unwrap();
    assert_eq!(
        writes[..pods],
        [
            "POST secrets/tools-keys",
            "PATCH secrets/tools-credentials",
            "PATCH serviceaccounts/tools-shard",
            "PATCH services/tools-shards",
            "PATCH services/tools-members",
            "PATCH services/tools",
            "PATCH poddisruptionbudgets/tools",
            "PATCH configmaps/tools-config",
        ]
    );
    // Side by side, so in any order.
    writes[pods..pods + 2].sort();
    assert_eq!(writes[pods..], ["POST pods/tools-0", "POST pods/tools-1", "PATCH mcpclusters/tools/status"]);
    // The pods are there now: status says that they start.
    assert_eq!(world.pass().await, ["PATCH mcpclusters/tools/status"]);
    assert_eq!(world.pass().await, [""; 0]);
}

/// A load that jumps is waited for: one pod after another would be as many round trips.
#[tokio::test]
async fn the_pods_of_a_pass_are_created_side_by_side() {
    let api = FakeApi::new().meeting("POST pods/", 5);
    let world = World::on("replicas: 5\nresources: {limits: {memory: 512Mi}}", api).await;
    let writes = world.pass().await;
    let created: BTreeSet<_> = writes.iter().filter(|line| line.starts_with("POST pods/")).cloned().collect();
    assert_eq!(created, (0..5).map(|index| format!("POST pods/tools-{index}")).collect());
    assert_eq!(writes.last().map(String::as_str), Some("PATCH mcpclusters/tools/status"));
}

#[tokio::test]
async fn a_new_process_finds_everything_as_it_should_be() {
    let world = World::new(SPEC).await;
    world.pass().await;
    world.pass().await;
    let mut stored = (*world.cluster).clone();
    stored.status = serde_json::from_value(world.api.object("mcpclusters/tools/status").unwrap()["status"].clone()).unwrap();
    let context = Context {
        config: world.context.config.clone(),
        client: world.context.client.clone(),
        stores: world.context.stores.clone(),
        memories: Memories::default(),
        metrics: Arc::default(),
        budget: Arc::default(),
        events: Events::new(world.context.client.clone(), "test"),
        shards: Shards::default(),
        random: SystemRandom::new(),
    };
    let again = World { api: world.api.clone(), context: Arc::new(context), cluster: Arc::new(stored) };
    assert_eq!(again.pass().await, [""; 0]);
}

#[tokio::test]
async fn no_pod_is_created_before_what_it_needs_is_there() {
    let refusals: [Refusal; 3] = [
        |asked| asked.line().contains("PATCH serviceaccounts").then_some(403),
        |asked| asked.line().contains("PATCH configmaps").then_some(403),
        |asked| asked.line().contains("POST secrets").then_some(403),
    ];
    for refuses in refusals {
        let world = World::refusing(SPEC, refuses).await;
        let writes = world.pass().await;
        assert!(writes.iter().all(|line| !line.contains("pods/")), "{writes:?}");
        assert_eq!(world.condition("Progressing"), "False ApplyFailed");
    }
}

#[tokio::test]
async fn a_refused_write_is_not_repeated_before_it_is_due() {
    let world = World::refusing(SPEC, |asked| asked.line().contains("POST pods/tools-1").then_some(403)).await;
    assert!(world.pass().await.contains(&"POST pods/tools-1".to_owned()));
    let again = world.pass().await;
    assert!(again.iter().all(|line| line != "POST pods/tools-1"), "{again:?}");
    assert_eq!(world.condition("Progressing"), "False ApplyFailed", "what was refused stays in the status");
}

#[tokio::test]
async fn a_broken_catalog_is_never_published_and_the_last_good_one_stays() {
    let mut world = World::new(SPEC).await;
    world.pass().await;
    let good = world.api.object("configmaps/tools-config").unwrap();
    world.change(|cluster| cluster.spec.catalog.as_mut().unwrap().tools[0].name = "two".into());
    let writes = world.pass().await;
    assert!(writes.iter().all(|line| !line.contains("configmaps")), "{writes:?}");
    assert_eq!(world.api.object("configmaps/tools-config").unwrap(), good);
    assert_eq!(world.condition("CatalogValid"), "False DuplicateName");
    // A shard that is added now starts with it.
    world.change(|cluster| cluster.spec.replicas = Some(3));
    assert!(world.pass().await.contains(&"POST pods/tools-2".to_owned()));
}

#[tokio::test]
async fn a_changed_catalog_is_published_and_the_pods_are_touched() {
    let mut world = World::new(SPEC).await;
    world.pass().await;
    let mark =
        |world: &World| world.api.object("pods/tools-0").unwrap()["metadata"]["annotations"]["mcpcluster.dev/sync"].clone();
    let before = mark(&world);
    world.change(|cluster| cluster.spec.catalog.as_mut().unwrap().tools[0].title = Some("Call".into()));
    let writes = world.pass().await;
    for line in ["PATCH configmaps/tools-config", "PATCH pods/tools-0", "PATCH pods/tools-1"] {
        assert!(writes.contains(&line.to_owned()), "{line} in {writes:?}");
    }
    assert_ne!(mark(&world), before);
}

#[tokio::test]
async fn a_missing_secret_or_source_keeps_a_first_catalog_from_being_published() {
    let refusals: [(Refusal, &str); 2] = [
        (|asked| (asked.line() == "GET secrets/api").then_some(404), "False SecretMissing"),
        (|asked| (asked.line() == "GET configmaps/extra").then_some(404), "False SourceMissing"),
    ];
    for (refuses, condition) in refusals {
        let world = World::refusing(SPEC, refuses).await;
        let writes = world.pass().await;
        assert!(writes.iter().all(|line| !line.contains("pods/") && !line.contains("configmaps/")), "{writes:?}");
        assert_eq!(world.condition("CatalogValid"), condition);
    }
}

#[tokio::test]
async fn a_paused_cluster_is_written_nothing_but_its_status() {
    let world = World::new(&format!("paused: true\n{SPEC}")).await;
    assert_eq!(world.pass().await, ["PATCH mcpclusters/tools/status"]);
}

#[tokio::test]
async fn a_status_that_has_to_wait_is_written_later_as_it_is_then() {
    let mut world = World::new(&format!("paused: true\n{SPEC}")).await;
    // From an hour ahead, so that no token comes while the passes run.
    let ahead = || Timestamp::now() + Duration::from_hours(1);
    let exhaust = |world: &World| while world.context.budget.take(Urgency::Conditions, ahead()).is_ok() {};
    for _ in 0..2 {
        exhaust(&world);
        assert_eq!(world.pass().await, [""; 0]);
    }
    world.change(|cluster| cluster.spec.replicas = Some(7));
    let begun = Instant::now();
    while world.pass().await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "one token comes in a twentieth of a second");
        tokio::task::yield_now().await;
    }
    let status = world.api.object("mcpclusters/tools/status").unwrap()["status"].clone();
    assert_eq!(status["desiredReplicas"], 7);
    let metrics = world.context.metrics.render();
    assert!(metrics.contains("mcp_operator_status_writes_delayed_total{about=\"conditions\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_cluster_whose_status_waits_for_its_turn_is_not_woken_before() {
    let world = World::new(&format!("paused: true\n{SPEC}")).await;
    let (now, budget) = (Timestamp::now(), &world.context.budget);
    let _others: Vec<_> = (0..2000).map(|_| budget.wait(Urgency::Conditions, Duration::from_mins(10), now)).collect();
    while budget.take(Urgency::Conditions, now + Duration::from_hours(1)).is_ok() {}
    assert_eq!(world.pass().await, [""; 0]);
    let woken = || world.context.hear(std::slice::from_ref(&world.cluster), vec![], Timestamp::now()).0.len();
    assert_eq!(woken(), 0, "two thousand are before it");
    world.context.remember(&world.cluster, |memory| memory.status_waits = None);
    assert_eq!(woken(), 1, "it would be told");
}

#[tokio::test]
async fn nothing_is_done_for_a_cluster_that_is_being_deleted() {
    let mut world = World::new(SPEC).await;
    world.change(|cluster| {
        cluster.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    });
    assert_eq!(world.pass().await, [""; 0]);
}

#[tokio::test]
async fn an_image_that_was_resolved_once_outlives_an_upgrade_of_the_operator() {
    let mut world = World::new(SPEC).await;
    world.change(|cluster| {
        cluster.status = Some(McpClusterStatus { image: Some("mcp-server:0".into()), ..McpClusterStatus::default() });
    });
    world.pass().await;
    let pod: Pod = serde_json::from_value(world.api.object("pods/tools-0").unwrap()).unwrap();
    assert_eq!(pod.spec.unwrap().containers[0].image.as_deref(), Some("mcp-server:0"));
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_left_alone() {
    let world = World::new(SPEC).await;
    let owner = json!([{"apiVersion": "mcpcluster.dev/v1alpha1", "kind": "McpCluster", "name": "tools", "uid": world.cluster.metadata.uid, "controller": true}]);
    let secret = json!({"metadata": {"name": "tools-keys", "ownerReferences": owner}, "data": {shard::KEYS_FILE: "e30="}});
    let api = world.api.clone().with("secrets/tools-keys", secret);
    let writes = world.pass().await;
    assert!(writes.iter().all(|line| !line.contains("tools-keys") && !line.contains("pods/")), "{writes:?}");
    assert_eq!(api.object("secrets/tools-keys").unwrap()["data"], json!({shard::KEYS_FILE: "e30="}));
}

#[tokio::test]
async fn a_catalog_that_cannot_be_read_yet_is_not_loaded() {
    let world = World::refusing(SPEC, |asked| (asked.line() == "GET configmaps/extra").then_some(403)).await;
    world.pass().await;
    assert_eq!(world.condition("CatalogValid"), "Unknown NotLoaded");
    assert_eq!(world.condition("Ready"), "False ApplyFailed", "and what keeps it from being read");
}

/// All that belongs to a cluster of two shards.
const OWNED: [&str; 10] = [
    "secrets/tools-keys",
    "secrets/tools-credentials",
    "serviceaccounts/tools-shard",
    "services/tools-shards",
    "services/tools-members",
    "services/tools",
    "poddisruptionbudgets/tools",
    "configmaps/tools-config",
    "pods/tools-0",
    "pods/tools-1",
];

/// What is there when a cluster is created anew after `kubectl delete --cascade=orphan`: everything, without an owner. The
/// process is a new one, which has seen the pods by their labels.
async fn orphaned() -> World {
    let world = World::new(SPEC).await;
    world.pass().await;
    let mut again = world.cluster.as_ref().clone();
    again.metadata.uid = Some("another".into());
    for path in OWNED {
        world.api.orphan(path);
    }
    let (client, stores) = world.api.client().await;
    for name in ["tools-0", "tools-1"] {
        stores.pods.wrote(serde_json::from_value::<Pod>(world.api.object(&format!("pods/{name}")).unwrap()).unwrap());
    }
    let context = Context {
        config: world.context.config.clone(),
        events: Events::new(client.clone(), "test"),
        client,
        stores,
        memories: Memories::default(),
        metrics: Arc::default(),
        budget: Arc::default(),
        shards: Shards::default(),
        random: SystemRandom::new(),
    };
    World { api: world.api.clone(), context: Arc::new(context), cluster: Arc::new(again) }
}

#[tokio::test]
async fn orphans_are_adopted_before_anything_is_created_beside_them() {
    let world = orphaned().await;
    let keys = world.api.object("secrets/tools-keys").unwrap()["data"].clone();
    world.api.put("mcpclusters/tools", serde_json::to_value(&*world.cluster).unwrap());
    let writes = world.pass().await;
    assert!(writes.iter().all(|line| !line.starts_with("POST")), "{writes:?}");
    for path in OWNED {
        let object = world.api.object(path).unwrap();
        let owners: Vec<_> =
            object["metadata"]["ownerReferences"].as_array().unwrap().iter().map(|owner| owner["uid"].clone()).collect();
        assert_eq!(owners, ["another"], "{path}");
    }
    assert_eq!(world.api.object("secrets/tools-keys").unwrap()["data"], keys, "sessions live on");
}

/// The garbage collector takes our name off what it orphans before our watch has told that the resource goes.
#[tokio::test]
async fn nothing_is_adopted_for_a_resource_that_goes_or_is_another_by_now() {
    let world = orphaned().await;
    let mut going = serde_json::to_value(&*world.cluster).unwrap();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut another = serde_json::to_value(&*world.cluster).unwrap();
    another["metadata"]["uid"] = json!("a third");
    for now in [None, Some(going), Some(another)] {
        if let Some(now) = now {
            world.api.put("mcpclusters/tools", now);
        }
        world.pass().await;
        for path in OWNED {
            let object = world.api.object(path).unwrap();
            assert!(object["metadata"]["ownerReferences"].is_null(), "{path}: {object}");
        }
    }
}
