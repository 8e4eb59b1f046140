//! The load report: what a shard tells the operator, every few seconds.
//!
//! The operator asks with `POST /load` on the control port; the answer is a [`LoadReport`]. Both sides accept messages
//! one version older and newer: unknown fields are ignored, missing ones take their default.

use serde::{Deserialize, Serialize};

/// What the operator sends with each question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadRequest {
    /// Epoch of the membership list the operator holds.
    pub membership_epoch: u64,
    /// The live shards; present only when the shard's epoch is older.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<Member>>,
    /// The configuration hash this shard is to serve. A shard that has it staged flips to it; one that has not, goes on
    /// with what it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serve: Option<String>,
}

/// One shard of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Pod name.
    pub name: String,
    /// Pod address.
    pub address: String,
}

/// How far the memory guard of a shard has gone. Later stages include the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GuardStage {
    /// Below every threshold.
    #[default]
    Normal,
    /// New streams and sessions are refused (80 % of the limit).
    RefusingStreams,
    /// Idle buffers were dropped and the allocator purged (85 %).
    Purging,
    /// Streams are ended, largest first, and requests refused (90 %).
    Shedding,
}

/// A shard's answer. Counts are of this moment unless they end in `_total`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadReport {
    /// Boot nonce of the process: another value is another process.
    pub incarnation: String,
    /// Grows by one with every report of this incarnation.
    pub seq: u64,
    /// Accepted TCP connections on the data port.
    pub connections: u64,
    /// Held event streams.
    pub streams: u64,
    /// Requests being answered.
    pub in_flight: u64,
    /// Connections this shard can hold: the smaller of its limit and what its file limit allows.
    pub hard_cap: u64,
    /// Work refused with 503 since the start.
    pub rejected_total: u64,
    /// Mean of the `Retry-After` values handed out lately, milliseconds.
    pub retry_after_mean_ms: u64,
    /// Streams ended since the start because the memory guard or `POST /shed` asked for it.
    pub shed_total: u64,
    /// Memory in use that the kernel cannot reclaim, bytes (usage − inactive file pages).
    pub working_set_bytes: u64,
    /// The working set when this shard became ready, bytes.
    pub base_bytes: u64,
    /// The memory limit this shard runs under, bytes; 0 when it has none or it cannot be read.
    pub limit_bytes: u64,
    /// Kernel socket buffers, bytes, where the cgroup does not charge them (v1).
    pub socket_bytes: u64,
    /// OOM kills in this shard's cgroup since the start.
    pub oom_kill_total: u64,
    /// How far the memory guard has gone.
    pub stage: GuardStage,
    /// Whether this shard is draining.
    pub draining: bool,
    /// Hash of the configuration it serves.
    pub catalog_hash: String,
    /// Hash of the newest configuration it has loaded and could serve; empty when that failed.
    pub catalog_staged: String,
    /// Why the newest configuration could not be loaded; empty when it could.
    pub catalog_error: String,
    /// Ids of the session keys it accepts.
    pub key_ids: Vec<String>,
    /// Id of the session key it seals with.
    pub sealing_key_id: String,
    /// Epoch of the membership list it holds.
    pub membership_epoch: u64,
    /// Version of the server.
    pub version: String,
    /// Start of the process, seconds since the Unix epoch.
    pub started_at: u64,
}

impl LoadReport {
    /// The demand of this shard: behind a proxy 5,000 streams may be 20 TCP connections, so the larger of the two counts.
    pub fn load(&self) -> u64 {
        self.connections.max(self.streams.saturating_add(self.in_flight))
    }

    /// What this shard can hold of such load as it has.
    pub fn capacity(&self, max_streams: u64) -> u64 {
        capacity(self.hard_cap, max_streams, self.load(), self.streams)
    }
}

/// Load that fits where so many connections and streams do, if it goes on being what it is, `streams` of `load`: a shard whose
/// limit of streams is the lower one is full of streams before it is full of connections.
pub fn capacity(connections: u64, max_streams: u64, load: u64, streams: u64) -> u64 {
    if streams == 0 {
        return connections;
    }
    let by_streams = u128::from(max_streams) * u128::from(load) / u128::from(streams);
    connections.min(u64::try_from(by_streams).unwrap_or(u64::MAX))
}

/// Body of `POST /drain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainRequest {
    /// End the held streams over this window, milliseconds.
    pub window_ms: u64,
    /// Give up waiting for requests after this long, milliseconds.
    pub timeout_ms: u64,
    /// Undo an earlier drain: load came back before the shard was deleted.
    pub cancel: bool,
}

/// Body of `POST /shed`: end some streams of a shard that stays, those that own most bytes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShedRequest {
    /// Free about this many bytes; 0: the number of streams alone counts.
    pub bytes: u64,
    /// End at most this many streams. The shard ends no more than 5 % of those it holds, whatever is asked.
    pub streams: u64,
}

/// Answer to `POST /shed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShedAnswer {
    /// Streams that end now, each with its completion result.
    pub ended: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_behind_a_proxy_count_as_load() {
        let report = LoadReport { connections: 20, streams: 5_000, in_flight: 3, ..LoadReport::default() };
        assert_eq!(report.load(), 5_003);
    }

    #[test]
    fn the_limit_that_is_reached_first_is_the_capacity() {
        let report = |connections, streams| LoadReport { connections, streams, hard_cap: 4_000, ..LoadReport::default() };
        assert_eq!(report(0, 0).capacity(1_000), 4_000);
        assert_eq!(report(500, 0).capacity(1_000), 4_000, "no stream among them");
        assert_eq!(report(500, 500).capacity(1_000), 1_000);
        assert_eq!(report(500, 250).capacity(1_000), 2_000, "half of them are streams");
        assert_eq!(report(500, 100).capacity(1_000), 4_000);
        assert_eq!(report(20, 5_000).capacity(10_000), 4_000, "behind a proxy");
        assert_eq!(report(u64::MAX, 1).capacity(u64::MAX), 4_000);
    }

    #[test]
    fn a_newer_and_an_older_report_are_read() {
        let newer: LoadReport = serde_json::from_str(r#"{"incarnation":"a","seq":1,"added_later":{"x":1}}"#).unwrap();
        assert_eq!(newer.seq, 1);
        let older: LoadReport = serde_json::from_str("{}").unwrap();
        assert_eq!(older.stage, GuardStage::Normal);
    }
}
