//! A trace as a picture: how many shards each policy keeps, and how many clients wait, over time.

use std::fmt::Write;

use crate::policy::Name;
use crate::run::Outcome;
use crate::score::Second;

const WIDTH: f64 = 960.0;
const PANEL: f64 = 200.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const GAP: f64 = 40.0;
/// Points of a line: more than the pixels of a small picture show nothing more.
const POINTS: usize = 320;

/// A line: its name, its color, and its points.
type Line = (&'static str, &'static str, Vec<(i64, u64)>);

/// An SVG of the first seed of each outcome of one trace.
pub fn svg(outcomes: &[&Outcome]) -> String {
    let trace = outcomes.first().map_or("", |outcome| outcome.trace.as_str());
    let color = |policy: Name| match policy {
        Name::Ours => "#1b7f3b",
        Name::Hpa => "#c2571a",
        Name::Kpa => "#5b4fc4",
    };
    let line = |outcome: &&Outcome, of: fn(&Second) -> u64| -> Line {
        let points = outcome.score.series.iter().map(|(now, second)| (*now, of(second))).collect();
        (outcome.policy.as_str(), color(outcome.policy), points)
    };
    let mut shards: Vec<_> = outcomes.iter().map(|outcome| line(outcome, |second| second.alive)).collect();
    if let Some(first) = outcomes.first() {
        let (_, _, points) = line(first, |second| second.ideal);
        shards.insert(0, ("ideal", "#999999", points));
    }
    let waiting: Vec<_> = outcomes.iter().map(|outcome| line(outcome, |second| second.waiting)).collect();
    let height = TOP + 2.0 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"16\" font-size=\"14\">{trace}</text>\n"
    );
    for (position, (name, color, _)) in shards.iter().enumerate() {
        let x = LEFT + 160.0 + 80.0 * position as f64;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"16\" fill=\"{color}\">{name}</text>");
    }
    panel(&mut svg, TOP, "shards", &shards);
    panel(&mut svg, TOP + PANEL + GAP, "clients that wait", &waiting);
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, top: f64, title: &str, lines: &[Line]) {
    let all = || lines.iter().flat_map(|(_, _, points)| points);
    let highest = all().map(|(_, value)| *value).max().unwrap_or(0).max(1);
    let last = all().map(|(now, _)| *now).max().unwrap_or(0).max(1);
    let width = WIDTH - LEFT - 20.0;
    let bottom = top + PANEL;
    let x = |now: i64| LEFT + width * now as f64 / last as f64;
    let y = |value: u64| bottom - (PANEL - 16.0) * value as f64 / highest as f64;
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\" fill=\"#444\">{title}</text>", top + 10.0);
    for share in 0..=4_u64 {
        let value = highest * share / 4;
        let (at, right) = (y(value), LEFT + width);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right:.1}\" stroke=\"#ddd\"/>");
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#444\">{value}</text>", LEFT - 6.0, at + 4.0);
    }
    for share in 0..=4_i64 {
        let now = last * share / 4;
        let minutes = now / 60;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">{}:{:02}</text>",
            x(now),
            bottom + 16.0,
            minutes / 60,
            minutes % 60
        );
    }
    for (_, color, points) in lines {
        let every = points.len().div_ceil(POINTS).max(1);
        // The highest of each stretch: what is short and high is what matters.
        let thinned = points.chunks(every).filter_map(|chunk| chunk.iter().max_by_key(|(_, value)| *value));
        let path: Vec<_> = thinned.map(|(now, value)| format!("{:.0},{:.0}", x(*now), y(*value))).collect();
        let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.4\"/>", path.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Score;

    #[test]
    fn a_picture_has_a_line_for_each_policy_and_panel_and_one_for_the_ideal() {
        let series = (0..1000).map(|now| (now * 10, Second { alive: 3, ideal: 2, ..Second::default() })).collect();
        let score = Score { series, ..Score::default() };
        let outcomes =
            Name::ALL.map(|policy| Outcome { trace: "t".into(), policy, score: score.clone(), seeds: vec![], broken: vec![] });
        let svg = svg(&outcomes.iter().collect::<Vec<_>>());
        assert_eq!(svg.matches("<polyline").count(), 7);
        assert!(svg.len() < 40_000, "{} bytes", svg.len());
    }
}
