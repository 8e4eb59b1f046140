//! Which streams want an event: a bit for each stream and list, and for each URI and task those who named it. Finding them costs
//! nothing for those who do not want it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::encode::Wanted;
use crate::mcp::subscriptions::Event;

/// Places of the slab, by what they want to hear of.
#[derive(Debug, Default)]
pub(super) struct Index {
    tools: Bits,
    prompts: Bits,
    resources: Bits,
    uris: HashMap<Arc<str>, Members>,
    tasks: HashMap<Arc<str>, Members>,
}

/// A set of places, a bit each.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

/// Places that want one thing. Most things are wanted by one.
#[derive(Debug)]
enum Members {
    One(u32),
    /// Apart, so that one takes no more room than it needs.
    #[expect(clippy::box_collection, reason = "a set is 24 bytes, a box 8: most are `One`, and each has the room of the larger")]
    Many(Box<BTreeSet<u32>>),
}

// === impl Index ===

impl Index {
    /// A name as it is kept here already, so that it is kept once.
    pub(super) fn shared(&self, uri: &str) -> Option<Arc<str>> {
        self.uris.get_key_value(uri).map(|(known, _)| Arc::clone(known))
    }

    /// A place wants something.
    pub(super) fn insert(&mut self, place: u32, wants: Wanted<'_>) {
        for (is_wanted, list) in wants.lists.into_iter().zip(self.lists()) {
            if is_wanted {
                list.insert(place);
            }
        }
        for (map, names) in [(&mut self.uris, wants.uris), (&mut self.tasks, wants.tasks)] {
            for name in names {
                match map.get_mut(name) {
                    Some(members) => members.insert(place),
                    None => drop(map.insert(Arc::clone(name), Members::One(place))),
                }
            }
        }
    }

    /// A place wants nothing any more.
    pub(super) fn remove(&mut self, place: u32, wants: Wanted<'_>) {
        for (is_wanted, list) in wants.lists.into_iter().zip(self.lists()) {
            if is_wanted {
                list.remove(place);
            }
        }
        for (map, names) in [(&mut self.uris, wants.uris), (&mut self.tasks, wants.tasks)] {
            for name in names {
                if map.get_mut(name).is_some_and(|members| members.remove(place)) {
                    map.remove(name);
                }
            }
            // A table that was large once is not kept for ever.
            if map.len() < map.capacity() / 8 && map.capacity() > 1024 {
                map.shrink_to(map.len() * 2);
            }
        }
    }

    /// In the order of [`Wanted::lists`].
    fn lists(&mut self) -> [&mut Bits; 3] {
        [&mut self.tools, &mut self.prompts, &mut self.resources]
    }

    /// The places from `from` on that want an event, in order, at most `most` of them.
    pub(super) fn wanting(&self, event: &Event, from: u32, most: usize, found: &mut Vec<u32>) {
        found.clear();
        match event {
            Event::ToolsChanged => found.extend(self.tools.from(from).take(most)),
            Event::PromptsChanged => found.extend(self.prompts.from(from).take(most)),
            Event::ResourcesChanged => found.extend(self.resources.from(from).take(most)),
            Event::ResourceUpdated(uri) => found.extend(self.uris.get(uri).into_iter().flat_map(|m| m.from(from)).take(most)),
            Event::TaskChanged { id, .. } => found.extend(self.tasks.get(id).into_iter().flat_map(|m| m.from(from)).take(most)),
        }
    }
}

// === impl Bits ===

impl Bits {
    fn insert(&mut self, place: u32) {
        let word = place as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (place % 64);
    }

    fn remove(&mut self, place: u32) {
        if let Some(word) = self.0.get_mut(place as usize / 64) {
            *word &= !(1 << (place % 64));
        }
    }

    /// The places from one on, in order.
    fn from(&self, from: u32) -> impl Iterator<Item = u32> {
        let first = from as usize / 64;
        let words = self.0.iter().enumerate().skip(first);
        words.flat_map(move |(at, word)| {
            let mut left = if at == first { word & (u64::MAX << (from % 64)) } else { *word };
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                u32::try_from(at * 64).ok().map(|base| base + bit)
            })
        })
    }
}

// === impl Members ===

impl Members {
    fn insert(&mut self, place: u32) {
        match self {
            Self::One(one) if *one == place => {}
            Self::One(one) => *self = Self::Many(Box::new(BTreeSet::from([*one, place]))),
            Self::Many(many) => drop(many.insert(place)),
        }
    }

    /// Whether nobody is left.
    fn remove(&mut self, place: u32) -> bool {
        match self {
            Self::One(one) => *one == place,
            Self::Many(many) => {
                many.remove(&place);
                many.is_empty()
            }
        }
    }

    fn from(&self, from: u32) -> impl Iterator<Item = u32> {
        let (one, many) = match self {
            Self::One(one) => (Some(*one), None),
            Self::Many(many) => (None, Some(many.range(from..).copied())),
        };
        one.into_iter().filter(move |one| *one >= from).chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::encode::Wants;

    fn wants(uris: &[&str]) -> Wants {
        Wants { tools: true, uris: uris.iter().map(|uri| (*uri).into()).collect(), ..Wants::default() }
    }

    #[test]
    fn what_one_stream_wants_takes_two_words() {
        assert!(size_of::<Members>() <= 16, "{}", size_of::<Members>());
    }

    fn all(index: &Index, event: &Event) -> Vec<u32> {
        let mut found = Vec::new();
        index.wanting(event, 0, usize::MAX, &mut found);
        found
    }

    #[test]
    fn only_who_named_something_is_found_in_order_and_from_anywhere() {
        let mut index = Index::default();
        for place in [200, 3, 64, 63, 1000] {
            index.insert(place, wants(if place % 2 == 0 { &["a:b"] } else { &["a:c"] }).wanted());
        }
        let (list, updated) = (Event::ToolsChanged, Event::ResourceUpdated("a:b".into()));
        assert_eq!(all(&index, &list), [3, 63, 64, 200, 1000]);
        assert_eq!(all(&index, &updated), [64, 200, 1000]);
        assert_eq!(all(&index, &Event::PromptsChanged), [0_u32; 0]);
        let mut found = Vec::new();
        index.wanting(&list, 64, 2, &mut found);
        assert_eq!(found, [64, 200]);
        index.wanting(&updated, 65, 1, &mut found);
        assert_eq!(found, [200]);
    }

    #[test]
    fn what_nobody_wants_any_more_is_forgotten() {
        let mut index = Index::default();
        let (both, one) = (wants(&["a:b", "a:c"]), wants(&["a:c"]));
        index.insert(1, both.wanted());
        index.insert(2, one.wanted());
        index.remove(1, both.wanted());
        assert_eq!((all(&index, &Event::ToolsChanged), index.uris.len()), (vec![2], 1));
        index.remove(2, one.wanted());
        assert_eq!((all(&index, &Event::ToolsChanged), index.uris.len()), (vec![], 0));
    }
}
