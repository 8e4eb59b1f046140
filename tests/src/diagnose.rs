//! What a person wants to read when a test failed: the resources, the pods, the events, the logs.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{ContainerState, Event, Pod};
use kube::api::{Api, ListParams, LogParams};
use kube::{Client, ResourceExt as _};
use mcp_crds::McpCluster;

use crate::operator::SYSTEM_NAMESPACE;

const LOG_LINES: i64 = 40;
/// Label of the operator's pods.
const OPERATOR: &str = "app.kubernetes.io/name=mcp-operator";

/// The state of a namespace and the operator's last words; what cannot be read is said so in its place.
pub async fn diagnose(client: &Client, namespace: &str) -> String {
    let mut text = format!("---- namespace {namespace} ----\n");
    clusters(client, namespace, &mut text).await;
    pods(client, namespace, &mut text).await;
    events(client, namespace, &mut text).await;
    operator(client, namespace, &mut text).await;
    text
}

async fn clusters(client: &Client, namespace: &str, text: &mut String) {
    match Api::<McpCluster>::namespaced(client.clone(), namespace).list(&ListParams::default()).await {
        Ok(list) => {
            for mut cluster in list.items {
                cluster.metadata.managed_fields = None;
                let yaml = serde_yaml::to_string(&cluster).unwrap_or_else(|error| error.to_string());
                let _ = writeln!(text, "---- McpCluster {} ----\n{yaml}", cluster.name_any());
            }
        }
        Err(error) => drop(writeln!(text, "McpClusters cannot be listed: {error}")),
    }
}

async fn pods(client: &Client, namespace: &str, text: &mut String) {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(error) => {
            let _ = writeln!(text, "pods cannot be listed: {error}");
            return;
        }
    };
    for pod in list {
        text.push_str(&describe(&pod));
        let tail = LogParams { tail_lines: Some(LOG_LINES), ..LogParams::default() };
        match api.logs(&pod.name_any(), &tail).await {
            Ok(log) => drop(writeln!(text, "{}", log.trim_end())),
            Err(error) => drop(writeln!(text, "  no log: {error}")),
        }
    }
}

fn describe(pod: &Pod) -> String {
    let mut text = format!("---- pod {} ----\n", pod.name_any());
    let _ = writeln!(text, "  labels {:?}; deleted at {:?}", pod.labels(), pod.metadata.deletion_timestamp);
    let Some(status) = &pod.status else { return text };
    let _ = writeln!(text, "  phase {:?}, address {:?}, reason {:?}", status.phase, status.pod_ip, status.reason);
    for condition in status.conditions.iter().flatten() {
        let (reason, message) = (condition.reason.as_deref().unwrap_or(""), condition.message.as_deref().unwrap_or(""));
        let _ = writeln!(text, "  {}={} {reason} {message}", condition.type_, condition.status);
    }
    for container in status.container_statuses.iter().flatten() {
        let (now, before) = (state(container.state.as_ref()), state(container.last_state.as_ref()));
        let _ = writeln!(text, "  container {}: {now}; before: {before}; restarts {}", container.name, container.restart_count);
    }
    text
}

fn state(state: Option<&ContainerState>) -> String {
    let Some(state) = state else { return "none".to_owned() };
    if let Some(waiting) = &state.waiting {
        let (reason, message) = (waiting.reason.as_deref().unwrap_or(""), waiting.message.as_deref().unwrap_or(""));
        return format!("waiting {reason} {message}");
    }
    if let Some(ended) = &state.terminated {
        return format!("ended {:?} with {} {:?}", ended.reason, ended.exit_code, ended.message);
    }
    if state.running.is_some() { "running".to_owned() } else { "none".to_owned() }
}

async fn events(client: &Client, namespace: &str, text: &mut String) {
    match Api::<Event>::namespaced(client.clone(), namespace).list(&ListParams::default()).await {
        Ok(mut list) => {
            list.items.sort_by_key(|event| event.metadata.creation_timestamp.clone());
            text.push_str("---- events ----\n");
            for event in list.items {
                let about = format!("{:?}/{:?}", event.involved_object.kind, event.involved_object.name);
                let _ = writeln!(text, "  {about} {:?} {:?}", event.reason, event.message);
            }
        }
        Err(error) => drop(writeln!(text, "events cannot be listed: {error}")),
    }
}

/// What the operator of every namespace says about this one; an operator of its own was shown among the pods.
async fn operator(client: &Client, namespace: &str, text: &mut String) {
    let pods = match Api::<Pod>::namespaced(client.clone(), SYSTEM_NAMESPACE).list(&ListParams::default().labels(OPERATOR)).await
    {
        Ok(list) => list.items,
        Err(error) => {
            let _ = writeln!(text, "the operator's pods cannot be listed: {error}");
            return;
        }
    };
    for pod in pods {
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let _ = writeln!(text, "---- operator {}, lines about {namespace} ----", pod.name_any());
        match api.logs(&pod.name_any(), &LogParams { tail_lines: Some(4000), ..LogParams::default() }).await {
            Ok(log) => {
                let lines: Vec<_> = log.lines().filter(|line| line.contains(namespace)).collect();
                let first = lines.len().saturating_sub(usize::try_from(LOG_LINES).unwrap_or(0));
                let _ = writeln!(text, "{}", lines[first..].join("\n"));
            }
            Err(error) => drop(writeln!(text, "  no log: {error}")),
        }
    }
}
