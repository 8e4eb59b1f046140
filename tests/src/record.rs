//! Every status that is written in a namespace, and what must hold of each and of each pair.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use mcp_crds::{McpCluster, McpClusterStatus};
use tokio::task::JoinHandle;

use crate::claim;
use crate::failure::{Failure, Outcome};
use crate::namespace::Namespace;
use crate::run::read;

/// The conditions, in the order in which they are written.
const CONDITIONS: [&str; 8] =
    ["Ready", "Available", "Progressing", "AutoscalingActive", "ScalingLimited", "MemoryPressure", "Draining", "CatalogValid"];

/// `Ready`, `False`, `NameConflict`.
pub type Reason = (String, String, String);

type Statuses = BTreeMap<String, Vec<(i64, McpClusterStatus)>>;

/// Records the statuses of all clusters of a namespace, from before the first is created.
#[derive(Debug)]
pub struct Record {
    statuses: Arc<Mutex<Statuses>>,
    watching: JoinHandle<()>,
}

// === impl Record ===

impl Record {
    /// Begins to record.
    pub fn of(namespace: &Namespace) -> Self {
        let statuses = Arc::<Mutex<Statuses>>::default();
        let (into, api) = (statuses.clone(), namespace.api::<McpCluster>());
        let watching = tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let Ok(cluster) = event else { continue };
                let Some(status) = cluster.status.clone() else { continue };
                let mut all = into.lock().unwrap_or_else(PoisonError::into_inner);
                let written = all.entry(cluster.name_any()).or_default();
                if written.last().is_none_or(|(_, last)| *last != status) {
                    written.push((cluster.metadata.generation.unwrap_or_default(), status));
                }
            }
        });
        Self { statuses, watching }
    }

    /// Checks every status and every pair of statuses; returns each condition that was seen.
    ///
    /// # Errors
    /// What does not hold, of which cluster.
    pub fn check(&self) -> Outcome<BTreeSet<Reason>> {
        let all = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let vocabulary = vocabulary()?;
        let mut seen = BTreeSet::new();
        for (name, written) in &*all {
            for (generation, status) in written {
                seen.extend(whole(status, *generation, &vocabulary).map_err(|why| of(name, &why))?);
            }
            for pair in written.windows(2) {
                times(&pair[0].1, &pair[1].1).map_err(|why| of(name, &why))?;
            }
        }
        Ok(seen)
    }

    /// The reasons a condition of one cluster went through, each with its status, in order: `True Serving`.
    pub fn course(&self, cluster: &str, kind: &str) -> Vec<String> {
        let all = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let conditions = all.get(cluster).into_iter().flatten().flat_map(|(_, status)| &status.conditions);
        let mut course: Vec<_> = conditions
            .filter(|c| c.type_ == kind)
            .map(|condition| format!("{} {}", condition.status, condition.reason))
            .collect();
        course.dedup();
        course
    }

    /// How many statuses of a cluster were written.
    pub fn count(&self, cluster: &str) -> usize {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).get(cluster).map_or(0, Vec::len)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Every reason of every condition, from the table in docs/api.md.
///
/// # Errors
/// When there is no such table.
pub fn vocabulary() -> Outcome<BTreeSet<Reason>> {
    let text = read("docs/api.md")?;
    let mut vocabulary = BTreeSet::new();
    for line in text.lines() {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        // Condition, its normal status, and the reasons of each status.
        let [kind, _, reasons @ ..] = &cells[..] else { continue };
        if !CONDITIONS.contains(kind) || reasons.len() != 3 {
            continue;
        }
        for (status, reasons) in ["True", "False", "Unknown"].into_iter().zip(reasons) {
            let reasons = reasons.split(',').map(str::trim).filter(|reason| !reason.is_empty() && *reason != "-");
            vocabulary.extend(reasons.map(|reason| ((*kind).to_owned(), status.to_owned(), reason.to_owned())));
        }
    }
    claim!(vocabulary.len() > 60, "docs/api.md has no table of reasons, or a small one: {vocabulary:?}");
    Ok(vocabulary)
}

fn of(name: &str, why: &str) -> Failure {
    Failure::new(format!("{name}: {why}"))
}

/// All conditions are there, in order, of a generation, and each says what the API knows.
fn whole(status: &McpClusterStatus, generation: i64, vocabulary: &BTreeSet<Reason>) -> Result<Vec<Reason>, String> {
    let kinds: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    if kinds != CONDITIONS {
        return Err(format!("its conditions are {kinds:?}"));
    }
    let mut seen = vec![];
    for condition in &status.conditions {
        let Condition { type_, status, reason, observed_generation, .. } = condition;
        let known = (type_.clone(), status.clone(), reason.clone());
        if !vocabulary.contains(&known) {
            return Err(format!("{type_}={status} {reason} is not in docs/api.md"));
        }
        if observed_generation.is_none_or(|observed| observed < 1 || observed > generation) {
            return Err(format!("{type_} observed generation {observed_generation:?} of {generation}"));
        }
        seen.push(known);
    }
    Ok(seen)
}

/// A condition's time moves when its status does, forward, and only then.
fn times(before: &McpClusterStatus, after: &McpClusterStatus) -> Result<(), String> {
    for (old, new) in before.conditions.iter().zip(&after.conditions) {
        let (was, is) = (old.last_transition_time.0, new.last_transition_time.0);
        let holds = if old.status == new.status { was == is } else { was <= is };
        if !holds {
            return Err(format!(
                "{} went from {} {} to {} {}, and its time from {was} to {is}",
                old.type_, old.status, old.reason, new.status, new.reason
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn status(ready: &str, second: i64) -> McpClusterStatus {
        let conditions = CONDITIONS.map(|kind| Condition {
            type_: kind.into(),
            status: if kind == "Ready" { ready } else { "True" }.into(),
            reason: "Any".into(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::from_second(if kind == "Ready" { second } else { 0 }).unwrap()),
        });
        McpClusterStatus { conditions: conditions.into(), ..McpClusterStatus::default() }
    }

    #[test]
    fn a_time_that_moves_without_its_status_is_found() {
        assert_eq!(times(&status("True", 1), &status("True", 1)), Ok(()));
        assert_eq!(times(&status("True", 1), &status("False", 2)), Ok(()));
        assert!(times(&status("True", 1), &status("True", 2)).is_err());
        assert!(times(&status("True", 2), &status("False", 1)).is_err());
    }

    #[test]
    fn a_reason_that_is_not_api_and_a_missing_condition_are_found() {
        let known = |status: &McpClusterStatus| -> BTreeSet<Reason> {
            status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect()
        };
        let mut one = status("True", 1);
        let vocabulary = known(&one);
        assert_eq!(whole(&one, 1, &vocabulary).map(|seen| seen.len()), Ok(8));
        one.conditions[3].reason = "Other".into();
        assert!(whole(&one, 1, &vocabulary).is_err());
        one.conditions.remove(3);
        assert!(whole(&one, 1, &vocabulary).is_err());
        assert!(whole(&status("True", 1), 0, &vocabulary).is_err(), "of a generation that is not there yet");
    }

    #[test]
    fn the_documentation_has_all_reasons() {
        let vocabulary = vocabulary().unwrap();
        let has = |kind: &str, status: &str, reason: &str| vocabulary.contains(&(kind.into(), status.into(), reason.into()));
        assert!(has("Ready", "False", "NameConflict") && has("CatalogValid", "Unknown", "NotLoaded"));
        assert!(!has("Ready", "True", "NameConflict"));
    }
}
