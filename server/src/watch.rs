//! The mounted folders, read again when they change: configuration, keys, credentials.
//!
//! A ConfigMap or Secret changes by a swap of links that sends no event across a mount, so the folders are polled; one
//! look reads a few hundred bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use mcp_crds::control::KeyRing;
use mcp_crds::shard::{CONFIG_FILE, HASH_FILE, KEYS_FILE, ShardConfig, UnpackError};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backend::{Clients, Credentials};
use crate::config::Source;
use crate::serving::Serving;
use crate::shard::Shard;
use crate::staging::Staging;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// Keys and credentials are looked at every so many looks.
const SECRETS_EVERY: u32 = 4;
/// The two files of a configuration may be from different moments for so many looks before that is an error.
const MISMATCHES: u32 = 6;
/// A complaint about what is missing is repeated after so many looks.
const COMPLAIN_EVERY: u32 = 20;

/// The folders of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// [`CONFIG_FILE`] and [`HASH_FILE`].
    pub config: PathBuf,
    /// [`KEYS_FILE`].
    pub keys: PathBuf,
    /// One file for each credential.
    pub credentials: PathBuf,
}

/// Looks at the folders.
#[derive(Debug)]
pub struct Watcher {
    shard: Arc<Shard>,
    staging: Arc<Staging>,
    folders: Folders,
    clients: Arc<Clients>,
    credentials: Option<Arc<Credentials>>,
    keys: Option<Vec<u8>>,
    refused_keys: Option<Vec<u8>>,
    seen: Option<String>,
    mismatches: u32,
    looks: u32,
}

impl Watcher {
    /// Has looked at nothing yet.
    pub fn new(shard: Arc<Shard>, staging: Arc<Staging>, folders: Folders, clients: Arc<Clients>) -> Self {
        Self {
            shard,
            staging,
            folders,
            clients,
            credentials: None,
            keys: None,
            refused_keys: None,
            seen: None,
            mismatches: 0,
            looks: 0,
        }
    }

    /// Looks until told to stop. Reading and compiling block, so they have a thread of their own.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            match tokio::task::spawn_blocking(move || {
                self.look();
                self
            })
            .await
            {
                Ok(looked) => self = looked,
                Err(error) => {
                    warn!(%error, "looking at the configuration ended");
                    return;
                }
            }
            self.staging.tick(&self.shard, Instant::now());
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(PERIOD) => {}
            }
        }
    }

    /// One look. Nothing is served before there are keys: another shard could not open the sessions made without.
    fn look(&mut self) {
        if self.looks.is_multiple_of(SECRETS_EVERY) || self.keys.is_none() {
            self.look_at_keys();
            self.look_at_credentials();
        }
        if self.keys.is_some() {
            self.look_at_config();
        }
        self.looks = self.looks.wrapping_add(1);
    }

    fn look_at_keys(&mut self) {
        let path = self.folders.keys.join(KEYS_FILE);
        let bytes = match fs::read(&path) {
            // Neither the same keys nor the same complaint again.
            Ok(bytes) if self.keys.as_ref() == Some(&bytes) || self.refused_keys.as_ref() == Some(&bytes) => return,
            Ok(bytes) => bytes,
            Err(error) => return self.missing(&path, &error, self.keys.is_none()),
        };
        let replaced = serde_json::from_slice::<KeyRing>(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|ring| self.shard.sessions.replace_keys(ring).map_err(|error| error.to_string()));
        match replaced {
            Ok(()) => {
                let ring = self.shard.sessions.ring();
                info!(sealing = ring.sealing, session_keys = ring.session.len(), "keys are loaded");
                self.keys = Some(bytes);
            }
            Err(error) => {
                warn!(error, path = %path.display(), "keys cannot be used; those in use stay");
                self.refused_keys = Some(bytes);
            }
        }
    }

    fn look_at_credentials(&mut self) {
        let folder = &self.folders.credentials;
        let outcome = match &self.credentials {
            None => Credentials::load(folder).map(|credentials| self.credentials = Some(Arc::new(credentials))),
            Some(credentials) => credentials.reload().map(|changed| {
                if changed {
                    info!("credentials are reloaded");
                }
            }),
        };
        if let Err(error) = outcome {
            warn!(%error, folder = %folder.display(), "credentials cannot be read; those in use stay");
        }
    }

    fn look_at_config(&mut self) {
        let Some(credentials) = self.credentials.clone() else { return };
        let path = self.folders.config.join(HASH_FILE);
        let hash = match fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) => return self.missing(&path, &error, self.seen.is_none()),
        };
        if self.seen.as_ref() == Some(&hash) {
            return;
        }
        match load(&self.folders.config, &hash) {
            Ok(config) => {
                let environment = &self.shard.environment;
                match Serving::build(&config, &hash, environment, credentials, &self.clients, &self.shard.code) {
                    Ok(serving) => self.staging.stage(&self.shard, Arc::new(serving), Instant::now()),
                    Err(error) => self.staging.failed(format!("{hash}: {}", error.problems.join("; "))),
                }
            }
            // The swap of the folder came between the two reads: the next look finds them together.
            Err(LoadError::Unpack(UnpackError::Hash { .. }) | LoadError::Read(_)) if self.mismatches < MISMATCHES => {
                self.mismatches += 1;
                return;
            }
            Err(error) => self.staging.failed(format!("{hash}: {}", chain(&error))),
        }
        self.mismatches = 0;
        self.seen = Some(hash);
    }

    fn missing(&self, path: &Path, error: &io::Error, needed: bool) {
        if needed && self.looks.is_multiple_of(COMPLAIN_EVERY) {
            warn!(%error, path = %path.display(), "not ready: waiting for a file");
        } else {
            debug!(%error, path = %path.display(), "cannot read");
        }
    }
}

/// Whether the configuration asks for a JSON log: needed before there is a log. Without a configuration yet, it does.
pub fn says_json(source: &Source) -> bool {
    let Source::Folders(folders) = source else { return false };
    let config = fs::read_to_string(folders.config.join(HASH_FILE)).ok().and_then(|hash| load(&folders.config, hash.trim()).ok());
    config.is_none_or(|config| config.logging.json)
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("{CONFIG_FILE} cannot be read")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

fn load(folder: &Path, hash: &str) -> Result<ShardConfig, LoadError> {
    let bytes = fs::read(folder.join(CONFIG_FILE)).map_err(LoadError::Read)?;
    Ok(ShardConfig::unpack(&bytes, hash)?)
}

/// An error and what caused it, on one line: the operator shows it in a condition.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
