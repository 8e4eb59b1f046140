//! `Available`: can anyone connect? And `Ready`: is it as the spec says, and what is the worst thing now?

use std::time::Duration;

use super::view::{View, trouble_words};
use super::{Truth, Verdict, revision};
use crate::stages::{CatalogOutcome, Failure, FailureReason, Gate, ObservedShard, TroubleKind, elapsed};
use crate::words::{names, shards, thousands, three_figures};

/// Shards go over to a new configuration within this time: kubelets bring it, shards load it, and after 30 s they flip without
/// those that have not.
const FLIP_PATIENCE: Duration = Duration::from_secs(45);

/// The condition `Available`: page on it.
pub(super) fn available(view: &View<'_>) -> Verdict {
    let decide = |status, reason, message: String| Verdict { kind: "Available", status, reason, message };
    let serving: Vec<_> = view.serving().collect();
    if !serving.is_empty() {
        let room: u64 = serving.iter().map(|shard| free(view, shard)).fold(0, u64::saturating_add);
        let unknown = serving.iter().any(|shard| shard.reported().is_none_or(|report| report.hard_cap == 0));
        if room == 0 && !unknown {
            return decide(
                Truth::False,
                "AtCapacity",
                format!("{} of {} are full.", serving.len(), shards(serving.len() as u64)),
            );
        }
        let placed: Vec<_> = serving.iter().filter(|shard| shard.placed).collect();
        let taking = if placed.is_empty() { serving.len() } else { placed.len() };
        let verb = if taking == 1 { "takes" } else { "take" };
        let more = if room > 0 { format!("; {} more fit", thousands(three_figures(room))) } else { String::new() };
        return decide(Truth::True, "ShardsReady", format!("{} {verb} new connections{more}.", shards(taking as u64)));
    }
    let pods: Vec<_> = view.active().chain(view.lost()).collect();
    let has_started = pods.iter().any(|shard| shard.was_ready());
    let none = if has_started { "No shard is Ready." } else { "No shard has started." };
    if view.decision.desired == 0 {
        return decide(Truth::False, "ScaledToZero", "`replicas` is 0.".into());
    }
    if let Some((_, trouble)) = view.worst_trouble(pods.iter().copied()) {
        return decide(Truth::False, trouble.kind.as_str(), none.into());
    }
    if view.applied.failures.iter().any(|failure| failure.reason == FailureReason::QuotaExceeded) {
        return decide(Truth::False, "QuotaExceeded", none.into());
    }
    if pods.is_empty()
        && view.applied.failures.is_empty()
        && view.observed.has_configuration()
        && view.previous.conditions.is_empty()
    {
        return decide(Truth::Unknown, "Reconciling", "The first shards are being created.".into());
    }
    decide(Truth::False, "NoShardReady", none.into())
}

/// The condition `Ready`: True when available, valid and rolled out. Its reason names the worst thing now, also when True.
pub(super) fn ready(view: &View<'_>, others: &[Verdict]) -> Verdict {
    let decide = |status, reason, message: String| Verdict { kind: "Ready", status, reason, message };
    let is = |kind: &str| others.iter().find(|verdict| verdict.kind == kind);
    if let Some(available) = is("Available") {
        match available.status {
            Truth::False => {
                let (reason, message) = cause(view)
                    .filter(|_| available.reason == "NoShardReady")
                    .unwrap_or_else(|| (available.reason, why_unavailable(view, available)));
                return decide(Truth::False, reason, message);
            }
            Truth::Unknown => return decide(Truth::Unknown, "Reconciling", available.message.clone()),
            Truth::True => {}
        }
    }
    if let Some(failure) = worst_failure(view) {
        return decide(Truth::False, failure.reason.as_str(), failure_words(failure));
    }
    let stuck = is("Progressing").filter(|verdict| matches!(verdict.reason, "RolloutFrozen" | "DeadlineExceeded"));
    if let Some(progressing) = stuck {
        return decide(Truth::False, progressing.reason, progressing.message.clone());
    }
    if is("CatalogValid").is_some_and(|verdict| verdict.status == Truth::False) {
        let served = match (view.applied.published_generation, view.published()) {
            (Some(generation), _) => format!("the catalog of generation {generation}"),
            (None, Some(hash)) => format!("the last good catalog, revision {}", revision(hash)),
            (None, None) => "the last good catalog".to_owned(),
        };
        let serving = shards(view.serving().count() as u64);
        let verb = if view.serving().count() == 1 { "serves" } else { "serve" };
        return decide(Truth::False, "CatalogInvalid", format!("{serving} {verb} {served}."));
    }
    if let Some(message) = rolling_out(view) {
        return decide(Truth::False, "RollingOut", message);
    }
    if let Some(hot) = view.hottest().filter(|_| is("MemoryPressure").is_some_and(|verdict| verdict.status == Truth::True)) {
        let message = format!("{} is at {}.", hot.shard.name, super::memory::steady_words(view, &hot));
        return decide(Truth::True, "MemoryPressure", message);
    }
    if view.fresh().next().is_none() && view.silent().next().is_some() {
        return decide(Truth::True, "MetricsUnavailable", "No shard reports its load.".into());
    }
    if let Some(held) = view.decision.held.as_ref().filter(|held| held.gate == Gate::AtMaximum) {
        return decide(Truth::True, "AtMaximum", held.message.clone());
    }
    if view.observed.cluster.spec.paused {
        return decide(Truth::True, "Paused", "`paused` is true: nothing is created, drained or deleted.".into());
    }
    decide(Truth::True, "Serving", serving(view))
}

/// The worst refused write.
pub(super) fn worst_failure<'a>(view: &View<'a>) -> Option<&'a Failure> {
    view.applied.failures.iter().min_by_key(|failure| (failure.reason, &failure.object))
}

/// `Service tools: the API server's words.`
pub(super) fn failure_words(failure: &Failure) -> String {
    let words = failure.message.trim_end();
    let stop = if words.ends_with('.') { "" } else { "." };
    format!("{}: {words}{stop}", failure.object)
}

/// What keeps the first shard from being created, when something does and it is not about pods: that says more than that no
/// shard is there.
fn cause(view: &View<'_>) -> Option<(&'static str, String)> {
    if let Some(failure) = worst_failure(view) {
        return Some((failure.reason.as_str(), failure_words(failure)));
    }
    match &view.observed.catalog {
        CatalogOutcome::Refused { errors, .. } if view.published().is_none() => {
            let first = errors.first().map(|error| format!(" {}.", error.trim_end_matches('.'))).unwrap_or_default();
            Some(("CatalogInvalid", format!("There is no valid catalog to start shards with.{first}")))
        }
        CatalogOutcome::Refused { .. } | CatalogOutcome::NotLoaded | CatalogOutcome::Compiled(_) => None,
    }
}

/// Whether the only thing to say against `Ready` is that shards are about to go over to a new configuration: they load it, and
/// flip together a moment later. For so long the condition stays what it was, of the generation it was about; for `kubectl
/// wait` that is no answer yet.
pub(super) fn is_flipping(view: &View<'_>, ready: &Verdict) -> bool {
    let is_recent = view.applied.published_since.is_some_and(|since| elapsed(since, view.now) < FLIP_PATIENCE);
    let fails = view.serving().filter_map(|shard| shard.reported()).any(|report| !report.catalog_error.is_empty());
    ready.reason == "RollingOut" && is_recent && view.outdated().next().is_none() && !fails
}

/// Connections that a shard takes beyond what it has.
fn free(view: &View<'_>, shard: &ObservedShard) -> u64 {
    shard.report.as_ref().map_or(0, |received| view.capacity(&received.report).saturating_sub(received.report.load()))
}

fn why_unavailable(view: &View<'_>, available: &Verdict) -> String {
    let pods = view.active().chain(view.lost());
    if let Some((shard, trouble)) = view.worst_trouble(pods).filter(|(_, trouble)| trouble.kind != TroubleKind::NotReady)
        && available.reason == trouble.kind.as_str()
    {
        return trouble_words(shard, &trouble);
    }
    if let Some(failure) = worst_failure(view) {
        return failure_words(failure);
    }
    let starting: Vec<_> = view.starting().map(|shard| shard.name.as_str()).collect();
    match (available.reason, starting.as_slice()) {
        ("NoShardReady", [one]) => format!("{one} is starting."),
        ("NoShardReady", [_, ..]) => format!("{} are starting.", names(starting)),
        _ => available.message.clone(),
    }
}

/// Why this generation is not what all shards serve yet.
fn rolling_out(view: &View<'_>) -> Option<String> {
    let outdated = view.outdated().count();
    if outdated > 0 {
        let active = view.active().count();
        return Some(format!("{} of {} have the current template.", active - outdated, shards(active as u64)));
    }
    let behind: Vec<_> = view.serving().filter(|shard| shard.reported().is_some() && !view.serves_published(shard)).collect();
    let first = behind.first()?;
    let error = behind.iter().find_map(|shard| {
        let error = shard.reported().map(|report| report.catalog_error.as_str()).filter(|error| !error.is_empty())?;
        Some(format!("{}: {}.", shard.name, error.trim_end_matches('.')))
    });
    let wanted = view.published().map_or("the configuration".to_owned(), |hash| format!("revision {}", revision(hash)));
    Some(error.unwrap_or_else(|| match behind.len() {
        1 => format!("{} does not serve {wanted} yet.", first.name),
        _ => format!("{} do not serve {wanted} yet.", names(behind.iter().map(|shard| shard.name.as_str()))),
    }))
}

fn serving(view: &View<'_>) -> String {
    let desired = view.decision.desired as usize;
    let serving = view.serving().count().min(desired);
    let generation = view.observed.cluster.metadata.generation.unwrap_or_default();
    let verb = if desired == 1 { "serves" } else { "serve" };
    format!("{serving} of {} {verb} generation {generation}.", shards(desired as u64))
}
