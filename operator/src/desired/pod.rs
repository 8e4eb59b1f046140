//! A shard's pod. It is created with POST and never applied: a pod spec is immutable, and applying re-creates what was just
//! deleted.
//!
//! [`template`] renders what all shards of a cluster share and what a rollout replaces them for; [`shard_pod`] adds what one
//! shard is born with: its name, and the drain settings, whose change must not restart anything. The template is kept in an
//! annotation, so that drift compares rendered with rendered (injected sidecars and LimitRange defaults are not drift) and a
//! rollout names the [`difference`]. Its hash covers what the user wrote, not how this release renders it: an upgrade of the
//! operator restarts no shard.

mod difference;
mod labels;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    ObjectFieldSelector, Pod, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, Probe, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, Toleration, TopologySpreadConstraint, Volume, VolumeMount,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mcp_crds::McpCluster;
use mcp_crds::cluster::{PodTemplate, PullPolicy, Resources};
use mcp_crds::duration::Span;
use mcp_crds::shard;
use serde::{Deserialize, Serialize};

pub use difference::difference;
pub use labels::foreign_labels;

use super::{fingerprint, metadata, name_of, namespace_of};
use crate::names;

/// The user and group of the server: `nonroot` in distroless images.
const UID: i64 = 65_532;
/// How long a shard stays on a node that is not ready or unreachable.
const NODE_LOSS_SECONDS: i64 = 30;
/// Beyond `drain.timeout`, until SIGKILL: for what a process does after its last request.
const GRACE_BEYOND_DRAIN_SECONDS: u64 = 15;
/// Secrets are read by the group of the server, and by nobody else.
const SECRET_MODE: i32 = 0o440;

/// What all shards of a cluster share, as an annotation keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Labels and annotations of the user.
    pub metadata: TemplateMetadata,
    /// The pod spec, without name, drain settings and grace period.
    pub spec: PodSpec,
}

/// Labels and annotations of the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A rendered template and its hash.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What is rendered.
    pub template: Template,
    /// Hash of what the user wrote; shards with another one are outdated.
    pub hash: String,
}

/// The fields whose change replaces shards, as the user wrote them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RollFields<'a> {
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_pull_policy: Option<PullPolicy>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'a [EnvVar],
    resources: &'a Resources,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_template: Option<&'a PodTemplate>,
}

/// Renders what all shards share. `image` is the resolved one.
pub fn template(cluster: &McpCluster, image: &str) -> Rendered {
    let spec = &cluster.spec;
    let hash = fingerprint(&RollFields {
        image,
        image_pull_policy: spec.image_pull_policy,
        env: &spec.env,
        resources: &spec.resources,
        pod_template: spec.pod_template.as_ref(),
    });
    let theirs = spec.pod_template.clone().unwrap_or_default();
    Rendered {
        template: Template {
            metadata: TemplateMetadata { labels: theirs.metadata.labels, annotations: theirs.metadata.annotations },
            spec: pod_spec(cluster, image, theirs.spec),
        },
        hash,
    }
}

/// The pod of the shard with this index.
pub fn shard_pod(cluster: &McpCluster, rendered: &Rendered, index: u32) -> Pod {
    let cluster_name = name_of(cluster);
    let name = names::shard(cluster_name, index);
    let Template { metadata: theirs, mut spec } = rendered.template.clone();

    let mut meta = metadata(cluster, name.clone());
    let mut labels = theirs.labels;
    labels.extend(names::shard_labels(cluster_name));
    meta.labels = Some(labels);
    let mut annotations = theirs.annotations;
    annotations.entry(names::ANNOTATION_SAFE_TO_EVICT.to_owned()).or_insert_with(|| "true".to_owned());
    for past_a_mesh in names::ANNOTATIONS_PAST_A_MESH {
        annotations.entry(past_a_mesh.to_owned()).or_insert_with(|| shard::CONTROL_PORT.to_string());
    }
    annotations.extend(
        [
            // A template is strings, numbers and lists; they always serialise.
            (names::ANNOTATION_TEMPLATE, serde_json::to_string(&rendered.template).unwrap_or_default()),
            (names::ANNOTATION_TEMPLATE_HASH, rendered.hash.clone()),
            (names::ANNOTATION_BORN_DRAIN, cluster.spec.drain.timeout.0.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    meta.annotations = Some(annotations);

    spec.hostname = Some(name);
    spec.subdomain = Some(names::shards_service(cluster_name));
    spec.termination_grace_period_seconds = Some(grace_seconds(&cluster.spec.drain.timeout));
    if let Some(env) = spec.containers.first_mut().map(|container| container.env.get_or_insert_default()) {
        let at = env.iter().take_while(|variable| variable.name.starts_with("MCP_")).count();
        env.insert(at, literal(shard::ENV_DRAIN_TIMEOUT, &cluster.spec.drain.timeout.0));
        env.insert(at + 1, literal(shard::ENV_DRAIN_WINDOW, &cluster.spec.drain.window.0));
    }
    Pod { metadata: meta, spec: Some(spec), status: None }
}

fn pod_spec(cluster: &McpCluster, image: &str, theirs: mcp_crds::cluster::PodSpec) -> PodSpec {
    let name = name_of(cluster);
    PodSpec {
        affinity: apart(name, theirs.affinity, theirs.topology_spread_constraints.is_empty()),
        automount_service_account_token: Some(false),
        containers: vec![container(cluster, image)],
        enable_service_links: Some(false),
        image_pull_secrets: (!theirs.image_pull_secrets.is_empty()).then_some(theirs.image_pull_secrets),
        node_selector: (!theirs.node_selector.is_empty()).then_some(theirs.node_selector),
        priority_class_name: theirs.priority_class_name,
        restart_policy: Some("Always".to_owned()),
        runtime_class_name: theirs.runtime_class_name,
        security_context: Some(PodSecurityContext {
            fs_group: Some(UID),
            run_as_group: Some(UID),
            run_as_non_root: Some(true),
            run_as_user: Some(UID),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        service_account_name: Some(theirs.service_account_name.unwrap_or_else(|| names::service_account(name))),
        tolerations: Some(tolerations(theirs.tolerations)),
        topology_spread_constraints: Some(spread(name, theirs.topology_spread_constraints)),
        volumes: Some(vec![
            Volume {
                name: names::VOLUME_CONFIG.to_owned(),
                config_map: Some(ConfigMapVolumeSource { name: names::config_map(name), ..ConfigMapVolumeSource::default() }),
                ..Volume::default()
            },
            secret(names::VOLUME_KEYS, names::keys_secret(name), false),
            secret(names::VOLUME_CREDENTIALS, names::credentials_secret(name), true),
        ]),
        ..PodSpec::default()
    }
}

fn container(cluster: &McpCluster, image: &str) -> Container {
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: cluster.spec.image_pull_policy.map(|policy| {
            match policy {
                PullPolicy::Always => "Always",
                PullPolicy::IfNotPresent => "IfNotPresent",
                PullPolicy::Never => "Never",
            }
            .to_owned()
        }),
        env: Some(environment(cluster)),
        ports: Some(vec![
            port(names::PORT_DATA, shard::DATA_PORT),
            port(names::PORT_ADMIN, shard::ADMIN_PORT),
            port(names::PORT_CONTROL, shard::CONTROL_PORT),
        ]),
        resources: Some(resources(&cluster.spec.resources)),
        // A shard may load a large catalog before it answers at all; two minutes of it are not a hang.
        startup_probe: Some(Probe { period_seconds: Some(1), failure_threshold: Some(120), ..probe("/livez") }),
        readiness_probe: Some(Probe { period_seconds: Some(2), failure_threshold: Some(3), ..probe("/readyz") }),
        // A busy shard answers late; only one that hangs for a minute is started again, because that cuts every stream.
        liveness_probe: Some(Probe { period_seconds: Some(10), failure_threshold: Some(6), ..probe("/livez") }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount(names::VOLUME_CONFIG, shard::CONFIG_DIR),
            mount(names::VOLUME_KEYS, shard::KEYS_DIR),
            mount(names::VOLUME_CREDENTIALS, shard::CREDENTIALS_DIR),
        ]),
        ..Container::default()
    }
}

/// The contract's variables first, so that a user's may refer to them.
fn environment(cluster: &McpCluster) -> Vec<EnvVar> {
    let mut env = vec![
        literal(shard::ENV_CLUSTER, name_of(cluster)),
        literal(shard::ENV_NAMESPACE, namespace_of(cluster)),
        EnvVar {
            name: shard::ENV_SHARD.to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector { api_version: None, field_path: "metadata.name".to_owned() }),
                ..EnvVarSource::default()
            }),
        },
        literal(shard::ENV_CONFIG_DIR, shard::CONFIG_DIR),
        literal(shard::ENV_KEYS_DIR, shard::KEYS_DIR),
        literal(shard::ENV_CREDENTIALS_DIR, shard::CREDENTIALS_DIR),
    ];
    env.extend(cluster.spec.env.iter().cloned());
    env
}

/// The user's, with the memory request at the limit unless given: a node under pressure evicts pods over their request first.
fn resources(theirs: &Resources) -> ResourceRequirements {
    let mut requests = theirs.requests.clone();
    if let Some(limit) = theirs.limits.get("memory") {
        requests.entry("memory".to_owned()).or_insert_with(|| limit.clone());
    }
    let some = |all: BTreeMap<String, Quantity>| (!all.is_empty()).then_some(all);
    ResourceRequirements { claims: None, limits: some(theirs.limits.clone()), requests: some(requests) }
}

/// Short tolerations for a lost node, unless the user has their own for that taint; then the user's.
fn tolerations(theirs: Vec<Toleration>) -> Vec<Toleration> {
    let mut all: Vec<Toleration> = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .into_iter()
        .filter(|taint| !theirs.iter().any(|toleration| toleration.key.as_deref() == Some(*taint)))
        .map(|taint| Toleration {
            key: Some(taint.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            toleration_seconds: Some(NODE_LOSS_SECONDS),
            value: None,
        })
        .collect();
    all.extend(theirs);
    all
}

/// The user's affinity; and where the user says nothing of how shards are to lie, a preference for other zones.
///
/// Zones are no spread constraint, as nodes are: for pods with any constraint the scheduler scores only nodes that have the
/// labels of all of them, so where nodes have no zone, a constraint on zones voids the one on nodes, and all shards may come to
/// lie on one.
fn apart(cluster: &str, theirs: Option<Affinity>, is_ours: bool) -> Option<Affinity> {
    let has_own = theirs.as_ref().is_some_and(|affinity| affinity.pod_anti_affinity.is_some());
    if !is_ours || has_own {
        return theirs;
    }
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector { match_labels: Some(names::shard_selector(cluster)), ..LabelSelector::default() }),
        topology_key: "topology.kubernetes.io/zone".to_owned(),
        ..PodAffinityTerm::default()
    };
    let preferred = vec![WeightedPodAffinityTerm { pod_affinity_term: term, weight: 100 }];
    let anti = PodAntiAffinity { preferred_during_scheduling_ignored_during_execution: Some(preferred), ..Default::default() };
    Some(Affinity { pod_anti_affinity: Some(anti), ..theirs.unwrap_or_default() })
}

/// The user's constraints, or an even spread over nodes that never keeps a shard from starting.
fn spread(cluster: &str, theirs: Vec<TopologySpreadConstraint>) -> Vec<TopologySpreadConstraint> {
    let shards = || LabelSelector { match_labels: Some(names::shard_selector(cluster)), ..LabelSelector::default() };
    if theirs.is_empty() {
        return vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(shards()),
            ..TopologySpreadConstraint::default()
        }];
    }
    // Without a selector a constraint counts no pod at all, which nobody means.
    theirs
        .into_iter()
        .map(|constraint| TopologySpreadConstraint {
            label_selector: constraint.label_selector.or_else(|| Some(shards())),
            ..constraint
        })
        .collect()
}

/// Whole seconds, rounded up, and a margin.
fn grace_seconds(timeout: &Span) -> i64 {
    let drain = timeout.or_zero().as_millis().div_ceil(1000);
    i64::try_from(drain + u128::from(GRACE_BEYOND_DRAIN_SECONDS)).unwrap_or(i64::MAX)
}

fn literal(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(names::PORT_ADMIN.to_owned()),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), read_only: Some(true), ..VolumeMount::default() }
}

fn secret(volume: &str, secret: String, optional: bool) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(SECRET_MODE),
            optional: optional.then_some(true),
            items: None,
        }),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    const IMAGE: &str = "mcp-server:1";

    #[test]
    fn snapshots_of_a_shard() {
        for cluster in [samples::quickstart(), samples::production()] {
            let image = cluster.spec.image.clone().unwrap_or_else(|| IMAGE.to_owned());
            let pod = shard_pod(&cluster, &template(&cluster, &image), 3);
            insta::assert_yaml_snapshot!(format!("pod_{}", name_of(&cluster)), pod);
        }
    }

    #[test]
    fn shards_lie_apart_also_where_nodes_have_no_zone_and_as_the_user_says_where_he_says_anything() {
        let pod = |spec: &str| template(&samples::cluster("tools", spec), IMAGE).template.spec;
        let keys = |spec: &PodSpec| -> Vec<String> {
            spec.topology_spread_constraints.iter().flatten().map(|constraint| constraint.topology_key.clone()).collect()
        };
        let ours = pod("{resources: {limits: {memory: 512Mi}}}");
        assert_eq!(keys(&ours), ["kubernetes.io/hostname"], "every node has this label: none is left out of the score");
        assert!(ours.affinity.unwrap().pod_anti_affinity.is_some());
        let own = "{topologyKey: rack, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}";
        let own = pod(&format!(
            "{{resources: {{limits: {{memory: 512Mi}}}}, podTemplate: {{spec: {{topologySpreadConstraints: [{own}]}}}}}}"
        ));
        assert_eq!((keys(&own), own.affinity), (vec!["rack".to_owned()], None));
    }

    #[test]
    fn a_changed_drain_restarts_nothing_and_new_shards_are_born_with_it() {
        let before = samples::quickstart();
        let mut after = before.clone();
        after.spec.drain.timeout = Span::from("1500ms");
        let (old, new) = (template(&before, IMAGE), template(&after, IMAGE));
        assert_eq!(old, new);
        let pod = shard_pod(&after, &new, 0);
        let spec = pod.spec.unwrap();
        assert_eq!(spec.termination_grace_period_seconds, Some(17));
        let env = spec.containers[0].env.clone().unwrap();
        assert!(env.iter().any(|v| v.name == shard::ENV_DRAIN_TIMEOUT && v.value.as_deref() == Some("1500ms")));
    }

    #[test]
    fn every_roll_field_changes_the_hash_and_a_live_one_does_not() {
        let base = samples::production();
        let hash = |cluster: &McpCluster, image: &str| template(cluster, image).hash;
        let before = hash(&base, IMAGE);
        assert_ne!(hash(&base, "mcp-server:2"), before);
        let changes: [fn(&mut McpCluster); 5] = [
            |c| c.spec.image_pull_policy = Some(PullPolicy::Always),
            |c| c.spec.env.clear(),
            |c| drop(c.spec.resources.limits.insert("memory".into(), Quantity("1Gi".into()))),
            |c| drop(c.spec.pod_template.as_mut().unwrap().spec.service_account_name.take()),
            |c| {
                let annotations = &mut c.spec.pod_template.as_mut().unwrap().metadata.annotations;
                annotations.insert("kubectl.kubernetes.io/restartedAt".into(), "2026-11-23T17:02:11Z".into());
            },
        ];
        for change in changes {
            let mut after = base.clone();
            change(&mut after);
            assert_ne!(hash(&after, IMAGE), before, "{:?}", after.spec);
        }
        let mut live = base.clone();
        live.spec.limits.max_streams = Some(1);
        live.spec.paused = true;
        live.spec.autoscaling = None;
        assert_eq!(hash(&live, IMAGE), before);
    }

    #[test]
    fn the_control_port_is_kept_out_of_a_mesh_unless_the_user_says_what_is() {
        let mut cluster = samples::quickstart();
        let theirs = names::ANNOTATIONS_PAST_A_MESH[0];
        let template_of = cluster.spec.pod_template.get_or_insert_default();
        template_of.metadata.annotations.insert(theirs.into(), "9091,9090".into());
        let annotations = shard_pod(&cluster, &template(&cluster, IMAGE), 0).metadata.annotations.unwrap();
        for annotation in names::ANNOTATIONS_PAST_A_MESH {
            assert_eq!(annotations[annotation], if annotation == theirs { "9091,9090" } else { "9091" }, "{annotation}");
        }
    }

    #[test]
    fn the_template_in_the_annotation_reads_back() {
        let cluster = samples::production();
        let rendered = template(&cluster, IMAGE);
        let pod = shard_pod(&cluster, &rendered, 0);
        let kept: Template = serde_json::from_str(&pod.metadata.annotations.unwrap()[names::ANNOTATION_TEMPLATE]).unwrap();
        assert_eq!(kept, rendered.template);
    }

    #[test]
    fn a_user_toleration_replaces_ours_for_the_same_taint() {
        let mine = Toleration {
            key: Some("node.kubernetes.io/unreachable".into()),
            operator: Some("Exists".into()),
            toleration_seconds: Some(5),
            ..Toleration::default()
        };
        let all = tolerations(vec![mine]);
        assert_eq!(all.iter().map(|t| t.toleration_seconds).collect::<Vec<_>>(), [Some(NODE_LOSS_SECONDS), Some(5)]);
    }
}
