//! Samples → medians, ratios, and a table that says which goal is met.

use serde_json::{Value, json};

/// One figure: samples of each server, taken in turn.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) ours: Vec<f64>,
    pub(super) hyper: Vec<f64>,
    pub(super) sdk: Vec<f64>,
    pub(super) goal: Goal,
    pub(super) note: String,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// At most so many times what hyper takes.
    AtMostTimes(f64),
    /// At least so many times what hyper does.
    AtLeastTimes(f64),
    /// At most so much.
    AtMost(f64),
    /// At most so much more than hyper's.
    AtMostMore(f64),
    /// For comparison.
    None,
}

/// The middle of some numbers.
pub(super) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

// === impl Figure ===

impl Figure {
    pub(super) fn new(name: impl Into<String>, unit: &'static str, goal: Goal) -> Self {
        Self { name: name.into(), unit, ours: vec![], hyper: vec![], sdk: vec![], goal, note: String::new() }
    }

    /// The ratio of each pair, ours to hyper's: what the machine did meanwhile is in both.
    fn ratios(&self) -> Vec<f64> {
        self.ours.iter().zip(&self.hyper).filter(|(_, hyper)| **hyper > 0.0).map(|(ours, hyper)| ours / hyper).collect()
    }

    /// What each pair differs by, ours less hyper's.
    fn differences(&self) -> Vec<f64> {
        self.ours.iter().zip(&self.hyper).map(|(ours, hyper)| ours - hyper).collect()
    }

    /// Whether the goal is met; none when it cannot be said.
    pub(super) fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::AtMostTimes(times) => Some(median(&self.ratios())? <= times),
            Goal::AtLeastTimes(times) => Some(median(&self.ratios())? >= times),
            Goal::AtMost(most) => Some(median(&self.ours)? <= most),
            Goal::AtMostMore(more) => Some(median(&self.differences())? <= more),
            Goal::None => None,
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "figure": self.name, "unit": self.unit, "goal": self.goal.text(), "met": self.met(), "note": self.note,
            "median": { "ours": median(&self.ours), "hyper": median(&self.hyper), "sdk": median(&self.sdk) },
            "ratio": median(&self.ratios()), "pairs": self.ours.len(),
            "samples": { "ours": self.ours, "hyper": self.hyper, "sdk": self.sdk },
        })
    }

    fn row(&self) -> [String; 8] {
        let number = |samples: &[f64]| median(samples).map_or("–".to_owned(), digits);
        let met = match self.met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let ratio = median(&self.ratios()).map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        [
            if self.note.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, self.note) },
            self.unit.to_owned(),
            number(&self.ours),
            number(&self.hyper),
            number(&self.sdk),
            ratio,
            self.goal.text(),
            met.to_owned(),
        ]
    }
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::AtMostTimes(times) => format!("≤ {times} × hyper"),
            Self::AtLeastTimes(times) => format!("≥ {times} × hyper"),
            Self::AtMost(most) => format!("≤ {}", digits(most)),
            Self::AtMostMore(more) => format!("≤ hyper + {}", digits(more)),
            Self::None => String::new(),
        }
    }
}

/// Three significant digits or whole numbers.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => {
            let whole = format!("{value:.0}");
            let (sign, figures) = whole.strip_prefix('-').map_or(("", &*whole), |figures| ("-", figures));
            let groups: Vec<_> = figures.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
            format!("{sign}{}", groups.join(","))
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The table, in Markdown that can be read as it is.
pub(super) fn table(figures: &[Figure]) -> String {
    let head = ["figure", "unit", "ours", "hyper", "SDK", "ours / hyper", "goal", "met"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(figures.iter().map(Figure::row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let line = |row: &[String; 8]| {
        let cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count()))).collect();
        format!("| {} |", cells.join(" | "))
    };
    let rule = format!("|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
    let mut lines = vec![line(&rows[0]), rule];
    lines.extend(rows[1..].iter().map(line));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(goal: Goal) -> Figure {
        Figure { ours: vec![12.0, 30.0, 11.0], hyper: vec![10.0, 20.0, 10.0], ..Figure::new("cost", "µs", goal) }
    }

    #[test]
    fn the_ratio_is_of_pairs_and_the_median_of_either_parity() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
        assert_eq!(median(&[]), None);
        // 1.2, 1.5, 1.1: the disturbed pair does not count.
        assert_eq!(figure(Goal::AtMostTimes(1.21)).met(), Some(true));
        assert_eq!(figure(Goal::AtMostTimes(1.19)).met(), Some(false));
        assert_eq!(figure(Goal::AtLeastTimes(1.19)).met(), Some(true));
        assert_eq!(figure(Goal::AtMost(11.9)).met(), Some(false));
        // 2, 10, 1 more.
        assert_eq!(figure(Goal::AtMostMore(2.0)).met(), Some(true));
        assert_eq!(figure(Goal::AtMostMore(1.9)).met(), Some(false));
    }

    #[test]
    fn a_figure_that_was_not_measured_is_neither_met_nor_missed() {
        let figure = Figure::new("cost", "µs", Goal::AtMostTimes(1.0));
        assert_eq!(figure.met(), None);
        assert!(table(&[figure]).contains("| – "), "a dash");
    }

    #[test]
    fn every_row_of_the_table_is_of_one_width() {
        let text = table(&[figure(Goal::AtMostTimes(1.33)), Figure::new("a longer name", "B", Goal::AtMost(123_456.0))]);
        let widths: std::collections::BTreeSet<_> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 1, "{text}");
        assert!(text.contains("≤ 123,456"), "{text}");
    }
}
