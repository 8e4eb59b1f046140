//! Claims about held streams.

use std::future::poll_fn;

use super::*;
use crate::limits::STALLED_PERIODS;
use crate::load::Load;
use crate::mcp::subscriptions::Filter;
use crate::session::{Change, Uris};
use crate::shard::Shard;

fn listen(id: &str, filter: Filter) -> Kind {
    Kind::Listen { id: id.into(), filter, server_info: r#"{"name":"t","version":"1"}"#.into() }
}

fn tools() -> Filter {
    Filter { tools_list_changed: true, ..Filter::default() }
}

fn session(number: u64) -> SessionKey {
    SessionKey { incarnation: [0; 16], number }
}

fn record(uris: &[&str]) -> Record {
    Record { uris: Uris::of(uris.iter().copied()).unwrap(), ..Record::default() }
}

fn hold(hub: &Hub, load: &Arc<Load>, kind: Kind) -> Stream {
    hub.hold(kind, 4096, load.stream(100).unwrap())
}

/// An event, and all that it takes to tell it.
fn notify(hub: &Hub, event: &Event) {
    hub.notify(event);
    while lock(&hub.0.state).work() {}
}

/// What a stream says until it has nothing to say.
async fn said(stream: &mut Stream) -> String {
    let mut text = String::new();
    while let Poll::Ready(Some(bytes)) = poll_fn(|cx| Poll::Ready(stream.poll_next(cx))).await {
        text.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap());
    }
    text
}

async fn has_ended(stream: &mut Stream) -> bool {
    poll_fn(|cx| Poll::Ready(matches!(stream.poll_next(cx), Poll::Ready(None)))).await
}

#[tokio::test]
async fn the_acknowledgment_comes_first_and_names_the_subscription() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let mut stream = hold(&hub, &load, listen("\"a\"", tools()));
    notify(&hub, &Event::ToolsChanged);
    let said = said(&mut stream).await;
    let messages: Vec<serde_json::Value> =
        said.lines().filter_map(|line| line.strip_prefix("data: ")).map(|json| serde_json::from_str(json).unwrap()).collect();
    assert_eq!(messages[0]["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(messages[0]["params"]["notifications"], serde_json::json!({"toolsListChanged": true}));
    assert_eq!(messages[1]["method"], "notifications/tools/list_changed");
    for message in messages {
        assert_eq!(message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "a");
    }
}

#[tokio::test]
async fn the_newest_stands_for_all_before_it() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let mut stream = hold(&hub, &load, listen("1", tools()));
    for n in 0..1000 {
        hub.notify(&Event::ToolsChanged);
        hub.notify(&Event::PromptsChanged);
        assert_eq!(lock(&hub.0.state).work.notifications.len(), 1, "one is on its way, of the one that is wanted");
        if n % 2 == 0 {
            lock(&hub.0.state).work();
        }
    }
    while lock(&hub.0.state).work() {}
    assert_eq!(said(&mut stream).await.matches("list_changed").count(), 1);
}

#[tokio::test]
async fn a_reader_whose_backlog_is_full_is_ended_with_the_result_and_nothing_more_is_kept_for_it() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let uris: Vec<String> = (0..100).map(|n| format!("test://{n}")).collect();
    let mut stream = hold(&hub, &load, listen("1", Filter { resource_subscriptions: uris.clone(), ..Filter::default() }));
    for uri in uris {
        notify(&hub, &Event::ResourceUpdated(uri.into()));
        assert!(hub.counts().queued_bytes <= 4096);
    }
    assert_eq!(hub.counts().queued_bytes, 0);
    let said = said(&mut stream).await;
    assert!(said.contains("acknowledged") && said.contains("\"complete\"") && !said.contains("updated"), "{said}");
    drop(stream);
    assert_eq!((hub.counts().streams, load.streams()), (0, 0));
}

#[tokio::test]
async fn one_message_goes_to_one_stream_of_a_session() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let mut old = hold(&hub, &load, Kind::Session { session: session(1) });
    let mut new = hold(&hub, &load, Kind::Session { session: session(1) });
    let mut other = hold(&hub, &load, Kind::Session { session: session(2) });
    notify(&hub, &Event::ToolsChanged);
    assert!(!said(&mut old).await.contains("list_changed"));
    assert!(said(&mut new).await.contains("notifications/tools/list_changed"));
    assert!(said(&mut other).await.contains("list_changed"));
    drop(new);
    notify(&hub, &Event::ToolsChanged);
    assert!(said(&mut old).await.contains("list_changed"));
}

#[tokio::test]
async fn a_session_hears_of_the_resources_it_subscribed_to() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let mut stream = hold(&hub, &load, Kind::Session { session: session(1) });
    hub.refresh(session(1), || Some(record(&["test://a"])));
    notify(&hub, &Event::ResourceUpdated("test://b".into()));
    notify(&hub, &Event::ResourceUpdated("test://a".into()));
    let heard = said(&mut stream).await;
    assert!(heard.contains(r#""params":{"uri":"test://a"}"#) && !heard.contains("test://b"));
    hub.refresh(session(1), || None);
    notify(&hub, &Event::ResourceUpdated("test://a".into()));
    assert_eq!(said(&mut stream).await, "");
}

#[tokio::test]
async fn nothing_is_kept_of_a_session_without_a_stream_here() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    hub.refresh(session(1), || panic!("nobody asks what it wants"));
    hub.opened(session(1), 5);
    assert_eq!(hub.sessions(), []);
    let stream = hold(&hub, &load, Kind::Session { session: session(1) });
    hub.refresh(session(1), || Some(record(&["test://a"])));
    assert_eq!(hub.sessions(), [session(1)]);
    drop(stream);
    assert_eq!(hub.sessions(), []);
    assert!(lock(&hub.0.state).index.shared("test://a").is_none());
}

#[tokio::test]
async fn what_a_session_wants_is_asked_for_while_the_hub_is_locked() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let _stream = hold(&hub, &load, Kind::Session { session: session(1) });
    let mut is_asked = false;
    hub.refresh(session(1), || {
        is_asked = true;
        assert!(hub.0.state.try_lock().is_err(), "an older answer could be put over a newer one");
        None
    });
    assert!(is_asked);
}

/// Each round a stream begins while two subscriptions are made. Whoever of the three is last, the stream hears of both.
#[tokio::test]
async fn a_subscription_made_while_a_stream_begins_is_heard_on_it() {
    let shard = Shard::test();
    for number in 0..2_000 {
        let (key, begin) = (session(number), std::sync::Barrier::new(3));
        let subscribe = |uri: &str| {
            begin.wait();
            let change = Change::Subscribe(uri.into());
            let record = shard.sessions.change(key, u64::MAX, &change, 1).unwrap();
            shard.go_by(key, &record);
        };
        let mut stream = std::thread::scope(|scope| {
            scope.spawn(|| subscribe("test://a"));
            scope.spawn(|| subscribe("test://b"));
            begin.wait();
            let stream = shard.hub.hold(Kind::Session { session: key }, 4096, shard.load.stream(100).unwrap());
            shard.hold_newest(key);
            stream
        });
        for uri in ["test://a", "test://b"] {
            notify(&shard.hub, &Event::ResourceUpdated(uri.into()));
        }
        let heard = said(&mut stream).await;
        assert!(heard.contains("test://a") && heard.contains("test://b"), "{number}: {heard}");
        drop(stream);
        shard.sessions.forget(key);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_too_old_ends_with_the_completion_result_and_a_younger_one_stays() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let mut old = hold(&hub, &load, listen("1", tools()));
    let ticking = hub.clone();
    let pace = || Pace { comments: Duration::from_mins(10), lifetime: Some(Duration::from_mins(10)) };
    let task = tokio::spawn(async move { ticking.run(pace, |_| {}).await });
    tokio::time::sleep(Duration::from_mins(5)).await;
    let mut young = hold(&hub, &load, listen("2", tools()));
    tokio::time::sleep(Duration::from_secs(230)).await;
    assert!(!said(&mut old).await.contains("complete"), "it has a tenth of its time yet");
    tokio::time::sleep(Duration::from_secs(72)).await;
    assert!(said(&mut old).await.contains(r#""resultType":"complete""#));
    assert!(has_ended(&mut old).await && !said(&mut young).await.contains("complete"));
    assert_eq!(hub.counts().aged, 1);
    tokio::time::sleep(Duration::from_mins(5)).await;
    task.abort();
    assert!(said(&mut young).await.contains(r#""resultType":"complete""#));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_streams_evenly_with_the_completion_result() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let mut streams: Vec<_> = (0..50).map(|n| hold(&hub, &load, listen(&n.to_string(), tools()))).collect();
    let ticking = hub.clone();
    let task = tokio::spawn(async move { ticking.run(|| Pace::of(Duration::from_mins(10)), |_| {}).await });
    let start = Instant::now();
    hub.end_all(start + Duration::from_secs(10));
    let mut ended_at = Vec::new();
    while !streams.is_empty() {
        tokio::time::sleep(DRAIN_TICK).await;
        let mut open = Vec::new();
        for mut stream in streams {
            let last = said(&mut stream).await;
            if last.contains("resultType") {
                assert!(last.contains(r#""resultType":"complete""#) && last.contains("subscriptionId"));
                assert!(has_ended(&mut stream).await);
                ended_at.push(start.elapsed());
            } else {
                open.push(stream);
            }
        }
        streams = open;
    }
    task.abort();
    let before = |seconds| ended_at.iter().filter(|at| **at <= Duration::from_secs(seconds)).count();
    assert!((20..=30).contains(&before(5)), "{} of 50 after half the window", before(5));
    assert!(*ended_at.last().unwrap() <= Duration::from_millis(10_500));
    assert!(ended_at.last().unwrap() > &Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn a_stream_opened_while_draining_ends_in_the_window_and_a_cancel_keeps_the_rest() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let ticking = hub.clone();
    let task = tokio::spawn(async move { ticking.run(|| Pace::of(Duration::from_mins(10)), |_| {}).await });
    hub.end_all(Instant::now() + Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut late = hold(&hub, &load, listen("1", tools()));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(said(&mut late).await.contains("complete"));
    hub.keep_all();
    let mut kept = hold(&hub, &load, listen("2", tools()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!said(&mut kept).await.contains("complete"));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_hears_one_comment_in_each_period() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let mut stream = hold(&hub, &load, listen("1", tools()));
    said(&mut stream).await;
    let ticking = hub.clone();
    let task = tokio::spawn(async move { ticking.run(|| Pace::of(Duration::from_secs(16)), |_| {}).await });
    let mut comments = 0;
    for _ in 0..160 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        comments += said(&mut stream).await.matches(":\n\n").count();
    }
    task.abort();
    assert!((9..=11).contains(&comments), "{comments} comments in ten periods");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_for_some_periods_is_cut() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let mut stream = hold(&hub, &load, listen("1", tools()));
    let ticking = hub.clone();
    let task = tokio::spawn(async move { ticking.run(|| Pace::of(Duration::from_secs(10)), |_| {}).await });
    tokio::time::sleep(Duration::from_secs(10 * (u64::from(STALLED_PERIODS) + 1))).await;
    assert!(poll_fn(|cx| Poll::Ready(matches!(stream.poll_next(cx), Poll::Ready(Some(Err(Cut)))))).await);
    task.abort();
}

#[tokio::test]
async fn shedding_ends_the_largest_backlog_first_then_the_oldest() {
    let (hub, load) = (Hub::default(), Arc::new(Load::default()));
    let mut old = hold(&hub, &load, listen("1", Filter::default()));
    let mut young = hold(&hub, &load, listen("2", Filter::default()));
    let mut heavy = hold(&hub, &load, listen("3", tools()));
    notify(&hub, &Event::ToolsChanged);
    assert_eq!(hub.shed(1), 1);
    assert!(said(&mut heavy).await.contains("complete"));
    assert_eq!(hub.shed(1), 1);
    assert!(said(&mut old).await.contains("complete"));
    assert!(!said(&mut young).await.contains("complete"));
}
