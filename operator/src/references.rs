//! What a catalog refers to: ConfigMaps and Secrets of its namespace, read by name.
//!
//! # RBAC
//! get on configmaps and secrets; never list or watch on secrets.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use mcp_crds::catalog::{Catalog, ConfigMapData, CredentialFile, Problem, config_maps};

use crate::apply::Writer;
use crate::error::Result;

/// A catalog refers to ConfigMaps, and entries of its sources to more; deeper it does not go.
const LEVELS: usize = 2;

/// Reads every ConfigMap a catalog refers to. Returns those that exist, and the names of all.
///
/// # Errors
/// When the API server does not say whether one exists.
pub async fn read_config_maps(
    writer: &Writer,
    catalog: Option<&Catalog>,
) -> Result<(BTreeMap<String, ConfigMapData>, BTreeSet<String>)> {
    let (mut found, mut names) = (BTreeMap::new(), BTreeSet::new());
    let Some(catalog) = catalog else { return Ok((found, names)) };
    for _ in 0..LEVELS {
        let wanted = config_maps(catalog, &found);
        for name in wanted.difference(&names) {
            if let Some(config_map) = writer.config_map(name).await? {
                found.insert(name.clone(), data_of(config_map));
            }
        }
        if wanted == names {
            break;
        }
        names = wanted;
    }
    Ok((found, names))
}

/// Reads every credential a catalog needs.
///
/// # Errors
/// The problems, when Secrets or keys of them are missing; the outer error when the API server does not say.
pub async fn read_credentials(
    writer: &Writer,
    files: &BTreeSet<CredentialFile>,
) -> Result<std::result::Result<BTreeMap<CredentialFile, Vec<u8>>, Vec<Problem>>> {
    let mut by_secret: BTreeMap<&str, Vec<(&str, &CredentialFile)>> = BTreeMap::new();
    for file in files {
        if let Some((secret, key)) = file.secret_and_key() {
            by_secret.entry(secret).or_default().push((key, file));
        }
    }
    let (mut found, mut problems) = (BTreeMap::new(), vec![]);
    for (name, keys) in by_secret {
        let Some(secret) = writer.secret(name).await? else {
            problems.push(Problem::secret_missing(name, None));
            continue;
        };
        let mut data = secret.data.unwrap_or_default();
        for (key, file) in keys {
            match data.remove(key) {
                Some(value) => drop(found.insert(file.clone(), value.0)),
                None => problems.push(Problem::secret_missing(name, Some(key))),
            }
        }
    }
    Ok(if problems.is_empty() { Ok(found) } else { Err(problems) })
}

fn data_of(config_map: ConfigMap) -> ConfigMapData {
    ConfigMapData {
        text: config_map.data.unwrap_or_default(),
        binary: config_map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect(),
    }
}
