//! The fake shards: what each would report. Pure: time and addresses are arguments.
//!
//! The connections of an McpCluster are spread evenly over its shards that are asked; one that is not asked any more has given
//! its share to the others.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use mcp_crds::control::{self, KeyRing, Refusal, Signed};
use mcp_crds::load::{LoadReport, LoadRequest};

/// Connections a shard is meant to hold: `targetPerReplica` of every McpCluster.
pub(crate) const TARGET: u64 = 100;
/// Above what the first shards hold of a load that has grown.
const HARD_CAP: u64 = 10_000;
const BASE: u64 = 40 << 20;
const LIMIT: u64 = 512 << 20;
const BYTES_PER_CONNECTION: u64 = 16 << 10;
/// A shard that was left out in so many rounds of its cluster is gone. Rounds, not seconds: while an operator takes over from
/// another nobody is asked, and nobody is gone.
const GONE_AFTER_ROUNDS: u64 = 4;

/// Connections that ask for exactly so many shards, and `factor` times as many for exactly that many times the shards.
pub(crate) fn at_rest(shards: u32, factor: u32) -> u64 {
    TARGET * u64::from(shards) - TARGET / (2 * u64::from(factor))
}

/// Namespace and name of an McpCluster.
pub(crate) type Name = (String, String);

/// All fake shards.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    clusters: HashMap<Name, Tenant>,
    /// Whose control key this is.
    by_key: HashMap<String, Name>,
    shards: HashMap<Ipv4Addr, Shard>,
}

/// One McpCluster.
#[derive(Debug, Default)]
struct Tenant {
    load: u64,
    ring: Option<KeyRing>,
    hash: Option<String>,
    rounds: u64,
    /// In which round each of its shards was asked last.
    asked: BTreeMap<Ipv4Addr, u64>,
}

/// One shard.
#[derive(Debug)]
struct Shard {
    of: Name,
    seq: u64,
    started: u64,
    epoch: u64,
    draining: bool,
}

/// A request to a shard, as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub address: Ipv4Addr,
    pub key: &'a str,
    pub mac: &'a str,
    pub signed: Signed<'a>,
}

/// Why a shard does not answer with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silent {
    /// It does not believe the request.
    Refused(Refusal),
    /// It has not seen its configuration yet.
    Starting,
    /// The body is no question.
    Malformed,
}

// === impl Fleet ===

impl Fleet {
    /// All connections of one McpCluster together, from now on.
    pub(crate) fn set_load(&mut self, name: &Name, load: u64) {
        self.clusters.entry(name.clone()).or_default().load = load;
    }

    /// The keys in the Secret that the operator made.
    pub(crate) fn learn_keys(&mut self, name: &Name, ring: KeyRing) {
        for key in &ring.control {
            self.by_key.insert(key.id.clone(), name.clone());
        }
        self.clusters.entry(name.clone()).or_default().ring = Some(ring);
    }

    /// The hash of the configuration that the operator published.
    pub(crate) fn learn_hash(&mut self, name: &Name, hash: String) {
        self.clusters.entry(name.clone()).or_default().hash = Some(hash);
    }

    /// What a shard reports to whom it believes. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn report(&mut self, asked: Asked<'_>, now: u64) -> Result<LoadReport, Silent> {
        let name = self.believe(asked, now)?;
        let question: LoadRequest = serde_json::from_slice(asked.signed.body).map_err(|_| Silent::Malformed)?;
        let shard = self.shard(asked.address, &name, now);
        shard.seq += 1;
        shard.epoch = question.membership_epoch;
        let (seq, started, epoch, draining) = (shard.seq, shard.started, shard.epoch, shard.draining);
        let tenant = self.clusters.get_mut(&name).ok_or(Silent::Starting)?;
        tenant.ask(asked.address);
        let connections = if draining { 0 } else { tenant.share(asked.address) };
        let ring = tenant.ring.as_ref().ok_or(Silent::Starting)?;
        let hash = tenant.hash.clone().ok_or(Silent::Starting)?;
        Ok(LoadReport {
            incarnation: format!("{}-{started}", asked.address),
            seq,
            connections,
            streams: connections,
            hard_cap: HARD_CAP,
            working_set_bytes: BASE + connections * BYTES_PER_CONNECTION,
            base_bytes: BASE,
            limit_bytes: LIMIT,
            draining,
            catalog_hash: hash.clone(),
            catalog_staged: hash,
            key_ids: ring.session.iter().map(|key| key.id.clone()).collect(),
            sealing_key_id: ring.sealing.clone(),
            membership_epoch: epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: started,
            ..LoadReport::default()
        })
    }

    /// Begins a drain, or takes it back; an idle shard is done with it at once.
    ///
    /// # Errors
    /// Why the shard does not obey.
    pub(crate) fn drain(&mut self, asked: Asked<'_>, cancel: bool, now: u64) -> Result<(), Silent> {
        let name = self.believe(asked, now)?;
        self.shard(asked.address, &name, now).draining = !cancel;
        Ok(())
    }

    /// Verifies a request as a shard does; returns whose it is.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(crate) fn believe(&self, asked: Asked<'_>, now: u64) -> Result<Name, Silent> {
        let name = self.by_key.get(asked.key).ok_or(Silent::Refused(Refusal::UnknownKey))?;
        let ring = self.clusters.get(name).and_then(|tenant| tenant.ring.as_ref()).ok_or(Silent::Starting)?;
        control::verify(ring, asked.key, asked.mac, &asked.signed, now).map_err(Silent::Refused)?;
        Ok(name.clone())
    }

    /// The shard at this address: another one, when another McpCluster's was there before.
    fn shard(&mut self, address: Ipv4Addr, name: &Name, now: u64) -> &mut Shard {
        let fresh = || Shard { of: name.clone(), seq: 0, started: now, epoch: 0, draining: false };
        let shard = self.shards.entry(address).or_insert_with(fresh);
        if shard.of != *name {
            *shard = fresh();
        }
        shard
    }
}

impl Tenant {
    /// A round begins when somebody's turn comes again.
    fn ask(&mut self, address: Ipv4Addr) {
        if self.asked.get(&address) == Some(&self.rounds) {
            self.rounds += 1;
        }
        self.asked.insert(address, self.rounds);
        self.asked.retain(|_, last| self.rounds - *last < GONE_AFTER_ROUNDS);
    }

    /// The part of one shard; the first ones take what does not divide evenly.
    fn share(&self, address: Ipv4Addr) -> u64 {
        let shards = self.asked.len().max(1) as u64;
        let rank = self.asked.range(..address).count() as u64;
        self.load / shards + u64::from(rank < self.load % shards)
    }
}

#[cfg(test)]
mod tests {
    use mcp_crds::control::Key;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const NONCE: &str = "00112233445566778899aabbccddeeff";

    fn name() -> Name {
        ("a".into(), "tools".into())
    }

    fn ring(seed: u8) -> KeyRing {
        let (session, control) = (Key::from_bytes(&[seed; 32]), Key::from_bytes(&[seed + 1; 32]));
        KeyRing { sealing: session.id.clone(), signing: control.id.clone(), session: vec![session], control: vec![control] }
    }

    fn fleet() -> Fleet {
        let mut fleet = Fleet::default();
        fleet.set_load(&name(), 10);
        fleet.learn_keys(&name(), ring(1));
        fleet.learn_hash(&name(), "abc".into());
        fleet
    }

    fn ask(fleet: &mut Fleet, shard: u8, by: &KeyRing, now: u64) -> Result<LoadReport, Silent> {
        let body = br#"{"membership_epoch":7}"#;
        let signed = Signed { method: "POST", path: "/load", time: now, nonce: NONCE, body };
        let key = by.signing_key().unwrap();
        let mac = control::sign(key, &signed).unwrap();
        fleet.report(Asked { address: Ipv4Addr::new(198, 18, 0, shard), key: &key.id, mac: &mac, signed }, now)
    }

    #[test]
    fn connections_are_spread_over_those_that_are_asked_and_none_is_lost() {
        let mut fleet = fleet();
        assert_eq!(ask(&mut fleet, 1, &ring(1), NOW).unwrap().connections, 10);
        for shard in [2, 3] {
            ask(&mut fleet, shard, &ring(1), NOW).unwrap();
        }
        let shares: Vec<_> = [1, 2, 3].map(|shard| ask(&mut fleet, shard, &ring(1), NOW).unwrap().connections).into();
        assert_eq!(shares, [4, 3, 3]);
        // A pause loses nobody; rounds without the first two do.
        assert_eq!(ask(&mut fleet, 3, &ring(1), NOW + 1_000).unwrap().connections, 3);
        for _ in 1..GONE_AFTER_ROUNDS {
            ask(&mut fleet, 3, &ring(1), NOW).unwrap();
        }
        assert_eq!(ask(&mut fleet, 3, &ring(1), NOW).unwrap().connections, 10);
    }

    #[test]
    fn the_load_at_rest_and_the_grown_one_ask_for_exactly_their_shards() {
        for (shards, factor) in [(1, 2), (3, 4), (6, 4), (10, 30), (300, 1)] {
            let load = at_rest(shards, factor);
            let shards_for = |load: u64| load.div_ceil(TARGET);
            assert_eq!(shards_for(load), u64::from(shards));
            assert_eq!(shards_for(load * u64::from(factor)), u64::from(shards * factor));
        }
    }

    #[test]
    fn a_report_is_what_the_operator_waits_for() {
        let report = ask(&mut fleet(), 1, &ring(1), NOW).unwrap();
        assert_eq!((report.seq, report.membership_epoch), (1, 7));
        assert_eq!((report.catalog_hash.as_str(), report.catalog_staged.as_str()), ("abc", "abc"));
        assert_eq!(report.key_ids, [ring(1).sealing.clone()]);
        assert!(!report.incarnation.is_empty() && report.limit_bytes > report.working_set_bytes);
    }

    #[test]
    fn who_signs_with_another_key_is_not_believed() {
        let mut fleet = fleet();
        assert_eq!(ask(&mut fleet, 1, &ring(9), NOW).unwrap_err(), Silent::Refused(Refusal::UnknownKey));
        let body = br"{}";
        let signed = Signed { method: "POST", path: "/load", time: NOW, nonce: NONCE, body };
        let key = ring(1).signing;
        let asked = Asked { address: Ipv4Addr::LOCALHOST, key: &key, mac: "00", signed };
        assert!(matches!(fleet.report(asked, NOW), Err(Silent::Refused(_))));
    }

    #[test]
    fn without_a_configuration_it_is_still_starting() {
        let mut fleet = Fleet::default();
        fleet.learn_keys(&name(), ring(1));
        assert_eq!(ask(&mut fleet, 1, &ring(1), NOW).unwrap_err(), Silent::Starting);
    }

    #[test]
    fn an_address_that_another_cluster_has_now_is_another_shard() {
        let mut fleet = fleet();
        let other = ("b".to_owned(), "web".to_owned());
        fleet.learn_keys(&other, ring(5));
        fleet.learn_hash(&other, "def".into());
        ask(&mut fleet, 1, &ring(1), NOW).unwrap();
        assert_eq!(ask(&mut fleet, 1, &ring(1), NOW).unwrap().seq, 2);
        let report = ask(&mut fleet, 1, &ring(5), NOW + 1).unwrap();
        assert_eq!((report.seq, report.connections, report.catalog_hash.as_str()), (1, 0, "def"));
    }
}
