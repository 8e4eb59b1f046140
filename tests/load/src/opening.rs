//! What a client does before it is measured: the steps of a connection, in order.

use std::collections::VecDeque;

use crate::request::{self, Call, Era};
use crate::target::Target;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Initialize,
    Initialized,
    Subscribe,
    Call,
    Listen,
    Get,
}

/// What is left to do on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    steps: VecDeque<Step>,
    /// Of the legacy era, once it is known.
    pub(crate) session: Option<String>,
    /// Which of all the connections.
    pub(crate) n: usize,
}

impl Opening {
    /// A client that is ready to call.
    pub(crate) fn caller(era: Era, n: usize) -> Self {
        let steps: &[Step] = match era {
            Era::Modern => &[],
            Era::Legacy => &[Step::Initialize, Step::Initialized],
        };
        Self { steps: steps.iter().copied().collect(), session: None, n }
    }

    /// A client that has made one call.
    pub(crate) fn called(era: Era, n: usize) -> Self {
        let mut opening = Self::caller(era, n);
        opening.steps.push_back(Step::Call);
        opening
    }

    /// A client that holds a stream, and has made one call on its connection before.
    pub(crate) fn stream(era: Era, n: usize) -> Self {
        let mut opening = Self::caller(era, n);
        opening.steps.extend(match era {
            Era::Modern => [Step::Call, Step::Listen].as_slice(),
            Era::Legacy => &[Step::Subscribe, Step::Call, Step::Get],
        });
        opening
    }

    /// A client that begins with a stream of the modern era, and has no other business.
    pub(crate) fn only_stream(n: usize) -> Self {
        Self { steps: VecDeque::from([Step::Listen]), session: None, n }
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_done(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the next request is the first after the session was opened.
    pub(crate) fn has_just_a_session(&self) -> bool {
        self.steps.front() == Some(&Step::Initialized)
    }

    /// The next request, and whether it opens the stream; none when all is done.
    pub(crate) fn next(&mut self, target: &Target, era: Era, uri: Option<&str>) -> Option<(Vec<u8>, bool)> {
        let step = self.steps.pop_front()?;
        let session = self.session.as_deref().unwrap_or_default();
        let own = request::uri(self.n);
        let uri = uri.unwrap_or(&own);
        let bytes = match step {
            Step::Initialize => request::initialize(target),
            Step::Initialized => request::initialized(target, session),
            Step::Subscribe => request::subscribe(target, session, uri),
            Step::Call => Call::new(target, era, "echo", "once", self.session.as_deref()).with_id(1).to_vec(),
            Step::Listen => request::listen(target, &request::stream_id(self.n), uri),
            Step::Get => request::get(target, session),
        };
        Some((bytes, matches!(step, Step::Listen | Step::Get)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(mut opening: Opening, era: Era) -> Vec<String> {
        let target = "http://127.0.0.1:1/mcp".parse().unwrap();
        opening.session = Some("s".to_owned());
        let all = std::iter::from_fn(|| opening.next(&target, era, None)).map(|(bytes, _)| String::from_utf8(bytes).unwrap());
        all.collect()
    }

    #[test]
    fn a_stream_of_either_era_serves_a_call_first() {
        let modern = requests(Opening::stream(Era::Modern, 5), Era::Modern);
        assert!(modern[0].contains("tools/call") && modern[1].contains("subscriptions/listen") && modern.len() == 2);
        let legacy = requests(Opening::stream(Era::Legacy, 5), Era::Legacy);
        let methods = ["\"initialize\"", "notifications/initialized", "resources/subscribe", "tools/call", "GET /mcp"];
        assert!(legacy.iter().zip(methods).all(|(request, method)| request.contains(method)), "{legacy:?}");
    }

    #[test]
    fn a_caller_of_the_modern_era_needs_nothing_before() {
        assert!(requests(Opening::caller(Era::Modern, 1), Era::Modern).is_empty());
        assert_eq!(requests(Opening::caller(Era::Legacy, 1), Era::Legacy).len(), 2);
    }
}
