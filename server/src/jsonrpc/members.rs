//! What a message is made of: members, raw until a handler asks for one. No name is there twice.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Members of one envelope, `params` or `_meta`. Real requests have under ten; the bound keeps the search for duplicates
/// linear and a body of empty members from growing forty-fold in memory.
const MAX_MEMBERS: usize = 128;
/// `params`, with `_meta` apart.
#[derive(Debug, Default)]
pub struct Params<'a> {
    members: Members<'a>,
    meta: Option<Members<'a>>,
}

/// A member that is missing or of another type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// It is not there.
    #[error("params.{0} is missing")]
    Missing(&'static str),
    /// It is there, and is not what the method takes.
    #[error("params.{name} is malformed: {reason}")]
    Malformed {
        /// Its name.
        name: &'static str,
        /// What the parser says.
        reason: String,
    },
}

/// Reads a raw JSON string.
pub fn raw_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    text(raw).ok()
}

/// The same, with what the parser says of another value. A string without escapes is what is between its quotes: that it is JSON
/// was found when it was read.
fn text(raw: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    let quoted = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match quoted.filter(|text| !text.contains('\\')) {
        Some(plain) => Ok(Cow::Borrowed(plain)),
        None => serde_json::from_str::<Text<'_>>(raw.get()).map(|text| text.0),
    }
}

// === impl Params ===

impl<'a> Params<'a> {
    pub(super) fn parse(raw: &'a RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str(raw.get())
    }

    /// A member, raw.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.get(name)
    }

    /// All members but `_meta`, raw, in the order they were sent.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.members.0.iter().map(|(name, raw)| (&**name, *raw))
    }

    /// A member of `_meta`, raw.
    pub fn meta(&self, name: &str) -> Option<&'a RawValue> {
        self.meta.as_ref().and_then(|meta| meta.get(name))
    }

    /// A member that must be a string.
    ///
    /// # Errors
    /// When it is missing or is not one.
    pub fn text(&self, name: &'static str) -> Result<Cow<'a, str>, MemberError> {
        let raw = self.get(name).ok_or(MemberError::Missing(name))?;
        text(raw).map_err(|error| MemberError::Malformed { name, reason: error.to_string() })
    }

    /// A member that must be an object, or none: serde would read an array as a struct, too.
    ///
    /// # Errors
    /// When it is there and is not of that type.
    pub fn object<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, MemberError> {
        if self.get(name).is_some_and(|raw| !raw.get().starts_with('{')) {
            return Err(MemberError::Malformed { name, reason: "it is no object".to_owned() });
        }
        self.parsed(name)
    }

    /// A member of some type, or none.
    ///
    /// # Errors
    /// When it is there and is not of that type.
    pub fn parsed<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, MemberError> {
        self.get(name)
            .map(|raw| serde_json::from_str(raw.get()))
            .transpose()
            .map_err(|error| MemberError::Malformed { name, reason: error.to_string() })
    }
}

// === impl Members ===

/// An object whose values stay raw. No name twice.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// Room for the members of a usual request.
    fn with_room() -> Self {
        Self(Vec::with_capacity(4))
    }

    /// Adds a member.
    fn add<E: de::Error>(&mut self, key: Cow<'a, str>, value: &'a RawValue) -> Result<(), E> {
        if self.0.iter().any(|(known, _)| *known == key) {
            return Err(duplicate(&key));
        }
        if self.0.len() == MAX_MEMBERS {
            return Err(E::custom(format_args!("more than {MAX_MEMBERS} members")));
        }
        self.0.push((key, value));
        Ok(())
    }
}

fn duplicate<E: de::Error>(key: &str) -> E {
    E::custom(format_args!("duplicate key {key:?}"))
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::with_room();
                while let Some((Text(key), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.add(key, value)?;
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Params<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Params<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut params = Params { members: Members::with_room(), meta: None };
                while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
                    if key != "_meta" {
                        params.members.add(key, map.next_value()?)?;
                    } else if params.meta.replace(map.next_value()?).is_some() {
                        return Err(duplicate(&key));
                    }
                }
                Ok(params)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A request or a notification, and nothing else: no other members.
pub(super) struct Envelope<'a> {
    pub(super) id: Option<&'a RawValue>,
    pub(super) method: Cow<'a, str>,
    pub(super) params: Params<'a>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a request or a notification")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut version, mut id, mut method, mut params) = (None, None, None, None);
                while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
                    let is_new = match &*key {
                        "jsonrpc" => version.replace(map.next_value::<&RawValue>()?).is_none(),
                        "id" => id.replace(map.next_value()?).is_none(),
                        "method" => method.replace(map.next_value::<Text<'de>>()?.0).is_none(),
                        "params" => params.replace(map.next_value()?).is_none(),
                        _ => false,
                    };
                    if !is_new {
                        return Err(duplicate(&key));
                    }
                }
                if version.map(RawValue::get) != Some("\"2.0\"") {
                    return Err(de::Error::missing_field("jsonrpc"));
                }
                let method = method.ok_or_else(|| de::Error::missing_field("method"))?;
                Ok(Envelope { id, method, params: params.unwrap_or_default() })
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A string, borrowed when it has no escapes; serde's own `Cow` always copies.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}
