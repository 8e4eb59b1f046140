use super::*;

const GOOD: &str = "\
apiVersion: mcpcluster.dev/v1alpha1
kind: McpCluster
metadata: {name: hello}
spec:
  resources: {limits: {memory: 512Mi}}
  catalog:
    backends:
    - {name: tickets, url: 'https://tickets.example.com', authorization: {bearer: {secretKeyRef: {name: tickets, key: token}}}}
    tools:
    - {name: find, inputSchema: {type: object, properties: {id: {type: string}}}, http: {backend: tickets, url: '/t/{id}'}}
    sources:
    - {name: more, configMapKeyRef: {name: more, key: catalog.yaml}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: more}
data:
  catalog.yaml: |
    tools:
    - name: greet
      static: {content: [{text: hi}]}
---
apiVersion: v1
kind: Secret
metadata: {name: tickets}
stringData: {token: abc}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: unrelated}
";

fn problems(text: &str) -> Vec<String> {
    read(text, "c.yaml", "1").expect_err("refused").iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_holds_the_resource_and_what_it_refers_to() {
    let manifest = read(GOOD, "c.yaml", "9").unwrap();
    assert_eq!(manifest.cluster.metadata.name.as_deref(), Some("hello"));
    assert_eq!(manifest.cluster.spec.limits.max_connections, 10_000, "defaults are applied");
    let names: Vec<_> = manifest.compiled.catalog.tools.iter().map(|tool| tool.definition.name.as_str()).collect();
    assert_eq!(names, ["find", "greet"]);
    assert_eq!(manifest.compiled.catalog.server_info.version, "9");
    assert_eq!(manifest.credentials[&CredentialFile::of("tickets", "token")], b"abc");
}

#[test]
fn types_rules_and_the_catalog_are_reported_together_with_their_places() {
    let text = "\
apiVersion: mcpcluster.dev/v1alpha1
kind: McpCluster
metadata: {name: Hello}
spec:
  replica: 3
  limits: {maxStreams: many, requestTimeout: 90m}
  resources: {limits: {memory: 1Mi}}
  service: {type: Ingress}
  catalog:
    tools:
    - name: a
      inputSchema: {type: object, properties: {title: {type: string}}}
      http:
        url: https://a.example.com
        method: POST
        body: {json: {title: '{titel}'}}
    - name: b
    - {name: 3, static: {content: [{text: x}]}}
    - name: a
      static: {content: [{type: image, data: '%'}]}
    - {name: c, http: {backend: nobody, url: /x}}
";
    assert_eq!(
        problems(text),
        [
            "c.yaml:1:1: `metadata.name` becomes part of Service and Pod names: use at most 40 lower-case letters, digits and '-', starting with a letter",
            "c.yaml:4:1: spec: `drain.timeout` must be at least `limits.requestTimeout`, or a drain would cut requests that were accepted: raise the one or lower the other",
            "c.yaml:5:3: spec.replica: unknown field; did you mean `replicas`?",
            "c.yaml:6:12: spec.limits.maxStreams: must be an integer, not \"many\", a string",
            "c.yaml:6:30: spec.limits.requestTimeout: must be a duration from 100ms to 1h in h, m, s or ms, for example '60s'",
            "c.yaml:7:3: spec.resources: `limits.memory` must be at least 64Mi (half a byte is written '500m'; half a gibibyte is '512Mi')",
            "c.yaml:8:13: spec.service.type: \"Ingress\" is none of ClusterIP, NodePort, LoadBalancer",
            "c.yaml:16:9: spec.catalog.tools[a].http.body: {titel} is not in inputSchema",
            "c.yaml:17:7: spec.catalog.tools[1]: set exactly one of `static`, `template` and `http`: it is what answers the tool",
            "c.yaml:18:8: spec.catalog.tools[2].name: must be a string, not 3, a number: put it in quotes",
            "c.yaml:19:7: spec.catalog.tools[3]: duplicate a",
            "c.yaml:20:26: spec.catalog.tools[3].static.content[0]: a block must carry what its `type` needs: text → `text`; image, audio → `data` and `mimeType`; resource → `resource`; resource_link → `uri` and `name`",
            "c.yaml:20:40: spec.catalog.tools[a].static.content[0].data: is not Base64 (RFC 4648, section 4): Invalid symbol 37, offset 0.",
            "c.yaml:21:24: spec.catalog.tools[c].http.backend: nobody is not one of `catalog.backends`: add it there, or write an absolute `url`",
        ]
    );
}

fn without(text: &str, part: &str) -> String {
    assert!(text.contains(part), "{part}");
    text.replace(part, "")
}

#[test]
fn what_the_resource_refers_to_has_to_be_in_the_file() {
    let (resource, _) = GOOD.split_once("---").unwrap();
    assert_eq!(
        problems(resource),
        ["c.yaml:12:20: spec.catalog.sources[more].configMapKeyRef: ConfigMap more does not exist"],
        "the catalog first: credentials are looked for when it compiles"
    );
    let found = problems(&without(GOOD, "stringData: {token: abc}\n"));
    assert_eq!(
        found,
        [
            "c.yaml:8:84: spec.catalog: Secret tickets has no key token in this file: add it as a further document, with `stringData: {token: …}`"
        ]
    );
    let found = problems(&without(GOOD, "metadata: {name: tickets}\n"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("Secret tickets does not exist in this file"), "{found:?}");
    assert_eq!(found[1], "c.yaml:23:1: metadata.name: must be set");
}

#[test]
fn problems_of_a_source_keep_the_lines_of_its_text() {
    let found = problems(&GOOD.replace("    - name: greet", "    - nam: greet"));
    assert_eq!(
        found,
        [
            "c.yaml:12:7: spec.catalog.sources[more]: source more, line 2: tools[0].nam: unknown field; did you mean `name`?",
            "c.yaml:12:7: spec.catalog.sources[more]: source more, line 2: tools[0].name: must be set",
        ]
    );
}

#[test]
fn a_file_holds_one_resource() {
    assert_eq!(problems(""), ["c.yaml:1:1: no McpCluster (mcpcluster.dev/v1alpha1) in this file"]);
    assert_eq!(problems("kind: McpCluster\n"), ["c.yaml:1:1: apiVersion: must be mcpcluster.dev/v1alpha1, not unset"]);
    assert_eq!(problems("apiVersion: v1\n"), ["c.yaml:1:1: kind: must be set"]);
    let (resource, _) = GOOD.split_once("---").unwrap();
    let found = problems(&format!("{resource}---\n{resource}"));
    assert_eq!(found, ["c.yaml:14:1: the file holds a second McpCluster: one is served"]);
}

#[test]
fn a_resource_has_a_name() {
    for metadata in ["metadata: {name: hello}\n", "{name: hello}", "name: hello"] {
        let found = problems(&without(GOOD, metadata));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("metadata.name: must be set"), "{found:?}");
    }
}

#[test]
fn a_file_that_is_not_yaml_is_refused_at_its_place() {
    let found = problems("apiVersion: mcpcluster.dev/v1alpha1\nkind: [\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("c.yaml:") && found[0].contains("not YAML"), "{found:?}");
    assert!(problems("a: &a [*a]\n")[0].contains("not YAML"));
}
