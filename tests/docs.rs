//! What the documents say of the code, as far as it can be looked up: tests that are named exist, and every reason is there.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mcp_crds::cluster::CONDITIONS;

const OPERATIONS: &str = "docs/operations.md";
const GUARANTEES: &str = "docs/guarantees.md";
/// Where unit tests live; the first word of a test's name says which.
const CRATES: [&str; 4] = ["crds", "operator", "server", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines below a heading, up to the next of its level.
fn section<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let level = heading.split(' ').next().unwrap();
    let begun: Vec<_> = text.lines().skip_while(|line| *line != heading).skip(1).collect();
    assert!(!begun.is_empty(), "there is no {heading:?}");
    begun
        .into_iter()
        .take_while(|line| !(line.starts_with('#') && line.split(' ').next().unwrap().len() <= level.len()))
        .collect()
}

/// The cells of the rows of all tables in these lines, without their heads.
fn rows<'a>(lines: &[&'a str]) -> Vec<Vec<&'a str>> {
    let is_row = |line: &str| line.starts_with('|');
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let is_rule = |line: &str| is_row(line) && line.chars().all(|c| "|-: ".contains(c));
    let mut found = vec![];
    let mut in_body = false;
    for line in lines {
        in_body = is_row(line) && (in_body || is_rule(line));
        if in_body && !is_rule(line) {
            found.push(cells(line));
        }
    }
    found
}

/// What is between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Names of tests in a text: `module::name`, lower case.
fn tests_named(text: &str) -> Vec<&str> {
    let is_name = |word: &&str| {
        word.contains("::") && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c))
    };
    quoted(text).into_iter().filter(is_name).collect()
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let mut found: Vec<_> = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")).collect();
    found.extend(folders.iter().filter(|path| !path.ends_with("target")).flat_map(|folder| sources(folder)));
    found
}

/// Whether a crate has a test of this name in a file that its path leads to.
fn is_unit_test(name: &str) -> bool {
    let mut parts: Vec<_> = name.split("::").collect();
    let (member, claim) = (parts.remove(0), parts.pop().unwrap());
    let head = format!("fn {claim}(");
    let leads_there = |path: &Path| {
        let path = path.with_extension("");
        let path: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        parts.iter().filter(|part| **part != "tests").all(|part| path.iter().any(|there| there == part))
    };
    let is_test = |text: &str| {
        text.split(&head)
            .next()
            .is_some_and(|before| before.len() < text.len() && before.contains("#[test]") || before.contains("#[tokio::test"))
    };
    sources(&root().join(member)).iter().any(|path| {
        leads_there(path) && {
            let text = fs::read_to_string(path).unwrap();
            text.contains(&head) && is_test(&text)
        }
    })
}

#[test]
fn every_test_that_a_guarantee_names_exists() {
    let listed = read("tests/cluster/main.rs");
    let text = read(GUARANTEES);
    let missing: Vec<_> = tests_named(&text)
        .into_iter()
        .filter(|name| {
            let member = name.split("::").next().unwrap();
            if CRATES.contains(&member) { !is_unit_test(name) } else { !listed.contains(&format!(" {name};")) }
        })
        .collect();
    assert!(missing.is_empty(), "{GUARANTEES} names tests that do not exist: {missing:#?}");
}

#[test]
fn every_guarantee_names_a_test() {
    let text = read(GUARANTEES);
    let promised = rows(&section(&text, "## Promised"));
    assert!(promised.len() > 10, "{} guarantees", promised.len());
    let bare: Vec<_> = promised.iter().filter(|row| row.len() < 3 || tests_named(row[1]).is_empty()).map(|row| row[0]).collect();
    assert!(bare.is_empty(), "promised without a test: {bare:#?}");
}

/// `Ready False NoShardReady`
#[test]
fn what_to_do_is_written_for_exactly_the_reasons_there_are() {
    let text = read(OPERATIONS);
    let mut written = BTreeSet::new();
    for row in rows(&section(&text, "## What to do at each reason")) {
        let [conditions, reason, means, todo] = row[..] else { panic!("not four cells: {row:?}") };
        assert!(!means.is_empty() && !todo.is_empty(), "{reason} is not explained");
        for condition in conditions.split(',') {
            let new = written.insert(format!("{} {}", condition.trim(), reason.trim_matches('`')));
            assert!(new, "twice: {condition} {reason}");
        }
    }
    let declared: BTreeSet<String> = CONDITIONS
        .iter()
        .flat_map(|condition| {
            [("True", condition.when_true), ("False", condition.when_false), ("Unknown", condition.unknown)].into_iter().flat_map(
                move |(status, reasons)| reasons.iter().map(move |reason| format!("{} {status} {reason}", condition.name)),
            )
        })
        .collect();
    let (missing, invented): (Vec<_>, Vec<_>) =
        (declared.difference(&written).collect(), written.difference(&declared).collect());
    assert!(missing.is_empty() && invented.is_empty(), "not explained: {missing:#?}; not declared: {invented:#?}");
}
