//! Shards that cannot start: the status says why, in the words of whoever knows.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use mcp_tests::cluster::{STARTS_WITHIN, has_condition, message};
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, claim};
use serde_json::json;

use crate::manifest::small;

/// What the kubelet says about a container that waits: reason and message.
fn waiting(pod: &Pod) -> Option<(String, String)> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let waiting = statuses.into_iter().find_map(|container| container.state.as_ref()?.waiting.as_ref())?;
    Some((waiting.reason.clone()?, waiting.message.clone().unwrap_or_default()))
}

pub(crate) async fn a_bad_image_ends_in_the_kubelets_own_words(namespace: Namespace) -> Outcome {
    let image = "registry.invalid/mcp-server:no-such-tag";
    namespace.apply(&small("fresh", &json!({"image": image})).to_string()).await?;
    let cluster = namespace.cluster("fresh");
    cluster.until_condition("Available", "False", "ImagePullFailed", STARTS_WITHIN).await?;
    cluster.until_condition("Ready", "False", "ImagePullFailed", Duration::from_secs(10)).await?;
    // The kubelet alternates between two messages; the status follows it.
    eventually("the kubelet's words in the message of Ready", STARTS_WITHIN, || async {
        let pods = cluster.pods().await?;
        let (reason, words) = pods.iter().find_map(waiting).ok_or_else(|| Failure::new("no container waits"))?;
        claim!(reason.contains("Image"), "the kubelet's reason is {reason}");
        let object = cluster.get().await?;
        let said = message(&object, "Ready");
        let names = said.starts_with("fresh-0: ") && said.contains(image);
        let quotes = said.contains(&reason) && (words.is_empty() || said.contains(words.trim()));
        claim!(names && quotes, "the kubelet: {reason}: {words}\nthe status: {said}");
        claim!(said.ends_with("Correct spec.image."), "no remedy in {said}");
        Ok(())
    })
    .await
}

pub(crate) async fn an_unschedulable_shard_says_what_the_scheduler_said(namespace: Namespace) -> Outcome {
    let spec = json!({"podTemplate": {"spec": {"nodeSelector": {"mcp-tests/nowhere": "true"}}}});
    namespace.apply(&small("stuck", &spec).to_string()).await?;
    let cluster = namespace.cluster("stuck");
    let object = cluster.until_condition("Available", "False", "Unschedulable", STARTS_WITHIN).await?;
    has_condition(&object, "Ready", "False", "Unschedulable").map_err(Failure::new)?;
    eventually("the scheduler's words in the message of Ready", STARTS_WITHIN, || async {
        let pods = cluster.pods().await?;
        let conditions = pods.iter().flat_map(|pod| pod.status.iter()).flat_map(|status| status.conditions.iter().flatten());
        let scheduled = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled");
        let words =
            scheduled.and_then(|condition| condition.message.clone()).ok_or_else(|| Failure::new("the scheduler is silent"))?;
        claim!(words.contains("nodes are available"), "the scheduler said {words}");
        let object = cluster.get().await?;
        let said = message(&object, "Ready");
        claim!(said.contains("stuck-0") && said.contains(words.trim()), "the scheduler: {words}\nthe status: {said}");
        Ok(())
    })
    .await
}
