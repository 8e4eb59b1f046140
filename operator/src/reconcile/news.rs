//! What changed in the status, as events: the conditions that people alert on, and changes of size.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mcp_crds::McpClusterStatus;

use crate::events::News;

/// Conditions whose changes are told, and the status each has when all is well.
const TOLD: [(&str, &str); 4] = [("Ready", "True"), ("Available", "True"), ("CatalogValid", "True"), ("MemoryPressure", "False")];

/// Events for what differs between two statuses.
pub(super) fn of_status(before: Option<&McpClusterStatus>, after: &McpClusterStatus) -> Vec<News> {
    let mut news: Vec<News> = TOLD
        .iter()
        .filter_map(|(kind, normal)| {
            let (old, new) = (before.and_then(|before| find(before, kind)), find(after, kind)?);
            let same = old.is_some_and(|old| old.status == new.status && old.reason == new.reason);
            let known = old.is_some_and(|old| old.status != "Unknown");
            // Pressure has a condition of its own, which tells when it begins and ends.
            let by_pressure = |condition: &Condition| condition.type_ != "MemoryPressure" && condition.reason == "MemoryPressure";
            let is_told_there = old.is_some_and(|old| old.status == new.status && (by_pressure(old) || by_pressure(new)));
            if same || is_told_there || new.status == "Unknown" {
                None
            } else if new.status == *normal {
                // That all is well is news when it was not, or when it is so for the first time as a whole.
                let news = known || *kind == "Ready";
                news.then(|| News::normal(&new.reason, "Summarize", new.message.clone()))
            } else {
                // A shard that starts is no warning before one was there.
                let starting = new.reason == "NoShardReady" && old.is_none_or(|old| old.status != "True");
                let news = if new.reason == "RollingOut" { News::normal } else { News::warning };
                (!starting).then(|| news(&new.reason, "Summarize", new.message.clone()))
            }
        })
        .collect();
    // One cause often moves several conditions; it is told once.
    news.dedup_by(|later, first| later.reason == first.reason);
    if let Some(scale) =
        after.last_scale.as_ref().filter(|scale| before.and_then(|before| before.last_scale.as_ref()) != Some(scale))
    {
        let reason = if scale.to > scale.from { "ScalingOut" } else { "ScalingIn" };
        news.push(News::normal(reason, "Scale", scale.message.clone()));
    }
    news
}

fn find<'a>(status: &'a McpClusterStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use mcp_crds::cluster::LastScale;

    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> McpClusterStatus {
        let conditions = conditions.iter().map(|(kind, status, reason)| Condition {
            type_: (*kind).into(),
            status: (*status).into(),
            reason: (*reason).into(),
            message: "m".into(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: Some(1),
        });
        McpClusterStatus { conditions: conditions.collect(), ..McpClusterStatus::default() }
    }

    fn reasons(news: &[News]) -> Vec<(&str, bool)> {
        news.iter().map(|news| (news.reason.as_str(), news.warning)).collect()
    }

    #[test]
    fn a_change_of_a_condition_is_told_once_and_a_standstill_is_not() {
        let before = status(&[("Ready", "True", "Serving"), ("CatalogValid", "True", "Compiled")]);
        let after = status(&[("Ready", "False", "CatalogInvalid"), ("CatalogValid", "False", "Invalid")]);
        assert_eq!(reasons(&of_status(Some(&before), &after)), [("CatalogInvalid", true), ("Invalid", true)]);
        assert_eq!(of_status(Some(&after), &after), []);
        assert_eq!(reasons(&of_status(Some(&after), &before)), [("Serving", false), ("Compiled", false)]);
    }

    #[test]
    fn memory_pressure_is_told_once_when_it_begins_and_once_when_it_ends() {
        let calm = status(&[("Ready", "True", "Serving"), ("MemoryPressure", "False", "BelowTarget")]);
        let hot = status(&[("Ready", "True", "MemoryPressure"), ("MemoryPressure", "True", "AboveTarget")]);
        assert_eq!(reasons(&of_status(Some(&calm), &hot)), [("AboveTarget", true)]);
        assert_eq!(reasons(&of_status(Some(&hot), &calm)), [("BelowTarget", false)]);
        let broken = status(&[("Ready", "False", "AtCapacity"), ("MemoryPressure", "True", "AboveTarget")]);
        assert_eq!(reasons(&of_status(Some(&hot), &broken)), [("AtCapacity", true)]);
    }

    #[test]
    fn what_is_not_known_yet_and_a_first_shard_that_starts_are_no_news() {
        assert_eq!(of_status(None, &status(&[("Ready", "Unknown", "Reconciling")])), []);
        let starting = status(&[("Available", "False", "NoShardReady"), ("MemoryPressure", "False", "BelowTarget")]);
        assert_eq!(of_status(None, &starting), []);
        let serving = status(&[("Available", "True", "ShardsReady")]);
        assert_eq!(reasons(&of_status(Some(&serving), &starting)), [("NoShardReady", true)]);
    }

    #[test]
    fn a_change_of_size_is_told_with_its_reason() {
        let scale = LastScale {
            time: Time(Timestamp::UNIX_EPOCH),
            from: 5,
            to: 6,
            reason: "Connections".into(),
            message: "61,200 connections need 5.1 shards at 12,000 each: 5 to 6.".into(),
        };
        let after = McpClusterStatus { last_scale: Some(scale), ..McpClusterStatus::default() };
        let news = of_status(None, &after);
        assert_eq!(reasons(&news), [("ScalingOut", false)]);
        assert!(news[0].note.contains("61,200 connections"));
    }
}
