//! How long one decision takes.

use std::time::{Duration, Instant};

use mcp_operator::scale::{self, History};

use crate::policy::Operator;
use crate::policy::Policy;
use crate::trace::{Clients, Cluster, Curve, Point, Seconds, Size, Trace};
use crate::world::{Placement, World};

/// Times of one decision.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Half of them took less.
    pub median: Duration,
    /// One of a hundred took more.
    pub p99: Duration,
}

/// A day of constant load on so many shards.
pub fn constant(shards: u32, duration: i64) -> Trace {
    let cluster = Cluster { min_replicas: 1, max_replicas: shards.max(1) * 2, ..Cluster::default() };
    let each = cluster.max_connections * 7 / 10;
    Trace {
        name: format!("constant-{shards}"),
        description: "Constant load.".to_owned(),
        duration: Seconds(duration),
        cluster,
        shard: crate::trace::Shard::default(),
        nodes: crate::trace::Nodes { count: 20, shards: shards.div_ceil(10).max(1) },
        clients: vec![Clients {
            name: "agents".to_owned(),
            count: Curve { points: vec![Point { at: Seconds(0), is: each * shards }], every: None },
            hold: Some(Seconds(1800)),
            memory: Size(40 << 10),
            together: 1,
            calls: None,
        }],
        events: vec![],
    }
}

/// Decides `times` times about a cluster of so many shards that has run for a minute, each time with the history of the last.
///
/// # Errors
/// When a decision broke a property that it must hold.
pub fn decide(shards: u32, times: usize) -> Result<Times, String> {
    let mut world = World::settled(&constant(shards, 120), 1, Placement::Random);
    let mut operator = Operator::settled(&world);
    for _ in 0..60 {
        world.step();
        operator.act(&mut world)?;
    }
    let (policy, observed, history) = operator.state();
    let mut history = history.cloned().unwrap_or_else(History::default);
    let mut now =
        observed.shards.iter().filter_map(|shard| shard.report.as_ref()).map(|report| report.at).max().unwrap_or_default();
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times.max(1) {
        now += jiff::SignedDuration::from_millis(1);
        let begun = Instant::now();
        let (decision, next) = scale::decide(policy, observed, history, now);
        taken.push(begun.elapsed());
        std::hint::black_box(decision);
        history = next;
    }
    taken.sort_unstable();
    Ok(Times { median: taken[taken.len() / 2], p99: taken[taken.len() * 99 / 100] })
}
