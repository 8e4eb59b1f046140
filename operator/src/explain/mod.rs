//! `mcp-operator explain`: the decision about a cluster, and why, from two files and without a cluster.
//!
//! ```text
//! cluster.yaml  → McpCluster ┐
//! observed.yaml → Scene      ┴→ Observed + History → scale::decide → words
//! ```
//! It is the operator's own [`scale::decide`], now and in steps of a report interval for as long as nothing else would change.

mod scene;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mcp_crds::McpCluster;
use mcp_crds::check::check;
use mcp_crds::cluster::schema;
use mcp_crds::manifest::Problem;
use mcp_crds::yaml::{self, Node, Position};

use crate::scale::{self, History, Policy};
use crate::stages::{Decision, Observed, ShardState, elapsed};

/// How far ahead it looks for the next change: longer than the longest window, and than a gate takes to name its remedy.
const HORIZON: Duration = Duration::from_mins(70);
/// The time at which every explanation happens: it has no clock, so that the same files give the same words.
const NOW: i64 = 1_800_000_000;

/// Explains the decision about a cluster. Each file is its name and its text.
///
/// # Errors
/// Everything that is wrong with the files, each with its line.
pub fn explain(cluster: (&str, &str), observed: (&str, &str)) -> Result<String, Vec<Problem>> {
    let now = Timestamp::from_second(NOW).unwrap_or_default();
    let cluster = read_cluster(cluster);
    // What is wrong with either is told together, as far as the second can be read without the first.
    let (cluster, read) = match cluster {
        Ok(cluster) => (cluster, scene::read(observed)),
        Err(mut problems) => {
            problems.extend(scene::read(observed).err().unwrap_or_default());
            return Err(problems);
        }
    };
    let (observed, history) = read?.stage(&cluster, now).map_err(|mut problems| {
        for problem in &mut problems {
            observed.0.clone_into(&mut problem.file);
        }
        problems
    })?;
    let policy = Policy::of(&cluster.spec);
    let (decision, history) = scale::decide(&policy, &observed, history, now);
    let next = next(&policy, &observed, &decision, history, now);
    Ok(words::explanation(&observed, &decision, next.as_ref()))
}

/// The first decision that differs, and how much later it comes, if nothing but time changes.
fn next(
    policy: &Policy,
    observed: &Observed,
    first: &Decision,
    mut history: History,
    now: Timestamp,
) -> Option<(Duration, Decision)> {
    let mut observed = observed.clone();
    let speaks: Vec<bool> = observed.shards.iter().map(|shard| matches!(observed.state(shard, now), ShardState::Fresh)).collect();
    let step = SignedDuration::try_from(observed.report_interval).unwrap_or(SignedDuration::from_secs(5));
    let mut time = now;
    while elapsed(now, time) < HORIZON {
        time = time.checked_add(step).ok()?;
        for (shard, _) in observed.shards.iter_mut().zip(&speaks).filter(|(_, speaks)| **speaks) {
            if let Some(received) = &mut shard.report {
                received.at = time;
                received.report.seq += 1;
            }
        }
        let (decision, after) = scale::decide(policy, &observed, history, time);
        history = after;
        if differs(first, &decision) {
            return Some((elapsed(now, time), decision));
        }
    }
    None
}

/// Whether a person would call it another decision. What is under way goes on.
fn differs(first: &Decision, later: &Decision) -> bool {
    let sheds_anew = first.sheds.is_empty() && !later.sheds.is_empty();
    let drains_anew = first.victims.is_empty() && !later.victims.is_empty();
    let recycles_anew = first.retiring.is_empty() && !later.retiring.is_empty();
    let held = |decision: &Decision| decision.held.as_ref().map(|held| held.message.clone());
    let is_told_anew = held(later).is_some() && held(first) != held(later);
    first.desired != later.desired || sheds_anew || drains_anew || recycles_anew || is_told_anew
}

/// The one McpCluster of a file, as it was written or as `kubectl get -o yaml` prints it. Other documents are left alone, and
/// what its catalog refers to is not looked up: it decides nothing here.
fn read_cluster((file, text): (&str, &str)) -> Result<McpCluster, Vec<Problem>> {
    let problem = |at: Position, path: String, message: String| Problem { file: file.to_owned(), at, path, message };
    let start = Position { line: 1, column: 1 };
    let documents = yaml::read(text).map_err(|error| vec![problem(error.at, String::new(), error.message)])?;
    let clusters: Vec<&Node> = documents.iter().filter(|document| document.text("kind") == Some("McpCluster")).collect();
    let document = match clusters.as_slice() {
        [one] => *one,
        [] => return Err(vec![problem(start, String::new(), "no McpCluster in this file".to_owned())]),
        [_, second, ..] => {
            return Err(vec![problem(
                second.at,
                String::new(),
                "the file holds a second McpCluster: one is explained".to_owned(),
            )]);
        }
    };
    let checked = check(schema(), document, &["apiVersion", "kind", "metadata", "status"]);
    if !checked.findings.is_empty() {
        let told = checked.findings.iter().map(|finding| problem(finding.at, finding.path.to_string(), finding.message.clone()));
        return Err(told.collect());
    }
    let mut cluster: McpCluster =
        serde_json::from_value(checked.value).map_err(|error| vec![problem(document.at, String::new(), error.to_string())])?;
    // Its status is what a new leader would find; a broken one is like none.
    cluster.status = document.get("status").and_then(|status| serde_json::from_value(status.to_json()).ok());
    Ok(cluster)
}
