//! Claims about the rendered configuration.

use super::*;

fn node() -> NodeName {
    "node-2".parse().unwrap()
}

fn parse(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn a_small_node_reserves_what_it_may_not_use() {
    const GIB: u64 = 1 << 30;
    let config = parse(&kubelet(node(), Path::new("/pki"), 24 * GIB, Some(2 * GIB)));
    let reserved: u64 = config["systemReserved"]["memory"].as_str().unwrap().parse().unwrap();
    assert_eq!(24 * GIB - reserved - EVICTION_RESERVE, 2 * GIB);
    assert_eq!(config["enforceNodeAllocatable"], json!(["pods"]));
}

#[test]
fn a_node_asked_to_be_larger_than_the_machine_reserves_nothing() {
    let config = parse(&kubelet(node(), Path::new("/pki"), 1 << 30, Some(u64::MAX)));
    assert_eq!(config["systemReserved"]["memory"], "0");
}

#[test]
fn the_kubelet_admits_nobody_without_credentials() {
    let config = parse(&kubelet(node(), Path::new("/pki"), 1 << 30, None));
    assert_eq!(config["authentication"]["anonymous"]["enabled"], false);
    assert_eq!(config["authorization"]["mode"], "Webhook");
}

#[test]
fn the_audit_log_leaves_out_component_reads_and_keeps_everyone_elses() {
    let policy = parse(&audit_policy());
    let rules = policy["rules"].as_array().unwrap();
    assert_eq!(policy["omitStages"], json!(["RequestReceived", "ResponseStarted"]));
    assert_eq!(rules.last().unwrap(), &json!({ "level": "Metadata" }));
    for rule in &rules[..rules.len() - 1] {
        assert_eq!(rule["level"], "None", "{rule}");
        let narrowed = ["users", "userGroups", "nonResourceURLs"].iter().any(|key| rule.get(key).is_some());
        assert!(narrowed, "{rule} would hide a user's requests");
    }
}

#[test]
fn admission_is_that_of_a_careful_cluster() {
    let flags = api_server_flags();
    assert!(flags.contains(&"--authorization-mode=Node,RBAC".to_owned()));
    let plugins = flags.iter().find(|flag| flag.starts_with("--enable-admission-plugins=")).unwrap();
    assert!(plugins.contains("NodeRestriction") && plugins.contains("OwnerReferencesPermissionEnforcement"));
    assert!(!flags.iter().any(|flag| flag.contains("disable-admission")));
}

#[test]
fn the_dns_service_leads_to_coredns() {
    let objects = dns_objects();
    let find = |kind: &str| {
        let items = objects["items"].as_array().unwrap();
        items.iter().find(|item| item["kind"] == kind).unwrap().clone()
    };
    assert_eq!(find("Service")["spec"]["clusterIP"], DNS_SERVICE.to_string());
    assert_eq!(find("EndpointSlice")["endpoints"][0]["addresses"], json!([CONTROL.to_string()]));
    assert_eq!(find("EndpointSlice")["metadata"]["labels"]["kubernetes.io/service-name"], "kube-dns");
    assert!(corefile(Path::new("/k")).contains(&format!("bind {CONTROL}")));
    assert!(resolv_conf().contains(&format!("nameserver {DNS_SERVICE}")));
}

#[test]
fn a_kubeconfig_carries_its_credentials() {
    let config = parse(&kubeconfig("CA", "admin", "CERT", "KEY"));
    assert_eq!(config["clusters"][0]["cluster"]["server"], plan::api_url());
    assert_eq!(config["users"][0]["user"]["client-key-data"], "S0VZ");
    assert_eq!(config["current-context"], config["contexts"][0]["name"]);
}

#[test]
fn containerd_keeps_its_data_in_the_node_folder_and_its_sockets_in_run() {
    let config = containerd(Path::new("/state/nodes/node-2"), false);
    assert!(config.contains("root = \"/state/nodes/node-2/containerd\""));
    assert!(config.contains("state = \"/run/containerd\""));
    assert!(config.contains("restrict_oom_score_adj = true"));
}

#[test]
fn pods_get_addresses_of_their_node() {
    assert!(cni(node()).contains(&node().pod_range()));
    assert_eq!(node_object(node())["spec"]["podCIDR"], node().pod_range());
}
