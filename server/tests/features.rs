//! What a catalog says beside tools, and how fast it may be asked, in both eras over real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;

use harness::{Answered, Client, Running, config};
use mcp_crds::catalog::{
    CompiledResource, CompiledResourceTemplate, Completion, Contents, ResourceDefinition, ResourceTemplateDefinition,
};
use mcp_crds::shard::ShardConfig;
use serde_json::{Value, json};

fn template(uri: &str, text: &str) -> CompiledResourceTemplate {
    CompiledResourceTemplate {
        definition: ResourceTemplateDefinition {
            uri_template: uri.to_owned(),
            name: "t".to_owned(),
            title: Some("A template".to_owned()),
            description: None,
            mime_type: Some("text/plain".to_owned()),
            icons: vec![],
            annotations: None,
        },
        contents: Contents::Text(text.to_owned()),
        completions: [("queue".to_owned(), vec!["Ops".to_owned(), "billing".to_owned(), "opera".to_owned()])].into(),
    }
}

fn featured() -> ShardConfig {
    let mut config = config();
    config.catalog.resource_templates = vec![
        template("tickets://{queue}/{id}", "{id} of {queue}"),
        template("tickets://ops/{id}", "{id} of operations"),
        template("tickets://{+rest}", "{rest}, whatever it is"),
    ];
    config.catalog.resources.push(CompiledResource {
        definition: ResourceDefinition { uri: "tickets://ops/T-0".to_owned(), ..config.catalog.resources[0].definition.clone() },
        contents: Contents::Text("The first.".to_owned()),
    });
    let values = (0..150).map(|n| format!("T-{n}")).collect();
    config.catalog.prompts[0].arguments[0].completion = Some(Completion { values });
    config
}

/// The same request in both eras.
async fn both(server: &Running, method: &str, params: Value) -> [Value; 2] {
    let mut client = server.client().await;
    let (_, session) = client.initialize("2025-11-25").await;
    let legacy = client.legacy(&session, method, params.clone()).await.json();
    [client.modern(method, params).await.json(), legacy]
}

#[tokio::test]
async fn the_most_literal_template_answers_after_the_resource_itself() {
    let server = Running::start(&featured()).await;
    for (uri, text) in [
        ("tickets://ops/T-0", "The first."),
        ("tickets://ops/T-1", "T-1 of operations"),
        ("tickets://a%2Fb/T-1", "T-1 of a/b"),
        ("tickets://a/b/c", "a/b/c, whatever it is"),
    ] {
        for answered in both(&server, "resources/read", json!({"uri": uri})).await {
            assert_eq!(answered["result"]["contents"][0]["text"], text, "{uri}");
            assert_eq!(answered["result"]["contents"][0]["uri"], uri, "as it was asked for");
        }
    }
    let [modern, legacy] = both(&server, "resources/read", json!({"uri": "other://x"})).await;
    assert_eq!((&modern["error"]["code"], &modern["error"]["data"]["uri"]), (&json!(-32602), &json!("other://x")));
    assert_eq!(legacy["error"]["code"], -32002);
}

#[tokio::test]
async fn templates_are_listed_in_one_order_and_can_be_cached() {
    let server = Running::start(&featured()).await;
    let [modern, legacy] = both(&server, "resources/templates/list", json!({})).await;
    for answered in [&modern, &legacy] {
        let templates = answered["result"]["resourceTemplates"].as_array().unwrap();
        let uris: Vec<_> = templates.iter().map(|template| template["uriTemplate"].as_str().unwrap()).collect();
        assert_eq!(uris, ["tickets://ops/{id}", "tickets://{+rest}", "tickets://{queue}/{id}"]);
        assert_eq!(templates[0]["title"], "A template");
        assert!(templates[0].get("completions").is_none() && templates[0].get("contents").is_none());
    }
    assert_eq!(modern["result"]["ttlMs"], 60_000);
    for refused in both(&server, "resources/templates/list", json!({"cursor": "made up"})).await {
        assert_eq!(refused["error"]["code"], -32602);
    }
}

#[tokio::test]
async fn arguments_and_variables_are_completed() {
    let server = Running::start(&featured()).await;
    let queue = |value: &str| json!({"ref": {"type": "ref/resource", "uri": "tickets://{queue}/{id}"}, "argument": {"name": "queue", "value": value}});
    for answered in both(&server, "completion/complete", queue("OP")).await {
        assert_eq!(answered["result"]["completion"], json!({"values": ["Ops", "opera"], "total": 2, "hasMore": false}));
    }
    let topic = json!({"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "topic", "value": "t-"}, "context": {"arguments": {"x": "y"}}});
    for answered in both(&server, "completion/complete", topic).await {
        let completion = &answered["result"]["completion"];
        assert_eq!(completion["values"].as_array().unwrap().len(), 100);
        assert_eq!((&completion["total"], &completion["hasMore"]), (&json!(150), &json!(true)));
    }
    for answered in both(&server, "prompts/list", json!({})).await {
        assert!(answered["result"]["prompts"][0]["arguments"][0].get("completion").is_none(), "not a part of the list");
    }
    for wrong in [
        json!({"ref": {"type": "ref/prompt", "name": "nobody"}, "argument": {"name": "topic", "value": ""}}),
        json!({"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "nothing", "value": ""}}),
        json!({"ref": {"type": "ref/resource", "uri": "none://{x}"}, "argument": {"name": "x", "value": ""}}),
        json!({"ref": {"type": "ref/tool", "name": "greet"}, "argument": {"name": "name", "value": ""}}),
        json!({"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "topic"}}),
        json!({"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "topic", "value": ""}, "context": {"arguments": {"x": 1}}}),
        json!({"argument": {"name": "topic", "value": ""}}),
    ] {
        for refused in both(&server, "completion/complete", wrong.clone()).await {
            assert_eq!(refused["error"]["code"], -32602, "{wrong}");
        }
    }
    let mut client = server.client().await;
    let discovered = client.modern("server/discover", json!({})).await.json();
    assert_eq!(discovered["result"]["capabilities"]["completions"], json!({}));
}

/// Asks until it is too much: a thousand times is far more than two a second, on any machine.
async fn until_limited(client: &mut Client, session: Option<&str>) -> Answered {
    for _ in 0..1000 {
        let answered = match session {
            Some(session) => client.legacy(session, "ping", json!({})).await,
            None => client.modern("tools/list", json!({})).await,
        };
        if answered.status == 429 {
            return answered;
        }
        assert_eq!(answered.status, 200);
    }
    panic!("nothing bounds it");
}

#[tokio::test]
async fn a_connection_and_a_session_that_ask_too_often_wait_and_others_do_not() {
    let mut config = config();
    config.limits.requests_per_second = Some(2);
    let server = Running::start(&config).await;
    let mut client = server.client().await;
    let (_, session) = client.initialize("2025-11-25").await;
    let refused = until_limited(&mut client, Some(&session)).await;
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.trim().parse::<u64>().is_ok()), "{}", refused.head);
    assert_eq!(refused.json()["id"], 1);
    let mut another = server.client().await;
    until_limited(&mut another, Some(&session)).await;
    assert_eq!(another.modern("tools/list", json!({})).await.status, 200, "the connection itself has made none");
    until_limited(&mut another, None).await;
    assert_eq!(server.client().await.modern("tools/list", json!({})).await.status, 200, "another is not bound by it");
    let [(_, sessions), (_, connections), _] = server.shard.rates.limited();
    assert!(sessions >= 2 && connections >= 1, "{sessions} {connections}");
}
