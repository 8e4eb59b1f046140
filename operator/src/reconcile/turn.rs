//! What one pass tried: each write at most as often as it is due, and what refused it.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use mcp_crds::McpCluster;

use super::Context;
use crate::error::{Error, Object, Result};
use crate::events::News;
use crate::stages::{Applied, Failure, FailureReason};

/// Writes of one kind under way at one time, for one cluster.
const AT_ONCE: usize = 16;

/// What one pass tried, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Turn {
    tried: BTreeSet<String>,
    news: Vec<News>,
    pub(super) published: Option<String>,
    /// The namespace goes away: nothing can be created in it, and nothing needs to be.
    pub(super) is_ending: bool,
}

// === impl Turn ===

impl Turn {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Tries a write, unless it was refused lately; keeps what refused it for the status. None when it did not happen.
    pub(super) async fn attempt<T>(
        &mut self,
        context: &Context,
        cluster: &McpCluster,
        object: &Object,
        write: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        if !self.may_try(context, cluster, object) {
            return None;
        }
        let result = write.await;
        self.settle(context, cluster, object, result)
    }

    /// As [`Turn::attempt`], many side by side: each with what the caller knows it by, which comes back with what came of it. Of
    /// those that did not happen nothing comes back.
    pub(super) async fn attempt_all<I, T, W>(
        &mut self,
        context: &Context,
        cluster: &McpCluster,
        writes: impl IntoIterator<Item = (I, Object, W)>,
    ) -> Vec<(I, T)>
    where
        W: Future<Output = Result<T>>,
    {
        let mut due: Vec<_> = writes.into_iter().collect();
        due.retain(|(_, object, _)| self.may_try(context, cluster, object));
        let sent = due.into_iter().map(|(what, object, write)| async { (what, object, write.await) });
        let mut answers = stream::iter(sent).buffer_unordered(AT_ONCE);
        let mut done = vec![];
        while let Some((what, object, result)) = answers.next().await {
            done.extend(self.settle(context, cluster, &object, result).map(|value| (what, value)));
            if self.is_ending {
                break;
            }
        }
        done
    }

    /// Whether a write is not one that was refused lately.
    fn may_try(&mut self, context: &Context, cluster: &McpCluster, object: &Object) -> bool {
        let key = object.to_string();
        let is_due = !self.is_ending && context.remember(cluster, |memory| memory.is_due(&key, Timestamp::now()));
        self.tried.insert(key);
        is_due
    }

    /// Takes in the answer to a write.
    fn settle<T>(&mut self, context: &Context, cluster: &McpCluster, object: &Object, result: Result<T>) -> Option<T> {
        let (key, now) = (object.to_string(), Timestamp::now());
        match result {
            Ok(value) => {
                context.remember(cluster, |memory| memory.accept(&key));
                Some(value)
            }
            Err(error) if error.is_namespace_terminating() => {
                self.is_ending = true;
                None
            }
            Err(error) => {
                let failure = failure(&key, &error);
                let jitter = context.jitter();
                tracing::debug!(object = %key, error = %crate::telemetry::chain(&error), "refused");
                if context.remember(cluster, |memory| memory.refuse(failure.clone(), now, jitter)) {
                    let note = format!("{}: {}", failure.object, failure.message);
                    self.news.push(News::warning(failure.reason.as_str(), "Apply", note));
                }
                None
            }
        }
    }

    /// What came of it, for the status. A refusal of something that nobody wants any more is forgotten.
    pub(super) fn finish(&mut self, context: &Context, cluster: &McpCluster) -> Applied {
        context.remember(cluster, |memory| {
            memory.refused.retain(|object, _| self.tried.contains(object));
            memory.applied(self.published.take())
        })
    }

    /// Keeps something to tell.
    pub(super) fn tell(&mut self, news: News) {
        self.news.push(news);
    }

    /// Keeps what there is to tell, if anything.
    pub(super) fn tell_all(&mut self, news: impl IntoIterator<Item = News>) {
        self.news.extend(news);
    }

    pub(super) fn into_news(self) -> Vec<News> {
        self.news
    }
}

fn failure(object: &str, error: &Error) -> Failure {
    let message = error.sentence();
    let reason = match error {
        Error::NameConflict { .. } => FailureReason::NameConflict,
        other => FailureReason::of_response(other.code().unwrap_or_default(), &message),
    };
    Failure { reason, object: object.to_owned(), message }
}
