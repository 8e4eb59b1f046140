//! Authored catalog → [`CompiledCatalog`], or every problem at once.
//!
//! ```text
//! spec.catalog ─┐
//! sources ──────┴→ entries, each with where it came from → resolved, checked, merged, sorted
//! ```
//!
//! Pure: ConfigMaps are handed in, Secrets are only named. The operator compiles before it publishes, so that a broken
//! catalog never reaches a shard; `mcp-server --manifest` compiles what it reads.

mod backends;
mod content;
mod entries;
mod http;
mod resource_template;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;

use super::authored::{Catalog, KeyRef};
use super::compiled::{CompiledCatalog, CredentialFile, Implementation};
use super::problem::{Path, Problem, ProblemKind};
#[cfg(doc)]
use super::template::UriTemplate;
use backends::Backends;
pub use resource_template::MAX_COMPLETION_VALUES;
use source::SourceText;

/// The most tools, resources or prompts a shard serves, all sources together.
pub const MAX_ENTRIES: usize = 5000;
/// The most resource templates of a shard, all sources together: a read asks one after the other.
pub const MAX_RESOURCE_TEMPLATES: usize = 500;
/// The largest text of a source: what a ConfigMap can hold.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;

/// What a catalog is compiled from.
#[derive(Clone, Copy, Debug)]
pub struct CompileInput<'a> {
    /// Name of the McpCluster: MCP's `serverInfo.name`.
    pub cluster: &'a str,
    /// As written; none compiles to a catalog without entries.
    pub catalog: Option<&'a Catalog>,
    /// The ConfigMaps that [`config_maps`] names, by name, as far as they exist.
    pub config_maps: &'a BTreeMap<String, ConfigMapData>,
    /// `serverInfo.version` where the catalog gives none.
    pub server_version: &'a str,
}

/// The contents of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapData {
    /// `data`.
    pub text: BTreeMap<String, String>,
    /// `binaryData`, decoded.
    pub binary: BTreeMap<String, Vec<u8>>,
}

/// A compiled catalog, and what it needs and came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// What shards serve.
    pub catalog: CompiledCatalog,
    /// The keys of Secrets it needs, as files of the credentials folder.
    pub credentials: BTreeSet<CredentialFile>,
    /// What each of `spec.catalog.sources` brought, in its order.
    pub sources: Vec<SourceCounts>,
}

/// What a source brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Its name.
    pub name: String,
    /// Tools.
    pub tools: usize,
    /// Resources.
    pub resources: usize,
    /// Resource templates.
    pub resource_templates: usize,
    /// Prompts.
    pub prompts: usize,
}

/// The ConfigMaps a catalog refers to, by name. Entries of a source may refer to ConfigMaps too: call it again with what
/// was read until nothing is added (sources do not nest, so the second answer is complete).
pub fn config_maps(catalog: &Catalog, known: &BTreeMap<String, ConfigMapData>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in &catalog.sources {
        let Some(reference) = &source.config_map_key_ref else { continue };
        names.insert(reference.name.clone());
        if let Some(text) = known.get(&reference.name).and_then(|data| data.text.get(&reference.key)) {
            names.extend(source::references(text));
        }
    }
    for resource in &catalog.resources {
        let reference = resource.fixed.as_ref().and_then(|fixed| fixed.config_map_key_ref.as_ref());
        names.extend(reference.map(|reference| reference.name.clone()));
    }
    names
}

/// Compiles a catalog.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text: `spec.catalog` first, then source by source.
pub fn compile(input: &CompileInput<'_>) -> Result<Compiled, Vec<Problem>> {
    let nothing = Catalog::default();
    let catalog = input.catalog.unwrap_or(&nothing);
    let mut compiler = Compiler::new(input);
    let backends = compiler.backends(&catalog.backends);
    let mut merged = Merged::default();
    compiler.entries(catalog, "", &backends, &mut merged);
    let mut sources = Vec::new();
    for (index, source) in catalog.sources.iter().enumerate() {
        let place = Path::of("sources").named(index, &source.name);
        let before = merged.counts();
        if let Some(text) = compiler.read_source(source, &place) {
            compiler.scope = Scope::source(&source.name, &text);
            compiler.entries(&text.catalog, source.prefix.as_deref().unwrap_or_default(), &backends, &mut merged);
            compiler.scope = Scope::default();
        }
        sources.push(merged.counts_since(&source.name, before));
    }
    compiler.check_sizes(&merged);

    let Compiler { problems, credentials, .. } = compiler;
    if !problems.is_empty() {
        return Err(problems);
    }
    let info = catalog.server_info.clone().unwrap_or_default();
    Ok(Compiled {
        catalog: CompiledCatalog {
            server_info: Implementation {
                name: input.cluster.to_owned(),
                title: info.title,
                version: info.version.unwrap_or_else(|| input.server_version.to_owned()),
                description: info.description,
                website_url: info.website_url,
                icons: info.icons,
            },
            instructions: catalog.instructions.clone(),
            ttl_ms: u64::try_from(catalog.cache.ttl.or_zero().as_millis()).unwrap_or(u64::MAX),
            cache_scope: catalog.cache.scope,
            backends: backends.compiled.into_values().collect(),
            tools: merged.tools.into_values().collect(),
            resources: merged.resources.into_values().collect(),
            resource_templates: merged.resource_templates.into_values().collect(),
            prompts: merged.prompts.into_values().collect(),
        },
        credentials,
        sources,
    })
}

/// What [`UriTemplate::rank`] gives.
type Rank = (bool, std::cmp::Reverse<usize>, String);

/// Entries of all origins, each by its name: sorted, because a list in the resource can be reordered by a second owner.
#[derive(Debug, Default)]
struct Merged {
    tools: BTreeMap<String, super::CompiledTool>,
    resources: BTreeMap<String, super::CompiledResource>,
    resource_templates: BTreeMap<String, super::CompiledResourceTemplate>,
    prompts: BTreeMap<String, super::Prompt>,
    /// Templates by what they match, so that no two match the same.
    template_ranks: BTreeMap<Rank, String>,
    /// What was seen of each kind, also entries that are wrong: their names are taken all the same.
    seen: BTreeSet<(&'static str, String)>,
}

/// The state of one compilation: what was found so far, and where it looks now.
#[derive(Debug)]
struct Compiler<'a> {
    input: &'a CompileInput<'a>,
    scope: Scope,
    problems: Vec<Problem>,
    credentials: BTreeSet<CredentialFile>,
}

/// Where entries come from.
#[derive(Debug, Default)]
struct Scope {
    /// The name of the source; none is `spec.catalog` itself.
    source: Option<String>,
    lines: source::Lines,
}

impl Scope {
    fn source(name: &str, text: &SourceText) -> Self {
        Self { source: Some(name.to_owned()), lines: text.lines.clone() }
    }
}

// === impl Merged ===

impl Merged {
    /// Whether a name of a kind comes for the first time.
    fn is_new(&mut self, kind: &'static str, name: &str) -> bool {
        self.seen.insert((kind, name.to_owned()))
    }

    fn counts(&self) -> [usize; 4] {
        [self.tools.len(), self.resources.len(), self.resource_templates.len(), self.prompts.len()]
    }

    fn counts_since(&self, name: &str, [tools, resources, resource_templates, prompts]: [usize; 4]) -> SourceCounts {
        SourceCounts {
            name: name.to_owned(),
            tools: self.tools.len() - tools,
            resources: self.resources.len() - resources,
            resource_templates: self.resource_templates.len() - resource_templates,
            prompts: self.prompts.len() - prompts,
        }
    }
}

// === impl Compiler ===

impl<'a> Compiler<'a> {
    fn new(input: &'a CompileInput<'a>) -> Self {
        Self { input, scope: Scope::default(), problems: Vec::new(), credentials: BTreeSet::new() }
    }

    fn report(&mut self, kind: ProblemKind, path: &Path, message: impl Into<String>) {
        self.problems.push(Problem {
            kind,
            source: self.scope.source.clone(),
            line: self.scope.source.as_ref().and_then(|_| self.scope.lines.of(path)),
            path: path.clone(),
            message: message.into(),
        });
    }

    fn invalid(&mut self, path: &Path, message: impl Into<String>) {
        self.report(ProblemKind::Invalid, path, message);
    }

    /// Reports a second entry of a name.
    fn duplicate(&mut self, path: &Path, what: &str, name: &str) {
        self.report(ProblemKind::DuplicateName, path, format!("duplicate {what} {name}"));
        // In a source the line says where; in the resource the path does.
        if let Some(problem) = self.problems.last_mut().filter(|problem| problem.line.is_some()) {
            problem.path = Path::default();
        }
    }

    /// The text or bytes of a key of a ConfigMap.
    fn config_map_value(&mut self, reference: &KeyRef, path: &Path) -> Option<ConfigMapValue<'a>> {
        let KeyRef { name, key } = reference;
        let Some(data) = self.input.config_maps.get(name) else {
            self.report(ProblemKind::SourceMissing, path, format!("ConfigMap {name} does not exist"));
            return None;
        };
        if let Some(text) = data.text.get(key) {
            return Some(ConfigMapValue::Text(text));
        }
        if let Some(bytes) = data.binary.get(key) {
            return Some(ConfigMapValue::Binary(bytes));
        }
        self.report(ProblemKind::SourceMissing, path, format!("ConfigMap {name} has no key {key}"));
        None
    }

    fn check_sizes(&mut self, merged: &Merged) {
        for (what, count, most) in [
            ("tools", merged.tools.len(), MAX_ENTRIES),
            ("resources", merged.resources.len(), MAX_ENTRIES),
            ("resource templates", merged.resource_templates.len(), MAX_RESOURCE_TEMPLATES),
            ("prompts", merged.prompts.len(), MAX_ENTRIES),
        ] {
            if count > most {
                self.report(ProblemKind::TooLarge, &Path::default(), format!("{count} {what}; at most {most}"));
            }
        }
    }
}

/// The value of a key of a ConfigMap.
#[derive(Clone, Copy, Debug)]
enum ConfigMapValue<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl From<&ConfigMap> for ConfigMapData {
    fn from(config_map: &ConfigMap) -> Self {
        Self {
            text: config_map.data.clone().unwrap_or_default(),
            binary: config_map.binary_data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone())).collect(),
        }
    }
}
