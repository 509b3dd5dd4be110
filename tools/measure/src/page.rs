//! A page that needs no network and no script: its frame and style, escaping, the key of its plots, the cells of its heat maps
//! and the tabs that they lie under.

use crate::plot::Series;

const STYLE: &str = include_str!("page.css");

/// Text as it may stand in HTML, in an attribute, too.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A whole document around the sections of `body`, which is HTML.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(title)
    )
}

/// What stands above the sections: the tool, what the page is about, and facts by name.
pub fn header(tool: &str, title: &str, facts: &[(&str, String)]) -> String {
    let facts: String = facts
        .iter()
        .map(|(name, text)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(text)))
        .collect();
    format!(
        "<header>\n<p class=\"brand\">{}</p>\n<h1>{}</h1>\n<dl>{facts}</dl>\n</header>\n",
        escape(tool),
        escape(title)
    )
}

/// How dark a value is, on a logarithmic scale from the best to the worst.
pub struct Heat {
    best: f64,
    worst: f64,
}

impl Heat {
    pub fn over(values: &[f64], is_more_better: bool) -> Heat {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        if is_more_better { Heat { best: high, worst: low } } else { Heat { best: low, worst: high } }
    }

    pub fn is_best(&self, value: f64) -> bool {
        value == self.best
    }

    /// A cell of a table, as dark as the value; `text` is HTML.
    pub fn cell(&self, value: f64, columns: usize, frame: Frame, text: &str) -> String {
        let percent = self.percent(value);
        // What is written on a dark ground is light.
        let tone = if percent > 48.0 { "hot" } else { "cool" };
        let best = if frame == Frame::Best { " best" } else { "" };
        let span = span(columns);
        format!("<td{span} class=\"{tone}{best}\" style=\"--heat:{percent:.0}%\">{text}</td>")
    }

    fn percent(&self, value: f64) -> f64 {
        let part =
            (value.max(1e-9) / self.best.max(1e-9)).ln() / (self.worst.max(1e-9) / self.best.max(1e-9)).ln();
        if part.is_finite() { part.clamp(0.0, 1.0) * 100.0 } else { 0.0 }
    }
}

/// Whether a cell of a heat map is marked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    None,
    Best,
}

/// A cell of a heat map for which there is no value.
pub fn void_cell(columns: usize) -> String {
    format!("<td{} class=\"void\">–</td>", span(columns))
}

fn span(columns: usize) -> String {
    if columns > 1 { format!(" colspan=\"{columns}\"") } else { String::new() }
}

/// As many as page.css has rules for.
const TABS_MOST: usize = 5;

/// Panes (name, HTML) under tabs, the first one open. One set of them on a page.
pub fn tabs(panes: &[(&str, String)]) -> String {
    assert!(panes.len() <= TABS_MOST, "{} panes, and the style shows {TABS_MOST}", panes.len());
    let mut out = String::from("<div class=\"tabs\">\n");
    for (at, (name, _)) in panes.iter().enumerate() {
        let checked = if at == 0 { " checked" } else { "" };
        out += &format!(
            "<input type=\"radio\" name=\"pane\" id=\"m{at}\"{checked}><label for=\"m{at}\">{}</label>\n",
            escape(name)
        );
    }
    for (at, (_, pane)) in panes.iter().enumerate() {
        out += &format!("<div class=\"pane p{at}\">\n{pane}</div>\n");
    }
    out + "</div>\n"
}

/// What the colours of a plot stand for.
pub fn legend(series: &[Series]) -> String {
    let entries: String = series
        .iter()
        .map(|series| format!("<li class=\"s{}\">{}</li>", series.colour, escape(&series.name)))
        .collect();
    format!("<ul class=\"legend\">{entries}</ul>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
        assert!(page("<t>", "<p>").contains("<title>&lt;t&gt;</title>"));
    }

    #[test]
    fn heat_runs_from_the_best_to_the_worst() {
        let check = |values: &[f64], is_more_better: bool, value: f64, percent: f64| {
            let found = Heat::over(values, is_more_better).percent(value);
            assert!((found - percent).abs() < 0.01, "{values:?} {value}: {found}");
        };
        check(&[10.0, 1000.0], false, 10.0, 0.0);
        check(&[10.0, 1000.0], false, 100.0, 50.0);
        check(&[10.0, 1000.0], true, 10.0, 100.0);
        check(&[10.0], false, 10.0, 0.0);
        check(&[0.0, 10.0], false, 10.0, 100.0);
        let heat = Heat::over(&[3.0, 2.0], false);
        assert!(heat.is_best(2.0) && !heat.is_best(3.0));
        assert_eq!(heat.cell(2.0, 1, Frame::Best, "2"), "<td class=\"cool best\" style=\"--heat:0%\">2</td>");
        assert_eq!(
            heat.cell(3.0, 6, Frame::None, "3"),
            "<td colspan=\"6\" class=\"hot\" style=\"--heat:100%\">3</td>"
        );
    }

    #[test]
    fn every_pane_has_a_tab_and_a_rule_that_shows_it() {
        let names = ["a", "b", "c", "d", "<e>"];
        let text = tabs(&names.map(|name| (name, "<p></p>\n".to_owned())));
        assert_eq!(names.len(), TABS_MOST);
        for (at, name) in names.iter().enumerate() {
            assert!(text.contains(&format!("<label for=\"m{at}\">{}</label>", escape(name))), "{text}");
            assert!(text.contains(&format!("<div class=\"pane p{at}\">\n<p></p>\n</div>")), "{text}");
            assert!(STYLE.contains(&format!("#m{at}:checked ~ .p{at}")), "{at}");
        }
        assert_eq!(text.matches(" checked>").count(), 1);
    }
}
