//! Which way imports go. Crate walls alone leak, because cargo unifies features; so each wall is held here, by file.
//!
//! A wall that is in the way is moved here, with its reason, and not climbed.
#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "layering/imports.rs"]
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

/// Files that must never name certain paths.
struct Wall {
    because: &'static str,
    /// A file without `.rs`, or a folder.
    files: &'static [&'static str],
    never: &'static [&'static str],
}

/// What moves bytes, reads clocks or draws randomness. `kube` is not in it: its types are data.
const EDGES: &[&str] = &[
    "kube::Api",
    "kube::Client",
    "kube::api::Api",
    "kube::client",
    "kube::config",
    "kube::runtime",
    "hyper",
    "hyper_util",
    "reqwest",
    "tokio",
    "rustls",
    "ring::rand",
    "rand",
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "tracing",
];

/// The operator's files that only move bytes.
const OPERATOR_EDGE: &[&str] = &[
    "crate::admin",
    "crate::apply",
    "crate::client",
    "crate::controller",
    "crate::events",
    "crate::leader",
    "crate::metrics",
    "crate::observe",
    "crate::reconcile",
    "crate::references",
    "crate::shards",
    "crate::telemetry",
];

/// The operator's judgement: each file is one step and knows no other.
const OPERATOR_CORE: &[&str] =
    &["crate::scale", "crate::rollout", "crate::desired", "crate::flip", "crate::keys", "crate::status"];

const WALLS: &[Wall] = &[
    Wall { because: "operator and server meet only in crds", files: &["operator/src", "crds/src"], never: &["mcp_server"] },
    Wall { because: "operator and server meet only in crds", files: &["server/src", "crds/src"], never: &["mcp_operator"] },
    Wall { because: "the contract performs no IO, reads no clock, draws no randomness", files: &["crds/src"], never: EDGES },
    Wall {
        because: "vocabulary and judgement are pure: time and randomness are arguments",
        files: &[
            "operator/src/names",
            "operator/src/words",
            "operator/src/stages",
            "operator/src/scale",
            "operator/src/rollout",
            "operator/src/desired",
            "operator/src/flip",
            "operator/src/keys",
            "operator/src/status",
            "operator/src/budget",
            "operator/src/explain",
        ],
        never: EDGES,
    },
    Wall {
        because: "the core does not know the edge, nor the order of the steps",
        files: &[
            "operator/src/names",
            "operator/src/words",
            "operator/src/stages",
            "operator/src/scale",
            "operator/src/rollout",
            "operator/src/desired",
            "operator/src/flip",
            "operator/src/keys",
            "operator/src/status",
            "operator/src/budget",
            "operator/src/explain",
        ],
        never: OPERATOR_EDGE,
    },
    Wall {
        because: "the vocabulary comes before every judgement",
        files: &["operator/src/names", "operator/src/words", "operator/src/stages"],
        never: OPERATOR_CORE,
    },
    Wall {
        because: "only reconcile knows the order of the steps",
        files: &["operator/src/scale"],
        never: &["crate::rollout", "crate::desired", "crate::flip", "crate::status", "crate::keys"],
    },
    Wall {
        because: "only reconcile knows the order of the steps",
        files: &["operator/src/rollout"],
        never: &["crate::scale", "crate::desired", "crate::flip", "crate::status", "crate::keys"],
    },
    Wall {
        because: "only reconcile knows the order of the steps",
        files: &["operator/src/desired"],
        never: &["crate::scale", "crate::rollout", "crate::flip", "crate::status", "crate::keys"],
    },
    Wall {
        because: "only reconcile knows the order of the steps",
        files: &["operator/src/status"],
        never: &["crate::scale", "crate::rollout", "crate::desired", "crate::flip", "crate::keys"],
    },
    Wall {
        because: "only reconcile knows the order of the steps",
        files: &["operator/src/flip"],
        never: &["crate::scale", "crate::rollout", "crate::desired", "crate::status", "crate::keys"],
    },
    Wall {
        because: "only reconcile knows the order of the steps",
        files: &["operator/src/keys"],
        never: &["crate::scale", "crate::rollout", "crate::desired", "crate::flip", "crate::status"],
    },
    Wall {
        because: "what explains a decision takes none itself",
        files: &["operator/src/explain"],
        never: &["crate::rollout", "crate::desired", "crate::flip", "crate::status", "crate::keys"],
    },
    Wall {
        because: "the edge moves bytes and judges nothing",
        files: &[
            "operator/src/observe",
            "operator/src/apply",
            "operator/src/events",
            "operator/src/references",
            "operator/src/shards",
        ],
        never: OPERATOR_CORE,
    },
    Wall {
        because: "only reconcile knows the order of the steps",
        files: &[
            "operator/src/observe",
            "operator/src/apply",
            "operator/src/events",
            "operator/src/references",
            "operator/src/shards",
        ],
        never: &["crate::reconcile", "crate::controller"],
    },
    Wall {
        because: "protocol and handlers know no transport",
        files: &["server/src/jsonrpc", "server/src/mcp", "server/src/handlers"],
        never: &[
            "hyper",
            "hyper_util",
            "http",
            "http_body",
            "http_body_util",
            "tokio::net",
            "std::net",
            "crate::http",
            "crate::listener",
            "crate::sse",
            "crate::hub",
        ],
    },
    Wall {
        because: "what a request says to its client, and what goes on without one, knows no connection and no era's wire",
        files: &["server/src/exchange", "server/src/tasks", "server/src/session"],
        never: &[
            "hyper",
            "hyper_util",
            "http",
            "http_body",
            "tokio::net",
            "std::net",
            "crate::http",
            "crate::listener",
            "crate::era",
            "crate::handlers",
        ],
    },
    Wall {
        because: "what shards say to each other, and what they remember, is decided without sockets, clocks and randomness",
        files: &[
            "server/src/peers/wire",
            "server/src/peers/handshake",
            "server/src/peers/events",
            "server/src/session/revocations",
            "server/src/session/records",
            "server/src/session/shelf",
            "server/src/session/uris",
            "server/src/tasks/id",
            "server/src/tasks/record",
            "server/src/tasks/said",
        ],
        never: EDGES,
    },
    Wall {
        because: "who wants what, and in which bytes, is decided without sockets and clocks",
        files: &["server/src/hub/encode", "server/src/hub/index", "server/src/hub/sessions", "server/src/hub/slab"],
        never: EDGES,
    },
    Wall {
        because: "shards tell each other what happened; what a request was is not theirs to know",
        files: &["server/src/peers"],
        never: &["crate::http", "crate::listener", "crate::era", "crate::handlers", "crate::dispatch", "crate::jsonrpc"],
    },
    Wall { because: "http knows dispatch, not what dispatch calls", files: &["server/src/http"], never: &["crate::handlers"] },
];

/// A path behind a wall.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    file: String,
    line: usize,
    path: String,
    because: &'static str,
}

fn breaches(file: &str, source: &str, walls: &[Wall]) -> Vec<Breach> {
    let walls: Vec<_> = walls.iter().filter(|wall| wall.files.iter().any(|prefix| covers(prefix, file))).collect();
    if walls.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for named in imports::named(source, &module_of(file)) {
        for wall in &walls {
            if wall.never.iter().any(|forbidden| is_within(&named.path, forbidden)) {
                let (file, path) = (file.to_owned(), named.path.clone());
                found.push(Breach { file, line: named.line, path, because: wall.because });
            }
        }
    }
    found
}

/// Whether `file` is the file or lies in the folder that `prefix` names.
fn covers(prefix: &str, file: &str) -> bool {
    file.strip_prefix(prefix).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Whether `path` is `forbidden`, leads into it, or is a glob that brings it in.
fn is_within(path: &str, forbidden: &str) -> bool {
    let into = path.strip_prefix(forbidden).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let glob = path.strip_suffix('*').is_some_and(|prefix| forbidden.starts_with(prefix) && !prefix.is_empty());
    into || glob
}

/// `operator/src/scale/decide.rs` → `["crate", "scale", "decide"]`
fn module_of(file: &str) -> Vec<String> {
    let inner = file.split_once("/src/").map_or(file, |(_, inner)| inner).trim_end_matches(".rs");
    let parts = inner.split('/').filter(|part| !["lib", "main", "mod"].contains(part));
    std::iter::once("crate").chain(parts).map(str::to_owned).collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every source file of the three crates that is not a test, relative to the repository.
fn sources() -> Vec<(String, String)> {
    let (root, mut found) = (repository(), Vec::new());
    let mut folders: Vec<_> = ["crds/src", "operator/src", "server/src"].map(|folder| root.join(folder)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && name != "tests" && !name.ends_with("_tests") {
                let file = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                found.push((file, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn imports_go_one_way() {
    let found: Vec<_> = sources().iter().flat_map(|(file, source)| breaches(file, source, WALLS)).collect();
    let shown: Vec<_> = found.iter().map(|b| format!("  {}:{} names {}: {}", b.file, b.line, b.path, b.because)).collect();
    assert!(found.is_empty(), "{} breaches:\n{}", found.len(), shown.join("\n"));
}

#[test]
fn every_wall_guards_a_file() {
    let files: Vec<_> = sources().into_iter().map(|(file, _)| file).collect();
    let prefixes = WALLS.iter().flat_map(|wall| wall.files);
    let idle: Vec<_> = prefixes.filter(|prefix| !files.iter().any(|file| covers(prefix, file))).collect();
    assert!(idle.is_empty(), "walls around files that do not exist: {idle:?}");
}

#[test]
fn a_planted_breach_is_found_with_its_file_and_line() {
    let planted = "//! Pure.\n\nuse std::{collections::BTreeMap, time::{Duration, Instant}};\n";
    let found = breaches("operator/src/scale/decide.rs", planted, WALLS);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].file.as_str(), found[0].line), ("operator/src/scale/decide.rs", 3));
    assert_eq!(found[0].path, "std::time::Instant");
}

#[test]
fn a_breach_is_found_however_it_is_written() {
    for (file, source) in [
        ("operator/src/desired/pod.rs", "use kube::{Resource, Client};"),
        ("operator/src/desired/pod.rs", "use kube::*;"),
        ("operator/src/desired/pod.rs", "fn f() { tokio::spawn(async {}); }"),
        ("operator/src/desired/pod.rs", "use kube::api;\nfn f(a: api::Api<Pod>) {}"),
        ("operator/src/rollout.rs", "use super::scale::Decision;"),
        ("operator/src/scale/mod.rs", "use crate::{names, status};"),
        ("operator/src/observe.rs", "fn f() { crate::scale::decide(); }"),
        ("server/src/handlers/tools.rs", "use http::StatusCode;"),
        ("server/src/http.rs", "use crate::handlers;"),
        ("server/src/main.rs", "use mcp_operator::names;"),
        ("crds/src/shard.rs", "fn f() { let _ = std::env::var(\"HOME\"); }"),
    ] {
        assert_eq!(breaches(file, source, WALLS).len(), 1, "{file}: {source}");
    }
}

#[test]
fn what_is_allowed_is_not_a_breach() {
    for (file, source) in [
        ("operator/src/desired/pod.rs", "use kube::{Resource, ResourceExt, api::ObjectMeta};\nuse std::time::Duration;"),
        ("operator/src/reconcile.rs", "use crate::{scale, rollout, desired, status, observe};\nuse kube::Client;"),
        ("operator/src/scale/decide.rs", "use super::policy::Policy; // not tokio::time\n"),
        ("operator/src/scale/decide.rs", "#[cfg(test)]\nmod tests { use std::time::Instant; }"),
        ("server/src/handlers/tools.rs", "use serde_json::Value; const HINT: &str = \"hyper::Body\";"),
        ("server/src/listener.rs", "use tokio::net::TcpListener;"),
    ] {
        assert_eq!(breaches(file, source, WALLS), [], "{file}: {source}");
    }
}
