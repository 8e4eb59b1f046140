//! The keys of a cluster over whole passes: rotated in steps, put back, and never overwritten.

use mcp_crds::control::KeyRing;

use super::*;
use crate::keys::{CLOCKS, Record, SETTLES};
use crate::names;

const SMALL: &str = "{replicas: 1, resources: {limits: {memory: 512Mi}}, transport: {sessionLifetime: 1m}}";
const VALUE: &str = "2026-11-23T10:00:00Z";
const SECRET: &str = "secrets/tools-keys";

fn asks(world: &mut World, value: &str) {
    world.change(|cluster| {
        let annotations = cluster.metadata.annotations.get_or_insert_default();
        annotations.insert(names::ANNOTATION_ROTATE_KEYS.to_owned(), value.to_owned());
    });
}

fn stored(world: &World) -> k8s_openapi::api::core::v1::Secret {
    serde_json::from_value(world.api.object(SECRET).unwrap()).unwrap()
}

fn ring(world: &World) -> KeyRing {
    desired::key_ring(&stored(world)).unwrap()
}

fn record(world: &World) -> Record {
    Record::read(&stored(world).metadata.annotations.unwrap()[names::ANNOTATION_ROTATION]).unwrap()
}

/// Somebody else writes the Secret; the operator does not notice.
fn edit(world: &World, change: impl FnOnce(&mut Value)) {
    let mut secret = world.api.object(SECRET).unwrap();
    change(&mut secret);
    secret["metadata"]["resourceVersion"] = json!("somebody-else");
    let _ = world.api.clone().with(SECRET, secret);
}

/// As much time has passed since the last step as a wait takes.
fn pass_time(world: &World, change: impl FnOnce(&mut Record)) {
    let mut record = record(world);
    change(&mut record);
    edit(world, |secret| secret["metadata"]["annotations"][names::ANNOTATION_ROTATION] = json!(record.written()));
    look_again(world);
}

/// The minute between two looks has passed.
fn look_again(world: &World) {
    world.context.remember(&world.cluster, |memory| memory.keys.as_mut().unwrap().1 = Timestamp::UNIX_EPOCH);
}

fn before(time: Duration) -> Timestamp {
    Timestamp::now() - time
}

/// The pass's writes, but for status: here an annotation comes with a new generation.
async fn writes(world: &World) -> Vec<String> {
    world.pass().await.into_iter().filter(|line| !line.ends_with("/status")).collect()
}

/// The pass's writes to the Secret.
async fn secret_writes(world: &World) -> Vec<String> {
    world.pass().await.into_iter().filter(|line| line.contains(SECRET)).collect()
}

async fn settled() -> World {
    let world = World::new(SMALL).await;
    for _ in 0..3 {
        world.pass().await;
    }
    world
}

#[tokio::test]
async fn a_new_value_rotates_the_keys_once_and_pods_are_touched_at_each_change() {
    let mut world = settled().await;
    let first = ring(&world);
    asks(&mut world, VALUE);
    assert_eq!(writes(&world).await, ["PATCH secrets/tools-keys", "PATCH pods/tools-0"]);
    let distributed = ring(&world);
    assert_eq!((&distributed.sealing, &distributed.signing), (&first.sealing, &first.signing));
    assert_eq!((distributed.session.len(), distributed.control.len()), (2, 2));
    assert_eq!(writes(&world).await, [""; 0], "no sooner than a container that just started is seen");

    pass_time(&world, |record| record.distributed_at = Some(before(SETTLES)));
    assert_eq!(writes(&world).await, ["PATCH secrets/tools-keys", "PATCH pods/tools-0"]);
    let sealing = ring(&world);
    assert_eq!((&sealing.sealing, &sealing.signing), (&distributed.session[1].id, &distributed.control[1].id));
    // The pod of this test runs nothing, so nobody is waited for.
    assert_eq!(writes(&world).await, ["PATCH secrets/tools-keys"]);
    assert_eq!(ring(&world), sealing);

    assert_eq!(writes(&world).await, [""; 0], "sessions of the old key live");
    pass_time(&world, |record| record.sealed_at = Some(before(CLOCKS + Duration::from_mins(1))));
    assert_eq!(writes(&world).await, ["PATCH secrets/tools-keys", "PATCH pods/tools-0"]);
    assert_eq!((ring(&world).session, ring(&world).control), (sealing.session[1..].to_vec(), sealing.control[1..].to_vec()));

    look_again(&world);
    assert_eq!(writes(&world).await, [""; 0], "the same value again does nothing");
    asks(&mut world, "2026-11-23T12:00:00+02:00");
    assert_eq!(secret_writes(&world).await, [""; 0], "nor does another spelling of it");
}

#[tokio::test]
async fn a_new_process_goes_on_where_the_last_one_ended() {
    let mut world = settled().await;
    asks(&mut world, VALUE);
    world.pass().await;
    let distributed = ring(&world);
    pass_time(&world, |record| record.distributed_at = Some(before(SETTLES)));
    world.context.memories.forget(world.cluster.metadata.uid.as_deref().unwrap());
    assert_eq!(secret_writes(&world).await, ["PATCH secrets/tools-keys"]);
    assert_eq!(ring(&world).session, distributed.session);
    assert_eq!(ring(&world).sealing, distributed.session[1].id);
}

#[tokio::test]
async fn what_somebody_else_writes_meanwhile_is_not_overwritten() {
    let mut world = settled().await;
    edit(&world, |secret| secret["data"]["mine"] = json!("bWluZQ=="));
    asks(&mut world, VALUE);
    assert_eq!(secret_writes(&world).await, ["PATCH secrets/tools-keys"], "refused: it is another version");
    assert_eq!(ring(&world).session.len(), 1);
    assert_eq!(secret_writes(&world).await, ["PATCH secrets/tools-keys"], "read again, and done");
    assert_eq!(ring(&world).session.len(), 2);
    assert_eq!(world.api.object(SECRET).unwrap()["data"]["mine"], "bWluZQ==");
}

#[tokio::test]
async fn keys_that_are_deleted_in_the_middle_are_put_back_and_the_rotation_goes_on() {
    let mut world = settled().await;
    asks(&mut world, VALUE);
    world.pass().await;
    let (keys, known) = (ring(&world), record(&world));
    world.api.remove(SECRET);
    look_again(&world);
    assert_eq!(secret_writes(&world).await, ["POST secrets/tools-keys"]);
    assert_eq!((ring(&world), record(&world)), (keys, known));
    // Deleted between the look and the write.
    pass_time(&world, |record| record.distributed_at = Some(before(SETTLES)));
    world.pass().await;
    let keys = ring(&world);
    world.api.remove(SECRET);
    world.pass().await;
    world.pass().await;
    assert_eq!(ring(&world).session, keys.session);
}

#[tokio::test]
async fn a_person_may_cut_the_old_keys_off() {
    let mut world = settled().await;
    asks(&mut world, VALUE);
    world.pass().await;
    pass_time(&world, |record| record.distributed_at = Some(before(SETTLES)));
    world.pass().await;
    world.pass().await;
    let both = ring(&world);
    let cut = KeyRing { session: both.session[1..].to_vec(), control: both.control[1..].to_vec(), ..both };
    let file = k8s_openapi::ByteString(desired::key_ring_file(&cut));
    edit(&world, |secret| secret["data"][shard::KEYS_FILE] = json!(file));
    look_again(&world);
    assert_eq!(secret_writes(&world).await, ["PATCH secrets/tools-keys"], "only the record: the rotation has ended");
    assert_eq!(ring(&world), cut);
    assert_eq!(secret_writes(&world).await, [""; 0]);
}

#[tokio::test]
async fn a_value_that_is_no_time_is_told_once_and_nothing_else_is_done() {
    let mut world = settled().await;
    asks(&mut world, "tomorrow");
    reconcile(world.cluster.clone(), world.context.clone()).await.unwrap();
    reconcile(world.cluster.clone(), world.context.clone()).await.unwrap();
    let writes = world.api.take_writes();
    let events: Vec<_> = writes.iter().filter(|asked| asked.line().contains("events/")).map(|asked| &asked.body).collect();
    assert_eq!(events.len(), 1, "{writes:?}");
    assert_eq!((&events[0]["type"], &events[0]["reason"]), (&json!("Warning"), &json!("KeysRotationInvalid")));
    assert!(events[0]["note"].as_str().unwrap().contains("\"tomorrow\" is no RFC 3339 time"), "{}", events[0]["note"]);
    assert!(writes.iter().all(|asked| !asked.line().contains(SECRET)), "{writes:?}");
}

#[tokio::test]
async fn a_paused_cluster_keeps_its_keys_as_they_are_and_goes_on_afterwards() {
    let mut world = settled().await;
    world.change(|cluster| cluster.spec.paused = true);
    asks(&mut world, VALUE);
    assert_eq!(secret_writes(&world).await, [""; 0]);
    // A new process knows the keys of a paused cluster: it hears its shards.
    world.context.memories.forget(world.cluster.metadata.uid.as_deref().unwrap());
    assert_eq!(secret_writes(&world).await, [""; 0]);
    assert!(world.context.remember(&world.cluster, |memory| memory.keys.is_some()));
    world.change(|cluster| cluster.spec.paused = false);
    assert_eq!(secret_writes(&world).await, ["PATCH secrets/tools-keys"]);
}

#[tokio::test]
async fn first_keys_are_made_for_what_was_asked_before() {
    let mut world = World::new(SMALL).await;
    asks(&mut world, VALUE);
    world.pass().await;
    world.pass().await;
    assert_eq!((ring(&world).session.len(), record(&world).seen), (1, vec![VALUE.parse().unwrap()]));
}

#[tokio::test]
async fn keys_that_a_deleted_cluster_left_are_adopted_with_its_sessions() {
    let mut world = settled().await;
    let keys = ring(&world);
    edit(&world, |secret| {
        secret["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    });
    world.change(|cluster| cluster.metadata.uid = Some("22222222-2222-3333-4444-555555555555".into()));
    assert_eq!(secret_writes(&world).await, [""; 0], "a resource that is not there adopts nothing");
    world.api.put("mcpclusters/tools", serde_json::to_value(&*world.cluster).unwrap());
    assert_eq!(secret_writes(&world).await, ["PATCH secrets/tools-keys"]);
    assert!(desired::owned_by(&stored(&world).metadata, &world.cluster));
    assert_eq!(ring(&world), keys);
}

#[tokio::test]
async fn a_step_is_told_also_when_the_status_cannot_be_written() {
    let refuses: Refusal = |asked| asked.line().ends_with("/status").then_some(403);
    let mut world = World::refusing(SMALL, refuses).await;
    for _ in 0..3 {
        let _ = reconcile(world.cluster.clone(), world.context.clone()).await;
    }
    asks(&mut world, VALUE);
    world.api.take_writes();
    assert!(reconcile(world.cluster.clone(), world.context.clone()).await.is_err());
    let told = |asked: &Asked| asked.body["reason"] == "KeysRotating";
    let writes = world.api.take_writes();
    assert_eq!(writes.iter().filter(|asked| told(asked)).count(), 1, "{writes:?}");
}
