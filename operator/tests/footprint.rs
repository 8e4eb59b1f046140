//! What a shard takes of the operator's heap, by an allocator that counts. A binary of its own: nothing else allocates here.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tests/counting.rs"]
mod counting;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use counting::{Counting, live};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use mcp_crds::McpCluster;
use mcp_crds::control::{Key, KeyRing};
use mcp_crds::load::LoadRequest;
use mcp_operator::desired::pod;
use mcp_operator::observe::{KnownPod, Scraper, Shelf, Target};
use mcp_operator::shards::Shards;
use serde_json::{Value, json};

/// Shards of an McpCluster.
const EACH: usize = 6;
/// McpClusters.
const CLUSTERS: usize = 100;
/// Bytes that a pod may keep.
const POD: isize = 2_048;
/// Shards with a connection.
const ASKED: usize = 500;
/// Bytes that a connection to a shard may keep, while nothing is under way on it.
const CONNECTION: isize = 1_024;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn cluster(name: &str) -> McpCluster {
    let sample = include_str!("../../manifests/samples/quickstart.yaml");
    let documents = serde_yaml::Deserializer::from_str(sample).map(|one| serde::Deserialize::deserialize(one).unwrap());
    let mut cluster: Value = documents.into_iter().find(|one: &Value| one["kind"] == "McpCluster").unwrap();
    cluster["metadata"] = json!({"name": name, "namespace": "agents", "uid": format!("0b9e3c1e-6f0b-4a57-9f0a-{name:0>12}")});
    serde_json::from_value(cluster).unwrap()
}

/// A shard's pod as the API server sends it: with what it, the scheduler and the kubelet add.
fn pod(cluster: &McpCluster, index: u32) -> String {
    let rendered = pod::template(cluster, "registry.example.com/mcp-server:1.2.3");
    let mut pod = serde_json::to_value(pod::shard_pod(cluster, &rendered, index)).unwrap();
    let time = "2026-11-23T10:00:00Z";
    pod["metadata"]["uid"] = json!(format!("7c5f3c1e-6f0b-4a57-9f0a-{index:0>12}"));
    pod["metadata"]["resourceVersion"] = json!("123456789");
    pod["metadata"]["creationTimestamp"] = json!(time);
    pod["metadata"]["managedFields"] = json!([{"manager": "mcp-operator", "operation": "Update", "fieldsV1": pod["spec"]}]);
    pod["spec"]["nodeName"] = json!(format!("node-{index}"));
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": time});
    let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    pod["status"] = json!({
        "phase": "Running", "podIP": "10.244.117.203", "podIPs": [{"ip": "10.244.117.203"}], "hostIP": "192.0.2.7",
        "conditions": kinds.map(condition),
        "containerStatuses": [{
            "name": "server", "image": "registry.example.com/mcp-server:1.2.3", "imageID": "sha256:0", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": time}}, "lastState": {}, "resources": pod["spec"]["containers"][0]["resources"],
        }],
    });
    pod.to_string()
}

fn pods() -> isize {
    let names: Vec<String> = (0..CLUSTERS).map(|number| format!("tools{number}")).collect();
    let texts: Vec<String> =
        names.iter().flat_map(|name| (0..EACH).map(|index| pod(&cluster(name), u32::try_from(index).unwrap()))).collect();
    let shelf = Shelf::<KnownPod>::default();
    let before = live();
    shelf.learn(Event::Init);
    for text in &texts {
        shelf.learn(Event::InitApply(KnownPod::from(serde_json::from_str::<Pod>(text).unwrap())));
    }
    shelf.learn(Event::InitDone);
    let listed = live() - before;
    // Each is written by us and seen again by the watch, as when it is labelled.
    for text in &texts {
        let pod = serde_json::from_str::<Pod>(text).unwrap();
        shelf.wrote(pod.clone());
        shelf.learn(Event::Apply(KnownPod::from(pod)));
    }
    let written = live() - before;
    assert_eq!(shelf.beginning_with("agents", "").len(), texts.len());
    let each = |bytes: isize| bytes / texts.len().cast_signed();
    println!("a pod: {} bytes when it was listed, {} after a write", each(listed), each(written));
    each(listed.max(written))
}

/// A thread without a heap that answers every connection from its own buffer, and keeps it open.
fn answer_all(listener: TcpListener, accepted: &'static AtomicUsize) {
    std::thread::spawn(move || {
        let report = r#"{"incarnation":"a","seq":1}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{report}", report.len());
        let mut open = Vec::with_capacity(2 * ASKED);
        let mut buffer = [0; 4096];
        // All of the first round, then each again on its own connection.
        while let Ok((mut socket, _)) = listener.accept() {
            accepted.fetch_add(1, Relaxed);
            assert!(socket.read(&mut buffer).unwrap() > 0);
            socket.write_all(answer.as_bytes()).unwrap();
            open.push(socket);
            if open.len() == ASKED {
                break;
            }
        }
        for socket in &mut open {
            assert!(socket.read(&mut buffer).unwrap() > 0, "another connection was made");
            socket.write_all(answer.as_bytes()).unwrap();
        }
        std::thread::park();
    });
}

fn connections() -> isize {
    static ACCEPTED: AtomicUsize = AtomicUsize::new(0);
    // Each shard has a loopback address of its own, and all have one port.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let scraper = Scraper::new(Shards::on_port(listener.local_addr().unwrap().port()), Arc::default());
    let key = Key::from_bytes(&[9; 32]);
    let keys = Arc::new(KeyRing { session: vec![], sealing: String::new(), signing: key.id.clone(), control: vec![key] });
    let targets: Vec<Target> = (0..ASKED)
        .map(|n| Target {
            cluster: "tools".into(),
            pod: format!("uid-{n}"),
            name: format!("tools-{n}"),
            node: None,
            address: format!("127.1.{}.{}", n / 250, 1 + n % 250),
            keys: keys.clone(),
            request: LoadRequest::default(),
        })
        .collect();
    answer_all(listener, &ACCEPTED);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // As the operator asks: what the runtime keeps of it counts. So many at one time as the listener lets wait.
    let round = || {
        for some in targets.chunks(64) {
            assert_eq!(runtime.block_on(scraper.round(some.to_vec())).len(), some.len());
        }
    };
    let before = live();
    round();
    let kept = live() - before;
    round();
    let again = live() - before;
    assert_eq!(ACCEPTED.load(Relaxed), ASKED, "the second round takes the connections of the first");
    let each = |bytes: isize| bytes / ASKED.cast_signed();
    println!("a connection: {} bytes, {} after another exchange", each(kept), each(again));
    each(kept.max(again))
}

/// One after the other: what is counted is all there is.
#[test]
fn a_shard_takes_a_few_kilobytes_of_the_operator() {
    let (pod, connection) = (pods(), connections());
    assert!(pod <= POD, "a pod keeps {pod} bytes");
    assert!(connection <= CONNECTION, "a connection keeps {connection} bytes");
}
