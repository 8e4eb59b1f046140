//! Who leads: a judgement over the Lease, the moments at which it was seen, and now. No client, no clock.
//!
//! As client-go does it: a lease has run out when its record has not changed for its duration *on our clock*, so clocks of
//! machines are never compared and the times in the record are for people. Every write carries the resource version that was
//! read, so of two that reach for a lease one gets it. Only an answer to a write of ours begins or prolongs a term, counted
//! from when that write was sent.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::time::Instant;

use super::{DURATION, RENEW_DEADLINE, RETRY};

/// What to ask of the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The lease as it is.
    Read,
    /// A lease where there is none.
    Create(Box<Lease>),
    /// The lease we know, changed: refused when it is another by now.
    Replace(Box<Lease>),
}

/// What the API server said.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The lease: as it is, or as we wrote it.
    Present(Box<Lease>),
    /// There is none.
    Absent,
    /// It is another by now, or somebody else was faster.
    Conflict,
    /// No usable answer: it may have done what was asked.
    Failed,
}

/// What we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another leads, or nobody does.
    Standby,
    /// We lead, until then unless the lease is renewed.
    Leader(Instant),
    /// We led, and do not any more. There is no way back for this process.
    Lost(Loss),
}

/// How the lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// It could not be renewed.
    #[error("it was not renewed for {} s", RENEW_DEADLINE.as_secs())]
    NotRenewed,
    /// It says another holder.
    #[error("another process holds it")]
    Taken,
}

/// One candidate's view of one election.
#[derive(Clone, Debug)]
pub struct Election {
    me: String,
    record: Record,
    /// When the last write of ours that was granted was sent.
    renewed: Option<Instant>,
    /// The last question brought nothing.
    failed: bool,
}

#[derive(Clone, Debug)]
enum Record {
    Unknown,
    Absent,
    /// And when it was first seen as it is.
    Seen(Box<Lease>, Instant),
}

// === impl Election ===

impl Election {
    /// A candidate with a name that no other process has.
    pub fn new(me: String) -> Self {
        Self { me, record: Record::Unknown, renewed: None, failed: false }
    }

    /// What to ask now. `wall` is for people.
    pub fn ask(&self, name: &str, now: Instant, wall: Timestamp) -> Ask {
        match &self.record {
            Record::Absent => Ask::Create(Box::new(self.first(name, wall))),
            Record::Seen(lease, since) if self.is_mine(lease) || runs_out(lease, *since) <= now => {
                Ask::Replace(Box::new(self.held(lease, wall)))
            }
            Record::Unknown | Record::Seen(..) => Ask::Read,
        }
    }

    /// Takes in what was answered at `now` to what was asked at `asked`.
    pub fn hear(&mut self, ask: &Ask, answer: Answer, asked: Instant, now: Instant) {
        self.failed = answer == Answer::Failed;
        match answer {
            Answer::Present(lease) => {
                match ask {
                    Ask::Read => {}
                    Ask::Create(_) | Ask::Replace(_) => self.renewed = Some(asked),
                }
                let since = match &self.record {
                    Record::Seen(known, since) if known.spec == lease.spec => *since,
                    Record::Unknown | Record::Absent | Record::Seen(..) => now,
                };
                self.record = Record::Seen(lease, since);
            }
            Answer::Absent => self.record = Record::Absent,
            Answer::Conflict => self.record = Record::Unknown,
            Answer::Failed => {}
        }
    }

    /// What we are at `now`.
    pub fn standing(&self, now: Instant) -> Standing {
        let Some(renewed) = self.renewed else { return Standing::Standby };
        let end = renewed + RENEW_DEADLINE;
        match &self.record {
            Record::Seen(lease, _) if !self.is_mine(lease) => Standing::Lost(Loss::Taken),
            _ if now >= end => Standing::Lost(Loss::NotRenewed),
            Record::Seen(..) | Record::Unknown | Record::Absent => Standing::Leader(end),
        }
    }

    /// When to ask again, after what was asked at `asked` was answered at `now`. `jitter` is from 0 to 1: of many who wait not
    /// all ask at once.
    pub fn due(&self, asked: Instant, now: Instant, jitter: f64) -> Instant {
        if self.failed || self.renewed.is_some_and(|renewed| renewed == asked) {
            return asked + RETRY;
        }
        match &self.record {
            Record::Unknown | Record::Absent => now,
            Record::Seen(lease, _) if self.is_mine(lease) => now,
            Record::Seen(lease, since) => runs_out(lease, *since).min(asked + RETRY.mul_f64(0.8 + 0.4 * jitter)),
        }
    }

    /// The lease given back, for whoever comes next; none when it is not ours.
    pub fn released(&self, wall: Timestamp) -> Option<Lease> {
        match &self.record {
            Record::Seen(lease, _) if self.is_mine(lease) => {
                let mut lease = (**lease).clone();
                let spec = lease.spec.get_or_insert_default();
                spec.holder_identity = None;
                spec.renew_time = Some(MicroTime(wall));
                Some(lease)
            }
            Record::Seen(..) | Record::Unknown | Record::Absent => None,
        }
    }

    /// Who holds the lease, as far as we know.
    pub fn holder(&self) -> Option<&str> {
        match &self.record {
            Record::Seen(lease, _) => holder(lease),
            Record::Unknown | Record::Absent => None,
        }
    }

    fn is_mine(&self, lease: &Lease) -> bool {
        holder(lease) == Some(self.me.as_str())
    }

    fn first(&self, name: &str, wall: Timestamp) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(seconds(DURATION)),
            lease_transitions: Some(0),
            acquire_time: Some(MicroTime(wall)),
            renew_time: Some(MicroTime(wall)),
            ..LeaseSpec::default()
        };
        Lease { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, spec: Some(spec) }
    }

    /// The known lease in our hands: what others keep in it stays.
    fn held(&self, known: &Lease, wall: Timestamp) -> Lease {
        let mut lease = known.clone();
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.me) {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
            spec.acquire_time = Some(MicroTime(wall));
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds = Some(seconds(DURATION));
        spec.renew_time = Some(MicroTime(wall));
        lease
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// When a lease that was first seen as it is at `since` may be taken: its holder said how long it is to be believed.
fn runs_out(lease: &Lease, since: Instant) -> Instant {
    if holder(lease).is_none() {
        return since;
    }
    let said = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    since + said.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs)
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
