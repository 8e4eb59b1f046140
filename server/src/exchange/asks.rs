//! Asks of legacy sessions: a request to the client on the stream of its POST, and the posted response
//! (2025-11-25 `basic/transports` §Sending Messages, 4 and 6).
//!
//! The id of such a request is `{incarnation}.{slot}.{mac}`: any shard finds the one that waits, and nobody who did not get
//! the id from us, in this session, can answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Answers, Ask, Interrupted, MAX_ASK_BYTES, Outbox, id, lock};
use crate::fault::Fault;
use crate::jsonrpc;
use crate::limits::MAX_WAITING_ASKS;
use crate::mcp::version::Version;
use crate::session::{Incarnation, SessionKey, Tagger};

/// What a tag on an id is for.
const PURPOSE: &str = "mcp-server request id v1";

/// The questions of this shard that wait for an answer.
#[derive(Debug)]
pub struct Asks {
    incarnation: Incarnation,
    tagger: Tagger,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    session: SessionKey,
    answer: oneshot::Sender<Result<Value, String>>,
}

/// Where a posted response belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a question of this shard.
    Local(u64),
    /// To a question of the process with this boot nonce.
    Other(Incarnation, u64),
    /// Nowhere: this server never gave that id to this session.
    Forged,
}

/// What became of a posted response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Who asked has it.
    Taken,
    /// Nobody waits for it any more.
    Nobody,
}

/// A question, until it is answered or not needed any more.
struct Asked {
    asks: Arc<Asks>,
    slot: u64,
    id: String,
    outbox: Arc<Outbox>,
    answer: oneshot::Receiver<Result<Value, String>>,
}

impl Asks {
    /// None yet, of a process with this boot nonce.
    pub fn new(incarnation: Incarnation, tagger: Tagger) -> Self {
        Self { incarnation, tagger, next: AtomicU64::new(1), waiting: Mutex::default(), refused: AtomicU64::new(0) }
    }

    /// Where a response that a session posted belongs.
    pub fn route(&self, session: SessionKey, text: &str) -> Route {
        let parse = || {
            let (incarnation, [slot], tag) = id::read(text)?;
            let ours = self.tagger.verify(PURPOSE, &tagged(incarnation, slot, session), &tag);
            ours.then_some((incarnation, slot))
        };
        match parse() {
            Some((incarnation, slot)) if incarnation == self.incarnation => Route::Local(slot),
            Some((incarnation, slot)) => Route::Other(incarnation, slot),
            None => Route::Forged,
        }
    }

    /// Gives a response, `result` or `error` of it, to who asked on this shard.
    pub fn deliver(&self, session: SessionKey, slot: u64, response: Result<&RawValue, &RawValue>) -> Delivered {
        let asked = {
            let mut waiting = lock(&self.waiting);
            if waiting.get(&slot).is_none_or(|waiting| waiting.session != session) {
                return Delivered::Nobody;
            }
            waiting.remove(&slot)
        };
        let Some(asked) = asked else { return Delivered::Nobody };
        // Both are JSON: the body they come from was read.
        let response = match response {
            Ok(result) => Ok(serde_json::from_str(result.get()).unwrap_or_default()),
            Err(error) => Err(refusal(error)),
        };
        if asked.answer.send(response).is_ok() { Delivered::Taken } else { Delivered::Nobody }
    }

    /// Ends the questions of a session: it is over.
    pub fn end_session(&self, session: SessionKey) {
        lock(&self.waiting).retain(|_, waiting| waiting.session != session);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// How many were never asked, because [`MAX_WAITING_ASKS`] waited.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn register(self: &Arc<Self>, session: SessionKey, outbox: &Arc<Outbox>) -> Result<Asked, Fault> {
        let slot = self.next.fetch_add(1, Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.len() >= MAX_WAITING_ASKS {
                self.refused.fetch_add(1, Relaxed);
                return Err(Fault::Failed("this shard waits for all the answers it may; try again later".to_owned()));
            }
            waiting.insert(slot, Waiting { session, answer: sender });
        }
        let tag = self.tagger.tag(PURPOSE, &tagged(self.incarnation, slot, session));
        let id = id::write(self.incarnation, &[slot], &tag);
        Ok(Asked { asks: Arc::clone(self), slot, id, outbox: Arc::clone(outbox), answer })
    }
}

/// Asks all of them at one time and waits for all answers.
pub(super) async fn ask(
    asks: &Arc<Asks>,
    session: SessionKey,
    outbox: &Arc<Outbox>,
    version: Version,
    questions: &[(String, Ask)],
) -> Result<Answers, Interrupted> {
    let mut asked = Vec::with_capacity(questions.len());
    for (key, ask) in questions {
        let question = asks.register(session, outbox)?;
        let params = ask.params(version, &question.id);
        let request = jsonrpc::request(&question.id, ask.method(), &params);
        if request.len() > MAX_ASK_BYTES {
            return Err(Fault::Failed(format!("the question {key:?} is larger than {MAX_ASK_BYTES} bytes")).into());
        }
        let sent = outbox.request(&request);
        sent.map_err(|closed| Fault::Failed(format!("the client cannot be asked: {closed}")))?;
        asked.push((key, question));
    }
    let mut answers = Answers::new();
    for (key, mut question) in asked {
        let answer = match (&mut question.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(refusal)) => return Err(Fault::Failed(format!("the client did not answer {key:?}: {refusal}")).into()),
            Err(_) => return Err(Fault::Failed("the session was ended".to_owned()).into()),
        };
        answers.insert(key.clone(), answer);
    }
    Ok(answers)
}

fn tagged(incarnation: Incarnation, slot: u64, session: SessionKey) -> Vec<u8> {
    [&incarnation[..], &slot.to_be_bytes(), &session.incarnation, &session.number.to_be_bytes()].concat()
}

/// What an error response says, for people; it is the client's own text, so not much of it.
fn refusal(error: &RawValue) -> String {
    let error: Value = serde_json::from_str(error.get()).unwrap_or_default();
    let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
    let message = super::cut(message, super::MAX_PROGRESS_TEXT);
    format!("{message} ({})", error.get("code").and_then(Value::as_i64).unwrap_or_default())
}

impl Drop for Asked {
    /// Who waits no longer says so (2025-11-25 `basic/utilities/cancellation`).
    fn drop(&mut self) {
        if lock(&self.asks.waiting).remove(&self.slot).is_some() {
            let params = json!({ "requestId": self.id, "reason": "the answer is not needed any more" });
            // Where nobody reads, nobody asks the person any more.
            let _ = self.outbox.request(&jsonrpc::notification("notifications/cancelled", &params));
        }
    }
}
