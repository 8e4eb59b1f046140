mod stand_in;
mod tls;

use std::fs;
use std::net::IpAddr;

use futures::stream;
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use mcp_crds::catalog::template::UrlTemplate;
use prometheus_client::registry::Registry;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use self::stand_in::{StandIn, text};
use super::*;

fn clients() -> Clients {
    Clients::new([]).unwrap()
}

fn http(url: &str, more: &Value) -> CompiledHttp {
    let mut http = json!({"method": "GET", "url": url, "maxSize": 10_000, "timeoutMs": 10_000});
    for (name, value) in more.as_object().unwrap() {
        http[name] = value.clone();
    }
    serde_json::from_value(http).unwrap()
}

fn tool(url: &str, more: &Value) -> HttpTool {
    HttpTool::new(&http(url, more), None, false, Arc::new(Credentials::none()), &clients()).unwrap()
}

/// A tool of a named backend, with credentials from a folder.
fn tool_of(backend: &Value, url: &str, more: &Value, folder: &TempDir) -> HttpTool {
    let backend: CompiledBackend = serde_json::from_value(backend.clone()).unwrap();
    let credentials = Arc::new(Credentials::load(folder.path()).unwrap());
    HttpTool::new(&http(url, more), Some(&backend), false, credentials, &clients()).unwrap()
}

async fn call(tool: &HttpTool, arguments: Value) -> Result<CallToolResult, CallError> {
    tool.call(arguments.as_object().unwrap(), Instant::now() + Duration::from_secs(10)).await
}

/// The text of a result that succeeded.
fn said(result: Result<CallToolResult, CallError>) -> String {
    let result = json!(result.unwrap());
    assert_eq!(result["content"].as_array().unwrap().len(), 1, "{result}");
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

fn metric(clients: &Clients, line: &str) -> bool {
    let mut registry = Registry::default();
    clients.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text.lines().any(|found| found == line)
}

// === the request ===

#[tokio::test]
async fn arguments_arrive_encoded_and_the_answer_comes_back() {
    let api = StandIn::start(|_| text(200, "application/json", r#"{"temp": 21}"#)).await;
    let tool = tool(&api.url("/weather/{city}{?days,lang}"), &json!({}));
    let result = call(&tool, json!({"city": "Köln/x?a=b#c %2F", "days": 3})).await;
    assert_eq!(said(result), r#"{"temp": 21}"#);
    let seen = api.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/weather/K%C3%B6ln%2Fx%3Fa%3Db%23c%20%252F?days=3"));
    assert_eq!(seen.headers["accept"], "application/json, */*;q=0.5");
    assert!(seen.headers.get("accept-encoding").is_none(), "a compressed answer could unpack to anything");
}

/// All texts of up to three of the characters that make trouble in URLs.
fn nasty() -> impl Iterator<Item = String> {
    const ALPHABET: [char; 13] = ['.', '/', '\\', '%', '2', 'e', '?', '#', '@', ':', ' ', '\n', 'ü'];
    let longer = |texts: Vec<String>| texts.iter().flat_map(|text| ALPHABET.map(|c| format!("{text}{c}"))).collect::<Vec<_>>();
    let one = longer(vec![String::new()]);
    let two = longer(one.clone());
    one.into_iter().chain(longer(two.clone())).chain(two)
}

#[test]
fn no_argument_changes_what_a_url_is_about() {
    let template = UrlTemplate::parse("http://h:81/a/{x}/b?c={x}{&x}").unwrap();
    let mut sent = 0;
    for text in nasty() {
        let Ok(url) = template.expand(json!({"x": text}).as_object().unwrap()) else { continue };
        let parsed = reqwest::Url::parse(&url).unwrap();
        assert_eq!(parsed.as_str(), url, "{text:?}: the client sends what the template made");
        assert_eq!((parsed.host_str(), parsed.port()), (Some("h"), Some(81)), "{text:?}");
        let segments: Vec<_> = parsed.path_segments().unwrap().collect();
        assert!(matches!(segments[..], ["a", _, "b"]), "{text:?}: {segments:?}");
        let pairs: Vec<_> = parsed.query_pairs().collect();
        assert_eq!(pairs, [("c".into(), text.as_str().into()), ("x".into(), text.as_str().into())]);
        sent += 1;
    }
    assert!(sent > 2000, "most are fine once they are encoded: {sent}");
}

#[tokio::test]
async fn arguments_that_make_no_url_send_nothing() {
    let api = StandIn::start(|_| text(200, "text/plain", "")).await;
    let tool = tool(&api.url("/items/{id}"), &json!({"method": "DELETE"}));
    for arguments in [json!({}), json!({"id": ""}), json!({"id": ".."}), json!({"id": "../admin"})] {
        let error = call(&tool, arguments.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Arguments, "{arguments}");
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn bodies_are_json_forms_or_text() {
    let api = StandIn::start(|_| text(201, "text/plain", "made")).await;
    let arguments = json!({"title": "a \"b\" & c", "labels": ["x", "y"], "n": 2});
    for (body, media_type, sent) in [
        (
            json!({"json": {"title": "{title}", "labels": "{labels}", "gone": "{gone}", "via": "mcp {n}"}}),
            "application/json",
            r#"{"labels":["x","y"],"title":"a \"b\" & c","via":"mcp 2"}"#,
        ),
        (
            json!({"form": {"title": "{title}", "labels": "{labels}", "gone": "{gone}"}}),
            "application/x-www-form-urlencoded",
            "labels=x&labels=y&title=a+%22b%22+%26+c",
        ),
        (json!({"text": "{title}: {n}"}), "text/plain; charset=utf-8", "a \"b\" & c: 2"),
    ] {
        let tool = tool(&api.url("/tickets"), &json!({"method": "POST", "body": body}));
        assert_eq!(said(call(&tool, arguments.clone()).await), "made");
        let seen = api.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.headers["content-type"].to_str().unwrap()), ("POST", media_type));
        if media_type == "application/json" {
            assert_eq!(serde_json::from_str::<Value>(&seen.body).unwrap(), serde_json::from_str::<Value>(sent).unwrap());
        } else {
            assert_eq!(seen.body, sent);
        }
    }
}

#[tokio::test]
async fn headers_of_a_tool_replace_those_of_its_backend() {
    let api = StandIn::start(|_| text(200, "text/plain", "ok")).await;
    let backend = json!({"name": "b", "maxInFlightRequests": 1, "headers": [
        {"name": "x-client", "value": {"literal": "backend"}},
        {"name": "x-kept", "value": {"literal": "kept"}},
        {"name": "accept", "value": {"literal": "text/csv"}},
    ]});
    let headers = json!({"headers": [{"name": "x-client", "value": {"literal": "tool"}}]});
    let tool = tool_of(&backend, &api.url("/"), &headers, &TempDir::new().unwrap());
    call(&tool, json!({})).await.unwrap();
    let seen = api.only().headers;
    assert_eq!(
        (&seen["x-client"], &seen["x-kept"], &seen["accept"]),
        (&"tool".parse().unwrap(), &"kept".parse().unwrap(), &"text/csv".parse().unwrap())
    );
    assert_eq!(seen.get_all("x-client").iter().count(), 1);
}

// === credentials ===

#[tokio::test]
async fn bearer_basic_and_header_credentials_are_sent() {
    let api = StandIn::start(|_| text(200, "text/plain", "ok")).await;
    let folder = TempDir::new().unwrap();
    for (file, value) in [("s_token", "t0ken\n"), ("s_username", "ada"), ("s_password", "pass:word"), ("s_key", "k")] {
        fs::write(folder.path().join(file), value).unwrap();
    }
    let bearer = json!({"name": "b", "maxInFlightRequests": 1, "authorization": {"bearer": "s_token"}});
    call(&tool_of(&bearer, &api.url("/"), &json!({}), &folder), json!({})).await.unwrap();
    let basic = json!({"name": "b", "maxInFlightRequests": 1,
        "authorization": {"basic": {"username": "s_username", "password": "s_password"}},
        "headers": [{"name": "x-key", "value": {"credential": "s_key"}}]});
    call(&tool_of(&basic, &api.url("/"), &json!({}), &folder), json!({})).await.unwrap();
    let seen = api.seen();
    assert_eq!(seen[0].headers["authorization"], "Bearer t0ken");
    assert_eq!(seen[1].headers["authorization"], format!("Basic {}", base64("ada:pass:word")));
    assert_eq!(seen[1].headers["x-key"], "k");
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn a_rotated_credential_is_used_by_the_next_call() {
    let api = StandIn::start(|_| text(200, "text/plain", "ok")).await;
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("s_token"), "old").unwrap();
    let credentials = Arc::new(Credentials::load(folder.path()).unwrap());
    let backend = json!({"name": "b", "maxInFlightRequests": 1, "authorization": {"bearer": "s_token"}});
    let backend: CompiledBackend = serde_json::from_value(backend).unwrap();
    let http = http(&api.url("/"), &json!({}));
    let tool = HttpTool::new(&http, Some(&backend), false, credentials.clone(), &clients()).unwrap();
    call(&tool, json!({})).await.unwrap();
    fs::write(folder.path().join("s_token"), "new").unwrap();
    credentials.reload().unwrap();
    call(&tool, json!({})).await.unwrap();
    let sent: Vec<_> = api.seen().iter().map(|seen| seen.headers["authorization"].to_str().unwrap().to_owned()).collect();
    assert_eq!(sent, ["Bearer old", "Bearer new"]);
}

#[tokio::test]
async fn a_credential_that_cannot_be_sent_is_named_and_not_shown() {
    let api = StandIn::start(|_| text(200, "text/plain", "ok")).await;
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("tickets_broken"), "hunter2\nInjected: yes").unwrap();
    fs::write(folder.path().join("tickets_empty"), "\n").unwrap();
    for (file, problem) in [
        ("tickets_gone", "key gone of Secret tickets is missing"),
        ("tickets_broken", "key broken of Secret tickets holds bytes that no header can carry"),
        ("tickets_empty", "key empty of Secret tickets is empty"),
    ] {
        let backend = json!({"name": "b", "maxInFlightRequests": 1, "authorization": {"bearer": file}});
        let error = call(&tool_of(&backend, &api.url("/"), &json!({}), &folder), json!({})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credential);
        assert!(error.to_string().contains(problem), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    assert!(api.seen().is_empty());
}

// === the answer ===

#[tokio::test]
async fn what_select_finds_is_structured_content_and_text_is_made_of_it() {
    let api = StandIn::start(|_| text(200, "application/json", r#"{"ticket": {"number": 7, "labels": ["a", "b"]}}"#)).await;
    let select = |query: &str, template: Option<&str>| tool(&api.url("/"), &json!({"select": query, "text": template}));
    let one = json!(call(&select("$.ticket", Some("Created {number}.")), json!({})).await.unwrap());
    assert_eq!(one["structuredContent"], json!({"number": 7, "labels": ["a", "b"]}));
    assert_eq!(one["content"], json!([{"type": "text", "text": "Created 7."}]));
    let many = json!(call(&select("$.ticket.labels[*]", None), json!({})).await.unwrap());
    assert_eq!((&many["structuredContent"], &many["content"][0]["text"]), (&json!(["a", "b"]), &json!("[\"a\",\"b\"]")));
    let nothing = call(&select("$.order", None), json!({})).await.unwrap_err();
    assert_eq!(nothing.to_string(), "the backend answered without $.order");
}

#[tokio::test]
async fn an_output_schema_makes_the_whole_answer_structured() {
    let api = StandIn::start(|_| text(200, "text/plain", r#"{"n": 1}"#)).await;
    let http = http(&api.url("/"), &json!({}));
    let tool = HttpTool::new(&http, None, true, Arc::new(Credentials::none()), &clients()).unwrap();
    assert_eq!(call(&tool, json!({})).await.unwrap().structured_content, Some(json!({"n": 1})), "whatever the media type says");
}

#[tokio::test]
async fn what_is_not_json_cannot_be_selected_from() {
    let api = StandIn::start(|_| text(200, "text/html", "<h1>Sign in</h1>")).await;
    for more in [json!({"select": "$.a"}), json!({"text": "{a}"})] {
        let error = call(&tool(&api.url("/"), &more), json!({})).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Response, "the backend answered with something that is not JSON")
        );
    }
    assert_eq!(said(call(&tool(&api.url("/"), &json!({"text": "Done."})), json!({})).await), "Done.");
}

#[tokio::test]
async fn media_types_become_blocks() {
    for (media_type, body, block) in [
        ("text/plain; charset=iso-8859-1", b"\xfc".to_vec(), json!({"type": "text", "text": "ü"})),
        ("image/png", vec![0, 1], json!({"type": "image", "data": "AAE=", "mimeType": "image/png"})),
        ("audio/wav", vec![0, 1], json!({"type": "audio", "data": "AAE=", "mimeType": "audio/wav"})),
        ("application/octet-stream", b"plain".to_vec(), json!({"type": "text", "text": "plain"})),
        ("application/json", Vec::new(), json!({"type": "text", "text": "200 OK"})),
    ] {
        let api = StandIn::start(move |_| text(200, media_type, body.clone())).await;
        let result = json!(call(&tool(&api.url("/"), &json!({})), json!({})).await.unwrap());
        assert_eq!(result, json!({"content": [block]}), "{media_type}");
    }
    let api = StandIn::start(|_| text(200, "application/pdf", vec![0, 1])).await;
    let error = call(&tool(&api.url("/"), &json!({})), json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "the backend answered with application/pdf, which cannot be shown");
}

#[tokio::test]
async fn an_error_status_is_told_with_the_beginning_of_its_body() {
    let long = format!("{{\"error\": \"no queue\", \"x\": \"{}\"}}", "y".repeat(100_000));
    let api = StandIn::start(move |_| text(422, "application/problem+json", long.clone())).await;
    let error = call(&tool(&api.url("/"), &json!({})), json!({})).await.unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with("the backend answered 422 Unprocessable Entity: {\"error\": \"no queue\""), "{said}");
    assert!(said.len() < 700, "{}", said.len());
    assert!(!said.contains("127.0.0.1"), "no address leaves the shard");
    assert_eq!(error.kind(), ErrorKind::Status);
    let api = StandIn::start(|_| text(503, "text/html", "<h1>Stack trace</h1>")).await;
    let error = call(&tool(&api.url("/"), &json!({})), json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "the backend answered 503 Service Unavailable");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let api = StandIn::start(|_| {
        let mut answer = text(302, "text/plain", "go");
        answer.headers_mut().insert("location", "/secret".parse().unwrap());
        answer
    })
    .await;
    let error = call(&tool(&api.url("/"), &json!({})), json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "the backend answered 302 Found, a redirect, and redirects are not followed");
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_past_its_size_is_cut_whether_announced_or_not() {
    let announced = StandIn::start(|_| text(200, "text/plain", vec![b'x'; 10_001])).await;
    let endless = StandIn::start(|_| {
        let chunks = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 1000]))));
        Response::new(StreamBody::new(chunks).boxed())
    })
    .await;
    for api in [announced, endless] {
        let error = call(&tool(&api.url("/"), &json!({})), json!({})).await.unwrap_err();
        assert_eq!(error, CallError::TooLarge { backend: "the backend".to_owned(), limit: 10_000 });
    }
    let exact = StandIn::start(|_| text(200, "text/plain", vec![b'x'; 10_000])).await;
    assert_eq!(said(call(&tool(&exact.url("/"), &json!({})), json!({})).await).len(), 10_000);
}

#[tokio::test]
async fn a_shard_that_holds_all_it_can_reads_no_further() {
    let api = StandIn::start(|_| text(200, "text/plain", vec![b'x'; 10_000])).await;
    let clients = clients();
    let tool = HttpTool::new(&http(&api.url("/"), &json!({})), None, false, Arc::new(Credentials::none()), &clients).unwrap();
    let mut others = clients.answers().hold();
    others.add((64 << 20) - 9_999).unwrap();
    let error = call(&tool, json!({})).await.unwrap_err();
    assert_eq!(error, CallError::Full { backend: "the backend".to_owned() });
    drop(others);
    for _ in 0..3 {
        assert_eq!(said(call(&tool, json!({})).await).len(), 10_000, "what was read is given back");
    }
}

// === time, bounds, and what goes wrong on the way ===

#[tokio::test]
async fn a_slow_answer_ends_at_the_timeout_or_the_deadline_whichever_is_first() {
    let api = StandIn::start_async(|_| Box::pin(std::future::pending())).await;
    let own = tool(&api.url("/"), &json!({"timeoutMs": 50}));
    let error = call(&own, json!({})).await.unwrap_err();
    assert_eq!(error, CallError::Timeout { backend: "the backend".to_owned(), after: Duration::from_millis(50) });
    let patient = tool(&api.url("/"), &json!({}));
    let error = patient.call(&Map::new(), Instant::now() + Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_body_that_trickles_ends_at_the_timeout() {
    let api = StandIn::start(|_| {
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"x")))]);
        let chunks = futures::StreamExt::chain(first, stream::pending());
        Response::new(StreamBody::new(chunks).boxed())
    })
    .await;
    let error = call(&tool(&api.url("/"), &json!({"timeoutMs": 50})), json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn past_its_limit_and_its_queue_a_backend_is_busy() {
    let release = Arc::new(Notify::new());
    let api = StandIn::start_async({
        let release = release.clone();
        move |_| {
            let release = release.clone();
            Box::pin(async move {
                release.notified().await;
                text(200, "text/plain", "ok")
            })
        }
    })
    .await;
    let clients = clients();
    let backend = serde_json::from_value(json!({"name": "tickets", "maxInFlightRequests": 1})).unwrap();
    let tool = |path: &str| {
        let http = http(&api.url(path), &json!({}));
        Arc::new(HttpTool::new(&http, Some(&backend), false, Arc::new(Credentials::none()), &clients).unwrap())
    };
    let start = |tool: Arc<HttpTool>| tokio::spawn(async move { call(&tool, json!({})).await });
    let running = start(tool("/first"));
    api.arrived(1).await;
    let waiting = start(tool("/second"));
    while !metric(&clients, "mcp_backend_queued{backend=\"tickets\"} 1") {
        tokio::task::yield_now().await;
    }
    let refused = call(&tool("/third"), json!({})).await.unwrap_err();
    assert_eq!(refused, CallError::Busy { backend: "backend tickets".to_owned(), limit: 1 });
    release.notify_one();
    assert_eq!(said(running.await.unwrap()), "ok");
    api.arrived(2).await;
    release.notify_one();
    assert_eq!(said(waiting.await.unwrap()), "ok");
    assert_eq!(api.seen().len(), 2);
    for line in [
        "mcp_backend_requests_total{backend=\"tickets\"} 3",
        "mcp_backend_errors_total{backend=\"tickets\",kind=\"Busy\"} 1",
        "mcp_backend_in_flight{backend=\"tickets\"} 0",
        "mcp_backend_queued{backend=\"tickets\"} 0",
        "mcp_backend_duration_seconds_count{backend=\"tickets\"} 2",
    ] {
        assert!(metric(&clients, line), "{line}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_call() {
    let api = StandIn::start_async(|_| Box::pin(std::future::pending())).await;
    let clients = clients();
    let http = http(&api.url("/"), &json!({}));
    let tool = HttpTool::new(&http, None, false, Arc::new(Credentials::none()), &clients).unwrap();
    tokio::select! {
        result = call(&tool, json!({})) => panic!("{result:?}"),
        () = api.arrived(1) => {}
    }
    let label = format!("http://{}", api.address);
    assert!(metric(&clients, &format!("mcp_backend_in_flight{{backend=\"{label}\"}} 0")));
    assert!(metric(&clients, &format!("mcp_backend_errors_total{{backend=\"{label}\",kind=\"Cancelled\"}} 1")));
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_from_one_that_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let breaks = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 1000];
        let _ = socket.read(&mut head).await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort").await.unwrap();
    };
    let tool = tool(&url, &json!({}));
    let (result, ()) = tokio::join!(call(&tool, json!({})), breaks);
    assert_eq!(result.unwrap_err(), CallError::Interrupted { backend: "the backend".to_owned() });
    drop(listener);
    let error = call(&tool, json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "the backend cannot be reached: it accepts no connection");
}

#[tokio::test]
async fn a_name_that_leads_to_metadata_is_not_called_and_one_that_leads_nowhere_says_so() {
    let lookup = |name: String| match name.as_str() {
        "rebound.test" => Ok(vec!["169.254.169.254".parse::<IpAddr>().unwrap()]),
        "loopback.test" => Ok(vec!["127.0.0.1".parse().unwrap()]),
        _ => Err(std::io::Error::other("no such host")),
    };
    let clients = Clients::with_lookup([], Arc::new(move |name| Box::pin(async move { lookup(name) }))).unwrap();
    let api = StandIn::start(|_| text(200, "text/plain", "ok")).await;
    let port = api.address.port();
    let call_host = async |host: &str| {
        let http = http(&format!("http://{host}:{port}/"), &json!({}));
        let tool = HttpTool::new(&http, None, false, Arc::new(Credentials::none()), &clients).unwrap();
        call(&tool, json!({})).await
    };
    assert_eq!(said(call_host("loopback.test").await), "ok");
    let forbidden = call_host("rebound.test").await.unwrap_err();
    assert_eq!(forbidden, CallError::ForbiddenAddress { backend: "the backend".to_owned() });
    let nowhere = call_host("nowhere.test").await.unwrap_err();
    assert_eq!(nowhere.to_string(), "the backend cannot be reached: its name does not resolve");
}

#[test]
fn a_literal_forbidden_address_is_refused_when_the_catalog_is_loaded() {
    for host in
        ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "0.0.0.0", "0", "0xa9fea9fe", "169.254.43518", "[::ffff:a9fe:a9fe]"]
    {
        let http = http(&format!("http://{host}/"), &json!({}));
        let refused = HttpTool::new(&http, None, false, Arc::new(Credentials::none()), &clients());
        assert!(matches!(refused, Err(InvalidRequest::Host { .. } | InvalidRequest::Url(_))), "{host}: {refused:?}");
    }
}

// === resources ===

async fn read(api: &StandIn, more: &Value, media_type: Option<&str>) -> Result<Value, CallError> {
    let http = http(&api.url("/"), more);
    let media_type = media_type.map(str::to_owned);
    let resource = HttpResource::new(&http, None, media_type, Arc::new(Credentials::none()), &clients()).unwrap();
    Ok(json!(resource.read("docs://a", &Map::new(), Instant::now() + Duration::from_secs(10)).await?))
}

#[tokio::test]
async fn a_resource_is_text_or_a_blob_of_its_own_or_the_answered_type() {
    let json_api = StandIn::start(|_| text(200, "application/json; charset=utf-8", r#"{"a": {"b": 1}}"#)).await;
    assert_eq!(
        read(&json_api, &json!({}), None).await.unwrap(),
        json!({"uri": "docs://a", "mimeType": "application/json", "text": "{\"a\": {\"b\": 1}}"})
    );
    assert_eq!(
        read(&json_api, &json!({"select": "$.a", "text": "b is {b}"}), Some("text/plain")).await.unwrap(),
        json!({"uri": "docs://a", "mimeType": "text/plain", "text": "b is 1"})
    );
    let pdf = StandIn::start(|_| text(200, "application/pdf", vec![0, 1])).await;
    assert_eq!(
        read(&pdf, &json!({}), None).await.unwrap(),
        json!({"uri": "docs://a", "mimeType": "application/pdf", "blob": "AAE="})
    );
}
