//! What is free goes back to the kernel at once. A binary of its own: nothing else allocates here.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mimalloc::MiMalloc;

/// That of the operator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Objects of the size of a pod as it is listed.
const OBJECTS: usize = 8_000;
const BYTES: usize = 8 << 10;

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn what_a_list_took_is_given_back_when_it_was_read() {
    mcp_operator::heap::settle();
    let before = resident();
    let listed: Vec<_> = (0..OBJECTS).map(|_| vec![1_u8; BYTES]).collect();
    assert!(resident() >= before + OBJECTS * BYTES / 8 * 7);
    drop(listed);
    let left = resident().saturating_sub(before);
    println!("{left} bytes are left of {}", OBJECTS * BYTES);
    assert!(left < OBJECTS * BYTES / 8, "{left} bytes are left");
}

/// Killed when the test ends, however it ends.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_operator_asks_for_no_huge_pages() {
    let scratch = tempfile::tempdir().unwrap();
    // An API server that never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = scratch.path().join("kubeconfig");
    let server = format!("http://{}", listener.local_addr().unwrap());
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\nclusters: [{{name: it, cluster: {{server: \"{server}\"}}}}]\n\
         users: [{{name: it, user: {{}}}}]\ncontexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-operator"));
    command.arg("run").arg("--kubeconfig").arg(&kubeconfig).args(["--leader-elect=false", "--listen=127.0.0.1:0"]);
    let operator = Operator(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let status = format!("/proc/{}/status", operator.0.id());
    let begun = Instant::now();
    loop {
        let status = std::fs::read_to_string(&status).unwrap();
        if status.lines().any(|line| line.split_whitespace().eq(["THP_enabled:", "0"])) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
