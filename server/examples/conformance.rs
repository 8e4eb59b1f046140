//! The fixture of the official conformance suite: what a catalog cannot say, in Rust. The rest is
//! `tests/conformance/catalog.yaml`.
//!
//! ```text
//! cargo run -p mcp-server --example conformance -- --manifest tests/conformance/catalog.yaml
//! ```
//!
//! Every handler here serves both eras. In 2026-07-28 a handler that asks is run again from its start when the answer comes.

use std::process::ExitCode;
use std::time::Duration;

use mcp_server::exchange::Ask;
use mcp_server::fault::Fault;
use mcp_server::library::{Answer, Arguments, Context, Failure, NoArguments, Program, Prompt, Tool};
use mcp_server::mcp::elicitation::{ElicitForm, ElicitResult};
use mcp_server::mcp::lifecycle::ClientCapabilities;
use mcp_server::mcp::logging::LoggingLevel;
use mcp_server::mcp::sampling::CreateMessage;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Between two steps that a client is to see apart.
const STEP: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let program = Program::new("conformance", env!("CARGO_PKG_VERSION"));
    triggers(tasks(rounds(asks(speaks(program))))).main()
}

// === While a call runs ===

fn speaks(program: Program) -> Program {
    program
        .tool(Tool::new("test_tool_with_progress", "Says how far it is."), async |call: Context, NoArguments {}| {
            for percent in [0.0, 50.0, 100.0] {
                call.progress(percent, Some(100.0), Some(&format!("Completed step {percent} of 100")));
                sleep(STEP).await;
            }
            Ok("Done, and said so three times.")
        })
        .tool(Tool::new("test_tool_with_logging", "Logs what it does."), logs)
        .tool(Tool::new("test_logging_tool", "Logs what it does."), logs)
        .tool(Tool::new("test_reconnection", "Is left alone, and come back for."), async |call: Context, NoArguments {}| {
            let left = call.close_sse_stream();
            sleep(STEP).await;
            Ok(if left { "The client came back." } else { "The client stayed." })
        })
}

async fn logs(call: Context, NoArguments {}: NoArguments) -> Result<&'static str, Failure> {
    for said in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        call.log(LoggingLevel::Info, said);
        sleep(STEP).await;
    }
    Ok("Logged three times.")
}

// === Asking the client ===

#[derive(Deserialize, JsonSchema)]
struct Sampling {
    /// What the client's model is asked.
    prompt: String,
}

#[derive(Deserialize, JsonSchema)]
struct Elicitation {
    /// What the person reads.
    message: String,
}

fn asks(program: Program) -> Program {
    program
        .tool(Tool::new("test_sampling", "Asks the client's model."), async |call: Context, Sampling { prompt }| {
            let answer = call.sample("question", CreateMessage::text(prompt, 100)).await?;
            Ok(format!("LLM response: {}", answer.text()))
        })
        .tool(Tool::new("test_elicitation", "Asks the person."), async |call: Context, Elicitation { message }| {
            let schema = form(&[("username", "string"), ("email", "string")]);
            Ok(told("User response", &call.elicit("user", &message, schema).await?))
        })
        .tool(Tool::new("test_streaming_elicitation", "Asks the person."), async |call: Context, NoArguments {}| {
            Ok(told("User response", &call.elicit("user", "Who are you?", form(&[("name", "string")])).await?))
        })
        .tool(Tool::new("test_missing_capability", "Needs sampling."), async |call: Context, NoArguments {}| {
            call.require(ClientCapabilities::SAMPLING)?;
            Ok("The client can sample.")
        })
        .tool(
            Tool::new("test_elicitation_sep1034_defaults", "Asks with defaults."),
            async |call: Context, NoArguments {}| {
                let schema = json!({"type": "object", "properties": {
                    "name": {"type": "string", "description": "User name", "default": "John Doe"},
                    "age": {"type": "integer", "description": "User age", "default": 30},
                    "score": {"type": "number", "description": "User score", "default": 95.5},
                    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
                    "verified": {"type": "boolean", "description": "Verification status", "default": true},
                }});
                Ok(told("Elicitation completed", &call.elicit("defaults", "Please check these values.", schema).await?))
            },
        )
        .tool(Tool::new("test_elicitation_sep1330_enums", "Asks for choices."), async |call: Context, NoArguments {}| {
            let titled = |titles: [&str; 3]| {
                let options = titles.iter().enumerate().map(|(n, title)| json!({"const": format!("value{}", n + 1), "title": title}));
                options.collect::<Vec<_>>()
            };
            let plain = ["option1", "option2", "option3"];
            let schema = json!({"type": "object", "properties": {
                "untitledSingle": {"type": "string", "enum": plain},
                "titledSingle": {"type": "string", "oneOf": titled(["First Option", "Second Option", "Third Option"])},
                "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
                "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
                "titledMulti": {"type": "array", "items": {"anyOf": titled(["First Choice", "Second Choice", "Third Choice"])}},
            }});
            Ok(told("Elicitation completed", &call.elicit("choices", "Please choose.", schema).await?))
        })
}

// === Rounds ===

fn rounds(program: Program) -> Program {
    let tool = |name: &str| Tool::new(format!("test_input_required_result_{name}"), "Asks before it answers.");
    program
        .tool(tool("elicitation"), async |call: Context, NoArguments {}| {
            let person = call.elicit("user_name", "What is your name?", form(&[("name", "string")])).await?;
            Ok(format!("Hello, {}!", field(&person, "name")))
        })
        .tool(tool("sampling"), async |call: Context, NoArguments {}| {
            let question = CreateMessage::text("What is the capital of France?", 100);
            Ok(call.sample("capital_question", question).await?.text())
        })
        .tool(tool("list_roots"), async |call: Context, NoArguments {}| {
            let roots = call.roots("client_roots").await?;
            Ok(format!("Roots: {}", roots.iter().map(|root| root.uri.as_str()).collect::<Vec<_>>().join(", ")))
        })
        .tool(tool("request_state"), confirms)
        .tool(tool("tampered_state"), confirms)
        .tool(tool("multiple_inputs"), async |call: Context, NoArguments {}| {
            let asks = [
                (
                    "user_name",
                    Ask::Elicit(ElicitForm {
                        message: "What is your name?".to_owned(),
                        requested_schema: form(&[("name", "string")]),
                    }),
                ),
                ("greeting", Ask::Sample(CreateMessage::text("Generate a greeting", 50))),
                ("client_roots", Ask::ListRoots),
            ];
            let answers = call.ask_all(asks.map(|(key, ask)| (key.to_owned(), ask)).into()).await?;
            Ok(format!("{} answers", answers.len()))
        })
        .tool(tool("multi_round"), async |call: Context, NoArguments {}| {
            let name = call.elicit("step1", "Step 1: What is your name?", form(&[("name", "string")])).await?;
            let color = call.elicit("step2", "Step 2: What is your favorite color?", form(&[("color", "string")])).await?;
            Ok(format!("{} likes {}.", field(&name, "name"), field(&color, "color")))
        })
        .tool(tool("capabilities"), async |call: Context, NoArguments {}| {
            if call.capabilities().has(ClientCapabilities::SAMPLING) {
                return Ok(call.sample("question", CreateMessage::text("Say hello.", 50)).await?.text());
            }
            Ok(told("You said", &call.elicit("question", "Say hello.", form(&[("text", "string")])).await?))
        })
        .prompt(Prompt::new("test_input_required_result_prompt", "Asks before it answers."), async |call: Context| {
            let context = call.elicit("user_context", "What is this about?", form(&[("context", "string")])).await?;
            Ok([format!("Consider this: {}", field(&context, "context"))])
        })
}

async fn confirms(call: Context, NoArguments {}: NoArguments) -> Result<&'static str, Failure> {
    call.elicit("confirm", "Please confirm", form(&[("ok", "boolean")])).await?;
    // Whatever a client brought along was sealed by us, or the call had not come this far.
    Ok("state-ok")
}

// === Tasks ===

#[derive(Deserialize, JsonSchema)]
struct Compute {
    /// How long it takes.
    seconds: f64,
    /// What it is called.
    label: Option<String>,
}

fn tasks(program: Program) -> Program {
    program
        .tool(Tool::new("slow_compute", "Takes its time.").as_task(), async |_: Context, Compute { seconds, label }| {
            sleep(Duration::try_from_secs_f64(seconds).map_err(Failure::told)?).await;
            Ok(format!("Computed {} in {seconds} s.", label.as_deref().unwrap_or("it")))
        })
        .tool(
            Tool::new("failing_job", "Fails after a second.").as_task().needs_tasks(),
            async |_: Context, NoArguments {}| -> Result<Answer, Failure> {
                sleep(Duration::from_secs(1)).await;
                Err("The job failed.".into())
            },
        )
        .tool(
            Tool::new("protocol_error_job", "Breaks.").as_task(),
            async |_: Context, NoArguments {}| -> Result<Answer, Failure> {
                Err(Fault::Failed("The job broke.".to_owned()).into())
            },
        )
        .tool(Tool::new("confirm_delete", "Asks while it runs.").as_task(), async |call: Context, arguments: Arguments| {
            let file = arguments.get("filename").and_then(Value::as_str).unwrap_or("the file").to_owned();
            let answer = call.elicit("confirm", &format!("Delete {file}?"), form(&[("confirm", "boolean")])).await?;
            let sure = answer.accepted().is_some_and(|form| form.get("confirm") == Some(&json!(true)));
            Ok(if sure { format!("Deleted {file}.") } else { format!("Kept {file}.") })
        })
        .tool(Tool::new("multi_input", "Asks two things at one time.").as_task(), async |call: Context, NoArguments {}| {
            let ask = |message: &str| {
                Ask::Elicit(ElicitForm {
                    message: message.to_owned(),
                    requested_schema: json!({"type": "object", "properties": {"name": {"type": "string"}}}),
                })
            };
            let asks = vec![("first".to_owned(), ask("The first name?")), ("second".to_owned(), ask("The second name?"))];
            Ok(format!("{} answers", call.ask_all(asks).await?.len()))
        })
        // What it must know first it asks as part of the call; only then does it become a task.
        .tool(
            Tool::new("test_tool_with_task", "Asks, then goes on alone.").needs_tasks(),
            async |call: Context, NoArguments {}| {
                let person = call.elicit("user_name", "What is your name?", form(&[("name", "string")])).await?;
                call.become_task("Working on it.").await?;
                sleep(STEP).await;
                Ok(format!("Done for {}.", field(&person, "name")))
            },
        )
}

// === Events ===

fn triggers(program: Program) -> Program {
    program
        .tool(Tool::new("test_trigger_tool_change", "Says that tools changed."), async |call: Context, NoArguments {}| {
            call.handle().tools_changed();
            Ok("Said.")
        })
        .tool(Tool::new("test_trigger_prompt_change", "Says that prompts changed."), async |call: Context, NoArguments {}| {
            call.handle().prompts_changed();
            Ok("Said.")
        })
        .tool(
            Tool::new("test_trigger_resource_update", "Says that a resource changed."),
            async |call: Context, NoArguments {}| {
                call.handle().resource_updated("test://watched-resource");
                Ok("Said.")
            },
        )
}

/// A form whose fields are all required.
fn form(fields: &[(&str, &str)]) -> Value {
    let properties: serde_json::Map<_, _> =
        fields.iter().map(|(name, kind)| ((*name).to_owned(), json!({"type": kind}))).collect();
    let required: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn field<'a>(answer: &'a ElicitResult, name: &str) -> &'a str {
    answer.accepted().and_then(|form| form.get(name)?.as_str()).unwrap_or("nobody")
}

fn told(what: &str, answer: &ElicitResult) -> String {
    let content = answer.accepted().cloned().map_or(Value::Null, Value::Object);
    format!("{what}: action={}, content={content}", json!(answer.action).as_str().unwrap_or_default())
}
