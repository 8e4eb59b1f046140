//! Pods under foreign hands: admission that changes them, kubelets that end them, people who delete and resize them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace as CoreNamespace, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use mcp_tests::cluster::{Cluster, STARTS_WITHIN, is_ready, message, restarts, uid};
use mcp_tests::mcp::{Era, Modern, hold};
use mcp_tests::operator::Images;
use mcp_tests::record::Record;
use mcp_tests::wait::{eventually, throughout};
use mcp_tests::{Failure, Namespace, Outcome, claim, claim_eq, fail};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::manifest::{greet, small};

/// Name of the webhook's Deployment and Service.
const INJECTOR: &str = "injector";
/// Annotation and label that it sets.
const INJECTED: &str = "example.com/injected";
/// A pod that should not be there is seen by then: the operator looks every 5 s.
const QUIET: Duration = Duration::from_secs(15);

/// The webhook of tests/sidecar-injector, for this namespace only; it goes with the namespace, which owns it.
async fn inject_sidecars(namespace: &Namespace) -> Outcome {
    let images = Images::from_env();
    let host = format!("{INJECTOR}.{}.svc", namespace.name());
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([host])?.self_signed(&key)?.pem();
    let own = json!({"app.kubernetes.io/name": INJECTOR});
    let container = json!({
        "name": INJECTOR, "image": images.named("sidecar-injector"), "imagePullPolicy": "IfNotPresent",
        "env": [
            {"name": "INJECTOR_CERTIFICATE", "value": certificate},
            {"name": "INJECTOR_KEY", "value": key.serialize_pem()},
            {"name": "INJECTOR_IMAGE", "value": images.named("http-echo")},
        ],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "5m"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": INJECTOR},
        "spec": {"selector": {"matchLabels": own}, "template": {"metadata": {"labels": own}, "spec": {
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1, "containers": [container],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        }}},
    });
    namespace.apply(&deployment.to_string()).await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": INJECTOR},
        "spec": {"selector": own, "ports": [{"port": 443, "targetPort": 8443}]},
    });
    namespace.apply(&service.to_string()).await?;
    namespace.kubectl(&["rollout", "status", "deployment/injector", "--timeout=90s"]).await?;

    let owner = Api::<CoreNamespace>::all(namespace.client().clone()).get(namespace.name()).await?;
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": namespace.name(), "ownerReferences": [
            {"apiVersion": "v1", "kind": "Namespace", "name": namespace.name(), "uid": owner.uid()},
        ]},
        "webhooks": [{
            "name": "sidecar.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            "timeoutSeconds": 10, "reinvocationPolicy": "IfNeeded",
            "clientConfig": {
                "service": {"namespace": namespace.name(), "name": INJECTOR},
                "caBundle": k8s_openapi::ByteString(certificate_of(&deployment)),
            },
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name()}},
            "objectSelector": {"matchExpressions": [{"key": "mcpcluster.dev/cluster", "operator": "Exists"}]},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "Namespaced"}],
        }],
    });
    namespace.apply(&webhook.to_string()).await
}

fn certificate_of(deployment: &Value) -> Vec<u8> {
    let pem = &deployment["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
    pem.as_str().unwrap_or_default().as_bytes().to_vec()
}

async fn uids(cluster: &Cluster) -> Outcome<BTreeSet<String>> {
    Ok(cluster.pods().await?.iter().map(uid).collect())
}

pub(crate) async fn what_admission_adds_to_a_pod_is_no_drift(namespace: Namespace) -> Outcome {
    let body = admitted(&namespace).boxed().await;
    // Before the namespace, whose pods it would keep from being created.
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(namespace.client().clone());
    let removed = webhooks.delete(namespace.name(), &DeleteParams::default()).await;
    body.and(removed.map(drop).map_err(Failure::from))
}

async fn admitted(namespace: &Namespace) -> Outcome {
    let record = Record::of(namespace);
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "defaults"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "300m", "ephemeral-storage": "1Gi"}, "defaultRequest": {"ephemeral-storage": "1Mi"}},
    ]}});
    namespace.apply(&range.to_string()).await?;
    inject_sidecars(namespace).await?;
    namespace.apply(&small("meshed", &json!({"replicas": 2})).to_string()).await?;
    let cluster = namespace.cluster("meshed");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    for pod in cluster.pods().await? {
        let spec = pod.spec.clone().unwrap_or_default();
        let containers: Vec<_> = spec.containers.iter().map(|container| container.name.as_str()).collect();
        claim_eq!(containers, ["sidecar", "server"], "containers of {}", pod.name_any());
        let limits = spec.containers[1].resources.as_ref().and_then(|resources| resources.limits.as_ref());
        claim!(limits.is_some_and(|limits| limits.contains_key("cpu") && limits.contains_key("ephemeral-storage")), "{limits:?}");
        claim!(pod.labels().contains_key(INJECTED) && pod.annotations().contains_key(INJECTED), "{:?}", pod.labels());
        // Created and labelled, never applied.
        for entry in pod.managed_fields().iter().filter(|entry| entry.manager.as_deref() == Some("mcp-operator")) {
            claim_eq!(entry.operation.as_deref(), Some("Update"), "how the operator wrote {}", pod.name_any());
        }
    }
    let before = uids(&cluster).await?;
    // A pass after another, also about a change that the shards take live, replaces nothing.
    cluster.patch(&json!({"spec": {"logging": {"level": "Debug"}}})).await?;
    cluster.until_settled(2, STARTS_WITHIN).await?;
    throughout("the same pods", QUIET, || async {
        claim_eq!(uids(&cluster).await?, before, "pods");
        Ok(())
    })
    .await?;
    cluster.patch(&json!({"spec": {"replicas": 3}})).await?;
    cluster.until_settled(3, STARTS_WITHIN).await?;
    claim!(uids(&cluster).await?.is_superset(&before), "a pod was replaced");
    let course = record.course("meshed", "Progressing");
    claim!(course.iter().all(|step| step != "True RollingOut"), "Progressing went {course:?}");
    record.check().map(drop)
}

pub(crate) async fn a_pod_that_ends_is_replaced_at_once_whatever_becomes_of_its_name(namespace: Namespace) -> Outcome {
    namespace.apply(&small("ended", &json!({"replicas": 2})).to_string()).await?;
    let cluster = namespace.cluster("ended");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let pods: Api<Pod> = namespace.api();

    // Deleted by somebody: it ends for as long as its clients need, and nobody waits for its name.
    let endpoint = cluster.endpoint().await?;
    let streams = hold(&endpoint, Era::Modern, 6).await?;
    pods.delete("ended-0", &DeleteParams::default()).await?;
    eventually("another pod beside the one that ends", STARTS_WITHIN, || async {
        let all = cluster.pods().await?;
        let ending = all.iter().any(|pod| pod.name_any() == "ended-0" && pod.metadata.deletion_timestamp.is_some());
        let other = all.iter().any(|pod| pod.name_any() == "ended-2");
        claim!(ending || !other, "ended-2 came when ended-0 was gone");
        claim!(ending && other, "pods: {:?}", all.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>());
        Ok(())
    })
    .await?;
    cluster.until_settled(2, STARTS_WITHIN).await?;
    drop(streams);

    // Ended for good by its kubelet, as an evicted one: removed at once, and its name is free.
    let failed = pods.get("ended-2").await?;
    let deadline = json!({"spec": {"activeDeadlineSeconds": 1}});
    pods.patch("ended-2", &PatchParams::default(), &Patch::Merge(deadline)).await?;
    eventually("a new pod of a free name", STARTS_WITHIN, || async {
        let all = cluster.pods().await?;
        let phases: Vec<_> = all.iter().map(|pod| pod.status.as_ref().and_then(|status| status.phase.clone())).collect();
        claim!(all.iter().all(|pod| uid(pod) != uid(&failed)), "the old one is there: {phases:?}");
        claim!(all.len() == 2 && all.iter().all(is_ready), "phases: {phases:?}");
        Ok(())
    })
    .await?;
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let names: BTreeSet<_> = cluster.pods().await?.iter().map(kube::ResourceExt::name_any).collect();
    claim!(names.iter().all(|name| ["ended-0", "ended-1", "ended-2"].contains(&name.as_str())), "names: {names:?}");
    cluster.until_event("Finished", "ended-2 is deleted", Duration::from_secs(30)).await?;
    claim_eq!(Modern::new(endpoint).call("greet", json!({})).await?.tool_text()?, "Hello.", "a call afterwards");
    Ok(())
}

/// The limit of the server container, in the spec and as the shard reports it to the operator.
pub(crate) async fn a_resize_in_place_is_accepted_and_shown(namespace: Namespace) -> Outcome {
    let spec = json!({"replicas": 1, "catalog": {"tools": [greet("Hello.")]}});
    namespace.apply(&small("resized", &spec).to_string()).await?;
    let cluster = namespace.cluster("resized");
    let object = cluster.until_settled(1, STARTS_WITHIN).await?;
    claim!(message(&object, "MemoryPressure").contains("% of 64Mi"), "{}", message(&object, "MemoryPressure"));
    let [before] = &cluster.pods().await?[..] else { fail!("not one pod") };
    let change = json!({"spec": {"containers": [{"name": "server", "resources": {
        "requests": {"memory": "128Mi"}, "limits": {"memory": "128Mi"},
    }}]}});
    namespace
        .kubectl(&["patch", "pod", "resized-0", "--subresource=resize", "--type=strategic", "-p", &change.to_string()])
        .await?;
    // The operator says what the shard runs under now, and undoes nothing.
    cluster
        .until("the new limit in the status", STARTS_WITHIN, |cluster| {
            let said = message(cluster, "MemoryPressure");
            if said.contains("% of 128Mi") { Ok(()) } else { Err(said.to_owned()) }
        })
        .await?;
    throughout("the new limit", QUIET, || async {
        let [pod] = &cluster.pods().await?[..] else { fail!("not one pod") };
        claim_eq!((uid(pod), restarts(pod)), (uid(before), restarts(before)), "pod and restarts");
        let limit = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .find_map(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory").cloned());
        claim_eq!(limit.map(|limit| limit.0), Some("128Mi".to_owned()), "limit of the pod");
        Ok(())
    })
    .await?;
    cluster.until_settled(1, STARTS_WITHIN).await?;
    Ok(())
}
