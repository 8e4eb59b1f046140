//! `sampling/createMessage`: a question to the client's model (2026-07-28 and 2025-11-25 `client/sampling`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Its method.
pub const METHOD: &str = "sampling/createMessage";

/// MCP `CreateMessageRequestParams`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMessage {
    /// The conversation.
    pub messages: Vec<SamplingMessage>,
    /// The longest answer.
    pub max_tokens: u32,
    /// `systemPrompt`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// `temperature`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The other members, as the specification names them: `modelPreferences`, `stopSequences`, `tools`, `toolChoice`, …
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// MCP `SamplingMessage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingMessage {
    /// `user` or `assistant`.
    pub role: String,
    /// One content block, or several.
    pub content: Value,
}

/// MCP `CreateMessageResult`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMessageResult {
    /// `assistant`
    pub role: String,
    /// One content block, or several.
    pub content: Value,
    /// Which model answered.
    pub model: String,
    /// Why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<String>,
}

impl CreateMessage {
    /// One question of the user.
    pub fn text(question: impl Into<String>, max_tokens: u32) -> Self {
        let content = json!({ "type": "text", "text": question.into() });
        let messages = vec![SamplingMessage { role: "user".to_owned(), content }];
        Self { messages, max_tokens, system_prompt: None, temperature: None, more: Map::new() }
    }

    /// Whether the client's model may call tools.
    pub fn has_tools(&self) -> bool {
        self.more.contains_key("tools") || self.more.contains_key("toolChoice")
    }
}

impl CreateMessageResult {
    /// What the model said in text, blocks joined.
    pub fn text(&self) -> String {
        let text = |block: &Value| block.get("text").and_then(Value::as_str).map(str::to_owned);
        match &self.content {
            Value::Array(blocks) => blocks.iter().filter_map(text).collect(),
            block => text(block).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_message_and_more_members_stand_beside_it() {
        let mut ask = CreateMessage::text("Why?", 7);
        let plain = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "Why?"}}], "maxTokens": 7});
        assert_eq!(json!(ask), plain);
        ask.more.insert("tools".to_owned(), json!([]));
        assert!(ask.has_tools() && json!(ask)["tools"] == json!([]));
    }

    #[test]
    fn text_is_read_from_one_block_or_many() {
        let result = |content| CreateMessageResult { role: String::new(), content, model: String::new(), stop_reason: None };
        assert_eq!(result(json!({"type": "text", "text": "a"})).text(), "a");
        assert_eq!(result(json!([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}])).text(), "ab");
    }
}
