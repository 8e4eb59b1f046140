//! A cluster as a whole: its state folder with its record, and starting, asking and signalling its parts.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{line, place};
use crate::error::{At, Error, Result};
use crate::part::Part;
use crate::process::{Identity, Life};
use crate::run::{command, describe, output};
use crate::state::{Record, State};
use crate::wait::{self, Poll};

/// What parts see of the environment: nothing of the caller's, whose proxies and settings are not theirs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A cluster on this machine.
pub(crate) struct Cluster {
    pub state: State,
    pub record: Record,
}

impl Cluster {
    /// The cluster of a state folder that is up, wholly or in part.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is none; it names the folder of one that there is instead.
    pub(crate) fn find(state: State) -> Result<Self> {
        let record = state.load()?;
        if record.complete {
            return Ok(Self { state, record });
        }
        Err(match crate::machine::recorded_holder() {
            Some(holder) if holder != state.dir() => crate::machine::foreign(&holder),
            Some(_) | None => Error::Refused("no cluster is up; `local-cluster up` brings one up".into()),
        })
    }

    pub(crate) fn life(&self, part: Part) -> Life {
        self.record.process(part).map_or(Life::Dead, Identity::life)
    }

    /// Starts a part that is not running and puts it on record. Returns whether it had to be started.
    pub(crate) fn start(&mut self, part: Part) -> Result<bool> {
        match self.life(part) {
            Life::Running | Life::Paused => return Ok(false),
            Life::Ending => self.wait_for_end(part)?,
            Life::Dead => (),
        }
        let words = line(part, &self.state, &self.record.programs);
        let (program, args) = words.split_first().expect("a command line begins with a program");
        let path = self.state.log(part);
        let mut log = OpenOptions::new().create(true).append(true).open(&path).at("opening", &path)?;
        writeln!(log, "--- {}", words.join(" ")).at("writing", &path)?;
        let errors = log.try_clone().at("opening", &path)?;
        let mut command = place(part).command(program)?;
        command.args(args).env_clear().env("PATH", PATH).stdin(Stdio::null()).stdout(log).stderr(errors).current_dir("/");
        let name = describe(&command);
        let child = command.spawn().map_err(|source| Error::Run { program: name, source })?;
        let pid = i32::try_from(child.id()).expect("a pid fits its own type");
        // It is our child until this program ends, so its pid cannot have been reused.
        let identity = Identity::of(pid, part.program()).ok_or_else(|| self.died(part))?;
        self.record.processes.insert(part.to_string(), identity);
        self.state.save(&self.record)?;
        Ok(true)
    }

    /// Signals a part, and waits for the end of one that was killed.
    pub(crate) fn signal(&self, part: Part, signal: Signal) -> Result<()> {
        let process = self.record.process(part).ok_or_else(|| self.no_such_part(part))?;
        if !process.signal(signal)? {
            return Err(Error::Refused(format!("{part} is not running")));
        }
        let wanted = match signal {
            Signal::SIGKILL => Life::Dead,
            Signal::SIGSTOP => Life::Paused,
            _ => Life::Running,
        };
        wait::until(&format!("{part} {wanted:?}"), Duration::from_secs(10), || {
            let life = process.life();
            Ok(if life == wanted { Poll::Ready(()) } else { Poll::Pending(format!("{life:?}")) })
        })
    }

    fn wait_for_end(&self, part: Part) -> Result<()> {
        wait::until(&format!("the end of {part}"), Duration::from_secs(10), || {
            let life = self.life(part);
            Ok(if life == Life::Dead { Poll::Ready(()) } else { Poll::Pending(format!("{life:?}")) })
        })
    }

    pub(crate) fn no_such_part(&self, part: Part) -> Error {
        let known = self.record.parts().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Error::Refused(format!("this cluster has no {part}; it has {known}"))
    }

    /// A kubectl of this cluster, with the administrator's rights.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Command {
        let mut kubectl = command(self.record.programs.kubectl(), args.iter().copied());
        kubectl
            .env_clear()
            .env("PATH", PATH)
            .env("KUBECONFIG", self.state.kubeconfig())
            .env("KUBECACHEDIR", self.state.dir().join("kubectl-cache"));
        kubectl
    }

    /// Creates objects, or brings those that are there to this form.
    pub(crate) fn apply(&self, object: &Value, name: &str) -> Result<()> {
        let path = self.state.config().join(format!("{name}.json"));
        self.state.write(&path, &format!("{object:#}\n"))?;
        let path = path.display().to_string();
        output(&mut self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path])).map(drop)
    }

    /// Waits for a condition of the cluster, and gives up at once when one of these parts ends.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        parts: &[Part],
        mut condition: impl FnMut() -> Poll<T>,
    ) -> Result<T> {
        wait::until(what, limit, || match parts.iter().find(|part| matches!(self.life(**part), Life::Dead | Life::Ending)) {
            Some(part) => Err(self.died(*part)),
            None => Ok(condition()),
        })
    }

    fn died(&self, part: Part) -> Error {
        let log = self.state.log(part);
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        Error::Died { part: part.to_string(), log, tail }
    }
}
