//! What the hub has yet to do, a few writes at a time: notifications on their way to many streams, endings, comments.

use std::collections::VecDeque;

use super::encode::Forms;
use super::slab::Ticket;
use super::slot::{self, Slot, Waiting};
use super::state::State;
use crate::mcp::subscriptions::Event;

/// Sockets written to before calls get their turn.
pub(super) const WRITES: usize = 64;

/// What is yet to be done.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Oldest first.
    pub(super) notifications: VecDeque<Notification>,
    /// Streams to end.
    pub(super) endings: VecDeque<Ticket>,
    /// Places whose streams are due a comment.
    comments: Option<Comments>,
    found: Vec<u32>,
}

/// A notification on its way.
#[derive(Debug)]
pub(super) struct Notification {
    event: Event,
    /// Made when it begins.
    forms: Option<Forms>,
    /// The first place that has not heard it.
    next: u32,
}

#[derive(Debug)]
struct Comments {
    next: u32,
    step: u32,
}

impl Work {
    /// Whether nothing is left to do.
    fn is_done(&self) -> bool {
        self.notifications.is_empty() && self.endings.is_empty() && self.comments.is_none()
    }
}

impl State {
    /// Sends a notification on its way, if anybody wants it. It stands for older ones that have not begun, so there are never
    /// more under way than things somebody wants.
    pub(super) fn notify(&mut self, event: &Event) {
        let mut found = std::mem::take(&mut self.work.found);
        self.index.wanting(event, 0, 1, &mut found);
        let is_wanted = !found.is_empty();
        self.work.found = found;
        if !is_wanted {
            return;
        }
        let notifications = &mut self.work.notifications;
        notifications.retain(|older| older.next > 0 || !event.replaces(&older.event));
        notifications.push_back(Notification { event: event.clone(), forms: None, next: 0 });
    }

    /// Every `step`th place from `first` on is due a comment. Whether they get it: not while others are on their way.
    pub(super) fn comments(&mut self, first: u32, step: u32) -> bool {
        let is_free = self.work.comments.is_none();
        if is_free {
            self.work.comments = Some(Comments { next: first, step });
        }
        is_free
    }

    /// Does some of the work; whether there is more.
    pub(super) fn work(&mut self) -> bool {
        let others = !self.work.endings.is_empty() || self.work.comments.is_some();
        let telling = if others { WRITES / 2 } else { WRITES };
        let mut writes = self.tell_some(telling) + WRITES - telling;
        while writes > 0
            && let Some(ticket) = self.work.endings.pop_front()
        {
            self.end(ticket);
            writes -= 1;
        }
        while writes > 0
            && let Some(Comments { next, step }) = &mut self.work.comments
        {
            let place = *next;
            *next = place.saturating_add(*step);
            if place >= self.slots.places() {
                self.work.comments = None;
            } else if let (Some(ticket), Some(Slot::Stream(_))) = (self.slots.ticket(place), self.slots.at(place)) {
                self.comment(ticket);
                writes -= 1;
            }
        }
        !self.work.is_done()
    }

    /// Sends notifications on; the writes that are left.
    fn tell_some(&mut self, mut writes: usize) -> usize {
        while writes > 0
            && let Some(Notification { event, forms, next }) = self.work.notifications.pop_front()
        {
            let mut found = std::mem::take(&mut self.work.found);
            self.index.wanting(&event, next, writes, &mut found);
            let forms = forms.unwrap_or_else(|| Forms::of(&event));
            for place in &found {
                if let Some(ticket) = self.slots.ticket(*place) {
                    let parts = |who: &_, is_unchunked, out: &mut _| slot::frame(out, is_unchunked, &forms.parts(who));
                    self.tell(ticket, parts, || Waiting::Event(event.clone()));
                }
            }
            let last = found.last().copied();
            writes -= found.len();
            self.work.found = found;
            if let Some(last) = last.filter(|_| writes == 0) {
                self.work.notifications.push_front(Notification { event, forms: Some(forms), next: last + 1 });
            }
        }
        writes
    }
}
