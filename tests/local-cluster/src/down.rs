//! `down`: nothing of the cluster stays on the machine, whatever state it was in.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use crate::cgroup::{self, Hierarchies};
use crate::enter::NODE_FOLDERS;
use crate::error::{At, Result, Step};
use crate::machine::{MOUNT_NAMESPACES, Machine};
use crate::network;
use crate::progress::say;
use crate::state::State;

/// Removes the cluster of this state folder, and what a dead cluster of another one left.
pub(crate) fn down(state: &State) -> Result<()> {
    let mut machine = Machine::lock()?;
    machine.refuse_foreign(state.dir())?;
    match machine.holder()? {
        Some(holder) => {
            say("taking the cluster down");
            sweep(&State::at(holder)?)?;
        }
        None => say("no cluster is up"),
    }
    // The record may have been lost, and the rest not.
    sweep(state)?;
    machine.release()
}

/// Removes everything that a cluster leaves on a machine: what bears our names, and the state folder.
///
/// Everything is found by looking at the machine and not in the record, so that nothing is missed
/// after a crash. No part is asked to end: its data go as well.
pub(crate) fn sweep(state: &State) -> Result<()> {
    let hierarchies = Hierarchies::mounted()?;
    // The parts first: they would start containers again.
    hierarchies.kill(&format!("{}/parts", cgroup::ROOT))?;
    hierarchies.kill(cgroup::ROOT)?;
    unmount_below(Path::new(MOUNT_NAMESPACES))?;
    unmount_below(state.dir())?;
    network::remove()?;
    hierarchies.remove(cgroup::ROOT)?;
    match fs::remove_dir_all(MOUNT_NAMESPACES) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).at("removing", MOUNT_NAMESPACES);
        }
        Ok(()) | Err(_) => (),
    }
    state.remove()?;
    for (path, _) in NODE_FOLDERS {
        // Where the nodes mount their own; made by us if they are empty, and nobody's loss if not.
        let _ = fs::remove_dir(path);
    }
    remove_namespace_folder()
}

/// `ip` makes the folder of namespaces, as a mount, with the first one; without any it can go.
fn remove_namespace_folder() -> Result<()> {
    let dir = Path::new("/run/netns");
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none()) {
        unmount_below(dir)?;
        fs::remove_dir(dir).at("removing", dir)?;
    }
    Ok(())
}

/// Unmounts a folder and everything below it, the deepest first.
pub(crate) fn unmount_below(dir: &Path) -> Result<()> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").at("reading", "/proc/self/mountinfo")?;
    for path in mounts_below(dir, &mountinfo) {
        umount2(&path, MntFlags::MNT_DETACH).step(format!("unmounting {}", path.display()))?;
    }
    Ok(())
}

/// The mounts at and below a folder in the order in which they can be unmounted: a later one may lie on
/// an earlier one.
fn mounts_below(dir: &Path, mountinfo: &str) -> Vec<PathBuf> {
    let mut mounts: Vec<_> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // The kernel writes a space as \040.
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(dir))
        .collect();
    mounts.reverse();
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_undone_in_the_reverse_order_and_only_below_the_folder() {
        let mountinfo = "1 0 0:1 / / rw - ext4 a rw\n\
                         2 1 0:1 / /run/local-cluster rw - ext4 a rw\n\
                         3 2 0:4 mnt:[1] /run/local-cluster/node-1 rw - nsfs nsfs rw\n\
                         4 1 0:1 / /run/local-clusters rw - ext4 a rw\n";
        assert_eq!(
            mounts_below(Path::new("/run/local-cluster"), mountinfo),
            ["/run/local-cluster/node-1", "/run/local-cluster"].map(PathBuf::from)
        );
    }

    #[test]
    fn a_folder_with_a_space_is_found() {
        let mountinfo = "2 1 0:1 / /my\\040state/x rw - ext4 a rw\n";
        assert_eq!(mounts_below(Path::new("/my state"), mountinfo), [PathBuf::from("/my state/x")]);
    }
}
