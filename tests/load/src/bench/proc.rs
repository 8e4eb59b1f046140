//! What the kernel says of a process.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Time on a processor, of all threads of these processes.
pub(super) fn cpu(pids: &[u32]) -> Duration {
    pids.iter().flat_map(|pid| tasks(*pid)).map(|text| on_cpu(&text)).sum()
}

fn tasks(pid: u32) -> Vec<String> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok()).collect()
}

/// `schedstat`: nanoseconds on a processor, nanoseconds of waiting for one, slices.
fn on_cpu(schedstat: &str) -> Duration {
    Duration::from_nanos(schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// Resident bytes of these processes.
pub(super) fn rss(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .map(|text| kib(&text, "Rss:") << 10)
        .sum()
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// Bytes that a control group is charged for, without pages of files that the kernel could drop.
pub(super) fn charged(group: &Path) -> u64 {
    let read = |name: &str| fs::read_to_string(group.join(name));
    let used = read("memory.usage_in_bytes").or_else(|_| read("memory.current")).unwrap_or_default();
    let idle = stat(&read("memory.stat").unwrap_or_default());
    used.trim().parse::<u64>().unwrap_or(0).saturating_sub(idle)
}

/// `total_inactive_file` of version 1, where it stands for the groups below too, or `inactive_file` of version 2.
fn stat(text: &str) -> u64 {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value("total_inactive_file").or_else(|| value("inactive_file")).unwrap_or(0)
}

/// Bytes of all TCP buffers of the machine.
pub(super) fn tcp_buffers() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    pages(line) << 12
}

fn pages(tcp: &str) -> u64 {
    let mut words = tcp.split(' ');
    words.find(|word| *word == "mem");
    words.next().and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_kernel_are_read() {
        assert_eq!(on_cpu("1500 20 3\n"), Duration::from_nanos(1500));
        assert_eq!(kib("55-66 ---p 00\nRss:                1234 kB\nPss: 1 kB\n", "Rss:"), 1234);
        assert_eq!(pages("TCP: inuse 5 orphan 0 tw 2 alloc 7 mem 9"), 9);
        assert_eq!(stat("cache 9\ninactive_file 1\ntotal_inactive_file 4096\n"), 4096);
        assert_eq!(stat("anon 9\ninactive_file 8192\n"), 8192);
        assert!(rss(&[std::process::id()]) > 0 && cpu(&[std::process::id()]) > Duration::ZERO);
    }
}
