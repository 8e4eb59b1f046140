//! One run: a trace, a policy, a seed.

use std::sync::Arc;

use serde::Serialize;

use crate::policy::Name;
use crate::score::Score;
use crate::trace::Trace;
use crate::world::{Placement, World};

/// What came of a trace under a policy, over all its seeds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The trace.
    pub trace: String,
    /// Who decided.
    pub policy: Name,
    /// Sums over the seeds.
    pub score: Score,
    /// Of each seed.
    pub seeds: Vec<(u64, Score)>,
    /// Properties that did not hold: seed and what.
    pub broken: Vec<(u64, String)>,
}

/// Runs a trace from its start to its end.
///
/// # Errors
/// When a decision broke a property that it must hold.
pub fn run(trace: &Arc<Trace>, policy: Name, seed: u64, placement: Placement) -> Result<Score, String> {
    let mut world = World::settled(trace, seed, placement);
    let mut policy = policy.start(&world);
    while !world.is_over() {
        world.step();
        let size = policy.act(&mut world)?;
        world.score.size(size);
        conserved(&world)?;
    }
    Ok(world.score)
}

/// Nobody is lost: who wants to be connected is, or waits to be.
fn conserved(world: &World) -> Result<(), String> {
    let (connected, waiting) = world.present();
    let wanted = world.wanted();
    // A surplus leaves at random, in a second or two.
    if connected + waiting >= wanted {
        return Ok(());
    }
    Err(format!("{} at {} s: of {wanted} clients {connected} are connected and {waiting} wait", world.trace.name, world.now))
}

/// Runs a trace under a policy with every seed.
pub fn outcome(trace: &Arc<Trace>, policy: Name, seeds: &[u64], placement: Placement) -> Outcome {
    let mut outcome = Outcome { trace: trace.name.clone(), policy, score: Score::default(), seeds: vec![], broken: vec![] };
    for seed in seeds {
        match run(trace, policy, *seed, placement) {
            Ok(score) => {
                if outcome.seeds.is_empty() {
                    outcome.score.series.clone_from(&score.series);
                }
                outcome.score.add(&score);
                outcome.seeds.push((*seed, score));
            }
            Err(broken) => outcome.broken.push((*seed, broken)),
        }
    }
    outcome
}
