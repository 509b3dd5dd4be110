//! Holds the shape of the source: who may import whom, where `unsafe` may stand, how files are named and how long they get,
//! and that ARCHITECTURE.md speaks of what is there.
//!
//! The checks work on text, not on types: they see `crate::room::..` and `super::..` paths in code, not in comments or texts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rows of rooms, top first. A room imports only from lower rows (ARCHITECTURE.md, Code map).
const ROWS: &[&[&str]] = &[
    &["main"],
    &["cli", "control", "shard"],
    &["server"],
    &["partition", "replication", "group", "transaction", "controller", "client"],
    &["log", "net"],
    &["mesh"],
    &["reactor", "record", "protocol"],
    &["buffer", "metadata", "metrics", "trace", "host", "config", "limits"],
    &["model"],
];

/// The files of the `corelog` command; they use the library from outside, as `corelog::..`.
const COMMAND_FILES: &[&str] = &["main.rs", "start.rs", "start/addresses.rs", "start/directories.rs"];

/// Imports inside a row that are wanted: (who, whom).
const SAME_ROW: &[(&str, &str)] = &[
    ("protocol", "record"),
    ("limits", "config"),
    ("host", "config"),
    ("host", "limits"),
    ("metrics", "config"),
];

/// Imports from a lower row that are not wanted: (who, whom, why).
const WALLS: &[(&str, &str, &str)] = &[
    ("log", "protocol", "the log knows no Kafka API"),
    ("log", "mesh", "the log belongs to one core"),
    ("group", "reactor", "coordinators are pure state machines"),
    ("group", "log", "coordinators are pure state machines"),
    ("group", "net", "coordinators are pure state machines"),
    ("group", "mesh", "coordinators are pure state machines"),
    ("transaction", "reactor", "coordinators are pure state machines"),
    ("transaction", "log", "coordinators are pure state machines"),
    ("transaction", "net", "coordinators are pure state machines"),
    ("transaction", "mesh", "coordinators are pure state machines"),
    ("controller", "reactor", "the controller is a pure state machine"),
    ("controller", "log", "the controller is a pure state machine"),
    ("controller", "net", "the controller is a pure state machine"),
    ("controller", "mesh", "the controller is a pure state machine"),
    ("controller", "protocol", "the controller decides in its own terms"),
];

/// All that the client may know of the crate.
const CLIENT_IMPORTS: &[&str] = &["protocol", "record", "model", "config"];

/// Who may import the client: the broker itself never does.
const CLIENT_IMPORTERS: &[&str] = &["cli"];

/// Where `unsafe` may stand, as path prefixes under `src/`.
const UNSAFE_PLACES: &[&str] = &["reactor/", "mesh/spsc.rs"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "helpers", "common", "impls", "types", "manager", "misc", "data", "info"];

const FILE_LINES_MAX: usize = 1000;

const ARCHITECTURE_LINES_MAX: usize = 400;

/// What may stand at the root; anything else has to be in `.gitignore`.
#[rustfmt::skip]
const ROOT: &[&str] = &[
    ".ci", ".git", ".gitignore", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.lock", "Cargo.toml", "LICENSE", "README.md",
    "benches", "clippy.toml", "rustfmt.toml", "src", "tests", "tools", "tuning",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files under a folder of the project, as paths from that folder, with their text.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.expect("read a folder of the project").path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let base = root().join(folder);
    let mut paths = Vec::new();
    walk(&base, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("source files are UTF-8");
        (path.strip_prefix(&base).expect("found below it").to_str().expect("ASCII names").to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// The text with comments and the insides of string and character literals blanked; line breaks stay.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let rest = &chars[i..];
        let end = if rest.starts_with(&['/', '/']) {
            i + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            i + block_comment_length(rest)
        } else if let Some(length) = raw_string_length(&chars, i) {
            i + length
        } else if chars[i] == '"' {
            i + string_length(rest, '"')
        } else if chars[i] == '\'' && (rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')) {
            // Anything else with a quote is a lifetime.
            i + string_length(rest, '\'')
        } else {
            code.push(chars[i]);
            i += 1;
            continue;
        };
        let end = end.min(chars.len());
        code.extend(chars[i..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        i = end;
    }
    code
}

fn block_comment_length(text: &[char]) -> usize {
    let mut depth = 0;
    let mut i = 0;
    while i < text.len() {
        match (text[i], text.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    text.len()
}

fn string_length(text: &[char], quote: char) -> usize {
    let mut i = 1;
    while i < text.len() {
        match text[i] {
            '\\' => i += 2,
            c if c == quote => return i + 1,
            _ => i += 1,
        }
    }
    text.len()
}

fn raw_string_length(text: &[char], at: usize) -> Option<usize> {
    let is_start = text[at] == 'r' && (at == 0 || !is_word(text[at - 1]) || text[at - 1] == 'b');
    let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
    if !is_start || text.get(at + 1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = at + 2 + hashes;
    let end = text[body..].windows(close.len()).position(|window| window == close)?;
    Some(body + end + close.len() - at)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The places where `word` stands alone in the code.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The first names of what a path leads to: one, or several for a group in braces.
fn first_names(after: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let after = after.trim_start();
    let Some(group) = after.strip_prefix('{') else { return vec![name(after)] };
    let mut names = vec![name(group)];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty() && name != "self");
    names
}

/// The room of a file under `src/`; `None` for the crate's root, which only declares.
fn room_of(path: &str) -> Option<&str> {
    if COMMAND_FILES.contains(&path) {
        return Some("main");
    }
    let first = path.split('/').next().expect("a path has a first part");
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (room != "lib").then_some(room)
}

/// How many modules below the crate's root the file's own module is.
fn depth_of(path: &str) -> usize {
    let parts = path.split('/').count();
    if path.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The rooms that a file names in its paths, with the line.
fn imports(path: &str, code: &str) -> Vec<(usize, String)> {
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    let mut found = Vec::new();
    let roots: &[&str] = if COMMAND_FILES.contains(&path) { &["corelog"] } else { &["crate"] };
    for root in roots {
        for at in words(code, root) {
            if let Some(after) = code[at + root.len()..].trim_start().strip_prefix("::") {
                found.extend(first_names(after).into_iter().map(|name| (line(at), name)));
            }
        }
    }
    for at in words(code, "super") {
        // Only the first of a chain; the others follow a `::`.
        if code[..at].trim_end().ends_with("::") {
            continue;
        }
        let mut after = &code[at..];
        let mut climbed = 0;
        while let Some(next) =
            after.trim_start().strip_prefix("super").and_then(|a| a.trim_start().strip_prefix("::"))
        {
            after = next;
            climbed += 1;
        }
        // Inside `mod tests { .. }` the first step leads only to the file's own module; names that are no rooms drop out.
        if climbed >= depth_of(path) && !COMMAND_FILES.contains(&path) {
            let names = first_names(after).into_iter().filter(|name| row_of(name).is_some());
            found.extend(names.map(|name| (line(at), name)));
        }
    }
    found
}

fn row_of(room: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&room))
}

/// What is wrong with the imports of one file.
fn import_violations(path: &str, text: &str) -> Vec<String> {
    let Some(room) = room_of(path) else { return Vec::new() };
    let Some(row) = row_of(room) else {
        return vec![format!("src/{path}: `{room}` is in no row of the table")];
    };
    let mut wrong = Vec::new();
    for (line, other) in imports(path, &code_of(text)) {
        let wall = WALLS.iter().find(|(who, whom, _)| *who == room && *whom == other);
        let why = match row_of(&other) {
            _ if other == room => None,
            None => Some("which is no room".to_owned()),
            Some(_) if wall.is_some() => wall.map(|(_, _, why)| format!("and {why}")),
            Some(_) if room == "client" && !CLIENT_IMPORTS.contains(&other.as_str()) => {
                Some("and the client knows no other rooms".to_owned())
            }
            Some(_) if other == "client" && !CLIENT_IMPORTERS.contains(&room) => {
                Some("and the broker never uses the client".to_owned())
            }
            Some(other_row) if other_row > row => None,
            Some(other_row) if other_row == row && SAME_ROW.contains(&(room, other.as_str())) => None,
            Some(other_row) if other_row == row => Some("which stands in the same row".to_owned()),
            Some(_) => Some("which stands in a row above".to_owned()),
        };
        wrong.extend(why.map(|why| format!("src/{path}:{line}: `{room}` imports `{other}`, {why}")));
    }
    wrong
}

fn unsafe_violations(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let is_allowed = UNSAFE_PLACES.iter().any(|place| path.starts_with(place));
    let lines = words(&code, "unsafe").map(|at| code[..at].matches('\n').count() + 1);
    lines
        .filter(|_| !is_allowed)
        .map(|line| format!("src/{path}:{line}: `unsafe` outside its rooms"))
        .collect()
}

fn name_and_length_violations(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        wrong.push(format!("{path}: {lines} lines; ask which second noun moved in"));
    }
    for part in path.trim_end_matches(".rs").split('/') {
        if EMPTY_NAMES.contains(&part) {
            wrong.push(format!("{path}: `{part}` does not say what is inside"));
        }
    }
    wrong
}

/// What ARCHITECTURE.md puts in backticks and means as a file or folder.
fn named_paths(document: &str) -> BTreeSet<&str> {
    let is_path = |text: &&str| {
        let is_plain = text.chars().all(|c| is_word(c) || matches!(c, '.' | '/' | '-'));
        let is_file = [".rs", ".md", ".toml", ".sh"].iter().any(|ending| text.ends_with(ending));
        is_plain && !text.starts_with('/') && (text.contains('/') || is_file)
    };
    let inline = document.lines().filter(|line| !line.starts_with("```"));
    inline.flat_map(|line| line.split('`').skip(1).step_by(2)).filter(is_path).collect()
}

/// What is wrong with ARCHITECTURE.md: paths that lead nowhere, rooms that it leaves out, too many lines.
fn document_violations(
    document: &str,
    rooms: &BTreeSet<String>,
    exists: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in named_paths(document) {
        if !exists(path) && !exists(&format!("src/{path}")) {
            wrong.push(format!("ARCHITECTURE.md names `{path}`, which is not there"));
        }
    }
    for room in rooms {
        if !document.contains(&format!("`{room}/`")) && !document.contains(&format!("`{room}.rs`")) {
            wrong.push(format!("ARCHITECTURE.md does not name the room `{room}`"));
        }
    }
    let lines = document.lines().count();
    if lines > ARCHITECTURE_LINES_MAX {
        wrong.push(format!("ARCHITECTURE.md has {lines} lines"));
    }
    wrong
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{} violation(s):\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rooms_import_only_from_lower_rows() {
    let files = rust_files("src");
    assert!(files.len() > 20, "the source was not found");
    assert_none(files.iter().flat_map(|(path, text)| import_violations(path, text)).collect());
}

#[test]
fn unsafe_stands_in_three_places() {
    assert_none(rust_files("src").iter().flat_map(|(path, text)| unsafe_violations(path, text)).collect());
}

#[test]
fn files_have_telling_names_and_a_bounded_length() {
    let folders = ["src", "tests", "benches", "tools"];
    let files = folders.iter().flat_map(|folder| rust_files(folder));
    assert_none(files.flat_map(|(path, text)| name_and_length_violations(&path, &text)).collect());
}

#[test]
fn the_architecture_paper_speaks_of_what_is_there() {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let rooms: BTreeSet<String> =
        rust_files("src").iter().filter_map(|(path, _)| room_of(path).map(str::to_owned)).collect();
    assert_none(document_violations(&document, &rooms, |path| root().join(path).exists()));
}

#[test]
fn the_root_holds_what_it_should() {
    let ignored = fs::read_to_string(root().join(".gitignore")).expect(".gitignore is there");
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root()).expect("the project's root") {
        let name = entry.expect("an entry of the root").file_name();
        let name = name.to_str().expect("ASCII names");
        if !ROOT.contains(&name) && !ignored.contains(&name) {
            wrong.push(format!("`{name}` stands at the root"));
        }
    }
    assert_none(wrong);
}

#[test]
fn planted_imports_are_found() {
    let check = |path: &str, text: &str, expected: &[&str]| {
        let found = import_violations(path, text);
        assert_eq!(found.len(), expected.len(), "{path}: {text}\n{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} does not say {expected}");
        }
    };
    check("log/segment.rs", "use crate::reactor::Io;\nuse crate::model::Offset;", &[]);
    check(
        "log/segment.rs",
        "use crate::partition::Leader;",
        &["src/log/segment.rs:1: `log` imports `partition`"],
    );
    check("log/segment.rs", "fn f() {\n    crate::server::go();\n}", &["log/segment.rs:2"]);
    check("log/segment.rs", "use crate::{model::Offset, shard::{Shard, run}, net};", &["`shard`", "`net`"]);
    check("log/segment.rs", "use crate::protocol::ApiKey;", &["knows no Kafka API"]);
    check("log/segment.rs", "use crate::no_room::X;", &["which is no room"]);
    check("log/segment.rs", "use super::layout::X;", &[]);
    check("log/segment.rs", "use super::super::net::Connection;", &["`net`"]);
    check("log/mod.rs", "use super::net::Connection;", &["`net`"]);
    check("log/mod.rs", "mod tests { use super::*; }", &[]);
    check("protocol/mod.rs", "use crate::record::Batch;", &[]);
    check("record/mod.rs", "use crate::protocol::ApiKey;", &["same row"]);
    check("controller/mod.rs", "use crate::reactor::Io;", &["pure state machine"]);
    check("client/mod.rs", "use crate::metadata::Image;", &["the client"]);
    check("cli/produce.rs", "use crate::client::Producer;", &[]);
    check("server/mod.rs", "use crate::client::Cluster;", &["never uses the client"]);
    check("control/mod.rs", "use crate::client::Cluster;", &["never uses the client"]);
    check("start.rs", "use corelog::client::Cluster;", &["never uses the client"]);
    check("main.rs", "use corelog::shard::Shard;", &[]);
    check("start.rs", "use corelog::attic::X;", &["which is no room"]);
    check("attic/mod.rs", "", &["in no row"]);
    check(
        "log/mod.rs",
        "//! See `crate::server::x`.\n/* crate::net */ const T: &str = \"crate::net::x\";",
        &[],
    );
    check("log/mod.rs", "const T: &str = r#\"crate::net::x \" \"#; use crate::net::X;", &["`net`"]);
    check("log/mod.rs", "const Q: char = '\"'; use crate::net::X; const R: char = '\"';", &["`net`"]);
    check("reactor/door.rs", "pub(in crate::reactor) struct X;", &[]);
}

#[test]
fn planted_unsafe_is_found() {
    let text = "// unsafe in words\nfn f() { unsafe { g() } }\n#![deny(unsafe_code)]";
    assert_eq!(
        unsafe_violations("log/segment.rs", text),
        ["src/log/segment.rs:2: `unsafe` outside its rooms"]
    );
    assert_eq!(unsafe_violations("mesh/mailbox.rs", text).len(), 1);
    assert!(unsafe_violations("mesh/spsc.rs", text).is_empty());
    assert!(unsafe_violations("reactor/ring.rs", text).is_empty());
}

#[test]
fn planted_names_and_lengths_are_found() {
    assert_eq!(name_and_length_violations("log/utils.rs", "").len(), 1);
    assert_eq!(name_and_length_violations("log/helpers/index.rs", "").len(), 1);
    assert_eq!(name_and_length_violations("log/segment.rs", &"\n".repeat(1001)).len(), 1);
    assert!(name_and_length_violations("log/segment.rs", &"\n".repeat(1000)).is_empty());
}

#[test]
fn planted_paths_and_missing_rooms_are_found() {
    let rooms = BTreeSet::from(["log".to_owned(), "host".to_owned()]);
    let document = "`log/` keeps `log/segment.rs`, `host.rs`, not `/metrics`, `acks=all` or `<topic>-0/`.";
    let exists = |path: &str| ["src/log/", "src/log/segment.rs", "src/host.rs"].contains(&path);
    assert_eq!(document_violations(document, &rooms, exists), Vec::<String>::new());
    assert_eq!(document_violations("`log/` and `log/gone.rs`, `host.rs`", &rooms, exists).len(), 1);
    assert_eq!(
        document_violations("`log/`", &rooms, exists),
        ["ARCHITECTURE.md does not name the room `host`"]
    );
    assert_eq!(document_violations(&"`log/` `host.rs`\n".repeat(401), &rooms, exists).len(), 1);
}
