//! What the stock autoscalers see of the simulated cluster. Both scale a Deployment of the same pods behind the same Service.

use super::hpa::{self, Hpa, NoMetrics, Sample, Target};
use super::kpa::{self, Kpa, Spec, Windows};
use super::{Policy, deployment};
use crate::world::World;
use crate::world::pod::{Pod, Process};

/// Percent of the connections and of the memory of a shard that are aimed at, for all policies.
const TARGET_PERCENT: i64 = 70;
/// The metrics API is this old when the HPA looks: metrics-server and the adapter scrape every 15 s.
const METRICS_OLD_BY: i64 = 8;

/// Connections, and bytes.
type Readings = Vec<(u64, Option<(i64, i64)>)>;

/// A HorizontalPodAutoscaler on the mean of connections and on memory.
pub struct HpaPolicy {
    hpa: Hpa,
    replicas: i64,
    readings: Readings,
    late: Vec<(i64, Readings)>,
}

impl HpaPolicy {
    /// Settled at the world's size.
    pub fn settled(world: &World) -> Self {
        let replicas = world.pods.len() as i64;
        Self { hpa: Hpa::settled(replicas, 0), replicas, readings: vec![], late: vec![] }
    }

    fn scrape(&mut self, world: &World) {
        let reading = |pod: &Pod| {
            let numbers = (pod.serves() && !pod.silent).then(|| (pod.load() as i64, pod.memory(&world.trace) as i64));
            (pod.id, numbers)
        };
        self.late.push((world.now, world.pods.iter().map(reading).collect()));
        let due = world.now - world.numbers_are_old_by();
        while let Some(position) = self.late.iter().position(|(time, _)| *time <= due) {
            self.readings = self.late.remove(position).1;
        }
    }

    fn samples(&self, world: &World, of: fn((i64, i64)) -> i64) -> Vec<Sample> {
        let reading = |id: u64| self.readings.iter().find(|(pod, _)| *pod == id).and_then(|(_, numbers)| *numbers);
        let sample = |pod: &Pod| {
            if pod.deleting.is_some() {
                Sample::Ignored
            } else if matches!(pod.process, Process::Unscheduled | Process::Starts(_)) && pod.restarts == 0 {
                Sample::Unready
            } else {
                reading(pod.id).map_or(Sample::Missing, |numbers| Sample::Ready(of(numbers)))
            }
        };
        world.pods.iter().map(sample).collect()
    }

    fn decide(&mut self, world: &World) {
        let cluster = &world.trace.cluster;
        let connections = Target::Average(i64::from(cluster.max_connections) * TARGET_PERCENT / 100);
        let memory = Target::Utilization { percent: TARGET_PERCENT, request: cluster.memory.0 as i64 };
        let asked: [Result<i64, NoMetrics>; 2] = [
            hpa::replicas(self.replicas, &self.samples(world, |(connections, _)| connections), connections),
            hpa::replicas(self.replicas, &self.samples(world, |(_, memory)| memory), memory),
        ];
        let bounds = (i64::from(cluster.min_replicas), i64::from(cluster.max_replicas));
        self.replicas = self.hpa.decide(self.replicas, &asked, bounds, world.now);
    }
}

impl Policy for HpaPolicy {
    fn act(&mut self, world: &mut World) -> Result<u32, String> {
        if world.now % hpa::SYNC_PERIOD == hpa::SYNC_PERIOD - METRICS_OLD_BY {
            self.scrape(world);
        }
        if world.now % hpa::SYNC_PERIOD == 0 && !world.leader_is_away() {
            self.decide(world);
        }
        deployment::reconcile(world, self.replicas as u32);
        Ok(self.replicas as u32)
    }
}

/// A Knative Pod Autoscaler on concurrency.
pub struct KpaPolicy {
    kpa: Kpa,
    spec: Spec,
    windows: Windows,
    replicas: i64,
    late: Vec<(i64, f64)>,
    was_away: bool,
}

impl KpaPolicy {
    /// Settled at the world's size, with a window of it.
    pub fn settled(world: &World) -> Self {
        let spec = Spec::new(f64::from(world.trace.cluster.max_connections));
        let replicas = world.pods.len() as i64;
        let mut windows = Windows::default();
        for second in -kpa::STABLE_WINDOW..0 {
            windows.record(world.wanted() as f64, second);
        }
        Self { kpa: Kpa::new(spec, replicas, 0), spec, windows, replicas, late: vec![], was_away: false }
    }

    /// Every second, the mean of the pods that answer for all that are ready.
    fn scrape(&mut self, world: &World) {
        let ready = world.pods.iter().filter(|pod| pod.ready && pod.deleting.is_none());
        let answers: Vec<_> = ready.clone().filter(|pod| pod.serves() && !pod.silent).map(Pod::load).collect();
        if answers.is_empty() {
            return;
        }
        let mean = answers.iter().sum::<u64>() as f64 / answers.len() as f64;
        self.late.push((world.now, mean * ready.count() as f64));
        let due = world.now - world.numbers_are_old_by();
        while let Some(position) = self.late.iter().position(|(time, _)| *time <= due) {
            let (_, concurrency) = self.late.remove(position);
            self.windows.record(concurrency, world.now);
        }
    }
}

impl Policy for KpaPolicy {
    fn act(&mut self, world: &mut World) -> Result<u32, String> {
        let cluster = &world.trace.cluster;
        let ready = world.pods.iter().filter(|pod| pod.ready && pod.deleting.is_none()).count() as i64;
        if world.leader_is_away() {
            self.was_away = true;
        } else {
            if self.was_away {
                (self.was_away, self.windows) = (false, Windows::default());
                self.kpa = Kpa::new(self.spec, ready, world.now);
            }
            self.scrape(world);
            if world.now % kpa::TICK == 0
                && let Some((stable, panic)) = self.windows.averages(world.now)
            {
                let size = self.kpa.scale(ready, stable, panic, world.now);
                self.replicas = size.clamp(i64::from(cluster.min_replicas), i64::from(cluster.max_replicas));
            }
        }
        deployment::reconcile(world, self.replicas as u32);
        Ok(self.replicas as u32)
    }
}
