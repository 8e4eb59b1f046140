//! What a handler is given.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{Failure, Handle};
use crate::auth::Principal;
use crate::backend::Asking;
use crate::dispatch::Caller;
use crate::mcp::version::Version;

/// Arguments without a type of their own: a tool that takes them says its input schema itself.
pub type Arguments = Map<String, Value>;

/// For a tool that takes no arguments. Some are sent all the same; they are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct NoArguments {}

/// One call of a handler. Cheap to clone, and may outlive the call: what is done with it then comes to nothing.
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    arguments: Arguments,
    caller: Caller,
    deadline: Instant,
    handle: Handle,
}

impl Context {
    pub(crate) fn new(name: &str, arguments: Arguments, asking: Asking<'_>, handle: Handle) -> Self {
        let Asking { caller, deadline } = asking;
        Self(Arc::new(Inner { name: name.to_owned(), arguments, caller: caller.clone(), deadline, handle }))
    }

    /// Name of the tool or the prompt, URI of the resource.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The arguments: of a tool, they match its input schema; of a prompt, they are strings; of a resource template, its
    /// variables.
    pub fn arguments(&self) -> &Arguments {
        &self.0.arguments
    }

    /// An argument that is a string.
    pub fn text(&self, argument: &str) -> Option<&str> {
        self.0.arguments.get(argument).and_then(Value::as_str)
    }

    /// The arguments as a type.
    ///
    /// # Errors
    /// What does not fit: the model is told.
    pub fn parsed<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_value(Value::Object(self.0.arguments.clone()))
            .map_err(|error| Failure::told(format!("the arguments are not what {} takes: {error}", self.name())))
    }

    /// Who calls.
    pub fn principal(&self) -> &Principal {
        &self.0.caller.principal
    }

    /// The version of the protocol the caller speaks.
    pub fn version(&self) -> Version {
        self.0.caller.version
    }

    /// When the answer is too late: the handler is dropped then.
    pub fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// Raises events.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }
}
