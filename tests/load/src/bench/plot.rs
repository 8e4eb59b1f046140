//! Lines over two axes, as SVG that reads on light and on dark pages.

/// A line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// What the axes are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axes<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Whether the upright one is logarithmic.
    pub(super) log: bool,
}

const SIZE: (f64, f64) = (720.0, 420.0);
/// Left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (80.0, 48.0, 110.0, 56.0);
const COLORS: [&str; 4] = ["#0b7285", "#868e96", "#e8590c", "#5f3dc4"];

/// The plot.
pub(super) fn svg(axes: Axes<'_>, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let most = |axis: fn(&(f64, f64)) -> f64| all().map(axis).fold(f64::MIN_POSITIVE, f64::max);
    let (max_x, max_y) = (most(|point| point.0), most(|point| point.1));
    let low = all().map(|point| point.1).filter(|y| *y > 0.0).fold(max_y, f64::min);
    let (floor, top) =
        if axes.log { (10_f64.powf(low.log10().floor()), 10_f64.powf(max_y.log10().ceil())) } else { (0.0, max_y * 1.05) };
    let (width, height) = (SIZE.0 - MARGIN.0 - MARGIN.2, SIZE.1 - MARGIN.1 - MARGIN.3);
    let at_x = |x: f64| MARGIN.0 + width * x / max_x;
    let at_y = |y: f64| {
        let part = if axes.log { (y.max(floor) / floor).ln() / (top / floor).ln().max(1e-9) } else { y / top };
        MARGIN.1 + height * (1.0 - part)
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"13\">\n\
        <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"{}\" y=\"24\" font-size=\"15\">{}</text>\n",
        SIZE.0, SIZE.1, MARGIN.0, axes.title
    );
    let ticks: Vec<f64> = if axes.log {
        (0..=12).map(|n| floor * 10_f64.powi(n)).take_while(|y| *y <= top * 1.001).collect()
    } else {
        (0..=4).map(|n| top * f64::from(n) / 4.0).collect()
    };
    for y in ticks {
        let (right, y_at) = (MARGIN.0 + width, at_y(y));
        out += &format!("<line x1=\"{}\" x2=\"{right}\" y1=\"{y_at:.1}\" y2=\"{y_at:.1}\" stroke=\"#dee2e6\"/>\n", MARGIN.0);
        out += &format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n", MARGIN.0 - 8.0, at_y(y) + 4.0, short(y));
    }
    for n in 0..=5 {
        let x = max_x * f64::from(n) / 5.0;
        out += &format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
            at_x(x),
            SIZE.1 - MARGIN.3 + 20.0,
            short(x)
        );
    }
    out += &format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n<text transform=\"translate(18 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
        MARGIN.0 + width / 2.0,
        SIZE.1 - 14.0,
        axes.x,
        MARGIN.1 + height / 2.0,
        axes.y
    );
    for (line, color) in lines.iter().zip(COLORS.iter().cycle()) {
        let points: Vec<_> = line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
        out += &format!("<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" points=\"{}\"/>\n", points.join(" "));
        for point in &points {
            let (x, y) = point.split_once(',').unwrap_or_default();
            out += &format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{color}\"/>\n");
        }
        if let Some((x, y)) = line.points.last() {
            out +=
                &format!("<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{}</text>\n", at_x(*x) + 8.0, at_y(*y) + 4.0, line.name);
        }
    }
    out + "</svg>\n"
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", tidy(value / 1e6)),
        value if value >= 1e3 => format!("{}K", tidy(value / 1e3)),
        value => tidy(value),
    }
}

fn tidy(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_higher_and_further_right_on_either_scale() {
        for log in [false, true] {
            let axes = Axes { title: "t", x: "x", y: "y", log };
            let text = svg(axes, &[Line { name: "ours", points: vec![(1.0, 2.0), (5.0, 900.0)] }]);
            let points = text.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            let numbers: Vec<f64> = points.split([' ', ',']).map(|number| number.parse().unwrap()).collect();
            assert!(numbers[0] < numbers[2] && numbers[1] > numbers[3], "{points}");
            assert!(text.starts_with("<svg") && text.ends_with("</svg>\n") && text.contains(">ours<"));
        }
    }

    #[test]
    fn numbers_at_the_axes_are_short() {
        assert_eq!([short(0.0), short(1500.0), short(2e6), short(0.25)], ["0", "1.5K", "2M", "0.2"]);
    }
}
