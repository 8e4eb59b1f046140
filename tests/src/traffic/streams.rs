//! Held streams whose shard is known: who ended, how, and how they were spread.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use mcp_crds::shard::DATA_PORT;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome, While as _};
use crate::mcp::{End, Era, Opened, Stream, hold};
use crate::metrics::Metrics;
use crate::wait::eventually;
use crate::{claim, fail, reach};

/// A stream and the shard that holds it.
#[derive(Debug)]
pub struct Held {
    /// Name of its shard.
    pub shard: String,
    /// The stream.
    pub stream: Stream,
}

/// Streams on known shards. Dropping it closes them.
#[derive(Debug, Default)]
pub struct Streams(Vec<Held>);

impl Streams {
    /// Holds `of_each_era` streams of both eras on every Ready shard, opened at the shard itself.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn on_each_shard(cluster: &Cluster, of_each_era: usize) -> Outcome<Self> {
        let mut streams = Self::default();
        for pod in cluster.ready_pods().await? {
            streams.hold_on(cluster, &pod, of_each_era).await?;
        }
        Ok(streams)
    }

    /// Holds more streams of both eras on a shard.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn hold_on(&mut self, cluster: &Cluster, pod: &Pod, of_each_era: usize) -> Outcome {
        let shard = pod.name_any();
        let endpoint = reach::pod(cluster.namespace(), pod, DATA_PORT, "/mcp").await?;
        for era in Era::BOTH {
            let streams = hold(&endpoint, era, of_each_era).await.doing(&format!("holding streams on {shard}"))?;
            self.0.extend(streams.into_iter().map(|stream| Held { shard: shard.clone(), stream }));
        }
        Ok(())
    }

    /// Holds more streams of both eras through the Service, wherever they land: which shard took a stream shows in its metrics.
    /// Nobody else may open or close streams meanwhile.
    ///
    /// # Errors
    /// When one is refused, or its shard does not show.
    pub async fn hold_through_the_service(&mut self, cluster: &Cluster, of_each_era: usize) -> Outcome {
        let endpoint = cluster.endpoint().await?;
        let mut before = held_by(cluster).await?;
        for _ in 0..of_each_era {
            for era in Era::BOTH {
                let stream = match Stream::open(&endpoint, era).await? {
                    Opened::Held(stream) => stream,
                    Opened::Refused(refusal) => fail!("a stream was refused: {refusal:?}"),
                };
                let (shard, now) = eventually("the shard of a stream", Duration::from_secs(20), || async {
                    let now = held_by(cluster).await?;
                    let more = |(shard, count): &(&String, &u64)| before.get(*shard).is_none_or(|before| *count > before);
                    let shard = now.iter().find(more).map(|(shard, _)| shard.clone());
                    Ok((shard.ok_or_else(|| Failure::new(format!("{now:?} as before")))?, now))
                })
                .await?;
                before = now;
                self.0.push(Held { shard, stream });
            }
        }
        Ok(())
    }

    /// How many streams a shard holds or held.
    pub fn on(&self, shard: &str) -> usize {
        self.of(shard).count()
    }

    fn of<'a>(&'a self, shard: &'a str) -> impl Iterator<Item = &'a Held> {
        self.0.iter().filter(move |held| held.shard == shard)
    }

    /// Forgets the streams of shards that are gone, so that the next claims speak of those that are.
    pub fn forget(&mut self, shards: &[&str]) {
        self.0.retain(|held| !shards.contains(&held.shard.as_str()));
    }

    /// Claims that no stream ended but on these shards.
    ///
    /// # Errors
    /// Which ended elsewhere, and how.
    pub fn none_ended_but_on(&self, victims: &[&str]) -> Outcome {
        let ended = |held: &&Held| !victims.contains(&held.shard.as_str()) && held.stream.ended().is_some();
        let wrong: Vec<_> = self.0.iter().filter(ended).map(describe).collect();
        claim!(wrong.is_empty(), "only streams on {victims:?} were to end, but also did: {}", wrong.join("; "));
        Ok(())
    }

    /// Waits until every stream of a shard has ended.
    ///
    /// # Errors
    /// How many have not.
    pub async fn until_ended_on(&self, shard: &str, within: Duration) -> Outcome {
        claim!(self.on(shard) > 0, "no stream is held on {shard}");
        eventually(&format!("the end of all streams on {shard}"), within, || async {
            let left = self.of(shard).filter(|held| held.stream.ended().is_none()).count();
            claim!(left == 0, "{left} of {} are held", self.on(shard));
            Ok(())
        })
        .await
    }

    /// Claims that every stream of a shard has ended as its specification says.
    ///
    /// # Errors
    /// Which did not.
    pub fn all_ended_gracefully_on(&self, shard: &str) -> Outcome {
        claim!(self.on(shard) > 0, "no stream was held on {shard}");
        let graceful = |held: &Held| held.stream.ended().is_some_and(|end: End| end.is_graceful(held.stream.era()));
        let wrong: Vec<_> = self.of(shard).filter(|held| !graceful(held)).map(describe).collect();
        claim!(wrong.is_empty(), "{} of {} streams did not end gracefully: {}", wrong.len(), self.on(shard), wrong.join("; "));
        Ok(())
    }

    /// Claims that the ends of a shard's streams were spread over `window`: the first and the last are at least half of it
    /// apart, and no tenth of it saw more than 35 % of the ends.
    ///
    /// # Errors
    /// How they were spread instead.
    pub fn ends_are_spread_on(&self, shard: &str, window: Duration) -> Outcome {
        spread(&self.of(shard).filter_map(|held| held.stream.ended_at()).collect::<Vec<_>>(), window)
    }
}

fn describe(held: &Held) -> String {
    format!("a {:?} stream on {}: {:?}", held.stream.era(), held.shard, held.stream.ended())
}

fn spread(ends: &[Instant], window: Duration) -> Outcome {
    let (Some(first), Some(last)) = (ends.iter().min(), ends.iter().max()) else { fail!("no stream ended") };
    claim!(*last - *first >= window / 2, "all {} ends fell within {:?} of a window of {window:?}", ends.len(), *last - *first);
    let mut tenths: BTreeMap<u32, usize> = BTreeMap::new();
    for end in ends {
        let tenth = (*end - *first).as_secs_f64() / (window / 10).as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of tenths")]
        let tenth = tenth as u32;
        *tenths.entry(tenth).or_default() += 1;
    }
    let most = tenths.values().max().copied().unwrap_or_default();
    claim!(most * 100 <= ends.len() * 35, "{most} of {} ends fell into one tenth of the window: {tenths:?}", ends.len());
    Ok(())
}

/// How many streams each Ready shard holds.
async fn held_by(cluster: &Cluster) -> Outcome<BTreeMap<String, u64>> {
    let mut held = BTreeMap::new();
    for pod in cluster.ready_pods().await? {
        let streams = Metrics::of(cluster.namespace(), &pod).await?.sum("mcp_streams")?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        held.insert(pod.name_any(), streams as u64);
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn ends(milliseconds: impl Iterator<Item = u64>) -> Vec<Instant> {
        let start = Instant::now();
        milliseconds.map(|after| start + Duration::from_millis(after)).collect()
    }

    #[test]
    fn even_ends_are_spread_and_sudden_ones_are_not() {
        assert_eq!(spread(&ends((0..40).map(|n| n * 250)), WINDOW), Ok(()));
        assert!(spread(&ends((0..40).map(|n| n * 100)), WINDOW).unwrap_err().to_string().contains("fell within 3.9s"));
        let at_once_but_one = ends((0..40).map(|n| if n == 0 { 0 } else { 9_900 }));
        assert!(spread(&at_once_but_one, WINDOW).unwrap_err().to_string().contains("39 of 40 ends"));
        assert!(spread(&[], WINDOW).is_err());
    }
}
