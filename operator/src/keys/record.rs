//! What a rotation must remember, in an annotation of the Secret: it names no secret, so a person may look at it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::later;

/// Values of the annotation that are remembered: an older one would rotate again.
const REMEMBERED: usize = 16;

/// What is asked of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The annotation's value.
    pub value: Option<Timestamp>,
    /// How long sessions live, by the resource.
    pub lifetime: Duration,
    /// Whether every shard serves what the resource says.
    pub served: bool,
}

/// What a rotation must remember.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Record {
    /// Values of the annotation that were taken up, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<Timestamp>,
    /// When the new keys were added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distributed_at: Option<Timestamp>,
    /// Since when they are to be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealing_since: Option<Timestamp>,
    /// Since when every shard uses them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed_at: Option<Timestamp>,
    /// The longest lifetime that shards may give a session now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_lifetime_seconds: Option<u64>,
    /// When the last session with an earlier, longer lifetime ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions_end_by: Option<Timestamp>,
}

/// A value of the annotation that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no RFC 3339 time")]
pub struct InvalidAnnotation {
    /// The value.
    pub value: String,
}

/// Reads the annotation. The time is a name and no appointment: each one rotates once, at once, also one in the past or in the
/// future. So a clock that is off, or a wrong time zone, does not keep a leaked key in use.
///
/// # Errors
/// When it is no RFC 3339 time.
pub fn asked_at(value: Option<&str>) -> Result<Option<Timestamp>, InvalidAnnotation> {
    value.map(|text| text.trim().parse().map_err(|_| InvalidAnnotation { value: text.to_owned() })).transpose()
}

// === impl Record ===

impl Record {
    pub(super) fn first(asked: &Asked) -> Self {
        let session_lifetime_seconds = Some(asked.lifetime.as_secs());
        Self { seen: asked.value.into_iter().collect(), session_lifetime_seconds, ..Self::default() }
    }

    /// As the annotation says it; none when it cannot be read.
    pub fn read(annotation: &str) -> Option<Self> {
        serde_json::from_str(annotation).ok()
    }

    /// For the annotation.
    pub fn written(&self) -> String {
        // Times and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether a rotation began that has not ended.
    pub(super) fn is_under_way(&self) -> bool {
        self.distributed_at.is_some() || self.sealing_since.is_some() || self.sealed_at.is_some()
    }

    pub(super) fn session_lifetime(&self) -> Option<Duration> {
        self.session_lifetime_seconds.map(Duration::from_secs)
    }

    /// The longest lifetime that shards may give a session, when the resource says `lifetime`.
    pub(super) fn longest(&self, lifetime: Duration) -> Duration {
        self.session_lifetime().map_or(lifetime, |known| known.max(lifetime))
    }

    pub(super) fn see(&mut self, value: Timestamp) {
        self.seen.push(value);
        let surplus = self.seen.len().saturating_sub(REMEMBERED);
        self.seen.drain(..surplus);
    }

    /// Takes in how long sessions live. A shorter lifetime only when it is `decided`: sessions with the longer one were given
    /// out until now.
    pub(super) fn remember(&mut self, asked: &Asked, decided: bool, now: Timestamp) {
        let known = self.session_lifetime();
        if decided && let Some(known) = known.filter(|known| *known > asked.lifetime) {
            let by = later(now, known);
            self.sessions_end_by = Some(self.sessions_end_by.map_or(by, |before| before.max(by)));
            self.session_lifetime_seconds = Some(asked.lifetime.as_secs());
        } else {
            self.session_lifetime_seconds = Some(self.longest(asked.lifetime).as_secs());
        }
    }
}
