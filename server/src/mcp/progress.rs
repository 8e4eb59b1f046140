//! `notifications/progress` (2026-07-28 `basic/patterns/progress`, 2025-11-25 `basic/utilities/progress`).

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Its method.
pub const METHOD: &str = "notifications/progress";

/// MCP `ProgressNotificationParams`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress<'a> {
    /// As the client sent it: a string or an integer.
    pub progress_token: &'a RawValue,
    /// How far it is.
    #[serde(serialize_with = "number")]
    pub progress: f64,
    /// How far it goes.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_number")]
    pub total: Option<f64>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
}

/// Whether a raw value is a token: a string or an integer.
pub fn is_token(raw: &RawValue) -> bool {
    let text = raw.get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    text.starts_with('"') || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A whole number without its fraction, as clients write it.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn number<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    // Every integer below this is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        #[allow(clippy::cast_possible_truncation, reason = "whole and within the exact integers")]
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f64(*number)
    }
}

#[allow(clippy::ref_option, reason = "serde's signature")]
fn optional_number<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_token_keeps_its_type_and_whole_numbers_have_no_fraction() {
        let progress = |token, progress, total| {
            serde_json::to_string(&Progress { progress_token: raw(token), progress, total, message: None }).unwrap()
        };
        assert_eq!(progress("7", 50.0, Some(100.0)), r#"{"progressToken":7,"progress":50,"total":100}"#);
        assert_eq!(progress("\"7\"", 0.5, None), r#"{"progressToken":"7","progress":0.5}"#);
    }

    #[test]
    fn a_token_is_a_string_or_an_integer() {
        for token in ["1", "-1", "\"a\"", "\"\""] {
            assert!(is_token(raw(token)), "{token}");
        }
        for token in ["1.5", "null", "{}", "[]", "true", "1e3"] {
            assert!(!is_token(raw(token)), "{token}");
        }
    }
}
