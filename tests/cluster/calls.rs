//! Clients that call a cluster, and what the cluster says about itself meanwhile.

use std::time::Duration;

use mcp_tests::apply::documents;
use mcp_tests::cluster::STARTS_WITHIN;
use mcp_tests::mcp::{Era, Modern, Reply, Session, hold};
use mcp_tests::metrics::Metrics;
use mcp_tests::run::read;
use mcp_tests::table::Table;
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, cgroup, claim, claim_eq};
use serde_json::{Value, json};

use crate::manifest::small;

/// Name of the container that serves.
const CONTAINER: &str = "server";

fn tool_names(reply: &Reply) -> Outcome<Vec<String>> {
    let tools = reply.result()?["tools"].as_array().cloned().unwrap_or_default();
    Ok(tools.iter().filter_map(|tool| tool["name"].as_str()).map(str::to_owned).collect())
}

pub(crate) async fn tools_answer_in_both_eras_through_the_service(namespace: Namespace) -> Outcome {
    namespace.apply(&small("both", &json!({"replicas": 2})).to_string()).await?;
    let cluster = namespace.cluster("both");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;

    let modern = Modern::new(endpoint.clone());
    claim_eq!(tool_names(&modern.list_tools().await?)?, ["echo", "greet"], "modern tools/list");
    claim_eq!(modern.call("greet", json!({})).await?.tool_text()?, "Hello.", "modern greet");
    claim_eq!(modern.call("echo", json!({"word": "hi"})).await?.tool_text()?, "You said hi.", "modern echo");
    let discovered = modern.request("server/discover", json!({})).await?;
    let versions = discovered.result()?["supportedVersions"].clone();
    claim!(versions.as_array().is_some_and(|v| v.contains(&json!("2026-07-28"))), "server/discover: {}", discovered.body);

    let session = Session::open(&endpoint).await?;
    claim_eq!(session.server["serverInfo"]["name"], "both", "serverInfo.name");
    claim_eq!(tool_names(&session.list_tools().await?)?, ["echo", "greet"], "legacy tools/list");
    claim_eq!(session.call("greet", json!({})).await?.tool_text()?, "Hello.", "legacy greet");
    // Any shard serves any stateless request of any session.
    let shards = cluster.shard_endpoints().await?;
    claim_eq!(shards.len(), 2, "ready shards");
    for shard in shards {
        claim_eq!(
            session.at(&shard).call("echo", json!({"word": "x"})).await?.tool_text()?,
            "You said x.",
            "a session elsewhere"
        );
    }
    Ok(())
}

pub(crate) async fn shards_report_the_limit_they_run_under(namespace: Namespace) -> Outcome {
    let spec = json!({"replicas": 2, "resources": {"limits": {"memory": "96Mi"}}});
    namespace.apply(&small("limited", &spec).to_string()).await?;
    let cluster = namespace.cluster("limited");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    for pod in cluster.ready_pods().await? {
        let limit = Metrics::of(&namespace, &pod).await?.sum("mcp_memory_limit_bytes")?;
        claim!((limit - f64::from(96 << 20)).abs() < 1.0, "a shard reports a limit of {limit} bytes");
    }
    // The operator reads the same from the load reports: without a limit there is no percentage.
    cluster
        .until("memory percentages", STARTS_WITHIN, |cluster| {
            let load = cluster.status.as_ref().and_then(|status| status.load.clone()).ok_or("no load")?;
            let (mean, hottest) = (load.memory_percent.unwrap_or(0), load.hottest_memory_percent.unwrap_or(0));
            if (1..70).contains(&hottest) && (1..=hottest).contains(&mean) { Ok(()) } else { Err(format!("{load:?}")) }
        })
        .await?;
    Ok(())
}

pub(crate) async fn the_kernel_enforces_the_limit_in_the_spec(namespace: Namespace) -> Outcome {
    let spec = json!({"resources": {"limits": {"memory": "80Mi"}}});
    namespace.apply(&small("capped", &spec).to_string()).await?;
    let cluster = namespace.cluster("capped");
    cluster.until_settled(1, STARTS_WITHIN).await?;
    for pod in cluster.ready_pods().await? {
        claim_eq!(cgroup::Group::of(&pod, CONTAINER)?.limit()?, 80 << 20, "memory limit of the container's cgroup");
    }
    Ok(())
}

pub(crate) async fn columns_tell_the_truth(namespace: Namespace) -> Outcome {
    let spec = json!({"replicas": 2, "limits": {"maxConnections": 1000, "maxStreams": 1000}});
    namespace.apply(&small("shown", &spec).to_string()).await?;
    let cluster = namespace.cluster("shown");
    cluster.until_settled(2, STARTS_WITHIN).await?;
    let endpoint = cluster.endpoint().await?;
    let mut streams = hold(&endpoint, Era::Modern, 20).await?;
    streams.extend(hold(&endpoint, Era::Legacy, 20).await?);
    let pods: Vec<_> = cluster.ready_pods().await?.into_iter().filter_map(|pod| pod.metadata.name).collect();

    let table = eventually("the streams in kubectl get", Duration::from_secs(75), || async {
        let table = Table::parse(&namespace.kubectl(&["get", "mcpc", "shown", "-o", "wide"]).await?)?;
        claim_eq!(table.number("STREAMS")?, 40, "STREAMS");
        claim_eq!(table.number("CONNECTIONS")?, 40, "CONNECTIONS");
        Ok(table)
    })
    .await?;
    let titles = [
        "NAME",
        "READY",
        "SHARDS",
        "DESIRED",
        "CONNECTIONS",
        "MEMORY%",
        "REASON",
        "AGE",
        "DRAINING",
        "STREAMS",
        "CAPACITY",
        "HOTTEST",
        "TOOLS",
        "LAST SCALE",
        "URL",
    ];
    claim_eq!(table.titles(), titles, "columns of kubectl get -o wide");
    for (title, expected) in [("NAME", "shown"), ("READY", "True"), ("REASON", "Serving")] {
        claim_eq!(table.cell(title)?, expected, "{title}");
    }
    for (title, expected) in [("SHARDS", 2), ("DESIRED", 2), ("DRAINING", 0), ("CAPACITY", 2000), ("TOOLS", 2)] {
        claim_eq!(table.number(title)?, expected, "{title}");
    }
    claim!((1..70).contains(&table.number("MEMORY%")?), "MEMORY% is {}", table.cell("MEMORY%")?);
    claim!(pods.iter().any(|pod| Some(pod.as_str()) == table.cell("HOTTEST").ok()), "HOTTEST is {}", table.cell("HOTTEST")?);
    claim_eq!(table.cell("URL")?, format!("http://shown.{}.svc/mcp", namespace.name()), "URL");
    let short = Table::parse(&namespace.kubectl(&["get", "mcpc", "shown"]).await?)?;
    claim_eq!(short.titles(), titles[..8], "columns of kubectl get");

    drop(streams);
    eventually("no streams in kubectl get", Duration::from_secs(75), || async {
        let table = Table::parse(&namespace.kubectl(&["get", "mcpc", "shown", "-o", "wide"]).await?)?;
        claim_eq!(table.number("STREAMS")?, 0, "STREAMS");
        Ok(())
    })
    .await
}

/// The samples `http.yaml` and `http-echo.yaml` as they are written; only the image's name is the test's.
pub(crate) async fn an_http_backend_is_called_with_its_credential(namespace: Namespace) -> Outcome {
    let registry = std::env::var("IMAGE_REGISTRY").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned());
    let tag = std::env::var("IMAGE_TAG").ok().filter(|tag| !tag.is_empty()).unwrap_or_else(|| "dev".to_owned());
    let echo = read("manifests/samples/http-echo.yaml")?;
    namespace.apply(&echo.replace("localhost/http-echo:dev", &format!("{registry}/http-echo:{tag}"))).await?;
    let sample = read("manifests/samples/http.yaml")?;
    namespace.apply(&sample).await?;
    namespace.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"]).await?;

    let documents = documents(&sample)?;
    let manifest = documents.iter().find(|document| document["kind"] == "McpCluster");
    let manifest = manifest.ok_or_else(|| Failure::new("samples/http.yaml holds no McpCluster"))?;
    let cluster = namespace.cluster(manifest["metadata"]["name"].as_str().unwrap_or_default());
    cluster.until_condition("Ready", "True", "Serving", STARTS_WITHIN).await?;
    let modern = Modern::new(cluster.endpoint().await?);

    // The sample's own tools; the echo's endpoint may be a moment younger than its rollout.
    let searched = eventually("an answer of search", Duration::from_secs(20), || async {
        let reply = modern.call("search", json!({"q": "a&b c", "tags": ["x", "y"]})).await?;
        reply.tool_text()?;
        Ok(reply.result()?["structuredContent"].clone())
    })
    .await?;
    claim_eq!(searched, "q=a%26b%20c&tags=x&tags=y", "the query of search");
    let created = modern.call("create-item", json!({"shelf": "a/b", "title": "T", "count": 2})).await?;
    claim_eq!(created.tool_text()?, "Created T.", "text of create-item");
    claim_eq!(created.result()?["structuredContent"], json!({"title": "T", "count": 2, "via": "mcp"}), "body of create-item");
    let form = modern.call("send-form", json!({"message": "a&b"})).await?;
    claim!(form.tool_text()?.contains("message=a%26b"), "send-form sent {}", form.body);

    // A tool of our own on the sample's backend, so that every part of a request is seen.
    let backend = manifest["spec"]["catalog"]["backends"][0]["name"].clone();
    claim!(backend.is_string(), "samples/http.yaml names no backend");
    let tool = json!({
        "name": "probe",
        "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}, "n": {"type": "integer"}, "q": {"type": "string"}},
            "required": ["id"]},
        "http": {"backend": backend, "method": "POST", "url": "/items/{id}{?q}", "body": {"json": {"n": "{n}", "via": "mcp"}},
            "response": {"select": "$"}},
    });
    let mut tools = manifest["spec"]["catalog"]["tools"].as_array().cloned().unwrap_or_default();
    tools.push(tool);
    cluster.patch(&json!({"spec": {"catalog": {"tools": tools}}})).await?;
    let seen: Value = eventually("an answer of the new tool", Duration::from_mins(1), || async {
        let reply = modern.call("probe", json!({"id": "a/b c", "n": 7, "q": "x&y"})).await?;
        reply.tool_text()?;
        Ok(reply.result()?["structuredContent"].clone())
    })
    .await?;
    claim_eq!(seen["method"], "POST", "method in {seen}");
    claim_eq!(seen["path"], "/anything/items/a%2Fb%20c", "path");
    claim_eq!(seen["query"], "q=x%26y", "query");
    claim_eq!(seen["json"], json!({"n": 7, "via": "mcp"}), "body");
    let token = secret_token(&documents)?;
    claim_eq!(seen["headers"]["x-client"], "mcp", "a header of the backend");
    claim_eq!(seen["headers"]["authorization"], format!("Bearer {token}"), "authorization header");
    Ok(())
}

/// The token of the sample's Secret.
fn secret_token(documents: &[Value]) -> Outcome<String> {
    let secret = documents.iter().find(|document| document["kind"] == "Secret" && document["stringData"].is_object());
    let data = secret.and_then(|secret| secret["stringData"].as_object());
    let token = data.and_then(|data| data.values().next()).and_then(Value::as_str).map(str::to_owned);
    token.ok_or_else(|| Failure::new("samples/http.yaml holds no Secret with stringData"))
}
