//! Whom to ask in a round, and whom to leave out: a node that is gone must cost a round one second, not one for each of its
//! shards, or the others are asked too late.

use std::collections::{HashMap, HashSet};

use super::Target;

/// Rounds in a row without a sign of life from any shard of a node, before only one of them is asked. One may be a hiccup.
const DEAD_AFTER_ROUNDS: u32 = 2;
/// Nodes without shards are forgotten after this many rounds.
const KEPT_ROUNDS: u64 = 100;

/// What asking a shard showed of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Somebody is there: an answer, or a refusal, which a dead node does not send either.
    Life,
    /// Nothing came back.
    Silence,
}

/// What the last rounds showed.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    count: u64,
    quiet: HashMap<String, Quiet>,
    unasked: HashSet<String>,
}

/// A node that gave no sign of life lately.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    rounds: u32,
    last: u64,
}

/// The shards of a round.
#[derive(Debug, Default)]
pub(super) struct Arranged {
    /// To be asked, in this order.
    pub(super) first: Vec<Target>,
    /// Not to be asked, unless the one that was asked in their stead gives a sign of life.
    pub(super) held: Vec<Target>,
}

// === impl Rounds ===

impl Rounds {
    /// Begins a round: who was not asked in the last one comes first, and of a dead node's shards one, each time another.
    pub(super) fn begin(&mut self, targets: Vec<Target>) -> Arranged {
        self.count += 1;
        let count = self.count;
        self.quiet.retain(|_, quiet| count - quiet.last < KEPT_ROUNDS);
        let mut arranged = Arranged::default();
        let mut dead: HashMap<String, Vec<Target>> = HashMap::new();
        for target in targets {
            match target.node.as_ref().filter(|node| self.is_dead(node)) {
                Some(node) => dead.entry(node.clone()).or_default().push(target),
                None => arranged.first.push(target),
            }
        }
        arranged.first.sort_by_key(|target| !self.unasked.contains(&target.pod));
        for mut shards in dead.into_values() {
            let scout = usize::try_from(count).unwrap_or(0) % shards.len();
            arranged.first.push(shards.swap_remove(scout));
            arranged.held.append(&mut shards);
        }
        arranged
    }

    /// Ends a round: what the shards that were asked showed of their nodes, and who was still to be asked.
    pub(super) fn end(&mut self, signs: &HashMap<String, Sign>, unasked: HashSet<String>) {
        self.unasked = unasked;
        for (node, sign) in signs {
            match sign {
                Sign::Life => {
                    self.quiet.remove(node);
                }
                Sign::Silence => {
                    let quiet = self.quiet.entry(node.clone()).or_insert(Quiet { rounds: 0, last: 0 });
                    quiet.rounds = quiet.rounds.saturating_add(1);
                    quiet.last = self.count;
                }
            }
        }
    }

    fn is_dead(&self, node: &str) -> bool {
        self.quiet.get(node).is_some_and(|quiet| quiet.rounds >= DEAD_AFTER_ROUNDS)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mcp_crds::control::{Key, KeyRing};
    use mcp_crds::load::LoadRequest;

    use super::*;

    fn target(pod: &str, node: &str) -> Target {
        let key = Key::from_bytes(&[9; 32]);
        let keys = KeyRing { session: vec![], sealing: String::new(), signing: key.id.clone(), control: vec![key] };
        Target {
            cluster: "c".into(),
            pod: pod.into(),
            name: pod.into(),
            node: Some(node.into()),
            address: "10.0.0.1".into(),
            keys: Arc::new(keys),
            request: LoadRequest::default(),
        }
    }

    fn four() -> Vec<Target> {
        vec![target("a", "n1"), target("b", "n2"), target("c", "n2"), target("d", "n2")]
    }

    fn names(targets: &[Target]) -> Vec<&str> {
        targets.iter().map(|target| target.pod.as_str()).collect()
    }

    fn silent(rounds: &mut Rounds) {
        let signs = [("n1".to_owned(), Sign::Life), ("n2".to_owned(), Sign::Silence)];
        rounds.end(&signs.into_iter().collect(), HashSet::new());
    }

    #[test]
    fn of_a_node_without_a_sign_of_life_each_round_asks_another_shard() {
        let mut rounds = Rounds::default();
        for _ in 0..2 {
            assert_eq!(names(&rounds.begin(four()).first), ["a", "b", "c", "d"]);
            silent(&mut rounds);
        }
        let mut scouts = HashSet::new();
        for _ in 0..3 {
            let arranged = rounds.begin(four());
            assert_eq!((arranged.first.len(), arranged.held.len()), (2, 2));
            assert_eq!(arranged.first[0].pod, "a", "the living first");
            scouts.insert(arranged.first[1].pod.clone());
            silent(&mut rounds);
        }
        assert_eq!(scouts.len(), 3, "one that never answers must not hide the others");
    }

    #[test]
    fn a_sign_of_life_brings_the_whole_node_back() {
        let mut rounds = Rounds::default();
        for _ in 0..5 {
            rounds.begin(four());
            silent(&mut rounds);
        }
        assert_eq!(rounds.begin(four()).held.len(), 2);
        rounds.end(&[("n2".to_owned(), Sign::Life)].into_iter().collect(), HashSet::new());
        assert!(rounds.begin(four()).held.is_empty());
    }

    #[test]
    fn who_was_not_asked_is_asked_first_the_next_time() {
        let mut rounds = Rounds::default();
        rounds.begin(four());
        rounds.end(&HashMap::new(), ["c".to_owned(), "d".to_owned()].into());
        assert_eq!(names(&rounds.begin(four()).first), ["c", "d", "a", "b"]);
    }

    #[test]
    fn nodes_that_are_gone_are_forgotten() {
        let mut rounds = Rounds::default();
        for _ in 0..3 {
            rounds.begin(four());
            silent(&mut rounds);
        }
        for _ in 0..=KEPT_ROUNDS {
            rounds.begin(vec![]);
            rounds.end(&HashMap::new(), HashSet::new());
        }
        assert!(rounds.quiet.is_empty());
    }
}
