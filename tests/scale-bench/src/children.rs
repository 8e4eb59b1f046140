//! The programs a run starts: they end with it, whatever ends it, and what they say is in files.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use mcp_tests::failure::While as _;
use mcp_tests::{Failure, Outcome};
use tokio::process::{Child as Process, Command};

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: Process,
    id: u32,
}

impl Child {
    /// Starts a program with these words; its output goes to `NAME.log` in the folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(name: &str, program: &Path, words: &[String], folder: &Path) -> Outcome<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).doing(&log.display().to_string())?;
        let errors = output.try_clone().doing("the log")?;
        // `setpriv` becomes the program, and the kernel ends that when this process ends.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .doing(&format!("starting {}", program.display()))?;
        let id = process.id().ok_or_else(|| Failure::new(format!("{name} ended at once: see {}", log.display())))?;
        Ok(Self { name: name.to_owned(), process, id })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// SIGKILL, and returns when it is gone.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(crate) async fn kill(&mut self) -> Outcome {
        self.process.kill().await.doing(&format!("ending {}", self.name))
    }

    /// Fails when it is no more.
    ///
    /// # Errors
    /// How it ended.
    pub(crate) fn still_runs(&mut self) -> Outcome {
        match self.process.try_wait().doing(&self.name)? {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!("{} ended with {status}: see its log", self.name))),
        }
    }
}
