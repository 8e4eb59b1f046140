//! What a shard serves: one immutable snapshot, built from a compiled catalog and swapped as a whole.
//!
//! ```text
//! CompiledCatalog → Snapshot::build: schemas compiled, templates parsed, lists serialised → tool(name).call(arguments)
//! ```
//!
//! Nothing in a snapshot is looked up twice or locked: names are keys of maps, pages of lists are bytes ready to send. Two
//! shards with the same hash serve the same bytes, cursors included.

mod completion;
mod page;
mod prompt;
mod resource;
mod resource_template;
mod schema;
mod tool;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use mcp_crds::catalog::{
    CacheScope, CompiledBackend, CompiledCatalog, Implementation, ResourceDefinition, ResourceTemplateDefinition,
};
use serde::Serialize;

pub use self::completion::Values;
use self::page::{Entry, List, Pages};
pub use self::page::{Page, UnknownCursor};
pub use self::prompt::{Prompt, PromptError};
pub use self::resource::{ReadError, Resource};
use self::resource_template::Templates;
pub use self::resource_template::{Match, ResourceTemplate};
pub use self::schema::{InvalidArguments, Violation};
pub use self::tool::Tool;
use crate::backend::{Clients, Credentials};
use crate::library::Code;
use crate::mcp::{prompts, resources, tools};

/// One generation of the catalog, ready to serve.
#[derive(Debug)]
pub struct Snapshot {
    hash: String,
    server_info: Implementation,
    instructions: Option<String>,
    ttl_ms: u64,
    cache_scope: CacheScope,
    tools: HashMap<String, Arc<Tool>>,
    resources: HashMap<String, Arc<Resource>>,
    templates: Templates,
    prompts: HashMap<String, Arc<Prompt>>,
    tool_pages: Pages,
    /// Where a tool has to look different before 2026-07-28.
    legacy_tool_pages: Option<Pages>,
    resource_pages: Pages,
    template_pages: Pages,
    prompt_pages: Pages,
}

/// Why a compiled catalog cannot be served: everything that is wrong with it. The compiler refuses all of it first, so this
/// is a catalog from another compiler than ours, or a newer one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BuildError {
    /// One sentence for each.
    pub problems: Vec<String>,
}

/// What calls need beside the catalog.
struct Means<'a> {
    backends: HashMap<&'a str, &'a CompiledBackend>,
    credentials: Arc<Credentials>,
    clients: &'a Clients,
}

impl Snapshot {
    /// Builds a snapshot of a catalog and what a program adds. `hash` names the configuration.
    ///
    /// # Errors
    /// With every problem at once, when the catalog does not hold what its compiler promises, or the program has a name
    /// that is in the catalog.
    pub fn build(
        config: &CompiledCatalog,
        hash: &str,
        credentials: Arc<Credentials>,
        clients: &Clients,
        code: &Code,
    ) -> Result<Self, BuildError> {
        let backends = config.backends.iter().map(|backend| (backend.name.as_str(), backend)).collect();
        let means = Means { backends, credentials, clients };
        let mut problems = Vec::new();
        let mut tools =
            entries("tool", &config.tools, |tool| &tool.definition.name, |tool| Tool::build(tool, &means), &mut problems);
        let mut resources = entries(
            "resource",
            &config.resources,
            |resource| &resource.definition.uri,
            |resource| Resource::build(resource, &means),
            &mut problems,
        );
        let mut templates = entries(
            "resource template",
            &config.resource_templates,
            |template| &template.definition.uri_template,
            |template| ResourceTemplate::build(template, &means),
            &mut problems,
        );
        let mut prompts = entries("prompt", &config.prompts, |prompt| &prompt.name, Prompt::build, &mut problems);
        join("tool", &mut tools, &code.tools, |definition| &definition.name, &mut problems);
        join("resource", &mut resources, &code.resources, |definition| &definition.uri, &mut problems);
        join("resource template", &mut templates, &code.templates, |definition| &definition.uri_template, &mut problems);
        join("prompt", &mut prompts, &code.prompts, |definition| &definition.name, &mut problems);
        let templates = Templates::new(templates.into_values().collect()).unwrap_or_else(|problem| {
            problems.push(problem);
            Templates::default()
        });
        let mut pages = |list, entries: Vec<Result<Entry, String>>| {
            let built = entries.into_iter().collect::<Result<Vec<_>, _>>().and_then(|entries| Pages::build(list, &entries));
            built.unwrap_or_else(|error| {
                problems.push(error);
                Pages::none(list)
            })
        };
        let tool_definitions =
            shown(config.tools.iter().map(|tool| &tool.definition), &code.tools, |definition| &definition.name);
        let definitions = || tool_definitions.iter().copied();
        let legacy: Vec<_> = definitions().map(tools::legacy_definition).collect();
        let legacy_tool_pages = legacy.iter().any(Option::is_some).then(|| {
            let shown = definitions().zip(&legacy).map(|(modern, legacy)| entry(&modern.name, legacy.as_ref().unwrap_or(modern)));
            pages(List::Tools, shown.collect())
        });
        let tool_pages = pages(List::Tools, definitions().map(|tool| entry(&tool.name, tool)).collect());
        let resource = |definition: &ResourceDefinition| match resources::Resource::try_from(definition) {
            Ok(shown) => entry(&definition.uri, &shown),
            Err(error) => Err(format!("resource {}: {error}", definition.uri)),
        };
        let definitions = config.resources.iter().map(|resource| &resource.definition);
        let definitions = shown(definitions, &code.resources, |definition| &definition.uri);
        let resource_pages = pages(List::Resources, definitions.into_iter().map(resource).collect());
        let template = |definition: &ResourceTemplateDefinition| match resources::ResourceTemplate::try_from(definition) {
            Ok(shown) => entry(&definition.uri_template, &shown),
            Err(error) => Err(format!("resource template {}: {error}", definition.uri_template)),
        };
        let definitions = config.resource_templates.iter().map(|template| &template.definition);
        let definitions = shown(definitions, &code.templates, |definition| &definition.uri_template);
        let template_pages = pages(List::ResourceTemplates, definitions.into_iter().map(template).collect());
        let definitions = shown(config.prompts.iter(), &code.prompts, |definition| &definition.name);
        let shown = definitions.into_iter().map(|prompt| entry(&prompt.name, &prompts::Prompt::from(prompt)));
        let prompt_pages = pages(List::Prompts, shown.collect());
        if !problems.is_empty() {
            return Err(BuildError { problems });
        }
        Ok(Self {
            hash: hash.to_owned(),
            server_info: config.server_info.clone(),
            instructions: config.instructions.clone(),
            ttl_ms: config.ttl_ms,
            cache_scope: config.cache_scope,
            tools,
            resources,
            templates,
            prompts,
            tool_pages,
            legacy_tool_pages,
            resource_pages,
            template_pages,
            prompt_pages,
        })
    }

    /// Names the configuration it was built from.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// MCP `serverInfo`.
    pub fn server_info(&self) -> &Implementation {
        &self.server_info
    }

    /// MCP `instructions`.
    pub fn instructions(&self) -> Option<&str> {
        self.instructions.as_deref()
    }

    /// MCP `ttlMs`.
    pub fn ttl_ms(&self) -> u64 {
        self.ttl_ms
    }

    /// MCP `cacheScope`.
    pub fn cache_scope(&self) -> CacheScope {
        self.cache_scope
    }

    /// A page of `tools/list`.
    ///
    /// # Errors
    /// When the cursor is none of this list's.
    pub fn tools_page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        self.tool_pages.page(cursor)
    }

    /// A page of `tools/list` for 2025-11-25 and older, where an output schema describes an object: tools with another one
    /// are shown without it.
    ///
    /// # Errors
    /// When the cursor is none of this list's.
    pub fn legacy_tools_page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        self.legacy_tool_pages.as_ref().unwrap_or(&self.tool_pages).page(cursor)
    }

    /// A page of `resources/list`.
    ///
    /// # Errors
    /// When the cursor is none of this list's.
    pub fn resources_page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        self.resource_pages.page(cursor)
    }

    /// A page of `resources/templates/list`.
    ///
    /// # Errors
    /// When the cursor is none of this list's.
    pub fn templates_page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        self.template_pages.page(cursor)
    }

    /// A page of `prompts/list`.
    ///
    /// # Errors
    /// When the cursor is none of this list's.
    pub fn prompts_page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        self.prompt_pages.page(cursor)
    }

    /// A tool by name.
    pub fn tool(&self, name: &str) -> Option<&Arc<Tool>> {
        self.tools.get(name)
    }

    /// A resource by URI.
    pub fn resource(&self, uri: &str) -> Option<&Arc<Resource>> {
        self.resources.get(uri)
    }

    /// The resource template a URI was made of, and its values; the most literal one when there are several. A resource with
    /// that URI comes first: ask for it before.
    pub fn matching(&self, uri: &str) -> Option<Match<'_>> {
        self.templates.matching(uri)
    }

    /// A resource template as it is written, or else the one a URI was made of.
    pub fn template(&self, uri: &str) -> Option<&ResourceTemplate> {
        self.templates.named(uri)
    }

    /// A prompt by name.
    pub fn prompt(&self, name: &str) -> Option<&Arc<Prompt>> {
        self.prompts.get(name)
    }
}

impl<'a> Means<'a> {
    /// The backend of that name; none for a URL that stands alone.
    fn backend(&self, name: Option<&str>) -> Result<Option<&'a CompiledBackend>, String> {
        match name {
            None => Ok(None),
            Some(name) => self.backends.get(name).copied().map(Some).ok_or_else(|| format!("there is no backend {name}")),
        }
    }
}

/// Builds the entries of one kind, by key, noting what is wrong with each.
fn entries<'a, A, B>(
    kind: &str,
    authored: &'a [A],
    key: impl Fn(&'a A) -> &'a String,
    build: impl Fn(&'a A) -> Result<B, String>,
    problems: &mut Vec<String>,
) -> HashMap<String, Arc<B>> {
    let mut by_key = HashMap::with_capacity(authored.len());
    for entry in authored {
        match build(entry) {
            Ok(ready) => {
                if by_key.insert(key(entry).clone(), Arc::new(ready)).is_some() {
                    problems.push(format!("{kind} {} is there twice", key(entry)));
                }
            }
            Err(reason) => problems.push(format!("{kind} {}: {reason}", key(entry))),
        }
    }
    by_key
}

/// Adds what the program has. A name in both is nobody's: which of the two is meant is for people to say.
fn join<D, B>(
    kind: &str,
    by_key: &mut HashMap<String, Arc<B>>,
    coded: &[(D, Arc<B>)],
    key: impl Fn(&D) -> &String,
    problems: &mut Vec<String>,
) {
    for (definition, built) in coded {
        let key = key(definition);
        if by_key.insert(key.clone(), Arc::clone(built)).is_some() {
            problems.push(format!("{kind} {key} is in the catalog and in the program: rename or remove one of them"));
        }
    }
}

/// Definitions of the catalog and of the program, in one order.
fn shown<'a, D, B>(authored: impl Iterator<Item = &'a D>, coded: &'a [(D, Arc<B>)], key: impl Fn(&D) -> &String) -> Vec<&'a D> {
    let mut all: Vec<_> = authored.chain(coded.iter().map(|(definition, _)| definition)).collect();
    all.sort_by(|one, other| key(one).cmp(key(other)));
    all
}

fn entry<T: Serialize>(key: &str, shown: &T) -> Result<Entry, String> {
    let json = serde_json::to_string(shown).map_err(|error| error.to_string())?;
    Ok(Entry { key: key.to_owned(), json })
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the catalog cannot be served: {}", self.problems.join("; "))
    }
}
