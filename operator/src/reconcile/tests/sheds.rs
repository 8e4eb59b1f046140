//! A hot shard among cool ones, from its report to the order it gets and the event that tells of it.

use std::convert::Infallible;
use std::sync::Mutex;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::stages::fixture::MIB;

const AUTOSCALED: &str = r"
autoscaling: {minReplicas: 2, maxReplicas: 4}
resources: {limits: {memory: 512Mi}}
catalog: {tools: [{name: greet, static: {content: [{text: Hello}]}}]}
";

/// What shards were told: path, last part of the address, body.
type Told = Arc<Mutex<Vec<(String, u8, Value)>>>;

/// Shards at 127.0.0.1, 127.0.0.2 and so on: the first is hot, the others are cool.
async fn shards(told: Told) -> Shards {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let std::net::IpAddr::V4(address) = socket.local_addr().unwrap().ip() else { continue };
            let (told, last) = (told.clone(), address.octets()[3]);
            let service = service_fn(move |request: Request<Incoming>| {
                let told = told.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    told.lock().unwrap().push((path.clone(), last, serde_json::from_slice(&body).unwrap()));
                    let answer = match path.as_str() {
                        "/load" => json!({
                            "incarnation": format!("i{last}"), "seq": 1, "streams": 1000, "connections": 1000, "hard_cap": 10_000,
                            "working_set_bytes": if last == 1 { 440 * MIB } else { 100 * MIB },
                            "base_bytes": 40 * MIB, "limit_bytes": 512 * MIB,
                        }),
                        _ => json!({"ended": 50}),
                    };
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer.to_string()))))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    Shards::on_port(port)
}

/// The kubelet starts a pod.
fn start(world: &World, index: u32) {
    let mut pod = world.api.object(&format!("pods/tools-{index}")).unwrap();
    let since = Timestamp::now().saturating_sub(jiff::SignedDuration::from_secs(600)).unwrap();
    pod["status"] = json!({
        "phase": "Running", "podIP": format!("127.0.0.{}", index + 1),
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}],
        "containerStatuses": [{"name": "server", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": since}}}],
    });
    world.context.stores.pods.wrote(serde_json::from_value::<Pod>(pod).unwrap());
}

#[tokio::test]
async fn a_hot_shard_is_fenced_and_told_to_end_streams_and_the_event_says_so() {
    let mut world = World::new(AUTOSCALED).await;
    world.pass().await;
    for index in 0..2 {
        start(&world, index);
    }
    let told = Told::default();
    let shards = shards(told.clone()).await;
    let context = Arc::get_mut(&mut world.context).unwrap();
    context.shards = shards;
    context.memories.with(world.cluster.metadata.uid.as_deref().unwrap(), Timestamp::now(), |memory| memory.history = None);
    reconcile(world.cluster.clone(), world.context.clone()).await.unwrap();

    let sheds: Vec<_> = told.lock().unwrap().iter().filter(|(path, ..)| path == "/shed").cloned().collect();
    let bytes = 440 * MIB - 512 * MIB * 70 / 100;
    assert_eq!(sheds, [("/shed".to_owned(), 1, json!({"bytes": bytes, "streams": 50}))]);
    let writes = world.api.take_writes();
    let event = writes.iter().find(|asked| asked.body["reason"] == "Shedding").unwrap();
    assert!(event.body["note"].as_str().unwrap().starts_with("tools-0 is over its memory target"), "{}", event.body);
    let fenced = writes.iter().find(|asked| asked.line() == "PATCH pods/tools-0").unwrap();
    assert_eq!(fenced.body["metadata"]["labels"]["mcpcluster.dev/placed"], "false");
    assert_eq!(world.condition("MemoryPressure"), "True Shedding");

    // A step lasts a minute: the next pass tells nobody anything.
    told.lock().unwrap().clear();
    reconcile(world.cluster.clone(), world.context.clone()).await.unwrap();
    assert!(told.lock().unwrap().iter().all(|(path, ..)| path != "/shed"));
}
