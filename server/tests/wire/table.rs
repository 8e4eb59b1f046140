//! `docs/protocol.md` → what is expected of each row.

use std::path::Path;

/// What the document promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub name: String,
    /// None: no response at all.
    pub status: Option<u16>,
    /// Of the JSON-RPC error.
    pub code: Option<i64>,
    pub body: Body,
    pub connection: Connection,
}

/// What a response carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    /// An error without id.
    Error,
    /// An error with the request's id.
    ErrorWithId,
    Result,
    /// A tool's result that says it failed.
    ToolError,
    Events,
    Batch,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    Kept,
    Closed,
    /// An open event stream.
    Held,
}

/// The whole document.
pub fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the tables with seven columns.
pub fn read() -> Vec<Expected> {
    let rows: Vec<_> = document().lines().filter_map(expected).collect();
    assert!(rows.len() > 100, "{} rows: has the table another form?", rows.len());
    rows
}

/// What the document promises of one row.
pub fn of(name: &str) -> Expected {
    read().into_iter().find(|row| row.name == name).unwrap_or_else(|| panic!("docs/protocol.md has no row {name}"))
}

fn expected(line: &str) -> Option<Expected> {
    let cells: Vec<_> = line.strip_prefix("| `")?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let [name, input, status, code, body, connection, section] = cells[..] else { return None };
    assert!(!input.is_empty() && !section.is_empty(), "{line}");
    let number =
        |cell: &str| (cell != "–").then(|| cell.replace('−', "-").parse().unwrap_or_else(|_| panic!("{cell} in {line}")));
    Some(Expected {
        name: name.trim_end_matches('`').to_owned(),
        status: number(status).map(|status: i64| status.try_into().unwrap()),
        code: number(code),
        body: match body {
            "–" => Body::None,
            "error" => Body::Error,
            "error+id" => Body::ErrorWithId,
            "result" => Body::Result,
            "isError" => Body::ToolError,
            "events" => Body::Events,
            "batch" => Body::Batch,
            other => panic!("{other} in {line}"),
        },
        connection: match connection {
            "kept" => Connection::Kept,
            "closed" => Connection::Closed,
            "held" => Connection::Held,
            other => panic!("{other} in {line}"),
        },
    })
}
