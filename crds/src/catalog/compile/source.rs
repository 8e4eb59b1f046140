//! `catalog.sources`: entries from ConfigMaps.

use super::{Compiler, ConfigMapValue, MAX_SOURCE_BYTES};
use crate::catalog::authored::{Cache, Catalog, Source};
use crate::catalog::problem::{Path, Problem, ProblemKind};

/// The text of a source, read.
#[derive(Debug)]
pub(super) struct SourceText {
    pub(super) catalog: Catalog,
    pub(super) lines: Lines,
}

/// Which line a path of a text is on.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {}

impl Lines {
    /// The line of a path, or of the nearest thing above it.
    #[allow(clippy::unused_self)]
    pub(super) fn of(&self, _path: &Path) -> Option<usize> {
        None
    }
}

impl SourceText {
    pub(super) fn read(text: &str) -> Result<Self, Vec<(usize, String)>> {
        match serde_yaml::from_str(text) {
            Ok(catalog) => Ok(Self { catalog, lines: Lines {} }),
            Err(error) => Err(vec![(error.location().map_or(1, |location| location.line()), error.to_string())]),
        }
    }
}

impl Compiler<'_> {
    /// Reads a source; what is wrong with its text is reported.
    pub(super) fn read_source(&mut self, source: &Source, at: &Path) -> Option<SourceText> {
        let Some(reference) = &source.config_map_key_ref else {
            self.invalid(at, "set `configMapKeyRef`: it is where the entries come from");
            return None;
        };
        let at = at.field("configMapKeyRef");
        let text = match self.config_map_value(reference, &at)? {
            ConfigMapValue::Text(text) => text,
            ConfigMapValue::Binary(_) => {
                let message =
                    format!("key {} of ConfigMap {} is under `binaryData`: a source is text", reference.key, reference.name);
                self.report(ProblemKind::Invalid, &at, message);
                return None;
            }
        };
        if text.len() > MAX_SOURCE_BYTES {
            self.report(ProblemKind::TooLarge, &at, format!("{} bytes; at most {MAX_SOURCE_BYTES}", text.len()));
            return None;
        }
        match SourceText::read(text) {
            Ok(text) => {
                self.only_entries(source, &text.catalog);
                Some(text)
            }
            Err(problems) => {
                self.problems.extend(problems.into_iter().map(|(line, message)| Problem {
                    kind: ProblemKind::Invalid,
                    source: Some(source.name.clone()),
                    line: Some(line),
                    path: Path::default(),
                    message,
                }));
                None
            }
        }
    }

    /// A source brings entries; what is said once for the whole server is said in the resource.
    fn only_entries(&mut self, source: &Source, catalog: &Catalog) {
        for (field, set) in [
            ("serverInfo", catalog.server_info.is_some()),
            ("instructions", catalog.instructions.is_some()),
            ("cache", catalog.cache != Cache::default()),
            ("backends", !catalog.backends.is_empty()),
            ("sources", !catalog.sources.is_empty()),
        ] {
            if set {
                self.problems.push(Problem {
                    kind: ProblemKind::Invalid,
                    source: Some(source.name.clone()),
                    line: None,
                    path: Path::of(field),
                    message: "a source may hold tools, resources and prompts: put this into `spec.catalog`".to_owned(),
                });
            }
        }
    }
}
