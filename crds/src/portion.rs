//! Parts of a number of shards: a count, or a percentage of it, as Kubernetes writes `maxSurge` and `maxUnavailable`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Percent of the shards, when nothing is written.
const DEFAULT_PERCENT: u32 = 10;

/// A part of the shards as a person writes it: `3`, or `10%`. Held as written, so that what is stored is what was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Portion {
    /// So many, however many there are.
    Count(i32),
    /// `10%` of them.
    Percent(String),
}

impl Default for Portion {
    fn default() -> Self {
        Self::Percent(format!("{DEFAULT_PERCENT}%"))
    }
}

impl JsonSchema for Portion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Portion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

impl Portion {
    /// The part of `whole`, rounded up as a Deployment rounds its surge, and at least one.
    pub fn rounded_up(&self, whole: u32) -> u32 {
        self.of(whole, 99)
    }

    /// The part of `whole`, rounded down as a Deployment rounds what may be unavailable, but at least one: of a budget of
    /// none nothing could ever be evicted.
    pub fn rounded_down(&self, whole: u32) -> u32 {
        self.of(whole, 0)
    }

    /// `add` is added to the hundredths before they are cut off. What the rules of the schema keep out is bent to the
    /// nearest sense.
    fn of(&self, whole: u32, add: u64) -> u32 {
        let part = match self {
            Self::Count(count) => u32::try_from(*count).unwrap_or(0),
            Self::Percent(text) => {
                let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or(DEFAULT_PERCENT);
                u32::try_from((u64::from(whole) * u64::from(percent) + add) / 100).unwrap_or(u32::MAX)
            }
        };
        part.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_a_deployment_does_and_are_never_nothing() {
        let tenth = Portion::default();
        for (whole, up, down) in [(0, 1, 1), (1, 1, 1), (10, 1, 1), (11, 2, 1), (19, 2, 1), (20, 2, 2), (300, 30, 30)] {
            assert_eq!((tenth.rounded_up(whole), tenth.rounded_down(whole)), (up, down), "10% of {whole}");
        }
        let all = Portion::Percent("100%".into());
        assert_eq!((all.rounded_up(7), all.rounded_down(7)), (7, 7));
        assert_eq!(Portion::Percent("34%".into()).rounded_up(3), 2);
    }

    #[test]
    fn a_count_is_what_it_says() {
        assert_eq!((Portion::Count(3).rounded_up(1), Portion::Count(3).rounded_down(300)), (3, 3));
    }

    #[test]
    fn what_no_rule_admits_is_bent_to_sense() {
        for portion in [Portion::Count(0), Portion::Count(-4), Portion::Percent("0%".into())] {
            assert_eq!((portion.rounded_up(50), portion.rounded_down(50)), (1, 1), "{portion:?}");
        }
        assert_eq!(Portion::Percent("many".into()).rounded_up(50), 5);
        assert_eq!(Portion::Percent("4294967295%".into()).rounded_down(u32::MAX), u32::MAX);
    }

    #[test]
    fn it_is_kept_as_it_was_written() {
        for text in ["3", r#""10%""#] {
            let portion: Portion = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&portion).unwrap(), text);
        }
    }
}
