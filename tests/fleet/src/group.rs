//! A control group with a memory limit for one shard, as the container of a pod has: what the kernel would kill is killed here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Plain;
use std::thread::sleep;
use std::time::Duration;

use tokio::process::Command;

const ROOT: &str = "/sys/fs/cgroup";
/// Moves itself, then becomes the server: nothing of it is charged to another group.
const MOVE: &str = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
/// A group can be removed when its last process is gone: so often is it tried, and so far apart.
const TRIES: usize = 200;
const APART: Duration = Duration::from_millis(20);

/// A group that was made, below the root of the hierarchy. Removed on drop, so its processes are to end before.
#[derive(Debug)]
pub(crate) struct Group(PathBuf);

impl Group {
    /// Makes one. Version 1 where the memory controller is mounted by itself, version 2 otherwise.
    ///
    /// # Errors
    /// When the machine does not allow it: it is not root, or the controller is not there.
    pub(crate) fn new(name: &str, bytes: u64) -> Result<Self, String> {
        Self::below(Path::new(ROOT), name, bytes)
    }

    fn below(root: &Path, name: &str, bytes: u64) -> Result<Self, String> {
        let (folder, file) = match root.join("memory") {
            v1 if v1.is_dir() => (v1.join(name), "memory.limit_in_bytes"),
            _ => (root.join(name), "memory.max"),
        };
        let group = Self(folder);
        fs::create_dir(&group.0)
            .and_then(|()| fs::write(group.0.join(file), bytes.to_string()))
            .map_err(|error| format!("no control group with a memory limit, {}: {error}", group.0.display()))?;
        Ok(group)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// The command that runs a program inside it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Plain::new("/bin/sh");
        command.args(["-c", MOVE]).arg(&self.0).arg(program);
        command.into()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..TRIES {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => sleep(APART),
                Ok(()) | Err(_) => return,
            }
        }
        eprintln!("fleet: {} is left: a process is still in it", self.0.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_written_where_either_version_of_the_kernels_groups_reads_it() {
        let root = tempfile::TempDir::new().unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        let _v2 = Group::below(root.path(), "one", 5 << 20).unwrap();
        assert_eq!(read("one/memory.max"), "5242880");
        fs::create_dir(root.path().join("memory")).unwrap();
        let _v1 = Group::below(root.path(), "two", 6 << 20).unwrap();
        assert_eq!(read("memory/two/memory.limit_in_bytes"), "6291456");
        let taken = Group::below(root.path(), "two", 1).unwrap_err();
        assert!(taken.contains("memory/two"), "{taken}");
    }

    #[tokio::test]
    async fn a_program_is_in_the_group_before_it_begins() {
        let root = tempfile::TempDir::new().unwrap();
        let group = Group::below(root.path(), "one", 1).unwrap();
        let output = group.command(Path::new("/bin/sh")).args(["-c", "echo $$"]).output().await.unwrap();
        let moved = fs::read_to_string(root.path().join("one/cgroup.procs")).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), moved);
    }
}
