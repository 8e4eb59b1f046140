//! Compiles the tests, and says which mutants the compiler refuses.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::switch::Places;

pub enum Outcome {
    /// The test binary.
    Built(PathBuf),
    /// Mutants that do not compile.
    Refused(BTreeSet<usize>),
}

/// Compiles the library's tests.
///
/// # Errors
/// When an error of the compiler lies in no mutant.
pub fn build(tree: &Path, places: &Places) -> Result<Outcome, Box<dyn Error>> {
    let arguments = ["test", "--package", "mcp-operator", "--lib", "--no-run", "--message-format", "json"];
    let output = Command::new("cargo").args(arguments).current_dir(tree).stderr(Stdio::inherit()).output()?;
    let messages: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if output.status.success() {
        let binary = messages.iter().filter(|message| message["target"]["name"] == "mcp_operator");
        let binary = binary.filter_map(|message| message["executable"].as_str()).next_back();
        return Ok(Outcome::Built(binary.ok_or("cargo names no test binary")?.into()));
    }
    let mut refused = BTreeSet::new();
    let mut elsewhere = vec![];
    for message in messages.iter().map(|message| &message["message"]).filter(|message| message["level"] == "error") {
        let spans = message["spans"].as_array().map_or(&[][..], Vec::as_slice);
        let found: Vec<_> = spans.iter().filter_map(|span| mutant_at(span, places)).collect();
        if found.is_empty() && !spans.is_empty() {
            elsewhere.push(message["rendered"].as_str().unwrap_or_default().to_owned());
        }
        refused.extend(found);
    }
    if refused.is_empty() {
        return Err(format!("the compiler refuses what is in no mutant:\n{}", elsewhere.concat()).into());
    }
    Ok(Outcome::Refused(refused))
}

fn mutant_at(span: &Value, places: &Places) -> Option<usize> {
    let file = span["file_name"].as_str()?;
    let line = usize::try_from(span["line_start"].as_u64()?).ok()?;
    places.iter().find(|(path, first, last, _)| path == file && (*first..=*last).contains(&line)).map(|(.., id)| *id)
}
