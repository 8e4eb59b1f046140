//! Streams over several processes, and updates that are raised while they are held: when does the last stream have it?

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::processes::Worker;
use crate::request::{self, Call, Era};
use crate::response::{Read, Reader};
use crate::summary::{Latency, Summary};
use crate::target::Target;

/// For one raise.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Several processes that hold streams.
#[derive(Debug)]
pub(crate) struct Holders(Vec<Worker>);

impl Holders {
    /// Starts them, each with its share, and waits until all is open. `arguments` are those of `hold` but for its share.
    pub(crate) fn start(arguments: &[String], streams: usize, processes: usize) -> Result<(Self, Value), String> {
        let share = streams.div_ceil(processes.max(1));
        let mut workers = Vec::new();
        for n in 0..processes {
            let first = n * share;
            let own = share.min(streams.saturating_sub(first));
            let mut arguments = arguments.to_vec();
            arguments.extend(["--worker".to_owned(), format!("--first={first}"), format!("--streams={own}")]);
            workers.push(Worker::humble(&arguments)?);
        }
        let said = workers.iter_mut().map(|worker| worker.hear("held")).collect::<Result<Vec<_>, _>>()?;
        let sum = |member: &str| said.iter().filter_map(|one| one[member].as_f64()).sum::<f64>();
        let longest = said.iter().filter_map(|one| one["seconds"].as_f64()).fold(0.0, f64::max);
        let opening =
            said.iter().max_by_key(|one| one["opening_us"]["p99"].as_f64().map(f64::to_bits)).map(|one| &one["opening_us"]);
        let all = json!({
            "held": sum("held"), "seconds": longest, "per_second": (sum("held") / longest.max(1e-9)).round(),
            "refused": sum("refused"), "failed": sum("failed"), "opening_us": opening,
        });
        Ok((Self(workers), all))
    }

    /// Makes them look for an update.
    pub(crate) fn arm(&mut self) -> Result<(), String> {
        for worker in &mut self.0 {
            worker.tell("round");
        }
        self.0.iter_mut().try_for_each(|worker| worker.hear("armed").map(drop))
    }

    /// How many streams had the update, how many should have, when the last did.
    pub(crate) fn delivered(&mut self) -> Result<(u64, u64, Duration), String> {
        let (mut delivered, mut of, mut last) = (0, 0, 0);
        for worker in &mut self.0 {
            let said = worker.hear("round")?;
            delivered += said["round"].as_u64().unwrap_or(0);
            of += said["of"].as_u64().unwrap_or(0);
            last = last.max(said["last_ns"].as_u64().unwrap_or(0));
        }
        Ok((delivered, of, Duration::from_nanos(last)))
    }

    /// Ends them: what each has to say, summed up.
    pub(crate) fn end(mut self) -> Result<Value, String> {
        let said = self.0.iter_mut().map(|worker| worker.end("end")).collect::<Result<Vec<_>, _>>()?;
        let members = ["end", "streams", "refused", "failed", "ended_by_server", "completed", "keep_alives", "updates"];
        let sum = |member: &str| said.iter().filter_map(|one| one[member].as_u64()).sum::<u64>();
        Ok(Value::Object(members.iter().map(|member| ((*member).to_owned(), sum(member).into())).collect()))
    }
}

/// What became of one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// From the raise to the last delivery.
    pub(crate) took: Duration,
    pub(crate) reached: u64,
    pub(crate) wanted: u64,
}

/// Raises one update, at each of these servers at the same time, and waits until the last stream has it.
pub(crate) fn round(holders: &mut Holders, raise_at: &[Target], era: Era, tool: &str) -> Result<Round, String> {
    holders.arm()?;
    let mut callers = raise_at.iter().map(|target| Caller::ready(target, era, tool)).collect::<Result<Vec<_>, _>>()?;
    let raised = now();
    callers.iter_mut().try_for_each(Caller::send)?;
    callers.iter_mut().try_for_each(|caller| caller.hear(tool))?;
    let (reached, wanted, last) = holders.delivered()?;
    Ok(Round { took: last.saturating_sub(raised), reached, wanted })
}

/// Holds streams, raises updates by calls of a tool, and tells how long each took to the last stream.
pub(crate) fn run(mut holders: Holders, raise_at: &Target, era: Era, tool: &str, rounds: usize) -> Result<Summary, String> {
    let mut to_last = Latency::new();
    let (mut delivered, mut of) = (0, 0);
    for n in 1..=rounds {
        let Round { took, reached, wanted } = round(&mut holders, std::slice::from_ref(raise_at), era, tool)?;
        to_last.add(took);
        delivered += reached;
        of += wanted;
        eprintln!("mcp-load: round {n}: {reached} of {wanted} streams in {:.1} ms", took.as_secs_f64() * 1e3);
    }
    let end = holders.end()?;
    Ok(Summary::default()
        .with("rounds", rounds)
        .with("delivered", delivered)
        .with("wanted", of)
        .with("to_last_us", to_last.json())
        .with("streams", end))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// One call over one connection, which is open before it is counted.
#[derive(Debug)]
struct Caller {
    socket: TcpStream,
    call: Call,
}

impl Caller {
    fn ready(target: &Target, era: Era, tool: &str) -> Result<Self, String> {
        let mut socket = TcpStream::connect(target.address).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(ANSWERED_WITHIN)).map_err(|error| error.to_string())?;
        let mut session = None;
        if era == Era::Legacy {
            socket.write_all(&request::initialize(target)).map_err(|error| error.to_string())?;
            session = hear(&mut socket)?.session;
        }
        Ok(Self { socket, call: Call::new(target, era, tool, "x", session.as_deref()) })
    }

    fn send(&mut self) -> Result<(), String> {
        self.socket.write_all(self.call.with_id(1)).map_err(|error| error.to_string())
    }

    fn hear(&mut self, tool: &str) -> Result<(), String> {
        let answer = hear(&mut self.socket)?;
        if answer.good { Ok(()) } else { Err(format!("{tool} is answered with status {} and no result", answer.status)) }
    }
}

fn hear(socket: &mut TcpStream) -> Result<crate::response::Answer, String> {
    let mut reader = Reader::new();
    let mut bytes = [0; 4096];
    let mut answer = None;
    while answer.is_none() {
        let read = socket.read(&mut bytes).map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the connection ended before the answer".to_owned());
        }
        reader
            .take(&bytes[..read], |read| {
                if let Read::Answer(whole) = read {
                    answer = Some(whole);
                }
            })
            .map_err(|_| "the answer is no HTTP/1.1".to_owned())?;
    }
    answer.ok_or_else(String::new)
}
