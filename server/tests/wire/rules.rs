//! Every MUST and SHOULD of the transport pages → the row or the test that holds it, or why we deviate.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::table;

/// What begins a cell that names no test.
const WITHOUT: [&str; 2] = ["Deviation: ", "Nothing to test: "];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    folders
        .iter()
        .flat_map(|folder| sources(folder))
        .chain(files)
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// Functions that are tests, of the server and of the catalog compiler.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests", "../crds/src"].map(|folder| root.join(folder));
    let mut names = BTreeSet::new();
    for path in folders.iter().flat_map(|folder| sources(folder)) {
        let text = fs::read_to_string(&path).unwrap();
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            let name = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            match name {
                Some(name) if marked => drop(names.insert(name.to_owned())),
                _ => {}
            }
            marked = line.starts_with("#[test") || line.starts_with("#[tokio::test") || (marked && line.starts_with("#["));
        }
    }
    names
}

#[test]
fn every_rule_of_the_transport_pages_is_held_or_deviated_from_with_a_reason() {
    let rows: BTreeSet<String> = table::read().into_iter().map(|row| row.name).collect();
    let tests = tests();
    let document = table::document();
    let section = document.split("\n## Every MUST and SHOULD").nth(1).expect("the section").split("\n## ").next().unwrap();
    let mut rules = 0;
    let mut wrong = Vec::new();
    for line in section.lines().filter(|line| line.starts_with("| §")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [place, rule, held] = cells[..] else { panic!("not three cells: {line}") };
        assert!(rule.contains("MUST") || rule.contains("SHOULD"), "{line}");
        rules += 1;
        let named: Vec<_> = held.split('`').skip(1).step_by(2).collect();
        let unknown: Vec<_> = named.iter().filter(|name| !rows.contains(**name) && !tests.contains(**name)).collect();
        if !unknown.is_empty() || (named.is_empty() && !WITHOUT.iter().any(|without| held.starts_with(without))) {
            wrong.push(format!("{place}: {rule}: {unknown:?} in {held:?}"));
        }
    }
    assert!(rules > 40, "{rules} rules");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
