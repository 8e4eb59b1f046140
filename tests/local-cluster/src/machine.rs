//! Who holds this machine. The names of namespaces, links and control groups are the machine's, so
//! there is one cluster on it; a record under `/run` says in which state folder.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result, Step};
use crate::progress::say;
use crate::state::State;
use crate::wait::{self, Poll};

const RECORD: &str = "/run/local-cluster.json";
/// Where the nodes' mount namespaces are kept: a mount of its own, because one that is shared with
/// other namespaces cannot hold them.
pub(crate) const MOUNT_NAMESPACES: &str = "/run/local-cluster";

/// The record's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    state: PathBuf,
}

/// The machine, locked: no other command of this tool changes the cluster meanwhile.
pub(crate) struct Machine {
    lock: Flock<File>,
}

impl Machine {
    /// Waits for the lock, saying so if that takes a while.
    pub(crate) fn lock() -> Result<Self> {
        loop {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(RECORD).at("opening", RECORD)?;
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((file, Errno::EWOULDBLOCK)) => {
                    say("waiting for another local-cluster command on this machine");
                    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).step(format!("locking {RECORD}"))?
                }
                Err((_, errno)) => return Err(errno).step(format!("locking {RECORD}")),
            };
            // `down` removes the file: a lock on a file that is not there any more locks nothing.
            let locked = lock.metadata().at("reading", RECORD)?.ino();
            if fs::metadata(RECORD).is_ok_and(|now| now.ino() == locked) {
                return Ok(Self { lock });
            }
        }
    }

    /// The state folder on record.
    pub(crate) fn holder(&mut self) -> Result<Option<PathBuf>> {
        let mut text = String::new();
        self.lock.rewind().and_then(|()| self.lock.read_to_string(&mut text)).at("reading", RECORD)?;
        Ok(parse(&text))
    }

    /// Puts a state folder on record.
    pub(crate) fn hold(&mut self, state: &Path) -> Result<()> {
        let text = render(state);
        self.lock
            .set_len(0)
            .and_then(|()| self.lock.rewind())
            .and_then(|()| self.lock.write_all(text.as_bytes()))
            .at("writing", RECORD)
    }

    /// Removes the record, and with it the lock.
    pub(crate) fn release(self) -> Result<()> {
        fs::remove_file(RECORD).at("removing", RECORD)?;
        // Not before: whoever waits for the lock must find the file gone.
        drop(self.lock);
        Ok(())
    }

    /// Refuses if another state folder's cluster lives on this machine.
    pub(crate) fn refuse_foreign(&mut self, state: &Path) -> Result<()> {
        match self.holder()? {
            Some(holder) if holder != state && is_alive(&holder) => Err(foreign(&holder)),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether a part of the cluster in this state folder lives, and goes on to: those that were killed a
/// moment ago are given one to end in. A cluster whose record is gone, or cannot be read, cannot be used
/// either: it holds nothing.
fn is_alive(holder: &Path) -> bool {
    let ended = wait::until("the end of the holder", Duration::from_millis(500), || {
        let record = State::at(holder.to_owned()).and_then(|state| state.load());
        let lives = record.is_ok_and(|record| record.is_alive());
        Ok(if lives { Poll::Pending("it lives".into()) } else { Poll::Ready(()) })
    });
    ended.is_err()
}

/// The state folder on record, without the lock: for commands that only look.
pub(crate) fn recorded_holder() -> Option<PathBuf> {
    parse(&fs::read_to_string(RECORD).ok()?)
}

/// The refusal that names who holds the machine.
pub(crate) fn foreign(holder: &Path) -> Error {
    Error::Refused(format!(
        "this machine is held by the cluster in {0}\n\
         use it with `--state {0}`, or remove it with `local-cluster --state {0} down`",
        holder.display()
    ))
}

/// A record that cannot be read is none: it was being written when its writer died.
fn parse(text: &str) -> Option<PathBuf> {
    serde_json::from_str::<Holder>(text).ok().map(|holder| holder.state)
}

fn render(state: &Path) -> String {
    serde_json::json!({ "state": state }).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_survives_being_written() {
        let state = Path::new("/home/me/a checkout/.cache/local-cluster/state");
        assert_eq!(parse(&render(state)).as_deref(), Some(state));
    }

    #[test]
    fn a_record_cut_short_is_none() {
        for text in ["", "{\"state\": \"/ho", "null", "{}"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_refusal_tells_how_to_use_and_how_to_remove_the_holder() {
        let text = foreign(Path::new("/a/state")).to_string();
        assert!(text.contains("--state /a/state") && text.contains("--state /a/state down"), "{text}");
    }
}
