//! What shards say to each other about tasks, as JSON in a question and its answer (`peers::wire`). Pure.
//!
//! A shard may be one version older or newer than its peer: what is not read is answered as unknown.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::TaskId;
use super::record::{Kept, Record};
use crate::auth::Principal;
use crate::mcp::tasks::Task;
use crate::session::{Incarnation, Tagger};

/// A question about one task. The id says whose it is and is verified where it is read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    pub principal: String,
    pub id: String,
    pub request: Request,
}

/// What is asked.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Of a client, to the shard that runs it.
    Get,
    /// Of a client, to the shard that runs it.
    Update(Map<String, Value>),
    /// Of a client, to the shard that runs it.
    Cancel,
    /// Keep this, unless something newer is known; or unless you are about to end, when who asks is.
    Keep { version: u64, task: Task, leaving: bool },
    /// What is known of it, by whoever has a record.
    Find,
    /// Keep it no longer: another does.
    Forget,
}

/// What is answered.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Said {
    Task(Map<String, Value>),
    Done,
    /// Of a client's request: −32602, with these words.
    Refused(String),
    /// There is no record.
    Nothing,
    /// There is one.
    Record {
        version: u64,
        task: Task,
    },
    /// Not kept: there is no room.
    Full,
    /// Not kept: this shard is about to end.
    Leaving,
    /// Not kept: this stands.
    Stands {
        version: u64,
        task: Task,
    },
    /// Not kept: the peer cannot know it.
    Forged(String),
}

impl Message {
    /// About a record.
    pub(super) fn about(record: &Record, request: Request) -> Self {
        Self { principal: record.principal.to_string(), id: record.sealed.to_string(), request }
    }

    /// The same as it goes to a peer.
    pub(super) fn encode(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Reads one, and whose id it is; none when it is not read, or the id was not made for that principal.
    pub(super) fn read(text: &str, tagger: &Tagger) -> Option<(Principal, TaskId, String, Request)> {
        let Self { principal, id: sealed, request } = serde_json::from_str(text).ok()?;
        let principal = Principal { name: principal };
        let id = TaskId::open(&sealed, tagger, &principal)?;
        Some((principal, id, sealed, request))
    }
}

/// A record as a peer told it.
pub(super) fn record(
    from: Incarnation,
    id: TaskId,
    sealed: impl Into<Arc<str>>,
    principal: &str,
    (version, task): (u64, Task),
) -> Record {
    Record { id, sealed: sealed.into(), principal: principal.into(), task, version, owner: from, kept: Kept::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::tasks::State;
    use crate::session::{Sessions, generated_ring, random};

    #[test]
    fn what_is_said_is_read_as_it_was_meant_and_an_id_that_was_made_up_is_not() {
        let tagger = Sessions::new(random(), generated_ring()).unwrap().tagger();
        let ada = Principal { name: "ada".to_owned() };
        let id = TaskId { runs: [1; 16], keeps: [2; 16], number: 3, created: 4, ttl: 5 };
        let task = Task { state: State::Working, message: None, created: 4, updated: 4, ttl: 5, poll_interval: 6 };
        let answers = json!({"a": {"action": "accept"}}).as_object().unwrap().clone();
        for request in [|| Request::Get, || Request::Cancel, || Request::Find, || Request::Forget]
            .map(|make| make())
            .into_iter()
            .chain([Request::Update(answers), Request::Keep { version: 7, task, leaving: true }])
        {
            let message = Message { principal: "ada".to_owned(), id: id.seal(&tagger, &ada), request };
            let text = message.encode().unwrap();
            let (principal, read, sealed, request) = Message::read(&text, &tagger).unwrap();
            assert_eq!((principal, read, &sealed), (ada.clone(), id, &message.id));
            assert_eq!(request, message.request);
            assert!(Message::read(&text.replace("\"ada\"", "\"eve\""), &tagger).is_none());
        }
        assert!(Message::read("{}", &tagger).is_none());
        let newer = format!(r#"{{"principal":"ada","id":"{}","request":"Later"}}"#, id.seal(&tagger, &ada));
        assert!(Message::read(&newer, &tagger).is_none());
    }
}
