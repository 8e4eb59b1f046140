//! The versions of the protocol this server speaks, and the two eras they belong to (2026-07-28 `basic/versioning`).

/// A version of the protocol this server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Batches; no `MCP-Protocol-Version` header yet.
    V2025_03_26,
    /// Structured content, elicitation.
    V2025_06_18,
    /// The last with sessions.
    V2025_11_25,
    /// Stateless.
    V2026_07_28,
}

impl Version {
    /// All, newest first.
    pub const ALL: [Self; 4] = [Self::V2026_07_28, Self::V2025_11_25, Self::V2025_06_18, Self::V2025_03_26];
    /// What a client with an unknown version is offered by `initialize`.
    pub const LATEST_LEGACY: Self = Self::V2025_11_25;

    /// The version of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Whether it is spoken without a session.
    pub fn is_modern(self) -> bool {
        match self {
            Self::V2026_07_28 => true,
            Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => false,
        }
    }

    /// Its number in a session token.
    pub fn code(self) -> u8 {
        match self {
            Self::V2025_03_26 => 1,
            Self::V2025_06_18 => 2,
            Self::V2025_11_25 => 3,
            Self::V2026_07_28 => 4,
        }
    }

    /// The version of a number in a session token.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.code() == code)
    }
}

/// Which era a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Per-request metadata.
    Modern,
    /// Sessions.
    Legacy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_one_to_one() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.name()), Some(version));
            assert_eq!(Version::from_code(version.code()), Some(version));
        }
    }
}
