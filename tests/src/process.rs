//! The processes of a pod, on the local cluster: its containers are processes of this machine, which can be stopped, let go on
//! and killed without anybody being asked.

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tokio::process::Command;

use crate::failure::{Failure, Outcome};
use crate::target::output;

/// A process of a pod's container. Its id is not used again while a test runs: there are four million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// The process in a pod whose program has this name, and how it is known to the kernel: the first 15 bytes.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pod: &Pod, program: &str) -> Outcome<Self> {
        let uid = pod.uid().unwrap_or_default();
        // A systemd cgroup driver writes the uid with underscores.
        let names = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
        let comm = program.get(..15).unwrap_or(program);
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // A process may end while it is looked at.
            let is_named = fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim_end() == comm);
            let is_in_pod = || {
                let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
                names.iter().any(|name| groups.contains(name.as_str()))
            };
            if is_named && is_in_pod() {
                return Ok(Self(id));
            }
        }
        Err(Failure::new(format!("no process {program} of pod {} on this machine", pod.name_any())))
    }

    /// Whether it runs, or could if it were let.
    pub fn is_there(self) -> bool {
        // A zombie is gone but for its parent.
        let status = fs::read_to_string(Path::new("/proc").join(self.0.to_string()).join("stat")).unwrap_or_default();
        status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    }

    /// SIGKILL: it does nothing more, not even say goodbye.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn kill(self) -> Outcome {
        self.signal("KILL").await
    }

    /// SIGSTOP: it stands still between two instructions, and its connections stay.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn pause(self) -> Outcome {
        self.signal("STOP").await
    }

    /// SIGCONT: it goes on as if nothing had happened.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn resume(self) -> Outcome {
        self.signal("CONT").await
    }

    async fn signal(self, name: &str) -> Outcome {
        output(Command::new("kill").args([format!("-{name}"), self.0.to_string()])).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there_and_belongs_to_no_pod() {
        assert!(Process(std::process::id()).is_there());
        assert!(!Process(4_194_305).is_there(), "above the largest process id of Linux");
        let mut pod = Pod::default();
        pod.metadata.uid = Some("no-such-pod".to_owned());
        assert!(Process::of(&pod, "process").is_err());
    }
}
