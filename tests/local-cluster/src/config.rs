//! The configuration files of every part, as text: pure.

use std::path::Path;

use serde_json::{Value, json};

use crate::plan::{self, CONTROL, DNS_SERVICE, DOMAIN, NodeName, POD_RANGE, SERVICE_RANGE};

/// The image that holds a pod's namespaces.
pub(crate) const PAUSE_IMAGE: &str = "localhost/pause:1";
/// Memory that a kubelet keeps free by evicting pods, in bytes.
const EVICTION_RESERVE: u64 = 100 << 20;

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).expect("JSON values are YAML values")
}

/// A kubeconfig that carries its credentials, so that it can be copied.
pub(crate) fn kubeconfig(authority: &str, user: &str, certificate: &str, key: &str) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let encode = |pem: &str| BASE64_STANDARD.encode(pem);
    yaml(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "local-cluster", "cluster": {
            "server": plan::api_url(),
            "certificate-authority-data": encode(authority),
        }}],
        "users": [{ "name": user, "user": {
            "client-certificate-data": encode(certificate),
            "client-key-data": encode(key),
        }}],
        "contexts": [{ "name": "local-cluster", "context": { "cluster": "local-cluster", "user": user }}],
        "current-context": "local-cluster",
    }))
}

/// What the kubelet of a node is told.
///
/// `machine_memory` and `node_memory` are bytes: a node with less memory than the machine reserves the
/// rest for "the system", so that pods are scheduled, limited and evicted as on a small machine.
pub(crate) fn kubelet(node: NodeName, pki: &Path, machine_memory: u64, node_memory: Option<u64>) -> String {
    let reserved = node_memory.map_or(0, |memory| machine_memory.saturating_sub(memory.saturating_add(EVICTION_RESERVE)));
    yaml(&json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki.join("local-cluster-ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": pki.join(format!("kubelet-{node}-server.crt")),
        "tlsPrivateKeyFile": pki.join(format!("kubelet-{node}-server.key")),
        "clusterDNS": [DNS_SERVICE.to_string()],
        "clusterDomain": DOMAIN,
        // The machine's own resolver is of no use inside: nothing leads out.
        "resolvConf": "",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", crate::cgroup::of_pods(node)),
        // Version 1 is deprecated, and what some machines have.
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": ["pods"],
        "systemReserved": { "memory": reserved.to_string() },
        "evictionHard": {
            "memory.available": EVICTION_RESERVE.to_string(),
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
        // 100 is never: an image that was loaded by hand cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 110,
        // A negative one needs CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
    }))
}

/// What a kube-proxy is told. `inside` is the range whose connections to Services keep their source
/// address; those of all others are translated, so that the answers come back the same way.
pub(crate) fn kube_proxy(kubeconfig: &Path, node: NodeName, inside: &str) -> String {
    yaml(&json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig },
        "hostnameOverride": node.to_string(),
        "mode": "nftables",
        "detectLocalMode": "ClusterCIDR",
        "clusterCIDR": inside,
        // The table of connections is the machine's: leave its size alone.
        "conntrack": { "maxPerCore": 0 },
        "oomScoreAdj": 0,
    }))
}

/// What the containerd of a node is told. Its sockets are in the node's own `/run`.
pub(crate) fn containerd(folder: &Path, may_lower_oom_score: bool) -> String {
    let (root, cni) = (folder.join("containerd"), folder.join("net.d"));
    format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = {restrict}

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{cni}"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"#,
        root = root.display(),
        cni = cni.display(),
        restrict = !may_lower_oom_score,
    )
}

/// The network of a node's pods: each has a cable to the node and is routed. With a bridge, a pod
/// could not reach a Service whose endpoint is on its own node, unless br_netfilter is loaded.
pub(crate) fn cni(node: NodeName) -> String {
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{ "subnet": node.pod_range() }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
        "dataDir": "/run/cni-addresses",
    });
    let list = json!({
        "cniVersion": "0.4.0",
        "name": "local-cluster",
        "plugins": [
            { "type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": ipam },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    format!("{list:#}\n")
}

/// The node as an object, made before its kubelet: so its range of pod addresses is ours to choose,
/// and kube-proxy need not wait for its address.
pub(crate) fn node_object(node: NodeName) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node.to_string(), "labels": { "kubernetes.io/hostname": node.to_string() } },
        "spec": { "podCIDR": node.pod_range(), "podCIDRs": [node.pod_range()] },
        "status": { "addresses": [
            { "type": "InternalIP", "address": node.address().to_string() },
            { "type": "Hostname", "address": node.to_string() },
        ]},
    })
}

/// CoreDNS: the cluster's names and nothing else, since nothing leads out. Without a cache: everything is
/// in memory as it is, and a remembered "no such name" would hide a Service that was just made.
pub(crate) fn corefile(kubeconfig: &Path) -> String {
    format!(
        ".:53 {{
    bind {CONTROL}
    errors
    health
    ready
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {}
        pods insecure
        ttl 5
    }}
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
",
        kubeconfig.display()
    )
}

/// `/etc/resolv.conf` of commands in the client namespace: as in a pod of the namespace `default`.
pub(crate) fn resolv_conf() -> String {
    format!(
        "nameserver {DNS_SERVICE}\n\
         search default.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\n\
         options ndots:5\n"
    )
}

/// What the API server writes down: who did what to what and how it ended, once a request is answered.
///
/// The components' own reads, leases and probes are left out, being most of the requests and of no use.
pub(crate) fn audit_policy() -> String {
    let components = json!([
        "system:apiserver",
        "system:kube-controller-manager",
        "system:kube-scheduler",
        "system:kube-proxy",
        "system:coredns",
    ]);
    let read = json!(["get", "list", "watch"]);
    yaml(&json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        // One line for a request, when it is answered; a watch is written when it ends.
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "omitManagedFields": true,
        "rules": [
            { "level": "None", "nonResourceURLs": ["/healthz*", "/readyz*", "/livez*", "/version", "/openapi/*"] },
            { "level": "None", "users": components, "verbs": read },
            { "level": "None", "userGroups": ["system:nodes"], "verbs": read },
            { "level": "None", "userGroups": ["system:serviceaccounts:kube-system"], "verbs": read },
            { "level": "None", "userGroups": ["system:nodes"],
              "resources": [{ "group": "coordination.k8s.io", "resources": ["leases"] }] },
            { "level": "None", "users": ["system:apiserver"] },
            { "level": "Metadata" },
        ],
    }))
}

/// The objects of the cluster's DNS: a Service without a selector, led to CoreDNS by hand, because
/// CoreDNS is not a pod; and the right of CoreDNS to read what it answers from.
pub(crate) fn dns_objects() -> Value {
    let labels = json!({ "k8s-app": "kube-dns", "kubernetes.io/service-name": "kube-dns" });
    let role = "system:coredns";
    let port = |name: &str, protocol: &str| json!({ "name": name, "port": 53, "protocol": protocol });
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
          "metadata": { "name": role },
          "rules": [
            { "apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
          ] },
        { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
          "metadata": { "name": role },
          "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
          "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": role }] },
        { "apiVersion": "v1", "kind": "Service",
          "metadata": { "name": "kube-dns", "namespace": "kube-system", "labels": { "k8s-app": "kube-dns" } },
          "spec": { "clusterIP": DNS_SERVICE.to_string(), "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")] } },
        { "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
          "metadata": { "name": "kube-dns-coredns", "namespace": "kube-system", "labels": labels },
          "addressType": "IPv4",
          "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
          "endpoints": [{ "addresses": [CONTROL.to_string()], "conditions": { "ready": true } }] },
    ]})
}

/// The flags of the API server that are about addresses and admission; files are added by the caller.
pub(crate) fn api_server_flags() -> Vec<String> {
    [
        format!("--advertise-address={CONTROL}"),
        format!("--secure-port={}", plan::API_PORT),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        format!("--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}"),
        // etcd listens in the control plane's namespace only, and nothing else runs there.
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--authorization-mode=Node,RBAC".into(),
        // PodSecurity is on by default.
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement".into(),
        "--allow-privileged=true".into(),
        // Node names do not resolve.
        "--kubelet-preferred-address-types=InternalIP".into(),
        // Webhooks and extension servers are reached at their pods: the control plane has no kube-proxy.
        "--enable-aggregator-routing=true".into(),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--audit-log-mode=blocking".into(),
        // One file: a test that counts should not have to look for a second.
        "--audit-log-maxsize=2048".into(),
    ]
    .into()
}

/// The controller-manager's flags that are about addresses.
pub(crate) fn controller_manager_flags() -> Vec<String> {
    [
        "--bind-address=127.0.0.1".into(),
        // With an election it would give up when the API server is paused for longer than a lease.
        "--leader-elect=false".into(),
        "--allocate-node-cidrs=true".into(),
        format!("--cluster-cidr={POD_RANGE}"),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--use-service-account-credentials=true".into(),
        // At its own limit it spends four seconds of its start on getting those credentials.
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
    .into()
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
