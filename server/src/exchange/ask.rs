//! A question to the client, and its answer.

use mcp_crds::catalog::schema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::mcp::elicitation::{self, Action, ElicitForm, ElicitResult, ElicitUrl};
use crate::mcp::lifecycle::ClientCapabilities;
use crate::mcp::roots::{self, ListRootsResult, Root};
use crate::mcp::sampling::{self, CreateMessage, CreateMessageResult};
use crate::mcp::version::Version;

/// A question to the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// A form for the person.
    Elicit(ElicitForm),
    /// A URL for the person.
    ElicitUrl(ElicitUrl),
    /// A question to the client's model.
    Sample(CreateMessage),
    /// Where the client lets servers work.
    ListRoots,
}

/// What the client answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Ask::Elicit`] and [`Ask::ElicitUrl`].
    Elicited(ElicitResult),
    /// To [`Ask::Sample`].
    Sampled(CreateMessageResult),
    /// To [`Ask::ListRoots`].
    Roots(Vec<Root>),
}

impl Ask {
    /// Its method.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Elicit(_) | Self::ElicitUrl(_) => elicitation::METHOD,
            Self::Sample(_) => sampling::METHOD,
            Self::ListRoots => roots::METHOD,
        }
    }

    /// What a client must have declared to be asked this.
    pub fn capability(&self) -> ClientCapabilities {
        ClientCapabilities(match self {
            Self::Elicit(_) => ClientCapabilities::ELICITATION,
            Self::ElicitUrl(_) => ClientCapabilities::ELICITATION_URL,
            Self::Sample(question) if question.has_tools() => ClientCapabilities::SAMPLING | ClientCapabilities::SAMPLING_TOOLS,
            Self::Sample(_) => ClientCapabilities::SAMPLING,
            Self::ListRoots => ClientCapabilities::ROOTS,
        })
    }

    /// Its parameters. `id` names a URL elicitation that has no name, in the one revision where it needs one.
    pub fn params(&self, version: Version, id: &str) -> Value {
        match self {
            Self::Elicit(form) => json!(form),
            Self::ElicitUrl(url) => {
                let mut params = json!(url);
                params["mode"] = json!("url");
                if let Some(params) = params.as_object_mut() {
                    if version.is_modern() {
                        params.remove("elicitationId");
                    } else {
                        params.entry("elicitationId").or_insert_with(|| json!(id));
                    }
                }
                params
            }
            Self::Sample(question) => json!(question),
            Self::ListRoots => json!({}),
        }
    }

    /// Reads an answer to this question.
    ///
    /// # Errors
    /// When it answers another, or a form breaks the schema that was asked for.
    pub fn read(&self, value: &Value) -> Result<Answer, String> {
        match self {
            Self::Elicit(form) => {
                let result: ElicitResult = parse(value)?;
                if result.action == Action::Accept {
                    let content = result.content.clone().map_or_else(|| json!({}), Value::Object);
                    let validator = schema::compile(&form.requested_schema)
                        .map_err(|error| format!("the form asked for has no usable schema: {error}"))?;
                    if let Err(error) = validator.validate(&content) {
                        let place = error.instance_path().as_str();
                        return Err(format!("the form breaks {} at {place:?}", error.kind().keyword()));
                    }
                }
                Ok(Answer::Elicited(result))
            }
            Self::ElicitUrl(_) => parse(value).map(Answer::Elicited),
            Self::Sample(_) => parse(value).map(Answer::Sampled),
            Self::ListRoots => parse(value).map(|ListRootsResult { roots }| Answer::Roots(roots)),
        }
    }
}

/// An array also reads as a struct, field by field: it is refused.
fn parse<T: for<'de> Deserialize<'de>>(value: &Value) -> Result<T, String> {
    if !value.is_object() {
        return Err("it is no object".to_owned());
    }
    T::deserialize(value).map_err(|error| error.to_string())
}
