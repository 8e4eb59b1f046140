//! What docs/local-cluster.md says of the cluster these tests run on, as far as one that is up can show it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use mcp_tests::machine::Machine;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, claim, claim_eq};
use tokio::time::timeout;

use crate::node_loss::{node_of_operator, nodes};

/// A request that is not answered by then is not answered.
const NO_ANSWER: Duration = Duration::from_secs(3);

async fn state_of(machine: &Machine, part: &str) -> Outcome<String> {
    // It ends with 1 unless everything runs, and says what does not.
    let table = machine.said(&["status"]).await?;
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(part));
    let state = line.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned);
    state.ok_or_else(|| Failure::new(format!("no {part} in\n{table}")))
}

pub(crate) async fn parts_pause_go_on_end_and_start(namespace: Namespace) -> Outcome {
    let machine = Machine::of(namespace.run())?;
    let server = machine.stop("apiserver");
    server.pause().await?;
    claim_eq!(state_of(&machine, "apiserver").await?, "paused", "the API server");
    let asked = timeout(NO_ANSWER, namespace.client().apiserver_version()).await;
    claim!(asked.is_err(), "a paused API server answered: {asked:?}");
    server.resume().await?;
    eventually("an answer of the API server", Duration::from_mins(1), || async {
        Ok(namespace.client().apiserver_version().await.map(drop)?)
    })
    .await?;

    let scheduler = machine.stop("scheduler");
    scheduler.kill().await?;
    claim_eq!(state_of(&machine, "scheduler").await?, "dead", "the scheduler");
    claim!(machine.run(&["status"]).await.is_err(), "with a dead part, status says that all is well");
    scheduler.start().await?;
    claim_eq!(state_of(&machine, "scheduler").await?, "running", "the scheduler");
    claim!(machine.run(&["status"]).await.is_ok(), "all parts run, and status does not say so");
    Ok(())
}

pub(crate) async fn a_cut_node_is_not_reached_and_a_joined_one_is(namespace: Namespace) -> Outcome {
    let machine = Machine::of(namespace.run())?;
    let operator = node_of_operator(&namespace).await?;
    let other = nodes(&namespace).await?.into_iter().find(|node| *node != operator);
    let mut node = machine.disturb(&other.ok_or_else(|| Failure::new("there is one node only"))?);
    let address = address(&namespace, node.name()).await?;
    let kubelet = format!("https://{address}:10250/healthz");
    let ask = ["exec", "--", "curl", "--insecure", "--silent", "--max-time", "3", "--output", "/dev/null", &kubelet];
    machine.run(&ask).await?;
    node.cut().await?;
    claim!(machine.run(&ask).await.is_err(), "the kubelet of a cut node answers");
    node.bring_back().await?;
    machine.run(&ask).await.map(drop)
}

async fn address(namespace: &Namespace, node: &str) -> Outcome<String> {
    let addresses = Api::<Node>::all(namespace.client().clone()).get(node).await?.status.unwrap_or_default().addresses;
    let internal = addresses.unwrap_or_default().into_iter().find(|address| address.type_ == "InternalIP");
    internal.map(|address| address.address).ok_or_else(|| Failure::new(format!("{node} has no address")))
}

/// Every verb that changes something, from a checkout whose state is elsewhere.
pub(crate) async fn another_checkout_is_refused_and_told_whose_the_cluster_is(namespace: Namespace) -> Outcome {
    let machine = Machine::of(namespace.run())?;
    let holder = machine.run(&["kubeconfig"]).await?;
    let holder = holder.trim().trim_end_matches("/kubeconfig");
    let elsewhere = std::env::temp_dir().join(format!("mcp-tests-{}", std::process::id()));
    let elsewhere = elsewhere.to_string_lossy();
    for verb in [&["up"][..], &["down"], &["status"], &["kill", "scheduler"], &["cut", "node-1"]] {
        let refused = machine.run(&[&["--state", &elsewhere][..], verb].concat()).await;
        let why = refused.err().map(|why| why.to_string()).unwrap_or_default();
        claim!(why.contains(holder), "{verb:?} was not refused with a word about {holder}: {why:?}");
    }
    claim!(!std::path::Path::new(&*elsewhere).exists(), "a refusal left {elsewhere}");
    machine.run(&["status"]).await.map(drop)
}
