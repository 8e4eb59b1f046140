//! The machine under the local cluster: nodes that lose their cable or their power, parts that stop, and all of it undone.

use std::path::PathBuf;
use std::process::{Command as Blocking, Stdio};

use tokio::process::Command;

use crate::failure::{Failure, Outcome};
use crate::run::Run;
use crate::target::{Target, output};

/// The machine under the local cluster.
#[derive(Clone, Debug)]
pub struct Machine {
    program: PathBuf,
}

/// A node that a test disturbs: whatever becomes of the test, it is back when this is dropped, with its cable, its processes
/// and its place in the scheduler's list.
#[derive(Debug)]
pub struct Disturbed {
    machine: Machine,
    node: String,
    is_back: bool,
}

/// A part that a test pauses or kills: it runs again when this is dropped.
#[derive(Debug)]
pub struct Stopped {
    machine: Machine,
    part: String,
}

/// A node that a test added: it is gone when this is dropped.
#[derive(Debug)]
pub struct Added {
    machine: Machine,
    node: String,
    is_gone: bool,
}

// === impl Machine ===

impl Machine {
    /// The machine of a run on the local cluster.
    ///
    /// # Errors
    /// When the run is on another cluster.
    pub fn of(run: &Run) -> Outcome<Self> {
        match &run.target {
            Target::Local { program } => Ok(Self { program: program.clone() }),
            Target::Context(_) => Err(Failure::new("only the local cluster's machine is at hand")),
        }
    }

    /// What `local-cluster` prints, called with these words.
    ///
    /// # Errors
    /// When it does not succeed; the failure carries what it said.
    pub async fn run(&self, words: &[&str]) -> Outcome<String> {
        output(Command::new(&self.program).args(words)).await
    }

    /// What `local-cluster` prints, called with these words, whether it succeeds or not.
    ///
    /// # Errors
    /// When it cannot be called.
    pub async fn said(&self, words: &[&str]) -> Outcome<String> {
        let output = Command::new(&self.program).args(words).stdin(Stdio::null()).kill_on_drop(true).output().await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Takes a node under the care of a guard, and disturbs nothing yet.
    pub fn disturb(&self, node: &str) -> Disturbed {
        Disturbed { machine: self.clone(), node: node.to_owned(), is_back: false }
    }

    /// Adds a node whose pods may use so much memory (`512Mi`), and waits until it is Ready.
    ///
    /// # Errors
    /// When there is such a node, or it does not become Ready.
    pub async fn add(&self, node: &str, memory: &str) -> Outcome<Added> {
        let known = self.run(&["exec", "--", "kubectl", "get", "nodes", "-o", "name"]).await?;
        if known.lines().any(|name| name == format!("node/{node}")) {
            return Err(Failure::new(format!("there is a {node}; `local-cluster leave {node}` removes it")));
        }
        let added = Added { machine: self.clone(), node: node.to_owned(), is_gone: false };
        self.run(&["join", node, "--node-memory", memory]).await?;
        Ok(added)
    }

    /// Takes a part under the care of a guard, and stops nothing yet.
    pub fn stop(&self, part: &str) -> Stopped {
        Stopped { machine: self.clone(), part: part.to_owned() }
    }

    /// As [`Machine::run`], where nothing can be awaited any more; failures are printed.
    fn restore(&self, words: &[&str]) {
        let done = Blocking::new(&self.program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !done.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("local-cluster {}: {done:?}", words.join(" "));
        }
    }
}

// === impl Disturbed ===

impl Disturbed {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.node
    }

    /// Pulls its cable.
    ///
    /// # Errors
    /// When that fails.
    pub async fn cut(&self) -> Outcome {
        self.machine.run(&["cut", &self.node]).await.map(drop)
    }

    /// Ends everything on it at once: kubelet, shims and containers.
    ///
    /// # Errors
    /// When that fails.
    pub async fn kill(&self) -> Outcome {
        self.machine.run(&["kill", &self.node]).await.map(drop)
    }

    /// Ends its kubelet alone.
    ///
    /// # Errors
    /// When that fails.
    pub async fn kill_kubelet(&self) -> Outcome {
        self.machine.run(&["kill", &format!("kubelet/{}", self.node)]).await.map(drop)
    }

    /// Brings it back, and waits until it is Ready.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn bring_back(&mut self) -> Outcome {
        // The cable first: a node that starts without one is not Ready.
        self.machine.run(&["join", &self.node]).await?;
        self.machine.run(&["start", &self.node]).await?;
        self.machine.run(&["exec", "--", "kubectl", "uncordon", &self.node]).await?;
        self.is_back = true;
        Ok(())
    }
}

impl Drop for Disturbed {
    fn drop(&mut self) {
        if !self.is_back {
            self.machine.restore(&["join", &self.node]);
            self.machine.restore(&["start", &self.node]);
            self.machine.restore(&["exec", "--", "kubectl", "uncordon", &self.node]);
        }
    }
}

// === impl Added ===

impl Added {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.node
    }

    /// Removes it, with what runs on it.
    ///
    /// # Errors
    /// When that fails.
    pub async fn leave(mut self) -> Outcome {
        self.machine.run(&["leave", &self.node]).await?;
        self.is_gone = true;
        Ok(())
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        if !self.is_gone {
            self.machine.restore(&["leave", &self.node]);
        }
    }
}

// === impl Stopped ===

impl Stopped {
    /// Stops it where it is: it keeps its connections and does not answer.
    ///
    /// # Errors
    /// When that fails.
    pub async fn pause(&self) -> Outcome {
        self.machine.run(&["pause", &self.part]).await.map(drop)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When that fails.
    pub async fn resume(&self) -> Outcome {
        self.machine.run(&["resume", &self.part]).await.map(drop)
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// When that fails.
    pub async fn kill(&self) -> Outcome {
        self.machine.run(&["kill", &self.part]).await.map(drop)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When that fails.
    pub async fn start(&self) -> Outcome {
        self.machine.run(&["start", &self.part]).await.map(drop)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Whichever it needs; a part that runs takes both without harm.
        self.machine.restore(&["resume", &self.part]);
        self.machine.restore(&["start", &self.part]);
    }
}
