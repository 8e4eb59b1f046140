//! What a program adds, checked once and joined with every catalog.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use mcp_crds::catalog::{self as authored, ResourceDefinition, ResourceTemplateDefinition, ToolDefinition};

use super::{Handle, Program, Read};
use crate::auth::Authenticator;
use crate::backend::code::{Handler, TaskRule};
use crate::catalog::{Prompt, Resource, ResourceTemplate, Tool};
use crate::mcp::prompts::PromptMessage;
use crate::mcp::tools::CallToolResult;

/// The longest name of a tool or prompt, as in a catalog.
const MAX_NAME: usize = 128;

#[derive(Debug)]
pub(super) struct CodedTool {
    pub(super) definition: ToolDefinition,
    pub(super) handler: Handler<CallToolResult>,
    pub(super) task: TaskRule,
}

#[derive(Debug)]
pub(super) struct CodedPrompt {
    pub(super) definition: authored::Prompt,
    pub(super) handler: Handler<Vec<PromptMessage>>,
}

#[derive(Debug)]
pub(super) struct CodedResource {
    pub(super) definition: ResourceDefinition,
    pub(super) handler: Handler<Read>,
}

#[derive(Debug)]
pub(super) struct CodedTemplate {
    pub(super) definition: ResourceTemplateDefinition,
    pub(super) handler: Handler<Read>,
}

/// A checked program: tools, prompts and resources with what answers them. `mcp-server` itself has none.
#[derive(Debug, Default)]
pub struct Code {
    pub(crate) tools: Vec<(ToolDefinition, Arc<Tool>)>,
    pub(crate) prompts: Vec<(authored::Prompt, Arc<Prompt>)>,
    pub(crate) resources: Vec<(ResourceDefinition, Arc<Resource>)>,
    pub(crate) templates: Vec<(ResourceTemplateDefinition, Arc<ResourceTemplate>)>,
    pub(crate) handle: Handle,
    /// Who may call; none: everybody.
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
}

/// Everything that is wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidProgram(pub Vec<String>);

impl Code {
    pub(super) fn new(program: Program) -> Result<Self, InvalidProgram> {
        let Program { tools, prompts, resources, templates, handle, authenticator, .. } = program;
        let mut problems = Vec::new();
        let tools = entries("tool", tools, &mut problems, |CodedTool { definition, handler, task }| {
            named(&definition.name)?;
            let tool = Tool::of_code(&definition, handler, handle.clone(), task)?;
            Ok((definition.name.clone(), definition, tool))
        });
        let prompts = entries("prompt", prompts, &mut problems, |CodedPrompt { definition, handler }| {
            named(&definition.name)?;
            let prompt = Prompt::of_code(&definition, handler, handle.clone());
            Ok((definition.name.clone(), definition, prompt))
        });
        let resources = entries("resource", resources, &mut problems, |CodedResource { definition, handler }| {
            absolute(&definition.uri)?;
            let resource = Resource::of_code(&definition, handler, handle.clone());
            Ok((definition.uri.clone(), definition, resource))
        });
        let templates = entries("resource template", templates, &mut problems, |CodedTemplate { definition, handler }| {
            let template = ResourceTemplate::of_code(&definition, handler, handle.clone())?;
            Ok((definition.uri_template.clone(), definition, template))
        });
        if !problems.is_empty() {
            return Err(InvalidProgram(problems));
        }
        Ok(Self { tools, prompts, resources, templates, handle, authenticator })
    }
}

/// Checks entries of one kind, each of them once.
fn entries<C, D, B>(
    kind: &str,
    coded: Vec<C>,
    problems: &mut Vec<String>,
    build: impl Fn(C) -> Result<(String, D, B), String>,
) -> Vec<(D, Arc<B>)> {
    let mut known = BTreeSet::new();
    let mut entries = Vec::with_capacity(coded.len());
    for entry in coded {
        match build(entry) {
            Ok((key, definition, ready)) => {
                if !known.insert(key.clone()) {
                    problems.push(format!("{kind} {key} is there twice"));
                }
                entries.push((key, definition, Arc::new(ready)));
            }
            Err(problem) => problems.push(format!("{kind} {problem}")),
        }
    }
    // In the order of a catalog, so that lists are the same however the program is written.
    entries.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    entries.into_iter().map(|(_, definition, built)| (definition, built)).collect()
}

fn named(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
        return Err(format!("{name:?}: a name is 1 to {MAX_NAME} letters, digits, '_', '-' and '.'"));
    }
    Ok(())
}

fn absolute(uri: &str) -> Result<(), String> {
    iri_string::types::UriStr::new(uri).map(drop).map_err(|_| format!("{uri:?}: this is not an absolute URI"))
}

impl fmt::Display for InvalidProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}
