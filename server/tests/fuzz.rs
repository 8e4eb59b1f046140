//! Every corpus of the fuzz targets, replayed on stable Rust, whole and cut short at many places.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../fuzz/targets.rs"]
#[allow(clippy::expect_used, unreachable_pub, missing_docs)]
mod targets;

use std::fs;
use std::path::Path;

/// How many beginnings of each file are tried.
const CUTS: usize = 48;

#[test]
fn every_corpus_is_read_without_a_panic_and_keeps_its_promises() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpora.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 5, "the corpus of {name} has {} files", files.len());
        for file in files {
            let data = fs::read(&file).unwrap();
            println!("{}", file.display());
            target(&data);
            for end in (0..data.len()).step_by(data.len() / CUTS + 1) {
                target(&data[..end]);
            }
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for folder in fs::read_dir(corpora).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(targets::TARGETS.iter().any(|(name, _)| *name == folder), "{folder}");
    }
}
