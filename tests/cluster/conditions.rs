//! Conditions as API: reasons that no other test produces, each on a real cluster, and what holds of every status in between.
//! Which test produces which reason is in tests/reasons.rs.

use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams};
use mcp_crds::shard::ADMIN_PORT;
use mcp_tests::cluster::{Cluster, STARTS_WITHIN, has_condition, message};
use mcp_tests::mcp::{Era, hold};
use mcp_tests::operator::Images;
use mcp_tests::record::Record;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, claim, claim_eq, reach};
use serde_json::{Value, json};

use crate::manifest::{greet, small};
use crate::scaling::slow_upload;

/// The operator looks every 5 s; a refused write is tried again within 30 s; a busy machine takes its time.
const TOLD_WITHIN: Duration = Duration::from_secs(90);

/// Waits for several conditions of one cluster, one after the other.
async fn until_all(cluster: &Cluster, conditions: &[(&str, &str, &str)]) -> Outcome {
    for (kind, status, reason) in conditions {
        cluster.until_condition(kind, status, reason, TOLD_WITHIN).await?;
    }
    Ok(())
}

/// Waits until the record, whose watch may be a moment behind, has seen them.
async fn until_seen(record: &Record, conditions: &[(&str, &str, &str)]) -> Outcome {
    eventually("conditions in the record", Duration::from_secs(10), || async {
        let seen = record.check()?;
        for (kind, status, reason) in conditions {
            let condition = ((*kind).to_owned(), (*status).to_owned(), (*reason).to_owned());
            claim!(seen.contains(&condition), "never seen: {kind}={status} {reason}");
        }
        Ok(())
    })
    .await
}

/// The part of `kubectl describe` that a person reads first: a line of the conditions, by its message.
async fn describe(namespace: &Namespace, cluster: &str, parts: &[&str]) -> Outcome {
    let text = namespace.kubectl(&["describe", "mcpcluster", cluster]).await?;
    for part in parts {
        claim!(text.contains(part), "`kubectl describe` does not show {part:?}:\n{text}");
    }
    Ok(())
}

async fn kubectl_wait(namespace: &Namespace, cluster: &str, condition: &str) -> Outcome {
    let (condition, name) = (format!("--for=condition={condition}"), format!("mcpcluster/{cluster}"));
    namespace.kubectl(&["wait", &condition, &name, "--timeout=90s"]).await.map(drop)
}

// === a catalog that cannot be served ===

/// A ConfigMap with tools, for `catalog.sources`.
fn source(name: &str, tools: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"catalog.yaml": tools}}).to_string()
}

fn reference(name: &str) -> Value {
    json!({"name": name, "configMapKeyRef": {"name": name, "key": "catalog.yaml"}})
}

/// Text that hardly compresses: half a megabyte that a seed draws.
fn noise(seed: u64, bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(LETTERS[usize::try_from(state >> 58).unwrap_or_default()])
    };
    (0..bytes).map(|_| next()).collect()
}

fn large(seed: u64) -> String {
    let tool = |number: u64| {
        let text = noise(seed * 100 + number, 60_000);
        json!({"name": format!("t{seed}-{number}"), "static": {"content": [{"text": text}]}})
    };
    json!({"tools": (0..14).map(tool).collect::<Vec<_>>()}).to_string()
}

pub(crate) async fn a_catalog_that_cannot_be_served_says_why(namespace: Namespace) -> Outcome {
    let record = Record::of(&namespace);
    let tools = || json!([greet("Hello.")]);
    let api = json!({"name": "api", "url": "http://api.example.com", "authorization": {"bearer": {"secretKeyRef": {"name": "token", "key": "t"}}}});
    for (name, catalog) in [
        ("sourceless", json!({"tools": tools(), "sources": [reference("later")]})),
        ("secretless", json!({"backends": [api], "tools": [{"name": "call", "http": {"backend": "api", "url": "/"}}]})),
        ("doubled", json!({"tools": tools(), "sources": [reference("double")]})),
        ("wrong", json!({"tools": [{"name": "t", "template": {"content": [{"text": "{nobody}"}]}}]})),
        ("large", json!({"tools": tools(), "sources": [reference("large-1"), reference("large-2")]})),
    ] {
        if name == "doubled" {
            namespace.apply(&source("double", "tools: [{name: greet, static: {content: [{text: Two}]}}]")).await?;
        } else if name == "large" {
            namespace.apply(&source("large-1", &large(1))).await?;
            namespace.apply(&source("large-2", &large(2))).await?;
        }
        namespace.apply(&small(name, &json!({"replicas": 1, "catalog": catalog})).to_string()).await?;
    }
    for (name, reason, said) in [
        ("sourceless", "SourceMissing", "later"),
        ("secretless", "SecretMissing", "token"),
        ("doubled", "DuplicateName", "greet"),
        ("wrong", "Invalid", "nobody"),
        ("large", "TooLarge", "split the catalog"),
    ] {
        let cluster = namespace.cluster(name);
        let object = cluster.until_condition("CatalogValid", "False", reason, TOLD_WITHIN).await?;
        let words = message(&object, "CatalogValid");
        claim!(words.contains(said) && words.ends_with("Nothing is served before it is correct."), "{name}: {words}");
        // A new cluster: the reason says more than that no shard is there.
        has_condition(&object, "Ready", "False", "CatalogInvalid").map_err(Failure::new)?;
        has_condition(&object, "Available", "False", "NoShardReady").map_err(Failure::new)?;
        claim!(message(&object, "Ready").contains(said), "{name}: {}", message(&object, "Ready"));
        describe(&namespace, name, &[reason, "CatalogInvalid", said]).await?;
        claim!(cluster.pods().await?.is_empty(), "{name} has pods");
    }
    // What is missing comes, and they start: a ConfigMap is watched, a Secret is looked for every 10 s.
    namespace.apply(&source("later", "tools: [{name: later, static: {content: [{text: Late}]}}]")).await?;
    namespace
        .apply(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"t": "s"}}).to_string(),
        )
        .await?;
    for name in ["sourceless", "secretless"] {
        kubectl_wait(&namespace, name, "Ready").await?;
        let object = namespace.cluster(name).get().await?;
        has_condition(&object, "CatalogValid", "True", "Compiled").map_err(Failure::new)?;
    }
    // And goes: what was published stays, and says of which generation.
    namespace.api::<Secret>().delete("token", &DeleteParams::default()).await?;
    let cluster = namespace.cluster("sourceless");
    cluster
        .patch(&json!({"spec": {"catalog": {"tools": [{"name": "t", "template": {"content": [{"text": "{nobody}"}]}}]}}}))
        .await?;
    let object = cluster.until_condition("Ready", "False", "CatalogInvalid", TOLD_WITHIN).await?;
    claim_eq!(message(&object, "Ready"), "1 shard serves the catalog of generation 1.", "message of Ready");
    has_condition(&object, "Available", "True", "ShardsReady").map_err(Failure::new)?;
    until_seen(&record, &[("AutoscalingActive", "False", "ManualReplicas"), ("MemoryPressure", "Unknown", "MetricsUnavailable")])
        .await
}

// === what the API server and the person in charge do not let happen ===

pub(crate) async fn what_is_not_allowed_is_told_in_the_words_of_who_forbids_it(namespace: Namespace) -> Outcome {
    let record = Record::of(&namespace);
    let quota = |pods: &str| json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"count/pods": pods}}});
    let present = namespace.api::<Pod>().list(&ListParams::default()).await?.items.len();
    namespace.apply(&quota(&present.to_string()).to_string()).await?;
    for (name, spec) in [
        ("poor", json!({"replicas": 1})),
        ("halted", json!({"replicas": 1, "paused": true})),
        ("nothing", json!({"replicas": 0})),
    ] {
        namespace.apply(&small(name, &spec).to_string()).await?;
    }
    let poor = namespace.cluster("poor");
    let object = poor.until_condition("Available", "False", "QuotaExceeded", TOLD_WITHIN).await?;
    has_condition(&object, "Ready", "False", "QuotaExceeded").map_err(Failure::new)?;
    has_condition(&object, "Progressing", "False", "ApplyFailed").map_err(Failure::new)?;
    claim!(message(&object, "Ready").contains("exceeded quota: small"), "{}", message(&object, "Ready"));
    describe(&namespace, "poor", &["exceeded quota: small", "Warning  QuotaExceeded"]).await?;

    // `paused`: nothing is created, and status goes on.
    let halted = namespace.cluster("halted");
    until_all(&halted, &[("Progressing", "False", "Paused"), ("AutoscalingActive", "False", "Paused")]).await?;
    until_all(
        &namespace.cluster("nothing"),
        &[("Available", "False", "ScaledToZero"), ("Ready", "False", "ScaledToZero"), ("Progressing", "False", "Settled")],
    )
    .await?;

    // A quota is not watched: it is tried again within half a minute.
    namespace.apply(&quota("50").to_string()).await?;
    kubectl_wait(&namespace, "poor", "Ready").await?;
    // A LimitRange refuses in other words.
    namespace.apply(&json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "range"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "80Mi"}}]}}).to_string()).await?;
    namespace.apply(&small("wide", &json!({"replicas": 1, "resources": {"limits": {"memory": "96Mi"}}})).to_string()).await?;
    let wide = namespace.cluster("wide");
    let object = wide.until_condition("Ready", "False", "ApplyFailed", TOLD_WITHIN).await?;
    claim!(message(&object, "Ready").contains("maximum memory usage per Container is 80Mi"), "{}", message(&object, "Ready"));
    has_condition(&object, "Available", "False", "NoShardReady").map_err(Failure::new)?;

    poor.patch(&json!({"spec": {"paused": true, "replicas": 3}})).await?;
    until_all(&poor, &[("Ready", "True", "Paused"), ("Progressing", "False", "Paused"), ("Available", "True", "ShardsReady")])
        .await?;
    claim_eq!(poor.pods().await?.len(), 1, "pods of a paused cluster");
    poor.patch(&json!({"spec": {"paused": false, "replicas": 1}})).await?;
    kubectl_wait(&namespace, "poor", "Ready").await?;
    until_all(&poor, &[("MemoryPressure", "False", "BelowTarget")]).await?;
    until_seen(
        &record,
        &[("Ready", "True", "Serving"), ("MemoryPressure", "False", "BelowTarget"), ("Draining", "False", "NoShardDraining")],
    )
    .await?;
    claim_eq!(record.course("poor", "CatalogValid"), ["True Compiled"], "course of CatalogValid");
    Ok(())
}

// === shards that do not do what they should ===

/// A server that is Ready, answers no load report, and takes more memory than it may: another program altogether.
fn impostor(more: &Value) -> Value {
    let mut spec = json!({
        "image": Images::from_env().named("http-echo"),
        "env": [{"name": "ECHO_LISTEN", "value": format!("0.0.0.0:{ADMIN_PORT}")}],
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    spec
}

/// Fills the memory of an impostor: it reads every body whole.
async fn overflow(namespace: &Namespace, cluster: &Cluster, kills: i32) -> Outcome {
    eventually("a kill for memory", TOLD_WITHIN, || async {
        let pods = cluster.pods().await?;
        let [pod] = &pods[..] else { return Err(Failure::new(format!("{} pods", pods.len()))) };
        let count = mcp_tests::cluster::restarts(pod);
        if count >= kills {
            return Ok(());
        }
        let endpoint = reach::pod(namespace, pod, ADMIN_PORT, "/fill").await?;
        let bodies = (0..120).map(|_| {
            let part = Bytes::from(vec![b' '; 1_000_000]);
            let whole =
                futures::StreamExt::chain(futures::stream::iter([Ok::<_, std::io::Error>(part)]), futures::stream::pending());
            let request = endpoint.http.post(endpoint.url.clone()).body(reqwest::Body::wrap_stream(whole));
            tokio::time::timeout(Duration::from_secs(5), request.send())
        });
        futures::future::join_all(bodies).await;
        Err(Failure::new(format!("{count} restarts")))
    })
    .await
}

pub(crate) async fn shards_that_crash_or_keep_silent_are_told_apart(namespace: Namespace) -> Outcome {
    let record = Record::of(&namespace);
    let autoscaling = json!({"minReplicas": 1, "maxReplicas": 3});
    for (name, spec) in [
        // The operator has nothing to say to a shard's environment, and ends at once.
        ("crashing", json!({"replicas": 1, "image": Images::from_env().named("mcp-operator")})),
        ("silent", impostor(&json!({"autoscaling": autoscaling}))),
        ("greedy", impostor(&json!({"replicas": 1}))),
    ] {
        namespace.apply(&small(name, &spec).to_string()).await?;
    }
    let crashing = async {
        let cluster = namespace.cluster("crashing");
        let object = cluster.until_condition("Available", "False", "CrashLooping", TOLD_WITHIN).await?;
        has_condition(&object, "Ready", "False", "CrashLooping").map_err(Failure::new)?;
        claim!(message(&object, "Ready").contains("kubectl logs crashing-0 --previous"), "{}", message(&object, "Ready"));
        // The remedy works, but for the moment in which the kubelet clears the last container away and starts the next.
        eventually("the log of the last crash", TOLD_WITHIN, || namespace.kubectl(&["logs", "crashing-0", "--previous"])).await?;
        describe(&namespace, "crashing", &["Warning  CrashLooping", "crashing-0"]).await
    };
    let silent = async {
        let cluster = namespace.cluster("silent");
        let unheard = [
            ("AutoscalingActive", "False", "MetricsUnavailable"),
            ("ScalingLimited", "True", "ShardSilent"),
            ("MemoryPressure", "Unknown", "MetricsUnavailable"),
            ("Available", "True", "ShardsReady"),
            ("Ready", "True", "MetricsUnavailable"),
        ];
        until_all(&cluster, &unheard).await?;
        let object = cluster.get().await?;
        claim!(message(&object, "AutoscalingActive").contains("NetworkPolicy"), "{}", message(&object, "AutoscalingActive"));
        Ok(())
    };
    let greedy = async {
        let cluster = namespace.cluster("greedy");
        cluster.until_condition("Available", "True", "ShardsReady", STARTS_WITHIN).await?;
        let killing = overflow(&namespace, &cluster, 3);
        let told = async {
            until_all(&cluster, &[("MemoryPressure", "True", "OOMKilled"), ("Available", "False", "OOMKilled")]).await?;
            let object = cluster.get().await?;
            claim!(
                message(&object, "MemoryPressure").contains("Raise `resources.limits.memory`"),
                "{}",
                message(&object, "MemoryPressure")
            );
            Ok(())
        };
        futures::try_join!(killing, told).map(drop)
    };
    futures::try_join!(crashing, silent, greedy)?;
    until_seen(
        &record,
        &[
            ("Ready", "Unknown", "Reconciling"),
            ("Available", "Unknown", "Reconciling"),
            ("AutoscalingActive", "Unknown", "Starting"),
            ("ScalingLimited", "Unknown", "Starting"),
            ("Progressing", "True", "ScalingOut"),
            ("Ready", "False", "OOMKilled"),
        ],
    )
    .await
}

// === what load asks for and does not get ===

fn sized(autoscaling: &Value) -> Value {
    json!({"autoscaling": autoscaling, "limits": {"requestTimeout": "5s", "maxStreams": 200, "maxConnections": 300}})
}

pub(crate) async fn what_load_asks_for_and_does_not_get_is_told(namespace: Namespace) -> Outcome {
    let record = Record::of(&namespace);
    let connections = json!({"targetPerReplica": 20});
    let slowly = json!({"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 600}]}});
    let later = json!({"scaleUp": {"stabilizationWindowSeconds": 600}});
    let clusters = [
        ("most", sized(&json!({"minReplicas": 1, "maxReplicas": 1, "connections": connections}))),
        ("rated", sized(&json!({"minReplicas": 1, "maxReplicas": 4, "connections": connections, "behavior": slowly}))),
        ("calm", sized(&json!({"minReplicas": 1, "maxReplicas": 4, "connections": connections, "behavior": later}))),
        ("least", sized(&json!({"minReplicas": 2, "maxReplicas": 4}))),
        (
            "tight",
            json!({
                "autoscaling": {"minReplicas": 1, "maxReplicas": 1, "memory": {"targetPercent": 10}},
                "limits": {"readTimeout": "60s", "requestTimeout": "60s", "maxRequestSize": "2Mi"},
                "drain": {"window": "2s", "timeout": "60s"},
            }),
        ),
    ];
    for (name, spec) in &clusters {
        namespace.apply(&small(name, spec).to_string()).await?;
    }
    let loaded = |name: &'static str, reason: &'static str, ready: &'static str| {
        let cluster = namespace.cluster(name);
        async move {
            cluster.until_condition("Available", "True", "ShardsReady", STARTS_WITHIN).await?;
            cluster.until_condition("ScalingLimited", "False", "WithinBounds", STARTS_WITHIN).await?;
            let streams = hold(&cluster.endpoint().await?, Era::Modern, 70).await?;
            let object = cluster.until_condition("ScalingLimited", "True", reason, TOLD_WITHIN).await?;
            claim!(message(&object, "ScalingLimited").starts_with("Load asks for"), "{}", message(&object, "ScalingLimited"));
            has_condition(&object, "AutoscalingActive", "True", "Deciding").map_err(Failure::new)?;
            cluster.until_condition("Ready", "True", ready, TOLD_WITHIN).await?;
            drop(streams);
            Ok(())
        }
    };
    let least = async {
        let cluster = namespace.cluster("least");
        until_all(&cluster, &[("Available", "True", "ShardsReady"), ("ScalingLimited", "True", "AtMinimum")]).await
    };
    let tight = async {
        let cluster = namespace.cluster("tight");
        cluster.until_condition("Available", "True", "ShardsReady", STARTS_WITHIN).await?;
        let endpoint = cluster.endpoint().await?;
        let uploads: Vec<_> = (0..4).map(|_| tokio::spawn(slow_upload(endpoint.clone(), 2_000_000))).collect();
        let told = until_all(&cluster, &[("MemoryPressure", "True", "AboveTarget"), ("Ready", "True", "MemoryPressure")]).await;
        uploads.iter().for_each(tokio::task::JoinHandle::abort);
        told
    };
    futures::try_join!(
        loaded("most", "AtMaximum", "AtMaximum"),
        loaded("rated", "RateLimited", "Serving"),
        loaded("calm", "Stabilizing", "Serving"),
        least,
        tight
    )?;
    describe(&namespace, "most", &["maxReplicas"]).await?;
    record.check().map(drop)
}

// === what moves a status, and what does not ===

/// A catalog that flips, a shard that is deleted and one that drains: conditions go where they should and nowhere else.
pub(crate) async fn conditions_move_when_something_did_and_not_in_between(namespace: Namespace) -> Outcome {
    let record = Record::of(&namespace);
    namespace.apply(&small("moved", &json!({"replicas": 2})).to_string()).await?;
    let cluster = namespace.cluster("moved");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    claim_eq!(record.course("moved", "Ready").first().map(String::as_str), Some("Unknown Reconciling"), "the first Ready");
    let before = record.course("moved", "Ready");
    // `kubectl wait` waits until the shards serve it, although Ready never was anything but True.
    cluster.patch(&json!({"spec": {"catalog": {"tools": [greet("Hello again.")]}}})).await?;
    kubectl_wait(&namespace, "moved", "Ready").await?;
    let object = cluster.until_settled(2, TOLD_WITHIN).await?;
    has_condition(&object, "Ready", "True", "Serving").map_err(Failure::new)?;
    claim_eq!(record.course("moved", "Ready"), before, "course of Ready over a flip");

    let pods: Api<Pod> = namespace.api();
    let held = hold(&cluster.endpoint().await?, Era::Modern, 6).await?;
    let victim = cluster.ready_pods().await?.first().map(kube::ResourceExt::name_any).unwrap_or_default();
    pods.delete(&victim, &DeleteParams::default()).await?;
    cluster.until_condition("Draining", "True", "Eviction", TOLD_WITHIN).await?;
    cluster.until_settled(2, TOLD_WITHIN).await?;
    cluster.patch(&json!({"spec": {"replicas": 1}})).await?;
    cluster.until_condition("Draining", "True", "ScaleIn", TOLD_WITHIN).await?;
    cluster.until_settled(1, TOLD_WITHIN).await?;
    drop(held);
    until_seen(
        &record,
        &[("Progressing", "True", "Replacing"), ("Progressing", "True", "ScalingIn"), ("Progressing", "False", "Settled")],
    )
    .await
}
