//! Traces drawn from a seed: what nobody thought of.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::{Calls, Clients, Cluster, Curve, Event, Nodes, Point, Seconds, Shard, Size, Trace, What};

const KI: u64 = 1 << 10;
const MI: u64 = 1 << 20;
/// Shards that a drawn cluster may come to need; its bound is above.
const MOST_SHARDS: u32 = 40;

/// The trace of a seed: one to two hours of one to three kinds of clients, and up to five events.
pub fn draw(seed: u64) -> Trace {
    let rng = &mut Xoshiro256PlusPlus::seed_from_u64(seed);
    let duration = rng.random_range(60..=120) * 60;
    let memory = [256 * MI, 512 * MI, 1024 * MI][rng.random_range(0..3)];
    let cluster = Cluster {
        min_replicas: rng.random_range(1..=5),
        max_replicas: rng.random_range(MOST_SHARDS / 2..=MOST_SHARDS * 2),
        max_connections: [500, 2000, 4000, 10_000][rng.random_range(0..4)],
        memory: Size(memory),
    };
    let nodes = Nodes { count: rng.random_range(3..=10), shards: rng.random_range(8..=40) };
    let shard = Shard {
        base_memory: Size(rng.random_range(20..=60) * MI),
        boot: Seconds(rng.random_range(4..=40)),
        boot_jitter: Seconds(rng.random_range(0..=30)),
        warm: Seconds(rng.random_range(20..=120)),
    };
    let kinds = rng.random_range(1..=3_u32);
    let clients = (0..kinds).map(|kind| clients(rng, kind, kinds, duration, &cluster)).collect();
    let mut events: Vec<_> = (0..rng.random_range(0..=5)).map(|_| event(rng, duration, nodes.count)).collect();
    events.sort_by_key(|event| event.at);
    Trace {
        name: format!("random-{seed}"),
        description: format!("Drawn from seed {seed}."),
        duration: Seconds(duration),
        cluster,
        shard,
        nodes,
        clients,
        events,
    }
}

fn clients(rng: &mut Xoshiro256PlusPlus, kind: u32, kinds: u32, duration: i64, cluster: &Cluster) -> Clients {
    let most_at_once = cluster.memory.0 / 20;
    let memory = (KI << rng.random_range(3..=10)).min(most_at_once / 8);
    // As many as some tens of shards hold, by connections and by memory.
    let by_memory = cluster.memory.0 / 2 / memory;
    let each = u64::from(cluster.max_connections) * 7 / 10;
    let peak = each.min(by_memory) * u64::from(rng.random_range(2..=MOST_SHARDS)) / u64::from(kinds);
    let calls = rng.random_bool(0.7).then(|| Calls {
        per_minute: f64::from(rng.random_range(1..=120_u32)) / 10.0,
        takes: Seconds(rng.random_range(1..=5)),
        memory: Size((KI << rng.random_range(4..=10)).min(most_at_once)),
        leaks: Size(0),
    });
    Clients {
        name: format!("kind-{kind}"),
        count: curve(rng, duration, u32::try_from(peak.max(10)).unwrap_or(u32::MAX)),
        hold: rng.random_bool(0.8).then(|| Seconds(rng.random_range(2..=60) * 60)),
        memory: Size(memory),
        together: if rng.random_bool(0.2) { rng.random_range(2..=8) } else { 1 },
        calls,
    }
}

/// Some points, at any height; every fourth step is a jump.
fn curve(rng: &mut Xoshiro256PlusPlus, duration: i64, peak: u32) -> Curve {
    let mut points = vec![];
    let mut at = 0;
    while at < duration {
        points.push(Point { at: Seconds(at), is: rng.random_range(0..=peak) });
        at += if rng.random_bool(0.25) { rng.random_range(5..=60) } else { rng.random_range(120..=1500) };
    }
    Curve { points, every: None }
}

fn event(rng: &mut Xoshiro256PlusPlus, duration: i64, nodes: u32) -> Event {
    let at = Seconds(rng.random_range(60..duration));
    let what = [
        What::NodeLoss,
        What::ShardCrash,
        What::ConnectionsLost,
        What::ReportsSilent,
        What::ReportsDelayed,
        What::LeaderRestart,
        What::Rollout,
        What::BadRollout,
        What::Unschedulable,
    ][rng.random_range(0..9)];
    let lasts = Seconds(rng.random_range(10..=900));
    let event = Event { at, what, lasts: Some(lasts), count: None, percent: None, by: None };
    match what {
        What::NodeLoss => Event { count: Some(rng.random_range(1..=(nodes / 3).max(1))), ..event },
        What::ShardCrash => Event { count: Some(rng.random_range(1..=5)), lasts: None, ..event },
        What::ConnectionsLost => Event { percent: Some(rng.random_range(10..=100)), lasts: None, ..event },
        What::ReportsSilent => Event { percent: Some(rng.random_range(10..=100)), ..event },
        What::ReportsDelayed => Event { by: Some(Seconds(rng.random_range(5..=60))), ..event },
        What::Rollout => Event { lasts: None, ..event },
        What::LeaderRestart => Event { lasts: Some(Seconds(rng.random_range(10..=120))), ..event },
        What::BadRollout | What::Unschedulable => event,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_drawn_trace_is_a_trace_that_a_file_could_say() {
        for seed in 0..500 {
            let text = serde_yaml::to_string(&draw(seed)).unwrap();
            let read = Trace::parse(Path::new(&format!("random-{seed}.yaml")), &text).unwrap();
            assert_eq!(read, draw(seed), "{text}");
        }
    }
}
