//! The tasks extension (`extensions/tasks/specification`): a call that goes on after its answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::jsonrpc::ErrorObject;

/// Its identifier.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// The notification of a task's new state.
pub const NOTIFICATION: &str = "notifications/tasks";

/// MCP `DetailedTask` without its id: what a task is at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What became of it.
    pub state: State,
    /// For people.
    pub message: Option<String>,
    /// Milliseconds since the epoch.
    pub created: u64,
    /// Milliseconds since the epoch.
    pub updated: u64,
    /// From its creation, milliseconds.
    pub ttl: u64,
    /// Between two looks, milliseconds.
    pub poll_interval: u64,
}

/// MCP `TaskStatus`, with what belongs to each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// It runs.
    Working,
    /// It waits for the client: key → method and parameters.
    InputRequired(BTreeMap<String, Value>),
    /// It has a result, which may say `isError`.
    Completed(Value),
    /// It has a JSON-RPC error: code and message.
    Failed(i32, String),
    /// The client cancelled it.
    Cancelled,
}

impl State {
    /// Nothing comes after it.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Working | Self::InputRequired(_) => false,
            Self::Completed(_) | Self::Failed(..) | Self::Cancelled => true,
        }
    }

    /// MCP `TaskStatus`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::InputRequired(_) => "input_required",
            Self::Completed(_) => "completed",
            Self::Failed(..) => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Task {
    /// MCP `Task`: what the call that made it is answered.
    pub fn seed(&self, id: &str) -> Map<String, Value> {
        let mut members = Map::new();
        let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
        add("taskId", json!(id));
        add("status", json!(self.state.name()));
        if let Some(message) = &self.message {
            add("statusMessage", json!(message));
        }
        add("createdAt", json!(timestamp(self.created)));
        add("lastUpdatedAt", json!(timestamp(self.updated)));
        add("ttlMs", json!(self.ttl));
        add("pollIntervalMs", json!(self.poll_interval));
        members
    }

    /// MCP `DetailedTask`.
    pub fn detailed(&self, id: &str) -> Map<String, Value> {
        let mut members = self.seed(id);
        let (name, value) = match &self.state {
            State::Working | State::Cancelled => return members,
            State::InputRequired(requests) => ("inputRequests", json!(requests)),
            State::Completed(result) => ("result", result.clone()),
            State::Failed(code, message) => ("error", json!(ErrorObject::new(*code, message.clone()))),
        };
        members.insert(name.to_owned(), value);
        members
    }

    /// About how many bytes it keeps.
    pub fn bytes(&self) -> usize {
        let held = match &self.state {
            State::Working | State::Cancelled => 0,
            State::InputRequired(requests) => json!(requests).to_string().len(),
            State::Completed(result) => result.to_string().len(),
            State::Failed(_, message) => message.len(),
        };
        held + self.message.as_ref().map_or(0, String::len)
    }
}

/// ISO 8601, in UTC, to the millisecond.
pub fn timestamp(ms: u64) -> String {
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    // Days since the epoch to a date of the Gregorian calendar, counted in eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second, milli) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1_000 % 60, in_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_iso_8601() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_767_225_600_001, "2026-01-01T00:00:00.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(ms), text);
        }
    }

    #[test]
    fn each_state_shows_what_belongs_to_it_and_nothing_else() {
        let task = |state| Task { state, message: None, created: 0, updated: 1, ttl: 2, poll_interval: 3 };
        let members = |state| task(state).detailed("x").keys().cloned().collect::<Vec<_>>();
        let plain = ["taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs"];
        for (state, own) in [
            (State::Working, None),
            (State::Cancelled, None),
            (State::InputRequired(BTreeMap::new()), Some("inputRequests")),
            (State::Completed(json!({"content": []})), Some("result")),
            (State::Failed(-32603, "no".to_owned()), Some("error")),
        ] {
            let mut expected: Vec<_> = plain.into_iter().chain(own).map(str::to_owned).collect();
            let mut shown = members(state.clone());
            expected.sort();
            shown.sort();
            assert_eq!(shown, expected, "{state:?}");
            assert!(!task(state).seed("x").contains_key(own.unwrap_or("result")));
        }
    }
}
