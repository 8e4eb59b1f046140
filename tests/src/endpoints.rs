//! The endpoints of the client Service, watched without a gap: a client must never meet an empty Service.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::claim;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::wait::eventually;

/// A watch of the endpoints of a cluster's client Service. Dropping it ends the watch.
#[derive(Debug)]
pub struct Endpoints {
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
}

/// What was seen, oldest first; only what differs from the one before.
#[derive(Debug, Default)]
struct Seen {
    slices: BTreeMap<String, EndpointSlice>,
    states: Vec<State>,
}

/// The endpoints at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    after: Duration,
    /// Shards that get new connections.
    ready: Vec<String>,
    /// Shards that end and still answer: they get new connections when no other is there.
    serving: Vec<String>,
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Endpoints {
    /// Watches from now on; returns when the first state was seen.
    ///
    /// # Errors
    /// When none is.
    pub async fn watch(cluster: &Cluster) -> Outcome<Self> {
        let of_service = Config::default().labels(&format!("kubernetes.io/service-name={}", cluster.name()));
        let events = watcher(cluster.namespace().api::<EndpointSlice>(), of_service);
        let seen = Arc::<Mutex<Seen>>::default();
        let reader = {
            let seen = seen.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                pin_mut!(events);
                while let Some(event) = events.next().await {
                    // What breaks a watch is tried again by it.
                    if let Ok(event) = event {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).take(event, begun.elapsed());
                    }
                }
            })
        };
        let endpoints = Self { seen, reader };
        eventually("the endpoints of the client Service", Duration::from_secs(20), || async {
            endpoints.now().map(|_| ()).ok_or_else(|| Failure::new("none"))
        })
        .await?;
        Ok(endpoints)
    }

    /// The shards that get new connections now; none before anything was seen.
    pub fn now(&self) -> Option<Vec<String>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.states.last().map(|state| state.ready.clone())
    }

    /// Claims that at no time since the start the Service had nobody to send a connection to.
    ///
    /// # Errors
    /// When it had, with all that was seen.
    pub fn never_empty(&self) -> Outcome {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = seen.states.iter().filter(|state| state.ready.is_empty() && state.serving.is_empty()).count();
        claim!(!seen.states.is_empty(), "nothing was seen of the Service");
        claim!(empty == 0, "the client Service was empty {empty} times:\n{}", describe(&seen.states));
        Ok(())
    }

    /// All that was seen.
    pub fn history(&self) -> String {
        describe(&self.seen.lock().unwrap_or_else(PoisonError::into_inner).states)
    }
}

impl Seen {
    fn take(&mut self, event: Event<EndpointSlice>, after: Duration) {
        match event {
            Event::Init => {
                self.slices.clear();
                return;
            }
            Event::InitApply(slice) => {
                self.slices.insert(slice.name_any(), slice);
                return;
            }
            Event::InitDone => {}
            Event::Apply(slice) => {
                self.slices.insert(slice.name_any(), slice);
            }
            Event::Delete(slice) => {
                self.slices.remove(&slice.name_any());
            }
        }
        let names = |wanted: fn(&Endpoint) -> bool| {
            let endpoints = self.slices.values().flat_map(|slice| &slice.endpoints).filter(|endpoint| wanted(endpoint));
            let mut names: Vec<_> = endpoints.filter_map(|e| e.target_ref.as_ref()?.name.clone()).collect();
            names.sort();
            names
        };
        let is_ready = |endpoint: &Endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        let serves =
            |endpoint: &Endpoint| endpoint.conditions.as_ref().is_some_and(|c| c.ready == Some(false) && c.serving == Some(true));
        let state = State { after, ready: names(is_ready), serving: names(serves) };
        let before = self.states.last();
        if before.is_none_or(|before| (&before.ready, &before.serving) != (&state.ready, &state.serving)) {
            self.states.push(state);
        }
    }
}

fn describe(states: &[State]) -> String {
    states.iter().fold(String::new(), |mut text, state| {
        let _ = write!(text, "  {:7.3} s: {}", state.after.as_secs_f64(), state.ready.join(" "));
        if !state.serving.is_empty() {
            let _ = write!(text, "; ending, still serving: {}", state.serving.join(" "));
        }
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(endpoints: &[(&str, bool, bool)]) -> EndpointSlice {
        let endpoint = |(name, ready, serving): &(&str, bool, bool)| json!({"addresses": ["10.0.0.1"], "targetRef": {"name": name}, "conditions": {"ready": ready, "serving": serving}});
        let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
        serde_json::from_value(json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": endpoints})).unwrap()
    }

    fn watched(states: &[&[(&str, bool, bool)]]) -> Outcome {
        let mut seen = Seen::default();
        for state in states {
            seen.take(Event::Apply(slice(state)), Duration::ZERO);
        }
        let empty = seen.states.iter().any(|state| state.ready.is_empty() && state.serving.is_empty());
        claim!(!empty, "{}", describe(&seen.states));
        Ok(())
    }

    #[test]
    fn a_shard_that_ends_and_still_answers_is_somebody_to_talk_to_and_an_unready_one_is_not() {
        assert_eq!(watched(&[&[("a", true, true)], &[("a", false, true)]]), Ok(()));
        assert!(watched(&[&[("a", true, true)], &[("a", false, false)]]).is_err());
        assert!(watched(&[&[("a", true, true)], &[], &[("b", true, true)]]).is_err());
    }
}
