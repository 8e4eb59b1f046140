//! The authenticated port: `POST /load`, `POST /drain` and `POST /shed`, signed by the operator (`mcp_crds::control`). The
//! fourth path, `/peers`, is where other shards come in; they prove themselves once for each connection (`crate::peers`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use mcp_crds::control::{CLOCK_TOLERANCE_SECONDS, KEY_ID_HEADER, MAC_HEADER, NONCE_HEADER, Refusal, Signed, TIME_HEADER, hex};
use mcp_crds::load::{DrainRequest, LoadReport, LoadRequest, ShedAnswer, ShedRequest};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::guard;
use crate::ports::{Whole, text, typed};
use crate::shard::{Shard, epoch_seconds};
use crate::staging::Staging;

/// Nonces remembered at one time; only signed requests get in, a few in a second.
const MAX_NONCES: usize = 16_384;

/// What the control port keeps.
#[derive(Debug, Default)]
pub struct Control {
    seen: Mutex<HashMap<[u8; 32], u64>>,
}

impl Control {
    /// Answers a request of the control port.
    pub fn answer(&self, shard: &Shard, staging: &Staging, request: &Whole) -> Response<Full<Bytes>> {
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "POST only\n");
        }
        if let Err(refusal) = self.verify(shard, request, epoch_seconds()) {
            warn!(%refusal, path = request.uri().path(), "refused a control request");
            return text(StatusCode::UNAUTHORIZED, format!("{refusal}\n"));
        }
        match request.uri().path() {
            "/load" => match read::<LoadRequest>(request.body()) {
                Ok(asked) => load(shard, staging, asked),
                Err(error) => malformed(&error),
            },
            "/drain" => match read::<DrainRequest>(request.body()) {
                Ok(asked) => drain(shard, &asked),
                Err(error) => malformed(&error),
            },
            "/shed" => match read::<ShedRequest>(request.body()) {
                Ok(asked) => shed(shard, &asked),
                Err(error) => malformed(&error),
            },
            _ => text(StatusCode::NOT_FOUND, "/load /drain /shed /peers\n"),
        }
    }

    fn verify(&self, shard: &Shard, request: &Whole, now: u64) -> Result<(), Refusal> {
        let headers = request.headers();
        let nonce = header(headers, NONCE_HEADER)?;
        let signed = Signed {
            method: request.method().as_str(),
            path: request.uri().path_and_query().map_or("", |target| target.as_str()),
            time: header(headers, TIME_HEADER)?.parse().map_err(|_| Refusal::Unsigned)?,
            nonce,
            body: request.body(),
        };
        shard.sessions.verify_control(header(headers, KEY_ID_HEADER)?, header(headers, MAC_HEADER)?, &signed, now)?;
        self.remember(nonce, now)
    }

    /// Remembers a nonce for as long as its request could be sent again.
    fn remember(&self, nonce: &str, now: u64) -> Result<(), Refusal> {
        let nonce: [u8; 32] = nonce.as_bytes().try_into().map_err(|_| Refusal::Unsigned)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, until| *until > now);
        if seen.len() >= MAX_NONCES || seen.contains_key(&nonce) {
            return Err(Refusal::Replayed);
        }
        seen.insert(nonce, now + 2 * CLOCK_TOLERANCE_SECONDS + 1);
        Ok(())
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refusal> {
    headers.get(name).and_then(|value| value.to_str().ok()).ok_or(Refusal::Unsigned)
}

fn read<T: DeserializeOwned + Default>(body: &[u8]) -> serde_json::Result<T> {
    if body.is_empty() { Ok(T::default()) } else { serde_json::from_slice(body) }
}

fn malformed(error: &serde_json::Error) -> Response<Full<Bytes>> {
    text(StatusCode::BAD_REQUEST, format!("not a request: {error}\n"))
}

fn load(shard: &Shard, staging: &Staging, asked: LoadRequest) -> Response<Full<Bytes>> {
    staging.asked(shard, asked.serve.as_deref());
    let membership_epoch = shard.peers.told(asked.membership_epoch, asked.members);
    // Numbers and strings: serialising them has no way to fail.
    let body = serde_json::to_vec(&LoadReport { membership_epoch, ..report(shard, staging) }).unwrap_or_default();
    typed(StatusCode::OK, "application/json", body)
}

/// What this shard carries at this moment; who is beside it, the caller knows.
pub fn report(shard: &Shard, staging: &Staging) -> LoadReport {
    let (load, reading, staged, ring) = (&shard.load, shard.guard.reading(), staging.state(), shard.sessions.ring());
    LoadReport {
        incarnation: hex(&shard.sessions.incarnation()),
        seq: shard.next_report(),
        connections: load.connections(),
        streams: load.streams(),
        in_flight: load.unfinished(),
        hard_cap: shard.hard_cap(),
        rejected_total: load.rejected_total(),
        retry_after_mean_ms: load.retry_after_mean_ms(),
        shed_total: load.shed_total(),
        working_set_bytes: reading.working_set,
        base_bytes: reading.base,
        limit_bytes: reading.limit,
        socket_bytes: reading.sockets,
        oom_kill_total: reading.oom_kills,
        stage: reading.stage,
        draining: shard.drain.is_draining(),
        catalog_hash: shard.serving().map_or_else(String::new, |serving| serving.snapshot.hash().to_owned()),
        catalog_staged: staged.newest,
        catalog_error: staged.error,
        key_ids: ring.session.iter().map(|key| key.id.clone()).collect(),
        sealing_key_id: ring.sealing,
        membership_epoch: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: shard.started_at,
    }
}

fn drain(shard: &Shard, asked: &DrainRequest) -> Response<Full<Bytes>> {
    if asked.cancel {
        return if shard.drain.cancel() {
            info!("the drain is undone");
            text(StatusCode::OK, "serving\n")
        } else {
            text(StatusCode::CONFLICT, "the process is ending: its drain cannot be undone\n")
        };
    }
    let (window, timeout) = (Duration::from_millis(asked.window_ms), Duration::from_millis(asked.timeout_ms));
    let already = shard.drain.is_draining();
    shard.drain.begin(window, timeout, false);
    if !already {
        info!(window_ms = asked.window_ms, timeout_ms = asked.timeout_ms, "draining as the operator asked");
    }
    text(StatusCode::OK, "draining\n")
}

/// Ends streams of a shard that stays. A shard that drains ends them all anyway.
fn shed(shard: &Shard, asked: &ShedRequest) -> Response<Full<Bytes>> {
    if shard.drain.is_draining() {
        return text(StatusCode::CONFLICT, "draining: its streams end already\n");
    }
    if !shard.guard.takes_order(Instant::now()) {
        return text(StatusCode::CONFLICT, "streams were shed a moment ago: what that freed must show first\n");
    }
    let due = guard::share_of_order(asked, &shard.guard.reading(), shard.hub.counts().streams);
    let ended = shard.hub.shed(due) as u64;
    shard.load.shed(ended);
    info!(ended, bytes = asked.bytes, streams = asked.streams, "ended streams as the operator asked");
    typed(StatusCode::OK, "application/json", serde_json::to_vec(&ShedAnswer { ended }).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_counts_once_and_is_forgotten_when_its_request_is_stale() {
        let control = Control::default();
        let nonce = "00112233445566778899aabbccddeeff";
        assert_eq!(control.remember(nonce, 1_000), Ok(()));
        assert_eq!(control.remember(nonce, 1_000 + 2 * CLOCK_TOLERANCE_SECONDS), Err(Refusal::Replayed));
        assert_eq!(control.remember(nonce, 1_001 + 2 * CLOCK_TOLERANCE_SECONDS), Ok(()));
    }

    #[test]
    fn a_flood_of_nonces_cannot_make_an_old_one_forgotten() {
        let control = Control::default();
        for n in 0..MAX_NONCES {
            assert_eq!(control.remember(&format!("{n:032x}"), 1_000), Ok(()));
        }
        assert_eq!(control.remember(&format!("{MAX_NONCES:032x}"), 1_000), Err(Refusal::Replayed));
        assert_eq!(control.remember(&format!("{:032x}", 0), 1_000), Err(Refusal::Replayed));
    }
}
