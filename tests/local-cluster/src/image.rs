//! Images: there is no registry, they are imported from archives into every node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::command::node_place;
use crate::error::{At, Result};
use crate::part::Part;
use crate::plan::NodeName;
use crate::process::Life;
use crate::progress::say;
use crate::run::output;
use crate::state::State;
use crate::wait;

/// Imports a docker-archive into every node whose containerd runs, and keeps a copy for the others and
/// for nodes that join later.
pub(crate) fn load(cluster: &Cluster, archive: &Path) -> Result<()> {
    let archive = fs::canonicalize(archive).at("finding", archive)?;
    let kept = cluster.state.images().join(name_for(&archive));
    let new = kept.with_extension("new");
    fs::copy(&archive, &new).at("copying", &archive)?;
    fs::rename(&new, &kept).at("keeping", &kept)?;
    for name in cluster.record.node_names() {
        if cluster.life(Part::Containerd(name)) == Life::Running {
            for line in import(&kept, name)?.lines() {
                say(&format!("{name}: {line}"));
            }
        } else {
            say(&format!("{name}: its containerd does not run; it gets the image when the node starts"));
        }
    }
    Ok(())
}

/// The archives that were loaded, for a node that comes later.
pub(crate) fn kept(state: &State) -> Result<Vec<PathBuf>> {
    let dir = state.images();
    let mut archives = fs::read_dir(&dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>())
        .at("reading", dir)?;
    archives.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
    archives.sort();
    Ok(archives)
}

/// Imports an archive into one node and returns what `ctr` said.
pub(crate) fn import(archive: &Path, node: NodeName) -> Result<String> {
    let file = fs::File::open(archive).at("opening", archive)?;
    let mut ctr = ctr(node, &["images", "import", "-"])?;
    output(ctr.stdin(file))
}

/// Waits until a node's containerd answers.
pub(crate) fn wait_for_containerd(cluster: &Cluster, node: NodeName) -> Result<()> {
    let what = format!("containerd on {node} answering");
    cluster.until(&what, Duration::from_mins(1), &[Part::Containerd(node)], || {
        wait::succeeds(ctr(node, &["version"]).and_then(|mut ctr| output(&mut ctr)))
    })?;
    Ok(())
}

/// A `ctr` that speaks with a node's containerd about Kubernetes' images.
fn ctr(node: NodeName, args: &[&str]) -> Result<std::process::Command> {
    let mut command = node_place(node).command("ctr")?;
    command.args(["--namespace", "k8s.io"]).args(args);
    Ok(command)
}

/// A file name of its own for every archive; loading the same file again replaces the copy.
fn name_for(archive: &Path) -> String {
    archive.display().to_string().trim_start_matches('/').replace(['/', '.'], "-") + ".tar"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_of_the_same_name_in_two_folders_are_both_kept() {
        assert_ne!(name_for(Path::new("/a/image.tar")), name_for(Path::new("/b/image.tar")));
    }

    #[test]
    fn only_whole_archives_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path().join("state")).unwrap();
        state.create().unwrap();
        for name in ["b.tar", "a.tar", "c.new"] {
            fs::write(state.images().join(name), "").unwrap();
        }
        let names: Vec<_> = kept(&state).unwrap().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.tar", "b.tar"]);
    }
}
