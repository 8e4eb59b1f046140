//! The answer table of `docs/protocol.md`: what comes back for each input that is wrong, odd or rare, in bytes over TCP.
//!
//! A row here is what is sent; what must come back is read from the document, so that the two cannot differ. The last test
//! holds that both name the same rows.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "../harness/mod.rs"]
mod harness;

mod ask;
mod callers;
mod from_where;
mod http;
mod json;
mod leaks;
mod legacy;
mod modern;
mod params;
mod resume;
mod row;
mod rules;
mod streams;
mod table;
mod wire;
mod world;

use std::collections::BTreeSet;

use row::Row;
use world::World;

/// The rows that are a request and its answer.
fn sections(world: &World) -> Vec<(&'static str, Vec<Row>)> {
    vec![
        ("from where", from_where::rows(world)),
        ("HTTP", http::rows(world)),
        ("JSON and JSON-RPC", json::rows(world)),
        ("parameters", params::rows(world)),
        ("2026-07-28", modern::rows(world)),
        ("2025-11-25 and older", legacy::rows(world)),
    ]
}

/// The rows that take more than one request each have a test, of their name.
const TESTS: &[&[&str]] = &[streams::NAMES, leaks::NAMES, callers::NAMES, resume::NAMES];

#[tokio::test]
async fn every_answer_is_that_of_the_table() {
    let world = World::start().await;
    let mut wrong = Vec::new();
    for (section, rows) in sections(&world) {
        for row in rows {
            let failures = row.check(&world).await;
            wrong.extend(failures.into_iter().map(|failure| format!("{section}: {failure}")));
        }
    }
    assert!(wrong.is_empty(), "{} differ from docs/protocol.md:\n{}", wrong.len(), wrong.join("\n"));
    world.is_as_it_was().await;
}

#[tokio::test]
async fn the_document_and_the_tests_name_the_same_rows() {
    let world = World::start().await;
    let written: BTreeSet<String> = table::read().into_iter().map(|expected| expected.name).collect();
    let mut tested = BTreeSet::new();
    for row in sections(&world).into_iter().flat_map(|(_, rows)| rows) {
        assert!(tested.insert(row.name.to_owned()), "{} is there twice", row.name);
    }
    for name in TESTS.iter().copied().flatten() {
        assert!(tested.insert((*name).to_owned()), "{name} is there twice");
    }
    let missing: Vec<_> = written.difference(&tested).collect();
    let unwritten: Vec<_> = tested.difference(&written).collect();
    assert!(missing.is_empty() && unwritten.is_empty(), "without a test: {missing:?}; not in the document: {unwritten:?}");
}
