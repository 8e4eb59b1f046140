//! Asks of a task: shown by `tasks/get`, answered by `tasks/update`.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use super::Handle;
use crate::exchange::{Answers, Ask, Asker, Interrupted};
use crate::fault::Fault;

/// Asks the client of one task.
#[derive(Debug)]
pub(super) struct TaskAsker(pub(super) Handle);

/// Questions that are withdrawn when nobody waits for the answers any more.
struct Asked<'a> {
    handle: &'a Handle,
    /// As asked → as shown: a key is shown once in the life of a task.
    keys: BTreeMap<String, String>,
}

impl Asker for TaskAsker {
    fn ask<'a>(&'a self, asks: &'a [(String, Ask)]) -> Pin<Box<dyn Future<Output = Result<Answers, Interrupted>> + Send + 'a>> {
        Box::pin(async move {
            let gone = || Interrupted::from(Fault::Failed("the task has ended".to_owned()));
            let asked = Asked::show(&self.0, asks).ok_or_else(gone)?;
            loop {
                let woken = {
                    let table = super::lock(&self.0.tasks.table);
                    let entry = table.entries.get(&self.0.number).ok_or_else(gone)?;
                    std::sync::Arc::clone(&entry.woken).notified_owned()
                };
                // Registered before it is looked at: an answer in between wakes it.
                let mut woken = std::pin::pin!(woken);
                woken.as_mut().enable();
                if let Some(answers) = asked.take() {
                    return Ok(answers);
                }
                woken.await;
            }
        })
    }
}

impl<'a> Asked<'a> {
    fn show(handle: &'a Handle, asks: &[(String, Ask)]) -> Option<Self> {
        let keys = handle.tasks.change(handle.number, |entry| {
            let mut keys = BTreeMap::new();
            for (key, ask) in asks {
                let times = entry.keys.entry(key.clone()).and_modify(|times| *times += 1).or_insert(1);
                let shown = if *times == 1 { key.clone() } else { format!("{key}.{times}") };
                entry.asked.insert(shown.clone(), ask.clone());
                keys.insert(key.clone(), shown);
            }
            entry.show_asked();
            keys
        })?;
        Some(Self { handle, keys })
    }

    /// All answers, once all are there.
    fn take(&self) -> Option<Answers> {
        let mut table = super::lock(&self.handle.tasks.table);
        let answered = &mut table.entries.get_mut(&self.handle.number)?.answered;
        if !self.keys.values().all(|shown| answered.contains_key(shown)) {
            return None;
        }
        Some(self.keys.iter().filter_map(|(key, shown)| Some((key.clone(), answered.remove(shown)?))).collect())
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.handle.tasks.change(self.handle.number, |entry| {
            for shown in self.keys.values() {
                entry.asked.remove(shown);
                entry.answered.remove(shown);
            }
            if !entry.record.task.state.is_terminal() {
                entry.show_asked();
            }
        });
    }
}
