//! The operator as a process. A binary of its own: what another test asks of the kernel for itself, a child would have from it.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
