//! What cargo-mutants lists.

use std::path::Path;
use std::{fs, io};

use serde::Deserialize;

/// One change to the source.
#[derive(Debug, Deserialize)]
pub struct Mutant {
    /// Its number, from 1, in the order of the list.
    #[serde(skip)]
    pub id: usize,
    /// Path, line, column, and what is changed.
    pub name: String,
    /// Path within the tree.
    pub file: String,
    pub genre: Genre,
    pub replacement: String,
    /// None in a constant.
    function: Option<Function>,
    span: Span,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
}

#[derive(Debug, Deserialize)]
struct Function {
    return_type: String,
}

#[derive(Debug, Deserialize)]
struct Span {
    start: Position,
}

/// From 1, columns in characters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Mutant {
    pub fn start(&self) -> Position {
        self.span.start
    }

    /// Whether the change can be switched on while the program runs.
    pub fn is_switchable(&self) -> bool {
        let Some(function) = &self.function else { return false };
        match self.genre {
            Genre::FnValue => !function.return_type.starts_with("-> impl"),
            Genre::MatchArm => false,
            Genre::BinaryOperator | Genre::UnaryOperator | Genre::MatchArmGuard | Genre::StructField => true,
        }
    }
}

/// Reads what `cargo mutants --list --json` wrote.
pub fn read(path: &Path) -> io::Result<Vec<Mutant>> {
    let mut mutants: Vec<Mutant> = serde_json::from_slice(&fs::read(path)?)?;
    for (id, mutant) in (1..).zip(&mut mutants) {
        mutant.id = id;
    }
    Ok(mutants)
}
