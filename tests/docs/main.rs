//! The tables of the README come from the tables of the code. `UPDATE_DOCS=1 cargo test --test docs` writes them anew.

use std::path::Path;

use corelog::config;
use corelog::metrics;
use corelog::protocol::api;

/// Each generated part of the README: the name in its marker comments, and what belongs between them.
fn parts() -> [(&'static str, String); 6] {
    [
        ("apis", api::markdown_table()),
        ("settings", config::setting_table()),
        ("topic settings", config::topic_setting_table()),
        ("without effect", config::without_effect_list()),
        ("stages", metrics::stage_table()),
        ("metrics", metrics::metric_table()),
    ]
}

/// The document with one part replaced. The marker comments stay.
fn replaced(document: &str, name: &str, content: &str) -> String {
    let (start, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end generated: {name} -->\n"));
    let after_start =
        document.find(&start).unwrap_or_else(|| panic!("the README has no {start}")) + start.len();
    let at_end =
        document[after_start..].find(&end).unwrap_or_else(|| panic!("the README has no {end}")) + after_start;
    format!("{}{content}{}", &document[..after_start], &document[at_end..])
}

#[test]
fn generated_parts_of_the_readme_are_not_stale() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let found = std::fs::read_to_string(&path).expect("the repository has a README");
    let expected =
        parts().iter().fold(found.clone(), |document, (name, content)| replaced(&document, name, content));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).expect("the README can be written");
        return;
    }
    for (line, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {} is stale: run UPDATE_DOCS=1 cargo test --test docs", line + 1);
    }
    assert_eq!(found.len(), expected.len(), "the README is stale: run UPDATE_DOCS=1 cargo test --test docs");
}

#[test]
fn only_what_is_between_the_markers_is_replaced() {
    let document = "before\n<!-- generated: x -->\nold\n<!-- end generated: x -->\nafter\n";
    let expected = "before\n<!-- generated: x -->\nnew\n<!-- end generated: x -->\nafter\n";
    assert_eq!(replaced(document, "x", "new\n"), expected);
}

#[test]
fn paths_that_the_papers_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for paper in [
        "README.md",
        "tuning/README.md",
        "tuning/memory/README.md",
        "tuning/files/README.md",
        "tuning/io_uring/README.md",
        "tuning/priority/README.md",
    ] {
        let text = std::fs::read_to_string(root.join(paper)).expect("the paper is there");
        let folder = Path::new(paper).parent().expect("a file is in a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_elsewhere = link.contains("://") || link.starts_with('#');
            assert!(
                is_elsewhere || root.join(folder).join(link).exists(),
                "{paper} links to {link}, which is not there"
            );
        }
    }
}
