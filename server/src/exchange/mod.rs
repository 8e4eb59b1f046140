//! What a handler and its client say to each other while a request runs: progress, log messages, asks.
//!
//! ```text
//! handler → Exchange → Outbox → the POST's event stream          progress, log; legacy asks
//!                    → InputRequired → result with requestState   modern asks: the round ends, the client comes back
//! ```
//!
//! **One handler serves both eras.** In a legacy session [`Exchange::ask`] sends the client a request on the stream of the
//! POST and waits for the posted response. In 2026-07-28 there is no such request (`basic/patterns/mrtr`): the answer is
//! looked up in what the client sent along and in what earlier rounds sealed into `requestState`; when it is not there the
//! handler ends with [`Interrupted::InputRequired`], and **is run again from its start** when the client comes back with the
//! answer. So a handler that asks must reach the same asks again when it meets the same answers: what it does before an ask
//! may happen once for each round.

mod ask;
mod asks;
mod calls;
pub mod id;
mod outbox;
mod replay;
pub mod resume;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use serde_json::value::RawValue;

pub use ask::{Answer, Ask};
pub use asks::{Asks, Delivered, Route};
pub use calls::{Calls, DuplicateId, Registered};
pub use outbox::{Closed, LOG_BURST, LOG_INTERVAL, MAX_WAITING_LOGS, MAX_WAITING_PROGRESS, Outbox};
pub use replay::{InputRequired, Inputs, Replay, STATE_LIFETIME};
pub use resume::{Reader, Resumes};

use crate::fault::Fault;
use crate::jsonrpc;
use crate::mcp::elicitation::{ElicitForm, ElicitResult};
use crate::mcp::lifecycle::ClientCapabilities;
use crate::mcp::logging::{self, LogMessage, LoggingLevel};
use crate::mcp::progress;
use crate::mcp::roots::Root;
use crate::mcp::sampling::{CreateMessage, CreateMessageResult};
use crate::mcp::version::Version;
use crate::session::SessionKey;

/// Bytes of one log message.
pub const MAX_LOG_BYTES: usize = 16 << 10;
/// Bytes of the text of one progress notification.
pub const MAX_PROGRESS_TEXT: usize = 1 << 10;
/// Questions of one round.
pub const MAX_ASKS: usize = 16;
/// Bytes of the parameters of one question.
pub const MAX_ASK_BYTES: usize = 64 << 10;

/// A request's way to its client, for as long as the request runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exchange {
    version: Version,
    capabilities: ClientCapabilities,
    outbox: Option<Arc<Outbox>>,
    progress: Option<Arc<Progress>>,
    level: Option<LoggingLevel>,
    asking: Asking,
}

/// Why a handler stops before its result. It goes up with `?`, untouched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// The client is asked, and comes back with its answers (2026-07-28): this round ends.
    #[error("the client is asked and comes back")]
    InputRequired(Box<InputRequired>),
    /// The request failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Asks in a way of its own: a task, whose questions are read and answered by other requests.
pub trait Asker: Send + Sync + fmt::Debug {
    /// Asks all of them and waits for the raw answers.
    fn ask<'a>(&'a self, asks: &'a [(String, Ask)]) -> Pin<Box<dyn Future<Output = Result<Answers, Interrupted>> + Send + 'a>>;
}

/// Raw answers by key.
pub type Answers = BTreeMap<String, Value>;

/// How a request asks its client.
#[derive(Clone, Debug)]
pub(crate) enum Asking {
    /// Not at all: its method has no place for it, or it has no client.
    No,
    /// By ending the round.
    Replay(Option<Arc<Replay>>),
    /// By a request on the stream of the POST.
    Live(Arc<Asks>, SessionKey),
    /// In another way.
    Other(Arc<dyn Asker>),
}

#[derive(Debug)]
struct Progress {
    token: Box<RawValue>,
    last: Mutex<f64>,
}

impl Exchange {
    /// The exchange of a request that nobody listens to: progress and log messages go nowhere, and nobody can be asked.
    pub fn silent(version: Version, capabilities: ClientCapabilities) -> Self {
        let capabilities = capabilities.known_in(version);
        Self { version, capabilities, outbox: None, progress: None, level: None, asking: Asking::No }
    }

    /// Nobody listens, in the newest version.
    #[cfg(test)]
    pub(crate) fn test() -> Self {
        Self::silent(Version::ALL[0], ClientCapabilities::default())
    }

    /// The same without its stream, asking in another way.
    #[must_use]
    pub fn with_asker(&self, asker: Arc<dyn Asker>) -> Self {
        Self { asking: Asking::Other(asker), ..Self::silent(self.version, self.capabilities) }
    }

    /// The same, speaking on a stream.
    #[must_use]
    pub(crate) fn on(self, outbox: &Arc<Outbox>) -> Self {
        Self { outbox: Some(Arc::clone(outbox)), ..self }
    }

    /// The same, with a client that wants to hear of progress under a token.
    #[must_use]
    pub(crate) fn with_progress(self, token: Option<&RawValue>) -> Self {
        let token = token.filter(|token| self.outbox.is_some() && progress::is_token(token));
        let progress = token.map(|token| Arc::new(Progress { token: token.to_owned(), last: Mutex::new(f64::NEG_INFINITY) }));
        Self { progress, ..self }
    }

    /// The same, with a client that wants to hear log messages from a level up.
    #[must_use]
    pub(crate) fn with_level(self, level: Option<LoggingLevel>) -> Self {
        Self { level, ..self }
    }

    /// The same, able to ask.
    #[must_use]
    pub(crate) fn asking(self, asking: Asking) -> Self {
        Self { asking, ..self }
    }

    /// The version of the protocol that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the client can do, as far as this version knows it.
    pub fn capabilities(&self) -> ClientCapabilities {
        self.capabilities
    }

    /// Fails unless the client declared all of these.
    ///
    /// # Errors
    /// In 2026-07-28 `-32021` with what is missing (`basic/index` §_meta); before it an error that says the same.
    pub fn require(&self, capabilities: ClientCapabilities) -> Result<(), Interrupted> {
        let missing = ClientCapabilities(capabilities.0 & !self.capabilities.0);
        if missing.0 == 0 { Ok(()) } else { Err(Fault::MissingCapability(missing).into()) }
    }

    /// Says how far the request is. Nothing is sent when the client did not ask for it, or when the number does not grow; a
    /// client that reads slowly hears only the newest of what waits.
    pub fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let (Some(outbox), Some(heard)) = (&self.outbox, &self.progress) else { return };
        {
            let mut last = lock(&heard.last);
            if !progress.is_finite() || progress <= *last {
                return;
            }
            *last = progress;
        }
        let total = total.filter(|total| total.is_finite());
        let message = message.map(|message| cut(message, MAX_PROGRESS_TEXT));
        let params = progress::Progress { progress_token: &heard.token, progress, total, message };
        outbox.progress(&heard.token, &jsonrpc::notification(progress::METHOD, &params));
    }

    /// Sends a log message, when the client wants to hear its level. Never put a secret into one.
    pub fn log(&self, level: LoggingLevel, logger: Option<&str>, data: &Value) {
        let Some(outbox) = self.outbox.as_ref().filter(|_| self.hears(level)) else { return };
        let event = jsonrpc::notification(logging::METHOD, &LogMessage { level, logger, data });
        if event.len() <= MAX_LOG_BYTES { outbox.log(&event) } else { outbox.drop_one() }
    }

    /// Whether a log message of a level would be sent: costly ones need not be made for nobody.
    pub fn hears(&self, level: LoggingLevel) -> bool {
        self.level.is_some_and(|wanted| level >= wanted)
    }

    /// Has the connection closed while the request runs on: the client comes back for the rest. `false` when it would not, and
    /// nothing has changed.
    pub fn close_stream(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.close_stream())
    }

    /// Asks the client one thing. The key names the question within the request: in 2026-07-28 the answer comes back under it.
    ///
    /// # Errors
    /// [`Interrupted`]: hand it up.
    ///
    /// # Cancel safety
    /// When the future is dropped the client is told that its answer is not needed any more.
    pub async fn ask(&self, key: &str, ask: Ask) -> Result<Answer, Interrupted> {
        let mut answers = self.ask_all(vec![(key.to_owned(), ask)]).await?;
        answers.remove(key).ok_or_else(|| Fault::Failed(format!("there is no answer to {key:?}")).into())
    }

    /// Asks several things in one round.
    ///
    /// # Errors
    /// As [`Exchange::ask`]; also when two questions have one key, or there are more than [`MAX_ASKS`].
    pub async fn ask_all(&self, asks: Vec<(String, Ask)>) -> Result<BTreeMap<String, Answer>, Interrupted> {
        self.may_ask(&asks)?;
        let raw = match &self.asking {
            Asking::No => return Err(Fault::Failed("this request cannot ask its client".to_owned()).into()),
            Asking::Replay(replay) => replay::look_up(replay.as_deref(), self.version, &asks)?,
            Asking::Live(table, session) => match &self.outbox {
                Some(outbox) => asks::ask(table, *session, outbox, self.version, &asks).await?,
                None => return Err(Fault::Failed("this request has no stream to ask on".to_owned()).into()),
            },
            Asking::Other(asker) => asker.ask(&asks).await?,
        };
        asks.into_iter()
            .map(|(key, ask)| {
                let value = raw.get(&key).ok_or_else(|| Fault::Failed(format!("there is no answer to {key:?}")))?;
                let answer = ask.read(value).map_err(|why| self.unusable(&key, &why))?;
                Ok((key, answer))
            })
            .collect()
    }

    /// Asks the person for a form.
    ///
    /// # Errors
    /// As [`Exchange::ask`].
    pub async fn elicit(&self, key: &str, message: &str, schema: Value) -> Result<ElicitResult, Interrupted> {
        let ask = Ask::Elicit(ElicitForm { message: message.to_owned(), requested_schema: schema });
        match self.ask(key, ask).await? {
            Answer::Elicited(result) => Ok(result),
            Answer::Sampled(_) | Answer::Roots(_) => Err(other_kind(key)),
        }
    }

    /// Asks the client's model.
    ///
    /// # Errors
    /// As [`Exchange::ask`].
    pub async fn sample(&self, key: &str, question: CreateMessage) -> Result<CreateMessageResult, Interrupted> {
        match self.ask(key, Ask::Sample(question)).await? {
            Answer::Sampled(result) => Ok(result),
            Answer::Elicited(_) | Answer::Roots(_) => Err(other_kind(key)),
        }
    }

    /// Asks the client for its roots.
    ///
    /// # Errors
    /// As [`Exchange::ask`].
    pub async fn roots(&self, key: &str) -> Result<Vec<Root>, Interrupted> {
        match self.ask(key, Ask::ListRoots).await? {
            Answer::Roots(roots) => Ok(roots),
            Answer::Elicited(_) | Answer::Sampled(_) => Err(other_kind(key)),
        }
    }

    /// Bounds, and what the client declared: nothing else may be asked (`basic/patterns/mrtr` §Server Requirements, 7).
    fn may_ask(&self, asks: &[(String, Ask)]) -> Result<(), Interrupted> {
        if asks.len() > MAX_ASKS {
            return Err(Fault::Failed(format!("more than {MAX_ASKS} questions at one time")).into());
        }
        let mut needed = 0;
        for (at, (key, ask)) in asks.iter().enumerate() {
            if asks[..at].iter().any(|(other, _)| other == key) {
                return Err(Fault::Failed(format!("two questions have the key {key:?}")).into());
            }
            needed |= ask.capability().0;
        }
        self.require(ClientCapabilities(needed))
    }

    /// An answer that answers something else. What a modern client sent along is a parameter of its request.
    fn unusable(&self, key: &str, why: &str) -> Fault {
        match self.asking {
            Asking::Replay(_) => Fault::InvalidParams(format!("params.inputResponses[{key:?}] is no answer: {why}")),
            Asking::No | Asking::Live(..) | Asking::Other(_) => {
                Fault::Failed(format!("the client's answer to {key:?} cannot be used: {why}"))
            }
        }
    }
}

/// An asker gave the answer of another question: [`Ask::read`] never does.
fn other_kind(key: &str) -> Interrupted {
    Fault::Failed(format!("the answer to {key:?} is of another kind")).into()
}

/// The beginning of a text, whole characters of it.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
