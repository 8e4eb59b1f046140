//! Amounts of memory: the Kubernetes quantity grammar, parsed once at the edge into [`Bytes`].

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A size as a person writes it: `4Mi`, `"1048576"` or `1048576`.
///
/// Held as written, so that what is stored is what was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Size(pub String);

/// Why a string is not a quantity of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a quantity of bytes: write a number with an optional suffix (Ki, Mi, Gi, Ti, k, M, G, T), for example '512Mi'"
)]
pub struct InvalidQuantity {
    /// What was written.
    pub text: String,
}

/// Suffixes, and what they multiply by: numerator and denominator.
const SUFFIXES: [(&str, u128, u128); 15] = [
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1_000),
    ("k", 1_000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
];

impl Bytes {
    /// Parses the quantity grammar of Kubernetes, all of it; fractions round up to whole bytes.
    ///
    /// # Errors
    /// When the text is not a quantity, is negative, or exceeds 2^63 − 1.
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        exact(text.strip_prefix('+').unwrap_or(text))
            .and_then(|value| u64::try_from(value).ok())
            .filter(|value| i64::try_from(*value).is_ok())
            .map(Self)
            .ok_or_else(|| InvalidQuantity { text: text.to_owned() })
    }
}

/// `digits[.digits]` and a suffix, `e` and an exponent, or nothing.
fn exact(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 || fraction.len() > 9 {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let mut denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let mut numerator = parse(whole)? * denominator + parse(fraction)?;
    let (times, by) = match suffix {
        "" => (1, 1),
        _ => match SUFFIXES.iter().find(|(name, _, _)| *name == suffix) {
            Some((_, times, by)) => (*times, *by),
            None => power(suffix.strip_prefix(['e', 'E'])?)?,
        },
    };
    numerator = numerator.checked_mul(times)?;
    denominator = denominator.checked_mul(by)?;
    Some(numerator.div_ceil(denominator))
}

/// Ten to a signed exponent of at most 18.
fn power(exponent: &str) -> Option<(u128, u128)> {
    let (negative, digits) = match exponent.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    if digits.is_empty() || digits.len() > 2 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = 10_u128.pow(digits.parse::<u32>().ok().filter(|digits| *digits <= 18)?);
    Some(if negative { (1, scale) } else { (scale, 1) })
}

impl TryFrom<&Quantity> for Bytes {
    type Error = InvalidQuantity;

    fn try_from(quantity: &Quantity) -> Result<Self, Self::Error> {
        Self::parse(&quantity.0)
    }
}

impl TryFrom<&Size> for Bytes {
    type Error = InvalidQuantity;

    fn try_from(size: &Size) -> Result<Self, Self::Error> {
        Self::parse(&size.0)
    }
}

impl fmt::Display for Bytes {
    /// The largest binary suffix that loses nothing: `536870912` is `512Mi`, `1000` stays `1000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, shift) in [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl From<&str> for Size {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Number(number) => Self(number.to_string()),
            Written::Text(text) => Self(text),
        })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale() {
        for (text, bytes) in [
            ("512Mi", 512 << 20),
            ("1k", 1000),
            ("0", 0),
            ("1.5Gi", 1536 << 20),
            ("1500m", 2),
            ("1048576", 1 << 20),
            ("1e3", 1000),
            ("12E6", 12_000_000),
            ("1500e-3", 2),
            ("5.", 5),
            (".5k", 500),
            ("+1", 1),
            ("1E", 10_u64.pow(18)),
            ("2000000000n", 2),
            ("1u", 1),
        ] {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "Mi",
            "-1",
            "1e",
            "1e99",
            "1e3Mi",
            "1 Mi",
            "1Mib",
            "1.2.3",
            "99999999999999999999",
            "9Ei",
            ".",
            "0x10",
            "e3",
            "٣",
        ] {
            assert!(Bytes::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn display_loses_nothing() {
        for bytes in [0, 1, 1000, 1024, 1 << 20, (1 << 30) + 1024, 512 << 20] {
            assert_eq!(Bytes::parse(&Bytes(bytes).to_string()), Ok(Bytes(bytes)));
        }
        assert_eq!(Bytes(512 << 20).to_string(), "512Mi");
    }
}
