//! What passes over one cluster remember. A new process starts without it and loses nothing but time: everything that must
//! not be forgotten is on the pods, in the published objects or in status.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mcp_crds::McpClusterStatus;
use mcp_crds::catalog::{Compiled, ConfigMapData};
use mcp_crds::control::KeyRing;
use mcp_crds::load::{LoadReport, Member};

use crate::apply::Contests;
use crate::budget::Place;
use crate::flip::Flip;
use crate::keys::{self, Record, Told};
use crate::placement::Flips;
use crate::scale::History;
use crate::stages::{Applied, CatalogOutcome, Failure, Received, elapsed};

/// A name that turned out to be taken is tried again after this long.
const TAKEN_FOR: Duration = Duration::from_mins(1);
/// Before a refused write is tried again; doubled each time…
const FIRST_BACKOFF: Duration = Duration::from_secs(2);
/// …up to this: whatever refused it (a quota, a name, a policy) may go without anything telling us, and then nobody waits
/// longer than that.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Of all clusters of one scope, by uid. Each lies by itself: a map has room for up to twice as many as there are.
#[derive(Debug, Default)]
pub struct Memories(Mutex<HashMap<String, Box<Memory>>>);

/// Of one cluster.
#[derive(Debug)]
pub struct Memory {
    /// When this process began to ask for reports.
    pub watching_since: Timestamp,
    /// Of the autoscaler.
    pub history: Option<History>,
    /// When placement was changed.
    pub flips: Flips,
    /// The keys, and when they were last read.
    pub keys: Option<(Arc<KeyRing>, Timestamp)>,
    /// The rotation of the keys.
    pub rotation: KeysMemory,
    /// The last report of each pod, by uid.
    pub reports: HashMap<String, Received>,
    /// Whether the node of an evicted pod is being emptied, by uid.
    pub leaving: HashMap<String, bool>,
    /// What became of the catalog.
    pub catalog: CatalogMemory,
    /// The flip to the published configuration, and the hash it is about.
    pub flip: (String, Flip),
    /// The shards of the mesh.
    pub members: Members,
    /// The status written last, and when.
    pub status: Option<(McpClusterStatus, Timestamp)>,
    /// The place of its status among those of all clusters that wait to be written.
    pub status_waits: Option<Place>,
    /// Objects that others changed.
    pub contests: Arc<Contests>,
    /// Writes that were refused, by object.
    pub refused: BTreeMap<String, Refused>,
    /// Indexes whose name somebody else's pod has, and until when that is believed.
    pub taken: BTreeMap<u32, Timestamp>,
    /// Passes that failed one after another.
    pub failed_passes: u32,
}

/// The rotation of the keys.
#[derive(Clone, Debug, Default)]
pub struct KeysMemory {
    /// What the Secret says of it.
    pub record: Record,
    /// The Secret as it was read last: its uid and version.
    pub read: ObjectMeta,
    /// What was told since the last step, by reason, and when.
    pub told: BTreeMap<&'static str, (String, Timestamp)>,
}

/// What became of the catalog.
#[derive(Clone, Debug, Default)]
pub struct CatalogMemory {
    /// The generation and image it was compiled for.
    pub compiled_for: Option<(i64, String)>,
    /// Whether a ConfigMap it refers to changed since.
    pub stale: bool,
    /// The ConfigMaps it refers to, as far as they exist.
    pub config_maps: Arc<BTreeMap<String, ConfigMapData>>,
    /// Names of the ConfigMaps it refers to.
    pub refers: BTreeSet<String>,
    /// The last result of the compiler that was whole.
    pub compiled: Option<Arc<Compiled>>,
    /// The object that publishes it.
    pub object: Option<Arc<ConfigMap>>,
    /// For status.
    pub outcome: CatalogOutcome,
    /// When the Secrets were last read.
    pub secrets_read: Option<Timestamp>,
    /// Fingerprint of the copied credentials.
    pub credentials: Option<String>,
    /// Hash in the live ConfigMap: none before it was looked at, then none when there is no such object.
    pub published: Option<Option<String>>,
    /// Generation of the resource that published it.
    pub published_generation: Option<i64>,
    /// When this process published it; none when an earlier one did.
    pub published_since: Option<Timestamp>,
}

/// The shards of the mesh, and the epoch of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Grows with every change, also over restarts of this process: milliseconds since the Unix epoch, or one more.
    pub epoch: u64,
    /// By name.
    pub list: Vec<Member>,
}

/// A write that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// For status.
    pub failure: Failure,
    /// How often in a row.
    pub times: u32,
    /// Not to be tried before.
    pub due: Timestamp,
}

// === impl Memories ===

impl Memories {
    /// Looks at, or changes, what is remembered of a cluster.
    pub fn with<T>(&self, uid: &str, now: Timestamp, look: impl FnOnce(&mut Memory) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        look(all.entry(uid.to_owned()).or_insert_with(|| Box::new(Memory::new(now))))
    }

    /// Forgets a cluster.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

// === impl KeysMemory ===

impl KeysMemory {
    /// Whether a person has not been told this. Which shard a rotation waits for may change all the time: that is told now and
    /// then.
    pub fn is_news(&self, told: &Told, now: Timestamp) -> bool {
        self.told.get(told.reason).is_none_or(|(note, at)| {
            *note != told.note && (told.reason == keys::INVALID || elapsed(*at, now) >= keys::HELD_AFTER)
        })
    }

    /// Takes in what a person is told.
    pub fn tell(&mut self, told: &Told, now: Timestamp) {
        self.told.insert(told.reason, (told.note.clone(), now));
    }
}

// === impl Memory ===

impl Memory {
    fn new(now: Timestamp) -> Self {
        Self {
            watching_since: now,
            history: None,
            flips: Flips::default(),
            keys: None,
            rotation: KeysMemory::default(),
            reports: HashMap::new(),
            leaving: HashMap::new(),
            catalog: CatalogMemory::default(),
            flip: (String::new(), Flip::default()),
            members: Members::default(),
            status: None,
            status_waits: None,
            contests: Arc::default(),
            refused: BTreeMap::new(),
            taken: BTreeMap::new(),
            failed_passes: 0,
        }
    }

    /// Takes in a report; one that a later one of the same process overtook is dropped.
    pub fn hear(&mut self, pod: &str, mut received: Received) {
        let Some(known) = self.reports.get_mut(pod) else {
            self.reports.insert(pod.to_owned(), received);
            return;
        };
        let overtaken = known.report.incarnation == received.report.incarnation && known.report.seq > received.report.seq;
        if !overtaken {
            keep_texts(&mut received.report, &mut known.report);
            *known = received;
        }
    }

    /// Indexes whose name is believed to be taken.
    pub fn taken(&mut self, now: Timestamp) -> BTreeSet<u32> {
        self.taken.retain(|_, until| *until > now);
        self.taken.keys().copied().collect()
    }

    /// Takes in that somebody else's pod has the name of this index.
    pub fn take(&mut self, index: u32, now: Timestamp) {
        self.taken.insert(index, now.saturating_add(TAKEN_FOR).unwrap_or(now));
    }

    /// Whether a write is to be tried now.
    pub fn is_due(&self, object: &str, now: Timestamp) -> bool {
        self.refused.get(object).is_none_or(|refused| refused.due <= now)
    }

    /// Takes in that a write succeeded.
    pub fn accept(&mut self, object: &str) {
        self.refused.remove(object);
    }

    /// Takes in that a write was refused; returns whether that is news. `jitter` is from 0 to 1.
    pub fn refuse(&mut self, failure: Failure, now: Timestamp, jitter: f64) -> bool {
        let before = self.refused.get(&failure.object);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let news = before.is_none_or(|before| before.failure != failure);
        let due = now.saturating_add(backoff(times, jitter)).unwrap_or(now);
        self.refused.insert(failure.object.clone(), Refused { failure, times, due });
        news
    }

    /// What passes did so far, for the status.
    pub fn applied(&self, published: Option<String>) -> Applied {
        Applied {
            published,
            published_generation: self.catalog.published_generation,
            published_since: self.catalog.published_since,
            failures: self.refused.values().map(|refused| refused.failure.clone()).collect(),
        }
    }

    /// Keeps the list of the mesh; its epoch grows when it changed.
    pub fn assemble(&mut self, list: Vec<Member>, now: Timestamp) -> &Members {
        if self.members.epoch == 0 || self.members.list != list {
            let epoch = u64::try_from(now.as_millisecond()).unwrap_or(1).max(self.members.epoch + 1);
            self.members = Members { epoch, list };
        }
        &self.members
    }
}

/// How long to wait after this many failures: doubling, bounded, and never the same for two objects. `jitter` is from 0 to 1.
pub fn backoff(times: u32, jitter: f64) -> Duration {
    let whole = FIRST_BACKOFF.saturating_mul(1 << times.saturating_sub(1).min(10)).min(LONGEST_BACKOFF);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// Goes on with the texts that did not change. Thousands of new ones every few seconds, each among what a round needs for a moment,
/// would hold the memory of all of that.
fn keep_texts(new: &mut LoadReport, old: &mut LoadReport) {
    let LoadReport { incarnation, catalog_hash, catalog_staged, catalog_error, key_ids, sealing_key_id, version, .. } = old;
    let texts = [
        (&mut new.incarnation, incarnation),
        (&mut new.catalog_hash, catalog_hash),
        (&mut new.catalog_staged, catalog_staged),
        (&mut new.catalog_error, catalog_error),
        (&mut new.sealing_key_id, sealing_key_id),
        (&mut new.version, version),
    ];
    for (new, old) in texts.into_iter().filter(|(new, old)| new == old) {
        std::mem::swap(new, old);
    }
    if new.key_ids == *key_ids {
        std::mem::swap(&mut new.key_ids, key_ids);
    }
}

#[cfg(test)]
mod tests {
    use mcp_crds::load::LoadReport;

    use super::*;
    use crate::stages::FailureReason;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn report(incarnation: &str, seq: u64) -> Received {
        Received { report: LoadReport { incarnation: incarnation.into(), seq, ..LoadReport::default() }, at: at(0) }
    }

    #[test]
    fn a_report_that_was_overtaken_is_dropped_and_one_of_a_new_process_is_not() {
        let mut memory = Memory::new(at(0));
        memory.hear("u", report("a", 7));
        memory.hear("u", report("a", 6));
        assert_eq!(memory.reports["u"].report.seq, 7);
        memory.hear("u", report("b", 1));
        assert_eq!(memory.reports["u"].report.seq, 1);
    }

    #[test]
    fn texts_of_a_report_that_did_not_change_stay_where_they_are() {
        let mut memory = Memory::new(at(0));
        let with = |hash: &str, seq| {
            let mut received = report("a", seq);
            received.report.catalog_hash = hash.into();
            received.report.key_ids = vec!["k".into()];
            received
        };
        let kept = |memory: &Memory| {
            let report = &memory.reports["u"].report;
            (report.seq, report.catalog_hash.clone(), report.incarnation.as_ptr(), report.key_ids.as_ptr())
        };
        memory.hear("u", with("one", 1));
        let (_, _, incarnation, key_ids) = kept(&memory);
        memory.hear("u", with("two", 2));
        assert_eq!(kept(&memory), (2, "two".into(), incarnation, key_ids));
    }

    #[test]
    fn a_refused_write_waits_longer_each_time_and_is_news_once() {
        let failure = Failure { reason: FailureReason::QuotaExceeded, object: "Pod a-0".into(), message: "no".into() };
        let mut memory = Memory::new(at(0));
        assert!(memory.refuse(failure.clone(), at(0), 1.0));
        assert!(!memory.is_due("Pod a-0", at(1)) && memory.is_due("Pod a-0", at(2)));
        assert!(!memory.refuse(failure.clone(), at(2), 1.0));
        assert!(!memory.is_due("Pod a-0", at(5)) && memory.is_due("Pod a-0", at(6)));
        memory.accept("Pod a-0");
        assert!(memory.is_due("Pod a-0", at(6)));
        assert_eq!(backoff(1000, 1.0), LONGEST_BACKOFF);
        assert_eq!(backoff(1, 0.0), FIRST_BACKOFF / 2);
    }

    #[test]
    fn the_epoch_grows_with_every_change_and_only_then() {
        let member = |name: &str| Member { name: name.into(), address: "10.0.0.1".into() };
        let mut memory = Memory::new(at(0));
        let first = memory.assemble(vec![member("a-0")], at(0)).epoch;
        assert_eq!(memory.assemble(vec![member("a-0")], at(5)).epoch, first);
        // Also when the clock moved back.
        assert!(memory.assemble(vec![member("a-1")], at(-100)).epoch > first);
    }
}
