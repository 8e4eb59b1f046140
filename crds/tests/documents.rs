//! The documents that people write, against the schema, the rules and the compiler; and what is generated, against what is
//! committed. The same files go to a real API server in the cluster tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use kube::core::cel::Validator;
use mcp_crds::cluster;
use mcp_crds::manifest;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// What the first lines of a file expect: from the API server, and here, where the two say it differently.
fn expectation(text: &str) -> String {
    let line = |prefix: &str| text.lines().take(2).find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
    line("# without a cluster: ").or_else(|| line("# expect: ")).expect("the first line says what to expect")
}

#[test]
fn every_sample_is_served() {
    let mut served = Vec::new();
    for (name, text) in files("../manifests/samples") {
        if !text.contains("kind: McpCluster") {
            continue;
        }
        match manifest::read(&text, &name, "1") {
            Ok(manifest) => served.push(manifest.cluster.metadata.name.unwrap_or_default()),
            Err(problems) => panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }
    for name in ["hello", "tools", "http", "library"] {
        assert!(served.iter().any(|served| served == name), "{name} is among {served:?}");
    }
}

#[test]
fn each_invalid_manifest_is_refused_with_its_message() {
    let files = files("tests/invalid");
    assert!(files.len() >= 25, "{} kinds", files.len());
    let mut missing = Vec::new();
    for (name, text) in files {
        let expected = expectation(&text);
        let problems = manifest::read(&text, &name, "1").err().unwrap_or_default();
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        if !problems.iter().any(|problem| problem.contains(&expected)) {
            missing.push(format!("{name}: expected {expected:?}, found {problems:#?}"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn each_invalid_manifest_is_wrong_in_one_way() {
    for (name, text) in files("tests/invalid") {
        let problems = manifest::read(&text, &name, "1").err().unwrap_or_default();
        let places: std::collections::BTreeSet<_> = problems.iter().map(|problem| &problem.path).collect();
        assert!(places.len() <= 2, "{name} is about one thing: {problems:#?}");
    }
}

#[test]
fn each_invalid_edit_is_refused_with_its_message() {
    let files = files("tests/edits");
    assert!(files.len() >= 3, "{} kinds", files.len());
    for (name, text) in files {
        let expected = expectation(&text);
        let documents: Vec<Value> = mcp_crds::yaml::read(&text).unwrap().iter().map(mcp_crds::yaml::Node::to_json).collect();
        let [old, new] = documents.try_into().expect("two documents");
        let schema = cluster::schema().value();
        assert!(Validator::new().validate(schema, &old, None).is_ok(), "{name}: what is edited is valid");
        let errors = Validator::new().validate(schema, &new, Some(&old)).expect_err(&name);
        assert!(errors.iter().any(|error| error.message.contains(&expected)), "{name}: {errors}");
    }
}

#[test]
fn an_edit_that_names_the_size_is_accepted() {
    let document = |size: &str| {
        let text = format!("metadata: {{name: a}}\nspec: {{resources: {{limits: {{memory: 512Mi}}}}, {size}}}");
        mcp_crds::yaml::read(&text).unwrap()[0].to_json()
    };
    let (old, new) = (document("autoscaling: {maxReplicas: 9}"), document("replicas: 6"));
    assert!(Validator::new().validate(cluster::schema().value(), &new, Some(&old)).is_ok());
}

/// Compares what is generated with what is committed; `UPDATE=1` writes it instead.
fn committed(path: &str, generated: &str) {
    let path = folder(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "{} is not what the types say: run `cargo run -p mcp-crds --example generate` and commit the result",
        path.display()
    );
}

#[test]
fn the_committed_definition_is_the_generated_one() {
    committed("mcpclusters.yaml", &cluster::crd_yaml());
}

#[test]
fn the_committed_reference_is_the_generated_one() {
    committed("../docs/api.md", &cluster::reference());
}

/// `kubectl apply` keeps a copy of the object in an annotation, and annotations hold 262,144 bytes.
#[test]
fn the_definition_fits_an_annotation() {
    let json = serde_json::to_string(&cluster::crd()).unwrap();
    assert!(json.len() < 262_144, "{} bytes as JSON", json.len());
    assert!(cluster::crd_yaml().len() < 262_144, "{} bytes as YAML", cluster::crd_yaml().len());
}
