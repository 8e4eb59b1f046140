//! The Debian packages under the cluster: installed on Debian, by root, and nowhere else.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::progress::say;
use crate::run::{command, output};

/// What is needed, and for what. No versions: within Debian 12 they only get security fixes, and a
/// pinned one vanishes from the mirrors with the next.
const PACKAGES: [(&str, &str); 12] = [
    ("buildah", "builds images without a daemon"),
    ("conntrack", "kube-proxy clears stale UDP connections with it"),
    ("containerd", "runs the pods; 1.6, the oldest that Kubernetes 1.35 takes"),
    ("containernetworking-plugins", "gives pods their network"),
    ("gcc", "compiles the pause program"),
    ("iproute2", "makes namespaces, cables and routes"),
    ("iptables", "host ports of pods"),
    ("libc6-dev", "the static C library of the pause program"),
    ("nftables", "Services"),
    ("runc", "starts containers"),
    ("socat", "port forwarding"),
    ("util-linux", "nsenter, unshare"),
];

/// Installs what is missing.
///
/// # Errors
/// [`Error::Refused`], with what to do instead, on anything but Debian and for anyone but root: such a
/// machine is left as it is.
pub(crate) fn ensure() -> Result<()> {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian(&os_release) {
        return Err(elsewhere("this is not Debian"));
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(elsewhere("this needs root"));
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    say("installing Debian packages:");
    for (package, purpose) in &missing {
        say(&format!("  {package:<28} {purpose}"));
    }
    let apt = |args: &[&str]| output(command("apt-get", args.iter().copied()).env("DEBIAN_FRONTEND", "noninteractive")).map(drop);
    apt(&["update", "--quiet"])?;
    let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(missing.iter().map(|(package, _)| *package));
    apt(&install)
}

fn missing() -> Vec<(&'static str, &'static str)> {
    PACKAGES.into_iter().filter(|(package, _)| !is_installed(package)).collect()
}

fn is_installed(package: &str) -> bool {
    // The file list of an installed package; some are there with their architecture in the name.
    ["", ":amd64", ":arm64"]
        .iter()
        .any(|suffix| Path::new("/var/lib/dpkg/info").join(format!("{package}{suffix}.md5sums")).exists())
}

fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| line == "ID=debian" || line == "ID=\"debian\"")
}

fn elsewhere(why: &str) -> Error {
    Error::Refused(format!(
        "{why}: the local cluster runs on Debian as root, and nothing was changed here.\n\
         A cluster from kind serves as well, wherever Docker or Podman runs:\n\n    \
         kind create cluster --name mcp\n    \
         kubectl --context kind-mcp get nodes\n    \
         kind load docker-image IMAGE --name mcp\n    \
         kind delete cluster --name mcp\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_debian_and_its_descendants_are_not() {
        assert!(is_debian("PRETTY_NAME=\"Debian\"\nID=debian\n"));
        assert!(!is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(!is_debian("VARIANT_ID=debian-live\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn elsewhere_the_kind_commands_are_told() {
        let text = elsewhere("this is not Debian").to_string();
        assert!(text.contains("kind create cluster") && text.contains("nothing was changed"));
    }
}
