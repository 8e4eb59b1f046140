//! The official conformance suite against the client Service of a cluster that the operator deployed.
//!
//! The shards run the image of the suite's fixture: a program on our library with its entrypoint, and no `command`.

use std::process::Stdio;
use std::time::Duration;

use mcp_tests::apply::documents;
use mcp_tests::cluster::STARTS_WITHIN;
use mcp_tests::relay::Entrance;
use mcp_tests::run::{read, repository};
use mcp_tests::{Failure, Namespace, Outcome, claim};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

/// As many shards as the fixture has here.
pub(crate) const SHARDS: i32 = 3;
/// Its program.
pub(crate) const PROGRAM: &str = "conformance";
/// A run takes half a minute on two cores that do nothing else.
const ENDS_WITHIN: Duration = Duration::from_mins(4);

/// The fixture's McpCluster, as a cluster of small shards whose pages may come from `origin`.
pub(crate) fn fixture(origin: &str) -> Outcome<Value> {
    let set =
        |name: &str, otherwise: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or(otherwise.to_owned());
    let image = format!("{}/conformance:{}", set("IMAGE_REGISTRY", "localhost"), set("IMAGE_TAG", "dev"));
    let documents = documents(&read("tests/conformance/catalog.yaml")?)?;
    let found = documents.into_iter().find(|document| document["kind"] == "McpCluster");
    let mut manifest = found.ok_or_else(|| Failure::new("tests/conformance/catalog.yaml holds no McpCluster"))?;
    let spec = &mut manifest["spec"];
    spec["replicas"] = json!(SHARDS);
    spec["image"] = json!(image);
    // The fixture is a debug build.
    spec["resources"] = json!({"requests": {"cpu": "10m"}, "limits": {"memory": "128Mi"}});
    spec["drain"] = json!({"window": "2s", "timeout": "60s"});
    spec["transport"]["allowedOrigins"] = json!([origin]);
    Ok(manifest)
}

pub(crate) async fn the_official_suite_passes_through_the_service(namespace: Namespace) -> Outcome {
    // The suite fails every host but localhost, and its pages come from there: the port must be known to the manifest.
    let entrance = Entrance::open().await?;
    let manifest = fixture(&entrance.origin()?)?;
    namespace.apply(&manifest.to_string()).await?;
    let cluster = namespace.cluster(manifest["metadata"]["name"].as_str().unwrap_or_default());
    cluster.until_settled(SHARDS, STARTS_WITHIN).await?;
    let relay = entrance.leads_to(cluster.endpoint().await?.address)?;

    let out = repository().join(".cache/conformance/cluster");
    let _ = std::fs::remove_dir_all(&out);
    let mut suite = Command::new(repository().join("tests/conformance/suite"));
    suite.arg(&out).env("MCP_URL", relay.url()).stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = timeout(ENDS_WITHIN, suite.output()).await else {
        return Err(Failure::new(format!("the suite did not end in {ENDS_WITHIN:?}")));
    };
    let output = output?;
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{told}");
    claim!(output.status.success(), "the official suite, through the Service:\n{told}");
    Ok(())
}
