//! The binary itself: exit codes, signals, and what it tells a person.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn server() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-server"));
    command.env_clear().stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples").join(name)
}

/// A server that listens, and what it logs from then on.
fn started(command: &mut Command) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("listening on /mcp") {
        assert!(log.read_line(&mut said).unwrap() > 0, "ended: {said}");
    }
    (child, log)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn ctrl_c_ends_a_manifest_at_once_with_zero() {
    let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let (mut child, _log) = started(server().arg("--manifest").arg(sample("quickstart.yaml")).args(ports));
    let start = std::time::Instant::now();
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(start.elapsed().as_secs() < 8, "no drain");
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let ports = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let (mut child, mut log) = started(server().arg("--manifest").arg(sample("quickstart.yaml")).args(ports));
    signal(&child, Signal::SIGTERM);
    let mut said = String::new();
    while !said.contains("draining") {
        assert!(log.read_line(&mut said).unwrap() > 0, "ended: {said}");
    }
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_bad_manifest_is_refused_with_every_problem_and_two() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    std::fs::write(
        &file,
        "apiVersion: mcpcluster.dev/v1alpha1\nkind: McpCluster\nmetadata: {name: bad}\nspec:\n  limits: {maxStreams: 0}\n  unknown: 1\n",
    )
    .unwrap();
    let output = server().arg("--manifest").arg(&file).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("bad.yaml:5:") && told.contains("bad.yaml:6:"), "{told}");
}

#[test]
fn bad_settings_are_told_together_and_exit_with_two() {
    let output = server().args(["--listen", "nowhere", "--drain-window", "soon"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    for what in ["--listen", "--drain-window", "MCP_CONFIG_DIR", "MCP_KEYS_DIR"] {
        assert!(told.contains(what), "{what}: {told}");
    }
}

#[test]
fn a_taken_port_is_named_and_exits_with_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut child = server()
        .arg("--manifest")
        .arg(sample("quickstart.yaml"))
        .args(["--listen", &address, "--admin-listen", "127.0.0.1:0"])
        .spawn()
        .unwrap();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(told.contains(&address) && told.contains("because"), "{told}");
}
