//! RFC 6570 templates of resource URIs, read backwards: from a URI to the values it was made of.

use std::cmp::Reverse;

use serde_json::{Map, Value};

/// A template of URIs (MCP, Resource Templates) that a URI is matched against in one pass and in one way.
///
/// | Expression | Where | Matches |
/// |---|---|---|
/// | `{x}` | after the scheme | one character or more, up to what ends it |
/// | `{+x}` | the very end | the rest, one character or more, slashes included |
///
/// What ends `{x}` is `/`, `?`, `#`, and every other reserved character (RFC 3986, 2.2) of the literal text behind the first
/// expression. Between two expressions there must be one of them: an encoded value never holds it, so values come back as they
/// were put in (RFC 6570, 1.4: "variable matching"). Reserved characters that end nothing may come unencoded, as careless
/// clients send them. Values are percent-decoded once; what is not UTF-8 then matches nothing. Literal text is compared as it
/// is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriTemplate {
    /// What stands before the first expression.
    prefix: String,
    /// What follows, cut where values end.
    cells: Vec<Cell>,
    /// What values do not hold unless it is encoded.
    delimiters: String,
}

/// Text between two delimiters, with at most one expression in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cell {
    before: String,
    variable: Option<Variable>,
    after: String,
    /// The delimiter behind it; none at the end.
    end: Option<char>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    name: String,
    /// `{+x}`
    rest: bool,
}

/// Why a text is not a URI template of ours. The text is for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UriTemplateError {
    message: String,
}

enum Part<'a> {
    Literal(&'a str),
    Expression(Variable),
}

impl UriTemplate {
    /// Reads and checks a template.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, UriTemplateError> {
        let parts = parts(text)?;
        let (prefix, parts) = match parts.split_first() {
            Some((Part::Literal(prefix), parts)) if has_scheme(prefix) => (*prefix, parts),
            _ => return Err(error("must begin with a literal scheme, for example 'tickets://{id}'")),
        };
        if parts.is_empty() {
            return Err(error("has no variables: what has one URI is one of `resources`"));
        }
        let mut delimiters = "/?#".to_owned();
        for part in parts {
            let Part::Literal(literal) = part else { continue };
            delimiters.extend(literal.chars().filter(|c| ":[]@!$&'()*+,;=".contains(*c)));
        }
        let mut template = Self { prefix: prefix.to_owned(), cells: Vec::new(), delimiters };
        template.cut(parts)?;
        Ok(template)
    }

    /// Names of the variables, in their order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.cells.iter().filter_map(|cell| cell.variable.as_ref()).map(|variable| variable.name.as_str())
    }

    /// The values a URI was made of; none when it was not made of this template. Takes time in proportion to the URI.
    pub fn matches(&self, uri: &str) -> Option<Map<String, Value>> {
        let mut rest = uri.strip_prefix(&self.prefix)?;
        let mut values = Map::new();
        for cell in &self.cells {
            let whole = cell.variable.as_ref().is_some_and(|variable| variable.rest);
            let end = if whole { None } else { rest.find(|c| self.delimiters.contains(c)) };
            let (text, tail) = rest.split_at(end.unwrap_or(rest.len()));
            let mut tail = tail.chars();
            if tail.next() != cell.end {
                return None;
            }
            rest = tail.as_str();
            match &cell.variable {
                None if text == cell.before => {}
                None => return None,
                Some(variable) => {
                    let value = text.strip_prefix(&cell.before)?.strip_suffix(&cell.after)?;
                    let value = percent_decode(value).filter(|value| !value.is_empty())?;
                    values.insert(variable.name.clone(), Value::String(value));
                }
            }
        }
        Some(values)
    }

    /// Orders templates by who is asked first when several match a URI: those without `{+x}`, then those with more literal
    /// text, then those that are literal earlier. Two templates that rank the same match the same URIs.
    pub fn rank(&self) -> (bool, Reverse<usize>, String) {
        // A variable sorts behind every literal character.
        const VARIABLE: char = '\u{7f}';
        let (mut any_rest, mut literal, mut shape) = (false, self.prefix.len(), self.prefix.clone());
        for cell in &self.cells {
            literal += cell.before.len() + cell.after.len() + cell.end.map_or(0, char::len_utf8);
            shape.push_str(&cell.before);
            if let Some(variable) = &cell.variable {
                any_rest |= variable.rest;
                shape.push(VARIABLE);
            }
            shape.push_str(&cell.after);
            shape.extend(cell.end);
        }
        (any_rest, Reverse(literal), shape)
    }

    fn cut(&mut self, parts: &[Part<'_>]) -> Result<(), UriTemplateError> {
        let mut cell = Cell::default();
        let mut rest = false;
        for part in parts {
            if rest {
                return Err(error("'{+name}' takes the rest of a URI: nothing can follow it"));
            }
            match part {
                Part::Literal(literal) => {
                    for c in literal.chars() {
                        if self.delimiters.contains(c) {
                            self.cells.push(Cell { end: Some(c), ..std::mem::take(&mut cell) });
                        } else if cell.variable.is_some() {
                            cell.after.push(c);
                        } else {
                            cell.before.push(c);
                        }
                    }
                }
                Part::Expression(variable) => {
                    if let Some(first) = &cell.variable {
                        return Err(error(format!(
                            "nothing tells where {{{}}} ends and {{{}}} begins: put a character between them that values do not \
                             hold, such as '/', ':' or ','",
                            first.name, variable.name
                        )));
                    }
                    if self.variables().any(|name| name == variable.name) {
                        return Err(error(format!("{{{}}} is there twice", variable.name)));
                    }
                    rest = variable.rest;
                    cell.variable = Some(variable.clone());
                }
            }
        }
        self.cells.push(cell);
        Ok(())
    }
}

/// Literals and expressions, in turn.
fn parts(text: &str) -> Result<Vec<Part<'_>>, UriTemplateError> {
    let mut parts = Vec::new();
    let mut open = text;
    while !open.is_empty() {
        let (literal, tail) = open.split_at(open.find('{').unwrap_or(open.len()));
        if literal.contains('}') {
            return Err(error("has a '}' without its '{'"));
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        open = match tail.strip_prefix('{') {
            None => "",
            Some(inside) => {
                let (inside, tail) = inside.split_once('}').ok_or_else(|| error("has a '{' without its '}'"))?;
                parts.push(Part::Expression(variable(inside)?));
                tail
            }
        };
    }
    Ok(parts)
}

fn variable(inside: &str) -> Result<Variable, UriTemplateError> {
    let (name, rest) = inside.strip_prefix('+').map_or((inside, false), |name| (name, true));
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.split('.').all(letters) {
        return Err(error(format!(
            "{{{inside}}}: use '{{name}}', or '{{+name}}' at the end, with one name of letters, digits, '_' and '.'; URIs cannot be \
             matched against other expressions"
        )));
    }
    Ok(Variable { name: name.to_owned(), rest })
}

/// RFC 3986, 3.1.
fn has_scheme(prefix: &str) -> bool {
    prefix.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}

/// RFC 3986, 2.1; none when a `%` begins no triplet, or the bytes are no text.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn error(message: impl Into<String>) -> UriTemplateError {
    UriTemplateError { message: message.into() }
}

#[cfg(test)]
mod tests;
