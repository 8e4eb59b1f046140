//! Templates of the catalog: substitution only, no loops, no code, no lookups beyond one name.
//!
//! ```text
//! TextTemplate   "Hello, {name}!"                      → text
//! JsonTemplate   {title: "{title}", via: mcp}          → a JSON tree; an argument cannot break it
//! FormTemplate   {q: "{query}"}                        → application/x-www-form-urlencoded
//! UrlTemplate    https://host/queues/{queue}{?dryRun}  → a URL, encoded by construction (RFC 6570)
//! UriTemplate    tickets://{queue}/{id}                ← the other way: a URI → the values it was made of
//! ```
//!
//! Everywhere a name in braces is an argument of the tool or prompt, and `null` counts as absent unless a JSON template
//! passes it on. The compiler checks [`TextTemplate::variables`] and its siblings against the input schema, so that a slip
//! of the pen is found before a catalog is published; at run time an unknown name is simply absent.

mod form;
mod json;
mod text;
mod uri;
mod url;

pub use form::FormTemplate;
pub use json::JsonTemplate;
pub use text::TextTemplate;
pub use uri::{UriTemplate, UriTemplateError};
pub use url::{ExpandError, MAX_URL_BYTES, UrlTemplate, UrlTemplateError};

use serde_json::Value;

/// A value inside text: strings plain, `null` empty, everything else as JSON.
fn plain(value: &Value) -> std::borrow::Cow<'_, str> {
    match value {
        Value::Null => "".into(),
        Value::String(text) => text.into(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string().into(),
    }
}

/// Adds names that are not there yet, keeping the order of their first use.
fn add_new<'a>(names: &mut Vec<&'a str>, more: impl IntoIterator<Item = &'a str>) {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

/// RFC 3986, 2.1.
fn percent_encode(text: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    text.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
}
