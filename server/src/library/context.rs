//! What a handler is given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Failure, Handle};
use crate::auth::Principal;
use crate::backend::Asking;
use crate::dispatch::Caller;
use crate::exchange::{Answer, Ask, Exchange};
use crate::fault::Fault;
use crate::mcp::elicitation::ElicitResult;
use crate::mcp::lifecycle::ClientCapabilities;
use crate::mcp::logging::LoggingLevel;
use crate::mcp::roots::Root;
use crate::mcp::sampling::{CreateMessage, CreateMessageResult};
use crate::mcp::version::Version;
use crate::tasks;

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
    handle: Handle,
    ttl: std::time::Duration,
    way: Mutex<Way>,
}

/// How the handler and its client speak. It changes once, when the call becomes a task.
#[derive(Debug)]
struct Way {
    exchange: Exchange,
    deadline: Instant,
    task: Option<tasks::Handle>,
    /// Tells the request that the call goes on without it; none where it cannot.
    became: Option<oneshot::Sender<tasks::Handle>>,
}

impl Context {
    pub(crate) fn new(name: &str, arguments: Arguments, asking: Asking<'_>, handle: Handle) -> Self {
        let Asking { caller, deadline, exchange } = asking;
        let way = Way { exchange: exchange.clone(), deadline, task: None, became: None };
        let (name, caller) = (name.to_owned(), caller.clone());
        Self(Arc::new(Inner { name, arguments, caller, handle, ttl: tasks::TTL, way: Mutex::new(way) }))
    }

    /// The same for a call that may become a task, and who hears of it.
    pub(crate) fn of_tool(
        name: &str,
        arguments: Arguments,
        asking: Asking<'_>,
        handle: Handle,
        ttl: std::time::Duration,
    ) -> (Self, oneshot::Receiver<tasks::Handle>) {
        let Asking { caller, deadline, exchange } = asking;
        let (became, heard) = oneshot::channel();
        let way = Way { exchange: exchange.clone(), deadline, task: None, became: Some(became) };
        let (name, caller) = (name.to_owned(), caller.clone());
        (Self(Arc::new(Inner { name, arguments, caller, handle, ttl, way: Mutex::new(way) })), heard)
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
        self.way().deadline
    }

    /// Raises events.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// What the client can do.
    pub fn capabilities(&self) -> ClientCapabilities {
        self.exchange().capabilities()
    }

    /// Fails unless the client declared these, for example [`ClientCapabilities::SAMPLING`].
    ///
    /// # Errors
    /// To be handed up: the client is told what is missing.
    pub fn require(&self, capabilities: u16) -> Result<(), Failure> {
        Ok(self.exchange().require(ClientCapabilities(capabilities))?)
    }

    /// Says how far the call is. The number must grow. A client that follows a task sees the message as its status.
    pub fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let task = self.way().task.clone();
        match (task, message) {
            (Some(task), Some(message)) => task.say(message),
            (Some(_), None) => {}
            (None, message) => self.exchange().progress(progress, total, message),
        }
    }

    /// Sends the client a log message, if it wants to hear this level. Never put a secret into one.
    pub fn log(&self, level: LoggingLevel, data: impl Into<Value>) {
        self.exchange().log(level, Some(self.name()), &data.into());
    }

    /// Has the connection of this call closed while the call runs on: the client waits a moment, comes back for what was said
    /// meanwhile, and polls so for the result. What the SDKs call `closeSSEStream`; 2025-11-25 only. `false` when the stream
    /// stays open: the client speaks another version, takes no streams, follows a task, is away already, or this shard has as
    /// many calls without a client as it may. The call's deadline stays what it is.
    pub fn close_sse_stream(&self) -> bool {
        self.way().task.is_none() && self.exchange().close_stream()
    }

    /// Asks the client one thing. The key names the question within the call.
    ///
    /// # Errors
    /// To be handed up with `?`. In 2026-07-28 this is how the client is asked: the handler **is run again from its start**
    /// when the answer comes, so what it does before it asks must be harmless to do again.
    pub async fn ask(&self, key: &str, ask: Ask) -> Result<Answer, Failure> {
        Ok(self.exchange().ask(key, ask).await?)
    }

    /// Asks several things at one time.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn ask_all(&self, asks: Vec<(String, Ask)>) -> Result<BTreeMap<String, Answer>, Failure> {
        Ok(self.exchange().ask_all(asks).await?)
    }

    /// Asks the person to fill in a form: a flat object schema.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn elicit(&self, key: &str, message: &str, schema: Value) -> Result<ElicitResult, Failure> {
        Ok(self.exchange().elicit(key, message, schema).await?)
    }

    /// Asks the client's model.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn sample(&self, key: &str, question: CreateMessage) -> Result<CreateMessageResult, Failure> {
        Ok(self.exchange().sample(key, question).await?)
    }

    /// Asks the client for its roots.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn roots(&self, key: &str) -> Result<Vec<Root>, Failure> {
        Ok(self.exchange().roots(key).await?)
    }

    /// Whether the client can follow a task.
    pub fn can_become_task(&self) -> bool {
        self.0.caller.capabilities.has(ClientCapabilities::TASKS) && self.way().became.is_some()
    }

    /// From here on the call is a task: the client is answered with a handle now, and comes for the result. The deadline of
    /// the request ends; that of the task begins. `false` when this client cannot follow a task, and the call goes on as it is.
    ///
    /// # Errors
    /// When there are as many tasks as may be.
    pub async fn become_task(&self, message: &str) -> Result<bool, Failure> {
        if self.way().task.is_some() {
            return Ok(true);
        }
        let Some(shard) = self.0.handle.shard().filter(|_| self.can_become_task()) else { return Ok(false) };
        let message = Some(message.to_owned()).filter(|message| !message.is_empty());
        let task = shard.tasks.create(self.principal(), self.0.ttl, message).await?;
        let mut way = self.way();
        way.exchange = way.exchange.with_asker(task.asker());
        way.deadline = task.expires();
        way.task = Some(task.clone());
        let told = way.became.take().is_some_and(|became| became.send(task.clone()).is_ok());
        drop(way);
        if told {
            return Ok(true);
        }
        // The request has gone meanwhile, and the handler with it.
        task.forget();
        Err(Fault::Failed("the request has ended".to_owned()).into())
    }

    fn exchange(&self) -> Exchange {
        self.way().exchange.clone()
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.0.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
