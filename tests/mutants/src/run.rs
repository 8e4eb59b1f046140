//! Runs the tests once for each mutant.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::list::Mutant;

/// Seconds of processor time for the tests of one mutant: many times what they take. The clock is not asked: a machine may be busy.
const PROCESSOR_SECONDS: u64 = 60;
/// Bytes of memory for them.
const MEMORY: u64 = 4 << 30;
/// What most mutants are caught by, soon…
const FIRST: &[&str] = &["--skip", "simulation::"];
/// …and what is slow: whole rollouts.
const LAST: &[&str] = &["simulation::"];
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
    for tests in [FIRST, LAST] {
        let unchanged = run_tests(tests, binary, tree, 0)?;
        if !unchanged.status.success() {
            return Err(format!("the tests fail without a mutant:\n{}", String::from_utf8_lossy(&unchanged.stdout)).into());
        }
    }
    let mut counts = Counts::default();
    let (mut caught, mut timeout, mut missed) =
        (File::create(out.join("caught.txt"))?, File::create(out.join("timeout.txt"))?, File::create(out.join("missed.txt"))?);
    for (done, mutant) in (1..).zip(mutants) {
        let mut output = run_tests(FIRST, binary, tree, mutant.id)?;
        if output.status.success() {
            output = run_tests(LAST, binary, tree, mutant.id)?;
        }
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
