//! How soon a status is to be written.

/// What a write of a status is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Numbers moved.
    Numbers,
    /// Something changed that a person or an alert would act on.
    Conditions,
}

impl Urgency {
    /// `conditions` or `numbers`
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conditions => "conditions",
            Self::Numbers => "numbers",
        }
    }
}
