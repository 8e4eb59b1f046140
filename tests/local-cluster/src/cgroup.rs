//! Control groups: every process of the cluster is in `/local-cluster`, and stays findable there
//! whatever became of the record or of its parent.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{At, Result};
use crate::plan::{Netns, NodeName};
use crate::process;
use crate::wait::{self, Poll};

/// The group that holds everything.
pub(crate) const ROOT: &str = "local-cluster";

/// Controllers that a kubelet manages, to hand down on a unified hierarchy.
const CONTROLLERS: &str = "+cpu +cpuset +memory +pids +io";

/// The group of the parts that run in a namespace. Containers are not in it, shims are.
pub(crate) fn of_parts(netns: Netns) -> String {
    format!("{ROOT}/parts/{netns}")
}

/// The group under which a node's kubelet puts its pods.
pub(crate) fn of_pods(node: NodeName) -> String {
    format!("{ROOT}/{node}")
}

/// The mounted hierarchies: one of version 2, or several of version 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    unified: bool,
    /// Where groups are made and joined.
    mounts: Vec<PathBuf>,
    /// Version 2 next to version 1: runc makes groups there as well, so we have to clean up there.
    aside: Vec<PathBuf>,
}

impl Hierarchies {
    pub(crate) fn mounted() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        Ok(Self::parse(&fs::read_to_string(path).at("reading", path)?))
    }

    /// A machine may mount version 2 next to version 1 ("hybrid"); then version 1 has the controllers.
    fn parse(mountinfo: &str) -> Self {
        let of_type = |wanted: &str| -> Vec<PathBuf> {
            mountinfo
                .lines()
                .filter_map(|line| {
                    let (mount, filesystem) = line.split_once(" - ")?;
                    let matches = filesystem.split(' ').next() == Some(wanted);
                    matches.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
                })
                .collect()
        };
        let mounts = of_type("cgroup");
        let second = of_type("cgroup2");
        if mounts.is_empty() {
            Self { unified: true, mounts: second, aside: Vec::new() }
        } else {
            Self { unified: false, mounts, aside: second }
        }
    }

    /// A group's folder in every hierarchy, with those below it, the deepest first.
    fn folders(&self, group: &str) -> impl Iterator<Item = PathBuf> {
        let mounts = self.mounts.iter().chain(&self.aside);
        mounts.flat_map(move |mount| tree(&mount.join(group)))
    }

    /// Makes a group in every hierarchy, ready for processes or for groups below it.
    pub(crate) fn make(&self, group: &str) -> Result<()> {
        for mount in &self.mounts {
            let mut dir = mount.clone();
            for step in Path::new(group) {
                if self.unified {
                    let control = dir.join("cgroup.subtree_control");
                    fs::write(&control, CONTROLLERS).at("handing down the controllers with", control)?;
                }
                let parent = dir.clone();
                dir.push(step);
                fs::create_dir_all(&dir).at("making the cgroup", &dir)?;
                // Version 1 starts a cpuset empty, and an empty one takes no process.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let (from, to) = (parent.join(file), dir.join(file));
                    if !self.unified && to.exists() {
                        let inherited = fs::read_to_string(&from).at("reading", from)?;
                        fs::write(&to, inherited).at("writing", to)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves this process into a group, in every hierarchy.
    pub(crate) fn join(&self, group: &str) -> Result<()> {
        for mount in &self.mounts {
            let procs = mount.join(group).join("cgroup.procs");
            fs::write(&procs, "0").at("joining the cgroup with", procs)?;
        }
        Ok(())
    }

    /// The processes in a group and below it.
    pub(crate) fn processes(&self, group: &str) -> Vec<i32> {
        let mut pids: Vec<i32> = self
            .folders(group)
            .filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok())
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            // A process of another pid namespace reads as 0.
            .filter(|pid| *pid > 0)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills every process in a group and below it, and those that they start meanwhile.
    pub(crate) fn kill(&self, group: &str) -> Result<()> {
        wait::until(&format!("{group} without processes"), Duration::from_secs(30), || {
            let left: Vec<_> = self.processes(group).into_iter().filter(|pid| !process::is_over(*pid)).collect();
            for pid in &left {
                // It may be gone since the list was read; a reused pid cannot be: the list is a moment old.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            Ok(if left.is_empty() { Poll::Ready(()) } else { Poll::Pending(format!("{left:?} live on")) })
        })
    }

    /// Removes a group and those below it; none is left is success.
    pub(crate) fn remove(&self, group: &str) -> Result<()> {
        wait::until(&format!("the cgroup {group} removed"), Duration::from_secs(10), || {
            let mut left = String::new();
            for dir in self.folders(group) {
                match fs::remove_dir(&dir) {
                    Ok(()) => (),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
                    Err(error) => left = format!("{}: {error}", dir.display()),
                }
            }
            Ok(if left.is_empty() { Poll::Ready(()) } else { Poll::Pending(left) })
        })
    }
}

/// A folder and all below it, the deepest first.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut all: Vec<_> = entries
        .filter_map(std::result::Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| tree(&entry.path()))
        .collect();
    all.push(dir.to_owned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 24 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      31 24 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const V2: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n\
                      31 24 0:27 / /tmp rw - tmpfs tmpfs rw\n";

    #[test]
    fn a_hybrid_machine_is_one_of_version_one() {
        let hierarchies = Hierarchies::parse(V1);
        assert!(!hierarchies.unified);
        assert_eq!(hierarchies.aside, [PathBuf::from("/sys/fs/cgroup/unified")]);
        assert_eq!(hierarchies.mounts, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"].map(PathBuf::from));
    }

    #[test]
    fn a_unified_machine_has_one_hierarchy() {
        let hierarchies = Hierarchies::parse(V2);
        assert!(hierarchies.unified);
        assert_eq!(hierarchies.mounts, [PathBuf::from("/sys/fs/cgroup")]);
    }

    #[test]
    fn a_tree_lists_the_deepest_folder_first() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let [b, a, root] = &tree(dir.path())[..] else { unreachable!() };
        assert!(b.ends_with("a/b") && a.ends_with("a") && root == dir.path());
    }

    #[test]
    fn a_group_that_is_gone_is_killed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let hierarchies = Hierarchies { unified: false, mounts: vec![dir.path().to_owned()], aside: Vec::new() };
        hierarchies.kill("gone").unwrap();
        hierarchies.remove("gone").unwrap();
    }
}
