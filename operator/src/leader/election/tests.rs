use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The Lease as an API server keeps it.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u32,
}

impl Server {
    fn answer(&mut self, ask: &Ask) -> Answer {
        match (ask, &self.lease) {
            (Ask::Read, Some(lease)) => Answer::Present(Box::new(lease.clone())),
            (Ask::Read | Ask::Replace(_), None) => Answer::Absent,
            (Ask::Create(_), Some(_)) => Answer::Conflict,
            (Ask::Create(lease), None) => self.keep(lease),
            (Ask::Replace(lease), Some(kept)) => {
                if lease.metadata.resource_version != kept.metadata.resource_version {
                    return Answer::Conflict;
                }
                self.keep(lease)
            }
        }
    }

    fn keep(&mut self, lease: &Lease) -> Answer {
        self.version += 1;
        let mut lease = lease.clone();
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Answer::Present(Box::new(lease))
    }

    fn spec(&self) -> &LeaseSpec {
        self.lease.as_ref().unwrap().spec.as_ref().unwrap()
    }
}

struct Candidate {
    election: Election,
}

impl Candidate {
    fn new(me: &str) -> Self {
        Self { election: Election::new(me.to_owned()) }
    }

    /// One question and its answer, at once; returns when the next is due.
    fn turn(&mut self, server: &mut Server, now: Instant) -> Instant {
        let ask = self.election.ask("mcp-operator", now, wall());
        let answer = server.answer(&ask);
        self.election.hear(&ask, answer, now, now);
        self.election.due(now, now, 0.5)
    }

    /// Questions until the next is due later.
    fn settle(&mut self, server: &mut Server, now: Instant) -> Instant {
        (0..5).map(|_| self.turn(server, now)).find(|due| *due > now).expect("it asks again and again without a pause")
    }

    fn fails(&mut self, now: Instant) {
        let ask = self.election.ask("mcp-operator", now, wall());
        self.election.hear(&ask, Answer::Failed, now, now);
    }

    fn leads(&self, now: Instant) -> bool {
        matches!(self.election.standing(now), Standing::Leader(_))
    }
}

fn wall() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

#[test]
fn the_first_takes_the_lease_and_the_second_waits_for_its_end() {
    let (mut server, start) = (Server::default(), Instant::now());
    let (mut a, mut b) = (Candidate::new("a"), Candidate::new("b"));
    assert_eq!(a.settle(&mut server, start), start + RETRY);
    assert_eq!(a.election.standing(start), Standing::Leader(start + RENEW_DEADLINE));
    assert_eq!(server.spec().lease_transitions, Some(0));

    let seen = start + SECOND;
    let mut due = b.settle(&mut server, seen);
    while due < seen + DURATION {
        assert!(due > seen && !b.leads(due), "it took a lease that runs");
        due = b.settle(&mut server, due);
    }
    assert_eq!(due, seen + DURATION, "it asks at the very moment at which the lease runs out");
    b.settle(&mut server, due);
    assert!(b.leads(due));
    assert_eq!((server.spec().holder_identity.as_deref(), server.spec().lease_transitions), (Some("b"), Some(1)));
    assert!(!a.leads(seen + DURATION), "two lead at one time");
}

#[test]
fn a_leader_that_renews_is_left_alone_however_its_clock_is_set() {
    let (mut server, start) = (Server::default(), Instant::now());
    let (mut a, mut b) = (Candidate::new("a"), Candidate::new("b"));
    a.settle(&mut server, start);
    for second in 0..120 {
        let now = start + SECOND * second;
        if second % 2 == 0 {
            a.settle(&mut server, now);
            // An hour behind: the times in the record are for people.
            let lease = server.lease.as_mut().unwrap();
            lease.spec.as_mut().unwrap().renew_time =
                Some(MicroTime(wall() - jiff::SignedDuration::from_secs(3600 - i64::from(second))));
        }
        b.turn(&mut server, now);
        assert!(a.leads(now) && !b.leads(now), "after {second} s");
    }
}

#[test]
fn a_leader_that_cannot_renew_stops_before_another_may_begin() {
    let (mut server, start) = (Server::default(), Instant::now());
    let (mut a, mut b) = (Candidate::new("a"), Candidate::new("b"));
    a.settle(&mut server, start);
    b.settle(&mut server, start);
    for second in (2..10).step_by(2) {
        a.fails(start + SECOND * second);
        assert!(a.leads(start + SECOND * second));
    }
    assert_eq!(a.election.standing(start + RENEW_DEADLINE), Standing::Lost(Loss::NotRenewed));
    b.turn(&mut server, start + RENEW_DEADLINE);
    assert!(!b.leads(start + RENEW_DEADLINE));
    b.settle(&mut server, start + DURATION);
    assert!(b.leads(start + DURATION));
}

#[test]
fn a_term_counts_from_when_its_renewal_was_sent() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut a = Candidate::new("a");
    a.settle(&mut server, start);
    // The process is stopped between the question and the answer.
    let asked = start + RETRY;
    let ask = a.election.ask("mcp-operator", asked, wall());
    let answer = server.answer(&ask);
    let now = asked + Duration::from_mins(1);
    a.election.hear(&ask, answer, asked, now);
    assert_eq!(a.election.standing(now), Standing::Lost(Loss::NotRenewed));
}

#[test]
fn a_lease_that_is_given_back_is_taken_at_once() {
    let (mut server, start) = (Server::default(), Instant::now());
    let (mut a, mut b) = (Candidate::new("a"), Candidate::new("b"));
    a.settle(&mut server, start);
    let due = b.settle(&mut server, start);
    assert!(due <= start + RETRY);
    server.keep(&a.election.released(wall()).unwrap());
    assert_eq!(server.spec().holder_identity, None);
    b.settle(&mut server, due);
    assert!(b.leads(due));
    assert_eq!(server.spec().lease_transitions, Some(1));
    assert_eq!(b.election.holder(), Some("b"));
    assert_eq!(Candidate::new("c").election.released(wall()), None, "only who holds it gives it back");
}

#[test]
fn of_two_that_reach_for_a_lease_one_gets_it() {
    for first in [true, false] {
        let (mut server, start) = (Server::default(), Instant::now());
        let (mut a, mut b) = (Candidate::new("a"), Candidate::new("b"));
        if first {
            // Both see none, both create one.
            a.turn(&mut server, start);
            b.turn(&mut server, start);
        } else {
            // Both see one that has run out.
            Candidate::new("gone").settle(&mut server, start);
            a.turn(&mut server, start);
            b.turn(&mut server, start);
        }
        let now = start + DURATION;
        a.turn(&mut server, now);
        b.turn(&mut server, now);
        assert!(a.leads(now) && !b.leads(now));
        b.settle(&mut server, now);
        assert!(!b.leads(now), "a refused write was taken for a granted one");
    }
}

#[test]
fn an_answer_that_was_lost_is_found_out_by_reading() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut a = Candidate::new("a");
    a.settle(&mut server, start);
    let renewed = start + RETRY;
    // It was written, and nobody heard.
    server.answer(&a.election.ask("mcp-operator", renewed, wall()));
    a.fails(renewed);
    let again = renewed + RETRY;
    a.settle(&mut server, again);
    assert_eq!(a.election.standing(again), Standing::Leader(again + RENEW_DEADLINE));
    assert_eq!(server.spec().lease_transitions, Some(0), "it is the same term");

    // The same for a term that nobody knows has begun: it begins with an answer only.
    let mut b = Candidate::new("b");
    b.settle(&mut server, again);
    let end = again + DURATION;
    server.answer(&b.election.ask("mcp-operator", end, wall()));
    b.fails(end);
    assert!(!b.leads(end));
    b.settle(&mut server, end + RETRY);
    assert!(b.leads(end + RETRY));
    assert_eq!(server.spec().lease_transitions, Some(1));
}

#[test]
fn a_leader_that_sees_another_holder_leads_no_more() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut a = Candidate::new("a");
    a.settle(&mut server, start);
    let mut taken = server.lease.clone().unwrap();
    taken.spec.as_mut().unwrap().holder_identity = Some("b".into());
    server.keep(&taken);
    let now = start + RETRY;
    a.turn(&mut server, now);
    assert_eq!(a.turn(&mut server, now), now + RETRY, "conflict, then a look");
    assert_eq!(a.election.standing(now), Standing::Lost(Loss::Taken));
}

#[test]
fn what_others_keep_in_the_lease_stays() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut a = Candidate::new("a");
    a.settle(&mut server, start);
    let mut noted = server.lease.clone().unwrap();
    noted.metadata.labels = Some([("team".to_owned(), "agents".to_owned())].into());
    server.keep(&noted);
    let now = start + RETRY;
    a.settle(&mut server, now);
    assert!(a.leads(now));
    assert_eq!(server.lease.as_ref().unwrap().metadata.labels, noted.metadata.labels);
}

#[test]
fn a_note_on_the_lease_is_no_renewal() {
    let (mut server, start) = (Server::default(), Instant::now());
    Candidate::new("gone").settle(&mut server, start);
    let mut b = Candidate::new("b");
    b.settle(&mut server, start);
    let mut noted = server.lease.clone().unwrap();
    noted.metadata.labels = Some([("team".to_owned(), "agents".to_owned())].into());
    server.keep(&noted);
    b.turn(&mut server, start + DURATION - SECOND);
    b.settle(&mut server, start + DURATION);
    assert!(b.leads(start + DURATION));
}

#[test]
fn a_lease_that_somebody_deleted_is_made_again() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut a = Candidate::new("a");
    a.settle(&mut server, start);
    server.lease = None;
    let now = start + RETRY;
    a.settle(&mut server, now);
    assert!(a.leads(now) && server.lease.is_some());
}

#[test]
fn a_holder_that_asks_for_longer_is_believed() {
    let (mut server, start) = (Server::default(), Instant::now());
    Candidate::new("slow").settle(&mut server, start);
    server.lease.as_mut().unwrap().spec.as_mut().unwrap().lease_duration_seconds = Some(60);
    let mut b = Candidate::new("b");
    b.settle(&mut server, start);
    b.settle(&mut server, start + DURATION * 2);
    assert!(!b.leads(start + DURATION * 2));
    b.settle(&mut server, start + SECOND * 60);
    assert!(b.leads(start + SECOND * 60));
}
