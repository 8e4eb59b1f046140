//! What operators asked of the API server, from the audit log: how much in a while, and when.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mcp_tests::audit::Request;

/// The end of kwok's user name.
pub(crate) const KWOK_USER: &str = ":kwok";

/// A request of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The account: which of the operators.
    pub by: String,
    pub at: Timestamp,
    /// `create pods`
    pub what: String,
    /// Namespace and name of what it is about.
    pub object: (String, String),
    pub code: u16,
    pub is_write: bool,
    /// About the lease: the one write that there is at rest.
    pub is_lease: bool,
}

/// Everything operators asked, in the order in which it was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    sent: Vec<Sent>,
    /// What kwok deleted, and when.
    taken: Vec<(Timestamp, (String, String))>,
}

impl Requests {
    /// Takes in a line of the log; one whose time is no time is left out.
    pub(crate) fn learn(&mut self, request: &Request) {
        let Ok(at) = request.time.parse() else { return };
        let object = (request.namespace.clone(), request.name.clone());
        if request.user.ends_with(KWOK_USER) {
            let took = request.verb == "delete" && request.resource == "pods" && request.code == 200;
            self.taken.extend(took.then_some((at, object)));
            return;
        }
        self.sent.push(Sent {
            by: request.user.rsplit(':').next().unwrap_or_default().to_owned(),
            at,
            what: format!("{} {}", request.verb, request.resource),
            object,
            code: request.code,
            is_write: request.is_write(),
            is_lease: request.resource == "leases",
        });
    }

    /// Those that came from `from` on, and before `to`.
    pub(crate) fn between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| from <= sent.at && sent.at < to)
    }

    /// When pods were created, in order.
    pub(crate) fn created(&self, from: Timestamp) -> Vec<Timestamp> {
        let created = self.sent.iter().filter(|sent| sent.at >= from && sent.what == "create pods" && sent.code == 201);
        let mut times: Vec<_> = created.map(|sent| sent.at).collect();
        times.sort();
        times
    }

    /// The pods that were created, by the McpCluster they are named after, in order.
    pub(crate) fn created_by_cluster(&self, from: Timestamp) -> BTreeMap<(&str, &str), Vec<&str>> {
        let mut clusters: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in self.sent.iter().filter(|sent| sent.at >= from && sent.what == "create pods" && sent.code == 201) {
            let (namespace, name) = &one.object;
            let cluster = name.rsplit_once('-').map_or(name.as_str(), |(cluster, _)| cluster);
            clusters.entry((namespace.as_str(), cluster)).or_default().push(name.as_str());
        }
        clusters
    }

    /// How many pods kwok deleted that no operator had: it deletes by name, late, and the name may be the next pod's by then.
    pub(crate) fn taken_by_kwok(&self, from: Timestamp) -> usize {
        let operators = self.sent.iter().filter(|sent| sent.what == "delete pods" && sent.code == 200);
        let of_operators = operators.map(|sent| (sent.at, &sent.object, false));
        let mut deleted: Vec<_> = of_operators.chain(self.taken.iter().map(|(at, object)| (*at, object, true))).collect();
        deleted.sort();
        let (mut doomed, mut taken) = (BTreeSet::new(), 0);
        for (_, object, is_of_kwok) in deleted.into_iter().filter(|(at, ..)| *at >= from) {
            if !is_of_kwok {
                doomed.insert(object);
            } else if !doomed.remove(object) {
                taken += 1;
            }
        }
        taken
    }

    /// How many pods were to be created under a name that was taken already: what keeps a shard from being there twice.
    pub(crate) fn refused_as_double(&self, from: Timestamp) -> usize {
        self.sent.iter().filter(|sent| sent.at >= from && sent.what == "create pods" && sent.code == 409).count()
    }

    /// When this operator first wrote something, of which the lease is none.
    pub(crate) fn first_write_of(&self, by: &str, from: Timestamp) -> Option<Timestamp> {
        let own = self.sent.iter().filter(|sent| sent.by == by && sent.at >= from && sent.is_write && !sent.is_lease);
        own.map(|sent| sent.at).min()
    }

    /// The last write of any, of which the lease is none.
    pub(crate) fn last_write(&self) -> Option<&Sent> {
        self.sent.iter().filter(|sent| sent.is_write && !sent.is_lease).max_by_key(|sent| sent.at)
    }
}

/// How often each was asked, most often first.
pub(crate) fn by_kind<'a>(sent: impl Iterator<Item = &'a Sent>) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    for one in sent {
        *counts.entry(one.what.clone()).or_insert(0) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn request(by: &str, verb: &str, resource: &str, second: i64, code: u16) -> Request {
        Request {
            user: format!("system:serviceaccount:home:{by}"),
            pod: String::new(),
            verb: verb.into(),
            group: String::new(),
            resource: resource.into(),
            namespace: String::new(),
            name: String::new(),
            time: at(second).to_string(),
            code,
            forbidden: false,
        }
    }

    fn about(name: &str, request: Request) -> Request {
        Request { name: name.into(), ..request }
    }

    #[test]
    fn a_pod_that_kwok_took_is_told_from_one_that_an_operator_had_deleted() {
        let mut log = Requests::default();
        for one in [
            about("a-0", request("first", "create", "pods", 1, 201)),
            about("a-0", request("kwok", "delete", "pods", 2, 200)),
            about("a-0", request("kwok", "delete", "pods", 3, 404)),
            about("a-6", request("second", "create", "pods", 4, 201)),
            about("b-0", request("first", "create", "pods", 1, 201)),
            about("b-0", request("first", "delete", "pods", 2, 200)),
            about("b-0", request("kwok", "delete", "pods", 3, 200)),
            about("b-0", request("first", "create", "pods", 4, 201)),
            about("b-0", request("kwok", "delete", "pods", 5, 200)),
        ] {
            log.learn(&one);
        }
        assert_eq!((log.taken_by_kwok(at(0)), log.taken_by_kwok(at(4))), (2, 1));
        assert_eq!(log.between(at(0), at(9)).count(), 5, "what kwok asks is no request of an operator");
    }

    #[test]
    fn pods_that_were_created_are_told_by_mcpcluster() {
        let mut log = Requests::default();
        for one in [
            about("a-b-0", request("first", "create", "pods", 1, 201)),
            about("a-b-7", request("second", "create", "pods", 4, 201)),
            about("a-b-7", request("second", "create", "pods", 5, 409)),
            about("c-0", request("first", "create", "pods", 1, 201)),
        ] {
            log.learn(&one);
        }
        let expected = BTreeMap::from([(("", "a-b"), vec!["a-b-0", "a-b-7"]), (("", "c"), vec!["c-0"])]);
        assert_eq!(log.created_by_cluster(at(0)), expected);
        assert_eq!(log.created_by_cluster(at(2)), BTreeMap::from([(("", "a-b"), vec!["a-b-7"])]));
    }

    fn log() -> Requests {
        let mut log = Requests::default();
        for one in [
            about("a", request("first", "create", "pods", 5, 201)),
            about("b", request("first", "create", "pods", 3, 201)),
            request("second", "update", "leases", 6, 200),
            request("second", "get", "secrets", 7, 200),
            request("second", "create", "pods", 8, 409),
            request("second", "create", "pods", 9, 201),
        ] {
            log.learn(&one);
        }
        log
    }

    #[test]
    fn pods_that_were_created_count_and_refusals_are_told_apart() {
        assert_eq!(log().created(at(0)), [at(3), at(5), at(9)]);
        assert_eq!(log().created(at(4)), [at(5), at(9)]);
        assert_eq!(log().refused_as_double(at(0)), 1);
    }

    #[test]
    fn taking_over_is_the_first_write_that_is_not_the_lease() {
        assert_eq!(log().first_write_of("second", at(0)), Some(at(8)));
        assert_eq!(log().first_write_of("third", at(0)), None);
        assert_eq!(log().last_write().unwrap().at, at(9));
    }

    #[test]
    fn a_while_is_counted_by_kind() {
        let log = log();
        assert_eq!(
            by_kind(log.between(at(3), at(8))),
            [("create pods".into(), 2), ("get secrets".into(), 1), ("update leases".into(), 1)]
        );
    }
}
