//! Streams that are cut, or closed by their handler, and resumed: `Last-Event-ID`.

use std::sync::Arc;

use mcp_server::library::{Arguments, Code, Context, Program, Tool};
use mcp_server::shard::Shard;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::ask::{Ask, ID};
use crate::harness::{Running, config};
use crate::row::{compare, is_kept};
use crate::table;
use crate::wire::Wire;

pub const NAMES: &[&str] = &[
    "legacy-stream-primed",
    "legacy-stream-not-primed",
    "legacy-resume",
    "legacy-resume-closed",
    "legacy-resume-asked",
    "legacy-resume-taken-over",
    "legacy-resume-forgotten",
    "legacy-resume-foreign",
];

/// A tool that says where it is, and goes on when it is told to; with `leaves` it has its connection closed first.
fn program(go: &Arc<Semaphore>) -> Code {
    let (steps, leaves) = (Arc::clone(go), Arc::clone(go));
    Program::new("test", "1")
        .tool(Tool::new("steps", "Three steps."), move |call: Context, _: Arguments| {
            let go = Arc::clone(&steps);
            async move {
                for step in [1.0, 2.0, 3.0] {
                    call.progress(step, None, None);
                    go.acquire().await.unwrap().forget();
                }
                Ok("done")
            }
        })
        .tool(Tool::new("leaves", "Has the client come back."), move |call: Context, _: Arguments| {
            let go = Arc::clone(&leaves);
            async move {
                let left = call.close_sse_stream();
                go.acquire().await.unwrap().forget();
                Ok(format!("left: {left}"))
            }
        })
        .tool(Tool::new("asks", "Asks the person."), async |call: Context, _: Arguments| {
            let form = json!({"type": "object", "properties": {"name": {"type": "string"}}});
            let answer = call.elicit("name", "Who?", form.clone()).await?;
            let again = call.elicit("again", "Who else?", form).await?;
            let name = |answer: Option<&serde_json::Map<String, Value>>| answer.map(|form| form["name"].clone());
            Ok(format!("{:?} and {:?}", name(answer.accepted()), name(again.accepted())))
        })
        .build()
        .unwrap()
}

async fn start() -> (Running, Arc<Semaphore>) {
    let go = Arc::new(Semaphore::new(0));
    (Running::with_code(&config(), program(&go)).await, go)
}

/// A session of a client that can be asked.
async fn session(server: &Running, version: &str) -> String {
    let body = json!({"jsonrpc": "2.0", "id": ID, "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}});
    let answered = Wire::connect(server.addresses.data).await.ask(&Ask::post(body.to_string()).bytes()).await;
    answered.header("mcp-session-id").unwrap().to_owned()
}

fn call(session: &str, tool: &str) -> Vec<u8> {
    Ask::legacy(session, "tools/call", &json!({"name": tool, "_meta": {"progressToken": "p"}})).bytes()
}

fn resume(session: &str, id: &str) -> Vec<u8> {
    Ask::get(session).with("last-event-id", id).bytes()
}

/// The ids of the events that were said, in order.
fn ids(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

/// Calls the tool that goes by steps, and reads its first; then the connection is cut.
async fn cut(server: &Running, session: &str) -> String {
    let mut wire = Wire::connect(server.addresses.data).await;
    assert_eq!(wire.ask(&call(session, "steps")).await.status, 200);
    let said = event(&mut wire, "\"progress\":1").await;
    let last = (*ids(&said).last().unwrap()).to_owned();
    drop(wire);
    server.until("alone", |shard: &Shard| shard.load.orphans() == 1).await;
    last
}

/// Reads until an event with this text is whole.
async fn event(wire: &mut Wire, text: &str) -> String {
    let mut said = wire.until(text).await;
    while !said[said.rfind(text).unwrap()..].contains("\n\n") {
        said += &wire.until("\n").await;
    }
    said
}

async fn nothing_is_left(server: &Running) {
    server
        .until("as it was", |shard| {
            let load = &shard.load;
            let counts = [load.connections(), load.streams(), load.unfinished(), load.orphans(), load.replay_bytes()];
            counts == [0; 5] && shard.resumes.kept() == 0 && shard.asks.waiting() == 0
        })
        .await;
}

#[tokio::test]
async fn legacy_stream_primed() {
    let expected = table::of("legacy-stream-primed");
    let (server, go) = start().await;
    let session = session(&server, "2025-11-25").await;
    let mut wire = Wire::connect(server.addresses.data).await;
    compare(&expected, &wire.ask(&call(&session, "steps")).await);
    let said = event(&mut wire, "\"progress\":1").await;
    let events: Vec<_> = said.split("\n\n").collect();
    assert!(events[0].contains("\nid: ") || events[0].contains("id: "), "{said}");
    assert!(events[0].contains("\nretry: ") && events[0].ends_with("\ndata: "), "an id, a time and no data: {said}");
    go.add_permits(3);
    assert!(wire.until("0\r\n\r\n").await.contains("done"));
    is_kept(&mut wire).await;
    drop(wire);
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn legacy_stream_not_primed() {
    let expected = table::of("legacy-stream-not-primed");
    let (server, go) = start().await;
    for version in ["2025-06-18", "2025-03-26"] {
        let session = session(&server, version).await;
        let mut wire = Wire::connect(server.addresses.data).await;
        compare(&expected, &wire.ask(&call(&session, "steps")).await);
        go.add_permits(3);
        let said = event(&mut wire, "done").await;
        assert!(!said.contains("retry:") && !said.contains("data: \n") && ids(&said).len() == 4, "{said}");
        let mut left = Wire::connect(server.addresses.data).await;
        left.send(&call(&session, "leaves")).await;
        go.add_permits(1);
        assert!(left.response(false).await.body.contains("left: false"), "its client would not come back");
    }
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn legacy_resume() {
    let expected = table::of("legacy-resume");
    let (server, go) = start().await;
    for version in crate::world::LEGACY {
        let session = session(&server, version).await;
        let last = cut(&server, &session).await;
        go.add_permits(1);
        let mut wire = Wire::connect(server.addresses.data).await;
        compare(&expected, &wire.ask(&resume(&session, &last)).await);
        go.add_permits(1);
        let mut said = event(&mut wire, "\"progress\":3").await;
        go.add_permits(1);
        said += &wire.until("0\r\n\r\n").await;
        assert!(said.contains("done"), "{said}");
        assert!(!said.contains("\"progress\":1"), "what was heard is not said again: {said}");
        assert!(said.contains("\"progress\":2"), "{said}");
        let all = ids(&said);
        assert!(!all.contains(&last.as_str()) && all.len() == 3, "{all:?}");
        is_kept(&mut wire).await;
    }
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn legacy_resume_closed() {
    let expected = table::of("legacy-resume-closed");
    let (server, go) = start().await;
    let session = session(&server, "2025-11-25").await;
    let mut wire = Wire::connect(server.addresses.data).await;
    assert_eq!(wire.ask(&call(&session, "leaves")).await.status, 200);
    let said = wire.until("0\r\n\r\n").await;
    assert!(said.contains("retry: ") && !said.contains("result"), "{said}");
    is_kept(&mut wire).await;
    // What ends meanwhile is kept, too.
    go.add_permits(1);
    server.until("ended", |shard: &Shard| shard.load.in_flight() == 0).await;
    assert_eq!(server.shard.load.unfinished(), 1, "a drain waits for it");
    compare(&expected, &wire.ask(&resume(&session, ids(&said)[0])).await);
    let said = wire.until("0\r\n\r\n").await;
    assert!(said.contains("left: true"), "{said}");
    is_kept(&mut wire).await;
    drop(wire);
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn legacy_resume_asked() {
    let expected = table::of("legacy-resume-asked");
    let (server, _) = start().await;
    let session = session(&server, "2025-11-25").await;
    let mut wire = Wire::connect(server.addresses.data).await;
    assert_eq!(wire.ask(&call(&session, "asks")).await.status, 200);
    let said = event(&mut wire, "Who?").await;
    let question = |said: &str| {
        let data = said.lines().filter_map(|line| line.strip_prefix("data: {")).next_back().unwrap();
        serde_json::from_str::<Value>(&format!("{{{data}")).unwrap()["id"].clone()
    };
    let last = (*ids(&said).last().unwrap()).to_owned();
    drop(wire);
    server.until("alone", |shard: &Shard| shard.load.orphans() == 1).await;
    let mut other = Wire::connect(server.addresses.data).await;
    // What was asked before the cut is answered after it, and more is asked meanwhile.
    let answer = |id: &Value, name: &str| {
        let result = json!({"action": "accept", "content": {"name": name}});
        Ask::in_session(&session, json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()).bytes()
    };
    assert_eq!(other.ask(&answer(&question(&said), "Ada")).await.status, 202);
    let mut wire = Wire::connect(server.addresses.data).await;
    compare(&expected, &wire.ask(&resume(&session, &last)).await);
    let said = event(&mut wire, "Who else?").await;
    assert_eq!(other.ask(&answer(&question(&said), "Eve")).await.status, 202);
    assert!(event(&mut wire, "Eve").await.contains("Ada"));
    drop((wire, other));
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn legacy_resume_taken_over() {
    let expected = table::of("legacy-resume-taken-over");
    let (server, go) = start().await;
    let session = session(&server, "2025-11-25").await;
    let mut first = Wire::connect(server.addresses.data).await;
    assert_eq!(first.ask(&call(&session, "steps")).await.status, 200);
    let said = event(&mut first, "\"progress\":1").await;
    let mut second = Wire::connect(server.addresses.data).await;
    compare(&expected, &second.ask(&resume(&session, ids(&said).last().unwrap())).await);
    let rest = first.until("0\r\n\r\n").await;
    go.add_permits(3);
    event(&mut second, "done").await;
    assert!(!rest.contains("progress") && !rest.contains("done"), "a message goes to one of them: {rest}");
    drop((first, second));
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn legacy_resume_forgotten() {
    let expected = table::of("legacy-resume-forgotten");
    let (server, go) = start().await;
    let session = session(&server, "2025-11-25").await;
    let mut wire = Wire::connect(server.addresses.data).await;
    assert_eq!(wire.ask(&call(&session, "steps")).await.status, 200);
    let said = event(&mut wire, "\"progress\":1").await;
    go.add_permits(3);
    let more = wire.until("0\r\n\r\n").await;
    nothing_kept(&server).await;
    for id in ids(&said).into_iter().chain(ids(&more)) {
        compare(&expected, &wire.ask(&resume(&session, id)).await);
        is_kept(&mut wire).await;
    }
    drop(wire);
    nothing_is_left(&server).await;
}

async fn nothing_kept(server: &Running) {
    server.until("forgotten", |shard: &Shard| shard.resumes.kept() == 0).await;
}

#[tokio::test]
async fn legacy_resume_foreign() {
    let expected = table::of("legacy-resume-foreign");
    let (server, go) = start().await;
    let (owner, stranger) = (session(&server, "2025-11-25").await, session(&server, "2025-11-25").await);
    let last = cut(&server, &owner).await;
    let parts: Vec<_> = last.split('.').collect();
    let later = format!("{}.{}.{}.{}", parts[0], parts[1], 9, parts[3]);
    let mut wire = Wire::connect(server.addresses.data).await;
    let twice = Ask::get(&owner).with("last-event-id", last.as_str()).and("last-event-id", last.as_str());
    for ask in [resume(&stranger, &last), resume(&owner, &later), resume(&owner, &last.to_uppercase()), twice.bytes()] {
        compare(&expected, &wire.ask(&ask).await);
        is_kept(&mut wire).await;
    }
    assert_eq!(server.shard.load.orphans(), 1, "and the stream is still there for its own");
    compare(&table::of("legacy-resume"), &wire.ask(&resume(&owner, &last)).await);
    go.add_permits(3);
    event(&mut wire, "done").await;
    // The session ends, and what is kept of it goes.
    let last = cut(&server, &owner).await;
    let delete = Ask::bare("DELETE").with("mcp-session-id", owner.as_str()).bytes();
    let mut other = Wire::connect(server.addresses.data).await;
    assert!([204, 503].contains(&other.ask(&delete).await.status));
    assert_eq!(other.ask(&resume(&owner, &last)).await.status, 404);
    assert_eq!((server.shard.resumes.kept(), server.shard.load.replay_bytes()), (0, 0));
    go.add_permits(3);
    server.until("ended", |shard: &Shard| shard.load.unfinished() == 0 && shard.load.orphans() == 0).await;
}
