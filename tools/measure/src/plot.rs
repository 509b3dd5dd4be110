//! Line plots as SVG that takes the page's colours and scales with its column.

use crate::page::escape;
use crate::text::{bytes_text, count_text, time_text};

/// One line. `colour` is the number in the page's palette.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    pub name: String,
    pub colour: usize,
    pub points: Vec<Point>,
}

/// A median, and how far the runs reached.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub low: f64,
    pub high: f64,
}

/// What the numbers of an axis are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Microseconds,
    Count,
    Megabytes,
    Bytes,
    /// One in so many: the percentile below which the others are.
    OneIn,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Unit::Microseconds => time_text(value),
            Unit::Count => count_text(value),
            Unit::Megabytes => format!("{} MB/s", count_text(value)),
            Unit::Bytes => bytes_text(value as u64),
            Unit::OneIn => percent_text(value),
        }
    }

    /// Short, without a fraction: ticks are round numbers.
    fn tick_text(self, value: f64) -> String {
        let round = |value: f64| if value < 1.0 { format!("{value}") } else { format!("{value:.0}") };
        match self {
            Unit::Bytes if value >= 1048576.0 => format!("{}M", round(value / 1048576.0)),
            Unit::Bytes if value >= 1024.0 => format!("{}K", round(value / 1024.0)),
            Unit::OneIn => percent_text(value),
            Unit::Microseconds if value >= 1e6 => format!("{} s", round(value / 1e6)),
            Unit::Microseconds if value >= 1e3 => format!("{} ms", round(value / 1e3)),
            Unit::Microseconds => format!("{} µs", round(value)),
            _ if value >= 1e6 => format!("{}M", round(value / 1e6)),
            _ if value >= 1e3 => format!("{}k", round(value / 1e3)),
            _ => round(value),
        }
    }
}

/// 10: 90 %; 10,000: 99.99 %. As many digits as it takes.
fn percent_text(one_in: f64) -> String {
    let decimals = (one_in.log10() - 2.0).ceil().max(0.0) as usize;
    let text = format!("{:.decimals$}", 100.0 - 100.0 / one_in);
    format!("{text} %")
}

/// Both axes are logarithmic: what is plotted spans decades.
pub struct Plot<'a> {
    pub title: &'a str,
    pub x_name: &'a str,
    pub x_unit: Unit,
    pub y_unit: Unit,
    pub series: Vec<Series>,
    /// A vertical line with a word on it.
    pub mark: Option<(f64, String)>,
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// A logarithmic axis from end to end of the drawing.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// A little wider than the values; None: there are none above 0.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Scale> {
        let (low, high) = values
            .filter(|value| *value > 0.0 && value.is_finite())
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        (low <= high).then(|| Scale { low: low / 1.15, high: high * 1.15, from, to })
    }

    fn at(self, value: f64) -> f64 {
        let part = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// Round numbers inside; more of them where there is less than three decades.
    fn ticks(self, unit: Unit) -> Vec<f64> {
        let mut ticks = Vec::new();
        if unit == Unit::Bytes {
            // From 256 on by fours: 1K, 4K, 16K.
            let mut tick = 256.0;
            while tick <= self.high {
                ticks.push(tick);
                tick *= 4.0;
            }
        } else if unit == Unit::OneIn {
            ticks.extend([2.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7]);
        } else {
            let decades = (self.high / self.low).log10();
            let steps: &[f64] = if decades < 1.7 {
                &[1.0, 2.0, 5.0]
            } else if decades < 3.2 {
                &[1.0, 3.0]
            } else {
                &[1.0]
            };
            let first = self.low.log10().floor() as i32;
            for decade in first..=self.high.log10().ceil() as i32 {
                ticks.extend(steps.iter().map(|step| step * 10_f64.powi(decade)));
            }
        }
        ticks.retain(|tick| *tick >= self.low && *tick <= self.high);
        ticks
    }
}

impl Plot<'_> {
    /// A figure with its title; a sentence instead of the drawing where there is nothing to draw.
    pub fn figure(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let xs = points().map(|point| point.x).chain(self.mark.iter().map(|(x, _)| *x));
        let x = Scale::over(xs, LEFT, WIDTH - RIGHT);
        let y = Scale::over(points().flat_map(|point| [point.low, point.high]), HEIGHT - BOTTOM, TOP);
        let title = escape(self.title);
        let (Some(x), Some(y)) = (x, y) else {
            return format!(
                "<figure><figcaption>{title}</figcaption><p class=\"none\">Not measured here.</p></figure>\n"
            );
        };
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" preserveAspectRatio=\"xMidYMid meet\">\n"
        );
        svg += &self.axes(x, y);
        if let Some((at, word)) = &self.mark {
            let at = x.at(*at);
            let (side, anchor) = if at > WIDTH * 0.6 { (at - 5.0, "end") } else { (at + 5.0, "start") };
            svg += &format!(
                "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
                 <text class=\"mark\" x=\"{side:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
                HEIGHT - BOTTOM,
                TOP + 11.0,
                escape(word)
            );
        }
        for series in &self.series {
            svg += &self.line(series, x, y);
        }
        svg += "</svg>";
        format!("<figure><figcaption>{title}</figcaption>{svg}</figure>\n")
    }

    fn axes(&self, x: Scale, y: Scale) -> String {
        let bottom = HEIGHT - BOTTOM;
        let mut svg = String::new();
        for tick in y.ticks(self.y_unit) {
            let at = y.at(tick);
            svg += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 7.0,
                at + 4.0,
                self.y_unit.tick_text(tick)
            );
        }
        for tick in x.ticks(self.x_unit) {
            let at = x.at(tick);
            svg += &format!(
                "<line class=\"tick\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                bottom + 4.0,
                bottom + 17.0,
                self.x_unit.tick_text(tick)
            );
        }
        svg += &format!(
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            WIDTH - RIGHT,
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6.0,
            escape(self.x_name)
        );
        svg
    }

    fn line(&self, series: &Series, x: Scale, y: Scale) -> String {
        let mut points = series.points.clone();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let path: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", x.at(point.x), y.at(point.y))).collect();
        let mut svg = format!("<g class=\"s{}\"><polyline points=\"{}\"/>", series.colour, path.join(" "));
        for point in &points {
            let (at_x, at_y) = (x.at(point.x), y.at(point.y));
            svg += &format!(
                "<line class=\"spread\" x1=\"{at_x:.1}\" x2=\"{at_x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
                 <circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"3.6\"><title>{}\n{}: {} ({} to {})</title></circle>",
                y.at(point.low),
                y.at(point.high),
                escape(&series.name),
                self.x_unit.text(point.x),
                self.y_unit.text(point.y),
                self.y_unit.text(point.low),
                self.y_unit.text(point.high),
            );
        }
        svg + "</g>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_spans_its_values() {
        let scale = Scale::over([10.0, 0.0, 1000.0].into_iter(), 0.0, 100.0).unwrap();
        assert!(scale.at(10.0) > 0.0 && scale.at(10.0) < 5.0);
        assert!((scale.at(100.0) - 50.0).abs() < 1e-9);
        assert!(scale.at(1000.0) < 100.0 && scale.at(1000.0) > 95.0);
        assert_eq!(Scale::over([0.0, f64::NAN].into_iter(), 0.0, 1.0), None);
        // One value is a scale, too.
        assert!(Scale::over([5.0].into_iter(), 0.0, 1.0).unwrap().at(5.0).is_finite());
    }

    #[test]
    fn ticks_are_round_numbers_inside() {
        let check = |low: f64, high: f64, unit: Unit, expected: &[&str]| {
            let scale = Scale { low, high, from: 0.0, to: 1.0 };
            let found: Vec<String> = scale.ticks(unit).into_iter().map(|tick| unit.tick_text(tick)).collect();
            assert_eq!(found, expected);
        };
        check(40.0, 600.0, Unit::Microseconds, &["50 µs", "100 µs", "200 µs", "500 µs"]);
        check(40.0, 30_000.0, Unit::Microseconds, &["100 µs", "300 µs", "1 ms", "3 ms", "10 ms", "30 ms"]);
        check(400.0, 2e6, Unit::Bytes, &["1K", "4K", "16K", "64K", "256K", "1M"]);
        check(1.8, 2e4, Unit::OneIn, &["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        check(900.0, 1.2e7, Unit::Count, &["1k", "10k", "100k", "1M", "10M"]);
    }

    #[test]
    fn a_plot_has_a_line_for_each_series_and_says_when_there_is_none() {
        let point = |x| Point { x, y: 10.0 * x, low: 9.0 * x, high: 11.0 * x };
        let series = Series { name: "a<b".to_owned(), colour: 2, points: vec![point(2.0), point(1.0)] };
        let plot = |series| Plot {
            title: "T",
            x_name: "x",
            x_unit: Unit::Count,
            y_unit: Unit::Microseconds,
            series,
            mark: Some((1.5, "here".to_owned())),
        };
        let text = plot(vec![series.clone(), series]).figure();
        assert_eq!(text.matches("<polyline").count(), 2);
        assert_eq!(text.matches("<circle").count(), 4);
        assert!(text.contains("a&lt;b") && !text.contains("a<b") && !text.contains("NaN"));
        assert!(plot(Vec::new()).figure().contains("Not measured"));
    }
}
