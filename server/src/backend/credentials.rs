//! Credentials: one file for each referenced key of a Secret, mounted by the operator.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, io};

use arc_swap::ArcSwap;
use mcp_crds::catalog::CredentialFile;

/// The largest credential that is read, bytes: a token in a header, not a file.
const MAX_BYTES: u64 = 64 << 10;

/// The credentials of a shard, read from a folder and read again when it changes.
#[derive(Debug)]
pub struct Credentials {
    folder: PathBuf,
    values: ArcSwap<HashMap<String, Secret>>,
}

/// A value that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Arc<[u8]>);

impl Credentials {
    /// Reads a folder. One that does not exist holds nothing: a catalog without credentials needs none.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be read.
    pub fn load(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: folder.to_owned(), values: ArcSwap::from_pointee(read(folder)?) })
    }

    /// Credentials that are at hand: those of a manifest.
    pub fn of(values: impl IntoIterator<Item = (CredentialFile, Vec<u8>)>) -> Self {
        let values = values.into_iter().map(|(file, value)| (file.0, Secret(value.into()))).collect();
        Self { folder: PathBuf::new(), values: ArcSwap::from_pointee(values) }
    }

    /// No credentials at all.
    pub fn none() -> Self {
        Self { folder: PathBuf::new(), values: ArcSwap::default() }
    }

    /// Reads the folder again and tells whether anything changed. Calls that run keep what they have; the next one takes
    /// the new value, so that a rotated token needs neither a restart nor a new catalog.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be read; what was read before stays.
    pub fn reload(&self) -> io::Result<bool> {
        let new = read(&self.folder)?;
        let changed = **self.values.load() != new;
        if changed {
            self.values.store(Arc::new(new));
        }
        Ok(changed)
    }

    /// The value of a file, without the line end that editors and shells leave at its end.
    pub(super) fn get(&self, file: &CredentialFile) -> Option<Secret> {
        self.values.load().get(&file.0).cloned()
    }
}

/// The kubelet mounts a Secret as links into a folder whose name starts with two dots, and swaps that folder.
fn read(folder: &Path) -> io::Result<HashMap<String, Secret>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(error),
    };
    let mut values = HashMap::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with("..") {
            continue;
        }
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            // Between two swaps of the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_file() && metadata.len() <= MAX_BYTES {
            let bytes = fs::read(entry.path())?;
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            values.insert(name, Secret(bytes.strip_suffix(b"\r").unwrap_or(bytes).into()));
        }
    }
    Ok(values)
}

// === impl Secret ===

impl Secret {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn get(credentials: &Credentials, file: &str) -> Option<String> {
        let secret = credentials.get(&CredentialFile(file.to_owned()))?;
        Some(String::from_utf8(secret.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_swapped_folder_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (data, value) in [("..1", "old\r\n"), ("..2", "new\n")] {
            fs::create_dir(at(data)).unwrap();
            fs::write(at(data).join("tickets_token"), value).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/tickets_token", at("tickets_token")).unwrap();
        let credentials = Credentials::load(folder.path()).unwrap();
        assert_eq!(get(&credentials, "tickets_token").as_deref(), Some("old"));
        assert!(!credentials.reload().unwrap(), "nothing changed");
        symlink("..2", at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        assert!(credentials.reload().unwrap());
        assert_eq!(get(&credentials, "tickets_token").as_deref(), Some("new"));
        assert_eq!(get(&credentials, "tickets_other"), None);
    }

    #[test]
    fn no_folder_is_no_credentials() {
        let credentials = Credentials::load(Path::new("/nonexistent/credentials")).unwrap();
        assert_eq!(get(&credentials, "a_b"), None);
    }

    #[test]
    fn debug_shows_no_value() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s_k"), "hunter2").unwrap();
        assert!(!format!("{:?}", Credentials::load(folder.path()).unwrap()).contains("hunter2"));
    }
}
