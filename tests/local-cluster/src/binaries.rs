//! The programs that are built here: Kubernetes, CoreDNS, kwok and metrics-server from their Go modules, and the pause image.
//! Each is built once into a folder named by what it is made of, outside the state folder.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::config::PAUSE_IMAGE;
use crate::error::{At, Error, Result, Step};
use crate::progress::say;
use crate::run::{command, output};

/// The version that the built programs report; the one in `go/kubernetes/go.mod`.
pub(crate) const KUBERNETES_VERSION: &str = "v1.35.4";

/// The names that the Kubernetes binary goes by.
const PARTS: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"];

const PAUSE_SOURCE: &str = include_str!("../pause/pause.c");
const PAUSE_CONTAINERFILE: &str = include_str!("../pause/Containerfile");

/// Where the built programs are.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Programs {
    /// The folder with the Kubernetes binary under all its names.
    pub kubernetes: PathBuf,
    /// The folder with CoreDNS.
    pub coredns: PathBuf,
    /// The pause image, a docker-archive.
    pub pause: PathBuf,
}

impl Programs {
    pub(crate) fn kubectl(&self) -> PathBuf {
        self.kubernetes.join("kubectl")
    }
}

/// Builds what is missing below `cache`, from the Go modules below `workspace`.
pub(crate) fn build(workspace: &Path, cache: &Path) -> Result<Programs> {
    fs::create_dir_all(cache).at("making the folder", cache)?;
    let _lock = lock(&cache.join("build.lock"))?;
    let modules = workspace.join("tests/local-cluster/go");
    let version = "k8s.io/component-base/version";
    let (major, minor) = major_minor(KUBERNETES_VERSION);
    let kubernetes = build_module(
        cache,
        &modules.join("kubernetes"),
        &format!(
            "-s -w -X {version}.gitVersion={KUBERNETES_VERSION} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
        ),
        &PARTS,
    )?;
    let coredns = build_module(cache, &modules.join("coredns"), "-s -w", &["coredns"])?;
    let pause = build_pause(cache)?;
    Ok(Programs { kubernetes, coredns, pause })
}

/// Builds a program that is no part of a cluster, unless the cache has it, and returns its path: `kwok`, `metrics-server`.
pub(crate) fn beside(workspace: &Path, cache: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(cache).at("making the folder", cache)?;
    let _lock = lock(&cache.join("build.lock"))?;
    let folder = build_module(cache, &workspace.join("tests/local-cluster/go").join(name), "-s -w", &[name])?;
    Ok(folder.join(name))
}

/// Two builds of the same thing would only slow each other down.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).at("making", path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
            say("waiting for another build");
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).step("waiting for another build")
        }
        Err((_, errno)) => Err(errno).step(format!("locking {}", path.display())),
    }
}

/// Builds a Go module unless the cache has it, and returns the folder of the result.
fn build_module(cache: &Path, module: &Path, ldflags: &str, names: &[&str]) -> Result<PathBuf> {
    let name = module.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let read = |file: &str| {
        let path = module.join(file);
        fs::read_to_string(&path).at("reading", path)
    };
    // Asked in the module's folder: Go may choose its version by what go.mod wants.
    let go = go_version(module)?;
    let key = key(&[&read("go.mod")?, &read("go.sum")?, &read("main.go")?, &go, ldflags]);
    let done = cache.join(format!("{name}-{key}"));
    if done.is_dir() {
        return Ok(done);
    }
    let unfinished = cache.join(format!("{name}-{key}.unfinished"));
    remove_dir(&unfinished)?;
    fs::create_dir_all(&unfinished).at("making the folder", &unfinished)?;
    let binary = unfinished.join(format!("{name}.bin"));
    say(&format!("building {name} with {go} (once; some minutes when Go's own cache is cold)"));
    let mut go = command("go", ["build", "-v", "-trimpath", "-ldflags", ldflags, "-o"]);
    go.arg(&binary).arg(".").current_dir(module).env("CGO_ENABLED", "0");
    build_with_progress(&name, &mut go)?;
    for name in names {
        let link = unfinished.join(name);
        fs::hard_link(&binary, &link).at("linking", link)?;
    }
    fs::rename(&unfinished, &done).at("finishing", &done)?;
    Ok(done)
}

/// `go1.26.8`; the refusal says what is missing and for what.
fn go_version(module: &Path) -> Result<String> {
    let version = output(command("go", ["env", "GOVERSION"]).current_dir(module));
    match version {
        Ok(version) => Ok(version.trim().to_owned()),
        Err(Error::Run { .. }) => {
            Err(Error::Refused("Go is not on the PATH; the local cluster is built from source and needs Go 1.26 or newer".into()))
        }
        Err(error) => Err(error),
    }
}

/// Runs a build, saying every ten seconds how far it is; its own words are shown if it fails.
fn build_with_progress(name: &str, build: &mut Command) -> Result<()> {
    let failed = |source| Error::Run { program: "go".into(), source };
    let start = Instant::now();
    let mut child = build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let words = BufReader::new(child.stderr.take().expect("the pipe was just asked for"));
    let interval = Duration::from_secs(if std::io::stderr().is_terminal() { 2 } else { 10 });
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in words.lines().map_while(std::result::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let (mut packages, mut said) = (0_usize, usize::MAX);
    let mut complaints = Vec::new();
    let mut next = start + interval;
    loop {
        match lines.recv_timeout(next.saturating_duration_since(Instant::now())) {
            // With -v Go prints one line for a package that it compiles, without spaces.
            Ok(line) if !line.contains(' ') => packages += 1,
            Ok(line) => complaints.push(line),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                let seconds = start.elapsed().as_secs();
                let step = if packages == said { "reading, linking" } else { "compiling" };
                said = packages;
                say(&format!("  {name}: {packages} packages compiled in {}m{:02}s; {step}", seconds / 60, seconds % 60));
                next += interval;
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let tail = complaints.split_off(complaints.len().saturating_sub(20));
    Err(Error::Failed { command: format!("building {name}"), status, stderr: tail.join("\n") })
}

/// Builds the image whose one process holds the namespaces of a pod: a static program and nothing else.
fn build_pause(cache: &Path) -> Result<PathBuf> {
    let done = cache.join(format!("pause-{}.tar", key(&[PAUSE_SOURCE, PAUSE_CONTAINERFILE])));
    if done.is_file() {
        return Ok(done);
    }
    say("building the pause image");
    let work = cache.join("pause.unfinished");
    remove_dir(&work)?;
    let context = work.join("context");
    fs::create_dir_all(&context).at("making the folder", &context)?;
    for (name, content) in [("pause.c", PAUSE_SOURCE), ("Containerfile", PAUSE_CONTAINERFILE)] {
        fs::write(context.join(name), content).at("writing", context.join(name))?;
    }
    output(command("gcc", ["-Os", "-static", "-s", "-o", "pause", "pause.c"]).current_dir(&context))?;
    let buildah = |args: &[&str]| {
        let mut buildah = command("buildah", ["--storage-driver", "vfs"]);
        buildah.arg("--root").arg(work.join("storage")).arg("--runroot").arg(work.join("run"));
        output(buildah.args(args).current_dir(&context))
    };
    buildah(&["bud", "--isolation", "chroot", "-t", PAUSE_IMAGE, "."])?;
    let archive = work.join("pause.tar");
    buildah(&["push", PAUSE_IMAGE, &format!("docker-archive:{}:{PAUSE_IMAGE}", archive.display())])?;
    fs::rename(&archive, &done).at("finishing", &done)?;
    remove_dir(&work)?;
    Ok(done)
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("removing", dir),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A short name for exactly these inputs.
fn key(inputs: &[&str]) -> String {
    use std::fmt::Write as _;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for input in inputs {
        // The length first: two inputs must not read as two others.
        context.update(&input.len().to_le_bytes());
        context.update(input.as_bytes());
    }
    context.finish().as_ref()[..6].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `v1.35.4` as `("1", "35")`.
fn major_minor(version: &str) -> (&str, &str) {
    let mut numbers = version.trim_start_matches('v').split('.');
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_changes_with_every_input_and_with_their_borders() {
        let keys = [key(&["a", "b"]), key(&["ab", ""]), key(&["a", "c"]), key(&["b", "a"])];
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(one));
        }
        assert_eq!(key(&["a", "b"]), keys[0]);
    }

    #[test]
    fn the_reported_version_is_the_one_in_go_mod() {
        let go_mod = include_str!("../go/kubernetes/go.mod");
        assert!(go_mod.contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION}\n")));
        assert_eq!(major_minor(KUBERNETES_VERSION), ("1", "35"));
    }

    #[test]
    fn a_failed_build_shows_its_last_words() {
        let error = build_with_progress("x", &mut command("sh", ["-c", "echo pkg >&2; echo it is broken >&2; exit 1"]));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("it is broken") && !text.contains("pkg"), "{text}");
    }
}
