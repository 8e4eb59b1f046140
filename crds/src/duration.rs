//! Spans of time as the API writes them: the grammar of GEP-2257, which every client can parse.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The grammar: up to four terms in h, m, s or ms; no sign, no fraction, no days.
pub const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A duration as a person writes it: `60s`, `1h30m`, `250ms`. Held as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub String);

/// Why a string is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: write whole numbers with h, m, s or ms, for example '60s' or '1h30m'")]
pub struct InvalidDuration {
    /// What was written.
    pub text: String,
}

impl Span {
    /// The span as a duration.
    ///
    /// # Errors
    /// When the text does not follow [`PATTERN`].
    pub fn parse(&self) -> Result<Duration, InvalidDuration> {
        parse(&self.0)
    }

    /// The span, or zero when it is malformed; for callers behind validation, where it cannot be.
    pub fn or_zero(&self) -> Duration {
        self.parse().unwrap_or_default()
    }
}

impl From<&str> for Span {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Parses GEP-2257 durations.
///
/// # Errors
/// When the text does not follow [`PATTERN`].
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration { text: text.to_owned() };
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return Err(invalid());
        }
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        // "ms" before "m": the longest unit wins.
        let (unit, tail) = [
            ("ms", Duration::from_millis(1)),
            ("h", Duration::from_hours(1)),
            ("m", Duration::from_mins(1)),
            ("s", Duration::from_secs(1)),
        ]
        .into_iter()
        .find_map(|(name, unit)| tail.strip_prefix(name).map(|tail| (unit, tail)))
        .ok_or_else(invalid)?;
        total += unit * u32::try_from(number).map_err(|_| invalid())?;
        rest = tail;
        if rest.is_empty() {
            return Ok(total);
        }
    }
    Err(invalid())
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_add_up() {
        assert_eq!(parse("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("720h"), Ok(Duration::from_hours(720)));
    }

    #[test]
    fn what_clients_cannot_parse_is_refused() {
        for text in ["", "1d", "-1s", "1.5s", "60", "s", "1s ", "100000s", "1h1m1s1ms1s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
