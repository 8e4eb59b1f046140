//! YAML text → a tree that remembers where each value stands.
//!
//! Reads what `kubectl apply` reads, the same way (YAML 1.1 scalars, merge keys), and nothing more: one JSON value for each
//! document. Bounded in bytes, depth, and values, those behind aliases counted each time they are used.

mod scalar;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

use crate::catalog::{Path, Step};

/// The largest text.
pub const MAX_BYTES: usize = 4 << 20;
/// The deepest nesting.
pub const MAX_DEPTH: usize = 64;
/// The most values in a text, each use of an alias counted.
pub const MAX_VALUES: usize = 200_000;

/// A place in a text, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// Where.
    pub at: Position,
    /// What.
    pub message: String,
}

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it starts: a member of a map, where its key does.
    pub at: Position,
    /// What it is.
    pub value: NodeValue,
}

/// What a [`Node`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeValue {
    /// `null`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// Items.
    List(Vec<Node>),
    /// Members, in the order of the text. The position of each is that of its key.
    Map(Vec<(String, Node)>),
}

// === impl Node ===

impl Node {
    /// The value without positions. Of members with the same key the first counts.
    pub fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(flag) => Value::Bool(*flag),
            NodeValue::Number(number) => Value::Number(number.clone()),
            NodeValue::Text(text) => Value::String(text.clone()),
            NodeValue::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            NodeValue::Map(members) => {
                let mut map = Map::new();
                for (key, member) in members {
                    map.entry(key).or_insert_with(|| member.to_json());
                }
                Value::Object(map)
            }
        }
    }

    /// A member of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            NodeValue::Map(members) => members.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text of a member.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            NodeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where a path is, or the nearest thing above it that is written: defaults are nowhere.
    pub fn position(&self, path: &Path) -> Position {
        let mut node = self;
        for step in path.steps() {
            let next = match (step, &node.value) {
                (Step::Field(name), NodeValue::Map(_)) => node.get(name),
                (Step::Index(index), NodeValue::List(items)) => items.get(*index),
                (Step::Named { index, name }, NodeValue::List(items)) => {
                    let named = |item: &&Self| ["name", "uri", "uriTemplate"].iter().any(|key| item.text(key) == Some(name));
                    items.get(*index).filter(named).or_else(|| items.iter().find(named))
                }
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.at
    }
}

/// Reads the documents of a text; empty ones are left out.
///
/// # Errors
/// The first thing that keeps the text from being read: a syntax error, a bound, a key or value JSON does not have.
pub fn read(text: &str) -> Result<Vec<Node>, YamlError> {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes; at most {MAX_BYTES}", text.len());
        return Err(YamlError { at: Position { line: 1, column: 1 }, message });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            YamlError { at: Position { line: mark.line(), column: mark.col() + 1 }, message: error.info().to_owned() }
        })?;
        let at = Position { line: span.start.line(), column: span.start.col() + 1 };
        if builder.event(event, at)? {
            break;
        }
    }
    Ok(builder.documents)
}

/// A document in the making.
#[derive(Debug, Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    /// Finished anchored values, and how many values each holds.
    anchors: HashMap<usize, (Node, usize)>,
    values: usize,
}

/// A list or map whose end has not come.
#[derive(Debug)]
struct Open {
    node: Node,
    anchor: usize,
    /// Values counted before it.
    before: usize,
    /// Of a map: the key whose value comes next.
    key: Option<(String, Position)>,
    /// Of a map: what `<<` brought, which anything written overrides.
    merged: Vec<(String, Node)>,
}

/// The key under which a map is merged into another.
const MERGE: &str = "<<";

impl Builder {
    /// Takes the next event; true at the end of the text.
    fn event(&mut self, event: Event<'_>, at: Position) -> Result<bool, YamlError> {
        let error = |message: &str| YamlError { at, message: message.to_owned() };
        match event {
            Event::StreamEnd => return Ok(true),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                self.open.clear();
            }
            Event::DocumentEnd | Event::Nothing | Event::StreamStart => {}
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(error("this alias names an anchor that is still open, or none"));
                };
                let mut node = node.clone();
                let size = *size;
                self.count(size, at)?;
                // Problems inside are reported where the alias is used.
                node.at = at;
                self.value(node, 0, size)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, at)?;
                let value = scalar_value(&text, style, tag.as_deref()).map_err(|message| YamlError { at, message })?;
                self.value(Node { at, value }, anchor, 1)?;
            }
            Event::SequenceStart(anchor, tag) => self.start(NodeValue::List(Vec::new()), anchor, tag.as_deref(), "seq", at)?,
            Event::MappingStart(anchor, tag) => self.start(NodeValue::Map(Vec::new()), anchor, tag.as_deref(), "map", at)?,
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = self.open.pop() else { return Err(error("unexpected end")) };
                if let NodeValue::Map(members) = &mut open.node.value {
                    for (key, node) in open.merged {
                        if !members.iter().any(|(name, _)| *name == key) {
                            members.push((key, node));
                        }
                    }
                }
                self.value(open.node, open.anchor, self.values - open.before)?;
            }
        }
        Ok(false)
    }

    fn start(
        &mut self,
        value: NodeValue,
        anchor: usize,
        tag: Option<&Tag>,
        own_tag: &str,
        at: Position,
    ) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(YamlError { at, message: format!("nested deeper than {MAX_DEPTH} levels") });
        }
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == own_tag)
        {
            return Err(YamlError { at, message: format!("tag {tag} is not supported") });
        }
        let before = self.values;
        self.count(1, at)?;
        self.open.push(Open { node: Node { at, value }, anchor, before, key: None, merged: Vec::new() });
        Ok(())
    }

    fn count(&mut self, values: usize, at: Position) -> Result<(), YamlError> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES {
            return Err(YamlError { at, message: format!("more than {MAX_VALUES} values, aliases included") });
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, mut node: Node, anchor: usize, size: usize) -> Result<(), YamlError> {
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            if node.value != NodeValue::Null {
                self.documents.push(node);
            }
            return Ok(());
        };
        match &mut open.node.value {
            NodeValue::List(items) => items.push(node),
            NodeValue::Map(members) => match open.key.take() {
                None => open.key = Some((key_text(&node)?, node.at)),
                Some((key, _)) if key == MERGE => merge(node, &mut open.merged)?,
                Some((key, at)) => {
                    if members.iter().any(|(name, _)| *name == key) {
                        return Err(YamlError { at, message: format!("the key {key:?} is there twice") });
                    }
                    node.at = at;
                    members.push((key, node));
                }
            },
            NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => {}
        }
        Ok(())
    }
}

/// What a map holds under `<<`: a map, or a list of maps of which the first wins.
fn merge(node: Node, merged: &mut Vec<(String, Node)>) -> Result<(), YamlError> {
    let at = node.at;
    match node.value {
        NodeValue::Map(members) => {
            for (key, member) in members {
                if !merged.iter().any(|(name, _)| *name == key) {
                    merged.push((key, member));
                }
            }
            Ok(())
        }
        NodeValue::List(items) => items.into_iter().try_for_each(|item| match item.value {
            NodeValue::Map(_) => merge(item, merged),
            _ => Err(YamlError { at, message: "`<<` merges maps".to_owned() }),
        }),
        _ => Err(YamlError { at, message: "`<<` merges maps".to_owned() }),
    }
}

/// Keys are text; numbers and booleans are taken as they would be printed, as kubectl does.
fn key_text(node: &Node) -> Result<String, YamlError> {
    match &node.value {
        NodeValue::Text(text) => Ok(text.clone()),
        NodeValue::Bool(flag) => Ok(flag.to_string()),
        NodeValue::Number(number) => Ok(number.to_string()),
        NodeValue::Null | NodeValue::List(_) | NodeValue::Map(_) => {
            Err(YamlError { at: node.at, message: "a key must be text".to_owned() })
        }
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<NodeValue, String> {
    match tag {
        None if style == ScalarStyle::Plain => scalar::resolve(text),
        None => Ok(NodeValue::Text(text.to_owned())),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(NodeValue::Text(text.to_owned())),
        Some(tag) if tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "int" | "float" | "bool" | "null") => {
            scalar::resolve(text)
        }
        Some(tag) => Err(format!("tag {tag} is not supported")),
    }
}
