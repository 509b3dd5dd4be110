//! Where settings are written: TOML, a Kafka `server.properties`, the command line.

use std::fmt;
use std::path::Path;

use super::ConfigError;

/// One setting as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    pub name: String,
    pub value: String,
    pub origin: Origin,
}

/// Where a setting was written; for messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    File {
        path: String,
        line: Option<usize>,
    },
    /// The option as typed: `--set`, `--listen`.
    Option(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line: Some(line) } => write!(f, "{path} line {line}"),
            Origin::File { path, line: None } => f.write_str(path),
            Origin::Option(option) => f.write_str(option),
        }
    }
}

/// Reads `KEY=VALUE`.
pub fn parse_set(text: &str) -> Result<Written, ConfigError> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok(Written {
            name: name.trim().to_owned(),
            value: value.to_owned(),
            origin: Origin::Option("--set"),
        }),
        _ => Err(ConfigError::NotKeyValue { text: text.to_owned() }),
    }
}

/// Reads TOML. Tables flatten to dotted names, so `[log] segment.bytes = 1` and `"log.segment.bytes" = 1` are one thing;
/// arrays become lists.
pub fn parse_toml(path: &Path, text: &str) -> Result<Vec<Written>, ConfigError> {
    let table: toml::Table = text.parse().map_err(|source: toml::de::Error| ConfigError::Toml {
        path: path.to_owned(),
        line: source.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1),
        source: Box::new(source),
    })?;
    let mut written = Vec::new();
    flatten("", &table, &mut written, path)?;
    Ok(written)
}

fn flatten(
    prefix: &str,
    table: &toml::Table,
    written: &mut Vec<Written>,
    path: &Path,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, written, path)?,
            value => {
                let value = scalar(value)
                    .ok_or_else(|| ConfigError::Unreadable { path: path.to_owned(), name: name.clone() })?;
                written.push(Written {
                    name,
                    value,
                    origin: Origin::File { path: path.display().to_string(), line: None },
                });
            }
        }
    }
    Ok(())
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(real) => Some(real.to_string()),
        toml::Value::Boolean(boolean) => Some(boolean.to_string()),
        toml::Value::Array(list) => Some(list.iter().map(scalar).collect::<Option<Vec<_>>>()?.join(",")),
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// Reads Java properties as Kafka writes them: `name=value`, `name: value` or `name value`, `#` and `!` comments, a
/// backslash before the line's end joins lines. Escapes: `\t \n \r \f \uXXXX`, and any other character stands for itself.
/// Source: `java.util.Properties.load`.
pub fn parse_properties(path: &Path, text: &str) -> Vec<Written> {
    let mut written = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut line = first.to_owned();
        while (line.len() - line.trim_end_matches('\\').len()) % 2 == 1 {
            line.pop();
            match lines.next() {
                Some((_, next)) => line.push_str(next.trim_start()),
                None => break,
            }
        }
        let (name, value) = split_property(&line);
        let origin = Origin::File { path: path.display().to_string(), line: Some(index + 1) };
        written.push(Written { name: unescape(name), value: unescape(value).trim_end().to_owned(), origin });
    }
    written
}

/// Splits at the first separator that no backslash protects.
fn split_property(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    for (at, c) in line.char_indices() {
        if !is_escaped && (c == '=' || c == ':' || c.is_whitespace()) {
            let rest = line[at..].trim_start();
            let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], value.trim_start());
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    (line, "")
}

fn unescape(text: &str) -> String {
    let mut unescaped = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            unescaped.push(c);
            continue;
        }
        match characters.next() {
            Some('t') => unescaped.push('\t'),
            Some('n') => unescaped.push('\n'),
            Some('r') => unescaped.push('\r'),
            Some('f') => unescaped.push('\u{c}'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                unescaped.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => unescaped.push(other),
            None => {}
        }
    }
    unescaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(written: &[Written]) -> Vec<(&str, &str)> {
        written.iter().map(|w| (w.name.as_str(), w.value.as_str())).collect()
    }

    #[test]
    fn toml_tables_flatten_to_dotted_names() {
        let text = "num.partitions = 4\n\"log.segment.bytes\" = 1048576\n[log]\ndirs = [\"/a\"]\nretention.ms = -1\n[auto.create.topics]\nenable = false\n";
        let written = parse_toml(Path::new("c.toml"), text).unwrap();
        let mut found = pairs(&written);
        found.sort_unstable();
        let expected = [
            ("auto.create.topics.enable", "false"),
            ("log.dirs", "/a"),
            ("log.retention.ms", "-1"),
            ("log.segment.bytes", "1048576"),
            ("num.partitions", "4"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn toml_errors_name_file_and_line_on_one_line() {
        let error = parse_toml(Path::new("c.toml"), "a = 1\nb = = 2\n").unwrap_err().to_string();
        assert!(error.starts_with("c.toml line 2: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
        let error = parse_toml(Path::new("c.toml"), "a = 1979-05-27\n").unwrap_err().to_string();
        assert!(error.contains("`a`"), "{error}");
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "# comment\n! another\n\nnode.id=1\n  log.dirs = /tmp/a,\\\n      /tmp/b\nname:value\nname2 value two \nempty=\n\
                    path=C:\\\\x\\=y\nu=\\u0041\nlast=\\";
        let written = parse_properties(Path::new("s.properties"), text);
        let expected = [
            ("node.id", "1"),
            ("log.dirs", "/tmp/a,/tmp/b"),
            ("name", "value"),
            ("name2", "value two"),
            ("empty", ""),
            ("path", "C:\\x=y"),
            ("u", "A"),
            ("last", ""),
        ];
        assert_eq!(pairs(&written), expected);
        assert_eq!(written[0].origin.to_string(), "s.properties line 4");
    }

    #[test]
    fn set_needs_a_name_and_a_value() {
        assert_eq!(
            parse_set("a=b=c").map(|w| (w.name, w.value)).ok(),
            Some(("a".to_owned(), "b=c".to_owned()))
        );
        assert!(parse_set("a").is_err());
        assert!(parse_set("=b").is_err());
    }
}
