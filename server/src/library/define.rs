//! How tools, prompts and resources are shown to clients.

use std::time::Duration;

use mcp_crds::catalog::{
    self as authored, Icon, PromptArgument, ResourceDefinition, ResourceTemplateDefinition, ToolAnnotations, ToolDefinition,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::backend::code::TaskRule;
use crate::tasks::TTL;

/// A tool, as `tools/list` shows it.
#[derive(Clone, Debug)]
pub struct Tool {
    pub(super) definition: ToolDefinition,
    pub(super) task: TaskRule,
}

/// A prompt, as `prompts/list` shows it.
#[derive(Clone, Debug)]
pub struct Prompt(pub(super) authored::Prompt);

/// A resource, as `resources/list` shows it.
#[derive(Clone, Debug)]
pub struct Resource(pub(super) ResourceDefinition);

/// A resource template, as `resources/templates/list` shows it.
#[derive(Clone, Debug)]
pub struct ResourceTemplate(pub(super) ResourceTemplateDefinition);

/// The JSON Schema of a type.
pub(super) fn schema_of<T: JsonSchema>() -> Value {
    let mut schema = SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<T>().to_value();
    if let Value::Object(members) = &mut schema {
        // The name of a Rust type says nothing to a model.
        members.remove("title");
        members.remove("$schema");
        // A type without fields; the protocol wants to see the word.
        members.entry("type").or_insert_with(|| json!("object"));
    }
    schema
}

// === impl Tool ===

impl Tool {
    /// A tool with a name that is unique in the catalog, and a description for the model.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        let definition = ToolDefinition {
            name: name.into(),
            title: None,
            description: Some(description.into()),
            icons: vec![],
            annotations: None,
            input_schema: Value::Null,
            output_schema: None,
        };
        Self { definition, task: TaskRule { at_once: false, required: false, ttl: TTL } }
    }

    /// For people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.definition.title = Some(title.into());
        self
    }

    /// The input schema, instead of that of the type the handler takes.
    #[must_use]
    pub fn input_schema(mut self, schema: Value) -> Self {
        self.definition.input_schema = schema;
        self
    }

    /// The output schema, of a type. A result that breaks it never leaves the server.
    #[must_use]
    pub fn output<T: JsonSchema>(self) -> Self {
        self.output_schema(schema_of::<T>())
    }

    /// The output schema, as JSON.
    #[must_use]
    pub fn output_schema(mut self, schema: Value) -> Self {
        self.definition.output_schema = Some(schema);
        self
    }

    /// Hints for clients.
    #[must_use]
    pub fn annotations(mut self, annotations: ToolAnnotations) -> Self {
        self.definition.annotations = Some(annotations);
        self
    }

    /// A picture more.
    #[must_use]
    pub fn icon(mut self, icon: Icon) -> Self {
        self.definition.icons.push(icon);
        self
    }

    /// Each call is a task from its start, where the client can follow one; other clients wait for the result.
    #[must_use]
    pub fn as_task(mut self) -> Self {
        self.task.at_once = true;
        self
    }

    /// Clients that cannot follow a task are refused.
    #[must_use]
    pub fn needs_tasks(mut self) -> Self {
        self.task.required = true;
        self
    }

    /// How long its tasks and their results are kept, from their start; half an hour unless it is said, a day at most.
    #[must_use]
    pub fn task_ttl(mut self, ttl: Duration) -> Self {
        self.task.ttl = ttl;
        self
    }
}

// === impl Prompt ===

impl Prompt {
    /// A prompt with a name that is unique in the catalog, and a description.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self(authored::Prompt {
            name: name.into(),
            title: None,
            description: Some(description.into()),
            icons: vec![],
            arguments: vec![],
            messages: vec![],
        })
    }

    /// For people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.0.title = Some(title.into());
        self
    }

    /// An argument that must be given.
    #[must_use]
    pub fn required(self, name: impl Into<String>, description: impl Into<String>) -> Self {
        self.argument(name.into(), description.into(), true)
    }

    /// An argument that may be given.
    #[must_use]
    pub fn optional(self, name: impl Into<String>, description: impl Into<String>) -> Self {
        self.argument(name.into(), description.into(), false)
    }

    fn argument(mut self, name: String, description: String, required: bool) -> Self {
        self.0.arguments.push(PromptArgument { name, description: Some(description), required, ..PromptArgument::default() });
        self
    }
}

// === impl Resource ===

impl Resource {
    /// A resource with a URI that is unique in the catalog, and a name for programs.
    pub fn new(uri: impl Into<String>, name: impl Into<String>) -> Self {
        Self(ResourceDefinition {
            uri: uri.into(),
            name: name.into(),
            title: None,
            description: None,
            mime_type: None,
            size: None,
            icons: vec![],
            annotations: None,
        })
    }

    /// For people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.0.title = Some(title.into());
        self
    }

    /// For the model.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.0.description = Some(description.into());
        self
    }

    /// Media type.
    #[must_use]
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
        self.0.mime_type = Some(mime_type.into());
        self
    }
}

// === impl ResourceTemplate ===

impl ResourceTemplate {
    /// Resources whose URIs are made of an RFC 6570 template, which is unique in the catalog, and a name for programs.
    pub fn new(uri_template: impl Into<String>, name: impl Into<String>) -> Self {
        Self(ResourceTemplateDefinition {
            uri_template: uri_template.into(),
            name: name.into(),
            title: None,
            description: None,
            mime_type: None,
            icons: vec![],
            annotations: None,
        })
    }

    /// For people.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.0.title = Some(title.into());
        self
    }

    /// For the model.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.0.description = Some(description.into());
        self
    }

    /// Media type.
    #[must_use]
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
        self.0.mime_type = Some(mime_type.into());
        self
    }
}
