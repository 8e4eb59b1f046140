//! `elicitation/create`: a question to the person behind the client (2026-07-28 and 2025-11-25 `client/elicitation`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Its method.
pub const METHOD: &str = "elicitation/create";

/// Form mode: the client shows a form made from a schema. The mode is left out, as every revision that has the method reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ElicitForm {
    /// Why it is asked.
    pub message: String,
    /// A flat object of primitive properties.
    pub requested_schema: Value,
}

/// URL mode: the person goes elsewhere, and what is said there never passes through the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ElicitUrl {
    /// Why it is asked.
    pub message: String,
    /// Where to go.
    pub url: String,
    /// Names this elicitation; 2025-11-25 wants one, and one is made up where none is given. Later revisions have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elicitation_id: Option<String>,
}

/// What the person did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sent the form, or agreed to go to the URL.
    Accept,
    /// Said no.
    Decline,
    /// Went away without a choice.
    Cancel,
}

/// MCP `ElicitResult`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElicitResult {
    /// What the person did.
    pub action: Action,
    /// The form, when it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Map<String, Value>>,
}

impl ElicitResult {
    /// The form, when the person sent one.
    pub fn accepted(&self) -> Option<&Map<String, Value>> {
        match self.action {
            Action::Accept => self.content.as_ref(),
            Action::Decline | Action::Cancel => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_accepted_form_has_content() {
        let read = |value| serde_json::from_value::<ElicitResult>(value).unwrap();
        assert_eq!(read(json!({"action": "accept", "content": {"name": "Ada"}})).accepted().unwrap()["name"], "Ada");
        assert_eq!(read(json!({"action": "accept"})).accepted(), None);
        assert_eq!(read(json!({"action": "decline", "content": {"name": "Ada"}})).accepted(), None);
        assert!(serde_json::from_value::<ElicitResult>(json!({"action": "agree"})).is_err());
        assert!(serde_json::from_value::<ElicitResult>(json!(12345)).is_err());
    }
}
