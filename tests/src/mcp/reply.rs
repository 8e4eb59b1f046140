//! One HTTP answer to one request.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::sse;
use crate::failure::{Failure, Outcome, While as _};
use crate::reach::Endpoint;
use crate::{claim, claim_eq};

/// Longer than any request of a test takes; shorter than the test.
const ANSWERS_WITHIN: Duration = Duration::from_mins(1);

/// One HTTP answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// The JSON-RPC response; null when the body holds none.
    pub message: Value,
    /// The body, when it holds none.
    pub body: String,
}

impl Reply {
    /// Sends one JSON-RPC message by POST and reads the answer, JSON or an event stream.
    pub(super) async fn to(endpoint: &Endpoint, headers: HeaderMap, message: &Value) -> Outcome<Self> {
        let request = endpoint
            .http
            .post(endpoint.url.clone())
            .headers(headers)
            .header(ACCEPT, "application/json, text/event-stream")
            .json(message)
            .timeout(ANSWERS_WITHIN);
        let response = request.send().await.doing("sending a request")?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let streamed = headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        let body = response.text().await.doing("reading an answer")?;
        let message = if streamed {
            response_in(body.as_bytes(), &message["id"])
        } else {
            serde_json::from_str(&body).unwrap_or(Value::Null)
        };
        Ok(Self { status, headers, message, body })
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The result of a request that succeeded.
    ///
    /// # Errors
    /// What came instead.
    pub fn result(&self) -> Outcome<&Value> {
        claim_eq!(self.status, 200, "HTTP status of {}", self.body);
        let result = self.message.get("result");
        result.ok_or_else(|| Failure::new(format!("no result in {}", self.body)))
    }

    /// The text of the first content block of a tool's result that is no error.
    ///
    /// # Errors
    /// What came instead.
    pub fn tool_text(&self) -> Outcome<&str> {
        let result = self.result()?;
        claim!(result["isError"] != Value::Bool(true), "the tool failed: {result}");
        result["content"][0]["text"].as_str().ok_or_else(|| Failure::new(format!("no text in {result}")))
    }

    /// Whether this is a refusal a client can act on: 503 with a `Retry-After` of at least a second.
    ///
    /// # Errors
    /// What it is instead.
    pub fn is_overload(&self) -> Outcome {
        claim_eq!(self.status, 503, "HTTP status of {}", self.body);
        let after = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let seconds = after.and_then(|text| text.parse::<u32>().ok());
        claim!(seconds.is_some_and(|seconds| (1..=3600).contains(&seconds)), "503 without a usable Retry-After: {after:?}");
        Ok(())
    }
}

/// The response with this id in an event stream, before which notifications may come; null when there is none.
pub(crate) fn response_in(stream: &[u8], id: &Value) -> Value {
    let messages = sse::Events::default().push(stream).into_iter().filter_map(|data| serde_json::from_str::<Value>(&data).ok());
    messages.into_iter().find(|found| found["id"] == *id).unwrap_or(Value::Null)
}
