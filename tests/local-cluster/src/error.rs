//! What can go wrong, named for the step that failed. The cause comes through `source()`.

use std::path::PathBuf;
use std::process::ExitStatus;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a step. Messages are written for the person who has to act on them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("running {program}")]
    Run { program: String, source: std::io::Error },
    #[error("{command} ended with {status}{}", said(stderr))]
    Failed { command: String, status: ExitStatus, stderr: String },
    #[error("{step}")]
    System { step: String, source: nix::errno::Errno },
    #[error("making a certificate for {subject}")]
    Certificate { subject: String, source: rcgen::Error },
    #[error("{what} was not true after {seconds} s{}", said(detail))]
    TimedOut { what: String, seconds: u64, detail: String },
    #[error("{part} ended while the cluster was coming up; the end of {}:\n{tail}", log.display())]
    Died { part: String, log: PathBuf, tail: String },
    #[error("the state record {} is not readable", path.display())]
    Record { path: PathBuf, source: serde_json::Error },
    /// A refusal: nothing is wrong with the machine, the request cannot be met as it stands.
    #[error("{0}")]
    Refused(String),
}

fn said(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(":\n{text}") }
}

/// Gives an input/output error the path and the action it belongs to.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::File { action, path: path.into(), source })
    }
}

/// Gives a system call's error the step it belongs to.
pub(crate) trait Step<T> {
    fn step(self, step: impl Into<String>) -> Result<T>;
}

impl<T> Step<T> for nix::Result<T> {
    fn step(self, step: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::System { step: step.into(), source })
    }
}
