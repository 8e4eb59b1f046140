//! `--manifest FILE`: an `McpCluster` file → what a shard would have been configured with.

use std::fmt;
use std::path::Path;
use std::{fs, io};

use mcp_crds::control::KeyRing;
use mcp_crds::manifest::Problem;
use mcp_crds::shard::{KEYS_FILE, ShardConfig};

use crate::backend::Credentials;

/// The least a manifest says.
const ALONE: &str = "\
apiVersion: mcpcluster.dev/v1alpha1
kind: McpCluster
metadata: {name: program}
spec: {resources: {limits: {memory: 512Mi}}}
";

/// What a file says, ready to serve.
#[derive(Debug)]
pub struct Manifest {
    /// Limits, transport, drain, logging and catalog.
    pub config: ShardConfig,
    /// From the Secrets of the file.
    pub credentials: Credentials,
    /// From `--keys-dir`; without it they are random.
    pub keys: Option<KeyRing>,
}

/// Why a file is not served.
#[derive(Debug)]
pub enum Refused {
    /// A file cannot be read.
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// Everything that is wrong with it, each with its line.
    Wrong(Vec<Problem>),
    /// The keys are malformed.
    Keys(serde_json::Error),
}

/// Reads a file, and the keys beside it.
///
/// # Errors
/// Everything that is wrong.
pub fn read(file: &Path, keys: Option<&Path>) -> Result<Manifest, Refused> {
    let unreadable = |file: &Path, source| Refused::Unreadable { file: file.display().to_string(), source };
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
    of(&text, &file.display().to_string(), keys)
}

/// What a program serves that was given no file: nothing but its own, with the limits of an `McpCluster` that sets none.
///
/// # Errors
/// When the keys cannot be used.
pub fn without_file(name: &str, version: &str, keys: Option<&Path>) -> Result<Manifest, Refused> {
    let mut manifest = of(ALONE, "no manifest", keys)?;
    let info = &mut manifest.config.catalog.server_info;
    name.clone_into(&mut info.name);
    version.clone_into(&mut info.version);
    Ok(manifest)
}

fn of(text: &str, file: &str, keys: Option<&Path>) -> Result<Manifest, Refused> {
    let unreadable = |file: &Path, source| Refused::Unreadable { file: file.display().to_string(), source };
    let manifest = mcp_crds::manifest::read(text, file, env!("CARGO_PKG_VERSION")).map_err(Refused::Wrong)?;
    let keys = keys
        .map(|folder| {
            let path = folder.join(KEYS_FILE);
            let bytes = fs::read(&path).map_err(|error| unreadable(&path, error))?;
            serde_json::from_slice(&bytes).map_err(Refused::Keys)
        })
        .transpose()?;
    Ok(Manifest {
        config: mcp_crds::shard_config(&manifest.cluster.spec, manifest.compiled.catalog, &[]),
        credentials: Credentials::of(manifest.credentials),
        keys,
    })
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, source } => write!(f, "cannot read {file}: {source}"),
            Self::Keys(error) => write!(f, "{KEYS_FILE} is malformed: {error}"),
            Self::Wrong(problems) => {
                for problem in problems {
                    writeln!(f, "{problem}")?;
                }
                let s = if problems.len() == 1 { "" } else { "s" };
                write!(f, "{} problem{s}", problems.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn sample(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples").join(name)
    }

    #[test]
    fn the_quickstart_is_served_with_its_limits() {
        let manifest = read(&sample("quickstart.yaml"), None).unwrap();
        assert!(manifest.config.catalog.tools.iter().any(|tool| tool.definition.name == "greet"));
        assert_eq!(manifest.config.limits.max_in_flight_requests, 1024);
    }

    #[test]
    fn a_program_alone_is_served_under_its_name() {
        let manifest = without_file("Calculator", "2.1", None).unwrap();
        assert_eq!(manifest.config.catalog.server_info.name, "Calculator");
        assert!(manifest.config.catalog.tools.is_empty() && manifest.config.limits.max_streams > 0);
    }

    #[test]
    fn all_that_is_wrong_with_a_file_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bad.yaml");
        let text = "apiVersion: mcpcluster.dev/v1alpha1\nkind: McpCluster\nmetadata: {name: bad}\nspec:\n  resources: {limits: {memory: 512Mi}}\n  limits: {maxStreams: 0}\n  catalog:\n    tools:\n    - name: a b\n      static: {content: [{text: x}]}\n";
        fs::write(&file, text).unwrap();
        let told = read(&file, None).unwrap_err().to_string();
        assert!(told.contains("bad.yaml:6:") && told.contains("bad.yaml:9:"), "{told}");
    }

    #[test]
    fn a_missing_file_is_named() {
        assert!(read(Path::new("/nowhere/x.yaml"), None).unwrap_err().to_string().contains("/nowhere/x.yaml"));
    }
}
