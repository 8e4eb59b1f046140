//! Processes on record: who they are, whether they live, and signals to them and to nobody else.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Result, Step};

/// A process beyond doubt. Pids are reused; a pid with a start time is not, and the program's name
/// must be in the command line as well, should the clock ticks ever agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub start: u64,
    pub program: String,
}

/// What a process on record is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    /// Stopped by SIGSTOP.
    Paused,
    /// Killed, and about to be gone: it may still hold its port and its files.
    Ending,
    /// Ended, whether or not its parent has noticed.
    Dead,
}

impl Identity {
    /// The identity of a process that was just started and cannot have been reaped by anyone else.
    pub(crate) fn of(pid: i32, program: &str) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self { pid, start: stat.start, program: program.to_owned() })
    }

    pub(crate) fn life(&self) -> Life {
        // The command line first: were it the other way, one that ends in between would look like one in exec.
        let cmdline = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        Stat::read(self.pid).map_or(Life::Dead, |stat| self.judge(&stat, &cmdline))
    }

    fn judge(&self, stat: &Stat, cmdline: &[u8]) -> Life {
        // Without a command line it either ends, as that goes with the memory and before the last thread,
        // or is in the middle of execve(2), where the new memory has none yet.
        if stat.start != self.start || !(cmdline.is_empty() || mentions(cmdline, &self.program)) {
            return Life::Dead;
        }
        match stat.state {
            _ if stat.is_over() => Life::Dead,
            _ if stat.exiting() => Life::Ending,
            'T' => Life::Paused,
            _ => Life::Running,
        }
    }

    /// Signals the process. Returns whether it was there to be signalled.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool> {
        if self.life() == Life::Dead {
            return Ok(false);
        }
        match nix::sys::signal::kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(nix::errno::Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno).step(format!("sending {signal} to {}", self.program)),
        }
    }
}

/// Whether one of the arguments is a path to `program`.
fn mentions(cmdline: &[u8], program: &str) -> bool {
    cmdline
        .split(|byte| *byte == 0)
        .filter_map(|argument| std::str::from_utf8(argument).ok())
        .any(|argument| Path::new(argument).file_name().is_some_and(|name| name == program))
}

/// Whether a process has ended, wholly: nothing of it holds a port or a file any more.
pub(crate) fn is_over(pid: i32) -> bool {
    Stat::read(pid).is_none_or(|stat| stat.is_over())
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    /// The `PF_*` of the kernel's `include/linux/sched.h`.
    flags: u32,
    threads: u32,
    start: u64,
}

impl Stat {
    /// `PF_EXITING`: on its way through `do_exit`.
    const EXITING: u32 = 0x4;

    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in brackets and may hold spaces and brackets itself:
    /// the fields are counted from its last bracket.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // Fields 9, 20 and 22 of the line; the state was the third.
        let flags = fields.nth(5)?.parse().ok()?;
        let threads = fields.nth(10)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        Some(Self { state, flags, threads, start })
    }

    fn exiting(&self) -> bool {
        self.state == 'Z' || self.flags & Self::EXITING != 0
    }

    /// The first thread of a killed process is a zombie while others still hold its files: its port is
    /// free only when it is the last.
    fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "42 (a (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 123456 1000 200";

    const SLEEPS: Stat = Stat { state: 'S', flags: 0x40_0100, threads: 9, start: 123_456 };

    fn etcd() -> Identity {
        Identity { pid: 42, start: 123_456, program: "etcd".into() }
    }

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        assert_eq!(Stat::parse(LINE), Some(Stat { state: 'S', flags: 4_194_560, threads: 9, start: 123_456 }));
    }

    #[test]
    fn a_short_line_is_no_process() {
        assert_eq!(Stat::parse("42 (etcd) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_reused_pid_is_somebody_else() {
        let stat = Stat { start: 123_457, ..SLEEPS };
        assert_eq!(etcd().judge(&stat, b"/bin/etcd\0"), Life::Dead);
    }

    #[test]
    fn the_same_pid_and_time_with_another_program_is_somebody_else() {
        assert_eq!(etcd().judge(&SLEEPS, b"/bin/bash\0-c\0sleep etcdctl\0"), Life::Dead);
        assert_eq!(etcd().judge(&SLEEPS, b"/x/bin/etcd\0--data-dir\0"), Life::Running);
    }

    #[test]
    fn a_stopped_process_is_paused_and_a_zombie_is_dead_when_its_last_thread_ended() {
        let at = |state, threads| etcd().judge(&Stat { state, threads, ..SLEEPS }, b"etcd\0");
        assert_eq!(at('T', 9), Life::Paused);
        assert_eq!(at('D', 9), Life::Running);
        assert_eq!(at('Z', 9), Life::Ending);
        assert_eq!(at('Z', 1), Life::Dead);
    }

    #[test]
    fn without_a_command_line_it_ends_or_is_in_the_middle_of_execve() {
        let executes = Stat { state: 'R', threads: 1, ..SLEEPS };
        assert_eq!(etcd().judge(&executes, b""), Life::Running);
        assert_eq!(etcd().judge(&Stat { flags: SLEEPS.flags | Stat::EXITING, ..executes }, b""), Life::Ending);
    }

    #[test]
    fn this_very_process_is_found_and_runs() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let program = std::env::current_exe().unwrap();
        let me = Identity::of(pid, program.file_name().unwrap().to_str().unwrap()).unwrap();
        assert_eq!(me.life(), Life::Running);
    }
}
