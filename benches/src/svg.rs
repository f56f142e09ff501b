//! A line chart as SVG: logarithmic x axis, linear y axis from zero, direct labels.

use std::fmt::Write;

/// A line and its name.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points, x ascending and above zero.
    pub points: Vec<(f64, f64)>,
}

/// Draws the chart.
#[must_use]
pub fn chart(title: &str, x_title: &str, y_title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (least, greatest) = points().fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), (x, _)| {
        (low.min(x.log10()), high.max(x.log10()))
    });
    let (least, greatest) = (least.floor(), greatest.max(least.floor() + 1.0));
    let step = nice(points().map(|(_, y)| *y).fold(1.0, f64::max) / 6.0);
    let top = (points().map(|(_, y)| *y).fold(1.0, f64::max) / step).ceil() * step;
    let x_of = |x: f64| LEFT + (x.log10() - least) / (greatest - least) * (RIGHT - LEFT);
    let y_of = |y: f64| BOTTOM - y / top * (BOTTOM - TOP);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"16\" fill=\"#1a1a1a\">{}</text>\n\
         <text x=\"{LEFT}\" y=\"46\" fill=\"#666666\">{}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666666\">{}</text>\n",
        escape(title),
        escape(y_title),
        f64::midpoint(LEFT, RIGHT),
        HEIGHT - 12.0,
        escape(x_title),
    );
    // Writing to a string cannot fail.
    let mut value = 0.0;
    while value <= top + step / 2.0 {
        let y = y_of(value);
        let _written = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e4e4e4\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666666\">{value}</text>\n",
            LEFT - 8.0,
            y + 4.0,
        );
        value += step;
    }
    let mut exponent = least;
    while exponent <= greatest + 1e-9 {
        let x = x_of(10_f64.powf(exponent));
        let _written = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666666\">{}</text>",
            BOTTOM + 20.0,
            count(10_f64.powf(exponent)),
        );
        exponent += 1.0;
    }
    // Labels are at the end of their lines, moved apart if they overlap.
    let mut labels: Vec<(f64, &str, &str)> = Vec::new();
    for (line, color) in lines.iter().zip(COLORS.iter().cycle()) {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", x_of(*x), y_of(*y)))
            .collect();
        let _written = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in &line.points {
            let _written = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{color}\"/>",
                x_of(*x),
                y_of(*y)
            );
        }
        if let Some((_, y)) = line.points.last() {
            labels.push((y_of(*y), &line.name, color));
        }
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = f64::MIN;
    for (y, name, color) in labels {
        let y = y.max(free);
        free = y + 16.0;
        let _written = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" fill=\"{color}\">{}</text>",
            RIGHT + 10.0,
            y + 4.0,
            escape(name)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The next of 1, 2, 5, 10, 20, 50, ... that is not less.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|nice| *nice >= value)
        .unwrap_or(10.0 * power)
}

/// A round number as people write it.
fn count(value: f64) -> String {
    if value >= 999_999.0 {
        format!("{:.0} M", value / 1e6)
    } else if value >= 999.0 {
        format!("{:.0} k", value / 1e3)
    } else {
        format!("{value:.0}")
    }
}

/// Text escaped for XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Colors that everybody can tell apart, the most important first.
const COLORS: [&str; 5] = ["#0063a6", "#c1510b", "#6a3d9a", "#6b6b6b", "#2e7d32"];

/// Width of the picture.
const WIDTH: f64 = 860.0;
/// Height of the picture.
const HEIGHT: f64 = 440.0;
/// Left end of the x axis.
const LEFT: f64 = 60.0;
/// Right end of the x axis.
const RIGHT: f64 = 660.0;
/// Upper end of the y axis.
const TOP: f64 = 64.0;
/// Lower end of the y axis.
const BOTTOM: f64 = 380.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn() {
        let line = Line {
            name: "a < b".to_owned(),
            points: vec![(10_000.0, 30.0), (1e8, 410.0)],
        };
        let svg = chart("t", "x", "y", &[line]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.contains(">100 M<") && svg.contains(">500<"));
    }
}
