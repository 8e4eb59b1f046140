//! `response.select`: an RFC 9535 query of the answer.

use std::io;

use serde_json::Value;
use serde_json_path::JsonPath;

use super::request::InvalidRequest;

/// A query. One that can name a single node only (`$.a.b[0]`, RFC 9535 section 2.3.5.1) gives that node; any other gives an
/// array of what it found, also when that is one node or none, so that the shape of a result does not depend on the data.
#[derive(Debug)]
pub(super) struct Select {
    query: String,
    path: JsonPath,
    singular: bool,
}

/// Why a query gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unselected {
    /// The one node is not there.
    Missing,
    /// What was found repeats itself (`$..*`) to more bytes than an answer may have.
    TooLarge,
}

impl Select {
    pub(super) fn new(query: &str) -> Result<Self, InvalidRequest> {
        let path = JsonPath::parse(query).map_err(|source| InvalidRequest::Query { query: query.to_owned(), source })?;
        Ok(Self { query: query.to_owned(), path, singular: is_singular(query) })
    }

    pub(super) fn query(&self) -> &str {
        &self.query
    }

    pub(super) fn apply(&self, value: &Value, max_bytes: usize) -> Result<Value, Unselected> {
        let nodes = self.path.query(value);
        if self.singular {
            return nodes.first().cloned().ok_or(Unselected::Missing);
        }
        let mut room = Room(max_bytes);
        for node in nodes.iter() {
            serde_json::to_writer(&mut room, node).map_err(|_| Unselected::TooLarge)?;
        }
        Ok(Value::Array(nodes.iter().copied().cloned().collect()))
    }
}

/// Whether a valid query has name and index segments only: no wildcard, slice, filter, union or descent outside quotes.
fn is_singular(query: &str) -> bool {
    let mut quote = None;
    let mut chars = query.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => {
                chars.next();
            }
            (Some(open), _) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '*' | '?' | ':' | ',') => return false,
            (None, '.') if chars.peek() == Some(&'.') => return false,
            (Some(_) | None, _) => {}
        }
    }
    true
}

/// Counts bytes down and fails when there is no room left.
struct Room(usize);

impl io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::from(io::ErrorKind::WriteZero))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn select(query: &str, value: &Value) -> Result<Value, Unselected> {
        Select::new(query).unwrap().apply(value, 1000)
    }

    #[test]
    fn a_singular_query_gives_its_node() {
        let value = json!({"ticket": {"labels": ["a", "b"], "x,y": null, "a.b": 1, "q\"?": 2}});
        assert_eq!(select("$", &value), Ok(value.clone()));
        assert_eq!(select("$.ticket.labels", &value), Ok(json!(["a", "b"])));
        assert_eq!(select("$.ticket.labels[-1]", &value), Ok(json!("b")));
        assert_eq!(select("$['ticket']['x,y']", &value), Ok(Value::Null), "null is a value");
        assert_eq!(select("$.ticket[\"q\\\"?\"]", &value), Ok(json!(2)));
        assert_eq!(select("$.ticket.number", &value), Err(Unselected::Missing));
    }

    #[test]
    fn any_other_query_gives_an_array_whatever_it_finds() {
        for query in ["$.items[*].id", "$..id", "$.items[?@.id > 0].id", "$.items[0:5].id"] {
            for found in [json!([]), json!([1]), json!([1, 2])] {
                let items: Vec<_> = found.as_array().unwrap().iter().map(|id| json!({"id": id})).collect();
                assert_eq!(select(query, &json!({"items": items})), Ok(found), "{query}");
            }
        }
        assert_eq!(select("$['a', 'b']", &json!({"a": 1})), Ok(json!([1])));
    }

    #[test]
    fn what_repeats_itself_is_bounded() {
        let mut deep = json!("x".repeat(100));
        for _ in 0..50 {
            deep = json!({"a": deep});
        }
        assert_eq!(select("$..*", &deep), Err(Unselected::TooLarge));
    }
}
