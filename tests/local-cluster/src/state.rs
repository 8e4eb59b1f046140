//! The state folder: where everything of one cluster is, and the record of what runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};
use crate::part::Part;
use crate::plan::NodeName;
use crate::process::{Identity, Life};

/// Marks a folder as ours: `down` removes no folder without it.
const MARKER: &str = ".local-cluster";

/// The state folder. Every path of the cluster is named here, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    dir: PathBuf,
}

impl State {
    /// `dir` must be absolute: parts run with other working directories.
    pub(crate) fn at(dir: PathBuf) -> Result<Self> {
        if dir.starts_with("/run") {
            return Err(Error::Refused(format!(
                "the state folder cannot be under /run ({}): a node has a /run of its own",
                dir.display()
            )));
        }
        Ok(Self { dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the folder, marked as ours. A folder with other things in it is refused.
    pub(crate) fn create(&self) -> Result<()> {
        let occupied = fs::read_dir(&self.dir).is_ok_and(|mut entries| entries.next().is_some());
        if occupied && !self.dir.join(MARKER).exists() {
            return Err(Error::Refused(format!(
                "{} is not empty and not a state folder; name another with --state",
                self.dir.display()
            )));
        }
        for dir in [&self.dir, &self.pki(), &self.logs(), &self.config(), &self.images()] {
            fs::create_dir_all(dir).at("making the folder", dir)?;
        }
        self.write(&self.dir.join(MARKER), "The state of a local-cluster; `local-cluster down` removes it.\n")
    }

    /// Removes the folder if it is ours; one that is gone, or not ours, is left as it is.
    pub(crate) fn remove(&self) -> Result<()> {
        if !self.dir.join(MARKER).exists() {
            return Ok(());
        }
        // The marker goes last: a removal that was interrupted can be taken up again.
        for entry in fs::read_dir(&self.dir).at("reading", &self.dir)? {
            let path = entry.at("reading", &self.dir)?.path();
            if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path).at("removing", &path)?;
            } else if !path.ends_with(MARKER) {
                fs::remove_file(&path).at("removing", &path)?;
            }
        }
        fs::remove_dir_all(&self.dir).at("removing", &self.dir)
    }

    /// Writes a file that only root may read: many of them hold keys.
    #[expect(clippy::unused_self, reason = "what is written belongs to the state folder")]
    pub(crate) fn write(&self, path: &Path, content: &str) -> Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("making the folder", parent)?;
        }
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .at("writing", path)
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("config")
    }
    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }
    pub(crate) fn etcd_data(&self) -> PathBuf {
        self.dir.join("etcd")
    }
    pub(crate) fn node(&self, node: NodeName) -> PathBuf {
        self.dir.join("nodes").join(node.to_string())
    }
    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }
    /// `/etc/resolv.conf` of commands in the client namespace.
    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.dir.join("resolv.conf")
    }
    /// The API server's audit log, one JSON object a line.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }
    pub(crate) fn log(&self, part: Part) -> PathBuf {
        self.logs().join(format!("{}.log", part.slug()))
    }
    fn record(&self) -> PathBuf {
        self.dir.join("record.json")
    }

    /// The record, or an empty one when there is none.
    pub(crate) fn load(&self) -> Result<Record> {
        let path = self.record();
        match fs::read_to_string(&path) {
            Ok(text) => Record::parse(&text).map_err(|source| Error::Record { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(error).at("reading", path),
        }
    }

    /// Replaces the record at once: a reader sees the old one or the new one.
    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        let path = self.record();
        let new = path.with_extension("json.new");
        self.write(&new, &record.render())?;
        fs::rename(&new, &path).at("replacing", path)
    }
}

/// What runs, and with which settings: enough to start any part again.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Where the programs are.
    pub programs: crate::binaries::Programs,
    /// The nodes by name, with their settings.
    #[serde(default)]
    pub nodes: Vec<NodeRecord>,
    /// The process of each part that was started, by the part's name.
    #[serde(default)]
    pub processes: BTreeMap<String, Identity>,
    /// Whether `up` came to its end.
    #[serde(default)]
    pub complete: bool,
}

/// A node's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub name: NodeName,
    /// The memory that pods may use, in bytes; all of the machine's when absent.
    #[serde(default)]
    pub memory: Option<u64>,
}

impl Record {
    fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    fn render(&self) -> String {
        serde_json::to_string_pretty(self).expect("a record has only string keys") + "\n"
    }

    pub(crate) fn node_names(&self) -> Vec<NodeName> {
        self.nodes.iter().map(|node| node.name).collect()
    }

    pub(crate) fn has_node(&self, name: NodeName) -> bool {
        self.nodes.iter().any(|node| node.name == name)
    }

    /// Every part that this cluster has, in the order in which they start.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let of_nodes = self.nodes.iter().flat_map(|node| Part::of_node(node.name));
        Part::CLUSTER.into_iter().chain(of_nodes).collect()
    }

    /// Whether any part lives. Containers may, without any: they are no cluster.
    pub(crate) fn is_alive(&self) -> bool {
        self.processes.values().any(|process| matches!(process.life(), Life::Running | Life::Paused))
    }

    pub(crate) fn process(&self, part: Part) -> Option<&Identity> {
        self.processes.get(&part.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            nodes: NodeName::first(2).map(|name| NodeRecord { name, memory: Some(1 << 30) }).collect(),
            processes: [("etcd".to_owned(), Identity { pid: 7, start: 99, program: "etcd".into() })].into(),
            complete: true,
            ..Record::default()
        }
    }

    #[test]
    fn a_record_survives_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path().join("state")).unwrap();
        state.create().unwrap();
        state.save(&record()).unwrap();
        assert_eq!(state.load().unwrap(), record());
    }

    #[test]
    fn no_record_is_an_empty_one_and_a_broken_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path().to_owned()).unwrap();
        assert_eq!(state.load().unwrap(), Record::default());
        fs::write(state.record(), "{").unwrap();
        assert!(matches!(state.load(), Err(Error::Record { .. })));
    }

    #[test]
    fn a_two_node_record_names_twelve_parts() {
        assert_eq!(record().parts().len(), 12);
    }

    #[test]
    fn a_folder_that_is_not_ours_is_neither_used_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let state = State::at(dir.path().to_owned()).unwrap();
        assert!(matches!(state.create(), Err(Error::Refused(_))));
        state.remove().unwrap();
        assert!(dir.path().join("thesis.tex").exists());
    }

    #[test]
    fn keys_are_readable_by_root_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path().join("state")).unwrap();
        state.create().unwrap();
        state.write(&state.kubeconfig(), "").unwrap();
        let mode = fs::metadata(state.kubeconfig()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_removed_folder_can_be_removed_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path().join("state")).unwrap();
        state.create().unwrap();
        state.remove().unwrap();
        assert!(!state.dir().exists());
        state.remove().unwrap();
    }

    #[test]
    fn a_state_folder_under_run_is_refused() {
        assert!(State::at("/run/cluster".into()).is_err());
    }
}
