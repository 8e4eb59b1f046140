//! What the API server refuses, in our words, before anything runs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use mcp_tests::apply::{Change, documents, expect_refusal, expectation};
use mcp_tests::failure::While as _;
use mcp_tests::run::{read, repository};
use mcp_tests::wait::eventually;
use mcp_tests::{Failure, Namespace, Outcome, claim};
use serde_json::{Value, json};

use crate::manifest::small;

const INVALID_MANIFESTS: &str = "crds/tests/invalid";
const INVALID_EDITS: &str = "crds/tests/edits";

/// The files of a folder of the repository, with their text, by name.
fn yaml_files(folder: &str) -> Outcome<Vec<(String, String)>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(repository().join(folder)).doing(folder)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name.clone(), fs::read_to_string(&path).doing(&name)?))
    };
    files.into_iter().map(read).collect()
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "Conflict")
}

/// Fails with every problem at once.
fn none_of(problems: &[String]) -> Outcome {
    claim!(problems.is_empty(), "{} problems:\n  {}", problems.len(), problems.join("\n  "));
    Ok(())
}

fn says(refused: Outcome<String>, expected: &str) -> Outcome {
    let message = refused?;
    claim!(message.contains(expected), "refused, but not with {expected:?}: {message}");
    Ok(())
}

pub(crate) async fn invalid_manifests_are_refused_with_our_messages(namespace: Namespace) -> Outcome {
    let files = yaml_files(INVALID_MANIFESTS)?;
    claim!(files.len() >= 20, "{INVALID_MANIFESTS} holds only {} manifests", files.len());
    let mut problems = Vec::new();
    for (name, manifest) in files {
        let judged = async {
            let expected = expectation(&manifest)?;
            let [document] = &documents(&manifest)?[..] else { return Err(Failure::new("it is not one document")) };
            says(expect_refusal(namespace.ask(Change::Create, document).await), expected)
        };
        if let Err(why) = judged.await {
            problems.push(format!("{name}: {why}"));
        }
    }
    none_of(&problems)
}

/// An edit is two documents: what is stored, and what is applied over it.
pub(crate) async fn invalid_edits_are_refused_with_our_messages(namespace: Namespace) -> Outcome {
    let files = yaml_files(INVALID_EDITS)?;
    claim!(files.len() >= 3, "{INVALID_EDITS} holds only {} edits", files.len());
    let mut problems = Vec::new();
    for (name, edit) in files {
        let judged = async {
            let expected = expectation(&edit)?;
            let [before, after] = &documents(&edit)?[..] else { return Err(Failure::new("it is not two documents")) };
            // Stored, but nothing runs: the edit is what is tested.
            let mut stored = before.clone();
            stored["spec"]["paused"] = json!(true);
            namespace.apply(&stored.to_string()).await.doing("storing what is edited")?;
            let mut edited = after.clone();
            edited["spec"]["paused"] = json!(true);
            let name = before["metadata"]["name"].as_str().unwrap_or_default();
            let refused = eventually("an answer to the edit", Duration::from_secs(20), || async {
                // A status that is written in between makes the edit late; a person would edit again.
                let mut edited = edited.clone();
                edited["metadata"]["resourceVersion"] = json!(namespace.cluster(name).get().await?.metadata.resource_version);
                let answer = namespace.ask(Change::Replace, &edited).await;
                claim!(!answer.as_ref().is_err_and(is_conflict), "the object changed in between");
                Ok(expect_refusal(answer))
            });
            says(refused.await?, expected)
        };
        if let Err(why) = judged.await {
            problems.push(format!("{name}: {why}"));
        }
    }
    none_of(&problems)
}

pub(crate) async fn kubectl_scale_is_refused_while_autoscaling(namespace: Namespace) -> Outcome {
    let spec = json!({"paused": true, "autoscaling": {"minReplicas": 1, "maxReplicas": 3}});
    namespace.apply(&small("auto", &spec).to_string()).await?;
    let Err(refusal) = namespace.kubectl(&["scale", "mcpcluster/auto", "--replicas=2"]).await else {
        return Err(Failure::new("kubectl scale was honoured"));
    };
    let sentence = "set `replicas` (you decide the size) or `autoscaling` (the operator does), not both: to change the size of an \
                    autoscaled cluster, change `autoscaling.minReplicas` or `maxReplicas`";
    claim!(refusal.to_string().contains(sentence), "refused, but with: {refusal}");
    let replicas = namespace.cluster("auto").get().await?.spec.replicas;
    claim!(replicas.is_none(), "spec.replicas became {replicas:?}");
    Ok(())
}

/// The production sample asks for more than a test machine has, so that the samples are checked and not started.
pub(crate) async fn every_sample_is_accepted(namespace: Namespace) -> Outcome {
    let files = yaml_files("manifests/samples")?;
    for sample in ["quickstart.yaml", "production.yaml", "http.yaml"] {
        claim!(files.iter().any(|(name, _)| name == sample), "there is no manifests/samples/{sample}");
    }
    let mut problems = Vec::new();
    for (name, sample) in files {
        for mut document in documents(&sample)? {
            // Of whatever namespace: here.
            if let Some(metadata) = document["metadata"].as_object_mut() {
                metadata.insert("namespace".to_owned(), Value::from(namespace.name()));
            }
            if document["kind"] == "Namespace" {
                continue;
            }
            let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
            if let Err(why) = namespace.kubectl_with_input(&apply, &document.to_string()).await {
                problems.push(format!("{name}: {why}"));
            }
        }
    }
    let written = read("manifests/samples/quickstart.yaml")?;
    claim!(written.contains("kind: McpCluster"), "the quickstart holds no McpCluster");
    none_of(&problems)
}
