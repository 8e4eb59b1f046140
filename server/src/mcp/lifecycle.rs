//! `initialize` (2025-11-25 `basic/lifecycle`) and `server/discover` (2026-07-28 `server/discover`).

use mcp_crds::catalog::Implementation;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::tasks::EXTENSION;
use super::version::Version;

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
    /// Log messages of a running request.
    pub logging: PlainCapability,
    /// Values for arguments of prompts and variables of resource templates.
    pub completions: PlainCapability,
    /// Extensions of the protocol; none before 2026-07-28.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Extensions>,
}

/// Extensions that are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extensions {
    /// Calls may become tasks.
    #[serde(rename = "io.modelcontextprotocol/tasks")]
    pub tasks: PlainCapability,
}

/// There is nothing to say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlainCapability {}

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
        Self {
            tools: list,
            resources: ResourceCapability { subscribe, list_changed: true },
            prompts: list,
            logging: PlainCapability {},
            completions: PlainCapability {},
            extensions: None,
        }
    }
}

impl ServerCapabilities {
    /// With tasks, if there are handlers that can become one.
    #[must_use]
    pub fn with_tasks(self, offered: bool) -> Self {
        Self { extensions: offered.then(Extensions::default), ..self }
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
    /// The client shows the forms of `elicitation/create`.
    pub const ELICITATION: u16 = 1 << 2;
    /// The client shows its URLs.
    pub const ELICITATION_URL: u16 = 1 << 3;
    /// The client's model may call the tools of a `sampling/createMessage`.
    pub const SAMPLING_TOOLS: u16 = 1 << 4;
    /// The client follows tasks.
    pub const TASKS: u16 = 1 << 5;

    /// Reads an MCP `ClientCapabilities` object; none when it is not an object of objects.
    pub fn read(raw: &RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        struct Declared {
            roots: Option<Object>,
            sampling: Option<Sampling>,
            elicitation: Option<Elicitation>,
            extensions: Option<Extensions>,
        }
        #[derive(Deserialize)]
        struct Extensions {
            #[serde(rename = "io.modelcontextprotocol/tasks")]
            tasks: Option<Object>,
        }
        #[derive(Deserialize)]
        struct Sampling {
            tools: Option<Object>,
        }
        #[derive(Deserialize)]
        struct Elicitation {
            form: Option<Object>,
            url: Option<Object>,
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
        let elicitation = declared.elicitation.as_ref();
        let url = elicitation.is_some_and(|modes| modes.url.is_some());
        // An empty object, or one of an older revision, is form mode.
        let form = elicitation.is_some_and(|modes| modes.form.is_some() || !url);
        Some(Self(
            bit(declared.roots.is_some(), Self::ROOTS)
                | bit(declared.sampling.is_some(), Self::SAMPLING)
                | bit(declared.sampling.is_some_and(|sampling| sampling.tools.is_some()), Self::SAMPLING_TOOLS)
                | bit(form, Self::ELICITATION)
                | bit(url, Self::ELICITATION_URL)
                | bit(declared.extensions.is_some_and(|extensions| extensions.tasks.is_some()), Self::TASKS),
        ))
    }

    /// Whether all of `wanted` is declared.
    pub fn has(self, wanted: u16) -> bool {
        self.0 & wanted == wanted
    }

    /// What of it a version knows; a client that declares more is not asked for it.
    #[must_use]
    pub fn known_in(self, version: Version) -> Self {
        let newer = match version {
            Version::V2025_03_26 => Self::ELICITATION | Self::ELICITATION_URL | Self::SAMPLING_TOOLS | Self::TASKS,
            Version::V2025_06_18 => Self::ELICITATION_URL | Self::SAMPLING_TOOLS | Self::TASKS,
            Version::V2025_11_25 => Self::TASKS,
            Version::V2026_07_28 => 0,
        };
        Self(self.0 & !newer)
    }

    /// As an MCP `ClientCapabilities` object.
    pub fn object(self) -> Value {
        let mut object = Map::new();
        let mut add = |bit: u16, family: &str, member: Option<&str>| {
            if self.has(bit) {
                let family = object.entry(family).or_insert_with(|| json!({}));
                if let Some(member) = member {
                    family[member] = json!({});
                }
            }
        };
        add(Self::ROOTS, "roots", None);
        add(Self::SAMPLING, "sampling", None);
        add(Self::SAMPLING_TOOLS, "sampling", Some("tools"));
        add(Self::ELICITATION, "elicitation", Some("form"));
        add(Self::ELICITATION_URL, "elicitation", Some("url"));
        add(Self::TASKS, "extensions", Some(EXTENSION));
        Value::Object(object)
    }
}

impl fmt::Display for ClientCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the capabilities {}", self.object())
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
    fn modes_of_elicitation_are_told_apart_and_an_empty_object_is_form_mode() {
        let (form, url) = (ClientCapabilities::ELICITATION, ClientCapabilities::ELICITATION_URL);
        for (declared, bits) in
            [("{}", form), (r#"{"form":{}}"#, form), (r#"{"url":{}}"#, url), (r#"{"form":{},"url":{}}"#, form | url)]
        {
            assert_eq!(read(&format!(r#"{{"elicitation":{declared}}}"#)), Some(ClientCapabilities(bits)), "{declared}");
        }
        assert_eq!(ClientCapabilities(form | url).known_in(Version::V2025_06_18), ClientCapabilities(form));
        assert_eq!(ClientCapabilities(form).known_in(Version::V2025_03_26), ClientCapabilities(0));
    }

    #[test]
    fn bits_become_the_object_that_declares_them() {
        let all = ClientCapabilities(0b1_1111);
        assert_eq!(all.object(), json!({"roots": {}, "sampling": {"tools": {}}, "elicitation": {"form": {}, "url": {}}}));
        assert_eq!(read(&all.object().to_string()), Some(all));
    }

    #[test]
    fn what_is_no_object_declares_nothing() {
        for text in ["null", "[]", "1", r#"{"roots":1}"#] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
