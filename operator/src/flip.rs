//! When shards go over to a new configuration: together, once all of them have loaded it, or 30 s after the first did.

use std::time::Duration;

use jiff::Timestamp;

use crate::stages::elapsed;

/// One shard that cannot load the new configuration must not keep the others on the old one for ever.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What one live shard said about configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The hash it serves.
    pub serves: &'a str,
    /// The hash it could serve.
    pub staged: &'a str,
}

/// Whether shards are to go over, and what to remember until the next time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flip {
    /// Serve the published configuration. Otherwise each shard goes on with what it serves.
    pub go: bool,
    /// When a shard was first seen with the published configuration loaded; none once all serve it.
    pub first_staged: Option<Timestamp>,
}

/// Whether shards are to serve `published`, the newest configuration. `first_staged` is what the last answer said about it.
///
/// A new process of ours loses nothing but the patience: shards go on with what they serve until it has heard them.
pub fn flip(published: &str, shards: &[Seen<'_>], first_staged: Option<Timestamp>, now: Timestamp) -> Flip {
    let loaded = |shard: &Seen<'_>| shard.staged == published || shard.serves == published;
    if shards.iter().all(|shard| shard.serves == published) {
        return Flip { go: true, first_staged: None };
    }
    let first_staged = first_staged.or_else(|| shards.iter().any(loaded).then_some(now));
    let waited = first_staged.is_some_and(|first| elapsed(first, now) >= PATIENCE);
    Flip { go: shards.iter().all(loaded) || waited, first_staged }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn seen<'a>(serves: &'a str, staged: &'a str) -> Seen<'a> {
        Seen { serves, staged }
    }

    #[test]
    fn nobody_goes_over_before_the_last_has_loaded_it() {
        let waiting = flip("new", &[seen("old", "new"), seen("old", "old")], None, at(0));
        assert_eq!(waiting, Flip { go: false, first_staged: Some(at(0)) });
        let all = flip("new", &[seen("old", "new"), seen("old", "new")], waiting.first_staged, at(5));
        assert!(all.go);
    }

    #[test]
    fn after_thirty_seconds_the_others_go_over_without_the_one_that_cannot() {
        let shards = [seen("old", "new"), seen("old", "")];
        let first = flip("new", &shards, None, at(0)).first_staged;
        assert!(!flip("new", &shards, first, at(29)).go);
        assert!(flip("new", &shards, first, at(30)).go);
    }

    #[test]
    fn the_patience_starts_with_the_first_that_loaded_it_not_with_the_publication() {
        let shards = [seen("old", "old")];
        assert_eq!(flip("new", &shards, None, at(0)), Flip { go: false, first_staged: None });
        assert_eq!(flip("new", &shards, None, at(100)), Flip { go: false, first_staged: None });
    }

    #[test]
    fn a_shard_born_with_the_new_one_does_not_take_the_others_over() {
        assert!(!flip("new", &[seen("new", "new"), seen("old", "old")], None, at(0)).go);
    }

    #[test]
    fn once_all_serve_it_the_patience_is_forgotten() {
        assert_eq!(flip("new", &[seen("new", "new")], Some(at(0)), at(60)), Flip { go: true, first_staged: None });
        assert!(flip("new", &[], None, at(0)).go);
    }
}
