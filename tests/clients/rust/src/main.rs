//! The official Rust SDK against the fixture of the conformance suite, in both eras.
//!
//! ```text
//! rmcp-client URL
//! ```
//!
//! Every claim is printed; one that does not hold ends the program with 1.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction,
    ElicitationCapability, FormElicitationCapability, GetPromptRequestParams, Implementation, ProgressNotificationParam,
    ProtocolVersion, ReadResourceRequestParams, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ErrorData, RoleClient};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// For each claim.
const PATIENCE: Duration = Duration::from_mins(1);
/// A legacy client does not know when its GET stream is open: the change is made again.
const AGAIN: Duration = Duration::from_millis(500);
const TRIES: usize = 20;

type Outcome = Result<(), String>;

/// What the server said outside of results.
#[derive(Clone, Debug, Default)]
struct Heard {
    progress: Arc<Mutex<Vec<f64>>>,
    asked: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

impl ClientHandler for Heard {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = Some(ElicitationCapability::new().with_form(FormElicitationCapability::new()));
        ClientConfig::new(capabilities, Implementation::new("rmcp-client", env!("CARGO_PKG_VERSION")))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.asked.fetch_add(1, Relaxed);
        let asked = serde_json::to_value(request).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(fill(&asked["requestedSchema"])))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).push(params.progress);
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

/// Answers a form as its schema wants.
fn fill(schema: &Value) -> Value {
    let value = |property: &Value| match property["type"].as_str() {
        _ if property["enum"].is_array() => property["enum"][0].clone(),
        Some("number" | "integer") => json!(30),
        Some("boolean") => json!(true),
        _ if property["format"] == "email" => json!("ada@example.com"),
        _ => json!("Ada"),
    };
    let properties = schema["properties"].as_object().into_iter().flatten();
    Value::Object(properties.map(|(name, property)| (name.clone(), value(property))).collect())
}

/// A client of one era.
struct Client {
    service: RunningService<RoleClient, Heard>,
    heard: Heard,
    version: String,
    holds: bool,
}

impl Client {
    async fn connect(url: &str, lifecycle: ClientLifecycleMode) -> Result<Self, String> {
        let heard = Heard::default();
        let transport = StreamableHttpClientTransport::from_uri(url);
        let service = heard.clone().serve_with_lifecycle(transport, lifecycle).await.map_err(|error| error.to_string())?;
        let version = service.peer_info().map(|server| server.protocol_version.to_string()).unwrap_or_default();
        Ok(Self { service, heard, version, holds: true })
    }

    /// Prints what came of a claim.
    fn tell(&mut self, what: &str, outcome: Result<Outcome, Elapsed>) {
        match outcome.unwrap_or_else(|_| Err(format!("nothing came in {PATIENCE:?}"))) {
            Ok(()) => println!("  Rust SDK, {}: {what}", self.version),
            Err(why) => {
                self.holds = false;
                eprintln!("  Rust SDK, {}: NOT {what}: {why}", self.version);
            }
        }
    }

    async fn call(&self, name: &'static str, arguments: Value) -> Result<Value, String> {
        let arguments = match arguments {
            Value::Object(arguments) => arguments,
            _ => Map::new(),
        };
        let params = CallToolRequestParams::new(name).with_arguments(arguments);
        let result = self.service.call_tool(params).await.map_err(|error| format!("{name}: {error}"))?;
        serde_json::to_value(result).map_err(|error| error.to_string())
    }

    async fn tools(&self) -> Outcome {
        let tools = self.service.list_all_tools().await.map_err(|error| error.to_string())?;
        holds(tools.iter().any(|tool| tool.name == "test_simple_text"), &tools)?;
        let result = self.call("test_simple_text", json!({})).await?;
        holds(!text(&result).is_empty() && result["isError"] != true, &result)?;
        let failed = self.call("test_error_handling", json!({})).await?;
        holds(failed["isError"] == true, &failed)
    }

    async fn progress(&self) -> Outcome {
        let result = self.call("test_tool_with_progress", json!({})).await?;
        holds(result["isError"] != true, &result)?;
        let seen = self.heard.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        holds(seen == [0.0, 50.0, 100.0], &seen)
    }

    async fn resources(&self) -> Outcome {
        let listed = self.service.list_all_resources().await.map_err(|error| error.to_string())?;
        holds(listed.iter().any(|resource| resource.uri == "test://static-text"), &listed)?;
        let templates = self.service.list_all_resource_templates().await.map_err(|error| error.to_string())?;
        holds(templates.iter().any(|template| template.uri_template == "test://template/{id}/data"), &templates)?;
        let text = self.read("test://static-text").await?;
        holds(text["text"].as_str().is_some_and(|text| !text.is_empty()), &text)?;
        let blob = self.read("test://static-binary").await?;
        holds(blob["blob"].as_str().is_some_and(|blob| !blob.is_empty()), &blob)?;
        let filled = self.read("test://template/47/data").await?;
        holds(filled["text"].as_str().is_some_and(|text| text.contains("47")), &filled)?;
        holds(self.read("test://nothing").await.is_err(), &"a resource that is not there was read")
    }

    async fn read(&self, uri: &str) -> Result<Value, String> {
        let read = self.service.read_resource(ReadResourceRequestParams::new(uri)).await.map_err(|error| error.to_string())?;
        let read = serde_json::to_value(read).map_err(|error| error.to_string())?;
        Ok(read["contents"][0].clone())
    }

    async fn prompts(&self) -> Outcome {
        let listed = self.service.list_all_prompts().await.map_err(|error| error.to_string())?;
        holds(listed.iter().any(|prompt| prompt.name == "test_prompt_with_arguments"), &listed)?;
        let Value::Object(arguments) = json!({"arg1": "brass", "arg2": "lamp"}) else { return Err(String::new()) };
        let params = GetPromptRequestParams::new("test_prompt_with_arguments").with_arguments(arguments);
        let prompt = self.service.get_prompt(params).await.map_err(|error| error.to_string())?;
        let said = serde_json::to_string(&prompt).map_err(|error| error.to_string())?;
        holds(said.contains("brass") && said.contains("lamp"), &said)?;
        let completing = self.service.complete_prompt_simple("test_prompt_with_arguments", "arg1", "");
        completing.await.map(drop).map_err(|error| error.to_string())
    }

    async fn elicitation(&self) -> Outcome {
        let before = self.heard.asked.load(Relaxed);
        let result = self.call("test_elicitation", json!({"message": "Who is there?"})).await?;
        holds(text(&result).contains("Ada") || text(&result).contains("ada@example"), &result)?;
        holds(self.heard.asked.load(Relaxed) == before + 1, &"asked more than once")
    }

    async fn rounds(&self) -> Outcome {
        let result = self.call("test_input_required_result_multi_round", json!({})).await?;
        holds(!text(&result).is_empty() && result["isError"] != true, &result)
    }

    async fn listen(&self) -> Outcome {
        let filter = SubscriptionFilter::builder().tools_list_changed().build();
        let mut subscription = self.service.listen(filter).await.map_err(|error| error.to_string())?;
        holds(subscription.acknowledged().tools_list_changed == Some(true), subscription.acknowledged())?;
        self.call("test_trigger_tool_change", json!({})).await?;
        let next = subscription.next().await.map_err(|error| error.to_string())?;
        holds(next.is_some(), &"the subscription ended")?;
        subscription.cancel().await.map_err(|error| error.to_string())
    }

    async fn hear(&self) -> Outcome {
        for _ in 0..TRIES {
            self.call("test_trigger_tool_change", json!({})).await?;
            if timeout(AGAIN, self.heard.changed.notified()).await.is_ok() {
                return Ok(());
            }
        }
        Err("no change was heard".to_owned())
    }
}

fn text(result: &Value) -> String {
    let blocks = result["content"].as_array().into_iter().flatten();
    blocks.filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join(" ")
}

fn holds(claim: bool, seen: &impl std::fmt::Debug) -> Outcome {
    if claim { Ok(()) } else { Err(format!("{seen:?}")) }
}

/// All claims of one era.
async fn show(url: &str, lifecycle: ClientLifecycleMode) -> Result<bool, String> {
    let modern = lifecycle != ClientLifecycleMode::Initialize;
    let mut client = Client::connect(url, lifecycle).await?;
    let outcome = timeout(PATIENCE, client.tools()).await;
    client.tell("tools are listed and called", outcome);
    let outcome = timeout(PATIENCE, client.progress()).await;
    client.tell("progress comes in order, before the result", outcome);
    let outcome = timeout(PATIENCE, client.resources()).await;
    client.tell("resources are listed and read, text, blob and template", outcome);
    let outcome = timeout(PATIENCE, client.prompts()).await;
    client.tell("prompts are listed, completed and filled in", outcome);
    let outcome = timeout(PATIENCE, client.elicitation()).await;
    client.tell("a tool asks its caller, and hears the answer", outcome);
    if modern {
        let outcome = timeout(PATIENCE, client.rounds()).await;
        client.tell("a tool asks in several rounds", outcome);
    }
    let outcome = timeout(PATIENCE, async { if modern { client.listen().await } else { client.hear().await } }).await;
    client.tell("a change of the tools is heard", outcome);
    let holds = client.holds;
    client.service.cancel().await.map_err(|error| error.to_string())?;
    Ok(holds)
}

#[tokio::main]
async fn main() -> ExitCode {
    // The SDK's HTTP client wants one even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("rmcp-client URL");
        return ExitCode::FAILURE;
    };
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let mut holds = true;
    for lifecycle in [ClientLifecycleMode::Initialize, modern] {
        let shown = show(&url, lifecycle.clone()).await;
        holds &= shown.unwrap_or_else(|why| {
            eprintln!("  Rust SDK, {lifecycle:?}: {why}");
            false
        });
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
