//! The id of a task: which shards know it and for how long, and a tag that binds it to its owner.
//!
//! ```text
//! version 1 | incarnation 16 | second incarnation 16 | number 8 | created 8 | ttl 4 | tag 16      in unpadded base64url
//! ```
//! The tag is made with the session keys over all before it and the principal (`extensions/tasks/specification` §Security
//! Considerations): an id cannot be guessed, another's is none, and any shard finds out without asking.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use crate::auth::Principal;
use crate::session::{Incarnation, Tagger};

const FORMAT: u8 = 2;
const HEAD: usize = 1 + 16 + 16 + 8 + 8 + 4;
const TAG: usize = 16;
/// What the tag is for.
const PURPOSE: &str = "mcp-server task id v1";

/// Which task: the process that runs it, the process that kept the second record first, its number, and its time: so any
/// shard knows whether a task may be forgotten, also when nobody is left who remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId {
    /// Runs it.
    pub runs: Incarnation,
    /// Kept the second record when the id was told; zeros when there was none.
    pub keeps: Incarnation,
    /// Counts from one where it runs.
    pub number: u64,
    /// Milliseconds since the epoch.
    pub created: u64,
    /// From its creation, milliseconds.
    pub ttl: u32,
}

/// Which record among those of all shards: the process that runs the task, and its number there.
pub(super) type Key = (Incarnation, u64);

impl TaskId {
    /// As it goes over the wire, for one principal.
    pub fn seal(&self, tagger: &Tagger, principal: &Principal) -> String {
        let mut bytes = self.head();
        bytes.extend_from_slice(&tagger.tag(PURPOSE, &bound(&bytes, principal)));
        BASE64.encode(bytes)
    }

    /// Reads one that a principal sent; none when it was not made for that principal.
    pub fn open(text: &str, tagger: &Tagger, principal: &Principal) -> Option<Self> {
        let bytes = BASE64.decode(text).ok().filter(|bytes| bytes.len() == HEAD + TAG)?;
        let (head, tag) = bytes.split_at(HEAD);
        let id = Self {
            runs: head.get(1..17)?.try_into().ok()?,
            keeps: head.get(17..33)?.try_into().ok()?,
            number: u64::from_be_bytes(head.get(33..41)?.try_into().ok()?),
            created: u64::from_be_bytes(head.get(41..49)?.try_into().ok()?),
            ttl: u32::from_be_bytes(head.get(49..)?.try_into().ok()?),
        };
        let ours = head.first() == Some(&FORMAT) && tagger.verify(PURPOSE, &bound(head, principal), tag.try_into().ok()?);
        ours.then_some(id)
    }

    fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD + TAG);
        head.push(FORMAT);
        head.extend_from_slice(&self.runs);
        head.extend_from_slice(&self.keeps);
        head.extend_from_slice(&self.number.to_be_bytes());
        head.extend_from_slice(&self.created.to_be_bytes());
        head.extend_from_slice(&self.ttl.to_be_bytes());
        head
    }

    /// Among the records of all shards.
    pub(super) fn key(&self) -> Key {
        (self.runs, self.number)
    }

    /// Whether it is over `grace` milliseconds after its ttl, at a time in milliseconds since the epoch.
    pub(super) fn is_over(&self, now: u64, grace: u64) -> bool {
        now >= self.created.saturating_add(u64::from(self.ttl)).saturating_add(grace)
    }
}

/// The head has a fixed length, so what follows it is the principal and nothing else.
fn bound(head: &[u8], principal: &Principal) -> Vec<u8> {
    [head, principal.name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Sessions, generated_ring, random};

    fn ada() -> Principal {
        Principal { name: "ada".to_owned() }
    }

    #[test]
    fn any_shard_opens_an_id_and_only_its_owner_can_use_it() {
        let ring = generated_ring();
        let [one, other] = [(); 2].map(|()| Sessions::new(random(), ring.clone()).unwrap().tagger());
        let id = TaskId { runs: [1; 16], keeps: [2; 16], number: 7, created: 8, ttl: 9 };
        let sealed = id.seal(&one, &ada());
        assert_eq!(TaskId::open(&sealed, &other, &ada()), Some(id));
        assert_eq!(TaskId::open(&sealed, &other, &Principal::anonymous()), None);
        let stranger = Sessions::new(random(), generated_ring()).unwrap().tagger();
        assert_eq!(TaskId::open(&sealed, &stranger, &ada()), None);
    }

    #[test]
    fn an_id_says_when_its_task_may_be_forgotten() {
        let id = TaskId { runs: [1; 16], keeps: [2; 16], number: 7, created: 1_000, ttl: 500 };
        assert!(!id.is_over(1_499, 0) && id.is_over(1_500, 0) && !id.is_over(1_500, 1));
        assert!(!TaskId { created: u64::MAX, ..id }.is_over(1_500, 0));
    }

    #[test]
    fn no_byte_of_an_id_can_be_changed() {
        let tagger = Sessions::new(random(), generated_ring()).unwrap().tagger();
        let sealed = TaskId { runs: [1; 16], keeps: [0; 16], number: 7, created: 8, ttl: 9 }.seal(&tagger, &ada());
        for position in 0..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[position] = if forged[position] == b'A' { b'B' } else { b'A' };
            assert_eq!(TaskId::open(&String::from_utf8(forged).unwrap(), &tagger, &ada()), None, "byte {position}");
        }
        for text in ["", "x", "786512e2-9e0d-44bd-8f29-789f320fe840", &sealed[1..]] {
            assert_eq!(TaskId::open(text, &tagger, &ada()), None, "{text:?}");
        }
    }
}
