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

const SUFFIXES: [(&str, u128); 14] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("m", 0), // thousandths: handled apart, it divides
    ("", 1),
];

impl Bytes {
    /// Parses the quantity grammar of Kubernetes; fractions round up to whole bytes.
    ///
    /// # Errors
    /// When the text is not a quantity, is negative, or exceeds 2^63 − 1.
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = || InvalidQuantity { text: text.to_owned() };
        let (number, scale) = SUFFIXES
            .iter()
            .find_map(|(suffix, scale)| text.strip_suffix(suffix).map(|number| (number, *scale)))
            .ok_or_else(invalid)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty())
            || !digits(whole)
            || !digits(fraction)
            || whole.len() > 19
            || fraction.len() > 9
        {
            return Err(invalid());
        }
        let denominator = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| invalid())?);
        let parse = |s: &str| if s.is_empty() { Ok(0) } else { s.parse::<u128>().map_err(|_| invalid()) };
        let numerator = parse(whole)? * denominator + parse(fraction)?;
        let value = match scale {
            0 => numerator.div_ceil(denominator * 1000),
            scale => (numerator * scale).div_ceil(denominator),
        };
        u64::try_from(value).ok().filter(|v| i64::try_from(*v).is_ok()).map(Self).ok_or_else(invalid)
    }
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
        for (text, bytes) in
            [("512Mi", 512 << 20), ("1k", 1000), ("0", 0), ("1.5Gi", 1536 << 20), ("1500m", 2), ("1048576", 1 << 20)]
        {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "Mi", "-1", "1e3", "1 Mi", "1Mib", "99999999999999999999", "9Ei", "."] {
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
