//! What we know of one kind of object, from a watch and from our own writes, whichever is newer.
//!
//! A watch lags behind our writes. Without the writes a pass would see the world before the last one: apply again what is
//! there, or choose a second shard to drain because the first does not look drained yet.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio::time::Instant;

/// The answer to a write of ours is read no later than this after the object was gone: longer than a write may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// What can be kept on a shelf.
pub trait Shelved {
    /// Its namespace.
    fn namespace(&self) -> &str;
    /// Its name.
    fn name(&self) -> &str;
    /// Its uid: another object of this name has another one.
    fn uid(&self) -> Option<&str>;
    /// Its resource version.
    fn version(&self) -> Option<&str>;
    /// Shares memory with a similar object.
    fn share(&mut self, _with: &Self) {}
}

/// Objects of one kind, by namespace and name.
#[derive(Debug)]
pub struct Shelf<K> {
    inner: RwLock<Inner<K>>,
    listed: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner<K> {
    objects: HashMap<String, BTreeMap<String, Arc<K>>>,
    listing: Option<Listing<K>>,
    /// What went lately. The answer to a write may come after the news that its object is gone: put back by it, the object would
    /// stay for ever.
    gone: VecDeque<Gone>,
}

/// An object that went out of sight. If it only lost our labels, it is seen again, in a later version.
#[derive(Debug)]
struct Gone {
    at: Instant,
    uid: String,
    version: u128,
}

/// A list that is not complete yet.
#[derive(Debug)]
struct Listing<K> {
    listed: Vec<Arc<K>>,
    /// What we wrote since it was asked for: the list may be of before.
    written: Vec<Arc<K>>,
}

impl<K> Default for Listing<K> {
    fn default() -> Self {
        Self { listed: vec![], written: vec![] }
    }
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self {
            inner: RwLock::new(Inner { objects: HashMap::new(), listing: None, gone: VecDeque::new() }),
            listed: watch::Sender::new(false),
        }
    }
}

impl<K: Shelved> Shelf<K> {
    /// Takes in an event of the watch; returns the objects it touched, and whether each is gone.
    pub fn learn(&self, event: Event<K>) -> Vec<(Arc<K>, bool)> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => {
                inner.listing = Some(Listing::default());
                vec![]
            }
            Event::InitApply(object) => {
                let listed = &mut inner.listing.get_or_insert_default().listed;
                let mut object = object;
                if let Some(last) = listed.last() {
                    object.share(last);
                }
                let object = Arc::new(object);
                listed.push(object.clone());
                vec![(object, false)]
            }
            Event::InitDone => {
                let gone = inner.replace();
                drop(inner);
                self.listed.send_replace(true);
                gone.into_iter().map(|object| (object, true)).collect()
            }
            Event::Apply(object) => {
                let object = inner.shared(object);
                inner.put(object.clone());
                vec![(object, false)]
            }
            Event::Delete(object) => {
                inner.remove(&object);
                vec![(Arc::new(object), true)]
            }
        }
    }

    /// Takes in the answer to a write of ours, unless the object is known to be gone by now.
    pub fn wrote(&self, object: impl Into<K>) {
        let (object, mut inner) = (object.into(), self.inner.write().unwrap_or_else(PoisonError::into_inner));
        let is_late = |gone: &Gone| Some(gone.uid.as_str()) == object.uid() && version(&object) <= gone.version;
        if inner.gone.iter().any(is_late) {
            return;
        }
        let object = inner.shared(object);
        if let Some(listing) = &mut inner.listing {
            listing.written.push(object.clone());
        }
        inner.put(object);
    }

    /// Takes in that an object of ours is gone.
    pub fn removed(&self, object: &K) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = &mut inner.listing {
            listing.written.retain(|written| written.uid() != object.uid());
        }
        inner.remove(object);
    }

    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).objects.get(namespace)?.get(name).cloned()
    }

    /// The objects of a namespace whose names begin so, by name.
    pub fn beginning_with(&self, namespace: &str, prefix: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = inner.objects.get(namespace) else { return vec![] };
        let from = all.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(|(name, _)| name.starts_with(prefix)).map(|(_, object)| object.clone()).collect()
    }

    /// Waits for the first complete list.
    pub async fn listed(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }
}

impl<K: Shelved> Inner<K> {
    /// The object, with what it has in common with its neighbors by name.
    fn shared(&self, mut object: K) -> Arc<K> {
        if let Some(slot) = self.objects.get(object.namespace()) {
            let name = object.name().to_owned();
            let before = slot.range::<str, _>((Bound::Unbounded, Bound::Excluded(&*name))).next_back();
            let after = slot.range::<str, _>((Bound::Included(&*name), Bound::Unbounded)).take(2);
            for (_, neighbor) in after.chain(before) {
                object.share(neighbor);
            }
        }
        Arc::new(object)
    }

    /// Keeps the newer of two versions of one object, and always the newer of two objects of one name.
    fn put(&mut self, object: Arc<K>) {
        let slot = self.objects.entry(object.namespace().to_owned()).or_default();
        match slot.get(object.name()) {
            Some(known) if version(&**known) > version(&*object) => {}
            Some(_) | None => {
                slot.insert(object.name().to_owned(), object);
            }
        }
    }

    /// Removes an object, unless a newer one has its name by now.
    fn remove(&mut self, object: &K) {
        let now = Instant::now();
        self.gone.extend(object.uid().map(|uid| Gone { at: now, uid: uid.to_owned(), version: version(object) }));
        while self.gone.pop_front_if(|gone| now - gone.at > ANSWERS_WITHIN).is_some() {}
        if let Some(slot) = self.objects.get_mut(object.namespace()) {
            let same = slot.get(object.name()).is_some_and(|known| known.uid() == object.uid());
            if same {
                slot.remove(object.name());
            }
            if slot.is_empty() {
                self.objects.remove(object.namespace());
            }
        }
    }

    /// Replaces everything by the complete list, but for what we wrote after it was asked for. Returns what is gone.
    fn replace(&mut self) -> Vec<Arc<K>> {
        let Listing { listed, written } = self.listing.take().unwrap_or_default();
        let before = std::mem::take(&mut self.objects);
        for object in listed.into_iter().chain(written) {
            self.put(object);
        }
        let mut gone = vec![];
        for known in before.into_values().flat_map(BTreeMap::into_values) {
            let here = self.objects.get(known.namespace()).and_then(|slot| slot.get(known.name()));
            if here.is_none_or(|here| here.uid() != known.uid()) {
                gone.push(known);
            }
        }
        gone
    }
}

/// Resource versions of one kind are ordered as numbers.
fn version(object: &impl Shelved) -> u128 {
    object.version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::observe::KnownPod;

    fn pod(name: &str, uid: &str, version: u32) -> KnownPod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("agents".into());
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some(uid.into());
        pod.metadata.resource_version = Some(version.to_string());
        pod.into()
    }

    fn versions(shelf: &Shelf<KnownPod>) -> Vec<(String, u128)> {
        shelf.beginning_with("agents", "").iter().map(|pod| (pod.name().to_owned(), version(&**pod))).collect()
    }

    #[test]
    fn a_write_of_ours_is_seen_before_the_watch_brings_it() {
        let shelf = Shelf::default();
        shelf.learn(Event::Apply(pod("a-0", "u", 5)));
        shelf.wrote(pod("a-0", "u", 7));
        shelf.learn(Event::Apply(pod("a-0", "u", 6)));
        assert_eq!(versions(&shelf), [("a-0".into(), 7)]);
        shelf.learn(Event::Apply(pod("a-0", "u", 10)));
        assert_eq!(versions(&shelf), [("a-0".into(), 10)]);
    }

    #[test]
    fn a_late_deletion_does_not_take_the_object_that_has_the_name_by_now() {
        let shelf = Shelf::default();
        shelf.wrote(pod("a-0", "new", 9));
        shelf.learn(Event::Delete(pod("a-0", "old", 8)));
        assert_eq!(versions(&shelf), [("a-0".into(), 9)]);
        shelf.learn(Event::Delete(pod("a-0", "new", 11)));
        assert_eq!(versions(&shelf), []);
    }

    /// The pod would be a shard for ever that is not there, and nothing would take its place.
    #[test]
    fn an_answer_that_comes_after_the_news_that_its_object_is_gone_does_not_bring_it_back() {
        let shelf = Shelf::default();
        shelf.learn(Event::Apply(pod("a-0", "u", 5)));
        shelf.learn(Event::Delete(pod("a-0", "u", 9)));
        shelf.wrote(pod("a-0", "u", 7));
        assert_eq!(versions(&shelf), []);
        shelf.wrote(pod("a-0", "u", 10));
        assert_eq!(versions(&shelf), [("a-0".into(), 10)], "it had only lost its labels, and has them again");
        shelf.learn(Event::Delete(pod("a-0", "u", 11)));
        shelf.wrote(pod("a-0", "another", 12));
        assert_eq!(versions(&shelf), [("a-0".into(), 12)]);
    }

    #[test]
    fn a_new_list_drops_what_is_gone_and_keeps_what_was_written_since() {
        let shelf = Shelf::default();
        shelf.learn(Event::Apply(pod("a-0", "u0", 3)));
        shelf.learn(Event::Apply(pod("a-3", "u3", 8)));
        shelf.learn(Event::Init);
        shelf.wrote(pod("a-2", "u2", 9));
        shelf.wrote(pod("a-4", "u4", 10));
        shelf.removed(&pod("a-4", "u4", 10));
        shelf.learn(Event::InitApply(pod("a-1", "u1", 6)));
        assert_eq!(versions(&shelf).len(), 3, "the old content stays until the list is complete");
        let mut gone: Vec<_> =
            shelf.learn(Event::InitDone).into_iter().map(|(pod, gone)| (pod.name().to_owned(), gone)).collect();
        gone.sort();
        assert_eq!(gone, [("a-0".into(), true), ("a-3".into(), true)], "however new what went was");
        assert_eq!(versions(&shelf), [("a-1".into(), 6), ("a-2".into(), 9)]);
    }

    #[test]
    fn names_are_found_by_how_they_begin() {
        let shelf = Shelf::default();
        for name in ["a-0", "a-1", "a-1-0", "a-10", "a.b-0", "b-0"] {
            shelf.learn(Event::Apply(pod(name, name, 1)));
        }
        let names = |prefix| shelf.beginning_with("agents", prefix).iter().map(|pod| pod.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names("a-"), ["a-0", "a-1", "a-1-0", "a-10"]);
        assert_eq!(names("a-1-"), ["a-1-0"]);
        assert_eq!(names("c-"), [""; 0]);
        assert!(shelf.beginning_with("others", "a-").is_empty());
    }

    #[tokio::test]
    async fn the_first_list_is_waited_for() {
        let shelf = Shelf::<KnownPod>::default();
        assert!(futures::FutureExt::now_or_never(shelf.listed()).is_none());
        shelf.learn(Event::Init);
        shelf.learn(Event::InitDone);
        shelf.listed().await;
    }
}
