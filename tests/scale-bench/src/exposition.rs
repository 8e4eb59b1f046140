//! The operator's metrics, read as Prometheus reads them.

use std::collections::BTreeMap;

use mcp_tests::{Failure, Outcome};

/// A scrape of the admin port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exposition(String);

/// Cumulative counts of a histogram by upper bound, seconds; the last bound is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram(Vec<(f64, f64)>);

impl Exposition {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum over all series of this name whose labels contain `with`; 0 when there is none.
    pub(crate) fn sum(&self, name: &str, with: &str) -> f64 {
        self.series(name).filter(|(labels, _)| labels.contains(with)).map(|(_, value)| value).sum()
    }

    /// The buckets of a histogram without labels of its own.
    ///
    /// # Errors
    /// When there is no such histogram.
    pub(crate) fn histogram(&self, name: &str) -> Outcome<Histogram> {
        let bound = |labels: &str| -> Option<f64> {
            let text = labels.split_once("le=\"")?.1.split_once('"')?.0;
            if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
        };
        let buckets = format!("{name}_bucket");
        let buckets = self.series(&buckets);
        let mut buckets: Vec<_> = buckets.filter_map(|(labels, count)| Some((bound(labels)?, count))).collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        if buckets.is_empty() {
            return Err(Failure::new(format!("the operator exposes no histogram {name}")));
        }
        Ok(Histogram(buckets))
    }

    /// Each value of a counter by its labels.
    pub(crate) fn by_labels(&self, name: &str) -> BTreeMap<String, f64> {
        self.series(name).map(|(labels, value)| (labels.to_owned(), value)).collect()
    }

    fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            let is_whole = labels.is_empty() || labels.starts_with('{');
            is_whole.then(|| value.parse().ok().map(|value| (labels, value))).flatten()
        })
    }
}

impl Histogram {
    /// What was added since an earlier scrape.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let earlier =
            |bound: f64| before.0.iter().find(|(other, _)| other.total_cmp(&bound).is_eq()).map_or(0.0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, count - earlier(*bound))).collect())
    }

    /// How many there were.
    pub(crate) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// The quantile as `histogram_quantile` of Prometheus has it: linear within a bucket; the largest finite bound when it lies
    /// beyond. None when nothing was counted.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = self.count() * quantile;
        if self.count() <= 0.0 {
            return None;
        }
        let (mut below, mut floor) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank && *count > below {
                return Some(if bound.is_finite() { floor + (bound - floor) * (rank - below) / (count - below) } else { floor });
            }
            if bound.is_finite() {
                (below, floor) = (*count, *bound);
            }
        }
        Some(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(counts: [u32; 3]) -> Exposition {
        let [first, second, all] = counts;
        Exposition::new(format!(
            "# TYPE round_seconds histogram\nround_seconds_sum 1.5\nround_seconds_count {all}\nround_seconds_bucket{{le=\"0.1\"}} {first}\n\
             round_seconds_bucket{{le=\"0.5\"}} {second}\nround_seconds_bucket{{le=\"+Inf\"}} {all}\n\
             shards{{cluster=\"a\",state=\"ready\"}} 6\nshards{{cluster=\"b\",state=\"ready\"}} 5\nshards{{cluster=\"b\",state=\"desired\"}} 9\n\
             shards_total 100\n# EOF\n"
        ))
    }

    #[test]
    fn series_are_summed_by_label_and_never_over_longer_names() {
        assert!((text([1, 2, 3]).sum("shards", "state=\"ready\"") - 11.0).abs() < 1e-9);
        assert!(text([1, 2, 3]).sum("shard", "").abs() < 1e-9);
        assert_eq!(text([1, 2, 3]).by_labels("shards").len(), 3);
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let histogram = text([10, 20, 20]).histogram("round_seconds").unwrap();
        assert!((histogram.quantile(0.5).unwrap() - 0.1).abs() < 1e-9);
        assert!((histogram.quantile(0.75).unwrap() - 0.3).abs() < 1e-9);
        let beyond = text([0, 1, 20]).histogram("round_seconds").unwrap();
        assert!((beyond.quantile(0.99).unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(text([0, 0, 0]).histogram("round_seconds").unwrap().quantile(0.5), None);
        assert!(text([1, 2, 3]).histogram("other").is_err());
    }

    #[test]
    fn an_interval_has_only_what_was_added_in_it() {
        let (before, after) = (text([10, 10, 10]), text([10, 14, 14]));
        let added = after.histogram("round_seconds").unwrap().since(&before.histogram("round_seconds").unwrap());
        assert!((added.count() - 4.0).abs() < 1e-9);
        assert!(added.quantile(0.5).unwrap() > 0.1);
    }
}
