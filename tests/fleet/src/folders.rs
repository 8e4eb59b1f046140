//! An `McpCluster` file → the folders that a pod of it mounts.

use std::fs;
use std::path::{Path, PathBuf};

use mcp_crds::control::{Key, KeyRing};
use mcp_crds::shard::{CONFIG_FILE, HASH_FILE, KEYS_FILE};
use ring::rand::{SecureRandom as _, SystemRandom};
use tempfile::TempDir;

/// The folders of one cluster; all its shards read the same ones. Removed on drop.
#[derive(Debug)]
pub(crate) struct Folders {
    root: TempDir,
    /// What the shards are to serve.
    pub(crate) hash: String,
    /// What requests to the control port are signed with.
    pub(crate) keys: KeyRing,
}

impl Folders {
    /// Reads the file as the operator does. Pages from the entrance may call, as the official suite's do.
    pub(crate) fn of(manifest: &Path, entrance: u16) -> Result<Self, String> {
        let text = fs::read_to_string(manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
        let name = manifest.display().to_string();
        let read = mcp_crds::manifest::read(&text, &name, env!("CARGO_PKG_VERSION")).map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })?;
        let mut config = mcp_crds::shard_config(&read.cluster.spec, read.compiled.catalog, &[]);
        let pages = ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{entrance}"));
        config.transport.allowed_origins.extend(pages);
        config.logging.json = false;
        let packed = config.pack().map_err(|error| format!("the configuration does not pack: {error}"))?;
        let keys = key_ring()?;
        let folders = Self { root: TempDir::new().map_err(|error| error.to_string())?, hash: packed.hash, keys };
        let keys = serde_json::to_vec(&folders.keys).map_err(|error| error.to_string())?;
        write(&folders.config().join(CONFIG_FILE), &packed.bytes)?;
        write(&folders.config().join(HASH_FILE), folders.hash.as_bytes())?;
        write(&folders.keys_folder().join(KEYS_FILE), &keys)?;
        fs::create_dir_all(folders.credentials()).map_err(|error| error.to_string())?;
        for (file, value) in &read.credentials {
            write(&folders.credentials().join(&file.0), value)?;
        }
        Ok(folders)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.path().join("config")
    }

    pub(crate) fn keys_folder(&self) -> PathBuf {
        self.root.path().join("keys")
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.root.path().join("credentials")
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes)).map_err(|error| format!("{}: {error}", path.display()))
}

fn key_ring() -> Result<KeyRing, String> {
    let key = || {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| "no random bytes".to_owned())?;
        Ok::<_, String>(Key::from_bytes(&bytes))
    };
    let (session, control) = (key()?, key()?);
    Ok(KeyRing { sealing: session.id.clone(), signing: control.id.clone(), session: vec![session], control: vec![control] })
}

#[cfg(test)]
mod tests {
    use mcp_crds::shard::ShardConfig;

    use super::*;

    #[test]
    fn a_sample_becomes_what_a_shard_reads() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/samples/quickstart.yaml");
        let folders = Folders::of(&sample, 4000).unwrap();
        let packed = fs::read(folders.config().join(CONFIG_FILE)).unwrap();
        let config = ShardConfig::unpack(&packed, &folders.hash).unwrap();
        assert!(config.transport.allowed_origins.contains(&"http://localhost:4000".to_owned()));
        let keys: KeyRing = serde_json::from_slice(&fs::read(folders.keys_folder().join(KEYS_FILE)).unwrap()).unwrap();
        assert!(keys.sealing_key().is_some() && keys.signing_key().is_some());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("bad.yaml");
        let text =
            "apiVersion: mcpcluster.dev/v1alpha1\nkind: McpCluster\nmetadata: {name: bad}\nspec:\n  limits: {maxStreams: 0}\n";
        fs::write(&file, text).unwrap();
        let told = Folders::of(&file, 1).unwrap_err();
        assert!(told.contains("bad.yaml:5:"), "{told}");
    }
}
