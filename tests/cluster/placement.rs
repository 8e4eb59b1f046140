//! Which shards the client Service sends new connections to.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use mcp_crds::shard::DATA_PORT;
use mcp_tests::cluster::STARTS_WITHIN;
use mcp_tests::endpoints::Endpoints;
use mcp_tests::mcp::{Era, Stream, hold};
use mcp_tests::metrics::Metrics;
use mcp_tests::wait::eventually;
use mcp_tests::{Cluster, Failure, Namespace, Outcome, Rate, Traffic, claim, claim_eq, reach};
use serde_json::{Value, json};

use crate::manifest::small;

/// The operator asks every 5 s; endpoints follow a label within a second.
const DECIDES_WITHIN: Duration = Duration::from_mins(1);
const PLACED_LABEL: &str = "mcpcluster.dev/placed";
/// Of 400 connections a shard is meant to hold seven tenths: 280. It comes back below nine tenths of that, 252, or for one that
/// holds more than a tenth of the target, 28, more than it does.
const MOST: usize = 400;
const OVER: usize = 295;
const HARDLY_UNDER: usize = 275;
const MUCH_EMPTIER: usize = 260;
const COOL: usize = 50;

/// Waits until the client Service sends new connections to these shards and no others.
async fn until_placed(endpoints: &Endpoints, expected: &[&str]) -> Outcome {
    eventually(&format!("endpoints {expected:?}"), DECIDES_WITHIN, || async {
        let now = endpoints.now().unwrap_or_default();
        let (now, expected): (BTreeSet<_>, BTreeSet<_>) =
            (now.iter().map(String::as_str).collect(), expected.iter().copied().collect());
        claim!(now == expected, "they are {now:?}\n{}", endpoints.history());
        Ok(())
    })
    .await
}

/// Waits until the operator has asked every shard `rounds` more times: it has decided on what is true now.
async fn until_decided(cluster: &Cluster, rounds: u32) -> Outcome {
    let asked = |pods: Vec<Pod>| async move {
        let mut asked = Vec::new();
        for pod in &pods {
            asked.push(Metrics::of(cluster.namespace(), pod).await?.sum("mcp_load_reports_total")?);
        }
        Ok::<_, Failure>(asked)
    };
    let before = asked(cluster.ready_pods().await?).await?;
    eventually("rounds of the operator", DECIDES_WITHIN, || async {
        let now = asked(cluster.ready_pods().await?).await?;
        let all = now.iter().zip(&before).all(|(now, before)| *now >= before + f64::from(rounds));
        claim!(all && now.len() == before.len(), "{before:?}, then {now:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn a_full_shard_is_fenced_while_another_has_room_and_comes_back(namespace: Namespace) -> Outcome {
    let spec: Value = json!({"replicas": 3, "limits": {"maxConnections": MOST, "maxStreams": MOST}});
    namespace.apply(&small("fence", &spec).to_string()).await?;
    let cluster = namespace.cluster("fence");
    cluster.until_settled(3, STARTS_WITHIN).await?;
    let pods = cluster.ready_pods().await?;
    let [a, b, c] = &pods[..] else { return Err(Failure::new(format!("{} shards", pods.len()))) };
    let (name_a, name_b, name_c) = (a.name_any(), b.name_any(), c.name_any());
    let endpoints = Endpoints::watch(&cluster).await?;
    let all = [&name_a[..], &name_b, &name_c];
    until_placed(&endpoints, &all).await?;
    // Few enough that they do not count as load, also on a machine where a call takes seconds.
    let traffic = Traffic::start(&cluster, Rate::per_second(5)).await?;
    let fill = |pod: Pod, streams: usize| {
        let namespace = namespace.clone();
        async move { hold(&reach::pod(&namespace, &pod, DATA_PORT, "/mcp").await?, Era::Modern, streams).await }
    };

    traffic.mark(format!("{name_a} is over its target"));
    let mut on_a = fill(a.clone(), OVER).await?;
    until_placed(&endpoints, &[&name_b, &name_c]).await?;
    claim!(on_a.iter().all(|stream| stream.ended().is_none()), "fencing ended a stream");
    claim_eq!(cluster.ready_pods().await?.len(), 3, "Ready shards: readiness is not placement");

    traffic.mark(format!("{name_b} is over its target too"));
    let on_b = fill(b.clone(), OVER).await?;
    until_decided(&cluster, 3).await?;
    claim_eq!(endpoints.now(), Some(vec![name_b.clone(), name_c.clone()]), "never more than half are fenced; endpoints");

    traffic.mark(format!("{name_a} is hardly under its target"));
    on_a.truncate(HARDLY_UNDER);
    until_decided(&cluster, 3).await?;
    claim_eq!(endpoints.now(), Some(vec![name_b.clone(), name_c.clone()]), "endpoints with {} on it", HARDLY_UNDER);

    traffic.mark(format!("{name_b} is much fuller than {name_a}"));
    on_a.truncate(MUCH_EMPTIER);
    until_placed(&endpoints, &[&name_a, &name_c]).await?;

    traffic.mark(format!("{name_a} has cooled"));
    on_a.truncate(COOL);
    // The one that is over goes, now that half stay without it, or stays within the budget of flips: the cool one comes back.
    eventually("the cooled shard among the endpoints", DECIDES_WITHIN, || async {
        let now = endpoints.now().unwrap_or_default();
        claim!(now.contains(&name_a), "{now:?}\n{}", endpoints.history());
        Ok(())
    })
    .await?;
    claim!(on_a.iter().chain(&on_b).all(|stream: &Stream| stream.ended().is_none()), "placement ended a stream");

    let fenced: Vec<_> = cluster
        .pods()
        .await?
        .iter()
        .filter(|pod| pod.labels().get(PLACED_LABEL).is_some_and(|p| p == "false"))
        .map(Pod::name_any)
        .collect();
    claim!(fenced.len() <= 1, "fenced: {fenced:?}");
    let report = traffic.stop().await?;
    println!("{report}");
    // A shard that is nearly full refuses, politely, while a busy machine makes calls pile up: that is no loss.
    report.nothing_lost()?;
    endpoints.never_empty()
}
