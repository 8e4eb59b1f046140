//! How a shard says good-bye: asked past the Service all the time, from the mark of its drain to the end of its process.
//!
//! Who drains stays Ready to its end. For as long as endpoints may lag it answers new connections as ever, and tells each to
//! close; after that it refuses them with 503, `Retry-After` and `Connection: close`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use mcp_crds::shard::DATA_PORT;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::{Cluster, is_ready};
use crate::failure::{Failure, Outcome};
use crate::mcp::{Modern, Reply};
use crate::wait::eventually;
use crate::{claim, fail, reach};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(200);
/// Endpoints may lag for so long: until then nobody is refused.
const LAG: Duration = Duration::from_secs(10);
/// Annotation of a drain that the operator began.
const STARTED: &str = "mcpcluster.dev/drain-started-at";

/// The end of one shard, as it is seen from outside. Dropping it looks no longer.
#[derive(Debug)]
pub struct Farewell {
    shard: String,
    began: Timestamp,
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug, Default)]
struct Seen {
    answers: Vec<Said>,
    /// When its pod was first not Ready.
    unready: Option<Timestamp>,
    gone: bool,
}

/// One question, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    asked: Timestamp,
    answered: Timestamp,
    answer: Answer,
}

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// The right answer.
    Given { closes: bool },
    /// 503 with a usable `Retry-After`.
    Refused { closes: bool },
    /// Another answer, or none.
    Wrong(String),
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

// === impl Farewell ===

impl Farewell {
    /// Looks on from now, at a pod that drains or has been told to end.
    ///
    /// # Errors
    /// When it does neither, or has no address.
    pub async fn of(cluster: &Cluster, pod: &Pod) -> Outcome<Self> {
        let shard = pod.name_any();
        let Some(began) = began(pod) else { fail!("{shard} neither drains nor was told to end") };
        let modern = Modern::new(reach::pod(cluster.namespace(), pod, DATA_PORT, "/mcp").await?);
        let seen = Arc::<Mutex<Seen>>::default();
        let asking = {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut ticks = interval(EVERY);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let asked = Timestamp::now();
                    let answer = Answer::of(modern.call("greet", json!({})).await);
                    look(&seen).answers.push(Said { asked, answered: Timestamp::now(), answer });
                }
            })
        };
        let watching = {
            let (seen, pods, name, uid) = (seen.clone(), cluster.namespace().api::<Pod>(), shard.clone(), pod.uid());
            tokio::spawn(async move {
                let mut events = std::pin::pin!(watch_object(pods, &name).default_backoff());
                while let Some(event) = events.next().await {
                    // What breaks a watch is tried again by it.
                    let Ok(pod) = event else { continue };
                    let mut seen = look(&seen);
                    match pod.filter(|pod| pod.uid() == uid) {
                        Some(pod) if is_ready(&pod) => {}
                        Some(_) => {
                            seen.unready.get_or_insert_with(Timestamp::now);
                        }
                        None => seen.gone = true,
                    }
                }
            })
        };
        Ok(Self { shard, began, seen, tasks: [asking, watching] })
    }

    /// Waits for the end of the pod, then claims that it was as it should be; returns how it was.
    ///
    /// # Errors
    /// What it did instead.
    pub async fn was_polite(&self, within: Duration) -> Outcome<String> {
        eventually(&format!("the end of {}", self.shard), within, || async {
            claim!(look(&self.seen).gone, "it is there");
            Ok(())
        })
        .await?;
        let seen = look(&self.seen);
        let told =
            judge(&seen.answers, self.began, seen.unready).map_err(|why| Failure::new(format!("{}: {why}", self.shard)))?;
        Ok(format!("{}: {told}", self.shard))
    }
}

/// When a pod was marked, or told to end, whichever was first. Kubernetes rounds its times down to seconds.
fn began(pod: &Pod) -> Option<Timestamp> {
    let marked = pod.annotations().get(STARTED).and_then(|text| text.parse().ok());
    let deleted = pod.metadata.deletion_timestamp.as_ref().and_then(|time| {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
        time.0.checked_sub(jiff::SignedDuration::from_secs(grace)).ok()
    });
    [marked, deleted].into_iter().flatten().min()
}

fn look(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the answers of a shard whose drain began then are those of a polite one, which is Ready for as long as it answers.
fn judge(answers: &[Said], began: Timestamp, unready: Option<Timestamp>) -> Outcome<String> {
    // What comes last is nothing: the process is gone before its pod is.
    let last = answers.iter().rposition(|said| !matches!(said.answer, Answer::Wrong(_)));
    let answers = &answers[..last.map_or(0, |last| last + 1)];
    let after = |at: Timestamp| Duration::try_from(at.duration_since(began)).unwrap_or_default();
    if let Some((last, unready)) = answers.last().zip(unready) {
        claim!(last.asked <= unready, "not Ready after {:.1?}, while it answered", after(unready));
    }
    let (mut given, mut refused, mut first) = (0_u32, 0_u32, None);
    for said in answers {
        // When the answer had come, so that no delay of ours makes a refusal look early.
        let after = after(said.answered);
        match &said.answer {
            Answer::Wrong(why) => fail!("after {after:.1?}: {why}"),
            Answer::Given { closes: false } => {
                claim!(given == 0 && refused == 0, "after {after:.1?}: an answer that does not say close");
            }
            Answer::Given { closes: true } => {
                claim!(refused == 0, "after {after:.1?}: an answer after a refusal");
                given += 1;
            }
            Answer::Refused { closes } => {
                claim!(after >= LAG, "after {after:.1?}: a refusal, while endpoints may lag");
                claim!(*closes, "after {after:.1?}: a refusal that does not say close");
                first.get_or_insert(after);
                refused += 1;
            }
        }
    }
    claim!(given > 0, "no new connection was answered and told to close: {answers:?}");
    let Some(first) = first else { fail!("no new connection was refused before the end, {given} were answered") };
    Ok(format!("{given} new connections answered and told to close, {refused} refused, the first after {first:.1?}"))
}

// === impl Answer ===

impl Answer {
    fn of(reply: Outcome<Reply>) -> Self {
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) => return Self::Wrong(why.to_string()),
        };
        let closes = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        match (reply.tool_text(), reply.is_overload()) {
            (Ok("Hello."), _) => Self::Given { closes },
            (_, Ok(())) => Self::Refused { closes },
            (_, Err(_)) => Self::Wrong(format!("HTTP {}: {}", reply.status, reply.body)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: Answer = Answer::Given { closes: true };
    const AS_EVER: Answer = Answer::Given { closes: false };
    const REFUSED: Answer = Answer::Refused { closes: true };

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn said(milliseconds: u64, answer: &Answer) -> Said {
        Said { asked: at(milliseconds), answered: at(milliseconds), answer: answer.clone() }
    }

    fn judged(answers: &[(u64, Answer)]) -> Result<String, String> {
        let answers: Vec<_> = answers.iter().map(|(after, answer)| said(*after, answer)).collect();
        judge(&answers, Timestamp::UNIX_EPOCH, None).map_err(|why| why.to_string())
    }

    #[test]
    fn who_answers_is_ready_and_who_no_longer_does_need_not_be() {
        let answers = [said(1_000, &GIVEN), said(11_000, &REFUSED)];
        assert!(judge(&answers, at(0), Some(at(12_000))).is_ok());
        assert!(judge(&answers, at(0), Some(at(10_000))).unwrap_err().to_string().contains("not Ready after 10.0s"));
    }

    #[test]
    fn as_ever_then_told_to_close_then_refused_is_polite_and_silence_ends_it() {
        let gone = || (12_000, Answer::Wrong("connection refused".to_owned()));
        let told = judged(&[(100, AS_EVER), (200, GIVEN), (9_900, GIVEN), (10_100, REFUSED), gone(), gone()]).unwrap();
        assert_eq!(told, "2 new connections answered and told to close, 1 refused, the first after 10.1s");
    }

    #[test]
    fn each_way_to_be_impolite_is_told() {
        let wrong = || Answer::Wrong("HTTP 500".to_owned());
        for (answers, why) in [
            (vec![(100, GIVEN), (9_900, REFUSED)], "while endpoints may lag"),
            (vec![(100, GIVEN), (10_100, Answer::Refused { closes: false })], "a refusal that does not say close"),
            (vec![(100, GIVEN), (200, AS_EVER), (10_100, REFUSED)], "an answer that does not say close"),
            (vec![(100, GIVEN), (10_100, REFUSED), (10_200, GIVEN)], "an answer after a refusal"),
            (vec![(100, GIVEN), (200, wrong()), (10_100, REFUSED)], "HTTP 500"),
            (vec![(100, AS_EVER), (10_100, REFUSED)], "no new connection was answered and told to close"),
            (vec![(100, GIVEN), (10_100, GIVEN)], "no new connection was refused"),
            (vec![], "no new connection was answered"),
        ] {
            let told = judged(&answers).unwrap_err();
            assert!(told.contains(why), "{told}, not {why}");
        }
    }
}
