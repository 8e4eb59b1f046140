//! Runs every mutant that cargo-mutants lists, with one compilation for all of them.
//!
//! ```text
//! list     the mutants, as `cargo mutants --list --json` writes them
//! switch   each into the source, behind a switch             a OP b → (if crate::is_mutant(7) { a OTHER b } else { a OP b })
//! build    the tests once; what does not compile is taken out again: it is unviable
//! run      the tests once for each mutant, with its switch on
//! ```
//!
//! `mcp-mutants LIST TREE OUT`: the list, the package it was made of, and the folder for what came of it. What
//! cannot be switched while it runs (constants, the arms of a match, functions that return an `impl Trait`) is left to cargo-mutants, in `left.txt`.

mod build;
mod list;
mod removals;
mod run;
mod switch;

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs, io};

use list::Mutant;
use removals::{FIRST_REMOVAL, REMOVALS};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = env::args().collect();
    let [_, list, tree, out] = arguments.as_slice() else { return Err("usage: mcp-mutants LIST TREE OUT".into()) };
    let (tree, out) = (Path::new(tree), Path::new(out));
    let mutants = list::read(Path::new(list))?;
    let (left, switchable): (Vec<&Mutant>, Vec<&Mutant>) = mutants.iter().partition(|mutant| !mutant.is_switchable());
    let originals = switch::originals(tree, &mutants)?;
    let mut unviable = BTreeSet::new();
    let binary = loop {
        let viable: Vec<_> = switchable.iter().copied().filter(|mutant| !unviable.contains(&mutant.id)).collect();
        let places = switch::write(tree, &originals, &viable, &mut unviable)?;
        eprintln!("{} mutants in one build, {} taken out", viable.len(), unviable.len());
        match build::build(tree, &places)? {
            build::Outcome::Built(binary) => break binary,
            build::Outcome::Refused(refused) => {
                if let Some(number) = refused.iter().find_map(|id| id.checked_sub(FIRST_REMOVAL)) {
                    return Err(format!("`{}` does not compile", REMOVALS[number].without).into());
                }
                unviable.extend(refused);
            }
        }
    };
    let note = |name: &str, wanted: &dyn Fn(&&Mutant) -> bool| -> io::Result<()> {
        let lines: String = mutants.iter().filter(wanted).map(|mutant| format!("{}\n", mutant.name)).collect();
        fs::write(out.join(name), lines)
    };
    note("left.txt", &|mutant| left.iter().any(|other| other.id == mutant.id))?;
    note("unviable.txt", &|mutant| unviable.contains(&mutant.id))?;
    let held = run::remove(&binary, tree, out)?;
    let viable = switchable.iter().filter(|mutant| !unviable.contains(&mutant.id));
    let counts = run::run(&binary, tree, out, &viable.copied().collect::<Vec<_>>())?;
    println!("{} mutants: {counts}, {} unviable, {} left to cargo-mutants", mutants.len(), unviable.len(), left.len());
    if held { Ok(()) } else { Err("a property holds without its line: removals.txt".into()) }
}
