//! The builder an author starts from.

use std::future::Future;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::code::{Code, CodedPrompt, CodedResource, CodedTemplate, CodedTool, InvalidProgram};
use super::define::{Prompt, Resource, ResourceTemplate, Tool, schema_of};
use super::{Answer, Context, Failure, Handle, Message, Read};
use crate::auth::Authenticator;
use crate::backend::code::Handler;

/// What a program adds to the catalog.
///
/// ```no_run
/// use mcp_server::library::{Context, Program, Tool};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Add {
///     a: f64,
///     b: f64,
/// }
///
/// fn main() -> std::process::ExitCode {
///     Program::new("calculator", env!("CARGO_PKG_VERSION"))
///         .tool(Tool::new("add", "Adds two numbers."), |_: Context, Add { a, b }| async move { Ok((a + b).to_string()) })
///         .main()
/// }
/// ```
#[derive(Debug)]
pub struct Program {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) tools: Vec<CodedTool>,
    pub(super) prompts: Vec<CodedPrompt>,
    pub(super) resources: Vec<CodedResource>,
    pub(super) templates: Vec<CodedTemplate>,
    pub(super) authenticator: Option<Arc<dyn Authenticator>>,
    pub(super) handle: Handle,
}

impl Program {
    /// A program without anything yet. Name and version are told to clients when it runs without an `McpCluster`; an
    /// `McpCluster` has its own.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            tools: vec![],
            prompts: vec![],
            resources: vec![],
            templates: vec![],
            authenticator: None,
            handle: Handle::default(),
        }
    }

    /// With a tool more. Its arguments are checked against its input schema, which is that of the type the handler takes
    /// unless the tool says another, before the handler sees them.
    #[must_use]
    pub fn tool<A, F, Fut, R>(mut self, tool: Tool, handler: F) -> Self
    where
        A: DeserializeOwned + JsonSchema,
        F: Fn(Context, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: TryInto<Answer>,
        Failure: From<R::Error>,
    {
        let Tool { mut definition, task } = tool;
        if definition.input_schema.is_null() {
            definition.input_schema = schema_of::<A>();
        }
        let handler = Arc::new(handler);
        let handler = Handler::new(move |context: Context| {
            let handler = Arc::clone(&handler);
            async move {
                let arguments = context.parsed::<A>()?;
                let answer: Answer = handler(context, arguments).await?.try_into()?;
                Ok(answer.into_result())
            }
        });
        self.tools.push(CodedTool { definition, handler, task });
        self
    }

    /// With a prompt more.
    #[must_use]
    pub fn prompt<F, Fut, R, M>(mut self, prompt: Prompt, handler: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: IntoIterator<Item = M>,
        M: Into<Message>,
    {
        let handler = Handler::new(move |context| {
            let messages = handler(context);
            async move { Ok(messages.await?.into_iter().map(|message| message.into().0).collect()) }
        });
        self.prompts.push(CodedPrompt { definition: prompt.0, handler });
        self
    }

    /// With a resource more.
    #[must_use]
    pub fn resource<F, Fut, R>(mut self, resource: Resource, handler: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Into<Read>,
    {
        let handler = Handler::new(move |context| {
            let read = handler(context);
            async move { Ok(read.await?.into()) }
        });
        self.resources.push(CodedResource { definition: resource.0, handler });
        self
    }

    /// With a resource template more. The handler finds the URI that is read as the name, its variables as the arguments.
    #[must_use]
    pub fn resource_template<F, Fut, R>(mut self, template: ResourceTemplate, handler: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Into<Read>,
    {
        let handler = Handler::new(move |context| {
            let read = handler(context);
            async move { Ok(read.await?.into()) }
        });
        self.templates.push(CodedTemplate { definition: template.0, handler });
        self
    }

    /// Who may call: everybody, unless the program says otherwise. A request it does not know the caller of is 401; sessions,
    /// tasks and `requestState` are good for the caller that got them alone, and each caller has its quota
    /// ([`Authenticator::quota`]). Handlers find the caller in [`Context::principal`].
    #[must_use]
    pub fn authenticator(self, authenticator: impl Authenticator + 'static) -> Self {
        Self { authenticator: Some(Arc::new(authenticator)), ..self }
    }

    pub(super) fn has_code(&self) -> bool {
        !(self.tools.is_empty() && self.prompts.is_empty() && self.resources.is_empty() && self.templates.is_empty())
    }

    /// Raises events, from anywhere in the program.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Checks all of it.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn build(self) -> Result<Code, InvalidProgram> {
        Code::new(self)
    }

    /// Runs as `mcp-server` does, until it is told to end: see `--help`.
    pub fn main(self) -> std::process::ExitCode {
        super::process::main(self)
    }
}
