//! `initialize` (2025-11-25 `basic/lifecycle`) and `server/discover` (2026-07-28 `server/discover`).

use mcp_crds::catalog::Implementation;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Result of `initialize`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult<'a> {
    /// What the server speaks with this client.
    pub protocol_version: &'static str,
    /// What it offers.
    pub capabilities: ServerCapabilities,
    /// Who it is.
    pub server_info: &'a Implementation,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<&'a str>,
}

/// Result of `server/discover`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscoverResult<'a> {
    /// Versions a request may name in its `_meta`.
    pub supported_versions: Vec<&'static str>,
    /// What the server offers.
    pub capabilities: ServerCapabilities,
    /// For the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<&'a str>,
}

/// What the server offers: only what works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ServerCapabilities {
    /// Tools.
    pub tools: ListCapability,
    /// Resources.
    pub resources: ResourceCapability,
    /// Prompts.
    pub prompts: ListCapability,
}

/// A list whose changes are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListCapability {
    /// After the catalog changes.
    pub list_changed: bool,
}

/// Resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceCapability {
    /// Changes of one resource are announced to those who asked.
    pub subscribe: bool,
    /// After the catalog changes.
    pub list_changed: bool,
}

impl ServerCapabilities {
    /// The catalog may change at any time, so all lists are offered whatever they hold now.
    pub fn new(subscribe: bool) -> Self {
        let list = ListCapability { list_changed: true };
        Self { tools: list, resources: ResourceCapability { subscribe, list_changed: true }, prompts: list }
    }
}

/// What a client declared, as bits: the part of it that fits a session token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCapabilities(pub u16);

impl ClientCapabilities {
    /// The client answers `roots/list`.
    pub const ROOTS: u16 = 1;
    /// The client answers `sampling/createMessage`.
    pub const SAMPLING: u16 = 1 << 1;
    /// The client answers `elicitation/create`.
    pub const ELICITATION: u16 = 1 << 2;

    /// Reads an MCP `ClientCapabilities` object; none when it is not an object of objects.
    pub fn read(raw: &RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        struct Declared {
            roots: Option<Object>,
            sampling: Option<Object>,
            elicitation: Option<Object>,
        }
        // An object, whatever is in it.
        #[derive(Deserialize)]
        struct Object {}
        // An array also reads as a struct, field by field.
        if !raw.get().starts_with('{') {
            return None;
        }
        let declared: Declared = serde_json::from_str(raw.get()).ok()?;
        let bit = |declared: bool, bit: u16| if declared { bit } else { 0 };
        Some(Self(
            bit(declared.roots.is_some(), Self::ROOTS)
                | bit(declared.sampling.is_some(), Self::SAMPLING)
                | bit(declared.elicitation.is_some(), Self::ELICITATION),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<ClientCapabilities> {
        ClientCapabilities::read(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn capabilities_become_bits_and_unknown_ones_are_ignored() {
        assert_eq!(read("{}"), Some(ClientCapabilities(0)));
        let all = ClientCapabilities::ROOTS | ClientCapabilities::SAMPLING | ClientCapabilities::ELICITATION;
        assert_eq!(
            read(r#"{"roots":{"listChanged":true},"sampling":{},"elicitation":{"form":{}},"x":1}"#),
            Some(ClientCapabilities(all))
        );
    }

    #[test]
    fn what_is_no_object_declares_nothing() {
        for text in ["null", "[]", "1", r#"{"roots":1}"#] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
