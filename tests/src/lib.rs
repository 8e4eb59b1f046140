//! The harness of the tests that run on a real Kubernetes cluster.
//!
//! ```text
//! target     which cluster: named, never guessed
//! run        one run of the tests: the client, the kubectl, the leftovers of runs that died
//! namespace  one namespace for each test, removed afterwards, explained on failure
//! machine    the machine under the local cluster: cables pulled, parts stopped, and all of it undone
//! operator   an operator of one namespace, for tests that disturb it
//! apply      YAML → server-side apply, with the API server's own validation
//! cluster    an McpCluster under test: its status, its shards, its events
//! reach      how a Service or a pod is reached from here
//! relay      a port of localhost that leads to one of those
//! mcp/       MCP clients of both eras, and streams that say how they ended
//! endpoints  the endpoints of the client Service, watched without a gap
//! farewell   how a shard ends, asked past the Service
//! wire       HTTP/1.1 by hand: a client that reads only when it wants to
//! traffic/   calls at a fixed rate and held streams: what was lost, counted on the client's side
//! record     every status that is written, and what must hold of each and of each pair
//! wait       waiting for a condition, with what was last seen
//! failure    why a test failed
//! diagnose   what a person wants to read then
//! roles      what the operator's manifests let it do
//! process    the processes of a pod: kill, stop, let go on
//! audit, cgroup, metrics, table      readers of what is not the Kubernetes API
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod apply;
pub mod audit;
pub mod cgroup;
pub mod cluster;
pub mod diagnose;
pub mod endpoints;
pub mod failure;
pub mod farewell;
pub mod machine;
pub mod mcp;
pub mod metrics;
pub mod namespace;
pub mod operator;
pub mod process;
pub mod reach;
pub mod record;
pub mod relay;
pub mod roles;
pub mod run;
pub mod table;
pub mod target;
pub mod traffic;
pub mod wait;
pub mod wire;

pub use cluster::Cluster;
pub use failure::{Failure, Outcome};
pub use namespace::{Namespace, Operated};
pub use operator::Operator;
pub use run::Run;
pub use traffic::{Rate, Traffic};
