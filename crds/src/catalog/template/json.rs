//! `"{name}"` in a JSON tree.

use serde_json::{Map, Value};

use super::{TextTemplate, add_new};

/// A JSON tree whose strings are templates; member names are literal.
///
/// A string that is `{x}` and nothing else becomes the argument with its type; inside longer text the argument is text, as
/// in a [`TextTemplate`]. An absent argument drops the member or item that is `"{x}"`; an explicit `null` is passed on.
/// Arguments are values in a tree, never text that is parsed again, so they cannot change its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonTemplate {
    root: Node,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Literal(Value),
    Argument(String),
    Text(TextTemplate),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl JsonTemplate {
    /// Reads a template; every JSON value is one.
    pub fn parse(value: &Value) -> Self {
        Self { root: Node::parse(value) }
    }

    /// Names used, each once, in the order of their first use.
    pub fn variables(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.root.variables(&mut names);
        names
    }

    /// The tree with its arguments; none when the root itself is an argument that is absent.
    pub fn expand(&self, arguments: &Map<String, Value>) -> Option<Value> {
        self.root.expand(arguments)
    }
}

impl Node {
    fn parse(value: &Value) -> Self {
        match value {
            Value::String(text) => {
                let template = TextTemplate::parse(text);
                match template.sole_variable() {
                    Some(name) => Self::Argument(name.to_owned()),
                    None => Self::Text(template),
                }
            }
            Value::Array(items) => Self::List(items.iter().map(Self::parse).collect()),
            Value::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (name.clone(), Self::parse(value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Literal(value.clone()),
        }
    }

    fn variables<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Self::Literal(_) => {}
            Self::Argument(name) => add_new(names, [name.as_str()]),
            Self::Text(template) => add_new(names, template.variables()),
            Self::List(items) => items.iter().for_each(|item| item.variables(names)),
            Self::Object(members) => members.iter().for_each(|(_, node)| node.variables(names)),
        }
    }

    fn expand(&self, arguments: &Map<String, Value>) -> Option<Value> {
        Some(match self {
            Self::Literal(value) => value.clone(),
            Self::Argument(name) => arguments.get(name)?.clone(),
            Self::Text(template) => Value::String(template.expand(arguments)),
            Self::List(items) => Value::Array(items.iter().filter_map(|item| item.expand(arguments)).collect()),
            Self::Object(members) => {
                Value::Object(members.iter().filter_map(|(name, node)| Some((name.clone(), node.expand(arguments)?))).collect())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expand(template: &Value, arguments: &Value) -> Option<Value> {
        JsonTemplate::parse(template).expand(arguments.as_object().unwrap())
    }

    #[test]
    fn a_lone_argument_keeps_its_type() {
        let template = json!({"n": "{n}", "l": "{l}", "text": "n is {n}", "via": "mcp", "one": 1});
        let arguments = json!({"n": 7, "l": ["a", {"b": null}]});
        let expected = json!({"n": 7, "l": ["a", {"b": null}], "text": "n is 7", "via": "mcp", "one": 1});
        assert_eq!(expand(&template, &arguments), Some(expected));
    }

    #[test]
    fn an_absent_argument_drops_its_member_and_null_does_not() {
        let template = json!({"gone": "{x}", "null": "{z}", "items": ["{x}", "kept"], "text": "<{x}>"});
        let expected = json!({"null": null, "items": ["kept"], "text": "<>"});
        assert_eq!(expand(&template, &json!({"z": null})), Some(expected));
        assert_eq!(expand(&json!("{x}"), &json!({})), None);
    }

    #[test]
    fn an_argument_cannot_change_the_shape() {
        let template = json!({"title": "{title}", "admin": false});
        let expected = json!({"title": "\", \"admin\": true, \"x\": \"", "admin": false});
        assert_eq!(expand(&template, &json!({"title": "\", \"admin\": true, \"x\": \""})), Some(expected));
    }

    #[test]
    fn names_of_members_are_literal() {
        assert_eq!(expand(&json!({"{x}": 1}), &json!({"x": "y"})), Some(json!({"{x}": 1})));
        assert_eq!(JsonTemplate::parse(&json!({"{x}": ["{b}", "{a} {b}"]})).variables(), ["b", "a"]);
    }

    #[test]
    fn doubled_braces_are_text() {
        assert_eq!(expand(&json!("{{x}}"), &json!({"x": 1})), Some(json!("{x}")));
    }
}
