//! The known word an unknown one looks like.

/// The nearest of the known words, when it is near: at most a third of the word is different, or only its case.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    known
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbors between two words. Words longer than any field count as far.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if swapped { least.min(rows[i - 2][j - 2] + 1) } else { least }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognized_and_strangers_are_not() {
        let known = ["catalog", "replicas", "resources", "maxJSONDepth"];
        let near = |word| nearest(word, known.into_iter());
        assert_eq!(near("catalogue"), Some("catalog"));
        assert_eq!(near("replica"), Some("replicas"));
        assert_eq!(near("maxJsonDepth"), Some("maxJSONDepth"));
        assert_eq!(near("replcias"), Some("replicas"));
        assert_eq!(near("volumes"), None);
        assert_eq!(near(&"x".repeat(10_000)), None);
    }
}
