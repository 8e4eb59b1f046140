//! The objects a run makes, as JSON. Everything carries [`LABEL`], by which it is found and removed.

use mcp_tests::Outcome;
use mcp_tests::apply::documents;
use serde_json::{Value, json};

use crate::fleet::{Name, TARGET};
use crate::options::{Options, PODS_PER_NODE};

/// On everything a run makes.
pub(crate) const LABEL: &str = "mcpcluster.dev/scale-bench";
/// Where the operators' lease is, and the accounts.
pub(crate) const HOME: &str = "mcp-scale-bench";
/// Accounts of operators: as many as run in the course of one benchmark. The audit log tells them apart by these.
pub(crate) const OPERATORS: [&str; 3] = ["first-operator", "second-operator", "third-operator"];
/// The account of kwok.
pub(crate) const KWOK: &str = "kwok";
/// The annotation by which kwok knows its nodes.
pub(crate) const KWOK_NODE: (&str, &str) = ("kwok.x-k8s.io/node", "scale-bench");
/// Name of the McpCluster that is larger than the others.
const LARGE: &str = "large";
/// Room for every pod a fake node takes.
const NODE_MEMORY: &str = "1Ti";

/// Role and lease of the operator as it ships.
const ROLES: &str = include_str!("../../../manifests/overlays/cluster-wide/roles.yaml");
const LEASE_ROLE: &str = include_str!("../../../manifests/base/lease-role.yaml");
/// What has the lease renewed before other requests, as it ships.
const FLOW_SCHEMA: &str = include_str!("../../../manifests/overlays/cluster-wide/flow-schema.yaml");

/// An McpCluster of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub name: Name,
    /// Shards at rest.
    pub shards: u32,
    /// Shards once its load has grown.
    pub grown: u32,
}

/// All McpClusters of a run, the large one last.
pub(crate) fn plan(options: &Options) -> Vec<Planned> {
    let spread = |number: u32| (namespace(number % options.namespaces), format!("tools-{number}"));
    let small = |number| Planned { name: spread(number), shards: options.shards, grown: options.grown() };
    let mut all: Vec<_> = (0..options.clusters).map(small).collect();
    if options.large > 0 {
        all.push(Planned { name: (namespace(0), LARGE.to_owned()), shards: options.large, grown: options.large });
    }
    all
}

pub(crate) fn namespace(number: u32) -> String {
    format!("{HOME}-{number}")
}

pub(crate) fn namespace_manifest(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels()}})
}

pub(crate) fn account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "labels": labels()}})
}

/// A node without a machine, closed to every pod that does not ask for it.
pub(crate) fn node(number: u32) -> Value {
    let name = format!("fake-{number}");
    let room = json!({"cpu": "1k", "memory": NODE_MEMORY, "pods": PODS_PER_NODE.to_string()});
    let mut labels = labels();
    labels["kubernetes.io/hostname"] = json!(name);
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {KWOK_NODE.0: KWOK_NODE.1}},
        "spec": {"taints": [{"key": LABEL, "value": "true", "effect": "NoSchedule"}]},
        "status": {"capacity": room, "allocatable": room},
    })
}

/// An McpCluster whose shards go to fake nodes only. `most` bounds its shards.
pub(crate) fn cluster(planned: &Planned, most: u32) -> Value {
    json!({
        "apiVersion": "mcpcluster.dev/v1alpha1", "kind": "McpCluster",
        "metadata": {"name": planned.name.1, "namespace": planned.name.0, "labels": labels()},
        "spec": {
            "autoscaling": {"minReplicas": planned.shards, "maxReplicas": most, "connections": {"targetPerReplica": TARGET}},
            "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "512Mi"}},
            "catalog": {"tools": [{"name": "greet", "description": "Greets the caller.", "static": {"content": [{"text": "Hello."}]}}]},
            "podTemplate": {"spec": {
                "nodeSelector": {LABEL: "true"},
                "tolerations": [{"key": LABEL, "operator": "Exists", "effect": "NoSchedule"}],
            }},
        },
    })
}

/// The rights of the operators as they ship, given to the accounts of this run; and kwok's.
///
/// # Errors
/// When the manifests that ship are not YAML.
pub(crate) fn rights() -> Outcome<Vec<Value>> {
    let mut all = documents(ROLES)?;
    all.extend(documents(LEASE_ROLE)?);
    let of = |name: &&str| json!({"kind": "ServiceAccount", "name": name, "namespace": HOME});
    for object in &mut all {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().replacen("mcp-operator", HOME, 1);
        object["metadata"]["name"] = json!(name);
        object["metadata"]["labels"] = labels();
        if object.get("roleRef").is_some() {
            object["roleRef"]["name"] = json!(name);
            object["subjects"] = OPERATORS.iter().map(of).collect();
        }
    }
    all.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("{HOME}-{KWOK}"), "labels": labels()},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [of(&KWOK)],
    }));
    Ok(all)
}

/// The FlowSchema that ships, for the accounts of this run.
///
/// # Errors
/// When the manifest that ships is not YAML.
pub(crate) fn flow_schemas() -> Outcome<Vec<Value>> {
    let mut all = documents(FLOW_SCHEMA)?;
    for object in &mut all {
        object["metadata"] = json!({"name": HOME, "labels": labels()});
        for rule in object["spec"]["rules"].as_array_mut().into_iter().flatten() {
            let of = |name: &&str| json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": HOME}});
            rule["subjects"] = OPERATORS.iter().map(of).collect();
            for requests in rule["resourceRules"].as_array_mut().into_iter().flatten() {
                requests["namespaces"] = json!([HOME]);
            }
        }
    }
    Ok(all)
}

/// A kubeconfig for an account with a token.
pub(crate) fn kubeconfig(server: &str, authority: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    })
}

fn labels() -> Value {
    json!({LABEL: "true"})
}

#[cfg(test)]
mod tests {
    use mcp_crds::McpCluster;

    use super::*;

    #[test]
    fn leases_of_this_run_are_renewed_as_those_of_the_installation_are() {
        let [schema] = &flow_schemas().unwrap()[..] else { panic!() };
        let rule = &schema["spec"]["rules"][0];
        assert_eq!(schema["spec"]["priorityLevelConfiguration"]["name"], "leader-election");
        assert_eq!(rule["subjects"].as_array().unwrap().len(), OPERATORS.len());
        assert_eq!(
            (&rule["resourceRules"][0]["resources"], &rule["resourceRules"][0]["namespaces"]),
            (&json!(["leases"]), &json!([HOME]))
        );
    }

    #[test]
    fn the_plan_has_as_many_pods_as_the_options_say() {
        for more in [&[][..], &["--clusters=10", "--shards=3", "--large=0"]] {
            let options = Options::test(more);
            let plan = plan(&options);
            assert_eq!(plan.iter().map(|one| one.shards).sum::<u32>(), options.pods_at_rest());
            assert_eq!(plan.iter().map(|one| one.grown).sum::<u32>(), options.pods_at_most());
        }
    }

    #[test]
    fn a_cluster_is_one_and_its_pods_reach_fake_nodes_alone() {
        let planned = Planned { name: ("a".into(), "tools-0".into()), shards: 6, grown: 24 };
        let cluster: McpCluster = serde_json::from_value(cluster(&planned, 6)).unwrap();
        let template = cluster.spec.pod_template.unwrap();
        assert_eq!(template.spec.node_selector.get(LABEL).map(String::as_str), Some("true"));
        let node = node(7);
        assert_eq!(node["metadata"]["labels"][LABEL], "true");
        assert_eq!(node["spec"]["taints"][0]["key"], LABEL);
    }

    #[test]
    fn the_operators_have_the_rights_that_ship_under_names_of_this_run() {
        let rights = rights().unwrap();
        for object in &rights {
            let name = object["metadata"]["name"].as_str().unwrap();
            assert!(name.starts_with(HOME), "{name}");
            for subject in object["subjects"].as_array().into_iter().flatten() {
                assert_eq!(subject["namespace"], HOME);
            }
        }
        let kinds: Vec<_> = rights.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ClusterRoleBinding"]);
        assert_eq!(rights[1]["subjects"].as_array().unwrap().len(), OPERATORS.len());
    }
}
