//! What the kernel says of a process.

use std::fs;
use std::path::Path;
use std::process::Command;
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

/// Bytes the kernel keeps for connections to and from a port of this machine, at both of their ends, as `ss` counts them; those
/// of the whole machine where there is no `ss`.
pub(super) fn socket_memory(port: u16) -> u64 {
    let of = format!("( sport = :{port} or dport = :{port} )");
    match Command::new("ss").args(["-tmnH", &of]).output() {
        Ok(output) if output.status.success() => skmem(&String::from_utf8_lossy(&output.stdout)),
        _ => tcp_buffers(),
    }
}

/// `skmem:(r0,rb4096,t0,tb87040,f1024,w18000,...)` of each socket: what was received and not read (r), what was written and not
/// acknowledged (w), and what is set aside for more (f).
fn skmem(text: &str) -> u64 {
    let fields = text.split("skmem:(").skip(1).flat_map(|rest| rest.split(')').next().unwrap_or_default().split(','));
    fields.filter_map(|field| field.strip_prefix(['r', 'w', 'f'])?.parse::<u64>().ok()).sum()
}

/// Bytes of all TCP buffers of the machine.
fn tcp_buffers() -> u64 {
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
        let two = "ESTAB 0 0 skmem:(r5,rb4096,t7,tb87040,f100,w1000,o0,bl0,d3)\nESTAB skmem:(r1,rb1,t0,tb1,f2,w3,o0,bl0,d0)\n";
        assert_eq!(skmem(two), 1111);
        assert_eq!(stat("cache 9\ninactive_file 1\ntotal_inactive_file 4096\n"), 4096);
        assert_eq!(stat("anon 9\ninactive_file 8192\n"), 8192);
        assert!(rss(&[std::process::id()]) > 0 && cpu(&[std::process::id()]) > Duration::ZERO);
    }
}
