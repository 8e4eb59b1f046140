//! Limits in force, from the configuration and from what the process may open, and the constants that have no setting.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mcp_crds::shard;

/// Descriptors kept back from connections: listeners, epoll, backend connections, log, configuration files, the spare.
pub const RESERVED_DESCRIPTORS: u64 = 256;
/// Connections over the cap that are accepted at one time, to be told 503 instead of being refused.
pub const REFUSAL_LANE: usize = 64;
/// How long such a connection may take.
pub const REFUSAL_TIME: Duration = Duration::from_secs(5);
/// What is taken of the body of a refused request, and for how long, so that its client reads the refusal.
pub const DISCARDED_BYTES: usize = 256 << 10;
/// See [`DISCARDED_BYTES`].
pub const DISCARD_TIME: Duration = Duration::from_secs(1);
/// Part of the memory limit that each may take: bodies in flight, answers that clients have not taken, answers of REST APIs,
/// events kept for clients that come back, records of tasks of other shards; and half as much each: results of tasks. Together
/// they leave a shard five sixteenths of it.
const BUDGET_DIVISOR: u64 = 8;
/// Bytes of bodies in flight, and of answers, where there is no memory limit.
const BUDGET_UNLIMITED: u64 = 256 << 20;
/// An answer its client has not taken by then is ended when there is no room for others.
pub const SLOW_READER: Duration = Duration::from_secs(10);
/// Bytes of answers of REST APIs held at one time, all backends together, however large the shard is.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
/// `Retry-After` is drawn from this span: long enough to spread a stampede, short enough that a new shard is found soon.
const RETRY_AFTER_MS: std::ops::Range<u64> = 1_000..6_000;
/// What is added to the `Retry-After` of a client that makes too many requests a second, drawn from this span.
pub const RATE_SPREAD_MS: std::ops::Range<u64> = 0..2_000;
/// Streams of one HTTP/2 connection at one time.
pub const HTTP2_STREAMS: u32 = 256;
/// What one principal may take of the streams and of the requests in flight of a shard, as a fraction: three quarters, so that
/// one caller in a loop leaves room for the others, and a gateway that is nearly the only caller is hardly held back.
pub const PRINCIPAL_SHARE: (u64, u64) = (3, 4);
/// Requests a second of one principal, whatever sessions and connections it uses: a third of what a shard of one CPU answers.
pub const PRINCIPAL_REQUESTS_PER_SECOND: u32 = 10_000;
/// Bytes of the notification filter of one stream.
pub const MAX_FILTER_BYTES: usize = 16 << 10;
/// What hyper holds for a connection, bytes: read and write buffers, the state of HTTP, the task. Measured; streams inside it are
/// the first to be shed.
pub const INSIDE_HYPER: usize = 19 << 10;
/// What an open connection takes besides, in the kernel and here, bytes; measured.
pub const OPEN_CONNECTION: usize = 3 << 10;
/// How long a connection waits for room inside hyper: then it goes in all the same, to be told that there is none. They wait one
/// after another, so it is told soon, and no more than ten of these are inside at one time.
pub const ENTERS_WITHIN: Duration = Duration::from_millis(5);

/// What a stream takes until the guard looks again, bytes: its request and its place, and its filter several times, since that is
/// decoded, kept, indexed and acknowledged.
pub fn stream_bytes(filter: usize) -> u64 {
    (4 << 10) + 4 * filter as u64
}

/// Resources one legacy session may be subscribed to, and sessions that may have any.
pub const MAX_SUBSCRIPTIONS: usize = 256;
/// Questions to clients of legacy sessions that wait for an answer.
pub const MAX_WAITING_ASKS: usize = 4096;
/// Legacy sessions of a cluster of which something mutable is kept: every shard keeps all of it.
pub const MAX_MUTABLE_SESSIONS: usize = 16_384;
/// Legacy requests whose client went away and that run on to their end.
pub const MAX_ORPHANS: u64 = 256;
/// Bytes of events kept of one stream for a client that comes back, and of all streams of a shard, however large it is.
pub const MAX_REPLAY: usize = 1 << 20;
/// See [`MAX_REPLAY`].
const MAX_REPLAY_BYTES: u64 = 32 << 20;
/// How long the response of a legacy request waits for its client to come back: longer than a client waits between its tries.
pub const RESULT_KEPT: Duration = Duration::from_mins(1);
/// Streams of other shards that are handed on to clients that resume them here.
pub const MAX_FORWARDED_RESUMES: usize = 256;
/// How long a client is told to wait before it comes back to a stream, drawn from this span.
pub const RETRY_MS: std::ops::Range<u64> = 500..1_500;
/// A held stream that has not taken its backlog for this many keep-alive periods is ended.
pub const STALLED_PERIODS: u8 = 4;
/// Tasks kept on a shard, running or not: each may hold a handler.
pub const MAX_TASKS: usize = 1024;
/// Bytes of the result of a task, or of what it asks.
pub const MAX_TASK_RESULT: usize = 256 << 10;
/// Bytes of all of them, however large the shard is.
const MAX_TASK_BYTES: u64 = 32 << 20;
/// Tasks of other shards whose second record a shard keeps: all of one other, and as many again for one that goes.
pub const MAX_TASK_COPIES: usize = 2 * MAX_TASKS;
/// Bytes of all of them, however large the shard is.
const MAX_TASK_COPY_BYTES: u64 = 2 * MAX_TASK_BYTES;
/// The longest a task is kept.
pub const MAX_TASK_TTL: Duration = Duration::from_hours(24);
/// Bytes of a task's state that go over streams; a client polls for a larger one.
pub const MAX_TASK_NOTIFICATION: usize = 32 << 10;

/// Limits of one shard, ready to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Accepted TCP connections: the smaller of the setting and what the file limit leaves.
    pub connections: u64,
    /// Held event streams.
    pub streams: u64,
    /// Requests being answered.
    pub in_flight: u64,
    /// Bytes of one body.
    pub body: u64,
    /// Bytes of all bodies in flight.
    pub body_budget: u64,
    /// Bytes of one request head.
    pub header: usize,
    /// Nesting of a JSON body.
    pub json_depth: u32,
    /// Bytes queued for one slow reader.
    pub backlog: usize,
    /// Time for one request.
    pub request_time: Duration,
    /// Time to receive a head and a body.
    pub read_time: Duration,
    /// Requests a second of one session, or of one connection that has none.
    pub requests_per_second: Option<u32>,
    /// How long a stream may be held.
    pub stream_age: Option<Duration>,
}

impl Limits {
    /// Limits of a configuration, under what the process may open and the memory it may take (0: no limit).
    pub fn of(limits: &shard::Limits, open_files: u64, memory_limit: u64) -> Self {
        Self {
            connections: u64::from(limits.max_connections).min(open_files.saturating_sub(RESERVED_DESCRIPTORS).max(1)),
            streams: u64::from(limits.max_streams),
            in_flight: u64::from(limits.max_in_flight_requests),
            body: limits.max_request_size,
            body_budget: share(memory_limit).max(limits.max_request_size),
            header: usize::try_from(limits.max_header_size).unwrap_or(usize::MAX),
            json_depth: limits.max_json_depth,
            backlog: usize::try_from(limits.max_stream_backlog).unwrap_or(usize::MAX),
            request_time: Duration::from_millis(limits.request_timeout_ms),
            read_time: Duration::from_millis(limits.read_timeout_ms),
            requests_per_second: limits.requests_per_second,
            stream_age: limits.max_stream_age_ms.map(Duration::from_millis),
        }
    }
}

/// Bytes that a shard of a size may hold at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Of answers that clients have not taken: past it new requests are refused, and those that are answered are answered.
    pub answers: u64,
    /// Of answers of REST APIs.
    pub backends: u64,
    /// Of events kept for clients that come back.
    pub replay: u64,
    /// Of results of tasks, and of what tasks ask.
    pub tasks: u64,
    /// Of records of tasks of other shards.
    pub task_copies: u64,
}

impl Budgets {
    /// Of a process that may take so many bytes (0: no limit).
    pub fn of(memory_limit: u64) -> Self {
        let share = share(memory_limit);
        Self {
            answers: share,
            backends: share.min(MAX_ANSWER_BYTES),
            replay: share.min(MAX_REPLAY_BYTES),
            tasks: (share / 2).min(MAX_TASK_BYTES),
            task_copies: share.min(MAX_TASK_COPY_BYTES),
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::of(0)
    }
}

fn share(memory_limit: u64) -> u64 {
    if memory_limit == 0 { BUDGET_UNLIMITED } else { memory_limit / BUDGET_DIVISOR }
}

#[cfg(test)]
impl Limits {
    /// Those of a shard nobody said anything about.
    pub(crate) fn test() -> Self {
        Self::of(&tests::setting(), 1_048_576, 0)
    }
}

/// A source of jitter: splitmix64. Not for secrets.
#[derive(Debug)]
pub struct Jitter(AtomicU64);

impl Jitter {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number in a range; its start when the range is empty.
    pub fn between(&self, range: std::ops::Range<u64>) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        range.start + z.checked_rem(range.end.saturating_sub(range.start)).unwrap_or(0)
    }

    /// How long a refused client is asked to wait, milliseconds.
    pub fn retry_after_ms(&self) -> u64 {
        self.between(RETRY_AFTER_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn setting() -> shard::Limits {
        shard::Limits {
            max_connections: 10_000,
            max_streams: 10_000,
            max_in_flight_requests: 1024,
            max_request_size: 4 << 20,
            max_header_size: 32 << 10,
            max_json_depth: 64,
            max_stream_backlog: 256 << 10,
            request_timeout_ms: 60_000,
            read_timeout_ms: 15_000,
            requests_per_second: None,
            max_stream_age_ms: None,
        }
    }

    #[test]
    fn the_file_limit_lowers_the_connections() {
        assert_eq!(Limits::of(&setting(), 1_048_576, 0).connections, 10_000);
        assert_eq!(Limits::of(&setting(), 1024, 0).connections, 1024 - RESERVED_DESCRIPTORS);
        assert_eq!(Limits::of(&setting(), 0, 0).connections, 1);
    }

    #[test]
    fn the_byte_budget_follows_the_memory_limit_and_fits_one_body() {
        assert_eq!(Limits::of(&setting(), 65_536, 512 << 20).body_budget, 64 << 20);
        assert_eq!(Limits::of(&setting(), 65_536, 8 << 20).body_budget, 4 << 20);
    }

    #[test]
    fn all_budgets_together_leave_a_shard_five_sixteenths_of_its_memory() {
        for limit in [64 << 20, 128 << 20, 512 << 20, 4 << 30] {
            let budgets = Budgets::of(limit);
            let bodies = Limits::of(&shard::Limits { max_request_size: 0, ..setting() }, 65_536, limit).body_budget;
            let Budgets { answers, backends, replay, tasks, task_copies } = budgets;
            assert!(answers + backends + replay + tasks + task_copies + bodies <= limit / 16 * 11, "{limit}: {budgets:?}");
            assert!(tasks >= 16 * MAX_TASK_RESULT as u64, "{limit}: {budgets:?}");
        }
        let large = Budgets {
            answers: 512 << 20,
            backends: 64 << 20,
            replay: 32 << 20,
            tasks: MAX_TASK_BYTES,
            task_copies: MAX_TASK_COPY_BYTES,
        };
        assert_eq!(Budgets::of(4 << 30), large);
    }

    #[test]
    fn retry_after_is_spread() {
        let jitter = Jitter::new(7);
        let drawn: std::collections::BTreeSet<u64> = (0..100).map(|_| jitter.retry_after_ms()).collect();
        assert!(drawn.len() > 90 && drawn.iter().all(|ms| RETRY_AFTER_MS.contains(ms)));
    }
}
