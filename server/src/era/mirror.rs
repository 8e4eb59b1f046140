//! Tool parameters mirrored in headers (2026-07-28 `basic/transports/streamable-http` §Custom Headers from Tool Parameters).

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName};
use mcp_crds::catalog::ToolDefinition;
use serde_json::{Number, Value};

/// Up to here every integer is a floating point number of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Which parameters of which tools are mirrored.
#[derive(Clone, Debug, Default)]
pub struct Mirrored(HashMap<String, Vec<Parameter>>);

/// One mirrored parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter {
    /// `mcp-param-{name}`
    header: HeaderName,
    /// Names of properties, from the root of the arguments.
    path: Vec<String>,
}

impl Mirrored {
    /// Reads `x-mcp-header` where the specification allows it: on properties that are reached through properties alone. An
    /// annotation elsewhere makes a tool that conforming clients do not show; here it means nothing.
    pub fn of<'a>(tools: impl Iterator<Item = &'a ToolDefinition>) -> Self {
        let tools = tools.filter_map(|tool| {
            let mut parameters = Vec::new();
            collect(&tool.input_schema, &mut Vec::new(), &mut parameters);
            (!parameters.is_empty()).then(|| (tool.name.clone(), parameters))
        });
        Self(tools.collect())
    }

    /// Whether any parameter of this tool is mirrored.
    pub fn any(&self, tool: &str) -> bool {
        self.0.contains_key(tool)
    }

    /// Compares the headers of a call with its arguments.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check(&self, tool: &str, arguments: &Value, headers: &HeaderMap) -> Result<(), String> {
        for Parameter { header, path } in self.0.get(tool).into_iter().flatten() {
            let name = header.as_str();
            let value = path.iter().try_fold(arguments, |value, property| value.get(property)).filter(|value| !value.is_null());
            let sent = single(headers, header)?.map(decode).transpose()?;
            match (value, sent) {
                (None, None) => {}
                (None, Some(_)) => return Err(format!("Header mismatch: {name} is there, its parameter is not")),
                (Some(_), None) => return Err(format!("Header mismatch: {name} is missing")),
                (Some(value), Some(sent)) if is_same(value, &sent) => {}
                (Some(_), Some(sent)) => {
                    return Err(format!("Header mismatch: {name} is {sent:?}, its parameter is another value"));
                }
            }
        }
        Ok(())
    }
}

fn collect(schema: &Value, path: &mut Vec<String>, parameters: &mut Vec<Parameter>) {
    for (property, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        path.push(property.clone());
        let kind = schema.get("type").and_then(Value::as_str);
        if let Some(name) = schema.get("x-mcp-header").and_then(Value::as_str)
            && matches!(kind, Some("string" | "integer" | "boolean"))
            && let Ok(header) = format!("mcp-param-{}", name.to_ascii_lowercase()).parse()
        {
            parameters.push(Parameter { header, path: path.clone() });
        }
        collect(schema, path, parameters);
        path.pop();
    }
}

/// Numbers are compared as numbers. What is no primitive value is for the schema to refuse.
fn is_same(value: &Value, sent: &str) -> bool {
    match value {
        Value::String(text) => text == sent,
        Value::Bool(truth) => sent == if *truth { "true" } else { "false" },
        Value::Number(number) => serde_json::from_str::<Number>(sent).is_ok_and(|sent| is_equal(number, &sent)),
        Value::Null | Value::Array(_) | Value::Object(_) => true,
    }
}

/// Integers as integers: as floating point numbers, neighbors beyond 2^53 are equal.
fn is_equal(one: &Number, other: &Number) -> bool {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one == other,
        _ => one.as_f64().is_some_and(|value| value.abs() < EXACT && other.as_f64() == Some(value)),
    }
}

/// A header that must not be there twice, as text.
///
/// # Errors
/// When it is, or is not visible ASCII.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("Header mismatch: {name} is there more than once"));
    }
    value.to_str().map(|text| Some(Cow::Borrowed(text))).map_err(|_| format!("Header mismatch: {name} is not visible ASCII"))
}

/// A value, out of the Base64 form when it is in it (§Value Encoding).
///
/// # Errors
/// When it is in that form and is not Base64 of UTF-8.
pub(super) fn decode(sent: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    let Some(encoded) = sent.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else { return Ok(sent) };
    BASE64
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Cow::Owned)
        .ok_or_else(|| "Header mismatch: a value is not Base64 of UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mirrored() -> Mirrored {
        let query = ToolDefinition {
            name: "query".to_owned(),
            title: None,
            description: None,
            icons: vec![],
            annotations: None,
            input_schema: json!({"type": "object", "properties": {
                "region": {"type": "string", "x-mcp-header": "Region"},
                "page": {"type": "object", "properties": {"size": {"type": "integer", "x-mcp-header": "Size"}}},
                "dry": {"type": "boolean", "x-mcp-header": "Dry"},
                "list": {"type": "array", "items": {"properties": {"x": {"type": "string", "x-mcp-header": "Never"}}}},
                "ratio": {"type": "number", "x-mcp-header": "Ratio"},
            }}),
            output_schema: None,
        };
        Mirrored::of([&query].into_iter())
    }

    fn check(arguments: &Value, sent: &[(&'static str, &'static str)]) -> Result<(), String> {
        let headers = sent.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        mirrored().check("query", arguments, &headers)
    }

    #[test]
    fn values_that_match_pass_plain_or_encoded_at_any_depth() {
        assert_eq!(check(&json!({"region": "eu"}), &[("mcp-param-region", "eu")]), Ok(()));
        assert_eq!(check(&json!({"region": "Hello, 世界"}), &[("mcp-param-region", "=?base64?SGVsbG8sIOS4lueVjA==?=")]), Ok(()));
        assert_eq!(check(&json!({"page": {"size": 42}}), &[("mcp-param-size", "42.0")]), Ok(()));
        assert_eq!(check(&json!({"dry": true}), &[("mcp-param-dry", "true")]), Ok(()));
        assert_eq!(check(&json!({"region": null}), &[]), Ok(()));
        assert_eq!(check(&json!({}), &[("mcp-param-never", "x"), ("mcp-param-ratio", "1"), ("mcp-param-other", "x")]), Ok(()));
    }

    #[test]
    fn any_difference_is_a_mismatch() {
        for (arguments, sent) in [
            (json!({"region": "eu"}), vec![]),
            (json!({"region": "eu"}), vec![("mcp-param-region", "us")]),
            (json!({"region": "eu"}), vec![("mcp-param-region", "eu"), ("mcp-param-region", "eu")]),
            (json!({}), vec![("mcp-param-region", "eu")]),
            (json!({"region": "Hello"}), vec![("mcp-param-region", "=?base64?SGVsbG8?=")]),
            (json!({"region": "Hello"}), vec![("mcp-param-region", "=?base64?SGVs*G8=?=")]),
            (json!({"page": {"size": 42}}), vec![("mcp-param-size", "43")]),
            (json!({"dry": true}), vec![("mcp-param-dry", "True")]),
        ] {
            let headers: Vec<_> = sent.clone();
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), value.parse().unwrap());
            }
            assert!(mirrored().check("query", &arguments, &map).is_err(), "{arguments} {sent:?}");
        }
    }
}
