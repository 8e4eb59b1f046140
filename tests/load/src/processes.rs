//! The same work in several processes: a process may have so many files only, and one core does so much.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A process of ours that speaks lines of JSON. It ends with this value: its standard input does.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts a program.
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Self { input: child.stdin.take(), output: BufReader::new(output).lines(), child })
    }

    /// Starts this program with other arguments.
    pub(crate) fn own(arguments: &[String]) -> Result<Self, String> {
        Self::start(Command::new(own()?).args(arguments))
    }

    /// The same, of a process that measures no times of its own: it gives way to those that do.
    pub(crate) fn humble(arguments: &[String]) -> Result<Self, String> {
        Self::start(Command::new("nice").arg("-n10").arg(own()?).args(arguments))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            // One that has ended says so when it is listened to.
            let _ = writeln!(input, "{line}");
        }
    }

    /// The next line that has this member.
    pub(crate) fn hear(&mut self, member: &str) -> Result<Value, String> {
        loop {
            let Some(line) = self.output.next() else {
                return Err(format!("process {} ended before it said {member:?}", self.pid()));
            };
            let line = line.map_err(|error| error.to_string())?;
            let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
            if value.get(member).is_some() {
                return Ok(value);
            }
        }
    }

    /// Ends it, and hears its last word.
    pub(crate) fn end(&mut self, member: &str) -> Result<Value, String> {
        self.input = None;
        self.hear(member)
    }
}

fn own() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| error.to_string())
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        // It is given a moment to end by itself.
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
