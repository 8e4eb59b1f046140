//! What is wrong with a catalog, and where.

use std::fmt::{self, Write as _};

/// One thing that is wrong. Printed, it is one sentence of `status.conditions[CatalogValid].message`:
/// `tools[create-ticket].http.body: {titel} is not in inputSchema`, or `source billing, line 41: duplicate tool refund`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing, for the reason of the condition.
    pub kind: ProblemKind,
    /// The source that holds it; none: `spec.catalog` itself.
    pub source: Option<String>,
    /// Line in the source's text, from 1.
    pub line: Option<usize>,
    /// Where, below `spec.catalog` or below the root of the source; may be empty.
    pub path: Path,
    /// What is wrong, and what to do about it.
    pub message: String,
}

/// Kinds of problems: the False reasons of the condition `CatalogValid`, the most pressing first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// An entry is wrong.
    Invalid,
    /// Two entries share a name.
    DuplicateName,
    /// A ConfigMap, or a key of it, does not exist.
    SourceMissing,
    /// A Secret, or a key of it, does not exist.
    SecretMissing,
    /// More than a shard can be given.
    TooLarge,
}

/// A place in a document: fields, and entries of lists by name where they have one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Step>);

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A member of an object.
    Field(String),
    /// An item of a list.
    Index(usize),
    /// An item of a list that is known by a name: printed with the name, found by the index.
    Named {
        /// Its place.
        index: usize,
        /// Its name or URI.
        name: String,
    },
}

// === impl Problem ===

impl Problem {
    /// The Secret, or its key, that a credential is copied from does not exist. Found by whoever reads Secrets.
    pub fn secret_missing(secret: &str, key: Option<&str>) -> Self {
        let message = match key {
            None => format!("Secret {secret} does not exist"),
            Some(key) => format!("Secret {secret} has no key {key}"),
        };
        Self { kind: ProblemKind::SecretMissing, source: None, line: None, path: Path::default(), message }
    }

    /// The reason of the condition `CatalogValid` for these problems: that of the most pressing kind.
    pub fn reason(problems: &[Self]) -> Option<&'static str> {
        problems.iter().map(|problem| problem.kind).min().map(ProblemKind::reason)
    }

    /// All problems in at most `limit` bytes: `2 errors. tools[a].http.url: … source billing, line 41: …`. The last ones
    /// are counted when they do not fit; the first is always there, whole.
    pub fn summary(problems: &[Self], limit: usize) -> String {
        let count = problems.len();
        let mut text = format!("{count} error{}.", if count == 1 { "" } else { "s" });
        for (shown, problem) in problems.iter().enumerate() {
            let sentence = format!(" {problem}.");
            if shown > 0 && text.len() + sentence.len() > limit {
                let _ = write!(text, " And {} more.", count - shown);
                break;
            }
            text.push_str(&sentence);
        }
        text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.source, self.line) {
            (Some(source), Some(line)) => write!(f, "source {source}, line {line}: ")?,
            (Some(source), None) => write!(f, "source {source}: ")?,
            (None, _) => {}
        }
        if !self.path.0.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl ProblemKind {
    /// The reason of the condition `CatalogValid`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::DuplicateName => "DuplicateName",
            Self::SourceMissing => "SourceMissing",
            Self::SecretMissing => "SecretMissing",
            Self::TooLarge => "TooLarge",
        }
    }
}

// === impl Path ===

impl Path {
    /// A path of one field.
    pub fn of(field: &str) -> Self {
        Self(vec![Step::Field(field.to_owned())])
    }

    /// A member of the object here; dots separate several.
    #[must_use]
    pub fn field(&self, names: &str) -> Self {
        let mut path = self.clone();
        path.0.extend(names.split('.').map(|name| Step::Field(name.to_owned())));
        path
    }

    /// A member of the map here, whatever its key.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Field(key.to_owned()));
        path
    }

    /// An item of the list here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }

    /// An item of the list here that is known by a name.
    #[must_use]
    pub fn named(&self, index: usize, name: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Named { index, name: name.to_owned() });
        path
    }

    /// One more step.
    #[must_use]
    pub fn step(&self, step: Step) -> Self {
        let mut path = self.clone();
        path.0.push(step);
        path
    }

    /// Its steps, from the root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The path with `other` below it.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if place == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Named { name, .. } => write!(f, "[{name}]")?,
            }
        }
        Ok(())
    }
}
