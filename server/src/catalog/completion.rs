//! The values an argument is completed with.

use crate::mcp::completion::{Completion, MAX_VALUES};

/// Values in the order of the catalog: the likely ones first. Without any, there is nothing to offer.
#[derive(Clone, Debug, Default)]
pub struct Values(Vec<Value>);

#[derive(Clone, Debug)]
struct Value {
    text: String,
    /// In lower case: what is compared.
    folded: String,
}

impl Values {
    pub(super) fn new(values: &[String]) -> Self {
        Self(values.iter().map(|text| Value { text: text.clone(), folded: text.to_lowercase() }).collect())
    }

    /// Those that begin with what was typed, whatever the case.
    pub fn starting_with(&self, typed: &str) -> Completion {
        let typed = typed.to_lowercase();
        let mut completion = Completion::default();
        for value in self.0.iter().filter(|value| value.folded.starts_with(&typed)) {
            if completion.total < MAX_VALUES {
                completion.values.push(value.text.clone());
            }
            completion.total += 1;
        }
        completion.has_more = completion.total > MAX_VALUES;
        completion
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(values: &[&str], typed: &str) -> Vec<String> {
        Values::new(&values.iter().map(ToString::to_string).collect::<Vec<_>>()).starting_with(typed).values
    }

    #[test]
    fn values_begin_with_what_was_typed_whatever_the_case_and_keep_their_order() {
        let values = ["Python", "pytorch", "Ärger", "rust", "PYPI"];
        assert_eq!(complete(&values, "py"), ["Python", "pytorch", "PYPI"]);
        assert_eq!(complete(&values, "äR"), ["Ärger"]);
        assert_eq!(complete(&values, ""), values);
        assert!(complete(&values, "ython").is_empty());
    }

    #[test]
    fn at_most_a_hundred_are_told_and_all_are_counted() {
        let values = Values::new(&(0..250).map(|n| format!("v{n}")).collect::<Vec<_>>());
        let all = values.starting_with("V");
        assert_eq!((all.values.len(), all.total, all.has_more), (MAX_VALUES, 250, true));
        let exactly = Values::new(&(0..100).map(|n| format!("v{n}")).collect::<Vec<_>>()).starting_with("");
        assert_eq!((exactly.values.len(), exactly.total, exactly.has_more), (100, 100, false));
    }
}
