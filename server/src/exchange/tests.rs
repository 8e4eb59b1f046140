use serde_json::json;

use super::*;
use crate::auth::Principal;
use crate::jsonrpc::{Body, Message, Params};
use crate::mcp::elicitation::Action;
use crate::session::{Sessions, generated_ring, random};

const NOW: u64 = 1_000_000;

fn sessions() -> Sessions {
    Sessions::new(random(), generated_ring()).unwrap()
}

fn caller(name: &str) -> Principal {
    Principal { name: name.to_owned() }
}

fn body(params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()
}

fn params(body: &str) -> Params<'_> {
    match jsonrpc::decode(body.as_bytes(), 64).unwrap() {
        Body::One(Message::Request(request)) => request.params,
        other => panic!("{other:?}"),
    }
}

fn all() -> ClientCapabilities {
    ClientCapabilities(u16::MAX)
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})
}

fn accepted(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

/// Asks for two names, one after the other, and greets both.
async fn greet(exchange: &Exchange) -> Result<String, Interrupted> {
    let first = exchange.elicit("first", "Who?", schema()).await?;
    let second = exchange.elicit("second", "And who?", schema()).await?;
    let name = |result: ElicitResult| result.accepted().map(|form| form["name"].clone());
    Ok(format!("{:?} {:?}", name(first), name(second)))
}

/// One round of a client that sends this along.
async fn round(sessions: &Sessions, more: &Value) -> (Result<String, Interrupted>, Option<String>) {
    let mut sent = json!({"name": "greet", "arguments": {"b": 1, "a": [{"y": 1, "x": 2}]}, "_meta": {"progressToken": NOW}});
    sent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = body(&sent);
    let principal = caller("ada");
    let params = params(&body);
    let inputs = Inputs { principal: &principal, method: "tools/call", params: &params };
    let replay = match inputs.open(sessions, || NOW) {
        Ok(replay) => replay,
        Err(fault) => return (Err(fault.into()), None),
    };
    let exchange = Exchange::silent(Version::V2026_07_28, all()).asking(Asking::Replay(replay));
    let outcome = greet(&exchange).await;
    let state = match &outcome {
        Err(Interrupted::InputRequired(required)) => Some(inputs.seal(sessions, &required.answers, NOW).unwrap()),
        _ => None,
    };
    (outcome, state)
}

fn asked(outcome: &Result<String, Interrupted>) -> Vec<String> {
    match outcome {
        Err(Interrupted::InputRequired(required)) => required.requests.keys().cloned().collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_handler_is_run_again_until_it_has_all_its_answers_and_no_shard_keeps_anything() {
    let ring = generated_ring();
    let shards: Vec<_> = (0..3).map(|_| Sessions::new(random(), ring.clone()).unwrap()).collect();
    let (first, one) = round(&shards[0], &json!({})).await;
    assert_eq!(asked(&first), ["first"]);
    let (second, two) = round(&shards[1], &json!({"requestState": one, "inputResponses": {"first": accepted("Ada")}})).await;
    assert_eq!(asked(&second), ["second"]);
    assert_ne!(one, two, "a state is of one round");
    let (third, _) = round(&shards[2], &json!({"requestState": two, "inputResponses": {"second": accepted("Eve")}})).await;
    assert_eq!(third.unwrap(), r#"Some(String("Ada")) Some(String("Eve"))"#);
}

#[tokio::test]
async fn an_answer_under_another_key_is_ignored_and_the_missing_one_asked_for_again() {
    let sessions = sessions();
    let (_, state) = round(&sessions, &json!({})).await;
    let (again, state) = round(&sessions, &json!({"requestState": state, "inputResponses": {"fist": accepted("Ada")}})).await;
    assert_eq!(asked(&again), ["first"]);
    let more = json!({"requestState": state, "inputResponses": {"first": accepted("Ada"), "x": 1, "second": accepted("Eve")}});
    assert!(round(&sessions, &more).await.0.is_ok(), "and nobody has to bring a state");
    assert!(round(&sessions, &json!({"inputResponses": {"first": accepted("A"), "second": accepted("B")}})).await.0.is_ok());
}

#[tokio::test]
async fn an_answer_is_kept_as_it_was_given_first() {
    let sessions = sessions();
    let (_, state) = round(&sessions, &json!({"inputResponses": {"first": accepted("Ada")}})).await;
    let changed = json!({"requestState": state, "inputResponses": {"first": accepted("Eve"), "second": {"action": "decline"}}});
    assert_eq!(round(&sessions, &changed).await.0.unwrap(), r#"Some(String("Ada")) None"#);
}

#[tokio::test]
async fn answers_that_are_none_are_invalid_parameters() {
    let sessions = sessions();
    for responses in [
        json!(null),
        json!([]),
        json!({"first": 12345}),
        json!({"first": {}}),
        json!({"first": {"action": "agree"}}),
        json!({"first": {"action": "accept", "content": {"name": 7}}}),
        json!({"first": {"action": "accept", "content": {}}}),
        json!({"first": {"action": "accept"}}),
    ] {
        let (refused, _) = round(&sessions, &json!({"inputResponses": responses})).await;
        assert!(matches!(refused, Err(Interrupted::Fault(Fault::InvalidParams(_)))), "{responses}: {refused:?}");
    }
}

#[test]
fn a_state_is_good_for_its_principal_its_method_its_parameters_and_an_hour() {
    let sessions = sessions();
    let open = |sessions: &Sessions, state: &str, who: &str, method: &str, arguments: Value, now: u64| {
        let body = body(&json!({"name": "t", "arguments": arguments, "requestState": state, "_meta": {"round": now}}));
        let (principal, params) = (caller(who), params(&body));
        Inputs { principal: &principal, method, params: &params }.open(sessions, || now).map(|replay| replay.is_some())
    };
    let first = body(&json!({"name": "t", "arguments": {"a": 1, "b": {"c": 2, "d": 3}}}));
    let (ada, sent) = (caller("ada"), params(&first));
    let inputs = Inputs { principal: &ada, method: "tools/call", params: &sent };
    let state = inputs.seal(&sessions, &Answers::new(), NOW).unwrap();
    let same = || json!({"b": {"d": 3, "c": 2}, "a": 1});
    assert_eq!(open(&sessions, &state, "ada", "tools/call", same(), NOW + 3599), Ok(true), "however its keys are ordered");
    let refused = |outcome: Result<bool, Fault>| assert!(matches!(outcome, Err(Fault::InvalidParams(_))), "{outcome:?}");
    refused(open(&sessions, &state, "ada", "tools/call", same(), NOW + STATE_LIFETIME));
    refused(open(&sessions, &state, "eve", "tools/call", same(), NOW));
    refused(open(&sessions, &state, "ada", "prompts/get", same(), NOW));
    refused(open(&sessions, &state, "ada", "tools/call", json!({"a": 2, "b": {"c": 2, "d": 3}}), NOW));
    refused(open(&sessions, &format!("{state}-TAMPERED"), "ada", "tools/call", same(), NOW));
    refused(open(&sessions, "", "ada", "tools/call", same(), NOW));
    refused(open(&self::sessions(), &state, "ada", "tools/call", same(), NOW));
}

#[test]
fn answers_that_outgrow_the_state_fail_with_a_reason() {
    let sessions = sessions();
    let body = body(&json!({"name": "t"}));
    let (ada, params) = (caller("ada"), params(&body));
    let inputs = Inputs { principal: &ada, method: "tools/call", params: &params };
    let answers = Answers::from([("k".to_owned(), json!("x".repeat(crate::session::MAX_STATE_BYTES)))]);
    assert!(matches!(inputs.seal(&sessions, &answers, NOW), Err(Fault::Failed(why)) if why.contains("requestState")));
}

#[tokio::test]
async fn nothing_is_asked_that_the_client_did_not_declare() {
    let exchange =
        Exchange::silent(Version::V2026_07_28, ClientCapabilities(ClientCapabilities::SAMPLING)).asking(Asking::Replay(None));
    let missing = exchange.elicit("k", "Who?", schema()).await.unwrap_err();
    let elicitation = ClientCapabilities(ClientCapabilities::ELICITATION);
    assert_eq!(missing, Interrupted::Fault(Fault::MissingCapability(elicitation)));
    assert!(matches!(exchange.sample("k", CreateMessage::text("?", 1)).await, Err(Interrupted::InputRequired(_))));
    let with_tools =
        CreateMessage { more: [("tools".to_owned(), json!([]))].into_iter().collect(), ..CreateMessage::text("?", 1) };
    assert!(matches!(exchange.sample("k", with_tools).await, Err(Interrupted::Fault(Fault::MissingCapability(_)))));
}

#[tokio::test]
async fn too_many_questions_and_two_with_one_key_are_faults_of_the_handler() {
    let exchange = Exchange::silent(Version::V2026_07_28, all()).asking(Asking::Replay(None));
    let roots = |keys: &[usize]| keys.iter().map(|key| (key.to_string(), Ask::ListRoots)).collect::<Vec<_>>();
    let many: Vec<_> = (0..=MAX_ASKS).collect();
    for asks in [roots(&many), roots(&[1, 1])] {
        assert!(matches!(exchange.ask_all(asks).await, Err(Interrupted::Fault(Fault::Failed(_)))));
    }
    let large = CreateMessage::text("x".repeat(MAX_ASK_BYTES), 1);
    assert!(matches!(exchange.sample("k", large).await, Err(Interrupted::Fault(Fault::Failed(_)))));
}

fn spoken(outbox: &Outbox) -> Vec<Value> {
    let cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut spoken = vec![];
    while let std::task::Poll::Ready(event) = outbox.poll_next(&cx) {
        let text = String::from_utf8(event.to_vec()).unwrap();
        spoken.push(serde_json::from_str(text.trim_start_matches("event: message\ndata: ")).unwrap());
    }
    spoken
}

#[tokio::test]
async fn progress_grows_and_is_silent_for_who_did_not_ask() {
    let outbox = Arc::new(Outbox::new(true));
    let exchange = Exchange::test().on(&outbox);
    exchange.progress(1.0, None, None);
    let token = RawValue::from_string("\"t\"".to_owned()).unwrap();
    let exchange = exchange.with_progress(Some(&token));
    for progress in [0.0, 50.0, 50.0, 20.0, f64::NAN, f64::INFINITY, 100.0] {
        exchange.clone().progress(progress, Some(100.0), Some("at it"));
    }
    let spoken = spoken(&outbox);
    let heard: Vec<_> = spoken.iter().map(|message| message["params"]["progress"].clone()).collect();
    assert_eq!(heard, [json!(0), json!(50), json!(100)]);
    let params = json!({"progressToken": "t", "progress": 0, "total": 100, "message": "at it"});
    assert_eq!(spoken[0], json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}));
}

#[tokio::test]
async fn log_messages_are_heard_from_the_level_up_that_was_asked_for() {
    let outbox = Arc::new(Outbox::new(true));
    let exchange = Exchange::test().on(&outbox);
    exchange.log(LoggingLevel::Emergency, None, &json!("nobody asked"));
    let exchange = exchange.with_level(Some(LoggingLevel::Warning));
    exchange.log(LoggingLevel::Info, None, &json!("less"));
    exchange.log(LoggingLevel::Warning, Some("db"), &json!({"rows": 7}));
    exchange.log(LoggingLevel::Error, None, &json!("x".repeat(MAX_LOG_BYTES)));
    let params = json!({"level": "warning", "logger": "db", "data": {"rows": 7}});
    assert_eq!(spoken(&outbox), [json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params})]);
    assert_eq!(outbox.dropped(), 1, "what is too large is counted");
}

struct Legacy {
    sessions: Sessions,
    asks: Arc<Asks>,
    outbox: Arc<Outbox>,
    session: SessionKey,
    exchange: Exchange,
}

fn legacy() -> Legacy {
    let sessions = sessions();
    let asks = Arc::new(Asks::new(sessions.incarnation(), sessions.tagger()));
    let outbox = Arc::new(Outbox::new(true));
    let session = SessionKey { incarnation: [3; 16], number: 9 };
    let exchange = Exchange::silent(Version::V2025_11_25, all()).on(&outbox).asking(Asking::Live(Arc::clone(&asks), session));
    Legacy { sessions, asks, outbox, session, exchange }
}

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_legacy_question_is_a_request_on_the_stream_and_its_posted_response_the_answer() {
    let Legacy { asks, outbox, session, exchange, .. } = legacy();
    let asking = tokio::spawn(async move { exchange.elicit("first", "Who?", schema()).await });
    while outbox.is_empty() {
        tokio::task::yield_now().await;
    }
    let request = spoken(&outbox).remove(0);
    assert_eq!((&request["method"], &request["params"]["message"]), (&json!("elicitation/create"), &json!("Who?")));
    let id = request["id"].as_str().unwrap();
    let Route::Local(slot) = asks.route(session, id) else { panic!("{id}") };
    let answer = accepted("Ada").to_string();
    let stranger = SessionKey { number: 10, ..session };
    assert_eq!(asks.deliver(stranger, slot, Ok(raw(&answer))), Delivered::Nobody);
    assert_eq!(asks.deliver(session, slot, Ok(raw(&answer))), Delivered::Taken);
    assert_eq!(asks.deliver(session, slot, Ok(raw(&answer))), Delivered::Nobody, "only once");
    let result = asking.await.unwrap().unwrap();
    assert_eq!((result.action, asks.waiting()), (Action::Accept, 0));
    assert!(outbox.is_empty(), "what was answered is not cancelled");
}

#[tokio::test]
async fn an_id_that_was_not_given_to_this_session_leads_nowhere() {
    let Legacy { sessions, asks, outbox, session, exchange } = legacy();
    let asking = tokio::spawn(async move { exchange.roots("r").await });
    while outbox.is_empty() {
        tokio::task::yield_now().await;
    }
    let request = spoken(&outbox).remove(0);
    let id = request["id"].as_str().unwrap().to_owned();
    let other = Asks::new([5; 16], sessions.tagger());
    assert!(matches!(other.route(session, &id), Route::Other(incarnation, _) if incarnation == sessions.incarnation()));
    assert_eq!(asks.route(SessionKey { number: 10, ..session }, &id), Route::Forged);
    let (head, mac) = id.rsplit_once('.').unwrap();
    let (incarnation, slot) = head.split_once('.').unwrap();
    let next: u64 = slot.parse::<u64>().unwrap() + 1;
    let zeros = "0".repeat(32);
    for forged in [
        String::new(),
        format!("{incarnation}.{next}.{mac}"),
        format!("{incarnation}.0{slot}.{mac}"),
        format!("{incarnation}.+{slot}.{mac}"),
        format!("{zeros}.{slot}.{mac}"),
        format!("{incarnation}.{slot}.{zeros}"),
        format!("{incarnation}.{slot}"),
        format!("{id}."),
        id.to_uppercase(),
    ] {
        assert_eq!(asks.route(session, &forged), Route::Forged, "{forged}");
    }
    asking.abort();
}

#[tokio::test]
async fn a_question_that_is_not_needed_any_more_is_taken_back() {
    let Legacy { asks, outbox, exchange, .. } = legacy();
    let asking =
        tokio::spawn(
            async move { exchange.ask_all(vec![("a".to_owned(), Ask::ListRoots), ("b".to_owned(), Ask::ListRoots)]).await },
        );
    while asks.waiting() < 2 {
        tokio::task::yield_now().await;
    }
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let spoken = spoken(&outbox);
    let methods: Vec<_> = spoken.iter().map(|message| message["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["roots/list", "roots/list", "notifications/cancelled", "notifications/cancelled"]);
    assert_eq!(spoken[0]["id"], spoken[2]["params"]["requestId"]);
    assert_eq!(asks.waiting(), 0);
}

#[tokio::test]
async fn refusals_and_the_end_of_the_session_end_a_question() {
    for ends in [true, false] {
        let Legacy { asks, outbox, session, exchange, .. } = legacy();
        let asking = tokio::spawn(async move { exchange.roots("r").await });
        while outbox.is_empty() {
            tokio::task::yield_now().await;
        }
        let request = spoken(&outbox).remove(0);
        let Route::Local(slot) = asks.route(session, request["id"].as_str().unwrap()) else { panic!() };
        if ends {
            asks.end_session(session);
        } else {
            asks.deliver(session, slot, Err(raw(r#"{"code": -1, "message": "User rejected"}"#)));
        }
        let Err(Interrupted::Fault(Fault::Failed(why))) = asking.await.unwrap() else { panic!() };
        assert!(why.contains(if ends { "session was ended" } else { "User rejected" }), "{why}");
    }
}

#[tokio::test]
async fn who_takes_no_stream_cannot_be_asked_and_the_table_has_an_end() {
    let Legacy { asks, outbox, session, exchange, .. } = legacy();
    outbox.close();
    let refused = exchange.roots("r").await;
    assert!(matches!(&refused, Err(Interrupted::Fault(Fault::Failed(why))) if why.contains("event stream")), "{refused:?}");
    let outbox = Arc::new(Outbox::new(true));
    let exchange = exchange.on(&outbox);
    let ask = |_| {
        let exchange = exchange.clone();
        tokio::spawn(async move { exchange.roots("r").await })
    };
    let waiting: Vec<_> = (0..crate::limits::MAX_WAITING_ASKS).map(ask).collect();
    while asks.waiting() < crate::limits::MAX_WAITING_ASKS {
        tokio::task::yield_now().await;
    }
    assert!(matches!(exchange.roots("r").await, Err(Interrupted::Fault(Fault::Failed(_)))));
    assert_eq!(asks.refused(), 1);
    asks.end_session(session);
    for waiting in waiting {
        assert!(waiting.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_url_has_a_name_in_the_one_revision_that_wants_one() {
    use crate::mcp::elicitation::ElicitUrl;
    let url = ElicitUrl { message: "Go".to_owned(), url: "https://x".to_owned(), elicitation_id: None };
    let ask = Ask::ElicitUrl(url);
    assert_eq!(ask.params(Version::V2025_11_25, "7")["elicitationId"], "7");
    let modern = ask.params(Version::V2026_07_28, "7");
    assert_eq!(modern, json!({"mode": "url", "message": "Go", "url": "https://x"}));
}
