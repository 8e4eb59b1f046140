//! What the kernel counts for a process: memory and time.

use std::fs;

use mcp_tests::failure::While as _;
use mcp_tests::{Failure, Outcome};
use nix::unistd::{SysconfVar, sysconf};

/// What a process took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Resident memory now, bytes.
    pub rss: u64,
    /// The most it ever was, bytes.
    pub peak: u64,
    /// Time on a core since its start, seconds.
    pub cpu: f64,
}

/// What this process took until now.
///
/// # Errors
/// When it is gone.
pub(crate) fn usage(pid: u32) -> Outcome<Usage> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).doing(&format!("process {pid}"));
    let (status, stat) = (read("status")?, read("stat")?);
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let malformed = || Failure::new(format!("/proc/{pid} is not understood"));
    let bytes = |field| kibibytes(&status, field).map(|number| number * 1024).ok_or_else(malformed);
    let cpu_ticks = ticks_on_core(&stat).ok_or_else(malformed)?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of hours fit")]
    Ok(Usage { rss: bytes("VmRSS")?, peak: bytes("VmHWM")?, cpu: cpu_ticks as f64 / ticks as f64 })
}

fn kibibytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// utime and stime: the 14th and the 15th field. The second, the name, may hold spaces.
fn ticks_on_core(stat: &str) -> Option<u64> {
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(after_name.next()?.parse::<u64>().ok()? + after_name.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_name_of_the_program() {
        let stat = "12 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20 0 1 0 99";
        assert_eq!(ticks_on_core(stat), Some(100));
        assert_eq!(kibibytes("Name:\tx\nVmHWM:\t  20 kB\nVmRSS:\t  12 kB\n", "VmRSS"), Some(12));
        assert_eq!(kibibytes("VmRSS:\t12 kB\n", "VmHWM"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.rss > 0 && usage.peak >= usage.rss);
    }
}
