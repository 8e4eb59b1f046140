//! Figures with their goals, as a table for people and as JSON for programs.

use serde_json::{Value, json};

/// A measured number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub name: String,
    pub unit: &'static str,
    /// None: it could not be measured.
    pub value: Option<f64>,
    pub goal: Option<Goal>,
}

/// What a number should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    Below(f64),
    Exactly(f64),
}

/// All of a run, in the order of the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::Below(limit) => value < limit,
            Self::Exactly(wanted) => (value - wanted).abs() < f64::EPSILON,
        }
    }

    fn words(self) -> String {
        match self {
            Self::Below(limit) => format!("< {}", number(limit)),
            Self::Exactly(wanted) => number(wanted),
        }
    }
}

impl Figure {
    fn verdict(&self) -> &'static str {
        match (self.goal, self.value) {
            (None, _) => "",
            (Some(goal), Some(value)) if goal.is_met(value) => "yes",
            (Some(_), _) => "**no**",
        }
    }
}

impl Figures {
    pub(crate) fn add(&mut self, name: impl Into<String>, unit: &'static str, value: impl Into<Option<f64>>, goal: Option<Goal>) {
        self.0.push(Figure { name: name.into(), unit, value: value.into(), goal });
    }

    /// A table in Markdown, its columns aligned.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![["figure", "unit", "measured", "goal", "met"].map(str::to_owned)];
        for figure in &self.0 {
            let value = figure.value.map_or_else(|| "not measured".to_owned(), number);
            let goal = figure.goal.map_or_else(String::new, Goal::words);
            rows.push([figure.name.clone(), figure.unit.to_owned(), value, goal, figure.verdict().to_owned()]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let line = |row: &[String; 5]| {
            let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} ")).collect();
            format!("|{}|\n", cells.join("|"))
        };
        let rule: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        let rule = format!("|{}|\n", rule.join("|"));
        line(&rows[0]) + &rule + &rows[1..].iter().map(line).collect::<String>()
    }

    pub(crate) fn json(&self) -> Value {
        let goal = |goal: Option<Goal>| match goal {
            None => Value::Null,
            Some(Goal::Below(limit)) => json!({"below": limit}),
            Some(Goal::Exactly(wanted)) => json!({"exactly": wanted}),
        };
        let one = |figure: &Figure| {
            let met = figure.goal.map(|_| figure.verdict() == "yes");
            json!({"name": figure.name, "unit": figure.unit, "value": figure.value, "goal": goal(figure.goal), "met": met})
        };
        self.0.iter().map(one).collect()
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut figures = Figures::default();
        figures.add("writes a minute", "1/min", 0.0, Some(Goal::Exactly(0.0)));
        figures.add("RSS", "MiB", 64.0, Some(Goal::Below(64.0)));
        figures.add("taking over", "s", None, Some(Goal::Below(20.0)));
        figures.add("pods", "", 3300.0, None);
        figures
    }

    #[test]
    fn what_misses_its_goal_or_was_not_measured_says_no() {
        let table = figures().table();
        let verdicts: Vec<_> = table.lines().skip(2).map(|line| line.split('|').nth(5).unwrap().trim().to_owned()).collect();
        assert_eq!(verdicts, ["yes", "**no**", "**no**", ""]);
        assert!(table.contains("not measured"));
    }

    #[test]
    fn the_columns_of_the_table_are_aligned() {
        let table = figures().table();
        let bars = |line: &str| line.char_indices().filter(|(_, c)| *c == '|').map(|(at, _)| at).collect::<Vec<_>>();
        let mut lines = table.lines();
        let first = bars(lines.next().unwrap());
        assert!(lines.all(|line| bars(line) == first), "{table}");
    }

    #[test]
    fn json_says_the_same() {
        let json = figures().json();
        assert_eq!(json[0]["met"], true);
        assert_eq!(json[2]["value"], Value::Null);
        assert_eq!(json[3]["met"], Value::Null);
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        assert_eq!([0.1234, 1.234, 12.34, 123.4, 3300.0, 0.0].map(number), ["0.123", "1.23", "12.3", "123", "3300", "0"]);
    }
}
