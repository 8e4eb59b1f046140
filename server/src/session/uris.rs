//! The resources a session is subscribed to, in one piece of memory: every shard keeps those of every session. Pure.

use std::collections::BTreeSet;

use super::TooMany;
use crate::limits::{MAX_FILTER_BYTES, MAX_SUBSCRIPTIONS};

/// URIs in order, each once and behind its length: the character of that number, which is one byte for most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uris(Box<str>);

impl Uris {
    /// These.
    ///
    /// # Errors
    /// When they are more than [`MAX_SUBSCRIPTIONS`] or longer than [`MAX_FILTER_BYTES`] together.
    pub fn of<'a>(uris: impl IntoIterator<Item = &'a str>) -> Result<Self, TooMany> {
        Self::packed(&uris.into_iter().collect())
    }

    fn packed(uris: &BTreeSet<&str>) -> Result<Self, TooMany> {
        let bytes: usize = uris.iter().map(|uri| uri.len()).sum();
        if uris.len() > MAX_SUBSCRIPTIONS || bytes > MAX_FILTER_BYTES {
            return Err(TooMany);
        }
        let mut packed = String::with_capacity(bytes + 3 * uris.len());
        for uri in uris {
            packed.push(length(uri).ok_or(TooMany)?);
            packed.push_str(uri);
        }
        Ok(Self(packed.into()))
    }

    /// The same and one more.
    ///
    /// # Errors
    /// As [`Uris::of`].
    pub fn with(&self, uri: &str) -> Result<Self, TooMany> {
        Self::of(self.iter().chain([uri]))
    }

    /// The same without one.
    ///
    /// # Errors
    /// None: they are fewer than before.
    pub fn without(&self, uri: &str) -> Result<Self, TooMany> {
        Self::of(self.iter().filter(|one| *one != uri))
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let mut after = rest.chars();
            let length = usize::try_from(u32::from(after.next()?)).ok()?;
            let (uri, next) = after.as_str().split_at_checked(length)?;
            rest = next;
            Some(uri)
        })
    }

    /// As they are kept.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As [`Uris::as_str`] gave them.
    pub(super) fn from_str(packed: &str) -> Self {
        Self(packed.into())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.iter().map(str::len).sum()
    }
}

/// [`MAX_FILTER_BYTES`] is below the numbers that are no character.
fn length(uri: &str) -> Option<char> {
    char::from_u32(u32::try_from(uri.len()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_and_once_whatever_its_length() {
        let long = "x".repeat(MAX_FILTER_BYTES - 200 - 128 - 2 - 2);
        let names = ["", "\0", "ä", &"y".repeat(127), &"z".repeat(201), &long];
        let uris = Uris::of(names.into_iter().rev().chain(["ä"])).unwrap();
        let mut sorted = names;
        sorted.sort_unstable();
        assert_eq!(uris.iter().collect::<Vec<_>>(), sorted);
        assert_eq!((uris.len(), uris.bytes()), (6, names.iter().map(|name| name.len()).sum()));
        let fewer = uris.without("ä").unwrap();
        assert_eq!((fewer.len(), fewer.with("ä").unwrap()), (5, uris.clone()));
        assert_eq!(uris.with("ä").unwrap(), uris);
        assert!(!uris.is_empty() && Uris::default().is_empty() && Uris::default().iter().next().is_none());
    }

    #[test]
    fn there_are_bounds() {
        let names: Vec<_> = (0..=MAX_SUBSCRIPTIONS).map(|n| n.to_string()).collect();
        let of = |names: &[String]| Uris::of(names.iter().map(String::as_str));
        let most = of(&names[1..]).unwrap();
        assert_eq!((most.len(), of(&names), most.with("0")), (MAX_SUBSCRIPTIONS, Err(TooMany), Err(TooMany)));
        let long = "x".repeat(MAX_FILTER_BYTES);
        assert!(Uris::of([&*long]).is_ok_and(|uris| uris.with("y") == Err(TooMany) && uris.with("").is_ok()));
    }
}
