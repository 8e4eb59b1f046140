//! Method → handler, in one match. Knows neither HTTP nor the era a request came from.

use std::borrow::Cow;
use std::sync::Arc;

use mcp_crds::catalog::CacheScope;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::auth::Principal;
use crate::backend::Asking;
use crate::exchange::{Exchange, InputRequired};
use crate::fault::Fault;
use crate::handlers::{completion, logging, prompts, resources, server, subscriptions, tasks, tools};
use crate::jsonrpc::Params;
use crate::mcp::completion::CompleteResult;
use crate::mcp::lifecycle::{ClientCapabilities, DiscoverResult, ServerCapabilities};
use crate::mcp::prompts::GetPromptResult;
use crate::mcp::resources::ReadResourceResult;
use crate::mcp::subscriptions::Filter;
use crate::mcp::tools::CallToolResult;
use crate::mcp::version::{Era, Version};
use crate::peers::keep::Keeper;
use crate::serving::Serving;
use crate::session::SessionKey;
use crate::tasks::Tasks;

/// A method this server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `initialize`, answered by the legacy adapter: it makes a session.
    Initialize,
    /// `server/discover`
    Discover,
    /// `ping`
    Ping,
    /// `logging/setLevel`
    SetLevel,
    /// `tools/list`
    ListTools,
    /// `tools/call`
    CallTool,
    /// `resources/list`
    ListResources,
    /// `resources/templates/list`
    ListResourceTemplates,
    /// `resources/read`
    ReadResource,
    /// `resources/subscribe`
    Subscribe,
    /// `resources/unsubscribe`
    Unsubscribe,
    /// `prompts/list`
    ListPrompts,
    /// `prompts/get`
    GetPrompt,
    /// `completion/complete`
    Complete,
    /// `subscriptions/listen`
    Listen,
    /// `tasks/get`
    GetTask,
    /// `tasks/update`
    UpdateTask,
    /// `tasks/cancel`
    CancelTask,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Initialize,
        Self::Discover,
        Self::Ping,
        Self::SetLevel,
        Self::ListTools,
        Self::CallTool,
        Self::ListResources,
        Self::ListResourceTemplates,
        Self::ReadResource,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::ListPrompts,
        Self::GetPrompt,
        Self::Complete,
        Self::Listen,
        Self::GetTask,
        Self::UpdateTask,
        Self::CancelTask,
    ];

    /// The method of a name, if the era has it.
    pub fn parse(name: &str, era: Era) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name && method.is_in(era))
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Discover => "server/discover",
            Self::Ping => "ping",
            Self::SetLevel => "logging/setLevel",
            Self::ListTools => "tools/list",
            Self::CallTool => "tools/call",
            Self::ListResources => "resources/list",
            Self::ListResourceTemplates => "resources/templates/list",
            Self::ReadResource => "resources/read",
            Self::Subscribe => "resources/subscribe",
            Self::Unsubscribe => "resources/unsubscribe",
            Self::ListPrompts => "prompts/list",
            Self::GetPrompt => "prompts/get",
            Self::Complete => "completion/complete",
            Self::Listen => "subscriptions/listen",
            Self::GetTask => "tasks/get",
            Self::UpdateTask => "tasks/update",
            Self::CancelTask => "tasks/cancel",
        }
    }

    /// Whether its handlers may ask the client (2026-07-28 `basic/patterns/mrtr` §Supported Requests).
    pub fn may_ask(self) -> bool {
        match self {
            Self::CallTool | Self::GetPrompt | Self::ReadResource => true,
            Self::Initialize
            | Self::Discover
            | Self::Ping
            | Self::SetLevel
            | Self::ListTools
            | Self::ListResources
            | Self::ListResourceTemplates
            | Self::Subscribe
            | Self::Unsubscribe
            | Self::ListPrompts
            | Self::Complete
            | Self::Listen
            | Self::GetTask
            | Self::UpdateTask
            | Self::CancelTask => false,
        }
    }

    /// Whether an era has it (2026-07-28 `changelog`, 1 to 5).
    pub fn is_in(self, era: Era) -> bool {
        match self {
            Self::Discover | Self::Listen | Self::GetTask | Self::UpdateTask | Self::CancelTask => era == Era::Modern,
            Self::Initialize | Self::Ping | Self::SetLevel | Self::Subscribe | Self::Unsubscribe => era == Era::Legacy,
            Self::ListTools
            | Self::CallTool
            | Self::ListResources
            | Self::ListResourceTemplates
            | Self::ReadResource
            | Self::ListPrompts
            | Self::GetPrompt
            | Self::Complete => true,
        }
    }
}

/// Who calls, and with what.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// In which version of the protocol.
    pub version: Version,
    /// What the client can do.
    pub capabilities: ClientCapabilities,
    /// The legacy session.
    pub session: Option<SessionKey>,
}

#[cfg(test)]
impl Caller {
    /// Nobody in particular, with the newest version.
    pub(crate) fn test() -> Self {
        let capabilities = ClientCapabilities::default();
        Self { principal: Principal::anonymous(), version: Version::ALL[0], capabilities, session: None }
    }
}

/// One request, whatever wire it came over.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is asked.
    pub method: Method,
    /// With what.
    pub params: &'a Params<'a>,
    /// By whom.
    pub caller: &'a Caller,
    /// What is in force.
    pub serving: &'a Serving,
    /// What the server offers.
    pub capabilities: ServerCapabilities,
    /// What is kept of sessions.
    pub keeper: Keeper<'a>,
    /// Calls that go on after their answer.
    pub tasks: &'a Arc<Tasks>,
    /// What is said while it runs.
    pub exchange: &'a Exchange,
    /// When it came.
    pub since: Instant,
    /// When the answer is too late.
    pub deadline: Instant,
}

impl Call<'_> {
    /// What a backend needs to know of it.
    pub fn asking(&self) -> Asking<'_> {
        Asking { caller: self.caller, deadline: self.deadline, exchange: self.exchange }
    }
}

/// What a handler answers. The eras put it on the wire.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// `{}`
    Done,
    /// `server/discover`
    Discover(DiscoverResult<'a>),
    /// A page of a list.
    Page {
        /// Name of the list in the result.
        list: &'static str,
        /// JSON array.
        items: Cow<'a, RawValue>,
        /// Where the next page begins.
        next_cursor: Option<&'a str>,
    },
    /// `tools/call`
    Tool(CallToolResult),
    /// `resources/read`
    Resource(ReadResourceResult),
    /// `prompts/get`
    Prompt(GetPromptResult),
    /// `completion/complete`
    Completion(CompleteResult),
    /// `tools/call` that became a task: MCP `CreateTaskResult`.
    TaskCreated(Map<String, Value>),
    /// `tasks/get`: MCP `DetailedTask`.
    Task(Map<String, Value>),
    /// `subscriptions/listen`: hold a stream with this filter.
    Listen(Filter),
    /// The client is asked first, and comes back (2026-07-28 `basic/patterns/mrtr`).
    InputRequired(Box<InputRequired>),
}

/// How long clients may keep a result, and for whom (2026-07-28 `server/utilities/caching`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caching {
    /// `ttlMs`
    pub ttl_ms: u64,
    /// `cacheScope`
    pub scope: CacheScope,
}

impl Outcome<'_> {
    /// Whether a result carries caching hints.
    pub fn is_cacheable(&self) -> bool {
        match self {
            Self::Discover(_) | Self::Page { .. } | Self::Resource(_) => true,
            Self::Done
            | Self::Tool(_)
            | Self::Prompt(_)
            | Self::Completion(_)
            | Self::Listen(_)
            | Self::InputRequired(_)
            | Self::TaskCreated(_)
            | Self::Task(_) => false,
        }
    }
}

/// Answers a request.
///
/// # Errors
/// The fault to tell the client.
pub async fn dispatch<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    match handle(call).await {
        Err(Fault::InputRequired(required)) => Ok(Outcome::InputRequired(required)),
        answered => answered,
    }
}

/// What is rare, or waits for others anyway, is in a box of its own: every call has room for the largest of these.
async fn handle<'a>(call: &Call<'a>) -> Result<Outcome<'a>, Fault> {
    match call.method {
        Method::Discover => Ok(server::discover(call)),
        Method::Ping => Ok(Outcome::Done),
        Method::SetLevel => Box::pin(logging::set_level(call)).await,
        Method::ListTools => tools::list(call),
        Method::CallTool => tools::call(call).await,
        Method::ListResources => resources::list(call),
        Method::ListResourceTemplates => resources::templates(call),
        Method::ReadResource => Box::pin(resources::read(call)).await,
        Method::Subscribe => Box::pin(resources::subscribe(call)).await,
        Method::Unsubscribe => Box::pin(resources::unsubscribe(call)).await,
        Method::ListPrompts => prompts::list(call),
        Method::GetPrompt => Box::pin(prompts::get(call)).await,
        Method::Complete => completion::complete(call),
        Method::Listen => subscriptions::listen(call),
        Method::GetTask => Box::pin(tasks::get(call)).await,
        Method::UpdateTask => Box::pin(tasks::update(call)).await,
        Method::CancelTask => Box::pin(tasks::cancel(call)).await,
        // Sessions are of the wire: the legacy adapter answers it before it comes here.
        Method::Initialize => Err(Fault::MethodNotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_era_has_its_own_methods() {
        for removed in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"] {
            assert!(Method::parse(removed, Era::Legacy).is_some(), "{removed}");
            assert_eq!(Method::parse(removed, Era::Modern), None, "{removed}");
        }
        for added in ["server/discover", "subscriptions/listen"] {
            assert!(Method::parse(added, Era::Modern).is_some(), "{added}");
            assert_eq!(Method::parse(added, Era::Legacy), None, "{added}");
        }
        for both in ["tools/call", "completion/complete"] {
            assert_eq!(Method::parse(both, Era::Legacy), Method::parse(both, Era::Modern), "{both}");
        }
        assert_eq!(Method::parse("tasks/list", Era::Legacy), None);
    }
}
