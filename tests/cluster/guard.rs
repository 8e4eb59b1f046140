//! What a shard does next to its memory limit, in the control group of its container.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use mcp_crds::shard::DATA_PORT;
use mcp_tests::cgroup::Group;
use mcp_tests::cluster::{STARTS_WITHIN, restarts};
use mcp_tests::mcp::Modern;
use mcp_tests::metrics::Metrics;
use mcp_tests::wait::eventually;
use mcp_tests::wire::{self, Answer};
use mcp_tests::{Failure, Namespace, Outcome, claim, claim_eq, reach};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::manifest::{greet, small};

/// Name of the container that serves.
const CONTAINER: &str = "server";
const LIMIT: u64 = 64 << 20;
/// Clients of each kind.
const CLIENTS: usize = 200;
/// Bytes of a body: as many as a shard takes.
const BODY: usize = 4 << 20;
/// Bytes of an answer that its client does not read.
const ANSWER: usize = 250_000;
/// Bytes of the filter of a stream: near the most that a shard keeps.
const FILTER: usize = 12 << 10;
/// Streams that are asked for at one time.
const AT_ONCE: usize = 64;
/// Connections that come at one time, each with a call.
const CONNECTIONS: usize = 8_000;
/// Where the working set is of the limit that is lowered to it, percent: streams are ended there.
const PRESSED: u64 = 93;
/// More than fit the limit, whatever a stream takes.
const MOST_STREAMS: usize = 6_000;
/// A refusal comes at once; who hears nothing by then may go on.
const OBJECTS_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);
const CALM_WITHIN: Duration = Duration::from_mins(1);

/// What became of a large body.
enum Upload {
    /// Refused, with this status.
    Refused(u16),
    /// All but its last byte was sent.
    Held(#[allow(dead_code, reason = "open until dropped")] TcpStream),
}

async fn upload(address: SocketAddr) -> io::Result<Upload> {
    let mut socket = TcpStream::connect(address).await?;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {BODY}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    let mut said = [0; 64];
    if let Ok(read) = timeout(OBJECTS_WITHIN, socket.read(&mut said)).await {
        let line = String::from_utf8_lossy(&said[..read?]).into_owned();
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        return status.map(Upload::Refused).ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    // The guard may end the shard's patience with it.
    let _ = timeout(OBJECTS_WITHIN, socket.write_all(&vec![b' '; BODY - 1])).await;
    Ok(Upload::Held(socket))
}

/// Begins as many large bodies as there are clients. Those that a shard takes stay open until what is returned is dropped.
async fn uploads(address: SocketAddr) -> Outcome<Vec<Upload>> {
    let begun: Vec<_> = futures::future::join_all((0..CLIENTS).map(|_| upload(address))).await;
    let begun = begun.into_iter().collect::<io::Result<Vec<_>>>()?;
    for one in &begun {
        if let Upload::Refused(status) = one {
            claim_eq!(*status, 503, "status of a body that does not fit");
        }
    }
    Ok(begun)
}

fn held(uploads: &[Upload]) -> usize {
    uploads.iter().filter(|one| matches!(one, Upload::Held(_))).count()
}

/// Asks for that many streams with large filters, as fast as they are answered: all of them, or, to fill a shard, until one is refused.
/// Returns those that are held, and how many were refused.
async fn streams(address: SocketAddr, most: usize, fills: bool) -> Outcome<(Vec<Answer>, usize)> {
    let listen = |number: usize| {
        let uris: Vec<String> = (0..FILTER / 64).map(|n| format!("notes://{number}/{n:0>30}")).collect();
        let filter = json!({"notifications": {"resourceSubscriptions": uris}});
        async move { wire::ask(address, &wire::modern(address, "subscriptions/listen", filter), false).await }
    };
    let mut asking = stream::iter((0..most).map(listen)).buffer_unordered(AT_ONCE);
    let (mut held, mut refused) = (vec![], 0);
    while let Some(answer) = asking.next().await {
        let answer = answer?;
        match answer.status {
            200 => held.push(answer),
            503 => refused += 1,
            status => return Err(Failure::new(format!("a stream was answered with {status}"))),
        }
        if fills && refused > 0 {
            break;
        }
    }
    Ok((held, refused))
}

/// Waits until the shard has noticed who went: until then their places, and the bytes that were theirs, are taken.
async fn until_it_answers(address: SocketAddr) -> Outcome {
    let call = wire::modern(address, "tools/call", json!({"name": "greet", "arguments": {}}));
    eventually("a call answered", CALM_WITHIN, || async {
        claim_eq!(wire::ask(address, &call, false).await?.status, 200, "status of a call");
        Ok(())
    })
    .await
}

/// The highest working set from now on, bytes; read until dropped.
fn highest(group: Group) -> (tokio::sync::watch::Receiver<u64>, tokio::task::JoinHandle<()>) {
    let (tell, told) = tokio::sync::watch::channel(0);
    let reading = tokio::spawn(async move {
        loop {
            if let Ok(now) = group.working_set() {
                tell.send_modify(|highest| *highest = now.max(*highest));
            }
            sleep(LOOK).await;
        }
    });
    (told, reading)
}

/// Two hundred bodies of 4 MiB, two hundred clients that do not read their answers, eight thousand connections that come and ask at
/// one time, streams until the shard refuses them and bodies on top of these, a limit that is lowered to what is used, and then all
/// streams coming back at once: nothing is killed, and everybody is answered.
pub(crate) async fn a_shard_next_to_its_memory_limit_refuses_ends_streams_and_is_not_killed(namespace: Namespace) -> Outcome {
    let large = json!({"name": "large", "static": {"content": [{"text": "x".repeat(ANSWER)}]}});
    let spec = json!({
        "replicas": 1,
        "resources": {"limits": {"memory": "64Mi"}},
        "limits": {"requestTimeout": "60s", "readTimeout": "60s"},
        "drain": {"window": "1s", "timeout": "60s"},
        "catalog": {"tools": [greet("Hello."), large]},
    });
    namespace.apply(&small("guarded", &spec).to_string()).await?;
    let cluster = namespace.cluster("guarded");
    cluster.until_settled(1, STARTS_WITHIN).await?;
    let pods = cluster.ready_pods().await?;
    let [pod] = &pods[..] else { return Err(Failure::new(format!("{} pods", pods.len()))) };
    let address = reach::pod(&namespace, pod, DATA_PORT, "/mcp").await?.address;
    let group = Group::of(pod, CONTAINER)?;
    claim_eq!(group.limit()?, LIMIT, "memory limit of the container's cgroup");
    let (most, reading) = highest(group.clone());
    let percent = || *most.borrow() * 100 / LIMIT;
    let idle = group.working_set()?;
    println!("    at first {} %", idle * 100 / LIMIT);

    let bodies = uploads(address).await?;
    claim!(held(&bodies) >= 1 && held(&bodies) <= 2, "an eighth of 64 MiB is two bodies; {} were taken", held(&bodies));
    eventually("a body in memory", CALM_WITHIN, || async {
        let now = *most.borrow();
        claim!(now >= idle + BODY as u64 / 2, "{now} bytes, and {idle} before");
        Ok(())
    })
    .await?;
    println!("    {CLIENTS} bodies of 4 MiB: {} taken, the others refused; {} %", held(&bodies), percent());
    drop(bodies);
    until_it_answers(address).await?;

    let call = wire::modern(address, "tools/call", json!({"name": "large", "arguments": {}}));
    let readers = futures::future::join_all((0..CLIENTS).map(|_| wire::ask(address, &call, true))).await;
    let readers = readers.into_iter().collect::<io::Result<Vec<_>>>()?;
    let answered = readers.iter().filter(|answer| answer.status == 200).count();
    println!("    {CLIENTS} answers of 250 KB that nobody reads: {answered} begun, the others refused; {} %", percent());
    claim!(readers.iter().all(|answer| matches!(answer.status, 200 | 503)), "neither a result nor a refusal");
    claim!(answered > 0 && answered < CLIENTS, "{answered} of {CLIENTS} answers were there at one time");
    drop(readers);
    until_it_answers(address).await?;

    let call = wire::modern(address, "tools/call", json!({"name": "greet", "arguments": {}}));
    let callers = futures::future::join_all((0..CONNECTIONS).map(|_| wire::ask(address, &call, false))).await;
    let callers = callers.into_iter().collect::<io::Result<Vec<_>>>()?;
    let answered = callers.iter().filter(|answer| answer.status == 200).count();
    println!("    {CONNECTIONS} connections at one time, each with a call: {answered} answered; {} %", percent());
    claim!(callers.iter().all(|answer| matches!(answer.status, 200 | 503)), "neither a result nor a refusal");
    claim!(answered > CONNECTIONS / 2, "{answered} of {CONNECTIONS} calls were answered");
    drop(callers);
    until_it_answers(address).await?;

    let (mut subscribed, _) = streams(address, MOST_STREAMS, true).await?;
    println!("    {} streams with 12 KiB of filter each until one was refused; {} %", subscribed.len(), percent());
    claim!(subscribed.len() > 100 && subscribed.len() < MOST_STREAMS, "{} streams", subscribed.len());
    let bodies = uploads(address).await?;
    println!("    bodies on top: {} taken; {} %", held(&bodies), percent());
    drop(bodies);
    until_it_answers(address).await?;

    // The shard itself does not come so far any more, and the limit follows what it uses: its allocator gives back meanwhile what
    // was free already.
    let (ended, purged) = eventually("streams ended for want of memory", CALM_WITHIN, || async {
        let metrics = Metrics::of(&namespace, pod).await?;
        let shed = metrics.sum("mcp_streams_shed_total")?;
        if shed == 0.0 {
            group.set_limit(group.working_set()? / PRESSED * 100)?;
        }
        claim!(shed > 0.0, "none was ended");
        Ok((shed, metrics.sum("mcp_memory_purged_bytes_total")?))
    })
    .await?;
    println!("    the limit lowered to {} MiB: {ended} streams ended, {purged} bytes purged", group.limit()? >> 20);
    group.set_limit(LIMIT)?;
    let subscribers = u32::try_from(subscribed.len()).unwrap_or(u32::MAX);
    claim!(ended < f64::from(subscribers) / 2.0, "{ended} of {subscribers} streams were ended");
    claim!(purged > 0.0, "before that, what the allocator kept was given back");
    until_it_answers(address).await?;

    let count = subscribed.len();
    subscribed.clear();
    let (back, refused) = streams(address, count, false).await?;
    println!("    {count} streams come back at once: {} held, {refused} refused; {} %", back.len(), percent());
    drop(back);
    reading.abort();

    claim_eq!(group.oom_kills()?, 0, "processes the kernel killed for memory");
    until_it_answers(address).await?;
    claim_eq!(Modern::new(cluster.endpoint().await?).call("greet", json!({})).await?.tool_text()?, "Hello.", "greet");
    let pods = cluster.ready_pods().await?;
    claim_eq!(pods.iter().map(restarts).collect::<Vec<_>>(), [0], "restarts");
    Ok(())
}
