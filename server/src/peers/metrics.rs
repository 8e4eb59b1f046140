//! What the mesh counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the time until all live peers have answered, seconds.
const BUCKETS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 3.0];

/// Metrics of the mesh.
#[derive(Clone, Debug)]
pub struct PeerMetrics {
    pub(super) linked: Gauge,
    pub(super) listed: Gauge,
    pub(super) ended: Family<WhyLabel, Counter>,
    pub(super) strangers: Counter,
    pub(super) events_sent: Counter,
    pub(super) events_heard: Counter,
    pub(super) events_repeated: Counter,
    pub(super) events_lost: Counter,
    pub(super) asks: Family<OutcomeLabel, Counter>,
    pub(super) everywhere_seconds: Histogram,
    pub(super) refused: Family<WhatLabel, Counter>,
}

/// Why a connection to a peer ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WhyLabel {
    pub(super) why: &'static str,
}

/// What became of a question to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    pub(super) outcome: &'static str,
}

/// What there was no room for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WhatLabel {
    pub(super) what: &'static str,
}

impl Default for PeerMetrics {
    fn default() -> Self {
        Self {
            linked: Gauge::default(),
            listed: Gauge::default(),
            ended: Family::default(),
            strangers: Counter::default(),
            events_sent: Counter::default(),
            events_heard: Counter::default(),
            events_repeated: Counter::default(),
            events_lost: Counter::default(),
            asks: Family::default(),
            everywhere_seconds: Histogram::new(BUCKETS),
            refused: Family::default(),
        }
    }
}

impl PeerMetrics {
    /// Shows them on the admin port.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("mcp_peers_linked", "Peers with a live connection", self.linked.clone());
        registry.register("mcp_peers_listed", "Other shards of the list the operator sent", self.listed.clone());
        registry.register("mcp_peer_links_ended", "Connections to peers that ended, by why", self.ended.clone());
        registry.register("mcp_peer_strangers", "Greetings refused: no key of the cluster", self.strangers.clone());
        registry.register("mcp_peer_events_sent", "Events sent to peers, each peer counted", self.events_sent.clone());
        registry.register("mcp_peer_events_heard", "Events of peers given to streams here", self.events_heard.clone());
        registry.register("mcp_peer_events_repeated", "Events of peers that had come before", self.events_repeated.clone());
        registry.register("mcp_peer_events_lost", "Times a peer was away or slow for too many events", self.events_lost.clone());
        registry.register("mcp_sessions_refused", "Times there was no room to remember of a session", self.refused.clone());
        registry.register("mcp_peer_asks", "Questions to peers, by outcome", self.asks.clone());
        registry.register(
            "mcp_peer_everywhere_seconds",
            "Time until every live peer had confirmed the end of a session",
            self.everywhere_seconds.clone(),
        );
    }
}
