//! A file with an `McpCluster` → what a server needs to serve it without Kubernetes, or every problem with its place.
//!
//! ```text
//! text → documents → schema and rules (check) → catalog (compile) → Manifest
//! ```
//!
//! The file may hold further documents: the ConfigMaps and Secrets the resource refers to. Other kinds are left alone, so
//! that the file that is applied is the file that is tried.

mod objects;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::catalog::{self, Catalog, CompileInput, Compiled, ConfigMapData, CredentialFile, Path, ProblemKind, Step};
use crate::check::check;
use crate::cluster::{self, McpCluster};
use crate::yaml::{self, Node, NodeValue, Position};

/// What a file holds, ready to serve.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The resource, with defaults.
    pub cluster: McpCluster,
    /// Its catalog, compiled.
    pub compiled: Compiled,
    /// The values of the credentials it needs.
    pub credentials: BTreeMap<CredentialFile, Vec<u8>>,
}

/// One thing that is wrong with a file: `cluster.yaml:7:5: spec.limits.maxStreams: must be at least 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the file, as given.
    pub file: String,
    /// Where in it.
    pub at: Position,
    /// Where in the resource; may be empty.
    pub path: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.at.line, self.at.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// Reads a file. `server_version` is `serverInfo.version` where the catalog gives none.
///
/// # Errors
/// Everything that is wrong with it: syntax alone when it is not YAML; otherwise types, unknown fields, enums, bounds, rules
/// and the catalog together, in the order of the text.
pub fn read(text: &str, file: &str, server_version: &str) -> Result<Manifest, Vec<Problem>> {
    let problem =
        |at: Position, path: &Path, message: String| Problem { file: file.to_owned(), at, path: path.to_string(), message };
    let documents =
        yaml::read(text).map_err(|error| vec![problem(error.at, &Path::default(), format!("not YAML: {}", error.message))])?;

    let mut problems = Vec::new();
    let mut report = |at: Position, path: &Path, message: String| problems.push(problem(at, path, message));
    let mut clusters = Vec::new();
    let mut config_maps = BTreeMap::new();
    let mut secrets = BTreeMap::new();
    for document in &documents {
        match (document.text("apiVersion"), document.text("kind")) {
            (Some(API_VERSION), Some("McpCluster")) => clusters.push(document),
            (other, Some("McpCluster")) => {
                report(document.at, &Path::of("apiVersion"), format!("must be {API_VERSION}, not {}", other.unwrap_or("unset")));
            }
            (Some("v1"), Some("ConfigMap")) => objects::config_map(document, &mut config_maps, &mut report),
            (Some("v1"), Some("Secret")) => objects::secret(document, &mut secrets, &mut report),
            (Some(_), Some(_)) => {}
            (_, None) => report(document.at, &Path::of("kind"), "must be set".to_owned()),
            (None, Some(_)) => report(document.at, &Path::of("apiVersion"), "must be set".to_owned()),
        }
    }
    let (Some(document), None) = (clusters.first(), clusters.get(1)) else {
        match clusters.get(1) {
            Some(second) => report(second.at, &Path::default(), "the file holds a second McpCluster: one is served".to_owned()),
            None if problems.is_empty() => {
                problems.push(problem(
                    Position { line: 1, column: 1 },
                    &Path::default(),
                    format!("no McpCluster ({API_VERSION}) in this file"),
                ));
            }
            None => {}
        }
        return Err(problems);
    };
    let result = cluster(document, &config_maps, &secrets, server_version, &mut report);
    problems.sort_by_key(|problem: &Problem| problem.at);
    match result {
        Some(manifest) if problems.is_empty() => Ok(manifest),
        _ => Err(problems),
    }
}

const API_VERSION: &str = "mcpcluster.dev/v1alpha1";

/// Checks and compiles the resource; reports everything.
fn cluster(
    document: &Node,
    config_maps: &BTreeMap<String, ConfigMapData>,
    secrets: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    server_version: &str,
    report: &mut impl FnMut(Position, &Path, String),
) -> Option<Manifest> {
    let checked = check(cluster::schema(), document, &["apiVersion", "kind", "metadata"]);
    let name = document.get("metadata").and_then(|metadata| metadata.text("name")).unwrap_or_default();
    if name.is_empty() {
        let at = document.position(&Path::of("metadata"));
        report(at, &Path::of("metadata").field("name"), "must be set".to_owned());
    }
    for finding in &checked.findings {
        // Rules of the whole resource are about its name.
        if !(name.is_empty() && finding.path.steps().is_empty()) {
            report(finding.at, &finding.path, finding.message.clone());
        }
    }

    let root = Path::of("spec").field("catalog");
    let mut places = BTreeMap::new();
    let catalog = checked.value.pointer("/spec/catalog").map(|catalog| usable(catalog, &mut places));
    let input = CompileInput { cluster: name, catalog: catalog.as_ref(), config_maps, server_version };
    let compiled = match catalog::compile(&input) {
        Ok(compiled) => Some(compiled),
        Err(found) => {
            for problem in found {
                let path = root.join(&written(&problem.path, &places));
                let (at, path, message) = match &problem.source {
                    None => (document.position(&path), path, problem.message.clone()),
                    // The text of a source has lines of its own: they stay in the message.
                    Some(source) => {
                        let path = root.join(&Path::of("sources").named(usize::MAX, source));
                        (document.position(&path), path, problem.to_string())
                    }
                };
                let known = checked.findings.iter().any(|finding| {
                    finding.at == at
                        && (finding.message == message
                            || (problem.kind == ProblemKind::DuplicateName && finding.message.starts_with("duplicate")))
                });
                if !known {
                    report(at, &path, message);
                }
            }
            None
        }
    };
    let mut credentials = BTreeMap::new();
    for file in compiled.iter().flat_map(|compiled| &compiled.credentials) {
        let Some((secret, key)) = file.secret_and_key() else { continue };
        match secrets.get(secret).map(|keys| keys.get(key)) {
            Some(Some(value)) => {
                credentials.insert(file.clone(), value.clone());
            }
            missing => {
                let problem = catalog::Problem::secret_missing(secret, missing.map(|_| key));
                let at = mention(document, secret).unwrap_or_else(|| document.position(&root));
                report(
                    at,
                    &root,
                    format!("{} in this file: add it as a further document, with `stringData: {{{key}: …}}`", problem.message),
                );
            }
        }
    }
    let cluster = serde_json::from_value(checked.value.clone());
    match (cluster, compiled) {
        (Ok(cluster), Some(compiled)) => Some(Manifest { cluster, compiled, credentials }),
        (Err(error), _) if checked.findings.is_empty() => {
            // What the schema lets through and the types do not: metadata, which the schema leaves to the API server.
            report(document.position(&Path::of("metadata")), &Path::of("metadata"), error.to_string());
            None
        }
        _ => None,
    }
}

/// The catalog without the entries that are no entries: those have findings of their own. `places` tells, for each list of
/// which some were left out, where the others are written.
fn usable(catalog: &Value, places: &mut BTreeMap<&'static str, Vec<usize>>) -> Catalog {
    if let Ok(catalog) = serde_json::from_value(catalog.clone()) {
        return catalog;
    }
    let field = |name: &str| catalog.get(name).cloned().unwrap_or_default();
    Catalog {
        server_info: serde_json::from_value(field("serverInfo")).ok(),
        instructions: serde_json::from_value(field("instructions")).ok(),
        cache: serde_json::from_value(field("cache")).unwrap_or_default(),
        backends: entries(catalog, "backends", places),
        tools: entries(catalog, "tools", places),
        resources: entries(catalog, "resources", places),
        resource_templates: entries(catalog, "resourceTemplates", places),
        prompts: entries(catalog, "prompts", places),
        sources: entries(catalog, "sources", places),
    }
}

fn entries<T: serde::de::DeserializeOwned>(
    catalog: &Value,
    field: &'static str,
    places: &mut BTreeMap<&'static str, Vec<usize>>,
) -> Vec<T> {
    let items = catalog.get(field).and_then(Value::as_array).into_iter().flatten().enumerate();
    let (indexes, entries) = items.filter_map(|(index, item)| Some((index, serde_json::from_value(item.clone()).ok()?))).unzip();
    places.insert(field, indexes);
    entries
}

/// A path in the usable catalog as it is written.
fn written(path: &Path, places: &BTreeMap<&'static str, Vec<usize>>) -> Path {
    let [Step::Field(field), Step::Named { index, name }, rest @ ..] = path.steps() else { return path.clone() };
    let index = places.get(field.as_str()).and_then(|indexes| indexes.get(*index)).unwrap_or(index);
    rest.iter().fold(Path::of(field).named(*index, name), |path, step| path.step(step.clone()))
}

/// Where a Secret is first named: `secretKeyRef: {name}` or `secretName`.
fn mention(node: &Node, secret: &str) -> Option<Position> {
    match &node.value {
        NodeValue::Map(members) => members.iter().find_map(|(key, member)| {
            let named = key == "secretName" && node.text("secretName") == Some(secret)
                || key == "secretKeyRef" && member.text("name") == Some(secret);
            if named { Some(member.at) } else { mention(member, secret) }
        }),
        NodeValue::List(items) => items.iter().find_map(|item| mention(item, secret)),
        NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => None,
    }
}
