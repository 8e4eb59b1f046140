//! What is applied: the same catalog, limits and sizes for both sides.

use mcp_crds::shard::{ADMIN_PORT, CONTROL_PORT, DATA_PORT, KEYS_FILE};
use mcp_tests::operator::Images;
use serde_json::{Value, json};

use crate::options::Side;

/// Of the `McpCluster`, and of the Deployment with its HPA.
pub(crate) const NAME: &str = "memory";
/// The REST API behind the heavy tools.
const ECHO: &str = "echo";
/// Fewest and most shards.
pub(crate) const BOUNDS: (i32, i32) = (2, 6);
/// Memory target, percent: of the limit, which is the request.
pub(crate) const TARGET: i32 = 40;
/// Bytes of the answer of `report`.
pub(crate) const REPORT: usize = 400_000;
/// Seconds that `slow` takes: an answer that takes over five is a stream, and can be resumed.
const SLOW_MS: u32 = 6_000;

/// The REST API.
pub(crate) fn echo() -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/name": ECHO});
    let container = json!({
        "name": ECHO, "image": Images::from_env().named("http-echo"), "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/livez", "port": "http"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": restricted(),
    });
    vec![
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ECHO}, "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod(&container)},
        }}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": ECHO}, "spec": {
            "selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        }}),
    ]
}

/// How fast the size may fall, on both sides: this is a matter of minutes, not of a day.
fn behavior() -> Value {
    json!({"scaleDown": {
        "stabilizationWindowSeconds": 30, "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 2, "periodSeconds": 15}],
    }})
}

fn manifest(limit: u64) -> Value {
    // One text may not be longer than 256 KiB.
    let half = "r".repeat(REPORT / 2);
    json!({
        "apiVersion": "mcpcluster.dev/v1alpha1",
        "kind": "McpCluster",
        "metadata": {"name": NAME},
        "spec": {
            "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": format!("{limit}Mi")}},
            "autoscaling": {
                "minReplicas": BOUNDS.0, "maxReplicas": BOUNDS.1,
                "memory": {"targetPercent": TARGET}, "behavior": behavior(),
            },
            "limits": {"requestTimeout": "60s"},
            "drain": {"window": "5s", "timeout": "60s"},
            "catalog": {
                "backends": [{"name": ECHO, "url": format!("http://{ECHO}"), "timeout": "20s"}],
                "tools": [
                    {"name": "report", "static": {"content": [{"text": half}, {"text": half}]}},
                    {"name": "heavy", "http": {"backend": ECHO, "url": "/text?bytes=2000000", "response": {"maxSize": "4Mi"}}},
                    {"name": "slow", "http": {"backend": ECHO, "url": format!("/text?bytes=300000&after={SLOW_MS}")}},
                ],
            },
        },
    })
}

/// What one of the two is made of. The Deployment's pods share the keys of the `McpCluster`, so that a session is known to all
/// of them.
pub(crate) fn side(side: Side, limit: u64, keys: &Value) -> Vec<Value> {
    match side {
        Side::Ours => vec![manifest(limit)],
        Side::Hpa => plain(limit, keys),
    }
}

fn plain(limit: u64, keys: &Value) -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/name": NAME});
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": ADMIN_PORT}, "periodSeconds": 1, "failureThreshold": 3});
    let memory = format!("{limit}Mi");
    let container = json!({
        "name": NAME, "image": Images::from_env().named("mcp-server"), "imagePullPolicy": "IfNotPresent",
        "args": [
            "--manifest=/manifest/mcpcluster.yaml", "--keys-dir=/keys", "--log-format=json",
            format!("--listen=[::]:{DATA_PORT}"), format!("--admin-listen=[::]:{ADMIN_PORT}"),
            format!("--control-listen=[::]:{CONTROL_PORT}"), "--drain-window=5s", "--drain-timeout=60s",
        ],
        "ports": [{"name": "mcp", "containerPort": DATA_PORT}],
        "readinessProbe": probe("/readyz"),
        "livenessProbe": {"httpGet": {"path": "/livez", "port": ADMIN_PORT}, "periodSeconds": 10, "timeoutSeconds": 5},
        "resources": {"requests": {"cpu": "10m", "memory": memory}, "limits": {"memory": memory}},
        "securityContext": restricted(),
        "volumeMounts": [
            {"name": "manifest", "mountPath": "/manifest", "readOnly": true}, {"name": "keys", "mountPath": "/keys", "readOnly": true},
        ],
    });
    let mut pod = pod(&container);
    pod["terminationGracePeriodSeconds"] = json!(75);
    pod["volumes"] = json!([
        {"name": "manifest", "configMap": {"name": NAME}}, {"name": "keys", "secret": {"secretName": NAME}},
    ]);
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME},
            "data": {"mcpcluster.yaml": manifest(limit).to_string()}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "data": {KEYS_FILE: keys}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": {
            "selector": labels, "ports": [{"name": "mcp", "port": 80, "targetPort": DATA_PORT}],
        }}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}, "spec": {
            "replicas": BOUNDS.0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }}),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": NAME}, "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "minReplicas": BOUNDS.0, "maxReplicas": BOUNDS.1, "behavior": behavior(),
            "metrics": [{"type": "Resource", "resource": {
                "name": "memory", "target": {"type": "Utilization", "averageUtilization": TARGET},
            }}],
        }}),
    ]
}

fn pod(container: &Value) -> Value {
    json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    })
}

fn restricted() -> Value {
    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
}
