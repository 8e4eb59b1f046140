//! How many clients there are, over time.

use serde::{Deserialize, Serialize};

use super::Seconds;

/// Points with straight lines between them; before the first and after the last it is level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Curve {
    /// In order of time.
    pub points: Vec<Point>,
    /// Begin anew after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Seconds>,
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// When.
    pub at: Seconds,
    /// How many.
    pub is: u32,
}

impl Curve {
    /// The number at a second.
    pub fn at(&self, now: i64) -> u32 {
        let now = self.every.map_or(now, |every| now.rem_euclid(every.0.max(1)));
        let after = self.points.partition_point(|point| point.at.0 <= now);
        let Some(before) = after.checked_sub(1).map(|position| self.points[position]) else {
            return self.points.first().map_or(0, |point| point.is);
        };
        let Some(next) = self.points.get(after) else { return before.is };
        let (passed, span) = (now - before.at.0, next.at.0 - before.at.0);
        let change = (i64::from(next.is) - i64::from(before.is)) * passed / span;
        u32::try_from(i64::from(before.is) + change).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(i64, u32)], every: Option<i64>) -> Curve {
        let points = points.iter().map(|(at, is)| Point { at: Seconds(*at), is: *is }).collect();
        Curve { points, every: every.map(Seconds) }
    }

    #[test]
    fn between_points_it_is_straight_and_outside_level() {
        let curve = curve(&[(10, 100), (20, 200), (20, 50), (30, 0)], None);
        assert_eq!([0, 10, 15, 19, 20, 25, 30, 99].map(|now| curve.at(now)), [100, 100, 150, 190, 50, 25, 0, 0]);
    }

    #[test]
    fn it_begins_anew() {
        let curve = curve(&[(0, 0), (10, 100)], Some(10));
        assert_eq!([0, 5, 9, 10, 15].map(|now| curve.at(now)), [0, 50, 90, 0, 50]);
    }
}
