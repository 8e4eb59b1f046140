//! Tools, resources and prompts; resource templates are next door.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::http::Arguments;
use super::{Backends, Compiler, ConfigMapValue, Merged};
use crate::catalog::authored::{Catalog, ContentBlock, Http, Prompt, Resource, Tool, ToolOutput};
use crate::catalog::compiled::{Answer, CompiledResource, CompiledTool, Contents, ResourceDefinition, ToolDefinition};
use crate::catalog::problem::Path;
use crate::catalog::schema;
use crate::catalog::template::JsonTemplate;

impl Compiler<'_> {
    /// Adds the entries of one origin to what was merged before.
    pub(super) fn entries(&mut self, catalog: &Catalog, prefix: &str, backends: &Backends, merged: &mut Merged) {
        for (index, tool) in catalog.tools.iter().enumerate() {
            let at = Path::of("tools").named(index, &tool.name);
            let name = format!("{prefix}{}", tool.name);
            if !is_tool_name(&name) {
                self.invalid(&at.field("name"), "use 1 to 128 letters, digits, '_', '-' and '.', the prefix included");
            }
            let compiled = self.tool(tool, &name, backends, &at);
            if !merged.is_new("tool", &name) {
                self.duplicate(&at, "tool", &name);
            } else if let Some(compiled) = compiled {
                merged.tools.insert(name, compiled);
            }
        }
        for (index, resource) in catalog.resources.iter().enumerate() {
            let at = Path::of("resources").named(index, &resource.uri);
            let compiled = self.resource(resource, backends, &at);
            if !merged.is_new("resource", &resource.uri) {
                self.duplicate(&at, "resource", &resource.uri);
            } else if let Some(compiled) = compiled {
                merged.resources.insert(resource.uri.clone(), compiled);
            }
        }
        for (index, template) in catalog.resource_templates.iter().enumerate() {
            self.resource_template(
                template,
                backends,
                &Path::of("resourceTemplates").named(index, &template.uri_template),
                merged,
            );
        }
        for (index, prompt) in catalog.prompts.iter().enumerate() {
            let at = Path::of("prompts").named(index, &prompt.name);
            let name = format!("{prefix}{}", prompt.name);
            if !is_tool_name(&name) {
                self.invalid(&at.field("name"), "use 1 to 128 letters, digits, '_', '-' and '.', the prefix included");
            }
            self.prompt(prompt, &at);
            if merged.is_new("prompt", &name) {
                merged.prompts.insert(name.clone(), Prompt { name, ..prompt.clone() });
            } else {
                self.duplicate(&at, "prompt", &name);
            }
        }
    }

    fn tool(&mut self, tool: &Tool, name: &str, backends: &Backends, at: &Path) -> Option<CompiledTool> {
        let problems = self.problems.len();
        let input_schema = tool.input_schema.clone().unwrap_or_else(|| json!({ "type": "object" }));
        self.input_schema(&input_schema, &at.field("inputSchema"));
        if let Some(output_schema) = &tool.output_schema
            && let Err(error) = schema::compile(output_schema)
        {
            self.invalid(&at.field("outputSchema"), error.to_string());
        }
        self.icons(&tool.icons, at);

        let properties = schema::properties(&input_schema);
        let arguments = Arguments::Of(&properties);
        let answer = match (&tool.fixed, &tool.template, &tool.http) {
            (Some(output), None, None) => {
                self.output(output, &at.field("static"));
                self.fixed_output_matches(tool, output, at);
                Some(Answer::Static(output.clone()))
            }
            (None, Some(output), None) => {
                self.output(output, &at.field("template"));
                self.template_variables(output, arguments, &at.field("template"));
                self.promises(
                    tool,
                    output.structured_content.is_some() || output.is_error == Some(true),
                    "template.structuredContent",
                    at,
                );
                Some(Answer::Template(output.clone()))
            }
            (None, None, Some(http)) => {
                self.promises(tool, http.response.select.is_some(), "http.response.select", at);
                self.http(http, arguments, backends, &at.field("http")).map(Answer::Http)
            }
            _ => {
                self.invalid(at, "set exactly one of `static`, `template` and `http`: it is what answers the tool");
                None
            }
        };
        let definition = ToolDefinition {
            name: name.to_owned(),
            title: tool.title.clone(),
            description: tool.description.clone(),
            icons: tool.icons.clone(),
            annotations: tool.annotations.clone(),
            input_schema,
            output_schema: tool.output_schema.clone(),
        };
        let max_in_flight_requests = tool.max_in_flight_requests.map(|most| u32::try_from(most).unwrap_or(0));
        if max_in_flight_requests == Some(0) {
            self.invalid(&at.field("maxInFlightRequests"), "must be at least 1");
        }
        (self.problems.len() == problems).then_some(CompiledTool { definition, answer: answer?, max_in_flight_requests })
    }

    fn input_schema(&mut self, schema: &Value, at: &Path) {
        if let Err(error) = schema::compile(schema) {
            return self.invalid(at, error.to_string());
        }
        if schema.get("type") != Some(&json!("object")) {
            self.invalid(at, "must have `type: object` at its root: arguments are an object");
        }
        for problem in schema::header_problems(schema) {
            self.invalid(at, problem);
        }
    }

    /// A tool with an output schema has to answer with structured content (MCP, Output Schema).
    fn promises(&mut self, tool: &Tool, kept: bool, field: &str, at: &Path) {
        if tool.output_schema.is_some() && !kept {
            self.invalid(
                &at.field("outputSchema"),
                format!("promises structured content, but nothing gives any: set `{field}`, or remove `outputSchema`"),
            );
        }
    }

    /// The answer of a static tool is known now, so it is checked now.
    fn fixed_output_matches(&mut self, tool: &Tool, output: &ToolOutput, at: &Path) {
        let Some(output_schema) = &tool.output_schema else { return };
        self.promises(tool, output.structured_content.is_some() || output.is_error == Some(true), "static.structuredContent", at);
        let (Some(content), Ok(validator)) = (&output.structured_content, schema::compile(output_schema)) else { return };
        for error in validator.iter_errors(content) {
            let place = error.instance_path().to_string();
            self.invalid(
                &at.field("static.structuredContent"),
                format!(
                    "does not match outputSchema: {place}{}{}",
                    if place.is_empty() { "" } else { ": " },
                    schema::shorten(&error.to_string())
                ),
            );
        }
    }

    fn output(&mut self, output: &ToolOutput, at: &Path) {
        if output.content.is_empty() && output.structured_content.is_none() {
            self.invalid(at, "set `content`, `structuredContent` or both");
        }
        for (index, block) in output.content.iter().enumerate() {
            self.block(block, &at.field("content").index(index));
        }
    }

    fn template_variables(&mut self, output: &ToolOutput, arguments: Arguments<'_>, at: &Path) {
        for (index, block) in output.content.iter().enumerate() {
            let block = block_tree(block);
            self.known(&JsonTemplate::parse(&block).variables(), arguments, &at.field("content").index(index));
        }
        if let Some(content) = &output.structured_content {
            self.known(&JsonTemplate::parse(content).variables(), arguments, &at.field("structuredContent"));
        }
    }

    fn resource(&mut self, resource: &Resource, backends: &Backends, at: &Path) -> Option<CompiledResource> {
        let problems = self.problems.len();
        if resource.uri.contains(['{', '}']) {
            self.invalid(&at.field("uri"), "a resource has one URI, without variables");
        } else {
            self.uri(&resource.uri, &at.field("uri"));
        }
        self.icons(&resource.icons, at);
        if let Some(annotations) = &resource.annotations {
            self.annotations(annotations, &at.field("annotations"));
        }
        let (contents, size) = match (&resource.fixed, &resource.http) {
            (Some(_), None) => self.fixed_contents(resource, &at.field("static"))?,
            (None, Some(http)) => (Contents::Http(self.resource_http(http, backends, &at.field("http"))?), None),
            (None, None) | (Some(_), Some(_)) => {
                self.invalid(at, "set exactly one of `static` and `http`: it is where the contents are");
                return None;
            }
        };
        (self.problems.len() == problems).then(|| CompiledResource {
            definition: ResourceDefinition {
                uri: resource.uri.clone(),
                name: resource.name.clone(),
                title: resource.title.clone(),
                description: resource.description.clone(),
                mime_type: resource.mime_type.clone(),
                size,
                icons: resource.icons.clone(),
                annotations: resource.annotations.clone(),
            },
            contents,
        })
    }

    fn resource_http(&mut self, http: &Http, backends: &Backends, at: &Path) -> Option<crate::catalog::CompiledHttp> {
        self.http(http, Arguments::None, backends, at)
    }

    fn fixed_contents(&mut self, resource: &Resource, at: &Path) -> Option<(Contents, Option<u64>)> {
        let fixed = resource.fixed.as_ref()?;
        match (&fixed.text, &fixed.blob, &fixed.config_map_key_ref) {
            (Some(text), None, None) => Some((Contents::Text(text.clone()), Some(text.len() as u64))),
            (None, Some(blob), None) => {
                let size = self.base64(blob, &at.field("blob"))?;
                Some((Contents::Blob(blob.clone()), Some(size)))
            }
            (None, None, Some(reference)) => Some(match self.config_map_value(reference, &at.field("configMapKeyRef"))? {
                ConfigMapValue::Text(text) => (Contents::Text(text.to_owned()), Some(text.len() as u64)),
                ConfigMapValue::Binary(bytes) => (Contents::Blob(STANDARD.encode(bytes)), Some(bytes.len() as u64)),
            }),
            _ => {
                self.invalid(at, "set exactly one of `text`, `blob` and `configMapKeyRef`");
                None
            }
        }
    }

    fn prompt(&mut self, prompt: &Prompt, at: &Path) {
        self.icons(&prompt.icons, at);
        let mut names = BTreeSet::new();
        for (index, argument) in prompt.arguments.iter().enumerate() {
            let at = at.field("arguments").named(index, &argument.name);
            if !names.insert(argument.name.as_str()) {
                self.duplicate(&at, "argument", &argument.name);
            }
            if let Some(completion) = &argument.completion {
                self.completion(completion, &at.field("completion.values"));
            }
        }
        if prompt.messages.is_empty() {
            self.invalid(at, "`messages` must have at least one message");
        }
        for (index, message) in prompt.messages.iter().enumerate() {
            let at = at.field("messages").index(index).field("content");
            self.block(&message.content, &at);
            for variable in JsonTemplate::parse(&block_tree(&message.content)).variables() {
                if !names.contains(variable) {
                    self.invalid(&at, format!("{{{variable}}} is not in arguments"));
                }
            }
        }
    }
}

/// The texts of a block in which arguments are substituted.
fn block_tree(block: &ContentBlock) -> Value {
    json!(block)
}

/// MCP, Tool Names.
fn is_tool_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}
