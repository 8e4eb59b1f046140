//! How little the operator writes: nothing at rest, and while load moves as often as it promises.

use std::future::ready;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use mcp_crds::McpCluster;
use mcp_tests::audit::{Reader, Request};
use mcp_tests::cluster::STARTS_WITHIN;
use mcp_tests::mcp::{Era, Stream, hold};
use mcp_tests::wait::{eventually, throughout};
use mcp_tests::{Failure, Namespace, Operator, Outcome, claim, claim_eq};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::manifest::{greet, small};

/// How long nothing may be written: `make soak` makes it thirty minutes.
const ENV_REST: &str = "MCP_TEST_REST_SECONDS";
const REST: Duration = Duration::from_mins(3);
/// Numbers may be written once a minute while they settle: what is quiet for longer has settled.
const QUIET: Duration = Duration::from_secs(65);
const SETTLES_WITHIN: Duration = Duration::from_mins(5);
/// The end of the operator's user name; it is followed by nothing.
const OPERATOR: &str = ":mcp-operator";
/// Held on the cluster that scales by them.
const STREAMS: usize = 30;

/// How long nothing may be written.
fn rest() -> Duration {
    let asked = std::env::var(ENV_REST).ok().and_then(|text| text.parse().ok());
    asked.map_or(REST, Duration::from_secs)
}

/// What `make soak` adds to a test.
pub(crate) fn longer() -> Duration {
    rest().saturating_sub(REST)
}

/// Clusters of every kind: of a fixed size, autoscaled, with credentials and a source, and closed by a NetworkPolicy.
fn kinds() -> Vec<Value> {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "api"}, "stringData": {"token": "t"}});
    let source = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"},
        "data": {"catalog.yaml": "tools: [{name: more, static: {content: [{text: More.}]}}]"}});
    let backend = json!({"name": "api", "url": "http://api.example.com",
        "authorization": {"bearer": {"secretKeyRef": {"name": "api", "key": "token"}}}});
    let fetch = json!({"name": "fetch", "http": {"backend": "api", "url": "/x"}});
    let autoscaling = json!({"minReplicas": 1, "maxReplicas": 3, "connections": {"targetPerReplica": 2 * STREAMS}});
    // The kernel counts pages of the binary to a shard as they are used, for minutes: two points of its limit are to be more.
    let resources = json!({"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}});
    let catalog = json!({"backends": [backend], "tools": [greet("Hello."), fetch],
        "sources": [{"name": "more", "configMapKeyRef": {"name": "more", "key": "catalog.yaml"}}]});
    vec![
        secret,
        source,
        small("fixed", &json!({"replicas": 2, "resources": resources})),
        small("elastic", &json!({"autoscaling": autoscaling, "resources": resources})),
        small("calling", &json!({"catalog": catalog, "resources": resources})),
        small("closed", &json!({"networkPolicy": {}, "resources": resources})),
    ]
}

/// Reads the audit log until it shows no write for a while.
async fn until_quiet(log: &mut Reader, namespace: &Namespace) -> Outcome {
    let (mut last, mut since): (Option<Request>, _) = (None, Instant::now());
    let mut look = || {
        if let Some(write) = log.writes(OPERATOR, namespace.name())?.pop() {
            (last, since) = (Some(write), Instant::now());
        }
        claim!(since.elapsed() >= QUIET, "the last write was {:.0?} ago: {last:?}", since.elapsed());
        Ok(())
    };
    eventually("a while without a write of the operator", SETTLES_WITHIN, || ready(look())).await
}

pub(crate) async fn an_operator_at_rest_writes_nothing(namespace: Namespace) -> Outcome {
    let mut log = Reader::from_now(namespace.run()).await?;
    for object in kinds() {
        namespace.apply(&object.to_string()).await?;
    }
    for (name, shards) in [("fixed", 2), ("elastic", 1), ("calling", 1), ("closed", 1)] {
        namespace.cluster(name).until_settled(shards, STARTS_WITHIN).await?;
    }
    let endpoint = namespace.cluster("elastic").endpoint().await?;
    let mut streams = hold(&endpoint, Era::Modern, STREAMS / 2).await?;
    streams.extend(hold(&endpoint, Era::Legacy, STREAMS / 2).await?);
    until_quiet(&mut log, &namespace).await?;

    let mut look = || {
        let writes = log.writes(OPERATOR, namespace.name())?;
        let shown: Vec<_> = writes.iter().map(|write| format!("{write:?}")).collect();
        claim!(shown.is_empty(), "{}", shown.join("\n"));
        Ok(())
    };
    throughout("an operator at rest", rest() / 2, || ready(look())).await?;
    restart(&Operator::of(&namespace)).await?;
    throughout("an operator that was started again", rest() / 2, || ready(look())).await?;

    // The log would have shown it: the same operator read the Secret that a catalog names, once a minute.
    let mut reads = 0;
    let mut all = Reader::from_the_start_of(namespace.run()).await?;
    all.each(OPERATOR, |request| {
        reads += u32::from(request.permission() == "/secrets get" && request.namespace == namespace.name());
    })?;
    claim!(reads > 2, "the audit log shows {reads} reads of Secrets");
    claim!(streams.iter().all(|stream| stream.ended().is_none()), "a stream ended");
    Ok(())
}

/// Ends the pods of an operator, and waits for others in their place.
async fn restart(operator: &Operator) -> Outcome {
    let before = operator.ready_pods().await?;
    for pod in &before {
        operator.namespace().api::<Pod>().delete(pod, &DeleteParams::default()).await?;
    }
    eventually("other pods of the operator", STARTS_WITHIN, || async {
        let pods: Vec<_> = operator.pods().await?.iter().map(ResourceExt::name_any).collect();
        claim!(!pods.is_empty() && pods.iter().all(|pod| !before.contains(pod)), "{} of {}", pods.join(", "), before.join(", "));
        Ok(())
    })
    .await?;
    operator.until_ready().await
}

pub(crate) async fn status_follows_load_at_the_promised_rate(namespace: Namespace) -> Outcome {
    /// The operator looks every five seconds.
    const AT_ONCE: Duration = Duration::from_secs(30);
    /// "At most once in 60 s", less what may pass between a decision and its request.
    const MINUTE: f64 = 58.0;
    let mut log = Reader::from_now(namespace.run()).await?;
    namespace.apply(&small("busy", &json!({"replicas": 1, "resources": {"limits": {"memory": "256Mi"}}})).to_string()).await?;
    let cluster = namespace.cluster("busy");
    cluster.until_settled(1, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;
    let shown = |streams: i64, within| {
        let cluster = &cluster;
        async move {
            let shows = move |cluster: &McpCluster| {
                let load = cluster.status.as_ref().and_then(|status| status.load.clone()).ok_or("no load")?;
                if load.streams == streams { Ok(()) } else { Err(format!("{} streams", load.streams)) }
            };
            cluster.until(&format!("{streams} streams"), within, shows).await
        }
    };
    let mut patches = || {
        let writes = log.writes(OPERATOR, namespace.name())?.into_iter();
        let times = writes.filter(|write| write.resource == "mcpclusters/status").map(|write| write.time.parse::<Timestamp>());
        Ok::<_, Failure>(times.collect::<Result<Vec<_>, _>>()?)
    };

    // From none to a hundred: at once.
    let mut streams: Vec<Stream> = hold(&endpoint, Era::Modern, 100).await?;
    shown(100, AT_ONCE).await?;
    let mut before = patches()?.pop().ok_or_else(|| Failure::new("the audit log shows no patch of the status"))?;
    // Four more are no tenth: once a minute at most, however often the operator looks.
    streams.extend(hold(&endpoint, Era::Modern, 4).await?);
    shown(104, Duration::from_mins(3)).await?;
    let small_moves = patches()?;
    claim!(!small_moves.is_empty(), "the audit log shows no patch of the status with 104 streams");
    for patch in small_moves {
        let gap = patch.duration_since(before).as_secs_f64();
        claim!(gap >= MINUTE, "two writes of numbers that moved little, {gap:.1} s apart");
        before = patch;
    }
    // Twenty more are: right after the last write.
    streams.extend(hold(&endpoint, Era::Modern, 20).await?);
    shown(124, AT_ONCE).await?;
    let large_moves = patches()?;
    claim!(large_moves.len() <= 2, "20 streams came within seconds and were written {} times", large_moves.len());
    claim_eq!(streams.iter().filter(|stream| stream.ended().is_some()).count(), 0, "streams that ended");
    Ok(())
}
