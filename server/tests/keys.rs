//! Keys that change under a running shard: from the mounted file, without a restart, and in every order shards may see them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use harness::{Answered, Running, config};
use mcp_crds::control::{Key, KeyRing};
use mcp_crds::shard::KEYS_FILE;
use mcp_server::session::generated_ring;
use serde_json::json;

const LEGACY: &str = "2025-11-25";

/// What the steps of a rotation put into the file, from `old` to `new`.
struct Rotation {
    old: KeyRing,
    new: KeyRing,
}

impl Rotation {
    fn new() -> Self {
        Self { old: generated_ring(), new: generated_ring() }
    }

    fn distributed(&self) -> KeyRing {
        let both = |old: &[Key], new: &[Key]| [old, new].concat();
        KeyRing {
            session: both(&self.old.session, &self.new.session),
            control: both(&self.old.control, &self.new.control),
            ..self.old.clone()
        }
    }

    fn sealing(&self) -> KeyRing {
        KeyRing { sealing: self.new.sealing.clone(), signing: self.new.signing.clone(), ..self.distributed() }
    }
}

/// Changes the mounted file as the kubelet does: at one moment. Waits until the shard has taken it.
async fn mount(shard: &Running, ring: &KeyRing) {
    give(shard, &serde_json::to_vec(ring).unwrap());
    shard.until("with the new keys", |shard| shard.sessions.ring() == *ring).await;
}

fn give(shard: &Running, bytes: &[u8]) {
    let aside = shard.folder.path().join("aside");
    std::fs::write(&aside, bytes).unwrap();
    std::fs::rename(aside, shard.folder.path().join(KEYS_FILE)).unwrap();
}

async fn started(ring: &KeyRing) -> Running {
    Running::with_keys(Some(&config()), ring.clone(), Duration::from_millis(200)).await
}

async fn open(shard: &Running) -> String {
    shard.client().await.initialize(LEGACY).await.1
}

async fn call(shard: &Running, session: &str) -> Answered {
    shard.client().await.legacy(session, "tools/call", json!({"name": "greet", "arguments": {"name": "Ada"}})).await
}

#[tokio::test]
async fn every_session_is_served_by_every_shard_at_every_step_and_a_retired_key_is_404() {
    let rotation = Rotation::new();
    let [one, other] = [started(&rotation.old).await, started(&rotation.old).await];
    let mut sessions = vec![open(&one).await, open(&other).await];
    for ring in [rotation.distributed(), rotation.sealing()] {
        // One shard sees each change before the other.
        for shard in [&one, &other] {
            mount(shard, &ring).await;
            sessions.extend([open(&one).await, open(&other).await]);
            for session in &sessions {
                for shard in [&one, &other] {
                    let answered = call(shard, session).await;
                    assert_eq!(answered.status, 200, "{answered:?}");
                }
            }
        }
    }
    let fresh = open(&one).await;
    mount(&other, &rotation.new).await;
    assert_eq!(call(&other, &fresh).await.status, 200);
    let refused = call(&other, &sessions[0]).await;
    assert_eq!(refused.status, 404, "the client starts again: {refused:?}");
    assert!(refused.body.contains("sealed with an unknown key"), "{refused:?}");
    assert_eq!(call(&one, &sessions[0]).await.status, 200, "where the key still is");
}

#[tokio::test]
async fn no_call_fails_while_keys_rotate_under_clients_that_call() {
    let rotation = Rotation::new();
    let shards = [Arc::new(started(&rotation.old).await), Arc::new(started(&rotation.old).await)];
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // Sessions begin on one shard and go on on the other, also at the very moment of each change.
    let calling = [0, 1].map(|n| {
        let (one, other) = (Arc::clone(&shards[n]), Arc::clone(&shards[1 - n]));
        let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
        tokio::spawn(async move {
            let oldest = open(&one).await;
            while !stop.load(Ordering::Relaxed) {
                let fresh = open(&one).await;
                for (shard, session) in [(&other, &fresh), (&one, &fresh), (&other, &oldest)] {
                    let answered = call(shard, session).await;
                    assert_eq!(answered.status, 200, "{answered:?}");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    for ring in [rotation.distributed(), rotation.sealing()] {
        for shard in &shards {
            mount(shard, &ring).await;
            let before = calls.load(Ordering::Relaxed);
            shard.until("called meanwhile", |_| calls.load(Ordering::Relaxed) > before + 6).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for calling in calling {
        calling.await.unwrap();
    }
    println!("{} calls through a rotation", calls.load(Ordering::Relaxed));
}

#[tokio::test]
async fn the_load_report_tells_which_keys_are_accepted_and_which_one_seals() {
    let rotation = Rotation::new();
    let mut shard = started(&rotation.old).await;
    let ids = |ring: &KeyRing| ring.session.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
    for ring in [rotation.old.clone(), rotation.distributed(), rotation.sealing(), rotation.new.clone()] {
        mount(&shard, &ring).await;
        shard.ring = ring.clone();
        let report = shard.load(&json!({})).await;
        assert_eq!((report.key_ids, report.sealing_key_id), (ids(&ring), ring.sealing));
    }
}

#[tokio::test]
async fn the_operator_is_believed_with_either_control_key_while_both_are_there() {
    let rotation = Rotation::new();
    let shard = Arc::new(started(&rotation.old).await);
    let (old, new) = (rotation.old.signing_key().unwrap().clone(), rotation.new.signing_key().unwrap().clone());
    // Asked all the time, also at the very moment of each change.
    let stop = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let (shard, stop, old) = (Arc::clone(&shard), Arc::clone(&stop), old.clone());
        async move {
            let mut asked = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let answered = shard.control_signed("/load", &json!({}), &format!("aa{asked:030x}"), &old).await;
                assert_eq!(answered.status, 200, "{answered:?}");
                asked += 1;
            }
            asked
        }
    });
    let before = shard.control_signed("/load", &json!({}), &format!("{:032x}", 1), &new).await;
    assert_eq!((before.status, before.body.as_str()), (401, "unknown control key\n"));
    for (nonce, ring) in (2..).zip([rotation.distributed(), rotation.sealing()]) {
        mount(&shard, &ring).await;
        assert_eq!(shard.control_signed("/load", &json!({}), &format!("{nonce:032x}"), &new).await.status, 200);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(asking.await.unwrap() > 10, "hardly asked");
    mount(&shard, &rotation.new).await;
    assert_eq!(shard.control_signed("/load", &json!({}), &format!("{:032x}", 8), &old).await.status, 401);
    assert_eq!(shard.control_signed("/load", &json!({}), &format!("{:032x}", 9), &new).await.status, 200);
}

#[tokio::test]
async fn keys_that_cannot_be_used_change_nothing_and_the_next_ones_are_taken() {
    let rotation = Rotation::new();
    let shard = started(&rotation.old).await;
    let session = open(&shard).await;
    let unsealed = serde_json::to_vec(&KeyRing { sealing: "ffffffff".to_owned(), ..rotation.old.clone() }).unwrap();
    for broken in [b"".to_vec(), b"{}".to_vec(), unsealed] {
        give(&shard, &broken);
        let asked = shard.load(&json!({})).await.seq;
        assert_eq!(call(&shard, &session).await.status, 200, "after {asked} reports");
    }
    std::fs::remove_file(shard.folder.path().join(KEYS_FILE)).unwrap();
    mount(&shard, &rotation.distributed()).await;
    assert_eq!(call(&shard, &session).await.status, 200);
}
