//! Durations and sizes as the custom resource writes them, read where they stand, so that an error names the place.

use std::fmt;

use mcp_crds::duration;
use mcp_crds::quantity::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::Visitor};

/// A duration of whole seconds, as `90s` or `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub i64);

/// An amount of memory, as `40Ki`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(InSeconds)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(InBytes)
    }
}

/// Errors of a visitor are told with their place, those of what comes after it are not.
struct InSeconds;

impl Visitor<'_> for InSeconds {
    type Value = Seconds;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a duration, for example '60s' or '1h30m'")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Seconds, E> {
        let span = duration::parse(text).map_err(E::custom)?;
        if span.subsec_nanos() != 0 {
            return Err(E::custom(format!("{text:?} is not whole seconds: the simulator goes second by second")));
        }
        Ok(Seconds(span.as_secs() as i64))
    }
}

struct InBytes;

impl Visitor<'_> for InBytes {
    type Value = Size;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an amount of memory, for example '40Ki'")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        Bytes::parse(text).map(|bytes| Size(bytes.0)).map_err(E::custom)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{}s", self.0))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}
