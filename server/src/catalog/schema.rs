//! What is wrong with arguments, in the words of their schema.

use std::fmt;

use jsonschema::Validator;
use serde_json::Value;

/// The most violations that are reported: enough to correct a call, not enough to drown it.
const MAX_VIOLATIONS: usize = 5;
/// The longest message; messages quote the value they are about.
const MAX_MESSAGE_CHARS: usize = 200;

/// Arguments that do not match the input schema of a tool. The text is for the model (MCP, Error Handling: an input
/// validation error is a tool execution error).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidArguments {
    /// The first five.
    pub violations: Vec<Violation>,
    /// Whether there are more.
    pub more: bool,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer to the value; empty for the whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// Checks a value, without listing anything when it is valid.
pub(super) fn check(validator: &Validator, value: &Value) -> Result<(), InvalidArguments> {
    if validator.is_valid(value) {
        return Ok(());
    }
    let mut errors = validator.iter_errors(value);
    let violations = errors
        .by_ref()
        .take(MAX_VIOLATIONS)
        .map(|error| Violation { path: error.instance_path().as_str().to_owned(), message: shorten(error.to_string()) })
        .collect();
    Err(InvalidArguments { violations, more: errors.next().is_some() })
}

fn shorten(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl fmt::Display for InvalidArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the arguments do not match the input schema: ")?;
        for (index, violation) in self.violations.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let path = if violation.path.is_empty() { "" } else { &format!("{}: ", violation.path) };
            write!(f, "{separator}{path}{}", violation.message)?;
        }
        if self.more { f.write_str("; and more") } else { Ok(()) }
    }
}
