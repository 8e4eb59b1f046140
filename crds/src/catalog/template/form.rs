//! `{name}` in the fields of a form.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{TextTemplate, add_new, percent_encode, plain};

/// The fields of an `application/x-www-form-urlencoded` body; names are literal, values are templates.
///
/// A field that is `{x}` and nothing else is left out when x is absent or `null`, and repeated for each item when x is a
/// list. Everything is encoded, so an argument cannot add a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormTemplate {
    fields: Vec<(String, TextTemplate)>,
}

impl FormTemplate {
    /// Reads a template; every map of strings is one.
    pub fn parse(fields: &BTreeMap<String, String>) -> Self {
        Self { fields: fields.iter().map(|(name, value)| (name.clone(), TextTemplate::parse(value))).collect() }
    }

    /// Names used, each once, in the order of their first use.
    pub fn variables(&self) -> Vec<&str> {
        let mut names = Vec::new();
        add_new(&mut names, self.fields.iter().flat_map(|(_, template)| template.variables()));
        names
    }

    /// The encoded body.
    pub fn expand(&self, arguments: &Map<String, Value>) -> String {
        let mut body = String::new();
        for (name, template) in &self.fields {
            match template.sole_variable().map(|variable| arguments.get(variable)) {
                None => add_field(&mut body, name, &template.expand(arguments)),
                Some(None | Some(Value::Null)) => {}
                Some(Some(Value::Array(items))) => items.iter().for_each(|item| add_field(&mut body, name, &plain(item))),
                Some(Some(value)) => add_field(&mut body, name, &plain(value)),
            }
        }
        body
    }
}

fn add_field(body: &mut String, name: &str, value: &str) {
    if !body.is_empty() {
        body.push('&');
    }
    encode(body, name);
    body.push('=');
    encode(body, value);
}

/// WHATWG URL, section 5.2: the percent-encode set of forms, with a space as `+`.
fn encode(body: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b' ' => body.push('+'),
            b'*' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => body.push(char::from(byte)),
            _ => percent_encode(body, byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expand(fields: &[(&str, &str)], arguments: &Value) -> String {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        FormTemplate::parse(&fields).expand(arguments.as_object().unwrap())
    }

    #[test]
    fn an_argument_cannot_add_a_field() {
        assert_eq!(expand(&[("q", "{q}")], &json!({"q": "a&admin=1 ü+\n"})), "q=a%26admin%3D1+%C3%BC%2B%0A");
    }

    #[test]
    fn absent_fields_are_left_out_and_lists_are_repeated() {
        let fields = [("a", "{gone}"), ("b", "{list}"), ("c", "x{gone}y"), ("d", "{z}"), ("e", "{n}")];
        assert_eq!(expand(&fields, &json!({"list": ["1", 2], "z": null, "n": 3})), "b=1&b=2&c=xy&e=3");
    }
}
