//! Runs the tests once for each mutant.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::list::Mutant;
use crate::removals::{FIRST_REMOVAL, REMOVALS};

/// Seconds of processor time for the tests of one mutant: many times what they take. The clock is not asked: a machine may be busy.
const PROCESSOR_SECONDS: u64 = 60;
/// Bytes of memory for them.
const MEMORY: u64 = 4 << 30;
const SIGXCPU: i32 = 24;
const SIGKILL: i32 = 9;

/// What came of the mutants.
#[derive(Default)]
pub struct Counts {
    caught: usize,
    timeout: usize,
    missed: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} caught, {} ran out of processor time, {} missed", self.caught, self.timeout, self.missed)
    }
}

/// Runs them, and lists as it goes: `caught.txt` with the tests that failed, `timeout.txt`, `missed.txt`.
///
/// # Errors
/// When the tests fail without a mutant.
pub fn run(binary: &Path, tree: &Path, out: &Path, mutants: &[&Mutant]) -> Result<Counts, Box<dyn Error>> {
    let unchanged = run_tests(&[], binary, tree, 0)?;
    if !unchanged.status.success() {
        return Err(format!("the tests fail without a mutant:\n{}", String::from_utf8_lossy(&unchanged.stdout)).into());
    }
    let mut counts = Counts::default();
    let (mut caught, mut timeout, mut missed) =
        (File::create(out.join("caught.txt"))?, File::create(out.join("timeout.txt"))?, File::create(out.join("missed.txt"))?);
    for (done, mutant) in (1..).zip(mutants) {
        let output = run_until_red(binary, tree, mutant)?;
        let name = &mutant.name;
        if output.status.success() {
            counts.missed += 1;
            writeln!(missed, "{name}")?;
            eprintln!("MISSED   {name}");
        } else if matches!(output.status.signal(), Some(SIGXCPU | SIGKILL)) {
            counts.timeout += 1;
            writeln!(timeout, "{name}")?;
            eprintln!("TIMEOUT  {name}");
        } else {
            counts.caught += 1;
            writeln!(caught, "{name}")?;
            for test in failed(&output) {
                writeln!(caught, "    {test}")?;
            }
        }
        if done % 50 == 0 {
            eprintln!("{done} of {}: {counts}", mutants.len());
        }
    }
    fs::write(out.join("counts.txt"), format!("{counts}\n"))?;
    Ok(counts)
}

/// Leaves out the line of each property, and lists in `removals.txt` whether its test failed; returns whether each did.
///
/// # Errors
/// When the tests cannot be started.
pub fn remove(binary: &Path, tree: &Path, out: &Path) -> Result<bool, Box<dyn Error>> {
    let mut list = File::create(out.join("removals.txt"))?;
    let mut all = true;
    for (number, removal) in (FIRST_REMOVAL..).zip(REMOVALS) {
        let failed = failed(&run_tests(&["scale::properties::"], binary, tree, number)?);
        let is_red = failed.iter().any(|test| test.ends_with(&format!("::{}", removal.property)));
        all &= is_red;
        let word = if is_red { "red" } else { "STILL GREEN" };
        let line = format!("{word}: {} without `{}` ({})", removal.property, removal.code, removal.file);
        writeln!(list, "{line}")?;
        eprintln!("{line}");
        for other in failed {
            writeln!(list, "    {other}")?;
        }
    }
    Ok(all)
}

/// The tests of its module, then its properties, then whole rollouts: what is slow is asked last.
fn run_until_red(binary: &Path, tree: &Path, mutant: &Mutant) -> std::io::Result<Output> {
    let steps: &[&[&str]] = if mutant.file.contains("/scale/") {
        &[&["scale::", "--skip", "scale::properties::"], &["scale::properties::"], &["simulation::"]]
    } else {
        &[&["rollout::"], &["simulation::"]]
    };
    let (last, before) = steps.split_last().expect("never empty");
    for tests in before {
        let output = run_tests(tests, binary, tree, mutant.id)?;
        if !output.status.success() {
            return Ok(output);
        }
    }
    run_tests(last, binary, tree, mutant.id)
}

fn run_tests(tests: &[&str], binary: &Path, tree: &Path, mutant: usize) -> std::io::Result<Output> {
    Command::new("nice")
        .args(["-n", "19", "prlimit"])
        .args([format!("--cpu={PROCESSOR_SECONDS}"), format!("--as={MEMORY}")])
        .arg(binary)
        .args(tests)
        .current_dir(tree.join("operator"))
        .env("MUTANT", mutant.to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
}

/// The tests that failed, by name.
fn failed(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    lines.map(str::to_owned).collect()
}
