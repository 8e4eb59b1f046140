//! What a shard serves: one immutable snapshot, built from a compiled catalog and swapped as a whole.
//!
//! ```text
//! CompiledCatalog → Snapshot::build: schemas compiled, templates parsed, lists serialised → tool(name).call(arguments)
//! ```
//!
//! Nothing in a snapshot is looked up twice or locked: names are keys of maps, pages of lists are bytes ready to send. Two
//! shards with the same hash serve the same bytes, cursors included.

mod page;
mod prompt;
mod resource;
mod schema;
mod tool;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use mcp_crds::catalog::{CacheScope, CompiledBackend, CompiledCatalog, CompiledResource, Implementation};
use serde::Serialize;

use self::page::{List, Pages};
pub use self::page::{Page, UnknownCursor};
pub use self::prompt::{Prompt, PromptError};
pub use self::resource::{ReadError, Resource};
pub use self::schema::{InvalidArguments, Violation};
pub use self::tool::Tool;
use crate::backend::{Clients, Credentials};
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
    prompts: HashMap<String, Arc<Prompt>>,
    tool_pages: Pages,
    /// Where a tool has to look different before 2026-07-28.
    legacy_tool_pages: Option<Pages>,
    resource_pages: Pages,
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
    /// Builds a snapshot. `hash` names the configuration it comes from; cursors carry it.
    ///
    /// # Errors
    /// With every problem at once, when the catalog does not hold what its compiler promises.
    pub fn build(
        config: &CompiledCatalog,
        hash: &str,
        credentials: Arc<Credentials>,
        clients: &Clients,
    ) -> Result<Self, BuildError> {
        let backends = config.backends.iter().map(|backend| (backend.name.as_str(), backend)).collect();
        let means = Means { backends, credentials, clients };
        let mut problems = Vec::new();
        let tools = entries("tool", &config.tools, |tool| &tool.definition.name, |tool| Tool::build(tool, &means), &mut problems);
        let resources = entries(
            "resource",
            &config.resources,
            |resource| &resource.definition.uri,
            |resource| Resource::build(resource, &means),
            &mut problems,
        );
        let prompts = entries("prompt", &config.prompts, |prompt| &prompt.name, Prompt::build, &mut problems);
        let mut pages = |list, items| {
            Pages::build(list, hash, items).unwrap_or_else(|error| {
                problems.push(error);
                Pages::default()
            })
        };
        let definitions = || config.tools.iter().map(|tool| &tool.definition);
        let legacy: Vec<_> = definitions().map(tools::legacy_definition).collect();
        let legacy_tool_pages = legacy.iter().any(Option::is_some).then(|| {
            let items = definitions().zip(&legacy).map(|(modern, legacy)| json(legacy.as_ref().unwrap_or(modern)));
            pages(List::Tools, items.collect())
        });
        let tool_pages = pages(List::Tools, definitions().map(json).collect());
        let shown = |resource: &CompiledResource| match resources::Resource::try_from(&resource.definition) {
            Ok(shown) => json(&shown),
            Err(error) => Err(format!("resource {}: {error}", resource.definition.uri)),
        };
        let resource_pages = pages(List::Resources, config.resources.iter().map(shown).collect());
        let prompt_pages =
            pages(List::Prompts, config.prompts.iter().map(|prompt| json(&prompts::Prompt::from(prompt))).collect());
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
            prompts,
            tool_pages,
            legacy_tool_pages,
            resource_pages,
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
    /// When the cursor is none of this generation's.
    pub fn tools_page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        self.tool_pages.page(cursor)
    }

    /// A page of `tools/list` for 2025-11-25 and older, where an output schema describes an object: tools with another one
    /// are shown without it.
    ///
    /// # Errors
    /// When the cursor is none of this generation's.
    pub fn legacy_tools_page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        self.legacy_tool_pages.as_ref().unwrap_or(&self.tool_pages).page(cursor)
    }

    /// A page of `resources/list`.
    ///
    /// # Errors
    /// When the cursor is none of this generation's.
    pub fn resources_page(&self, cursor: Option<&str>) -> Result<Page<'_>, UnknownCursor> {
        self.resource_pages.page(cursor)
    }

    /// A page of `prompts/list`.
    ///
    /// # Errors
    /// When the cursor is none of this generation's.
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

fn json<T: Serialize>(value: &T) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
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
