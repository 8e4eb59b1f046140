use super::*;

const CLUSTER: &str = "\
apiVersion: mcpcluster.dev/v1alpha1
kind: McpCluster
metadata: {name: tools}
spec:
  resources: {limits: {memory: 512Mi}}
  limits: {maxConnections: 4000}
  autoscaling: {maxReplicas: 60}
";

fn told(observed: &str) -> String {
    explain(("cluster.yaml", CLUSTER), ("observed.yaml", observed)).unwrap()
}

fn refused(cluster: &str, observed: &str) -> Vec<String> {
    explain(("cluster.yaml", cluster), ("observed.yaml", observed)).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_scale_out_is_told_with_its_numbers_and_what_is_done() {
    let text = told("shards: [{count: 2, connections: 2801, memory: 80Mi}]");
    assert!(
        text.starts_with(
            "tools: 2 shards now, 3 wanted.\nConnections: 5,602 connections need 2.1 shards at 2,800 each: 2 to 3.\n"
        ),
        "{text}"
    );
    assert!(text.contains("  load              5,602 connections\n"), "{text}");
    assert!(text.contains("Create 1 shard;"), "{text}");
}

#[test]
fn a_scale_in_that_waits_for_its_window_is_told_with_when_and_whom_it_takes() {
    let text = told("shards: [{count: 2, streams: 900, connections: 900}, {name: tools-7, streams: 30, connections: 30}]");
    assert!(
        text.starts_with("tools: 3 shards now, 3 wanted.\nStabilizing: Load asks for 1 shard; it has to ask for 600 s.\n"),
        "{text}"
    );
    assert!(text.contains("Nothing is done now.\nIf nothing else changes, in 10m:\n"), "{text}");
    assert!(text.contains("  Drain tools-7, which ends 30 streams.\n"), "{text}");
}

#[test]
fn a_hot_shard_and_a_silent_one_are_named() {
    let hot = told("shards: [{name: tools-0, streams: 1000, memory: 480Mi}, {count: 3, streams: 900, memory: 200Mi}]");
    assert!(hot.contains("HotShard: A new shard would not cool tools-0."), "{hot}");
    assert!(hot.contains("Shed tools-0: end up to 50 streams, largest first, to free 122Mi.\n"), "{hot}");
    assert!(hot.contains("  hottest           tools-0 at 94 % of 512Mi\n"), "{hot}");
    let silent = told("{settledFor: 2h, desired: 3, shards: [{count: 2}, {state: Silent}]}");
    assert!(silent.contains("If nothing else changes, in 10m:\n  ShardSilent: No load report from tools-2"), "{silent}");
}

#[test]
fn every_state_is_understood_and_the_same_files_give_the_same_words() {
    for state in ["Ready", "Starting", "Silent", "Lost", "Draining"] {
        let observed =
            format!("shards: [{{count: 3, streams: 100}}, {{state: {state}, streams: 50, outdated: true, node: node-a}}]");
        assert_eq!(told(&observed), told(&observed), "{state}");
    }
    assert!(told("shards: []").starts_with("tools: 0 shards now, 1 wanted."), "{}", told("shards: []"));
}

#[test]
fn what_is_wrong_is_told_together_with_its_line() {
    let observed = "settledFor: 1d\nshards:\n- {conections: 5}\n- {name: tools-0, memory: lots}\n- {state: Dead}\n";
    assert_eq!(
        refused(CLUSTER, observed),
        [
            "observed.yaml:1:1: settledFor: must be a duration in h, m, s or ms, for example '20m'",
            "observed.yaml:3:4: shards[0].conections: unknown field; did you mean `connections`?",
            "observed.yaml:4:19: shards[1].memory: must be a quantity of bytes, for example '300Mi'",
            "observed.yaml:5:4: shards[2].state: \"Dead\" is none of Ready, Starting, Silent, Lost, Draining",
        ]
    );
    assert_eq!(
        refused(CLUSTER, "shards:\n- name: other-1\n- {name: tools-1, count: 2}\n- name: tools-2\n- name: tools-2\n"),
        [
            "observed.yaml:2:3: shards[0].name: \"other-1\" is no shard of tools: they are named tools-0, tools-1 and so on",
            "observed.yaml:3:4: shards[1].name: `name` is of one shard: leave it out, or `count`",
            "observed.yaml:5:3: shards[3].name: tools-2 is there twice",
        ]
    );
    let both = refused("kind: McpCluster\nspec: {replicas: x}\n", "shards: 5\n");
    assert!(both.iter().any(|line| line.starts_with("cluster.yaml:2:")), "{both:?}");
    assert!(both.iter().any(|line| line.starts_with("observed.yaml:1:1: shards: must be")), "{both:?}");
    assert_eq!(refused("kind: Pod\n", "shards: []"), ["cluster.yaml:1:1: no McpCluster in this file"]);
    assert!(refused(CLUSTER, "")[0].contains("must be one YAML document with `shards`"));
}

#[test]
fn the_sample_is_explained_as_documented_and_names_every_field() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../");
    let read = |path: &str| std::fs::read_to_string(format!("{root}{path}")).unwrap();
    let observed = read("manifests/explain/observed.yaml");
    let text = explain(("c", &read("manifests/samples/production.yaml")), ("o", &observed)).unwrap();
    assert!(read("docs/operations.md").contains(&text), "docs/operations.md has not:\n{text}");
    let fields = scene::fields();
    let all = fields["properties"].as_object().unwrap().keys();
    for field in all.chain(fields["properties"]["shards"]["items"]["properties"].as_object().unwrap().keys()) {
        assert!(observed.contains(&format!("{field}:")), "{field}");
    }
}
