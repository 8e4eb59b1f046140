//! The image of new shards.

use mcp_crds::{McpCluster, McpClusterStatus};

/// `spec.image`. When it is unset: what unset stood for before, so that an upgrade of this operator restarts no shard, and an
/// image that is taken out of the spec again gives way to the one that shards had before it; else `ours`.
pub fn image(cluster: &McpCluster, status: Option<&McpClusterStatus>, ours: &str) -> String {
    let written = |image: &Option<String>| image.clone().filter(|image| !image.is_empty());
    let kept = status.and_then(|status| {
        // Without it, `status.image` is what unset stood for only while nobody changed the spec.
        let is_of_this_spec = status.observed_generation.is_none_or(|seen| Some(seen) == cluster.metadata.generation);
        written(&status.default_image).or_else(|| written(&status.image).filter(|_| is_of_this_spec))
    });
    written(&cluster.spec.image).or(kept).unwrap_or_else(|| ours.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn chosen(spec: Option<&str>, default_image: Option<&str>, image: Option<&str>, observed_generation: i64) -> String {
        let mut cluster = samples::quickstart();
        cluster.spec.image = spec.map(str::to_owned);
        let own = |text: Option<&str>| text.map(str::to_owned);
        let status = McpClusterStatus {
            image: own(image),
            default_image: own(default_image),
            observed_generation: Some(observed_generation),
            ..McpClusterStatus::default()
        };
        super::image(&cluster, Some(&status), "server:ours")
    }

    #[test]
    fn what_the_spec_says_goes_first_and_ours_is_for_a_cluster_without_a_past() {
        assert_eq!(chosen(Some("server:theirs"), Some("server:1"), Some("server:1"), 1), "server:theirs");
        assert_eq!(chosen(None, None, None, 1), "server:ours");
        assert_eq!(image(&samples::quickstart(), None, "server:ours"), "server:ours");
    }

    #[test]
    fn an_upgrade_of_the_operator_keeps_the_image() {
        assert_eq!(chosen(None, Some("server:1"), Some("server:1"), 1), "server:1");
        assert_eq!(chosen(None, None, Some("server:1"), 1), "server:1", "of a release that did not write the default down");
    }

    #[test]
    fn an_image_taken_out_of_the_spec_gives_way_to_what_was_before_it() {
        assert_eq!(chosen(None, Some("server:1"), Some("server:no-such-tag"), 0), "server:1");
        assert_eq!(chosen(None, None, Some("server:no-such-tag"), 0), "server:ours", "the spec always had one");
    }
}
