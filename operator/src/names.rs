//! Every name the operator gives: objects, labels, annotations, ports. A name is written here once.

use std::collections::BTreeMap;

/// The field manager of every server-side apply.
pub const FIELD_MANAGER: &str = "mcp-operator";
/// Who reports our events.
pub const EVENT_REPORTER: &str = "mcp-operator";

/// Label on every object of a cluster: the cluster's name.
pub const LABEL_CLUSTER: &str = "mcpcluster.dev/cluster";
/// Label on shards: [`STATE_ACTIVE`] or [`STATE_DRAINING`]. The PodDisruptionBudget counts the active ones.
pub const LABEL_STATE: &str = "mcpcluster.dev/state";
/// Value of [`LABEL_STATE`]: this shard is meant to stay.
pub const STATE_ACTIVE: &str = "active";
/// Value of [`LABEL_STATE`]: this shard ends its streams and will be deleted.
pub const STATE_DRAINING: &str = "draining";
/// Label on shards: whether the client Service sends new connections here. Shards start placed.
pub const LABEL_PLACED: &str = "mcpcluster.dev/placed";
/// Value of [`LABEL_PLACED`]: new connections come here.
pub const PLACED: &str = "true";
/// Value of [`LABEL_PLACED`]: no new connections.
pub const NOT_PLACED: &str = "false";
/// The program an object belongs to.
pub const LABEL_APP_NAME: &str = "app.kubernetes.io/name";
/// Value of [`LABEL_APP_NAME`].
pub const APP_NAME: &str = "mcp-server";
/// The instance of the program: the cluster's name.
pub const LABEL_APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// The part an object plays.
pub const LABEL_APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Value of [`LABEL_APP_COMPONENT`] on pods.
pub const COMPONENT_SHARD: &str = "shard";
/// Who looks after an object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "mcp-operator";

/// Annotation on shards: the pod spec as we rendered it, JSON. Drift compares rendered with rendered, so that injected
/// sidecars and defaults are not drift.
pub const ANNOTATION_TEMPLATE: &str = "mcpcluster.dev/template";
/// Annotation on shards: hash of the rendered template the shard was born with.
pub const ANNOTATION_TEMPLATE_HASH: &str = "mcpcluster.dev/template-hash";
/// Annotation on applied objects: hash of what was rendered; an object is applied again only when it differs.
pub const ANNOTATION_RENDERED_HASH: &str = "mcpcluster.dev/rendered-hash";
/// Annotation on the configuration: the generation of the resource that published it. It is no part of what is compared.
pub const ANNOTATION_GENERATION: &str = "mcpcluster.dev/generation";
/// Annotation on shards: the drain timeout the shard was born with, a span such as `5m`.
pub const ANNOTATION_BORN_DRAIN: &str = "mcpcluster.dev/born-drain-timeout";
/// Annotation on shards: touched to make the kubelet sync mounted objects within seconds.
pub const ANNOTATION_SYNC: &str = "mcpcluster.dev/sync";
/// Annotation on draining shards: why, as [`crate::stages::DrainReason`] spells it.
pub const ANNOTATION_DRAIN_REASON: &str = "mcpcluster.dev/drain-reason";
/// Annotation on draining shards: since when, RFC 3339.
pub const ANNOTATION_DRAIN_STARTED: &str = "mcpcluster.dev/drain-started-at";
/// Annotation on the McpCluster, of a person: an RFC 3339 time. Each new value rotates the keys once.
pub const ANNOTATION_ROTATE_KEYS: &str = "mcpcluster.dev/rotate-keys";
/// Annotation on the Secret of the keys: what their rotation must remember, JSON without anything secret.
pub const ANNOTATION_ROTATION: &str = "mcpcluster.dev/rotation";
/// Annotation on shards: leaves them out of the way of cluster-autoscaler, to which our owner kind is unknown.
pub const ANNOTATION_SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// Annotations on shards that keep the control port out of a service mesh, in both directions: what goes there is authenticated
/// by us, and a sidecar with strict mTLS would let nobody in who is outside of the mesh. Istio's and Linkerd's.
pub const ANNOTATIONS_PAST_A_MESH: [&str; 4] = [
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "config.linkerd.io/skip-inbound-ports",
    "config.linkerd.io/skip-outbound-ports",
];
/// Annotations that the injector of a mesh leaves on a pod, and the name of the mesh.
pub const MARKS_OF_A_MESH: [(&str, &str); 2] = [("sidecar.istio.io/status", "Istio"), ("linkerd.io/proxy-version", "Linkerd")];

/// Name of the server container.
pub const CONTAINER: &str = "server";
/// Port name of client traffic, in pods and Services.
pub const PORT_DATA: &str = "mcp";
/// Port name of probes and metrics.
pub const PORT_ADMIN: &str = "admin";
/// Port name of the authenticated control port.
pub const PORT_CONTROL: &str = "control";
/// Volume of the configuration ConfigMap.
pub const VOLUME_CONFIG: &str = "config";
/// Volume of the keys Secret.
pub const VOLUME_KEYS: &str = "keys";
/// Volume of the credentials Secret.
pub const VOLUME_CREDENTIALS: &str = "credentials";

/// Pod of the shard with this index: `{cluster}-{n}`.
pub fn shard(cluster: &str, index: u32) -> String {
    format!("{}{index}", shard_prefix(cluster))
}

/// How the names of all shards begin; those of another cluster's may, too.
pub fn shard_prefix(cluster: &str) -> String {
    format!("{cluster}-")
}

/// Index of a shard's pod; none when the name does not follow [`shard`].
pub fn shard_index(cluster: &str, pod: &str) -> Option<u32> {
    let digits = pod.strip_prefix(cluster)?.strip_prefix('-')?;
    let canonical = digits == "0" || (digits.starts_with(|c: char| ('1'..='9').contains(&c)) && digits.len() < 10);
    (canonical && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Service that clients connect to: placed shards only.
pub fn client_service(cluster: &str) -> String {
    cluster.to_owned()
}

/// Service over all shards: keeps every backend referenced, so that taking a shard out of the client Service cuts no stream.
pub fn members_service(cluster: &str) -> String {
    format!("{cluster}-members")
}

/// Headless Service: DNS names of all shards, ready or not.
pub fn shards_service(cluster: &str) -> String {
    format!("{cluster}-shards")
}

/// ConfigMap with the published configuration.
pub fn config_map(cluster: &str) -> String {
    format!("{cluster}-config")
}

/// Secret with the session and control keys.
pub fn keys_secret(cluster: &str) -> String {
    format!("{cluster}-keys")
}

/// Secret with copies of the referenced keys of users' Secrets.
pub fn credentials_secret(cluster: &str) -> String {
    format!("{cluster}-credentials")
}

/// PodDisruptionBudget over the active shards.
pub fn disruption_budget(cluster: &str) -> String {
    cluster.to_owned()
}

/// ServiceAccount of the shards, without any right.
pub fn service_account(cluster: &str) -> String {
    format!("{cluster}-shard")
}

/// NetworkPolicy that closes the control port.
pub fn network_policy(cluster: &str) -> String {
    cluster.to_owned()
}

/// Labels that select the pods of a cluster, whatever their state.
pub fn shard_selector(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(LABEL_CLUSTER.to_owned(), cluster.to_owned())])
}

/// [`shard_selector`] as a selector string, for `status.selector`.
pub fn selector(cluster: &str) -> String {
    format!("{LABEL_CLUSTER}={cluster}")
}

/// Labels of every object of a cluster.
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from(
        [(LABEL_CLUSTER, cluster), (LABEL_APP_NAME, APP_NAME), (LABEL_APP_INSTANCE, cluster), (LABEL_MANAGED_BY, MANAGED_BY)]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
    )
}

/// Labels a shard is born with: active and placed.
pub fn shard_labels(cluster: &str) -> BTreeMap<String, String> {
    let mut labels = labels(cluster);
    for (key, value) in [(LABEL_APP_COMPONENT, COMPONENT_SHARD), (LABEL_STATE, STATE_ACTIVE), (LABEL_PLACED, PLACED)] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

/// URL of the MCP endpoint inside the Kubernetes cluster; the port is written when it is not 80.
pub fn url(cluster: &str, namespace: &str, port: i32) -> String {
    let service = client_service(cluster);
    if port == 80 {
        format!("http://{service}.{namespace}.svc/mcp")
    } else {
        format!("http://{service}.{namespace}.svc:{port}/mcp")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_pod_names_have_an_index() {
        assert_eq!(shard_index("tools", &shard("tools", 12)), Some(12));
        assert_eq!(shard_index("tools", "tools-0"), Some(0));
        for other in
            ["tools", "tools-", "tools-01", "tools-+1", "tools-1a", "tool-1", "tools-members", "tools-4294967296", "tools-x-1"]
        {
            assert_eq!(shard_index("tools", other), None, "{other}");
        }
    }

    #[test]
    fn a_shard_of_another_cluster_with_our_prefix_is_not_ours() {
        assert_eq!(shard_index("tools", "tools-web-1"), None);
        assert_eq!(shard_index("tools-web", "tools-web-1"), Some(1));
    }

    #[test]
    fn the_port_is_written_when_it_is_not_the_default() {
        assert_eq!(url("tools", "agents", 80), "http://tools.agents.svc/mcp");
        assert_eq!(url("tools", "agents", 8443), "http://tools.agents.svc:8443/mcp");
    }
}
