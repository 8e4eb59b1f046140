//! The metrics of a shard: the OpenMetrics text of its admin port.

use k8s_openapi::api::core::v1::Pod;
use mcp_crds::shard::ADMIN_PORT;

use crate::failure::{Failure, Outcome, While as _};
use crate::namespace::Namespace;
use crate::{claim, reach};

/// What a shard exposes.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Reads the metrics of a shard.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn of(namespace: &Namespace, pod: &Pod) -> Outcome<Self> {
        let endpoint = reach::pod(namespace, pod, ADMIN_PORT, "/metrics").await?;
        let response = endpoint.http.get(endpoint.url.clone()).send().await.doing("reading metrics")?;
        claim!(response.status() == 200, "/metrics answers {}", response.status());
        Ok(Self(response.text().await?))
    }

    /// The sum of a metric over all its labels.
    ///
    /// # Errors
    /// When the shard does not expose it.
    pub fn sum(&self, name: &str) -> Outcome<f64> {
        let mut sum = None;
        for line in self.0.lines().filter(|line| !line.starts_with('#')) {
            if let Some((labels, value)) = line.strip_prefix(name).and_then(|rest| rest.rsplit_once(' '))
                && (labels.is_empty() || labels.starts_with('{'))
            {
                let value: f64 = value.parse().doing(line)?;
                sum = Some(sum.unwrap_or(0.0) + value);
            }
        }
        sum.ok_or_else(|| Failure::new(format!("the shard has no metric {name}; it has:\n{}", self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_over_longer_names() {
        let metrics = Metrics("# TYPE a gauge\na{era=\"modern\"} 2\na{era=\"legacy\"} 3\na_total 100\nb 1\n".to_owned());
        assert!((metrics.sum("a").unwrap() - 5.0).abs() < f64::EPSILON);
        assert!((metrics.sum("b").unwrap() - 1.0).abs() < f64::EPSILON);
        assert!(metrics.sum("c").is_err());
    }
}
