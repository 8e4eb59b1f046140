//! What shards say to each other, as bytes: length-prefixed frames over one connection for each pair. Pure.
//!
//! ```text
//! length 4 | kind 1 | …          integers are big-endian; a text or a list begins with its length
//! ```
//! A shard may be one version older or newer than its peer: an unknown kind of frame is skipped, an unknown question is
//! answered with [`Answer::Unknown`], and bytes behind the last known field of a frame are ignored.

use std::sync::Arc;

use crate::exchange::resume::Batch;
use crate::limits::MAX_SUBSCRIPTIONS;
use crate::mcp::logging::LoggingLevel;
use crate::mcp::subscriptions::Event;
use crate::session::{Change, Incarnation, PAGE_BYTES, Page, Record, SessionKey, Uris};

/// Bytes of one frame without its length: the largest answer that is passed on, and far more than the rest needs.
pub const MAX_FRAME: usize = 8 << 20;
/// Records of sessions in one frame.
pub const RECORDS_PER_FRAME: usize = 64;
/// Subscriptions of one record.
const MAX_URIS: usize = MAX_SUBSCRIPTIONS;
/// Pages of revocations in one frame.
pub const PAGES_PER_FRAME: usize = 256;
/// Bytes of a frame beside the one text that may be as long as it.
const HEADROOM: usize = 256;
/// Bytes of a name, a key's id, a resource's URI.
const MAX_TEXT: usize = 64 << 10;
/// Key ids in a greeting: two are in use during a rotation.
const MAX_KEY_IDS: usize = 16;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// First of all, from who dialed.
    Hello(Hello),
    /// Its answer, with the proof that this side holds the key.
    Welcome(Welcome),
    /// The proof of who dialed. All other frames come after it.
    Proof([u8; 32]),
    /// Nothing to say, and alive.
    Beat,
    /// Sessions that were ended, when a connection begins; after the last page of them `complete` is set.
    Revoked {
        /// Those that follow are none of this greeting.
        complete: bool,
        /// Which.
        pages: Vec<Page>,
    },
    /// What is kept of sessions, when a connection begins.
    Records(Vec<(SessionKey, Record)>),
    /// A client cancels a request that does not run where it said so.
    Cancel {
        /// Whose.
        session: SessionKey,
        /// The request's id: JSON.
        id: String,
    },
    /// The newest stream of a session, as far as is known here, is held here; without a time, none is any more.
    Stream {
        /// Whose.
        session: SessionKey,
        /// When it began, microseconds since the epoch.
        opened: Option<u64>,
    },
    /// Hash of the configuration that is served here: when a connection begins, and when another comes into force.
    Serves(String),
    /// When a connection begins: the newest event of the other side that was heard here; none when there was none.
    Heard(Option<u64>),
    /// Something happened on the other side.
    Event {
        /// Counts from one in each incarnation.
        number: u64,
        /// What.
        event: Event,
    },
    /// A question; its answer carries the same number.
    Ask {
        /// Of this connection and direction.
        number: u64,
        /// What is asked.
        ask: Ask,
    },
    /// An answer.
    Answer {
        /// Of the question.
        number: u64,
        /// What is answered.
        answer: Answer,
    },
    /// Of a newer version.
    Unknown,
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Never used twice.
    pub nonce: [u8; 32],
    /// Its boot nonce.
    pub incarnation: Incarnation,
    /// Its pod.
    pub name: String,
    /// Ids of the control keys it holds.
    pub keys: Vec<String>,
}

/// Who was dialed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Never used twice.
    pub nonce: [u8; 32],
    /// Its boot nonce.
    pub incarnation: Incarnation,
    /// Its pod.
    pub name: String,
    /// The key both hold, with which both prove themselves.
    pub key: String,
    /// The proof.
    pub proof: [u8; 32],
}

/// What a shard asks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Serve this session no more.
    Revoke {
        /// Which.
        session: SessionKey,
        /// When it would have ended by itself, seconds since the epoch.
        expires: u64,
    },
    /// Change what is kept of a session, and have all others keep it.
    Change {
        /// Whose.
        session: SessionKey,
        /// When the session ends by itself, seconds since the epoch.
        expires: u64,
        /// What.
        change: Change,
    },
    /// Keep this of a session, unless something newer is kept.
    Keep {
        /// Whose.
        session: SessionKey,
        /// What.
        record: Record,
    },
    /// A client's response to a question of yours was posted here.
    Respond {
        /// Whose.
        session: SessionKey,
        /// Which question.
        slot: u64,
        /// It is the `error`, not the `result`.
        failed: bool,
        /// JSON.
        outcome: String,
    },
    /// A client's request about a task of yours came here: JSON, which tasks read.
    Task(String),
    /// A client resumes here a stream of yours.
    Resume {
        /// Whose.
        session: SessionKey,
        /// Which stream.
        slot: u64,
        /// The newest event the client has.
        after: u64,
        /// As whom it goes on; 0 when it begins to.
        reader: u64,
        /// How long the answer may wait for an event, milliseconds.
        wait_ms: u64,
    },
    /// Of a newer version.
    Unknown,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// A limit is in the way.
    Full,
    /// What tasks say: JSON, which they read.
    Task(String),
    /// Events of a stream that is resumed.
    Events(Batch),
    /// What was asked is not known here.
    Unknown,
}

/// Bytes that are no frame: the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent what is no frame: {0}")]
pub struct Malformed(&'static str);

impl Malformed {
    /// With these words.
    pub fn new(what: &'static str) -> Self {
        Self(what)
    }
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const PROOF: u8 = 3;
const BEAT: u8 = 4;
const REVOKED: u8 = 5;
const HEARD: u8 = 6;
const EVENT: u8 = 7;
const ASK: u8 = 8;
const ANSWER: u8 = 9;
const RECORDS: u8 = 10;
const CANCEL: u8 = 11;
const STREAM: u8 = 12;
const SERVES: u8 = 13;

const ASK_REVOKE: u8 = 1;
const ASK_CHANGE: u8 = 2;
const ASK_KEEP: u8 = 3;
const ASK_RESPOND: u8 = 4;
const ASK_TASK: u8 = 5;
const ASK_RESUME: u8 = 6;

const CHANGE_LEVEL: u8 = 1;
const CHANGE_SUBSCRIBE: u8 = 2;
const CHANGE_UNSUBSCRIBE: u8 = 3;

const ANSWER_DONE: u8 = 1;
const ANSWER_FULL: u8 = 2;
const ANSWER_UNKNOWN: u8 = 3;
const ANSWER_TASK: u8 = 4;
const ANSWER_EVENTS: u8 = 5;

const TOOLS_CHANGED: u8 = 1;
const PROMPTS_CHANGED: u8 = 2;
const RESOURCES_CHANGED: u8 = 3;
const RESOURCE_UPDATED: u8 = 4;
const TASK_CHANGED: u8 = 5;

/// Whether a frame is complete at the front of `bytes`: its bytes without the length, and where the next begins.
///
/// # Errors
/// When it is longer than any frame.
pub fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(Malformed("a length out of bounds"));
    }
    Ok(bytes.get(4..4 + length).map(|frame| (frame, 4 + length)))
}

/// Whether an event fits a frame: its texts do.
pub fn fits(event: &Event) -> bool {
    match event {
        Event::ToolsChanged | Event::PromptsChanged | Event::ResourcesChanged => true,
        Event::ResourceUpdated(uri) => uri.len() <= MAX_TEXT,
        Event::TaskChanged { id, task } => id.len() <= MAX_TEXT && task.len() <= MAX_TEXT,
    }
}

impl Ask {
    /// Whether what a client sent for it fits a frame.
    pub fn fits(&self) -> bool {
        match self {
            Self::Respond { outcome, .. } => outcome.len() <= MAX_FRAME - HEADROOM,
            Self::Task(request) => request.len() <= MAX_FRAME - HEADROOM,
            Self::Revoke { .. } | Self::Change { .. } | Self::Keep { .. } | Self::Resume { .. } | Self::Unknown => true,
        }
    }
}

impl Frame {
    /// Whether what a client sent for it fits.
    pub fn fits(&self) -> bool {
        match self {
            Self::Cancel { id, .. } => id.len() <= MAX_TEXT,
            _ => true,
        }
    }

    /// Appends it, with its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Self::Hello(hello) => {
                out.push(HELLO);
                out.extend_from_slice(&hello.nonce);
                out.extend_from_slice(&hello.incarnation);
                text(out, &hello.name);
                count(out, hello.keys.len());
                hello.keys.iter().for_each(|key| text(out, key));
            }
            Self::Welcome(welcome) => {
                out.push(WELCOME);
                out.extend_from_slice(&welcome.nonce);
                out.extend_from_slice(&welcome.incarnation);
                text(out, &welcome.name);
                text(out, &welcome.key);
                out.extend_from_slice(&welcome.proof);
            }
            Self::Proof(proof) => {
                out.push(PROOF);
                out.extend_from_slice(proof);
            }
            Self::Beat | Self::Unknown => out.push(BEAT),
            Self::Revoked { complete, pages } => {
                out.extend_from_slice(&[REVOKED, u8::from(*complete)]);
                count(out, pages.len());
                for page in pages {
                    out.extend_from_slice(&page.incarnation);
                    out.extend_from_slice(&page.index.to_be_bytes());
                    out.extend_from_slice(&page.expires.to_be_bytes());
                    out.extend_from_slice(page.bits.as_slice());
                }
            }
            Self::Records(records) => {
                out.push(RECORDS);
                count(out, records.len());
                for (session, record) in records {
                    key(out, session);
                    encode_record(out, record);
                }
            }
            Self::Cancel { session, id } => {
                out.push(CANCEL);
                key(out, session);
                text(out, id);
            }
            Self::Stream { session, opened } => {
                out.push(STREAM);
                key(out, session);
                out.push(u8::from(opened.is_some()));
                out.extend_from_slice(&opened.unwrap_or(0).to_be_bytes());
            }
            Self::Serves(hash) => {
                out.push(SERVES);
                text(out, hash);
            }
            Self::Heard(number) => {
                out.extend_from_slice(&[HEARD, u8::from(number.is_some())]);
                out.extend_from_slice(&number.unwrap_or(0).to_be_bytes());
            }
            Self::Event { number, event } => {
                out.push(EVENT);
                out.extend_from_slice(&number.to_be_bytes());
                encode_event(out, event);
            }
            Self::Ask { number, ask } => {
                out.push(ASK);
                out.extend_from_slice(&number.to_be_bytes());
                encode_ask(out, ask);
            }
            Self::Answer { number, answer } => {
                out.push(ANSWER);
                out.extend_from_slice(&number.to_be_bytes());
                match answer {
                    Answer::Done => out.push(ANSWER_DONE),
                    Answer::Full => out.push(ANSWER_FULL),
                    Answer::Task(said) => {
                        out.push(ANSWER_TASK);
                        text(out, said);
                    }
                    Answer::Events(Batch { reader, after, ended, events }) => {
                        out.push(ANSWER_EVENTS);
                        out.extend_from_slice(&reader.to_be_bytes());
                        out.extend_from_slice(&after.to_be_bytes());
                        out.push(u8::from(*ended));
                        text(out, events);
                    }
                    Answer::Unknown => out.push(ANSWER_UNKNOWN),
                }
            }
        }
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Reads one, without its length.
    ///
    /// # Errors
    /// When it is not what its kind promises.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Rest(bytes);
        Ok(match rest.byte()? {
            HELLO => {
                let (nonce, incarnation, name) = (rest.array()?, rest.array()?, rest.text()?);
                let keys = (0..rest.count(MAX_KEY_IDS)?).map(|_| rest.text()).collect::<Result<_, _>>()?;
                Self::Hello(Hello { nonce, incarnation, name, keys })
            }
            WELCOME => Self::Welcome(Welcome {
                nonce: rest.array()?,
                incarnation: rest.array()?,
                name: rest.text()?,
                key: rest.text()?,
                proof: rest.array()?,
            }),
            PROOF => Self::Proof(rest.array()?),
            BEAT => Self::Beat,
            REVOKED => {
                let complete = rest.byte()? != 0;
                let pages = (0..rest.count(PAGES_PER_FRAME)?).map(|_| rest.page()).collect::<Result<_, _>>()?;
                Self::Revoked { complete, pages }
            }
            RECORDS => {
                let records = (0..rest.count(RECORDS_PER_FRAME)?).map(|_| Ok((rest.session()?, rest.record()?)));
                Self::Records(records.collect::<Result<_, _>>()?)
            }
            CANCEL => Self::Cancel { session: rest.session()?, id: rest.text()? },
            STREAM => {
                let (session, any, opened) = (rest.session()?, rest.byte()? != 0, rest.u64()?);
                Self::Stream { session, opened: any.then_some(opened) }
            }
            SERVES => Self::Serves(rest.text()?),
            HEARD => {
                let any = rest.byte()? != 0;
                let number = rest.u64()?;
                Self::Heard(any.then_some(number))
            }
            EVENT => {
                let number = rest.u64()?;
                rest.event()?.map_or(Self::Unknown, |event| Self::Event { number, event })
            }
            ASK => Self::Ask { number: rest.u64()?, ask: rest.ask()? },
            ANSWER => Self::Answer {
                number: rest.u64()?,
                answer: match rest.byte()? {
                    ANSWER_DONE => Answer::Done,
                    ANSWER_FULL => Answer::Full,
                    ANSWER_TASK => Answer::Task(rest.long_text(MAX_FRAME)?),
                    ANSWER_EVENTS => {
                        let (reader, after, ended) = (rest.u64()?, rest.u64()?, rest.byte()? != 0);
                        Answer::Events(Batch { reader, after, ended, events: rest.long_text(MAX_FRAME)? })
                    }
                    _ => Answer::Unknown,
                },
            },
            _ => Self::Unknown,
        })
    }
}

fn encode_event(out: &mut Vec<u8>, event: &Event) {
    match event {
        Event::ToolsChanged => out.push(TOOLS_CHANGED),
        Event::PromptsChanged => out.push(PROMPTS_CHANGED),
        Event::ResourcesChanged => out.push(RESOURCES_CHANGED),
        Event::ResourceUpdated(uri) => {
            out.push(RESOURCE_UPDATED);
            text(out, uri);
        }
        Event::TaskChanged { id, task } => {
            out.push(TASK_CHANGED);
            text(out, id);
            text(out, task);
        }
    }
}

fn encode_ask(out: &mut Vec<u8>, ask: &Ask) {
    match ask {
        Ask::Revoke { session, expires } => {
            out.push(ASK_REVOKE);
            key(out, session);
            out.extend_from_slice(&expires.to_be_bytes());
        }
        Ask::Change { session, expires, change } => {
            out.push(ASK_CHANGE);
            key(out, session);
            out.extend_from_slice(&expires.to_be_bytes());
            encode_change(out, change);
        }
        Ask::Keep { session, record } => {
            out.push(ASK_KEEP);
            key(out, session);
            encode_record(out, record);
        }
        Ask::Respond { session, slot, failed, outcome } => {
            out.push(ASK_RESPOND);
            key(out, session);
            out.extend_from_slice(&slot.to_be_bytes());
            out.push(u8::from(*failed));
            text(out, outcome);
        }
        Ask::Task(request) => {
            out.push(ASK_TASK);
            text(out, request);
        }
        Ask::Resume { session, slot, after, reader, wait_ms } => {
            out.push(ASK_RESUME);
            key(out, session);
            for number in [slot, after, reader, wait_ms] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        Ask::Unknown => out.push(0),
    }
}

fn encode_record(out: &mut Vec<u8>, record: &Record) {
    out.extend_from_slice(&record.version.to_be_bytes());
    out.extend_from_slice(&record.expires.to_be_bytes());
    out.push(LoggingLevel::code(record.level));
    count(out, record.uris.len());
    record.uris.iter().for_each(|uri| text(out, uri));
}

fn encode_change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Level(level) => out.extend_from_slice(&[CHANGE_LEVEL, LoggingLevel::code(Some(*level))]),
        Change::Subscribe(uri) => {
            out.push(CHANGE_SUBSCRIBE);
            text(out, uri);
        }
        Change::Unsubscribe(uri) => {
            out.push(CHANGE_UNSUBSCRIBE);
            text(out, uri);
        }
    }
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn key(out: &mut Vec<u8>, session: &SessionKey) {
    out.extend_from_slice(&session.incarnation);
    out.extend_from_slice(&session.number.to_be_bytes());
}

/// What of a frame is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed("it ends early"))
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn count(&mut self, most: usize) -> Result<usize, Malformed> {
        let count = u32::from_be_bytes(self.array()?) as usize;
        if count > most { Err(Malformed("a count out of bounds")) } else { Ok(count) }
    }

    fn text(&mut self) -> Result<String, Malformed> {
        self.long_text(MAX_TEXT)
    }

    fn long_text(&mut self, most: usize) -> Result<String, Malformed> {
        let length = self.count(most)?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| Malformed("a text that is not UTF-8"))
    }

    fn session(&mut self) -> Result<SessionKey, Malformed> {
        Ok(SessionKey { incarnation: self.array()?, number: self.u64()? })
    }

    fn record(&mut self) -> Result<Record, Malformed> {
        let (version, expires, level) = (self.u64()?, self.u64()?, self.level()?);
        let uris = (0..self.count(MAX_URIS)?).map(|_| self.text()).collect::<Result<Vec<_>, _>>()?;
        let uris = Uris::of(uris.iter().map(String::as_str)).map_err(|_| Malformed("a record out of bounds"))?;
        Ok(Record { version, expires, level, uris })
    }

    fn level(&mut self) -> Result<Option<LoggingLevel>, Malformed> {
        Ok(LoggingLevel::from_code(self.byte()?))
    }

    fn change(&mut self) -> Result<Option<Change>, Malformed> {
        Ok(match self.byte()? {
            CHANGE_LEVEL => self.level()?.map(Change::Level),
            CHANGE_SUBSCRIBE => Some(Change::Subscribe(self.text()?.into())),
            CHANGE_UNSUBSCRIBE => Some(Change::Unsubscribe(self.text()?.into())),
            _ => None,
        })
    }

    fn page(&mut self) -> Result<Page, Malformed> {
        let (incarnation, index, expires) = (self.array()?, self.u64()?, self.u64()?);
        Ok(Page { incarnation, index, expires, bits: Box::new(self.array::<PAGE_BYTES>()?) })
    }

    fn event(&mut self) -> Result<Option<Event>, Malformed> {
        Ok(match self.byte()? {
            TOOLS_CHANGED => Some(Event::ToolsChanged),
            PROMPTS_CHANGED => Some(Event::PromptsChanged),
            RESOURCES_CHANGED => Some(Event::ResourcesChanged),
            RESOURCE_UPDATED => Some(Event::ResourceUpdated(Arc::from(self.text()?))),
            TASK_CHANGED => Some(Event::TaskChanged { id: Arc::from(self.text()?), task: Arc::from(self.text()?) }),
            _ => None,
        })
    }

    fn ask(&mut self) -> Result<Ask, Malformed> {
        Ok(match self.byte()? {
            ASK_REVOKE => Ask::Revoke { session: self.session()?, expires: self.u64()? },
            ASK_CHANGE => {
                let (session, expires) = (self.session()?, self.u64()?);
                self.change()?.map_or(Ask::Unknown, |change| Ask::Change { session, expires, change })
            }
            ASK_TASK => Ask::Task(self.long_text(MAX_FRAME)?),
            ASK_RESUME => {
                let (session, slot, after) = (self.session()?, self.u64()?, self.u64()?);
                Ask::Resume { session, slot, after, reader: self.u64()?, wait_ms: self.u64()? }
            }
            ASK_KEEP => Ask::Keep { session: self.session()?, record: self.record()? },
            ASK_RESPOND => {
                let (session, slot, failed) = (self.session()?, self.u64()?, self.byte()? != 0);
                Ask::Respond { session, slot, failed, outcome: self.long_text(MAX_FRAME)? }
            }
            _ => Ask::Unknown,
        })
    }
}

#[cfg(test)]
mod tests;
