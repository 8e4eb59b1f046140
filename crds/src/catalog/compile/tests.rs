use serde_json::{Value, json};

use super::*;
use crate::catalog::{Answer, CompiledAuthorization, Contents, HeaderValue};

fn catalog(value: Value) -> Catalog {
    serde_json::from_value(value).unwrap()
}

fn text(name: &str, key: &str, text: &str) -> BTreeMap<String, ConfigMapData> {
    let data = ConfigMapData { text: BTreeMap::from([(key.to_owned(), text.to_owned())]), ..ConfigMapData::default() };
    BTreeMap::from([(name.to_owned(), data)])
}

fn try_with(value: Value, config_maps: &BTreeMap<String, ConfigMapData>) -> Result<Compiled, Vec<Problem>> {
    let catalog = catalog(value);
    compile(&CompileInput { cluster: "tools", catalog: Some(&catalog), config_maps, server_version: "1.2.3" })
}

fn compiled(value: Value) -> Compiled {
    try_with(value, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{}", Problem::summary(&problems, 10_000)))
}

fn problems(value: Value) -> Vec<String> {
    problems_with(value, &BTreeMap::new())
}

fn problems_with(value: Value, config_maps: &BTreeMap<String, ConfigMapData>) -> Vec<String> {
    try_with(value, config_maps).expect_err("refused").iter().map(ToString::to_string).collect()
}

/// The problems of one tool, without its path.
fn of_tool(tool: Value) -> Vec<String> {
    let mut tool = tool;
    tool["name"] = json!("t");
    problems(json!({ "tools": [tool] }))
        .iter()
        .map(|problem| problem.strip_prefix("tools[t].").unwrap_or(problem).to_owned())
        .collect()
}

/// The problems of a call to this URL by a tool with the argument `id`.
fn of_url(url: &str) -> Vec<String> {
    of_tool(json!({"inputSchema": {"type": "object", "properties": {"id": {}}}, "http": {"url": url}}))
}

fn with_source(source: &str) -> Vec<String> {
    let catalog = json!({
        "tools": [{"name": "greet", "static": {"content": [{"text": "hi"}]}}],
        "backends": [{"name": "tickets", "url": "https://tickets.example.com"}],
        "sources": [{"name": "billing", "configMapKeyRef": {"name": "billing-tools", "key": "catalog.yaml"}}],
    });
    problems_with(catalog, &text("billing-tools", "catalog.yaml", source))
}

// === what is compiled ===

#[test]
fn a_call_is_resolved_with_its_backend() {
    let compiled = compiled(json!({
        "backends": [{
            "name": "tickets", "url": "https://tickets.example.com/api/v2/", "timeout": "5s", "maxInFlightRequests": 7,
            "authorization": {"bearer": {"secretKeyRef": {"name": "tickets", "key": "token"}}},
            "headers": [
                {"name": "X-Client", "value": "mcp"},
                {"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "x"}}},
            ],
        }],
        "tools": [{
            "name": "create-ticket",
            "inputSchema": {"type": "object", "properties": {"queue": {"type": "string"}}, "required": ["queue"]},
            "http": {"backend": "tickets", "method": "POST", "url": "/queues/{queue}/tickets", "body": {"json": {"q": "{queue}"}},
                "response": {"select": "$.ticket", "maxSize": "64Ki"}},
        }],
    }));
    let Answer::Http(http) = &compiled.catalog.tools[0].answer else { panic!("an http answer") };
    assert_eq!(http.url, "https://tickets.example.com/api/v2/queues/{queue}/tickets", "concatenated, never resolved");
    assert_eq!((http.timeout_ms, http.max_size), (5000, 65_536));
    let backend = &compiled.catalog.backends[0];
    assert_eq!(backend.max_in_flight_requests, 7);
    assert_eq!(backend.authorization, Some(CompiledAuthorization::Bearer(CredentialFile::of("tickets", "token"))));
    assert_eq!(backend.headers[1].name, "x-key");
    assert_eq!(backend.headers[1].value, HeaderValue::Credential(CredentialFile::of("keys", "x")));
    assert_eq!(compiled.credentials, BTreeSet::from([CredentialFile::of("keys", "x"), CredentialFile::of("tickets", "token")]));
}

#[test]
fn the_timeout_of_a_call_is_its_own_or_the_backends_or_half_a_minute() {
    let timeout = |http: Value| {
        let compiled = compiled(json!({
            "backends": [{"name": "a", "url": "https://a.example.com", "timeout": "7s"}],
            "tools": [{"name": "t", "http": http}],
        }));
        let Answer::Http(http) = &compiled.catalog.tools[0].answer else { panic!("an http answer") };
        http.timeout_ms
    };
    assert_eq!(timeout(json!({"backend": "a", "url": "/", "timeout": "3s"})), 3000);
    assert_eq!(timeout(json!({"backend": "a", "url": "/"})), 7000);
    assert_eq!(timeout(json!({"url": "https://b.example.com"})), 30_000);
}

#[test]
fn entries_are_sorted_by_name() {
    let tool = |name: &str| json!({"name": name, "static": {"content": [{"text": "x"}]}});
    let compiled = compiled(json!({ "tools": [tool("b"), tool("a"), tool("C")] }));
    let names: Vec<_> = compiled.catalog.tools.iter().map(|tool| tool.definition.name.as_str()).collect();
    assert_eq!(names, ["C", "a", "b"]);
}

#[test]
fn the_server_introduces_itself_with_the_name_of_the_cluster() {
    let info = compiled(json!({})).catalog.server_info;
    assert_eq!((info.name.as_str(), info.version.as_str()), ("tools", "1.2.3"));
    assert_eq!(compiled(json!({"serverInfo": {"version": "7"}})).catalog.server_info.version, "7");
}

#[test]
fn a_tool_without_input_schema_takes_any_object() {
    let compiled = compiled(json!({"tools": [{"name": "a", "static": {"content": [{"text": "x"}]}}]}));
    assert_eq!(compiled.catalog.tools[0].definition.input_schema, json!({"type": "object"}));
}

#[test]
fn contents_of_resources_come_with_their_size() {
    let mut config_maps = text("handbook", "all.md", "# Héllo");
    config_maps.get_mut("handbook").unwrap().binary.insert("logo.png".to_owned(), vec![1, 2, 3, 4]);
    let resource = |uri: &str, contents: Value| json!({"uri": uri, "name": "x", "static": contents});
    let compiled = try_with(
        json!({"resources": [
            resource("docs://a", json!({"text": "abc"})),
            resource("docs://b", json!({"blob": "aGVsbG8="})),
            resource("docs://c", json!({"configMapKeyRef": {"name": "handbook", "key": "all.md"}})),
            resource("docs://d", json!({"configMapKeyRef": {"name": "handbook", "key": "logo.png"}})),
        ]}),
        &config_maps,
    )
    .unwrap();
    let resources: Vec<_> =
        compiled.catalog.resources.iter().map(|resource| (resource.contents.clone(), resource.definition.size)).collect();
    assert_eq!(
        resources,
        [
            (Contents::Text("abc".to_owned()), Some(3)),
            (Contents::Blob("aGVsbG8=".to_owned()), Some(5)),
            (Contents::Text("# Héllo".to_owned()), Some(8)),
            (Contents::Blob("AQIDBA==".to_owned()), Some(4)),
        ]
    );
}

#[test]
fn a_source_brings_entries_under_its_prefix() {
    let catalog = json!({
        "backends": [{"name": "tickets", "url": "https://tickets.example.com"}],
        "sources": [{"name": "billing", "prefix": "billing_", "configMapKeyRef": {"name": "billing-tools", "key": "catalog.yaml"}}],
    });
    let source = "tools:\n- name: refund\n  http: {backend: tickets, url: /refund}\nprompts:\n- name: ask\n  messages: [{role: user, content: {text: x}}]\n";
    let compiled = try_with(catalog, &text("billing-tools", "catalog.yaml", source)).unwrap();
    assert_eq!(compiled.catalog.tools[0].definition.name, "billing_refund");
    assert_eq!(compiled.catalog.prompts[0].name, "billing_ask");
    assert_eq!(
        compiled.sources,
        [SourceCounts { name: "billing".to_owned(), tools: 1, resources: 0, resource_templates: 0, prompts: 1 }]
    );
}

#[test]
fn the_config_maps_of_sources_are_found_too() {
    let catalog = catalog(json!({
        "resources": [{"uri": "docs://a", "name": "a", "static": {"configMapKeyRef": {"name": "handbook", "key": "a"}}}],
        "sources": [{"name": "billing", "configMapKeyRef": {"name": "billing-tools", "key": "catalog.yaml"}}],
    }));
    assert_eq!(config_maps(&catalog, &BTreeMap::new()), BTreeSet::from(["billing-tools".to_owned(), "handbook".to_owned()]));
    let known = text(
        "billing-tools",
        "catalog.yaml",
        "resources:\n- {uri: 'docs://b', name: b, static: {configMapKeyRef: {name: more, key: b}}}\n",
    );
    assert!(config_maps(&catalog, &known).contains("more"));
    assert_eq!(config_maps(&catalog, &text("billing-tools", "catalog.yaml", "[")).len(), 2, "a broken text names nothing");
}

// === what is refused ===

#[test]
fn every_problem_is_reported_at_once_in_the_words_of_the_status() {
    let found = try_with(
        json!({
            "tools": [{
                "name": "create-ticket",
                "inputSchema": {"type": "object", "properties": {"title": {"type": "string"}}},
                "http": {"url": "https://tickets.example.com", "method": "POST", "body": {"json": {"title": "{titel}"}}},
            }, {
                "name": "refund", "static": {"content": [{"text": "x"}]},
            }],
            "sources": [{"name": "billing", "configMapKeyRef": {"name": "billing-tools", "key": "catalog.yaml"}}],
        }),
        &text(
            "billing-tools",
            "catalog.yaml",
            &format!("tools:{}\n- name: refund\n  static: {{content: [{{text: b}}]}}\n", "\n".repeat(39)),
        ),
    )
    .unwrap_err();
    assert_eq!(
        Problem::summary(&found, 1024),
        "2 errors. tools[create-ticket].http.body: {titel} is not in inputSchema. source billing, line 41: duplicate tool refund."
    );
    assert_eq!(Problem::reason(&found), Some("Invalid"));
    assert_eq!(Problem::reason(&found[1..]), Some("DuplicateName"));
    assert_eq!(
        Problem::summary(&found, 80),
        "2 errors. tools[create-ticket].http.body: {titel} is not in inputSchema. And 1 more."
    );
}

#[test]
fn names_occur_once() {
    let tool = json!({"name": "a", "static": {"content": [{"text": "x"}]}});
    assert_eq!(problems(json!({ "tools": [tool, tool] })), ["tools[a]: duplicate tool a"]);
    let wrong = json!({"name": "a", "http": {"url": "nowhere"}});
    let found = problems(json!({ "tools": [wrong, tool] }));
    assert_eq!(found.last().map(String::as_str), Some("tools[a]: duplicate tool a"), "an entry that is wrong has a name");
    let resource = json!({"uri": "docs://a", "name": "a", "static": {"text": "x"}});
    assert_eq!(problems(json!({ "resources": [resource, resource] })), ["resources[docs://a]: duplicate resource docs://a"]);
    let backend = json!({"name": "a", "url": "https://a.example.com"});
    assert_eq!(problems(json!({ "backends": [backend, backend] })), ["backends[a]: duplicate backend a"]);
    let prompt = json!({
        "name": "p", "arguments": [{"name": "a"}, {"name": "a"}], "messages": [{"role": "user", "content": {"text": "x"}}],
    });
    assert_eq!(problems(json!({ "prompts": [prompt] })), ["prompts[p].arguments[a]: duplicate argument a"]);
}

#[test]
fn a_prefix_counts_towards_the_name() {
    let catalog = json!({
        "sources": [{"name": "long", "prefix": "p".repeat(32), "configMapKeyRef": {"name": "long", "key": "c"}}],
    });
    let source = format!("tools:\n- name: {}\n  static: {{content: [{{text: x}}]}}\n", "n".repeat(100));
    let found = problems_with(catalog, &text("long", "c", &source));
    assert!(found[0].contains("the prefix included"), "{found:?}");
}

#[test]
fn a_missing_config_map_is_a_missing_source() {
    let catalog = json!({"sources": [{"name": "billing", "configMapKeyRef": {"name": "billing-tools", "key": "catalog.yaml"}}]});
    let missing = try_with(catalog.clone(), &BTreeMap::new()).unwrap_err();
    assert_eq!(missing[0].to_string(), "sources[billing].configMapKeyRef: ConfigMap billing-tools does not exist");
    assert_eq!(Problem::reason(&missing), Some("SourceMissing"));
    let other = try_with(catalog, &text("billing-tools", "other.yaml", "")).unwrap_err();
    assert_eq!(other[0].to_string(), "sources[billing].configMapKeyRef: ConfigMap billing-tools has no key catalog.yaml");
}

#[test]
fn a_source_is_checked_as_the_resource_is() {
    assert_eq!(
        with_source(
            "tools:\n- name: a\n  staic: {}\n- name: b\n  static: {content: [{type: image}]}\n- {name: c d, static: {content: [{text: 1}]}}\n"
        ),
        [
            "source billing, line 2: tools[0]: set exactly one of `static`, `template` and `http`: it is what answers the tool",
            "source billing, line 3: tools[0].staic: unknown field; did you mean `static`?",
            "source billing, line 5: tools[1].static.content[0]: a block must carry what its `type` needs: text → `text`; image, audio → `data` and `mimeType`; resource → `resource`; resource_link → `uri` and `name`",
            "source billing, line 6: tools[2].name: use 1 to 128 letters, digits, '_', '-' and '.'",
            "source billing, line 6: tools[2].static.content[0].text: must be a string, not 1, a number: put it in quotes",
        ]
    );
    assert_eq!(with_source("tools: [\n"), with_source("tools: [\n"), "a syntax error is one problem");
    assert!(with_source("tools: [\n")[0].contains("not YAML"));
    assert!(with_source("")[0].contains("is empty"));
    assert!(with_source("a: 1\n---\nb: 2\n")[0].contains("second document"));
}

#[test]
fn a_source_holds_entries_and_names_no_secret() {
    let found = with_source("backends: []\ninstructions: x\ntools: []\n");
    assert_eq!(
        found,
        [
            "source billing, line 1: backends: a source may hold tools, resources, resourceTemplates and prompts: put this into `spec.catalog`",
            "source billing, line 2: instructions: a source may hold tools, resources, resourceTemplates and prompts: put this into `spec.catalog`",
        ]
    );
    let found = with_source(
        "tools:\n- name: a\n  http:\n    url: https://a.example.com\n    headers:\n    - {name: X, valueFrom: {secretKeyRef: {name: s, key: k}}}\n",
    );
    assert_eq!(
        found,
        [
            "source billing, line 6: tools[a].http.headers[X].valueFrom: a source must not name a Secret: put the header into a backend of `spec.catalog.backends`"
        ]
    );
}

#[test]
fn templates_use_declared_arguments() {
    let schema = json!({"type": "object", "properties": {"id": {"type": "string"}}});
    let tool = |answer: Value| {
        let mut tool = json!({ "inputSchema": schema });
        tool.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        of_tool(tool)
    };
    assert_eq!(
        tool(json!({"template": {"content": [{"text": "{id} {nme}"}]}})),
        ["template.content[0]: {nme} is not in inputSchema"]
    );
    assert_eq!(
        tool(json!({"template": {"structuredContent": {"a": ["{x}"]}}})),
        ["template.structuredContent: {x} is not in inputSchema"]
    );
    assert_eq!(tool(json!({"http": {"url": "https://a.example.com/{ID}"}})), ["http.url: {ID} is not in inputSchema"]);
    let form = json!({"http": {"url": "https://a.example.com", "method": "PUT", "body": {"form": {"a": "{y}"}}}});
    assert_eq!(tool(form), ["http.body: {y} is not in inputSchema"]);
    assert_eq!(
        problems(json!({"prompts": [{"name": "p", "messages": [{"role": "user", "content": {"text": "{ticket}"}}]}]})),
        ["prompts[p].messages[0].content: {ticket} is not in arguments"]
    );
    assert_eq!(compiled(json!({"tools": [{"name": "a", "static": {"content": [{"text": "{id}"}]}}]})).catalog.tools.len(), 1);
}

#[test]
fn a_url_has_a_literal_host_that_may_be_called() {
    for (url, part) in [
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254 is a link-local address"),
        ("http://[fe80::1]/", "[fe80::1] is a link-local address"),
        ("http://metadata.google.internal/", "the name of a metadata service"),
        ("http://2852039166/", "a number some resolvers take for an address"),
        ("ftp://a.example.com/", "literal host"),
        ("https://a.example.com/{+id}", "{+id}"),
        ("https://user:pw@a.example.com/", "url"),
        ("https://a.example.com/../b", "path segment"),
        ("https://a.example.com/{id", "malformed"),
    ] {
        let found = of_url(url);
        assert!(found.iter().any(|problem| problem.starts_with("http.url: ") && problem.contains(part)), "{url}: {found:?}");
    }
    let found = problems(json!({"backends": [{"name": "a", "url": "http://169.254.169.254"}]}));
    assert_eq!(found, ["backends[a].url: 169.254.169.254 is a link-local address"]);
    assert!(problems(json!({"backends": [{"name": "a", "url": "https://a.example.com/{x}?y"}]})).len() == 2);
}

#[test]
fn a_resource_is_read_without_arguments() {
    let found = problems(json!({"resources": [{"uri": "docs://a", "name": "a", "http": {"url": "https://a.example.com/{x}"}}]}));
    assert_eq!(found, ["resources[docs://a].http.url: {x}: a resource is read without arguments, so its url has no variables"]);
}

#[test]
fn select_is_an_rfc_9535_query() {
    let found = of_tool(json!({"http": {"url": "https://a.example.com", "response": {"select": "$.a["}}}));
    assert!(found[0].starts_with("http.response.select: is not an RFC 9535 query at character "), "{found:?}");
}

#[test]
fn structured_content_keeps_its_promise() {
    let promise = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let content = |value: Value| of_tool(json!({"outputSchema": promise, "static": {"structuredContent": value}}));
    assert_eq!(
        content(json!({"n": "x"})),
        ["static.structuredContent: does not match outputSchema: /n: \"x\" is not of type \"integer\""]
    );
    assert!(content(json!({}))[0].contains("\"n\" is a required property"));
    for (answer, field) in [
        (json!({"static": {"content": [{"text": "x"}]}}), "static.structuredContent"),
        (json!({"template": {"content": [{"text": "x"}]}}), "template.structuredContent"),
        (json!({"http": {"url": "https://a.example.com"}}), "http.response.select"),
    ] {
        let mut tool = json!({ "outputSchema": promise });
        tool.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        assert_eq!(
            of_tool(tool),
            [format!(
                "outputSchema: promises structured content, but nothing gives any: set `{field}`, or remove `outputSchema`"
            )]
        );
    }
}

#[test]
fn schemas_compile_and_take_objects() {
    let schema = |schema: Value| of_tool(json!({"inputSchema": schema, "static": {"content": [{"text": "x"}]}}));
    assert!(
        schema(json!({"type": "object", "properties": {"a": {"type": "strng"}}}))[0]
            .starts_with("inputSchema: is not a valid JSON Schema: /properties/a/type: ")
    );
    assert_eq!(schema(json!({"properties": {}})), ["inputSchema: must have `type: object` at its root: arguments are an object"]);
    assert!(schema(json!({"type": "object", "$ref": "https://example.com/s"}))[0].contains("leaves the schema"));
    assert!(
        schema(json!({"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}}))[0]
            .contains("x-mcp-header")
    );
}

#[test]
fn headers_are_safe_to_send() {
    let header =
        |header: Value| problems(json!({"backends": [{"name": "a", "url": "https://a.example.com", "headers": [header]}]}));
    assert!(header(json!({"name": "a b", "value": "x"}))[0].contains("is not the name of a header"));
    assert!(header(json!({"name": "Host", "value": "x"}))[0].contains("host is set by the shard"));
    assert!(header(json!({"name": "X", "value": "a\r\nB: c"}))[0].contains("visible ASCII"));
    assert!(header(json!({"name": "X"}))[0].contains("exactly one of `value` and `valueFrom`"));
    let both = json!({"backends": [{
        "name": "a", "url": "https://a.example.com", "authorization": {"basic": {"secretName": "s"}},
        "headers": [{"name": "Authorization", "value": "Bearer x"}],
    }]});
    assert!(problems(both)[0].contains("sets this header"));
    let twice = json!([{"name": "X", "value": "1"}, {"name": "x", "value": "2"}]);
    assert_eq!(
        problems(json!({"backends": [{"name": "a", "url": "https://a.example.com", "headers": twice}]})),
        ["backends[a].headers[x]: duplicate header x"]
    );
}

#[test]
fn content_is_what_it_says() {
    let block = |block: Value| of_tool(json!({"static": {"content": [block]}}));
    assert!(block(json!({"type": "image", "data": "not base64", "mimeType": "image/png"}))[0].contains("is not Base64"));
    assert!(block(json!({"type": "resource_link", "uri": "handbook", "name": "x"}))[0].contains("is not a URI"));
    assert!(block(json!({"type": "resource", "resource": {"uri": "docs://a"}}))[0].contains("exactly one of `text` and `blob`"));
    assert!(block(json!({"text": "x", "annotations": {"priority": "high"}}))[0].contains("from 0 to 1"));
    assert_eq!(of_tool(json!({"static": {}})), ["static: set `content`, `structuredContent` or both"]);
    assert!(
        of_tool(json!({"icons": [{"src": "http://a.example.com/i.png"}], "static": {"content": [{"text": "x"}]}}))[0]
            .contains("https: or data:")
    );
    assert!(
        problems(json!({"resources": [{"uri": "no scheme", "name": "a", "static": {"text": "x"}}]}))[0].contains("is not a URI")
    );
}

#[test]
fn a_resource_template_is_resolved_with_what_completes_it() {
    let compiled = compiled(json!({
        "backends": [{"name": "tickets", "url": "https://tickets.example.com/api", "timeout": "5s"}],
        "resourceTemplates": [
            {"uriTemplate": "tickets://{queue}/{id}", "name": "ticket", "mimeType": "application/json",
             "variables": [{"name": "queue", "completion": {"values": ["ops", "billing"]}}, {"name": "id"}],
             "http": {"backend": "tickets", "url": "/queues/{queue}/tickets/{id}"}},
            {"uriTemplate": "docs://{page}", "name": "doc", "template": {"text": "About {page}."}},
        ],
    }));
    let [doc, ticket] = &compiled.catalog.resource_templates[..] else { panic!("two, sorted") };
    assert_eq!(doc.contents, Contents::Text("About {page}.".to_owned()));
    let Contents::Http(call) = &ticket.contents else { panic!("{:?}", ticket.contents) };
    assert_eq!((call.url.as_str(), call.timeout_ms), ("https://tickets.example.com/api/queues/{queue}/tickets/{id}", 5_000));
    assert_eq!(ticket.definition.mime_type.as_deref(), Some("application/json"));
    let offered = BTreeMap::from([("queue".to_owned(), vec!["ops".to_owned(), "billing".to_owned()])]);
    assert_eq!(ticket.completions, offered, "as they were written: the likely ones first");
}

#[test]
fn what_is_wrong_with_a_resource_template_is_said_where_it_is() {
    let of = |template: Value| {
        let mut entry = json!({"uriTemplate": "t://{id}", "name": "t", "template": {"text": "x"}});
        for (name, value) in template.as_object().unwrap() {
            entry[name] = value.clone();
        }
        entry.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        problems(json!({ "resourceTemplates": [entry] }))
    };
    assert_eq!(
        of(json!({"uriTemplate": "t://{a}{b}"})),
        [
            "resourceTemplates[t://{a}{b}].uriTemplate: nothing tells where {a} ends and {b} begins: put a character between them that values do not hold, such as '/', ':' or ','"
        ]
    );
    assert_eq!(
        of(json!({"uriTemplate": "t://{?q}", "template": {"text": "{q} is not judged"}})).len(),
        1,
        "one slip, one problem"
    );
    assert!(of(json!({"uriTemplate": "t://a b/{id}"}))[0].contains("is not a URI with a scheme"));
    assert_eq!(
        of(json!({"template": {"text": "{idd}"}})),
        ["resourceTemplates[t://{id}].template.text: {idd} is not in uriTemplate"]
    );
    assert_eq!(
        of(json!({"template": null, "http": {"url": "https://a.example.com/{idd}"}})),
        ["resourceTemplates[t://{id}].http.url: {idd} is not in uriTemplate"]
    );
    assert_eq!(
        of(json!({"template": null, "http": {"backend": "nobody", "url": "/{id}"}})),
        [
            "resourceTemplates[t://{id}].http.backend: nobody is not one of `catalog.backends`: add it there, or write an absolute `url`"
        ]
    );
    let both = "resourceTemplates[t://{id}]: set exactly one of `template` and `http`: it is where the contents are";
    assert_eq!(of(json!({"template": null})), [both]);
    assert_eq!(of(json!({"http": {"url": "https://a.example.com"}})), [both]);
    assert_eq!(
        of(json!({"variables": [{"name": "queue", "completion": {"values": ["a"]}}, {"name": "id"}, {"name": "id"}]})),
        [
            "resourceTemplates[t://{id}].variables[queue].name: {queue} is not in uriTemplate",
            "resourceTemplates[t://{id}].variables[id]: duplicate variable id",
        ]
    );
    assert_eq!(
        of(json!({"annotations": {"priority": "2"}, "icons": [{"src": "http://a.example.com/a.png"}]})),
        [
            "resourceTemplates[t://{id}].icons[0].src: must be an https: or data: URI",
            "resourceTemplates[t://{id}].annotations.priority: must be a number from 0 to 1, quoted, for example \"0.8\"",
        ]
    );
}

#[test]
fn no_two_resource_templates_match_the_same() {
    let template = |uri: &str| json!({"uriTemplate": uri, "name": "t", "template": {"text": "x"}});
    assert_eq!(
        problems(json!({"resourceTemplates": [template("t://{a}/{b}"), template("t://{a}/{b}")]})),
        ["resourceTemplates[t://{a}/{b}]: duplicate resource template t://{a}/{b}"]
    );
    assert_eq!(
        problems(json!({"resourceTemplates": [template("t://{a}/{b}"), template("t://{b}/{c}")]})),
        ["resourceTemplates[t://{b}/{c}].uriTemplate: matches the same URIs as t://{a}/{b}: one of them is never read"]
    );
    let overlap = json!({"resourceTemplates": [template("t://{a}/b"), template("t://a/{b}"), template("t://{+rest}")]});
    assert_eq!(compiled(overlap).catalog.resource_templates.len(), 3, "which is asked first is decided");
    let mut catalog = json!({
        "resourceTemplates": [template("t://{a}")],
        "sources": [{"name": "billing", "configMapKeyRef": {"name": "billing-tools", "key": "catalog.yaml"}}],
    });
    let source = "resourceTemplates:\n- {uriTemplate: \"t://{a}\", name: t, template: {text: x}}\n";
    let config_maps = text("billing-tools", "catalog.yaml", source);
    assert_eq!(problems_with(catalog.clone(), &config_maps), ["source billing, line 2: duplicate resource template t://{a}"]);
    catalog["resourceTemplates"] = json!([]);
    assert_eq!(try_with(catalog, &config_maps).unwrap().sources[0].resource_templates, 1);
}

#[test]
fn completion_offers_each_value_once() {
    let of = |values: Value| {
        problems(json!({"prompts": [{
            "name": "p",
            "arguments": [{"name": "a", "completion": {"values": values}}],
            "messages": [{"role": "user", "content": {"text": "{a}"}}],
        }]}))
    };
    let at = "prompts[p].arguments[a].completion.values";
    assert_eq!(of(json!([])), [format!("{at}: has no values: add some, or remove `completion`")]);
    assert_eq!(
        of(json!(["x", "", "x"])),
        [format!("{at}[1]: is empty: there would be nothing to offer"), format!("{at}[2]: \"x\" is there twice")]
    );
    let many: Vec<_> = (0..=MAX_COMPLETION_VALUES).map(|n| n.to_string()).collect();
    assert_eq!(of(json!(many)), [format!("{at}: has 1001 values; at most 1000")]);
}

#[test]
fn more_resource_templates_than_a_read_can_ask_are_too_large() {
    let entry = |n: usize| format!("- {{uriTemplate: \"t://{n}/{{a}}\", name: t, template: {{text: x}}}}\n");
    let entries: Vec<_> = (0..=MAX_RESOURCE_TEMPLATES).map(entry).collect();
    let source = format!("resourceTemplates:\n{}", entries.concat());
    assert_eq!(with_source(&source), ["501 resource templates; at most 500"]);
}

#[test]
fn more_entries_than_a_shard_serves_are_too_large() {
    let tools: Vec<_> =
        (0..=MAX_ENTRIES).map(|n| json!({"name": format!("t{n}"), "static": {"content": [{"text": "x"}]}})).collect();
    let found = try_with(json!({ "tools": tools }), &BTreeMap::new()).unwrap_err();
    assert_eq!(found[0].to_string(), "5001 tools; at most 5000");
    assert_eq!(Problem::reason(&found), Some("TooLarge"));
}
