//! The place of a connection inside hyper, which takes most of its memory: taken when there is room, waited for otherwise.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::limits::{ENTERS_WITHIN, INSIDE_HYPER};
use crate::load::Load;

/// Between two looks for room inside hyper.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(1);

/// The place of a connection inside hyper, until dropped; none when there was no room for it.
#[derive(Debug)]
pub struct Place {
    load: Option<Arc<Load>>,
    has_asked: bool,
}

impl Load {
    /// A place inside hyper, if there is room for one.
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        self.room().enter(INSIDE_HYPER as u64).then(|| Place { load: Some(Arc::clone(self)), has_asked: false })
    }

    /// Whether there is no room for another place inside hyper.
    pub fn is_crowded(&self) -> bool {
        !self.room().has_entry(INSIDE_HYPER as u64)
    }

    /// A place inside hyper, as soon as there is room; and without, after a while. So whatever comes at one time enters no faster
    /// than others leave.
    pub async fn place_in_time(self: &Arc<Self>) -> Place {
        if let Some(place) = self.place() {
            return place;
        }
        self.delayed();
        let since = Instant::now();
        loop {
            if let Some(place) = self.place() {
                return place;
            }
            if since.elapsed() >= ENTERS_WITHIN {
                return Place { load: None, has_asked: false };
            }
            sleep(LOOK_FOR_ROOM).await;
        }
    }
}

impl Place {
    /// Its connection has asked for something.
    pub fn asks(&mut self) {
        if let Some(load) = self.load.as_ref().filter(|_| !self.has_asked) {
            load.room().asks(INSIDE_HYPER as u64);
            self.has_asked = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match &self.load {
            Some(load) if self.has_asked => load.room().give_back(INSIDE_HYPER as u64),
            Some(load) => load.room().goes(INSIDE_HYPER as u64),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Left;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_inside_hyper_waits_for_it_and_not_for_ever() {
        let load = Arc::new(Load::default());
        load.room().read(Left { all: u64::MAX, entry: 2 * INSIDE_HYPER as u64, growth: 0 });
        let (mut first, _second) = (load.place_in_time().await, load.place_in_time().await);
        first.asks();
        assert!(load.place().is_none() && load.is_crowded());
        assert_eq!(load.delayed_total(), 0);
        let start = Instant::now();
        let leaves = async {
            sleep(ENTERS_WITHIN / 2).await;
            drop(first);
        };
        let (third, ()) = tokio::join!(load.place_in_time(), leaves);
        assert!(start.elapsed() < ENTERS_WITHIN, "one has left");
        assert_eq!(load.delayed_total(), 1, "counted once, however often it looked");
        let start = Instant::now();
        let fourth = load.place_in_time().await;
        assert!(start.elapsed() >= ENTERS_WITHIN && load.place().is_none(), "it is to be told");
        drop(fourth);
        assert!(load.place().is_none(), "it had no place to give back");
        drop(third);
        assert!(!load.is_crowded() && load.place().is_some());
    }
}
