//! Becoming another program in another place: `local-cluster enter … -- PROGRAM`.
//!
//! The parts, and the commands of `exec`, are started through this program itself: it joins a control
//! group and namespaces and then replaces itself. So there is no window in which a part runs in the
//! wrong place, its pid is known from the start, and nothing needs `fork` with care about locks.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::cgroup::Hierarchies;
use crate::error::{At, Error, Result, Step};

/// Where a program is to run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Place {
    /// The file of the network namespace.
    #[arg(long)]
    pub netns: Option<PathBuf>,
    /// The file of the mount namespace.
    #[arg(long)]
    pub mntns: Option<PathBuf>,
    /// A file to see as /etc/resolv.conf.
    #[arg(long)]
    pub resolv_conf: Option<PathBuf>,
    /// The control group.
    #[arg(long)]
    pub cgroup: Option<String>,
    /// Begin a session, so that the program outlives this terminal.
    #[arg(long)]
    pub session: bool,
}

impl Place {
    /// The command that runs `program` in this place.
    pub(crate) fn command(&self, program: impl Into<OsString>) -> Result<Command> {
        let own = std::env::current_exe().at("finding", "/proc/self/exe")?;
        let mut command = Command::new(own);
        command.arg("enter");
        let mut path = |name: &str, path: &Option<PathBuf>| {
            if let Some(path) = path {
                command.arg(name).arg(path);
            }
        };
        path("--netns", &self.netns);
        path("--mntns", &self.mntns);
        path("--resolv-conf", &self.resolv_conf);
        if let Some(cgroup) = &self.cgroup {
            command.args(["--cgroup", cgroup]);
        }
        if self.session {
            command.arg("--session");
        }
        command.arg("--").arg(program.into());
        Ok(command)
    }
}

/// Goes to the place and becomes the program. Returns only when that fails.
pub(crate) fn become_program(place: &Place, program: &[OsString]) -> Error {
    if let Err(error) = go(place) {
        return error;
    }
    let (name, args) = program.split_first().expect("clap asks for a program");
    let source = Command::new(name).args(args).exec();
    Error::Run { program: name.to_string_lossy().into_owned(), source }
}

fn go(place: &Place) -> Result<()> {
    let open = |path: &Option<PathBuf>| path.as_ref().map(|path| File::open(path).at("opening the namespace", path)).transpose();
    // Both before either: the files may not be visible from the other side.
    let (netns, mntns) = (open(&place.netns)?, open(&place.mntns)?);
    if let Some(cgroup) = &place.cgroup {
        Hierarchies::mounted()?.join(cgroup)?;
    }
    if place.session {
        nix::unistd::setsid().step("beginning a session")?;
        // Containers inherit the limit of their runtime, and servers with many connections are tested here.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).step("reading the limit of open files")?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most).step("raising the limit of open files")?;
    }
    if let Some(netns) = netns {
        setns(netns, CloneFlags::CLONE_NEWNET).step("entering the network namespace")?;
    }
    if let Some(mntns) = mntns {
        let here = std::env::current_dir().ok();
        setns(mntns, CloneFlags::CLONE_NEWNS).step("entering the mount namespace")?;
        // Entering ends in `/`; the same folder is there on the other side, unless it is under /run.
        if let Some(here) = here {
            let _ = std::env::set_current_dir(here);
        }
    }
    if let Some(resolv_conf) = &place.resolv_conf {
        see_as_resolv_conf(resolv_conf)?;
    }
    Ok(())
}

/// Names are resolved by a file in `/etc`: a mount namespace of its own gives a command another file
/// without the rest of the machine noticing.
fn see_as_resolv_conf(file: &Path) -> Result<()> {
    const NONE: Option<&str> = None;
    let target = std::fs::canonicalize("/etc/resolv.conf").at("finding", "/etc/resolv.conf")?;
    unshare(CloneFlags::CLONE_NEWNS).step("making a mount namespace")?;
    mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE).step("keeping mounts to ourselves")?;
    mount(Some(file), &target, NONE, MsFlags::MS_BIND, NONE).step(format!(
        "mounting {} over {}",
        file.display(),
        target.display()
    ))
}

/// The folders of a node that a node thinks of as its own, and that would otherwise be the machine's.
pub(crate) const NODE_FOLDERS: [(&str, &str); 3] =
    [("/var/lib/kubelet", "kubelet"), ("/var/lib/cni", "cni"), ("/var/log", "log")];

/// Arranges the mounts of a node, in a mount namespace that was just made: a `/run` of its own, for
/// sockets, pod namespaces and the state of containers, and the folders of [`NODE_FOLDERS`].
///
/// All of it goes when the namespace goes. To lose `/run` is what a restart of a machine looks like
/// to containerd and the kubelet, so a node that was killed comes back as one.
pub(crate) fn arrange_node(folder: &Path) -> Result<()> {
    const NONE: Option<&str> = None;
    let set = |flags: MsFlags, what: &str| mount(NONE, "/", NONE, flags | MsFlags::MS_REC, NONE).step(what.to_owned());
    // A slave: what the machine unmounts is unmounted here too, and not the other way round.
    set(MsFlags::MS_SLAVE, "keeping mounts to the node")?;
    // And shared below, or no volume that the kubelet mounts would reach a container.
    set(MsFlags::MS_SHARED, "sharing mounts with containers")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).step("mounting the node's /run")?;
    for (path, name) in NODE_FOLDERS {
        let own = folder.join(name);
        std::fs::create_dir_all(&own).at("making the folder", &own)?;
        mount(Some(&own), path, NONE, MsFlags::MS_BIND, NONE).step(format!("mounting the node's {path}"))?;
    }
    Ok(())
}
