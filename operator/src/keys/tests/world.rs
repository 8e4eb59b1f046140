//! A world of shards that mount the Secret late, fall silent, are born and are lost, under any order of events: no session is
//! refused before it has ended, and every rotation ends.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a container finds mounted when it starts, and does not find soon after, is at most this old: seconds. Kubelets watch
/// Secrets, and look at mounts once a minute.
const MOUNTS_FOLLOW: i64 = 60;

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A person sets the annotation.
    Ask(i64),
    /// A person changes how long sessions live.
    Live(u64),
    /// A shard serves what the resource says.
    Serve(usize),
    /// A shard's mount changes to what the Secret says.
    Mount(usize),
    /// A shard gives out a session.
    Open(usize),
    /// The operator hears every shard that is not silent.
    Hear,
    /// The operator does what is due, or ends before it has.
    Pass { ends: bool },
    /// A shard falls silent, or is heard again.
    Silence(usize, bool),
    /// A shard begins with what the Secret says, or with what it said before.
    Birth { late: bool },
    /// A shard is gone.
    Loss(usize),
    /// Time passes, seconds.
    Time(i64),
}

#[derive(Clone, Debug)]
struct Shard {
    name: String,
    ring: KeyRing,
    lifetime: u64,
    silent: bool,
    /// Began with what the Secret said before.
    late: bool,
    /// What it said last, and the lifetime it gives out, when it said so after that was changed last.
    heard: Option<(LoadReport, Option<u64>)>,
}

struct World {
    now: i64,
    value: Option<i64>,
    lifetime: u64,
    /// The Secret.
    keys: Keys,
    /// What it said before the ring changed last.
    before: KeyRing,
    changed: i64,
    shards: Vec<Shard>,
    born: usize,
    /// Sessions: the key that sealed them, and when they end.
    sessions: Vec<(String, i64)>,
    rotations: BTreeMap<i64, u32>,
    drawn: u8,
}

impl World {
    fn new() -> Self {
        let keys = first();
        let mut world = Self {
            now: 0,
            value: None,
            lifetime: LIFETIME.as_secs(),
            before: keys.ring.clone(),
            keys,
            changed: -MOUNTS_FOLLOW,
            shards: vec![],
            born: 0,
            sessions: vec![],
            rotations: BTreeMap::new(),
            drawn: 1,
        };
        (0..3).for_each(|_| world.happen(Event::Birth { late: false }));
        world
    }

    fn asked(&self) -> Asked {
        let served =
            self.shards.iter().all(|shard| shard.heard.as_ref().is_some_and(|(_, lifetime)| *lifetime == Some(self.lifetime)));
        Asked { value: self.value.map(at), lifetime: Duration::from_secs(self.lifetime), served }
    }

    fn step(&self) -> Step {
        let says = |shard: &Shard| shard.heard.as_ref().map(|(report, _)| report.clone());
        let said: Vec<_> = self.shards.iter().map(|shard| (shard.name.as_str(), says(shard))).collect();
        let voices: Vec<_> = said.iter().map(|(shard, says)| Voice { shard, says: says.as_ref() }).collect();
        rotate(&self.keys, &self.asked(), &voices, at(self.now))
    }

    fn pass(&mut self) {
        let step = self.step();
        if !step.is_due() {
            return;
        }
        if let Step::Distribute(value) = &step {
            let value = value.as_second() - at(0).as_second();
            *self.rotations.entry(value).or_default() += 1;
        }
        self.drawn = self.drawn.wrapping_add(1);
        let fresh = (Key::from_bytes(&[self.drawn; 32]), Key::from_bytes(&[self.drawn; 32]));
        let after = self.keys.after(&step, fresh, &self.asked(), at(self.now));
        if after.ring != self.keys.ring {
            self.before = self.keys.ring.clone();
            self.changed = self.now;
        }
        self.keys = after;
    }

    fn happen(&mut self, event: Event) {
        let count = self.shards.len();
        let chosen = |n: usize| n.checked_rem(count);
        match event {
            Event::Ask(value) => self.value = Some(value),
            Event::Live(lifetime) => {
                self.lifetime = lifetime;
                self.shards.iter_mut().filter_map(|shard| shard.heard.as_mut()).for_each(|(_, known)| *known = None);
            }
            Event::Serve(n) => {
                // A pass writes down a longer lifetime before it publishes it.
                let known = self.keys.record.session_lifetime_seconds.unwrap_or(u64::MAX);
                if let Some(n) = chosen(n).filter(|_| self.lifetime <= known) {
                    self.shards[n].lifetime = self.lifetime;
                }
            }
            Event::Mount(n) => {
                if let Some(n) = chosen(n) {
                    self.shards[n].ring = self.keys.ring.clone();
                    self.shards[n].late = false;
                }
            }
            Event::Open(n) => {
                if let Some(shard) = chosen(n).map(|n| &self.shards[n]) {
                    self.sessions.push((shard.ring.sealing.clone(), self.now + i64::try_from(shard.lifetime).unwrap()));
                }
            }
            Event::Hear => self.shards.iter_mut().for_each(Shard::hear),
            Event::Pass { ends } => {
                if !ends {
                    self.pass();
                }
            }
            Event::Silence(n, silent) => {
                if let Some(n) = chosen(n) {
                    self.shards[n].silent = silent;
                }
            }
            Event::Birth { late } => {
                let late = late && self.now < self.changed + MOUNTS_FOLLOW;
                let ring = if late { self.before.clone() } else { self.keys.ring.clone() };
                let lifetime = self.shards.first().map_or(self.lifetime, |shard| shard.lifetime);
                self.born += 1;
                self.shards.push(Shard { name: format!("s{}", self.born), ring, lifetime, silent: false, late, heard: None });
            }
            Event::Loss(n) => {
                if let Some(n) = chosen(n).filter(|_| count > 1) {
                    self.shards.remove(n);
                }
            }
            Event::Time(seconds) => {
                self.now += seconds;
                if self.now >= self.changed + MOUNTS_FOLLOW {
                    self.shards.iter_mut().filter(|shard| shard.late).for_each(|shard| {
                        shard.ring = self.keys.ring.clone();
                        shard.late = false;
                    });
                }
            }
        }
        self.check(event);
    }

    fn check(&self, event: Event) {
        let KeyRing { session, sealing, control, signing } = &self.keys.ring;
        assert!(session.len() <= 2 && control.len() <= 2, "a third generation after {event:?}");
        assert!(session.iter().any(|key| key.id == *sealing) && control.iter().any(|key| key.id == *signing));
        for shard in &self.shards {
            for (key, _) in self.sessions.iter().filter(|(_, ends)| self.now < *ends) {
                let accepts = shard.ring.session.iter().any(|known| known.id == *key);
                assert!(accepts, "{} refuses a session of {key} after {event:?}: {:?}", shard.name, self.keys);
            }
            let believes = shard.ring.control.iter().any(|known| known.id == *signing);
            assert!(believes, "{} does not believe the operator after {event:?}", shard.name);
        }
    }

    /// Everybody speaks and follows; returns how many rounds it takes until nothing is due.
    fn settle(&mut self) -> u32 {
        for round in 0..100 {
            for n in 0..self.shards.len() {
                for event in [Event::Silence(n, false), Event::Mount(n), Event::Serve(n)] {
                    self.happen(event);
                }
            }
            self.happen(Event::Hear);
            if self.step() == Step::Rest {
                return round;
            }
            self.happen(Event::Pass { ends: false });
            self.happen(Event::Time(100));
        }
        panic!("the rotation does not end: {:?} {:?}", self.keys, self.step());
    }
}

impl Shard {
    fn hear(&mut self) {
        let report = LoadReport {
            key_ids: self.ring.session.iter().map(|key| key.id.clone()).collect(),
            sealing_key_id: self.ring.sealing.clone(),
            ..LoadReport::default()
        };
        self.heard = (!self.silent).then_some((report, Some(self.lifetime)));
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0_i64..4).prop_map(Event::Ask),
        1 => prop::sample::select(&[20_u64, 60, 600][..]).prop_map(Event::Live),
        2 => (0_usize..6).prop_map(Event::Serve),
        8 => (0_usize..6).prop_map(Event::Mount),
        8 => (0_usize..6).prop_map(Event::Open),
        8 => Just(Event::Hear),
        8 => any::<bool>().prop_map(|ends| Event::Pass { ends }),
        2 => (0_usize..6, any::<bool>()).prop_map(|(n, silent)| Event::Silence(n, silent)),
        1 => any::<bool>().prop_map(|late| Event::Birth { late }),
        1 => (0_usize..6).prop_map(Event::Loss),
        6 => prop::sample::select(&[1_i64, 5, 10, 30, 120, 200][..]).prop_map(Event::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_session_is_refused_before_its_end_and_every_rotation_ends(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.settle();
        prop_assert_eq!(world.keys.stage(), Stage::Rest);
        prop_assert!(world.rotations.values().all(|count| *count == 1), "once for each value: {:?}", world.rotations);
        // At rest nothing is due, however often somebody looks.
        let keys = world.keys.clone();
        for _ in 0..3 {
            world.happen(Event::Hear);
            world.happen(Event::Pass { ends: false });
            world.happen(Event::Time(100));
        }
        prop_assert_eq!(world.keys, keys);
    }
}
