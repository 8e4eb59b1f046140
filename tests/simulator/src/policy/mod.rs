//! Who decides: the operator, an HPA or a KPA.

mod deployment;
pub mod hpa;
pub mod kpa;
mod observe;
pub mod operator;
mod plain;

use serde::Serialize;

use crate::world::World;
pub use operator::Operator;
pub use plain::{HpaPolicy, KpaPolicy};

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Name {
    /// The operator: the decisions, plans and placement that it ships.
    Ours,
    /// A Deployment with a HorizontalPodAutoscaler on connections and memory.
    Hpa,
    /// A Deployment with a Knative Pod Autoscaler on concurrency.
    Kpa,
}

/// A policy at work: called once a second.
pub trait Policy {
    /// Looks at the world and acts on it; returns the size that is wanted.
    ///
    /// # Errors
    /// When a decision broke a property that it must hold.
    fn act(&mut self, world: &mut World) -> Result<u32, String>;
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ours, Self::Hpa, Self::Kpa];

    /// For tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Hpa => "hpa",
            Self::Kpa => "kpa",
        }
    }

    /// The policy, in a world that is settled.
    pub fn start(self, world: &World) -> Box<dyn Policy> {
        match self {
            Self::Ours => Box::new(Operator::settled(world)),
            Self::Hpa => Box::new(HpaPolicy::settled(world)),
            Self::Kpa => Box::new(KpaPolicy::settled(world)),
        }
    }
}
