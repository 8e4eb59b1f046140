//! RFC 6570 templates of URLs whose host is never a variable.

use iri_string::spec::UriSpec;
use iri_string::template::context::{Context, Visitor};
use iri_string::template::{UriTemplateStr, UriTemplateString};
use iri_string::types::UriStr;
use serde_json::{Map, Value};

use super::{add_new, plain};

/// The longest URL that is sent, bytes: past it servers answer 414, and a caller could make us hold what it likes.
pub const MAX_URL_BYTES: usize = 32 * 1024;

/// An absolute `http` or `https` URL with RFC 6570 expressions in its path and query.
///
/// | Expression | Where | Expands to |
/// |---|---|---|
/// | `{x}` | path, query | the value, everything but unreserved characters encoded |
/// | `{/x}` | path | `/value`; nothing when x is absent |
/// | `{?x,y}` | end | `?x=value&y=value`, the absent ones left out |
/// | `{&x,y}` | end, after a literal `?` | `&x=value&y=value`, the absent ones left out |
///
/// A list is joined with commas, and with `*` repeated: `{?tag*}` becomes `?tag=a&tag=b`, `{/part*}` becomes `/a/b`. An object is one
/// value, its JSON: exploding it would let a caller choose the names of parameters. `null` is absent.
///
/// Scheme and host are literal, encoding is by construction, and what would change the path another way (a segment that is
/// empty, or `.` or `..` also between encoded slashes) is refused when the template is expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate {
    template: UriTemplateString,
    /// Bytes of `scheme://authority`; the same in the template and in what it expands to.
    origin_len: usize,
    /// Variables of each path segment that is made of `{x}` alone: all absent, the segment would vanish.
    bare_segments: Vec<Vec<String>>,
    /// Variables of `{/x}`.
    optional_segments: Vec<String>,
}

/// Why a text is not a URL template of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlTemplateError {
    /// Not absolute, or the host is not literal.
    #[error("url {text:?} must be absolute with a literal host, for example 'https://api.example.com/items/{{id}}'")]
    Host {
        /// The template.
        text: String,
    },
    /// A name and password, or a fragment.
    #[error("url {text:?} must not hold {what}")]
    Part {
        /// The template.
        text: String,
        /// Which part.
        what: &'static str,
    },
    /// An operator that could rewrite the URL, or that REST APIs do not use.
    #[error("{expression} in a url: use '{{name}}', '{{/name}}', '{{?name}}' or '{{&name}}'; {why}")]
    Operator {
        /// The expression with its braces.
        expression: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A variable list that is not made of names.
    #[error("{expression} in a url: {name:?} is not a name of letters, digits, '_' and '.', optionally followed by '*'")]
    Name {
        /// The expression with its braces.
        expression: String,
        /// What stands where a name should.
        name: String,
    },
    /// An expression where its expansion would not mean what it looks like.
    #[error("{expression} in a url {why}")]
    Place {
        /// The expression with its braces.
        expression: String,
        /// Why not here.
        why: &'static str,
    },
    /// A literal `.` or `..` segment.
    #[error("url {text:?} must not hold the path segment '.' or '..'")]
    DotSegment {
        /// The template.
        text: String,
    },
    /// A character that must be encoded, a lone brace, a broken `%`.
    #[error("url {text:?} is malformed")]
    Malformed {
        /// The template.
        text: String,
        /// What and where.
        #[source]
        source: iri_string::template::Error,
    },
}

/// Why these arguments make no URL. The texts name arguments and are meant for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A path segment would be empty, and so name something else.
    #[error("the argument {names} is part of a path and must not be missing or empty")]
    EmptySegment {
        /// Names of the variables of the segment.
        names: String,
    },
    /// A path segment is `.` or `..`, or has `..` between encoded slashes.
    #[error("{segment:?} would leave the path it is part of")]
    DotSegment {
        /// The segment, encoded, at most 64 characters of it.
        segment: String,
    },
    /// Longer than [`MAX_URL_BYTES`].
    #[error("the arguments make a url of {bytes} bytes; the limit is {MAX_URL_BYTES}")]
    TooLong {
        /// How long it would be.
        bytes: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Path,
    Query,
    End,
}

impl UrlTemplate {
    /// Reads and checks a template.
    ///
    /// # Errors
    /// The first thing that is wrong, with the text it is about.
    pub fn parse(text: &str) -> Result<Self, UrlTemplateError> {
        let origin_len = origin_len(text)?;
        let mut template = Self {
            template: "".try_into().map_err(|source| malformed(text, source))?,
            origin_len,
            bare_segments: Vec::new(),
            optional_segments: Vec::new(),
        };
        template.walk(text)?;
        template.template = text.try_into().map_err(|source| malformed(text, source))?;
        Ok(template)
    }

    /// The template as written.
    pub fn as_str(&self) -> &str {
        self.template.as_ref()
    }

    /// `scheme://host[:port]`, which no argument changes.
    pub fn origin(&self) -> &str {
        &self.as_str()[..self.origin_len]
    }

    /// Names used, each once, in the order of their first use.
    pub fn variables(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let template: &UriTemplateStr = self.template.as_ref();
        add_new(&mut names, template.variables().map(|name| name.as_str()));
        names
    }

    /// The URL with its arguments, encoded.
    ///
    /// # Errors
    /// When an argument would make a path segment disappear or climb, or the URL too long.
    ///
    /// # Panics
    /// Never: expansion fails for `{x:n}` alone, which is refused when the template is read.
    pub fn expand(&self, arguments: &Map<String, Value>) -> Result<String, ExpandError> {
        for names in &self.bare_segments {
            if names.iter().all(|name| is_empty(arguments.get(name))) {
                return Err(ExpandError::EmptySegment { names: names.join(", ") });
            }
        }
        for name in &self.optional_segments {
            let empty = |value: &Value| value.as_str().is_some_and(str::is_empty);
            if arguments
                .get(name)
                .is_some_and(|value| empty(value) || value.as_array().is_some_and(|items| items.iter().any(empty)))
            {
                return Err(ExpandError::EmptySegment { names: name.clone() });
            }
        }
        let template: &UriTemplateStr = self.template.as_ref();
        let url = template
            .expand::<UriSpec, _>(&Arguments(arguments))
            .map(|expanded| expanded.to_string())
            .expect("`{x:n}` is refused when the template is read");
        if url.len() > MAX_URL_BYTES {
            return Err(ExpandError::TooLong { bytes: url.len() });
        }
        match path(&url[self.origin_len..]).split('/').find(|segment| climbs(segment)) {
            Some(segment) => Err(ExpandError::DotSegment { segment: segment.chars().take(64).collect() }),
            None => Ok(url),
        }
    }

    /// Goes over literals and expressions once, checking each in its place and noting which make up path segments.
    fn walk(&mut self, text: &str) -> Result<(), UrlTemplateError> {
        let mut place = Place::Path;
        let mut segment = Segment::default();
        let mut rest = &text[self.origin_len..];
        while !rest.is_empty() {
            let (literal, tail) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            self.literal(text, literal, &mut place, &mut segment)?;
            // A lone `{` is left for the grammar check, which knows the position.
            let Some((expression, tail)) = tail.split_once('}').map(|(inside, tail)| (format!("{inside}}}"), tail)) else {
                break;
            };
            self.expression(text, &expression, &mut place, &mut segment)?;
            rest = tail;
        }
        self.end(text, segment)
    }

    fn literal(&mut self, text: &str, literal: &str, place: &mut Place, segment: &mut Segment) -> Result<(), UrlTemplateError> {
        if literal.contains('#') {
            return Err(UrlTemplateError::Part { text: text.to_owned(), what: "a fragment: it would never be sent" });
        }
        if *place == Place::End && !literal.is_empty() {
            return Err(UrlTemplateError::Place {
                expression: literal.to_owned(),
                why: "follows '{?…}' or '{&…}', which may expand to nothing: put it before them",
            });
        }
        if *place == Place::Path {
            for (index, part) in path(literal).split('/').enumerate() {
                if index > 0 {
                    self.end(text, std::mem::take(segment))?;
                }
                segment.literal.push_str(part);
            }
            if literal.contains('?') {
                *place = Place::Query;
            }
        }
        Ok(())
    }

    fn expression(
        &mut self,
        text: &str,
        expression: &str,
        place: &mut Place,
        segment: &mut Segment,
    ) -> Result<(), UrlTemplateError> {
        let refuse = |why| Err(UrlTemplateError::Place { expression: expression.to_owned(), why });
        let (operator, names) = variables(expression)?;
        match (operator, *place) {
            (None, Place::Path) => segment.names.extend(names),
            (None, Place::Query) => {}
            (None, Place::End) => return refuse("follows '{?…}' or '{&…}', which may expand to nothing: put it before them"),
            (Some('/'), Place::Path) => {
                self.end(text, std::mem::take(segment))?;
                segment.literal.push('/');
                self.optional_segments.extend(names);
            }
            (Some('/'), Place::Query | Place::End) => return refuse("stands after the '?': it makes path segments"),
            (Some('?'), Place::Path) => *place = Place::End,
            (Some('?'), Place::Query) => return refuse("stands after a '?': use '{&name}'"),
            (Some('&'), Place::Query | Place::End) if *place == Place::Query => *place = Place::End,
            (Some('&'), Place::Path) => return refuse("has no '?' before it: use '{?name}'"),
            (Some('?' | '&'), _) => return refuse("is the second of its kind: write one, '{?a,b}' or '{&a,b}'"),
            (Some(_), _) => return refuse("has an unknown operator"),
        }
        Ok(())
    }

    fn end(&mut self, text: &str, segment: Segment) -> Result<(), UrlTemplateError> {
        match (segment.literal.is_empty(), segment.names.is_empty()) {
            (true, false) => self.bare_segments.push(segment.names),
            (false, true) if climbs(&segment.literal) => return Err(UrlTemplateError::DotSegment { text: text.to_owned() }),
            (false | true, true) | (false, false) => {}
        }
        Ok(())
    }
}

/// A path segment of a template, as far as it was read.
#[derive(Default)]
struct Segment {
    literal: String,
    names: Vec<String>,
}

/// Operator and names of an expression.
fn variables(expression: &str) -> Result<(Option<char>, Vec<String>), UrlTemplateError> {
    let inside = expression.trim_start_matches('{').trim_end_matches('}');
    let (operator, list) = match inside.chars().next() {
        Some(operator @ ('/' | '?' | '&')) => (Some(operator), &inside[1..]),
        Some(operator) if operator.is_ascii_punctuation() && operator != '_' => {
            let why = match operator {
                '+' | '#' => "'{+name}' and '{#name}' would let a caller rewrite the path",
                _ => "other operators are not supported",
            };
            return Err(UrlTemplateError::Operator { expression: expression.to_owned(), why });
        }
        _ => (None, inside),
    };
    let mut names = Vec::new();
    for item in list.split(',') {
        let name = item.strip_suffix('*').unwrap_or(item);
        let letters = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !name.split('.').all(letters) {
            return Err(UrlTemplateError::Name { expression: expression.to_owned(), name: item.to_owned() });
        }
        names.push(name.to_owned());
    }
    Ok((operator, names))
}

/// Bytes of `scheme://authority`, checked: nothing in it may be, or be continued by, an expression of a value.
fn origin_len(text: &str) -> Result<usize, UrlTemplateError> {
    let no_host = || UrlTemplateError::Host { text: text.to_owned() };
    let scheme = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme)).ok_or_else(no_host)?;
    let rest = &text[scheme.len()..];
    let end = rest.find(['/', '?', '#', '{', '\\']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.contains('@') {
        return Err(UrlTemplateError::Part { text: text.to_owned(), what: "a user name: use `authorization` of a backend" });
    }
    if !(tail.is_empty() || ["/", "?", "#", "{/", "{?"].iter().any(|start| tail.starts_with(start))) || authority.contains('%') {
        return Err(no_host());
    }
    let url = format!("{scheme}{authority}/");
    let components = UriStr::new(&url).ok().and_then(UriStr::authority_components).ok_or_else(no_host)?;
    if components.host().is_empty() || components.port().is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(no_host());
    }
    Ok(scheme.len() + end)
}

/// What stands before a `?`.
fn path(text: &str) -> &str {
    text.split_once('?').map_or(text, |(path, _)| path)
}

/// Whether a segment, its `%` decoded, is a dot segment, or is cut into some by a server that decodes slashes first.
fn climbs(segment: &str) -> bool {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (Some(high), Some(low)) if byte == b'%' => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(byte));
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded == b"." || decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..")
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.iter().all(|item| is_empty(Some(item))),
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => false,
    }
}

fn malformed(text: &str, source: iri_string::template::Error) -> UrlTemplateError {
    UrlTemplateError::Malformed { text: text.to_owned(), source }
}

/// Arguments as RFC 6570 sees them.
struct Arguments<'a>(&'a Map<String, Value>);

impl Context for Arguments<'_> {
    fn visit<V: Visitor>(&self, visitor: V) -> V::Result {
        match self.0.get(visitor.var_name().as_str()) {
            None | Some(Value::Null) => visitor.visit_undefined(),
            Some(Value::Array(items)) => visitor.visit_list_direct(items.iter().filter(|item| !item.is_null()).map(plain)),
            Some(value) => visitor.visit_string(plain(value)),
        }
    }
}

#[cfg(test)]
mod tests;
