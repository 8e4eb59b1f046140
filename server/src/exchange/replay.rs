//! Asks of 2026-07-28 (`basic/patterns/mrtr`): answers the client sent along, answers of earlier rounds, and what the round
//! ends with when one is missing.
//!
//! What earlier rounds learnt travels with the client, sealed in `requestState`: any shard answers the next round and none
//! keeps anything. A state is good for an hour, for one principal, one method and one set of parameters.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answers, Ask, Interrupted, MAX_ASK_BYTES, lock};
use crate::auth::Principal;
use crate::fault::Fault;
use crate::jsonrpc::Params;
use crate::mcp::version::Version;
use crate::session::{MAX_STATE_BYTES, Sessions};

/// Seconds a client may take for one round.
pub const STATE_LIFETIME: u64 = 3600;
/// What of the parameters changes from round to round.
const OF_THE_ROUND: [&str; 3] = ["_meta", "inputResponses", "requestState"];

/// What is known when a round begins.
#[derive(Debug)]
pub struct Replay {
    /// Of earlier rounds.
    sealed: Answers,
    /// Of this one.
    sent: Answers,
    /// What was asked for: only that is kept for the next round.
    used: Mutex<Answers>,
}

/// How a round ends that misses answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRequired {
    /// MCP `InputRequests`: key → method and parameters.
    pub requests: BTreeMap<String, Value>,
    /// What earlier asks were answered.
    pub answers: Answers,
}

/// What a state is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Who calls.
    pub principal: &'a Principal,
    /// Which method.
    pub method: &'a str,
    /// With what.
    pub params: &'a Params<'a>,
}

#[derive(Serialize, Deserialize)]
struct State<'a> {
    expires: u64,
    #[serde(borrow)]
    principal: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    digest: [u8; 32],
    answers: Cow<'a, Answers>,
}

impl Inputs<'_> {
    /// What the client knows already; none when it sent nothing along.
    ///
    /// # Errors
    /// When the answers are no object, or the state is not one of ours for this request at `now` (seconds since the epoch, asked
    /// only when there is a state).
    pub fn open(&self, sessions: &Sessions, now: impl FnOnce() -> u64) -> Result<Option<Arc<Replay>>, Fault> {
        let (responses, state) = (self.params.get("inputResponses"), self.params.get("requestState"));
        if responses.is_none() && state.is_none() {
            return Ok(None);
        }
        let sent = self.params.parsed::<Answers>("inputResponses")?.unwrap_or_default();
        let sealed = match state {
            Some(_) => self.unseal(sessions, &self.params.text("requestState")?, now())?,
            None => Answers::new(),
        };
        Ok(Some(Arc::new(Replay { sealed, sent, used: Mutex::default() })))
    }

    fn unseal(&self, sessions: &Sessions, state: &str, now: u64) -> Result<Answers, Fault> {
        let refused = |why: &str| Fault::InvalidParams(format!("params.requestState {why}"));
        let plain = sessions.open_state(state).map_err(|_| refused("was not made by this server"))?;
        let state: State<'_> = serde_json::from_slice(&plain).map_err(|_| refused("was not made by this server"))?;
        if state.principal != self.principal.name || state.method != self.method || state.digest != self.digest() {
            return Err(refused("was made for another request"));
        }
        if now >= state.expires {
            return Err(refused("has expired; begin again without it"));
        }
        Ok(state.answers.into_owned())
    }

    /// The state the next round begins with.
    ///
    /// # Errors
    /// When the answers so far do not fit.
    pub fn seal(&self, sessions: &Sessions, answers: &Answers, now: u64) -> Result<String, Fault> {
        let state = State {
            expires: now + STATE_LIFETIME,
            principal: Cow::Borrowed(&self.principal.name),
            method: Cow::Borrowed(self.method),
            digest: self.digest(),
            answers: Cow::Borrowed(answers),
        };
        let plain = serde_json::to_vec(&state).map_err(|error| Fault::Failed(error.to_string()))?;
        let too_large = || Fault::Failed(format!("the answers so far are larger than {MAX_STATE_BYTES} bytes of requestState"));
        sessions.seal_state(&plain).map_err(|_| too_large())
    }

    /// Of the parameters without what changes from round to round, their keys in order.
    fn digest(&self) -> [u8; 32] {
        let mut text = Vec::new();
        let mut members: Vec<_> = self.params.members().filter(|(name, _)| !OF_THE_ROUND.contains(name)).collect();
        members.sort_by_key(|(name, _)| *name);
        for (name, raw) in members {
            canonical(&Value::String(name.to_owned()), &mut text);
            text.push(b':');
            // It parsed as JSON when the body was read.
            canonical(&serde_json::from_str(raw.get()).unwrap_or_default(), &mut text);
            text.push(b',');
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &text).as_ref());
        hash
    }
}

/// JSON with the keys of objects in order and nothing between the tokens.
fn canonical(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            text.push(b'[');
            for item in items {
                canonical(item, text);
                text.push(b',');
            }
            text.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            text.push(b'{');
            for (name, value) in members {
                canonical(&Value::String(name.clone()), text);
                text.push(b':');
                canonical(value, text);
                text.push(b',');
            }
            text.push(b'}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.extend_from_slice(value.to_string().as_bytes());
        }
    }
}

/// The answers to some asks; when one is missing the round ends with all that are.
pub(super) fn look_up(replay: Option<&Replay>, version: Version, asks: &[(String, Ask)]) -> Result<Answers, Interrupted> {
    let known = |key: &str| replay.and_then(|replay| replay.sealed.get(key).or_else(|| replay.sent.get(key)));
    let mut answers = Answers::new();
    let mut requests = BTreeMap::new();
    for (key, ask) in asks {
        if let Some(answer) = known(key) {
            // Read here as well: what cannot be used must never be sealed.
            ask.read(answer)
                .map_err(|why| Fault::InvalidParams(format!("params.inputResponses[{key:?}] is no answer: {why}")))?;
            answers.insert(key.clone(), answer.clone());
            continue;
        }
        let request = json!({ "method": ask.method(), "params": ask.params(version, key) });
        if request.to_string().len() > MAX_ASK_BYTES {
            return Err(Fault::Failed(format!("the question {key:?} is larger than {MAX_ASK_BYTES} bytes")).into());
        }
        requests.insert(key.clone(), request);
    }
    let mut used = replay.map(|replay| lock(&replay.used));
    if let Some(used) = &mut used {
        used.extend(answers.clone());
    }
    if requests.is_empty() {
        return Ok(answers);
    }
    let answers = used.map(|used| used.clone()).unwrap_or_default();
    Err(Interrupted::InputRequired(Box::new(InputRequired { requests, answers })))
}
