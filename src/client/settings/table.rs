//! Tables of settings, and what a caller's pairs come to by them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::reset::InvalidReset;
use crate::config::{Check, InvalidValue, Kind, Value, nearest};

/// One setting: Kafka's name, in Kafka's unit, with Kafka's default.
#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: not set.
    pub default: Option<&'static str>,
    pub check: Check,
    pub help: &'static str,
}

/// A row of a table, short enough to be one line and its help.
pub const fn row(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    check: Check,
    help: &'static str,
) -> Setting {
    Setting { name, kind, default, check, help }
}

/// Why settings are none.
#[derive(Clone, PartialEq, Debug)]
pub enum SettingError {
    Unknown {
        name: String,
        nearest: Option<&'static str>,
    },
    Invalid {
        name: &'static str,
        value: String,
        why: InvalidValue,
        /// The values that would do, in words; empty if the kind says it all.
        allowed: String,
    },
    /// `auto.offset.reset` says nothing that could be done.
    Reset {
        value: String,
        why: InvalidReset,
    },
    /// `bootstrap.servers` names nobody, or something that is no address.
    Bootstrap {
        value: String,
    },
    /// Two settings that cannot both hold.
    Contradiction {
        first: (&'static str, String),
        second: (&'static str, String),
        why: &'static str,
    },
    /// Needs another setting that is not there.
    Incomplete {
        name: &'static str,
        value: String,
        missing: &'static str,
    },
    /// Known to Kafka, not to be had here.
    NotOffered {
        name: &'static str,
        value: String,
        why: &'static str,
    },
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingError::Unknown { name, nearest: Some(nearest) } => {
                write!(f, "there is no setting `{name}`; did you mean `{nearest}`?")
            }
            SettingError::Unknown { name, nearest: None } => write!(f, "there is no setting `{name}`"),
            SettingError::Invalid { name, value, why, allowed } => {
                write!(f, "`{name}` = `{value}`: {why}")?;
                if allowed.is_empty() { Ok(()) } else { write!(f, "; allowed: {allowed}") }
            }
            SettingError::Reset { value, why } => write!(f, "`auto.offset.reset` = `{value}`: {why}"),
            SettingError::Bootstrap { value } => {
                write!(f, "`bootstrap.servers` = `{value}` is no list of HOST:PORT, such as 127.0.0.1:9092")
            }
            SettingError::Contradiction { first, second, why } => {
                write!(f, "`{}` = `{}` contradicts `{}` = `{}`: {why}", first.0, first.1, second.0, second.1)
            }
            SettingError::Incomplete { name, value, missing } => {
                write!(f, "`{name}` = `{value}` needs `{missing}`, which is not set")
            }
            SettingError::NotOffered { name, value, why } => write!(f, "`{name}` = `{value}`: {why}"),
        }
    }
}

impl std::error::Error for SettingError {}

/// Checked values of every setting of some tables: what the caller gave, and defaults for the rest.
#[derive(Clone, Debug)]
pub struct Given {
    values: BTreeMap<&'static str, Value>,
    explicit: BTreeSet<&'static str>,
}

impl Given {
    /// A later pair of a name replaces an earlier one.
    pub fn read<K: AsRef<str>, V: AsRef<str>>(
        tables: &[&'static [Setting]],
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Given, SettingError> {
        let rows = || tables.iter().flat_map(|table| table.iter());
        let mut given = Given { values: BTreeMap::new(), explicit: BTreeSet::new() };
        for setting in rows() {
            if let Some(default) = setting.default {
                let value = Value::parse(setting.name, setting.kind, setting.check, default);
                given
                    .values
                    .insert(setting.name, value.expect("a test holds every default against its check"));
            }
        }
        for (name, text) in pairs {
            let (name, text) = (name.as_ref().trim(), text.as_ref());
            let Some(setting) = rows().find(|setting| setting.name == name) else {
                let nearest = nearest(name, rows().map(|setting| setting.name));
                return Err(SettingError::Unknown { name: name.to_owned(), nearest });
            };
            let value = Value::parse(setting.name, setting.kind, setting.check, text).map_err(|why| {
                let (value, allowed) = (text.to_owned(), setting.check.range());
                SettingError::Invalid { name: setting.name, value, why, allowed }
            })?;
            given.values.insert(setting.name, value);
            given.explicit.insert(setting.name);
        }
        Ok(given)
    }

    /// Whether the caller set it, be it to its default.
    pub fn is_explicit(&self, name: &str) -> bool {
        self.explicit.contains(name)
    }

    fn value(&self, name: &str) -> &Value {
        self.values.get(name).unwrap_or_else(|| panic!("`{name}` has a default in its table"))
    }

    pub fn number(&self, name: &str) -> i64 {
        self.value(name).number()
    }

    /// Of a setting whose check keeps it from being negative.
    pub fn size(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).expect("the check of the table says it is not negative")
    }

    /// Of a setting whose check keeps it from being negative.
    pub fn count(&self, name: &str) -> u32 {
        u32::try_from(self.number(name)).expect("the check of the table says it is an unsigned int")
    }

    /// Of a setting in milliseconds whose check keeps it from being negative.
    pub fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.number(name)).expect("the check of the table says so"))
    }

    pub fn flag(&self, name: &str) -> bool {
        self.value(name).boolean()
    }

    pub fn text(&self, name: &str) -> &str {
        self.value(name).text()
    }

    /// `None` if not set, or set to nothing.
    pub fn text_if_set(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(Value::text).filter(|text| !text.is_empty())
    }

    pub fn list(&self, name: &str) -> &[String] {
        self.value(name).list()
    }

    /// The value as the caller may have written it, for errors.
    pub fn shown(&self, name: &'static str) -> (&'static str, String) {
        (name, self.values.get(name).map(Value::to_string).unwrap_or_default())
    }

    /// The error that names both settings with their values.
    pub fn contradiction(
        &self,
        first: &'static str,
        second: &'static str,
        why: &'static str,
    ) -> SettingError {
        SettingError::Contradiction { first: self.shown(first), second: self.shown(second), why }
    }
}

/// The tables as the papers show them.
pub fn markdown_table(tables: &[&'static [Setting]]) -> String {
    let mut rows: Vec<&Setting> = tables.iter().flat_map(|table| table.iter()).collect();
    rows.sort_by_key(|setting| setting.name);
    let mut table = String::from("| setting | default | allowed | |\n| --- | --- | --- | --- |\n");
    for setting in rows {
        let default = setting.default.map_or(String::new(), |default| format!("`{default}`"));
        let range = setting.check.range();
        let allowed = if range.is_empty() { setting.kind.to_string() } else { range };
        table += &format!("| `{}` | {default} | {allowed} | {} |\n", setting.name, setting.help);
    }
    table
}
