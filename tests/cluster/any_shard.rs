//! Any shard, through the client Service, when a shard is killed (SIGKILL), cut off, or the catalog changes: what the mesh of shards keeps
//! of sessions and tasks is there on whichever shard answers next.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use mcp_crds::shard::DATA_PORT;
use mcp_tests::cluster::STARTS_WITHIN;
use mcp_tests::machine::Machine;
use mcp_tests::mcp::{Era, Modern, Opened, Reply, Session, Stream};
use mcp_tests::process::Process;
use mcp_tests::reach::{self, Endpoint};
use mcp_tests::wait::{eventually, throughout};
use mcp_tests::{Cluster, Failure, Namespace, Outcome, claim, claim_eq};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::conformance::{PROGRAM, SHARDS, fixture};
use crate::manifest::small;
use crate::node_loss;

/// Three times the 5 s that are promised for an answer about a task whose shard was killed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// A connection to a shard that is gone breaks; kube-proxy hears of it when the kubelet has seen it.
const AWAY_FOR: Duration = Duration::from_secs(45);
const UPDATED: &str = "notifications/resources/updated";
const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
/// Sessions that each shard opens.
const SESSIONS: usize = 6;
/// Lists after a change of the catalog.
const LISTS: usize = 1_000;
/// With the first and the last as many as the schema allows, and more than fit a page.
const TOOLS: usize = 254;

/// Shards of the fixture: they raise events, log, and run tasks.
async fn shards_with_code(namespace: &Namespace) -> Outcome<Cluster> {
    let manifest = fixture("http://localhost")?;
    namespace.apply(&manifest.to_string()).await?;
    let cluster = namespace.cluster(manifest["metadata"]["name"].as_str().unwrap_or_default());
    cluster.until_settled(SHARDS, STARTS_WITHIN).await?;
    Ok(cluster)
}

async fn past_the_service(cluster: &Cluster, pod: &Pod) -> Outcome<Endpoint> {
    reach::pod(cluster.namespace(), pod, DATA_PORT, "/mcp").await
}

async fn first_shard(cluster: &Cluster) -> Outcome<Pod> {
    let pods = cluster.ready_pods().await?;
    pods.into_iter().next().ok_or_else(|| Failure::new("no shard is Ready"))
}

/// The answer to a request. It is asked again only while no HTTP answer comes, for a shard that is gone accepts nothing, or one
/// of 503 with `Retry-After`: a process that has started again says so until it is in step with the other shards.
async fn asked<F: Future<Output = Outcome<Reply>>>(ask: impl Fn() -> F) -> Outcome<Reply> {
    let reply = eventually("an HTTP answer other than 503", AWAY_FOR, || async {
        let reply = ask().await?;
        claim!(reply.is_overload().is_err(), "HTTP 503: {}", reply.body);
        Ok(reply)
    })
    .await?;
    claim_eq!(reply.status, 200, "HTTP status of {}", reply.body);
    claim!(reply.message["error"].is_null(), "an error: {}", reply.message);
    Ok(reply)
}

/// What a session is told of a call that logs.
async fn logged(session: &Session) -> Outcome<usize> {
    let reply = asked(|| session.call("test_logging_tool", json!({}))).await?;
    Ok(reply.body.matches("notifications/message").count())
}

pub(crate) async fn a_killed_shard_takes_no_session_with_it(namespace: Namespace) -> Outcome {
    let cluster = shards_with_code(&namespace).await?;
    let endpoint = cluster.endpoint().await?;
    let mut sessions = Vec::new();
    for shard in cluster.shard_endpoints().await? {
        for _ in 0..SESSIONS {
            sessions.push(Session::open(&shard).await?.at(&endpoint));
        }
    }
    let silent = Session::open(&endpoint).await?;
    for session in &sessions {
        asked(|| session.request("resources/subscribe", json!({"uri": "test://watched-resource"}))).await?;
        asked(|| session.request("logging/setLevel", json!({"level": "info"}))).await?;
    }
    let victim = first_shard(&cluster).await?;
    Process::of(&victim, PROGRAM)?.kill().await?;
    let killed = Instant::now();

    // Who was opened on it, and everybody else, goes on at once, wherever it lands: no 404, no second initialize.
    for session in &sessions {
        for _ in 0..3 {
            claim_eq!(asked(|| session.call("greet", json!({"name": "you"}))).await?.tool_text()?, "Hello, you!", "greet");
        }
    }
    let called = killed.elapsed();
    for session in &sessions {
        claim_eq!(logged(session).await?, 3, "log messages of a session that asked for them");
    }
    claim_eq!(logged(&silent).await?, 0, "log messages of a session that did not");
    let mut streams = Vec::new();
    for session in &sessions {
        let opened = eventually("a stream", AWAY_FOR, || Stream::of_session(session)).await?;
        let Opened::Held(stream) = opened else { return Err(Failure::new(format!("{opened:?}"))) };
        streams.push(stream);
    }
    let modern = Modern::new(endpoint);
    asked(|| modern.call("test_trigger_resource_update", json!({}))).await?;
    for stream in &streams {
        stream.until_heard(UPDATED, 0, ANSWERED_WITHIN).await?;
    }
    println!(
        "    {} sessions called thrice within {called:.1?} of the kill; each kept its subscription and its level",
        sessions.len()
    );
    Ok(())
}

/// A client that knows tasks.
fn tasks(endpoint: Endpoint) -> Modern {
    Modern::new(endpoint).declaring(json!({"extensions": {"io.modelcontextprotocol/tasks": {}}}))
}

async fn begin(shard: &Modern, seconds: f64) -> Outcome<String> {
    let created = shard.call("slow_compute", json!({"seconds": seconds})).await?;
    let id = created.result()?["taskId"].as_str().map(str::to_owned);
    id.ok_or_else(|| Failure::new(format!("no task: {}", created.message)))
}

/// The state of a task; that it is unknown ends the test.
async fn state(through: &Modern, id: &str) -> Outcome<Value> {
    let reply = asked(|| through.request("tasks/get", json!({"taskId": id}))).await?;
    Ok(reply.result()?.clone())
}

async fn until(through: &Modern, id: &str, status: &str) -> Outcome<Value> {
    eventually(&format!("a task that is {status}"), AWAY_FOR, || async {
        let task = state(through, id).await?;
        claim_eq!(task["status"], status, "status of {task}");
        Ok(task)
    })
    .await
}

pub(crate) async fn a_task_whose_shard_is_killed_is_never_unknown(namespace: Namespace) -> Outcome {
    let cluster = shards_with_code(&namespace).await?;
    let through = tasks(cluster.endpoint().await?);
    let victim = first_shard(&cluster).await?;
    let on_victim = tasks(past_the_service(&cluster, &victim).await?);
    let (runs, ended) = (begin(&on_victim, 300.0).await?, begin(&on_victim, 0.0).await?);
    let before = until(&through, &ended, "completed").await?;
    Process::of(&victim, PROGRAM)?.kill().await?;
    let killed = Instant::now();

    let first = state(&through, &runs).await?;
    let took = killed.elapsed();
    claim!(took < ANSWERED_WITHIN, "the first answer took {took:?}");
    claim!(["working", "failed"].contains(&first["status"].as_str().unwrap_or_default()), "{first}");
    let mut looks = 0;
    while killed.elapsed() < ANSWERED_WITHIN {
        for id in [&runs, &ended] {
            state(&through, id).await?;
        }
        looks += 2;
    }
    claim_eq!(state(&through, &ended).await?, before, "a result that was there before");
    let failed = until(&through, &runs, "failed").await?;
    claim!(failed["error"]["message"].as_str().unwrap_or_default().contains("ended before the task did"), "{failed}");
    println!("    a state {took:.1?} after the kill of its shard, then {looks} more, none of them \"unknown\"");
    Ok(())
}

/// The other way round: the shard lives, and the others cannot know.
pub(crate) async fn a_task_that_was_given_up_by_mistake_has_one_end_on_every_shard(namespace: Namespace) -> Outcome {
    let (cluster, machine) = (shards_with_code(&namespace).await?, Machine::of(namespace.run())?);
    let pods = cluster.ready_pods().await?;
    let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let nodes: BTreeSet<_> = pods.iter().map(node_of).collect();
    // The one where the operator is not, so that it goes on asking.
    let at = node_loss::node_of_operator(&namespace).await?;
    let away = nodes.iter().find(|node| **node != at).ok_or_else(|| Failure::new(format!("shards are on {nodes:?}")))?;
    let (mut cut_off, mut others) = (Vec::new(), Vec::new());
    for pod in &pods {
        let client = tasks(past_the_service(&cluster, pod).await?);
        if node_of(pod) == *away { cut_off.push(client) } else { others.push(client) }
    }
    claim!(!others.is_empty(), "all shards are on {away}");
    // Some are kept on the same side, some on the other.
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(begin(&cut_off[0], 300.0).await?);
    }

    let mut node = machine.disturb(away);
    node.cut().await?;
    let cut = Instant::now();
    let mut given_up = Vec::new();
    for id in &running {
        given_up.push(until(&others[0], id, "failed").await?["error"].clone());
    }
    println!("    given up {:.1?} after the cut", cut.elapsed());
    node.bring_back().await?;
    // Where they run they end, because a client has been told that they had failed.
    for client in cut_off.iter().chain(&others) {
        for (id, error) in running.iter().zip(&given_up) {
            claim_eq!(&until(client, id, "failed").await?["error"], error, "the error, told by another shard");
        }
    }
    throughout("it stays so", Duration::from_secs(5), || async {
        for client in cut_off.iter().chain(&others) {
            for id in &running {
                claim_eq!(state(client, id).await?["status"], "failed", "status");
            }
        }
        Ok(())
    })
    .await
}

/// A catalog of more than a page, whose last tool names its edition.
fn edition(name: &str) -> Value {
    let tool = |name: String| json!({"name": name, "static": {"content": [{"text": "Hello."}]}});
    let mut tools: Vec<_> = (0..TOOLS).map(|n| tool(format!("tool-{n}"))).collect();
    tools.insert(0, tool(format!("first-{name}")));
    tools.push(tool(format!("last-{name}")));
    json!({"tools": tools})
}

async fn list(through: &Modern, cursor: Option<&str>) -> Outcome<(Vec<String>, Option<String>)> {
    let params = cursor.map_or(json!({}), |cursor| json!({"cursor": cursor}));
    let reply = asked(|| through.request("tools/list", params.clone())).await?;
    let page = reply.result()?;
    let names = page["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str()).map(str::to_owned);
    Ok((names.collect(), page["nextCursor"].as_str().map(str::to_owned)))
}

pub(crate) async fn who_heard_of_a_new_list_gets_it_through_the_service(namespace: Namespace) -> Outcome {
    namespace.apply(&small("listed", &json!({"replicas": 3, "catalog": edition("old")})).to_string()).await?;
    let cluster = namespace.cluster("listed");
    cluster.until_settled(3, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;
    let through = Modern::new(endpoint.clone());
    let mut listeners = Vec::new();
    for era in Era::BOTH {
        for shard in cluster.shard_endpoints().await? {
            let Opened::Held(stream) = Stream::open(&shard, era).await? else { return Err(Failure::new("no stream")) };
            listeners.push(stream);
        }
    }
    let (begun, cursor) = list(&through, None).await?;
    let cursor = cursor.ok_or_else(|| Failure::new(format!("{} tools fit a page", begun.len())))?;
    claim_eq!(begun.first().map(String::as_str), Some("first-old"), "the first tool");

    cluster.patch(&json!({"spec": {"catalog": edition("new")}})).await?;
    let heard = futures::future::select_all(
        listeners.iter().map(|stream| Box::pin(stream.until_heard(TOOLS_CHANGED, 0, Duration::from_mins(2)))),
    );
    heard.await.0?;
    // Whoever hears of it first asks at once.
    let through_service = &through;
    let lists = futures::stream::iter((0..LISTS).map(|_| list(through_service, None))).buffer_unordered(16);
    let lists: Vec<_> = lists.try_collect().await?;
    let old = lists.iter().filter(|(names, _)| names.first().map(String::as_str) != Some("first-new")).count();
    claim_eq!(old, 0, "lists of the old catalog among {LISTS} after the first stream had heard of the new one");

    // A list that was begun before is ended on any shard, also on one that has started since.
    namespace.kubectl(&["scale", "mcpcluster/listed", "--replicas=5"]).await?;
    cluster.until_settled(5, STARTS_WITHIN).await?;
    let rests = futures::stream::iter((0..100).map(|_| list(through_service, Some(&cursor)))).buffer_unordered(16);
    let rests: Vec<_> = rests.try_collect().await?;
    for (rest, _) in &rests {
        let missed: Vec<_> =
            (0..TOOLS).map(|n| format!("tool-{n}")).filter(|name| !begun.contains(name) && !rest.contains(name)).collect();
        claim!(missed.is_empty(), "a list that was begun before misses {missed:?}");
    }
    for listener in &listeners {
        listener.until_heard(TOOLS_CHANGED, 0, Duration::from_mins(1)).await?;
    }
    println!("    {LISTS} lists through the Service after the change was heard: all new; 100 that were begun before: all ended");
    Ok(())
}
