//! The memory limit the kernel enforces on a container, on the local cluster: its pods are processes of this machine.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::failure::{Failure, Outcome, While as _};

const ROOT: &str = "/sys/fs/cgroup";
/// The folder of a container is at most this deep below the root: controller, cluster, kubepods, class, pod, container.
const DEPTH: usize = 8;

/// The memory limit of a pod's container, bytes.
///
/// # Errors
/// When its cgroup is not found or has no limit.
pub fn memory_limit(pod: &Pod, container: &str) -> Outcome<u64> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let status = statuses.into_iter().find(|status| status.name == container);
    let id = status.and_then(|status| status.container_id.as_deref()).and_then(|id| id.split_once("://"));
    let (_, id) = id.ok_or_else(|| Failure::new(format!("pod {} has no container {container}", pod.name_any())))?;
    let (v1, v2) = (Path::new(ROOT).join("memory"), PathBuf::from(ROOT));
    let (root, file) = if v1.is_dir() { (v1, "memory.limit_in_bytes") } else { (v2, "memory.max") };
    let folder =
        find(&root, id, DEPTH).ok_or_else(|| Failure::new(format!("no cgroup of container {id} below {}", root.display())))?;
    let path = folder.join(file);
    let text = fs::read_to_string(&path).doing(&path.display().to_string())?;
    text.trim().parse().doing(&format!("{}: {text:?}", path.display()))
}

/// The folder below `root` whose name holds `part`.
fn find(root: &Path, part: &str, depth: usize) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let named = folders.iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)));
    named.cloned().or_else(|| folders.iter().filter(|_| depth > 0).find_map(|folder| find(folder, part, depth - 1)))
}
