//! Numbers as people read them: in messages and in a status that does not fidget.

use mcp_crds::quantity::Bytes;

/// `61200` → `61,200`
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Rounds to three figures, half up: `60749` → `60700`, `999` stays `999`.
pub fn three_figures(number: u64) -> u64 {
    let digits = number.checked_ilog10().map_or(1, |power| power + 1);
    let unit = 10_u64.pow(digits.saturating_sub(3));
    (number / unit).saturating_add(u64::from(number % unit * 2 >= unit && unit > 1)).saturating_mul(unit)
}

/// A quotient with one decimal, rounded up, so that what does not fit five shards never reads `5.0`: `61200 / 12000` → `5.1`.
pub fn tenths(numerator: u64, denominator: u64) -> String {
    let tenths = (u128::from(numerator) * 10).div_ceil(u128::from(denominator.max(1)));
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A size in its largest binary unit, whole, rounded: `12Ki`, `318Mi`.
pub fn size(bytes: u64) -> String {
    let (shift, unit) = match bytes {
        0..0x2800 => (0, ""),
        0x2800..0xA0_0000 => (10, "Ki"),
        0xA0_0000..0x2_8000_0000 => (20, "Mi"),
        _ => (30, "Gi"),
    };
    let half = if shift == 0 { 0 } else { 1 << (shift - 1) };
    format!("{}{unit}", bytes.saturating_add(half) >> shift)
}

/// A memory limit as it was written, as far as that can be told: `512Mi`.
pub fn limit(bytes: u64) -> String {
    Bytes(bytes).to_string()
}

/// Part of a whole, percent, rounded half up; zero of nothing.
pub fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    if let (Some(part), Some(twice)) = (part.checked_mul(200).and_then(|part| part.checked_add(whole)), whole.checked_mul(2)) {
        return part / twice;
    }
    let (part, whole) = (u128::from(part), u128::from(whole));
    u64::try_from((part * 200 + whole) / (whole * 2)).unwrap_or(u64::MAX)
}

/// `one shard`, `3 shards`.
pub fn shards(count: u64) -> String {
    if count == 1 { "1 shard".to_owned() } else { format!("{} shards", thousands(count)) }
}

/// Names in a sentence, five at most: `tools-1, tools-2 and 3 more`.
pub fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<_> = names.into_iter().collect();
    match names.len() {
        0..=SHOWN => names.join(", "),
        more => format!("{} and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (61_200, "61,200"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn three_figures_stay() {
        for (number, rounded) in [(0, 0), (7, 7), (999, 999), (1004, 1000), (1005, 1010), (60_749, 60_700), (103_800, 104_000)] {
            assert_eq!(three_figures(number), rounded, "{number}");
        }
        assert!(three_figures(u64::MAX) > u64::MAX / 2);
    }

    #[test]
    fn tenths_never_hide_that_something_does_not_fit() {
        assert_eq!(tenths(61_200, 12_000), "5.1");
        assert_eq!(tenths(103_800, 12_000), "8.7");
        assert_eq!(tenths(60_001, 12_000), "5.1");
        assert_eq!(tenths(60_000, 12_000), "5.0");
        assert_eq!(tenths(5, 0), "5.0");
    }

    #[test]
    fn sizes_have_two_figures_at_least() {
        for (bytes, text) in
            [(512, "512"), (16 << 10, "16Ki"), (318 << 20, "318Mi"), ((318 << 20) + (1 << 19), "319Mi"), (64 << 30, "64Gi")]
        {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(limit(512 << 20), "512Mi");
    }

    #[test]
    fn percents_round_half_up() {
        assert_eq!((percent(1, 200), percent(1, 201), percent(5, 0), percent(u64::MAX, u64::MAX)), (1, 0, 0, 100));
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(names(["a", "b"]), "a, b");
        assert_eq!(names(["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    }
}
