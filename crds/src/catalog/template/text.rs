//! `{name}` in plain text.

use serde_json::{Map, Value};

use super::{add_new, percent_encode, plain};

/// Plain text with `{name}` in it.
///
/// A name is `[A-Za-z_][A-Za-z0-9_.-]*`. A brace that does not belong to a `{name}` is itself, so that JSON in a text
/// survives: `{"city": "{city}"}` has one variable. The text `{name}` itself is written `{{name}}`. Every text is a
/// template, so parsing cannot fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(String),
}

impl TextTemplate {
    /// Reads a template.
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            literal.push_str(&rest[..brace]);
            rest = &rest[brace..];
            if let Some((name, tail)) = braced(rest, "{{", "}}") {
                literal.extend(["{", name, "}"]);
                rest = tail;
            } else if let Some((name, tail)) = braced(rest, "{", "}") {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Variable(name.to_owned()));
                rest = tail;
            } else {
                literal.push('{');
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Self { parts }
    }

    /// Names used, each once, in the order of their first use.
    pub fn variables(&self) -> Vec<&str> {
        let mut names = Vec::new();
        add_new(&mut names, self.parts.iter().filter_map(Part::variable));
        names
    }

    /// The text with strings put in plain, other values as JSON, absent ones and `null` as nothing.
    pub fn expand(&self, arguments: &Map<String, Value>) -> String {
        self.expand_with(arguments, |text, value| text.push_str(&plain(value)))
    }

    /// The same for a text that is a URI: everything in a value but unreserved characters is encoded (RFC 3986, 2.3).
    pub fn expand_uri(&self, arguments: &Map<String, Value>) -> String {
        self.expand_with(arguments, |text, value| {
            for byte in plain(value).bytes() {
                match byte {
                    b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => text.push(char::from(byte)),
                    _ => percent_encode(text, byte),
                }
            }
        })
    }

    fn expand_with(&self, arguments: &Map<String, Value>, push: impl Fn(&mut String, &Value)) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable(name) => {
                    if let Some(value) = arguments.get(name) {
                        push(&mut text, value);
                    }
                }
            }
        }
        text
    }

    /// The name, when the template is `{name}` and nothing else.
    pub(super) fn sole_variable(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [part] => part.variable(),
            _ => None,
        }
    }
}

impl Part {
    fn variable(&self) -> Option<&str> {
        match self {
            Self::Variable(name) => Some(name),
            Self::Literal(_) => None,
        }
    }
}

/// `open name close` at the start of the text: the name, and what follows.
fn braced<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let inside = text.strip_prefix(open)?;
    let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')))?;
    let (name, tail) = inside.split_at(end);
    let tail = tail.strip_prefix(close)?;
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_').then_some((name, tail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expand(template: &str, arguments: &Value) -> String {
        TextTemplate::parse(template).expand(arguments.as_object().unwrap())
    }

    #[test]
    fn strings_are_plain_and_other_values_are_json() {
        let arguments = json!({"s": "a \"b\"", "n": 1.5, "t": true, "l": [1, "x"], "o": {"k": null}, "z": null});
        assert_eq!(expand("{s}|{n}|{t}|{l}|{o}|{z}|{absent}|", &arguments), r#"a "b"|1.5|true|[1,"x"]|{"k":null}|||"#);
    }

    #[test]
    fn braces_of_json_examples_survive() {
        let text = r#"Send {"city": "{city}", "o": {"deep": {}}} or { city } or {0} or {"#;
        assert_eq!(TextTemplate::parse(text).variables(), ["city"]);
        assert_eq!(expand(text, &json!({"city": "Ulm"})), text.replace("{city}", "Ulm"));
    }

    #[test]
    fn doubled_braces_around_a_name_are_literal_ones() {
        assert_eq!(expand("{{name}} is {name}", &json!({"name": "Ada"})), "{name} is Ada");
        assert_eq!(expand("{{name} {{{name}}}", &json!({"name": "Ada"})), "{Ada {{name}}");
    }

    #[test]
    fn values_are_not_expanded_again() {
        assert_eq!(expand("{a}", &json!({"a": "{b}", "b": "secret"})), "{b}");
    }

    #[test]
    fn values_in_a_uri_are_encoded() {
        let template = TextTemplate::parse("tickets://{queue}/x?y={n}");
        let arguments = json!({"queue": "ops/../ü", "n": 1});
        assert_eq!(template.expand_uri(arguments.as_object().unwrap()), "tickets://ops%2F..%2F%C3%BC/x?y=1");
    }

    #[test]
    fn variables_come_once_and_in_order() {
        assert_eq!(TextTemplate::parse("{b}{a}{b}{dry-run}{a.b}").variables(), ["b", "a", "dry-run", "a.b"]);
    }
}
