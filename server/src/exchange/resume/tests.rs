use std::task::Waker;

use futures::StreamExt as _;
use tokio::sync::oneshot;

use super::*;
use crate::exchange::Exchange;
use crate::mcp::logging::LoggingLevel;
use crate::session::{Sessions, generated_ring, random};

const SESSION: SessionKey = SessionKey { incarnation: [1; 16], number: 7 };

struct World {
    resumes: Arc<Resumes>,
    load: Arc<Load>,
    outbox: Arc<Outbox>,
    exchange: Exchange,
}

fn world() -> World {
    let sessions = Sessions::new(random(), generated_ring()).unwrap();
    let load: Arc<Load> = Arc::default();
    let resumes = Arc::new(Resumes::new(sessions.incarnation(), sessions.tagger(), Arc::clone(&load)));
    let outbox = Arc::new(Outbox::new(true));
    outbox.belongs_to(SESSION, Version::V2025_11_25);
    let exchange = Exchange::test().on(&outbox).with_level(Some(LoggingLevel::Debug));
    World { resumes, load, outbox, exchange }
}

impl World {
    /// A stream whose request ends when the sender says so, with what it says.
    fn begin(&self) -> (Reader, oneshot::Sender<Vec<u8>>) {
        let (ends, ended) = oneshot::channel::<Vec<u8>>();
        let in_flight = self.load.request(100);
        let owner = self.outbox.owner().unwrap();
        (self.resumes.begin(&self.outbox, owner, async move { ended.await.ok() }, in_flight, 1000), ends)
    }

    fn log(&self, text: &str) {
        self.exchange.log(LoggingLevel::Info, None, &text.into());
    }

    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn counts(&self) -> (u64, u64, u64, usize) {
        (self.load.unfinished(), self.load.orphans(), self.load.replay_bytes(), self.resumes.kept())
    }
}

/// What a reader has before it must wait.
fn read(reader: &mut Reader) -> Vec<String> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut read = vec![];
    while let Poll::Ready(Some(event)) = reader.poll_next_unpin(&mut cx) {
        read.push(String::from_utf8(event.to_vec()).unwrap());
    }
    read
}

fn id(event: &str) -> &str {
    event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap()
}

fn place(world: &World, event: &str) -> (u64, u64) {
    let Whereabouts::Here(slot, number) = world.resumes.find(SESSION, id(event)) else { panic!("{event}") };
    (slot, number)
}

#[tokio::test]
async fn event_ids_name_their_stream_and_are_good_in_their_session_only() {
    let world = world();
    let (mut reader, _ends) = world.begin();
    world.log("a");
    let events = read(&mut reader);
    assert_eq!((place(&world, &events[0]), place(&world, &events[1])), ((1, 0), (1, 1)));
    let other = SessionKey { number: 8, ..SESSION };
    assert_eq!(world.resumes.find(other, id(&events[1])), Whereabouts::Forged);
    let text = id(&events[1]);
    for at in 0..text.len() {
        let mut forged = text.to_owned().into_bytes();
        forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(world.resumes.find(SESSION, &forged), Whereabouts::Forged, "{forged}");
    }
    assert!(world.resumes.resume(other, 1, 0).is_none() && world.resumes.resume(SESSION, 2, 0).is_none());
    assert!(world.resumes.resume(SESSION, 1, 2).is_none(), "an event that was not there yet");
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_the_oldest_notifications_go_first() {
    let world = world();
    let (mut reader, ends) = world.begin();
    let text = "x".repeat(15 << 10);
    let mut first = None;
    for _ in 0..200 {
        world.log(&text);
        first = first.or(read(&mut reader).pop());
    }
    assert!(world.load.replay_bytes() <= MAX_REPLAY as u64 && world.load.replay_bytes() > MAX_REPLAY as u64 * 9 / 10);
    assert_eq!(world.outbox.dropped(), 0, "all were sent");
    let (slot, number) = place(&world, &first.unwrap());
    drop(reader);
    assert_eq!((world.load.orphans(), world.load.in_flight()), (1, 1));
    let mut again = world.resumes.resume(SESSION, slot, number).unwrap();
    let rest = read(&mut again);
    assert!(rest.len() < 80 && rest.len() > 50, "{} are left", rest.len());
    assert_eq!(place(&world, rest.last().unwrap()), (slot, 200));
    ends.send(b"{}".to_vec()).unwrap();
    world.settle().await;
    assert_eq!(read(&mut again).len(), 1);
    world.settle().await;
    assert_eq!(world.counts(), (0, 0, 0, 0));
}

#[tokio::test]
async fn a_response_too_large_for_a_client_that_is_away_is_an_error_of_its_request() {
    for goes_first in [true, false] {
        let world = world();
        let (mut reader, ends) = world.begin();
        let (slot, _) = place(&world, &read(&mut reader)[0]);
        let large = format!(r#"{{"jsonrpc":"2.0","id":"q","result":{{"x":"{}"}}}}"#, "x".repeat(MAX_REPLAY));
        let mut reader = Some(reader);
        if goes_first {
            reader = None;
        }
        ends.send(large.into_bytes()).unwrap();
        world.settle().await;
        drop(reader);
        let mut again = world.resumes.resume(SESSION, slot, 0).unwrap();
        let events = read(&mut again);
        assert!(events[0].contains(r#""id":"q""#) && events[0].contains("-32603"), "{events:?}");
        world.settle().await;
        assert_eq!(world.counts(), (0, 0, 0, 0));
    }
}

#[tokio::test]
async fn a_response_of_any_size_reaches_a_client_that_is_there() {
    let world = world();
    let (mut reader, ends) = world.begin();
    ends.send(vec![b'1'; 3 * MAX_REPLAY]).unwrap();
    world.settle().await;
    assert!(read(&mut reader).last().unwrap().len() > 3 * MAX_REPLAY);
    world.settle().await;
    assert_eq!(world.counts(), (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_response_nobody_comes_back_for_is_forgotten_in_time() {
    let world = world();
    let (mut reader, ends) = world.begin();
    let (slot, _) = place(&world, &read(&mut reader)[0]);
    drop(reader);
    ends.send(b"{}".to_vec()).unwrap();
    world.settle().await;
    assert_eq!((world.load.in_flight(), world.load.unfinished(), world.load.orphans()), (0, 1, 1));
    tokio::time::sleep(RESULT_KEPT.checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(world.resumes.kept(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(world.resumes.resume(SESSION, slot, 0).is_none());
    assert_eq!(world.counts(), (0, 0, 0, 0));
}

#[tokio::test]
async fn past_the_bound_of_requests_without_client_one_ends_with_its_connection_and_none_is_left() {
    let world = world();
    let others: Vec<_> = (0..MAX_ORPHANS).map(|_| world.load.orphan(MAX_ORPHANS).unwrap()).collect();
    let (reader, ends) = world.begin();
    assert!(!world.exchange.close_stream(), "its client must stay");
    drop(reader);
    world.settle().await;
    assert!(ends.is_closed(), "it was ended");
    assert_eq!(world.resumes.kept(), 0);
    drop(others);
    let world = self::world();
    let (mut reader, ends) = world.begin();
    assert!(world.exchange.close_stream());
    assert_eq!(read(&mut reader).len(), 1);
    assert_eq!(world.load.orphans(), 1, "there is room for it before it is told so");
    drop(reader);
    assert!(!ends.is_closed() && !world.exchange.close_stream(), "nobody is there to leave");
}

#[tokio::test]
async fn another_shard_gets_events_in_batches_and_the_end_once_it_has_all() {
    let world = world();
    let (mut reader, ends) = world.begin();
    let (slot, _) = place(&world, &read(&mut reader)[0]);
    drop(reader);
    world.log("a");
    let wait = Duration::from_millis(1);
    let first = world.resumes.batch(SESSION, slot, 0, 0, Duration::ZERO).await.unwrap();
    assert!(first.events.contains("\"a\"") && first.after == 1 && !first.ended);
    let none = world.resumes.batch(SESSION, slot, 1, first.reader, wait).await.unwrap();
    assert_eq!((none.events.as_str(), none.ended), ("", false));
    ends.send(b"{}".to_vec()).unwrap();
    world.settle().await;
    let last = world.resumes.batch(SESSION, slot, 1, first.reader, wait).await.unwrap();
    assert!(last.events.contains("data: {}") && !last.ended, "it may still be lost on its way: {last:?}");
    let again = world.resumes.batch(SESSION, slot, 1, first.reader, wait).await.unwrap();
    assert_eq!(again, last);
    let end = world.resumes.batch(SESSION, slot, 2, first.reader, wait).await.unwrap();
    assert!(end.ended && end.events.is_empty());
    world.settle().await;
    assert_eq!(world.counts(), (0, 0, 0, 0));
}
