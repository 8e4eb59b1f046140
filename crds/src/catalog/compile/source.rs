//! `catalog.sources`: entries from ConfigMaps.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::LazyLock;

use serde_json::{Map, json};

use super::{Compiler, ConfigMapValue, MAX_ENTRIES, MAX_SOURCE_BYTES};
use crate::catalog::authored::{Catalog, Source};
use crate::catalog::problem::{Path, Problem, ProblemKind};
use crate::check::{Schema, check};
use crate::cluster;
use crate::yaml::{self, Node, NodeValue};

/// What a source may hold.
const ENTRIES: [&str; 4] = ["tools", "resources", "resourceTemplates", "prompts"];
/// What is said once for the whole server, in the resource.
const ELSEWHERE: [&str; 5] = ["serverInfo", "instructions", "cache", "backends", "sources"];

/// The text of a source, read.
#[derive(Debug)]
pub(super) struct SourceText {
    pub(super) catalog: Catalog,
    pub(super) lines: Lines,
}

/// Which line a path of a text is on.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Option<Rc<Node>>);

impl Lines {
    /// The line of a path, or of the nearest thing above it.
    pub(super) fn of(&self, path: &Path) -> Option<usize> {
        self.0.as_ref().map(|node| node.position(path).line)
    }
}

/// One thing that is wrong with a text: line, path, message.
type Slip = (usize, Path, String);

impl SourceText {
    /// Reads and checks a text, by the schema and rules of the resource.
    fn read(text: &str) -> Result<Self, Vec<Slip>> {
        let document = document(text)?;
        let mut slips: Vec<Slip> = Vec::new();
        if let NodeValue::Map(members) = &document.value {
            for (key, member) in members.iter().filter(|(key, _)| ELSEWHERE.contains(&key.as_str())) {
                let message =
                    "a source may hold tools, resources, resourceTemplates and prompts: put this into `spec.catalog`".to_owned();
                slips.push((member.at.line, Path::of(key), message));
            }
        }
        let checked = check(schema(), &document, &ELSEWHERE);
        slips.extend(checked.findings.into_iter().map(|finding| (finding.at.line, finding.path, finding.message)));
        if !slips.is_empty() {
            slips.sort();
            return Err(slips);
        }
        match serde_json::from_value(checked.value) {
            Ok(catalog) => Ok(Self { catalog, lines: Lines(Some(Rc::new(document))) }),
            Err(error) => Err(vec![(1, Path::default(), error.to_string())]),
        }
    }
}

/// The ConfigMaps that the resources of a text name; none of a text that cannot be read.
pub(super) fn references(text: &str) -> BTreeSet<String> {
    let Ok(document) = document(text) else { return BTreeSet::new() };
    let Some(Node { value: NodeValue::List(resources), .. }) = document.get("resources") else { return BTreeSet::new() };
    resources
        .iter()
        .filter_map(|resource| resource.get("static")?.get("configMapKeyRef")?.text("name"))
        .map(str::to_owned)
        .collect()
}

fn document(text: &str) -> Result<Node, Vec<Slip>> {
    let slip = |line, message: String| vec![(line, Path::default(), message)];
    let mut documents =
        yaml::read(text).map_err(|error| slip(error.at.line, format!("not YAML: {}", error.message)))?.into_iter();
    match (documents.next(), documents.next()) {
        (Some(document), None) => Ok(document),
        (None, _) => Err(slip(1, "is empty: it must hold `tools`, `resources`, `resourceTemplates` or `prompts`".to_owned())),
        (Some(_), Some(second)) => Err(slip(second.at.line, "a second document: a source is one".to_owned())),
    }
}

/// The schema of a source: that of `spec.catalog`, without what belongs into the resource.
fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        let catalog = &cluster::schema().value()["properties"]["spec"]["properties"]["catalog"]["properties"];
        let mut properties: Map<_, _> = ENTRIES.iter().map(|name| ((*name).to_owned(), catalog[*name].clone())).collect();
        // A text is bounded as a whole; what bounds a list of the resource is what rules may cost the API server.
        for list in properties.values_mut() {
            list["maxItems"] = json!(MAX_ENTRIES);
        }
        Schema::new(json!({ "type": "object", "properties": properties }))
    });
    &SCHEMA
}

impl Compiler<'_> {
    /// Reads a source; what is wrong with its text is reported.
    pub(super) fn read_source(&mut self, source: &Source, at: &Path) -> Option<SourceText> {
        let Some(reference) = &source.config_map_key_ref else {
            self.invalid(at, "set `configMapKeyRef`: it is where the entries come from");
            return None;
        };
        let at = at.field("configMapKeyRef");
        let text = match self.config_map_value(reference, &at)? {
            ConfigMapValue::Text(text) => text,
            ConfigMapValue::Binary(_) => {
                let message =
                    format!("key {} of ConfigMap {} is under `binaryData`: a source is text", reference.key, reference.name);
                self.report(ProblemKind::Invalid, &at, message);
                return None;
            }
        };
        if text.len() > MAX_SOURCE_BYTES {
            self.report(ProblemKind::TooLarge, &at, format!("{} bytes; at most {MAX_SOURCE_BYTES}", text.len()));
            return None;
        }
        match SourceText::read(text) {
            Ok(text) => Some(text),
            Err(slips) => {
                self.problems.extend(slips.into_iter().map(|(line, path, message)| Problem {
                    kind: ProblemKind::Invalid,
                    source: Some(source.name.clone()),
                    line: Some(line),
                    path,
                    message,
                }));
                None
            }
        }
    }
}
