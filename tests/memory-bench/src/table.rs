//! What both sides came to, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::story::{KINDS, Told};

/// One line for each side.
pub(crate) fn table(sides: &[Told]) -> String {
    let mut text =
        "side   rejected   forced  of them cut  OOM kills  restarts  shard-minutes  shards  shed  peak MiB  back to min\n"
            .to_owned();
    for told in sides {
        let (counts, seen) = (&told.counts, &told.seen);
        let _ = writeln!(
            text,
            "{:<5} {:>9} {:>8} {:>12} {:>10} {:>9} {:>14.1} {:>7} {:>5} {:>9} {:>12}",
            told.side.name(),
            counts.rejected,
            counts.forced,
            counts.cut,
            seen.oom_kills(),
            seen.restarts(),
            seen.shard_time.as_secs_f64() / 60.0,
            seen.largest(),
            told.shed,
            seen.peak() >> 20,
            told.shrank.map_or("never".to_owned(), |time| format!("{} s", time.as_secs())),
        );
    }
    for told in sides {
        let counts = &told.counts;
        let _ = writeln!(
            text,
            "\n{}: {} streams opened, {} calls answered ({} MiB), {} failed, {} attempts reached nobody",
            told.side.name(),
            counts.opened,
            counts.answered,
            counts.bytes >> 20,
            counts.failed,
            counts.unreachable
        );
        for (kind, counts) in KINDS.iter().zip(&told.kinds) {
            let _ =
                writeln!(text, "  {kind}: {} rejected, {} forced, of them {} cut", counts.rejected, counts.forced, counts.cut);
        }
        for pod in told.seen.describe() {
            let _ = writeln!(text, "  {pod}");
        }
        if !told.reasons.is_empty() {
            let _ = writeln!(text, "  told: {}", told.reasons.iter().cloned().collect::<Vec<_>>().join(", "));
        }
    }
    text
}

/// The same as JSON.
pub(crate) fn json(sides: &[Told]) -> Value {
    sides
        .iter()
        .map(|told| {
            let (counts, seen) = (&told.counts, &told.seen);
            let kinds = KINDS.iter().zip(&told.kinds).map(
                |(kind, counts)| json!({"kind": kind, "rejected": counts.rejected, "forced": counts.forced, "cut": counts.cut}),
            );
            json!({
                "kinds": kinds.collect::<Value>(),
                "side": told.side.name(), "rejected": counts.rejected, "unreachable": counts.unreachable, "forced": counts.forced,
                "cut": counts.cut, "opened": counts.opened, "answered": counts.answered, "failed": counts.failed,
                "bytes": counts.bytes, "oomKills": seen.oom_kills(), "restarts": seen.restarts(),
                "shardMinutes": seen.shard_time.as_secs_f64() / 60.0, "largest": seen.largest(), "shed": told.shed,
                "peakBytes": seen.peak(), "backToMinSeconds": told.shrank.map(|time| time.as_secs()), "reasons": told.reasons,
                "sizes": seen.sizes.iter().map(|(at, size)| json!([at.as_secs(), size])).collect::<Value>(),
            })
        })
        .collect()
}
