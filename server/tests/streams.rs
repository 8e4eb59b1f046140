//! Held streams, catalog flips and the graceful end, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use harness::{Client, Running, arrives, config, modern, post, publish, slow, tool};
use mcp_crds::control::Key;
use mcp_server::Ending;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

async fn listen(server: &Running, filter: Value) -> (Client, String) {
    let mut client = server.client().await;
    let (headers, body) = modern("subscriptions/listen", json!({"notifications": filter}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    client.socket.write_all(post(&headers, &body).as_bytes()).await.unwrap();
    let head = client.head().await;
    (client, head)
}

async fn session_stream(server: &Running) -> (Client, String) {
    let mut client = server.client().await;
    let (_, session) = client.initialize("2025-11-25").await;
    let get = format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n");
    client.socket.write_all(get.as_bytes()).await.unwrap();
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (client, session)
}

/// The JSON-RPC messages of an event stream.
fn messages(said: &str) -> Vec<Value> {
    said.lines().filter_map(|line| line.strip_prefix("data: ")).map(|json| serde_json::from_str(json).unwrap()).collect()
}

#[tokio::test]
async fn a_listen_stream_is_acknowledged_first_with_the_filter_that_is_honoured() {
    let server = Running::start(&config()).await;
    let (mut client, head) = listen(&server, json!({"toolsListChanged": true, "resourceSubscriptions": ["test://note"]})).await;
    assert!(head.starts_with("HTTP/1.1 200"));
    for line in ["content-type: text/event-stream", "x-accel-buffering: no", "connection: close"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    let first = messages(&client.until("acknowledged").await);
    assert_eq!(first[0]["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    assert_eq!(first[0]["params"]["notifications"]["resourceSubscriptions"], json!(["test://note"]));
    assert_eq!(server.load(&json!({})).await.streams, 1);
}

#[tokio::test]
async fn a_flip_reaches_the_streams_that_asked_and_the_next_request() {
    let server = Running::start(&config()).await;
    let (mut tools, _) = listen(&server, json!({"toolsListChanged": true})).await;
    let (mut note, _) = listen(&server, json!({"resourceSubscriptions": ["test://note"]})).await;
    let (mut legacy, session) = session_stream(&server).await;
    tools.until("acknowledged").await;
    note.until("acknowledged").await;
    let before = server.load(&json!({})).await;
    let mut next = config();
    next.catalog.tools.push(tool("part", "Bye, {name}."));
    next.catalog.resources[0].contents = mcp_crds::catalog::Contents::Text("Another note.".to_owned());
    let hash = publish(server.folder.path(), &next);
    let deadline = Instant::now() + harness::PATIENCE;
    loop {
        let report = server.load(&json!({"serve": before.catalog_hash})).await;
        assert_eq!(report.catalog_hash, before.catalog_hash, "nothing flips before the operator says so");
        if report.catalog_staged == hash {
            break;
        }
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert_eq!(server.load(&json!({"serve": hash})).await.catalog_hash, hash);
    assert!(messages(&tools.until("list_changed").await).iter().any(|m| m["method"] == "notifications/tools/list_changed"));
    let updated = messages(&note.until("updated").await);
    assert!(updated.iter().any(|m| m["params"]["uri"] == "test://note"));
    assert!(!updated.iter().any(|m| m["method"] == "notifications/tools/list_changed"));
    legacy.until("notifications/tools/list_changed").await;
    let listed = server.client().await.legacy(&session, "tools/list", json!({})).await.json();
    assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_broken_configuration_keeps_the_old_one_and_is_reported() {
    let server = Running::start(&config()).await;
    let serving = server.load(&json!({})).await.catalog_hash;
    std::fs::write(server.folder.path().join("shard.json.gz"), b"nonsense").unwrap();
    std::fs::write(server.folder.path().join("hash"), b"beef").unwrap();
    let deadline = Instant::now() + harness::PATIENCE;
    let report = loop {
        let report = server.load(&json!({"serve": "beef"})).await;
        if !report.catalog_error.is_empty() {
            break report;
        }
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    };
    assert!(report.catalog_error.contains("does not unpack"), "{}", report.catalog_error);
    assert_eq!((report.catalog_hash, report.catalog_staged.as_str()), (serving, ""));
    assert_eq!(server.client().await.modern("tools/list", json!({})).await.status, 200);
}

#[tokio::test]
async fn the_control_port_answers_only_the_holder_of_a_key_and_only_once() {
    let server = Running::start(&config()).await;
    let key = server.ring.signing_key().unwrap();
    let nonce = "0123456789abcdef0123456789abcdef";
    assert_eq!(server.control_signed("/load", &json!({}), nonce, key).await.status, 200);
    let replayed = server.control_signed("/load", &json!({}), nonce, key).await;
    assert_eq!((replayed.status, replayed.body.trim()), (401, "the request was sent before"));
    let stranger = Key { id: key.id.clone(), ..Key::from_bytes(&[1; 32]) };
    assert_eq!(server.control_signed("/drain", &json!({}), &"1".repeat(32), &stranger).await.status, 401);
    let unsigned = "POST /load HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let mut client = Client::connect(server.addresses.control.unwrap()).await;
    assert_eq!(client.exchange(unsigned.as_bytes()).await.status, 401);
    assert!(!server.shard.drain.is_draining());
}

#[tokio::test]
async fn an_order_to_shed_ends_a_twentieth_with_its_result_and_the_others_stay() {
    let server = Running::start(&config()).await;
    let mut held = vec![];
    for _ in 0..21 {
        let (mut client, _) = listen(&server, json!({"toolsListChanged": true})).await;
        client.until("acknowledged").await;
        held.push(client);
    }
    server.until("held", |shard| shard.load.streams() == 21).await;
    let stranger = Key { id: server.ring.signing_key().unwrap().id.clone(), ..Key::from_bytes(&[1; 32]) };
    assert_eq!(server.control_signed("/shed", &json!({"streams": 21}), &"2".repeat(32), &stranger).await.status, 401);
    let answered = server.control("/shed", &json!({"streams": 21})).await;
    assert_eq!((answered.status, answered.json()), (200, json!({"ended": 2})), "a twentieth, rounded up");
    let mut ends: FuturesUnordered<_> = held.iter_mut().map(Client::rest).collect();
    for _ in 0..2 {
        let result = messages(&ends.next().await.unwrap());
        assert_eq!(result.last().unwrap()["result"]["resultType"], "complete");
    }
    drop(ends);
    server.until("shed", |shard| shard.load.streams() == 19).await;
    assert_eq!(server.load(&json!({})).await.shed_total, 2);
    let again = server.control("/shed", &json!({"streams": 21})).await;
    assert_eq!((again.status, server.shard.load.streams()), (409, 19), "what that freed must show first");
    assert_eq!(server.control("/shed", &json!({"streams": "all"})).await.status, 400);
    server.control("/drain", &json!({"window_ms": 60_000, "timeout_ms": 120_000})).await;
    assert!(server.control("/shed", &json!({"streams": 1})).await.body.starts_with("draining"));
}

#[tokio::test]
async fn the_load_report_counts_and_names_this_process() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    client.modern("tools/list", json!({})).await;
    let first = server.load(&json!({"membership_epoch": 4, "members": [{"name": "test-0", "address": "10.0.0.1"}]})).await;
    assert_eq!((first.connections, first.streams, first.seq, first.membership_epoch), (1, 0, 1, 4));
    assert_eq!(first.sealing_key_id, server.ring.sealing);
    let second = server.load(&json!({"membership_epoch": 4})).await;
    assert_eq!((second.seq, second.membership_epoch), (2, 4));
    assert_eq!(second.incarnation, first.incarnation);
    let metrics = server.admin("/metrics").await.body;
    for series in ["mcp_connections 1", r#"mcp_requests_total{method="tools/list",version="2026-07-28",outcome="ok"} 1"#, "# EOF"]
    {
        assert!(metrics.contains(series), "{series} in {metrics}");
    }
}

#[tokio::test]
async fn a_signal_drains_streams_end_with_their_result_and_the_process_ends() {
    let server = Running::start(&config()).await;
    let (mut modern, _) = listen(&server, json!({"toolsListChanged": true})).await;
    modern.until("acknowledged").await;
    let (mut legacy, _) = session_stream(&server).await;
    let mut open = server.client().await;
    assert_eq!(open.modern("tools/list", json!({})).await.status, 200);
    server.ends.send(Ending::Drain).await.unwrap();
    server.until("draining", |shard| shard.drain.is_draining()).await;
    let answered = server.client().await.modern("tools/list", json!({})).await;
    assert_eq!((answered.status, answered.header("connection")), (200, Some("close")), "endpoints lag");
    assert_eq!(server.admin("/readyz").await.status, 200, "ready to its end");
    assert!(server.load(&json!({})).await.draining);
    let result = messages(&modern.rest().await);
    assert_eq!(result.last().unwrap()["id"], 1);
    assert_eq!(result.last().unwrap()["result"]["resultType"], "complete");
    assert!(!legacy.rest().await.contains("resultType"));
    timeout(harness::PATIENCE, server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn after_the_lag_newcomers_get_503_and_old_connections_are_answered_a_last_time() {
    let lag = Duration::from_millis(300);
    let mut config = config();
    config.drain = mcp_crds::shard::Drain { window_ms: 60_000, timeout_ms: 120_000 };
    let server = Running::with_keys(Some(&config), mcp_server::session::generated_ring(), lag).await;
    let (_held, _) = listen(&server, json!({})).await;
    let mut old = server.client().await;
    assert_eq!(old.modern("tools/list", json!({})).await.status, 200);
    let drained = server.control("/drain", &json!({"window_ms": 60_000, "timeout_ms": 120_000})).await;
    assert_eq!(drained.status, 200);
    server.until("refusing", |shard| shard.drain.refuses()).await;
    let refused = server.client().await.modern("tools/list", json!({})).await;
    assert_eq!((refused.status, refused.header("connection")), (503, Some("close")));
    assert!(refused.header("retry-after").is_some());
    let last = old.modern("tools/list", json!({})).await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(server.control("/drain", &json!({"cancel": true})).await.status, 200);
    assert_eq!(server.client().await.modern("tools/list", json!({})).await.status, 200);
    assert!(!server.ended.is_finished());
}

#[tokio::test]
async fn an_idle_process_ends_after_the_lag_and_not_after_the_window() {
    let mut config = config();
    config.drain = mcp_crds::shard::Drain { window_ms: 600_000, timeout_ms: 1_200_000 };
    let server = Running::start(&config).await;
    let start = Instant::now();
    server.ends.send(Ending::Drain).await.unwrap();
    timeout(harness::PATIENCE, server.ended).await.unwrap().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let server = Running::start(&config()).await;
    let (client, _) = listen(&server, json!({"toolsListChanged": true})).await;
    let (legacy, _) = session_stream(&server).await;
    server.until("held", |shard| shard.load.streams() == 2).await;
    drop((client, legacy));
    server.until("gone", |shard| shard.load.streams() == 0 && shard.load.connections() == 0).await;
    assert_eq!(server.shard.hub.counts().streams, 0);
}

#[tokio::test]
async fn quiet_streams_hear_comments() {
    let mut chatty = config();
    chatty.transport.keep_alive_period_ms = 50;
    let server = Running::start(&chatty).await;
    let (mut client, _) = listen(&server, json!({})).await;
    client.until("acknowledged").await;
    for _ in 0..3 {
        client.until(":\n\n").await;
    }
}

#[tokio::test]
async fn http2_is_served_on_the_same_port_and_its_streams_end_with_their_result() {
    let server = Running::start(&config()).await;
    // reqwest wants one even for plain text; a second test that installed it is no matter.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let send = |method: &str, params: Value| {
        let (headers, body) = modern(method, params);
        let mut request = client.post(format!("http://{}/mcp", server.addresses.data));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(body)
            .send()
    };
    let listed = send("tools/list", json!({})).await.unwrap();
    assert_eq!((listed.version(), listed.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    let mut stream = send("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}})).await.unwrap();
    assert!(stream.headers().get("connection").is_none());
    assert!(String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()).contains("acknowledged"));
    let report = server.load(&json!({})).await;
    assert_eq!((report.connections, report.streams), (1, 1), "one connection, and what it carries");
    server.ends.send(Ending::Drain).await.unwrap();
    let mut last = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        last.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(last.contains(r#""resultType":"complete""#));
    timeout(harness::PATIENCE, server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn short_of_memory_a_shard_refuses_what_stays_and_answers_the_rest() {
    let server = Running::start(&config()).await;
    let (_held, _) = listen(&server, json!({})).await;
    let stage = |stage| mcp_server::guard::Reading { stage, ..server.shard.guard.reading() };
    // The readings of the machine go on underneath, so the stage is set again before each step.
    let pressed = || server.shard.guard.update(stage(mcp_crds::load::GuardStage::RefusingStreams));
    let (mut refused, mut tries) = (false, 0);
    while !refused && tries < 50 {
        pressed();
        let (mut client, head) = listen(&server, json!({})).await;
        refused = head.starts_with("HTTP/1.1 503") && client.until("memory").await.contains("-32603");
        tries += 1;
    }
    assert!(refused);
    pressed();
    assert_eq!(server.client().await.modern("tools/list", json!({})).await.status, 200);
}

#[tokio::test]
async fn next_to_the_limit_of_memory_requests_are_refused_as_well() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    let (mut refused, mut tries) = (false, 0);
    while !refused && tries < 50 {
        // The readings of the machine go on underneath.
        let reading = server.shard.guard.reading();
        server.shard.guard.update(mcp_server::guard::Reading { stage: mcp_crds::load::GuardStage::Shedding, ..reading });
        let answer = client.modern("tools/list", json!({})).await;
        refused = answer.status == 503 && answer.header("retry-after").is_some() && answer.body.contains("memory");
        tries += 1;
    }
    assert!(refused);
    server.shard.guard.update(mcp_server::guard::Reading::default());
    assert_eq!(client.modern("tools/list", json!({})).await.status, 200);
}

#[tokio::test]
async fn what_comes_between_two_readings_is_refused_when_it_does_not_fit_below_the_limit() {
    let server = Running::start(&config()).await;
    let uris: Vec<String> = (0..100).map(|n| format!("notes://{n:0>50}")).collect();
    let (mut large, mut call, mut both, mut tries) = (false, false, false, 0);
    while !both && tries < 50 {
        // The readings of the machine go on underneath, and make room again.
        server.shard.load.room().read(mcp_server::memory::Left { all: 1 << 20, entry: 1 << 20, growth: 32 << 10 });
        large = listen(&server, json!({ "resourceSubscriptions": uris })).await.1.starts_with("HTTP/1.1 503");
        let small = listen(&server, json!({})).await.1.starts_with("HTTP/1.1 200");
        call = server.client().await.modern("tools/list", json!({})).await.status == 200;
        server.shard.load.room().read(mcp_server::memory::Left { all: 0, entry: 0, growth: 0 });
        let answer = server.client().await.modern("tools/list", json!({})).await;
        both = large && small && call && answer.status == 503 && answer.body.contains("memory");
        tries += 1;
    }
    assert!(both, "a large stream was refused: {large}; a call answered: {call}");
    server.shard.load.room().read(mcp_server::memory::Left { all: u64::MAX, entry: u64::MAX, growth: u64::MAX });
    let (_held, head) = listen(&server, json!({ "resourceSubscriptions": uris })).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_connection_that_has_asked_counts_once_and_a_silent_one_until_it_goes() {
    let server = Running::start(&config()).await;
    let load = &server.shard.load;
    let one = mcp_server::limits::INSIDE_HYPER as u64;
    // The readings of the machine go on underneath, and make room again.
    let crowded = || {
        load.room().read(mcp_server::memory::Left { all: u64::MAX, entry: one, growth: u64::MAX });
        load.is_crowded()
    };
    let mut client = server.client().await;
    assert_eq!(client.modern("tools/list", json!({})).await.status, 200);
    assert!(!crowded(), "a reading has seen the one that asked");
    let silent = tokio::net::TcpStream::connect(server.addresses.data).await.unwrap();
    server.until("a silent connection that counts", |_| crowded()).await;
    drop(silent);
    server.until("room for another", |_| !crowded()).await;
}

#[tokio::test]
async fn an_idle_connection_whose_client_asks_again_is_answered_though_there_is_no_room() {
    let server = Running::start(&config()).await;
    let mut client = server.client().await;
    assert_eq!(client.modern("tools/list", json!({})).await.status, 200);
    server.until("an idle connection without hyper", |shard| shard.hub.counts().parked_connections == 1).await;
    // The readings of the machine go on underneath: this one is used before the next.
    server.shard.load.room().read(mcp_server::memory::Left { all: u64::MAX, entry: 0, growth: u64::MAX });
    assert_eq!(client.modern("tools/list", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_request_that_was_accepted_completes_before_the_process_ends() {
    let (mut config, upstream) = slow().await;
    config.drain = mcp_crds::shard::Drain { window_ms: 300, timeout_ms: 60_000 };
    let server = Running::start(&config).await;
    let mut client = server.client().await;
    let ended = async {
        let mut call = arrives(&upstream).await;
        server.ends.send(Ending::Drain).await.unwrap();
        server.until("past the lag", |shard| shard.drain.refuses()).await;
        assert!(!server.ended.is_finished(), "a request is being answered");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        call.write_all(answer).await.unwrap();
    };
    let (answered, ()) = tokio::join!(client.modern("tools/call", json!({"name": "greet"})), ended);
    assert_eq!((answered.status, answered.header("connection")), (200, Some("close")));
    timeout(harness::PATIENCE, server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_without_a_request_has_time_to_make_one_when_the_process_leaves() {
    let server = Running::start(&config()).await;
    let (mut quiet, mut late) = (server.client().await, server.client().await);
    assert_eq!(quiet.modern("tools/list", json!({})).await.status, 200);
    server.until("accepted", |shard| shard.load.connections() == 2).await;
    server.ends.send(Ending::Drain).await.unwrap();
    server.until("leaving", |shard| shard.leave.is_cancelled()).await;
    let newcomer = server.client().await.modern("tools/list", json!({})).await;
    assert_eq!((newcomer.status, newcomer.header("connection")), (503, Some("close")), "the port is open to the end");
    assert!(!server.ended.is_finished());
    assert_eq!(quiet.rest().await, "", "let go: it asked for nothing");
    let answered = late.modern("tools/list", json!({})).await;
    assert_eq!((answered.status, answered.header("connection")), (200, Some("close")));
    timeout(harness::PATIENCE, server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_quiet_connection_stays_through_the_drain_and_its_next_answer_is_its_last() {
    let mut config = config();
    config.drain = mcp_crds::shard::Drain { window_ms: 60_000, timeout_ms: 120_000 };
    let server = Running::start(&config).await;
    let (_held, _) = listen(&server, json!({})).await;
    let mut quiet = server.client().await;
    assert_eq!(quiet.modern("tools/list", json!({})).await.header("connection"), None);
    server.control("/drain", &json!({"window_ms": 60_000, "timeout_ms": 120_000})).await;
    server.until("past the lag", |shard| shard.drain.refuses()).await;
    for wrong in ["GET /elsewhere", "PATCH /mcp"] {
        let answered = server.client().await.exchange(format!("{wrong} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await;
        assert_eq!((answered.status, answered.header("connection")), (503, Some("close")), "{wrong}");
    }
    let last = quiet.modern("tools/list", json!({})).await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(quiet.rest().await, "");
}

#[tokio::test]
async fn a_refused_request_may_still_send_its_body_and_reads_the_refusal() {
    let server = Running::start(&config()).await;
    let (_held, _) = listen(&server, json!({})).await;
    server.control("/drain", &json!({"window_ms": 60_000, "timeout_ms": 120_000})).await;
    server.until("past the lag", |shard| shard.drain.refuses()).await;
    let mut client = server.client().await;
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n";
    client.socket.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..6 {
        // Each arrives on its own; a server that had hung up would reset the next.
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.socket.write_all(&[b' '; 10_000]).await.unwrap();
    }
    let refused = client.response().await;
    assert_eq!((refused.status, refused.header("connection")), (503, Some("close")));
    assert_eq!(client.socket.read(&mut [0]).await.unwrap(), 0, "a clean end");
}

#[tokio::test]
async fn a_signal_after_the_operators_drain_goes_on_with_it_and_a_repeated_one_cuts_nothing() {
    let mut config = config();
    config.drain = mcp_crds::shard::Drain { window_ms: 60_000, timeout_ms: 120_000 };
    let server = Running::start(&config).await;
    let (mut held, _) = listen(&server, json!({})).await;
    held.until("acknowledged").await;
    server.control("/drain", &json!({"window_ms": 1_500, "timeout_ms": 60_000})).await;
    let began = server.shard.drain.phase();
    for _ in 0..2 {
        server.ends.send(Ending::Drain).await.unwrap();
    }
    server.until("ending", |shard| shard.drain.phase().draining().is_some_and(|draining| draining.exits)).await;
    assert_eq!(server.control("/drain", &json!({"cancel": true})).await.status, 409);
    let (began, now) = (began.draining().unwrap(), server.shard.drain.phase().draining().unwrap());
    assert_eq!((now.since, now.streams_end, now.deadline), (began.since, began.streams_end, began.deadline));
    assert!(held.rest().await.contains(r#""resultType":"complete""#));
    timeout(harness::PATIENCE, server.ended).await.unwrap().unwrap();
}
