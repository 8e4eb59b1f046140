//! A session that was ended is ended everywhere.

use std::time::Duration;

use futures::future::join_all;
use mcp_server::peers::REVOKE_TIME;
use mcp_server::session::TokenError;
use mcp_server::shard::{Shard, epoch_seconds};
use tokio::time::Instant;

use super::cluster::{Cluster, delete, list_tools, open, stream};

/// Ends sessions from every shard but the newcomer at once, the nth session from the nth shard; returns how long each took.
async fn end_all(cluster: &Cluster, newcomer: &str, sessions: &[&str]) -> Vec<Duration> {
    let shards: Vec<_> = cluster.shards.iter().filter(|(name, _)| *name != newcomer).map(|(_, shard)| shard).collect();
    let count = shards.len();
    let ended = join_all(shards.into_iter().enumerate().map(|(n, shard)| async move {
        let mut client = shard.client().await;
        let mut took = Vec::new();
        for session in sessions.iter().skip(n).step_by(count) {
            let start = Instant::now();
            let answered = delete(&mut client, session).await;
            took.push(start.elapsed());
            assert_eq!(answered.status, 204, "{answered:?}");
        }
        took
    }));
    ended.await.concat()
}

fn print(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!("DELETE {what}: p50 {:?} p99 {:?} max {:?}", at(50), at(99), at(100));
}

/// What a shard knows of a session, without a request: 10,000 sessions on 24 shards are many.
fn is_ended(shard: &Shard, session: &str) -> bool {
    shard.sessions.open(session, epoch_seconds()) == Err(TokenError::Ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sessions_ended_on_twenty_shards_are_404_on_each_and_on_those_that_begin_meanwhile() {
    const SHARDS: usize = 20;
    const SESSIONS: usize = 10_000;
    let mut cluster = Cluster::of(SHARDS).await;
    let opened = join_all(cluster.shards.values().map(|shard| async {
        let mut client = shard.client().await;
        let mut sessions = Vec::new();
        for _ in 0..=SESSIONS / SHARDS {
            sessions.push(client.initialize("2025-11-25").await.1);
        }
        sessions
    }))
    .await;
    let sessions: Vec<&str> = opened.iter().flat_map(|sessions| &sessions[1..]).map(String::as_str).collect();
    let (mut took, mut checked) = (Vec::new(), 0);
    for (round, quarter) in sessions.chunks(SESSIONS / 4).enumerate() {
        // One more shard begins; it is told of the others, and they of it, while sessions end.
        let newcomer = cluster.create().await;
        cluster.enlist();
        let (times, ()) = tokio::join!(end_all(&cluster, &newcomer, quarter), cluster.tell());
        took.extend(times);
        cluster.shards[&newcomer].until("ready", Shard::is_ready).await;
        for (name, shard) in &cluster.shards {
            // The newcomer knows of all that ended before, too.
            let gone = if *name == newcomer { &sessions[..(round + 1) * SESSIONS / 4] } else { quarter };
            for session in gone {
                assert!(is_ended(&shard.shard, session));
                checked += 1;
            }
        }
        // And as a client sees it, the newest shard among them.
        for shard in [0, 7, 13, cluster.shards.len() - 1] {
            for session in quarter.iter().step_by(50) {
                let answered = list_tools(cluster.shard(shard), session).await;
                assert_eq!(answered.status, 404, "{answered:?}");
            }
        }
    }
    print("20 at a time, in one process", took);
    // One after the other: what the way to 23 peers and back takes.
    let mut alone = Vec::new();
    for session in opened.iter().map(|sessions| &sessions[0]) {
        let mut client = cluster.shard(3).client().await;
        let start = Instant::now();
        assert_eq!(delete(&mut client, session).await.status, 204);
        alone.push(start.elapsed());
    }
    print("one at a time", alone);
    println!("{checked} looks at {SESSIONS} sessions on {SHARDS} shards and 4 newcomers");
}

#[tokio::test]
async fn a_session_is_ended_from_any_shard_and_its_stream_elsewhere_ends() {
    let cluster = Cluster::of(3).await;
    let session = open(cluster.shard(0)).await;
    let mut held = stream(cluster.shard(1), &session).await;
    let other = open(cluster.shard(0)).await;
    let answered = delete(&mut cluster.shard(2).client().await, &session).await;
    assert_eq!(answered.status, 204, "{answered:?}");
    held.rest().await;
    for shard in cluster.shards.values() {
        assert_eq!(list_tools(shard, &session).await.status, 404);
        assert_eq!(delete(&mut shard.client().await, &session).await.status, 404);
        assert_eq!(list_tools(shard, &other).await.status, 200, "another session goes on");
    }
}

#[tokio::test]
async fn a_shard_that_begins_later_knows_what_has_ended_before_it_is_ready() {
    let mut cluster = Cluster::of(3).await;
    let session = open(cluster.shard(0)).await;
    assert_eq!(delete(&mut cluster.shard(1).client().await, &session).await.status, 204);
    let newcomer = cluster.create().await;
    assert!(!cluster.shards[&newcomer].shard.is_ready(), "nobody has told it of the others");
    assert_eq!(list_tools(&cluster.shards[&newcomer], &session).await.status, 503);
    cluster.enlist();
    cluster.tell().await;
    cluster.shards[&newcomer].until("ready", Shard::is_ready).await;
    assert_eq!(list_tools(&cluster.shards[&newcomer], &session).await.status, 404);
}

#[tokio::test]
async fn the_memory_of_the_ended_outlives_every_process_that_was_there() {
    let mut cluster = Cluster::of(2).await;
    let session = open(cluster.shard(0)).await;
    assert_eq!(delete(&mut cluster.shard(0).client().await, &session).await.status, 204);
    for _ in 0..3 {
        let oldest = cluster.shards.keys().next().unwrap().clone();
        cluster.create().await;
        cluster.enlist();
        cluster.tell().await;
        cluster.until_whole().await;
        cluster.kill(&oldest).await;
    }
    for shard in cluster.shards.values() {
        assert_eq!(list_tools(shard, &session).await.status, 404);
    }
}

#[tokio::test]
async fn a_dead_shard_does_not_keep_a_session_from_ending() {
    let mut cluster = Cluster::of(3).await;
    let session = open(cluster.shard(2)).await;
    cluster.kill("c-02").await;
    // It is on the list still: the operator has not looked yet.
    let start = Instant::now();
    let answered = delete(&mut cluster.shard(0).client().await, &session).await;
    assert_eq!(answered.status, 204, "{answered:?}");
    println!("DELETE beside a shard that was killed a moment ago: {:?}", start.elapsed());
    assert_eq!(list_tools(cluster.shard(1), &session).await.status, 404);
}

#[tokio::test]
async fn a_shard_that_is_silent_is_not_confirmed_for() {
    let cluster = Cluster::of(2).await;
    // A member that accepts, and then says nothing: its host hangs.
    let session = open(cluster.shard(0)).await;
    let silent = silent_member(&cluster).await;
    let start = Instant::now();
    let answered = delete(&mut cluster.shard(0).client().await, &session).await;
    assert_eq!(answered.status, 503, "{answered:?}");
    assert!(answered.header("retry-after").is_some() && start.elapsed() >= REVOKE_TIME, "{answered:?}");
    drop(silent);
    // It ended nevertheless wherever it was heard.
    assert_eq!(list_tools(cluster.shard(1), &session).await.status, 404);
}

/// Greets the first shard as a member would, and says nothing more.
async fn silent_member(cluster: &Cluster) -> super::links::Stranger {
    let mut member = super::links::Stranger::dial(cluster.shard(0)).await;
    member.greet(&cluster.ring, "c-99").await.unwrap();
    cluster.shard(0).until("connected with it", |shard| shard.peers.linked().contains(&"c-99".to_owned())).await;
    member
}
