//! A network namespace of our own, plugged into the cluster's switch: from inside, the API server is a neighbor, and every address
//! of a fake pod is this very machine (AnyIP). So one listener answers for all pods, and nothing outside of the namespace changes.

use std::fs::File;
use std::net::Ipv4Addr;

use mcp_tests::failure::While as _;
use mcp_tests::{Outcome, fail};
use nix::sched::{CloneFlags, setns};

use crate::options::Cluster;

/// Name of the namespace, and of its plug in the switch.
const NAME: &str = "scale-bench";
/// The bridge in the switch's namespace.
const BRIDGE: &str = "switch";
/// Every pod address of the local cluster.
const POD_RANGE: &str = "198.18.0.0/17";
const PREFIX: u8 = 24;

/// Makes the namespace anew and puts this thread into it: to be called before there are others.
///
/// # Errors
/// What `ip` says; without root, that.
pub(crate) fn enter(cluster: &Cluster) -> Outcome {
    remove(&cluster.switch);
    let Cluster { switch, address, .. } = cluster;
    let made = make(switch, *address);
    if made.is_err() {
        remove(switch);
    }
    made
}

fn make(switch: &str, address: Ipv4Addr) -> Outcome {
    ip(&format!("netns add {NAME}"))?;
    ip(&format!("-n {NAME} link set lo up"))?;
    ip(&format!("-n {switch} link add {NAME} type veth peer name eth0 netns {NAME}"))?;
    ip(&format!("-n {switch} link set {NAME} master {BRIDGE} up"))?;
    ip(&format!("-n {NAME} addr add {address}/{PREFIX} dev eth0"))?;
    ip(&format!("-n {NAME} link set eth0 up"))?;
    ip(&format!("-n {NAME} route add local {POD_RANGE} dev lo"))?;
    let path = format!("/run/netns/{NAME}");
    let file = File::open(&path).doing(&path)?;
    setns(file, CloneFlags::CLONE_NEWNET).doing("entering the network namespace")
}

/// Removes it; what is not there is no error. It lives on until its last process ends.
pub(crate) fn remove(switch: &str) {
    let _ = ip(&format!("-n {switch} link del {NAME}"));
    let _ = ip(&format!("netns del {NAME}"));
}

fn ip(words: &str) -> Outcome {
    let output = std::process::Command::new("ip").args(words.split_whitespace()).output().doing("ip")?;
    if !output.status.success() {
        fail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
