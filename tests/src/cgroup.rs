//! The memory the kernel grants a container and counts of it, on the local cluster: its pods are processes of this machine.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::failure::{Failure, Outcome, While as _};

const ROOT: &str = "/sys/fs/cgroup";
/// The folder of a container is at most this deep below the root: controller, cluster, kubepods, class, pod, container.
const DEPTH: usize = 8;

/// The control group of a container. It goes with the container: one that is started again has another.
#[derive(Clone, Debug)]
pub struct Group {
    folder: PathBuf,
    /// Version 1: the memory controller has a hierarchy of its own.
    is_v1: bool,
}

impl Group {
    /// That of a pod's container.
    ///
    /// # Errors
    /// When it is not found.
    pub fn of(pod: &Pod, container: &str) -> Outcome<Self> {
        let id = container_id(pod, container)
            .ok_or_else(|| Failure::new(format!("pod {} has no container {container}", pod.name_any())))?;
        let (v1, v2) = (Path::new(ROOT).join("memory"), PathBuf::from(ROOT));
        let (root, is_v1) = if v1.is_dir() { (v1, true) } else { (v2, false) };
        let folder = find(&root, id, DEPTH)
            .ok_or_else(|| Failure::new(format!("no cgroup of container {id} below {}", root.display())))?;
        Ok(Self { folder, is_v1 })
    }

    /// The memory limit, bytes.
    ///
    /// # Errors
    /// When there is none.
    pub fn limit(&self) -> Outcome<u64> {
        self.number(self.limit_file())
    }

    /// Sets the memory limit, bytes.
    ///
    /// # Errors
    /// When more is in use that the kernel cannot reclaim.
    pub fn set_limit(&self, bytes: u64) -> Outcome {
        let path = self.folder.join(self.limit_file());
        fs::write(&path, bytes.to_string()).doing(&path.display().to_string())
    }

    fn limit_file(&self) -> &'static str {
        if self.is_v1 { "memory.limit_in_bytes" } else { "memory.max" }
    }

    /// What it uses and the kernel cannot reclaim at once, bytes: what the kubelet calls the working set.
    ///
    /// # Errors
    /// When the container is gone.
    pub fn working_set(&self) -> Outcome<u64> {
        let (usage, inactive) =
            if self.is_v1 { ("memory.usage_in_bytes", "total_inactive_file") } else { ("memory.current", "inactive_file") };
        Ok(self.number(usage)?.saturating_sub(self.field("memory.stat", inactive)?))
    }

    /// Processes of it that the kernel has killed for memory.
    ///
    /// # Errors
    /// When the container is gone.
    pub fn oom_kills(&self) -> Outcome<u64> {
        self.field(if self.is_v1 { "memory.oom_control" } else { "memory.events" }, "oom_kill")
    }

    fn number(&self, file: &str) -> Outcome<u64> {
        let text = self.text(file)?;
        text.trim().parse().doing(&format!("{file}: {text:?}"))
    }

    fn field(&self, file: &str, name: &str) -> Outcome<u64> {
        let text = self.text(file)?;
        let value = text.lines().find_map(|line| line.split_once(' ').filter(|(field, _)| *field == name));
        let (_, value) = value.ok_or_else(|| Failure::new(format!("{file} has no {name}")))?;
        value.trim().parse().doing(&format!("{file}: {name} {value:?}"))
    }

    fn text(&self, file: &str) -> Outcome<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).doing(&path.display().to_string())
    }
}

/// What the runtime calls a pod's container, when it has made one.
pub fn container_id<'a>(pod: &'a Pod, container: &str) -> Option<&'a str> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let status = statuses.into_iter().find(|status| status.name == container)?;
    Some(status.container_id.as_deref()?.split_once("://")?.1)
}

/// The folder below `root` whose name holds `part`.
fn find(root: &Path, part: &str, depth: usize) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let named = folders.iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)));
    named.cloned().or_else(|| folders.iter().filter(|_| depth > 0).find_map(|folder| find(folder, part, depth - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("memory.usage_in_bytes", "100\n"),
            ("memory.limit_in_bytes", "300\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("memory.stat", "total_inactive_file 30\ninactive_file 10\n"),
            ("memory.current", "200\n"),
            ("memory.max", "400\n"),
            ("memory.events", "oom 7\noom_kill 1\n"),
        ] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        for (is_v1, wanted) in [(true, [70, 300, 2]), (false, [190, 400, 1])] {
            let group = Group { folder: folder.path().to_owned(), is_v1 };
            assert_eq!([group.working_set().unwrap(), group.limit().unwrap(), group.oom_kills().unwrap()], wanted);
        }
    }
}
