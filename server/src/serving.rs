//! What a shard serves with: one immutable value for each published configuration, swapped as a whole.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use mcp_crds::catalog::CompiledCatalog;
use mcp_crds::shard::{self, ShardConfig};
use serde::Serialize;

use crate::backend::{Clients, Credentials};
use crate::catalog::{BuildError, Snapshot};
use crate::era::mirror::Mirrored;
use crate::library::Code;
use crate::limits::Limits;
use crate::mcp::prompts;
use crate::mcp::subscriptions::Event;

/// A configuration in force.
#[derive(Debug)]
pub struct Serving {
    /// Limits.
    pub limits: Limits,
    /// Who may call from where.
    pub transport: Transport,
    /// A control drain or a signal without values of its own.
    pub drain: shard::Drain,
    /// Level of the log.
    pub log_level: String,
    /// The catalog.
    pub snapshot: Snapshot,
    /// MCP `Implementation`, encoded.
    pub server_info: Arc<str>,
    /// Tool parameters that are mirrored in headers.
    pub mirrored: Mirrored,
    contents: Contents,
}

/// Transport settings, ready to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// `scheme://host[:port]`, lower case.
    pub origins: Vec<String>,
    /// Host names, lower case, without port.
    pub hosts: Vec<String>,
    /// A page on this machine may call: `--manifest` on a loopback address.
    pub loopback_origins: bool,
    /// Between keep-alive comments.
    pub keep_alive: Duration,
    /// Of a legacy session.
    pub session_lifetime: Duration,
}

/// Digests of a catalog's parts: what changed is told from these. They are compared in this process only.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Contents {
    tools: u64,
    prompts: u64,
    resources: u64,
    by_uri: HashMap<Arc<str>, u64>,
}

/// The process a configuration is put in force in.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// `RLIMIT_NOFILE`
    pub open_files: u64,
    /// Of the cgroup, bytes; 0 when there is none.
    pub memory_limit: u64,
    /// `--manifest` on a loopback address.
    pub loopback_origins: bool,
}

impl Serving {
    /// Puts a configuration in force, all of it or none, with what the program adds.
    ///
    /// # Errors
    /// When the catalog cannot be served.
    pub fn build(
        config: &ShardConfig,
        hash: &str,
        environment: &Environment,
        credentials: Arc<Credentials>,
        clients: &Clients,
        code: &Code,
    ) -> Result<Self, BuildError> {
        let snapshot = Snapshot::build(&config.catalog, hash, credentials, clients, code)?;
        let authored = config.catalog.tools.iter().map(|tool| &tool.definition);
        let server_info = encode(snapshot.server_info()).into();
        Ok(Self {
            limits: Limits::of(&config.limits, environment.open_files, environment.memory_limit),
            transport: Transport {
                origins: config.transport.allowed_origins.clone(),
                hosts: config.transport.allowed_hosts.clone(),
                loopback_origins: environment.loopback_origins,
                keep_alive: Duration::from_millis(config.transport.keep_alive_period_ms.max(1)),
                session_lifetime: Duration::from_millis(config.transport.session_lifetime_ms),
            },
            drain: config.drain.clone(),
            log_level: config.logging.level.clone(),
            snapshot,
            server_info,
            mirrored: Mirrored::of(authored.chain(code.tools.iter().map(|(definition, _)| definition))),
            contents: Contents::of(&config.catalog),
        })
    }

    /// What streams are to hear when this takes the place of `before`.
    pub fn changes(&self, before: &Self) -> Vec<Event> {
        self.contents.changes(&before.contents)
    }
}

impl Contents {
    fn of(catalog: &CompiledCatalog) -> Self {
        let tools: Vec<_> = catalog.tools.iter().map(|tool| &tool.definition).collect();
        let prompts: Vec<_> = catalog.prompts.iter().map(prompts::Prompt::from).collect();
        let resources: Vec<_> = catalog.resources.iter().map(|resource| &resource.definition).collect();
        let templates: Vec<_> = catalog.resource_templates.iter().map(|template| &template.definition).collect();
        Self {
            tools: digest(&tools),
            prompts: digest(&prompts),
            resources: digest(&(resources, templates)),
            by_uri: catalog.resources.iter().map(|r| (r.definition.uri.as_str().into(), digest(&r.contents))).collect(),
        }
    }

    fn changes(&self, before: &Self) -> Vec<Event> {
        let lists = [
            (self.tools != before.tools, Event::ToolsChanged),
            (self.prompts != before.prompts, Event::PromptsChanged),
            (self.resources != before.resources, Event::ResourcesChanged),
        ];
        let lists = lists.into_iter().filter(|(changed, _)| *changed).map(|(_, event)| event);
        let updated = self.by_uri.iter().filter(|(uri, digest)| before.by_uri.get(*uri).is_some_and(|old| old != *digest));
        lists.chain(updated.map(|(uri, _)| Event::ResourceUpdated(Arc::clone(uri)))).collect()
    }
}

fn digest(part: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    encode(part).hash(&mut hasher);
    hasher.finish()
}

fn encode(part: &impl Serialize) -> String {
    serde_json::to_string(part).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcp_crds::catalog::{self, Answer, CompiledResource, CompiledTool, Implementation, ResourceDefinition, ToolDefinition};

    fn catalog() -> CompiledCatalog {
        CompiledCatalog {
            server_info: Implementation { name: "t".to_owned(), version: "1".to_owned(), ..Implementation::default() },
            tools: vec![CompiledTool {
                definition: ToolDefinition {
                    name: "a".to_owned(),
                    title: None,
                    description: None,
                    icons: vec![],
                    annotations: None,
                    input_schema: serde_json::json!({"type": "object"}),
                    output_schema: None,
                },
                answer: Answer::Static(catalog::ToolOutput::default()),
                max_in_flight_requests: None,
            }],
            resources: vec![CompiledResource {
                definition: ResourceDefinition {
                    uri: "test://a".to_owned(),
                    name: "a".to_owned(),
                    title: None,
                    description: None,
                    mime_type: None,
                    size: None,
                    icons: vec![],
                    annotations: None,
                },
                contents: catalog::Contents::Text("one".to_owned()),
            }],
            ..CompiledCatalog::default()
        }
    }

    #[test]
    fn only_what_clients_can_see_is_announced() {
        let before = Contents::of(&catalog());
        let mut changed = catalog();
        changed.tools[0].answer = Answer::Static(catalog::ToolOutput { is_error: Some(true), ..Default::default() });
        assert_eq!(Contents::of(&changed).changes(&before), []);
        changed.tools[0].definition.description = Some("new".to_owned());
        assert_eq!(Contents::of(&changed).changes(&before), [Event::ToolsChanged]);
    }

    #[test]
    fn a_resource_with_other_contents_is_updated_and_a_new_one_changes_the_list() {
        let before = Contents::of(&catalog());
        let mut changed = catalog();
        changed.resources[0].contents = catalog::Contents::Text("two".to_owned());
        assert_eq!(Contents::of(&changed).changes(&before), [Event::ResourceUpdated("test://a".into())]);
        let mut more = catalog();
        more.resources.push(CompiledResource {
            definition: ResourceDefinition { uri: "test://b".to_owned(), ..more.resources[0].definition.clone() },
            contents: catalog::Contents::Text("b".to_owned()),
        });
        assert_eq!(Contents::of(&more).changes(&before), [Event::ResourcesChanged]);
    }
}
