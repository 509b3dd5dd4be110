//! A matrix of loads from a file: options as keys, lists as axes.
//!
//! ```toml
//! load = "C"                      # begin with a load by letter; else with the defaults
//! durability = ["os", "fsync"]
//! write-path = ["journal", "page-cache"]
//! records = [1, 64]
//! partitions = [16, 256]
//! connections = 8
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::presets::{self, Named};
use crate::workload::{Workload, WorkloadError};

/// A matrix beyond this is a typing error.
const CELLS_MOST: usize = 10_000;

#[derive(Debug)]
pub enum SweepError {
    Read {
        path: PathBuf,
        source: io::Error,
    },
    Toml {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    Load {
        letter: String,
    },
    EmptyAxis {
        key: String,
    },
    TooMany {
        cells: usize,
    },
    /// A key that is no option, or a value that it does not take.
    Option {
        cell: String,
        source: Box<toml::de::Error>,
    },
    Workload {
        cell: String,
        source: WorkloadError,
    },
}

impl fmt::Display for SweepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SweepError::Read { path, source } => write!(f, "read {}: {source}", path.display()),
            SweepError::Toml { path, source } => write!(f, "{}: {source}", path.display()),
            SweepError::Load { letter } => write!(f, "load = {letter}: no single load by that letter"),
            SweepError::EmptyAxis { key } => write!(f, "{key} is an empty list"),
            SweepError::TooMany { cells } => write!(f, "{cells} loads are more than {CELLS_MOST}"),
            SweepError::Option { cell, source } => write!(f, "{cell}: {source}"),
            SweepError::Workload { cell, source } => write!(f, "{cell}: {source}"),
        }
    }
}

impl std::error::Error for SweepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SweepError::Read { source, .. } => Some(source),
            SweepError::Toml { source, .. } | SweepError::Option { source, .. } => Some(source),
            SweepError::Workload { source, .. } => Some(source),
            SweepError::Load { .. } | SweepError::EmptyAxis { .. } | SweepError::TooMany { .. } => None,
        }
    }
}

pub fn of_file(path: &Path) -> Result<Vec<Named>, SweepError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SweepError::Read { path: path.to_owned(), source })?;
    let table = text.parse::<Table>();
    let table =
        table.map_err(|source| SweepError::Toml { path: path.to_owned(), source: Box::new(source) })?;
    of_table(table)
}

/// Every combination, the last axis (by name) changing fastest.
fn of_table(mut table: Table) -> Result<Vec<Named>, SweepError> {
    let base = match table.remove("load") {
        None => Workload::default(),
        Some(value) => {
            let letter = value.as_str().and_then(|text| text.parse::<char>().ok());
            let found = letter.map(presets::loads).filter(|loads| loads.len() == 1);
            let found = found.and_then(|loads| loads.into_iter().next());
            found.ok_or_else(|| SweepError::Load { letter: value.to_string() })?.1
        }
    };
    let mut fixed = Table::try_from(&base).expect("a workload is a table of plain values");
    let mut axes: Vec<(String, Vec<Value>)> = Vec::new();
    for (key, value) in table {
        match value {
            Value::Array(values) if values.is_empty() => return Err(SweepError::EmptyAxis { key }),
            Value::Array(values) => axes.push((key, values)),
            value => {
                fixed.insert(key, value);
            }
        }
    }
    let cells = axes.iter().fold(1_usize, |cells, (_, values)| cells.saturating_mul(values.len()));
    if cells > CELLS_MOST {
        return Err(SweepError::TooMany { cells });
    }
    let mut all = Vec::new();
    for number in 0..cells {
        let mut one = fixed.clone();
        let mut left = number;
        let mut name = Vec::new();
        for (key, values) in axes.iter().rev() {
            let value = &values[left % values.len()];
            left /= values.len();
            name.push(match value.as_str() {
                Some(text) => format!("{key} {text}"),
                None => format!("{key} {value}"),
            });
            one.insert(key.clone(), value.clone());
        }
        name.reverse();
        let cell = name.join(", ");
        let workload: Workload = Value::Table(one)
            .try_into()
            .map_err(|source| SweepError::Option { cell: cell.clone(), source: Box::new(source) })?;
        workload.check().map_err(|source| SweepError::Workload { cell: cell.clone(), source })?;
        all.push((cell, workload));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Durability, WritePath};

    fn parse(text: &str) -> Result<Vec<Named>, SweepError> {
        of_table(text.parse().unwrap())
    }

    #[test]
    fn lists_are_axes_and_all_combinations_come_once() {
        let cells = parse(
            "load = \"C\"\ndurability = [\"os\", \"fsync\"]\nwrite-path = [\"journal\", \"page-cache\"]\n\
             partitions = [1, 16, 256]\nconnections = 4\nrate = 100.0\n",
        )
        .unwrap();
        assert_eq!(cells.len(), 12);
        let mut names: Vec<&String> = cells.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 12);
        let (name, last) = cells.last().unwrap();
        assert_eq!(name, "durability fsync, partitions 256, write-path page-cache");
        let found =
            (last.durability, last.partitions, last.write_path, last.connections, last.in_flight, last.rate);
        assert_eq!(found, (Durability::Fsync, 256, WritePath::PageCache, 4, 8, Some(100.0)));
        assert_eq!(parse("").unwrap().len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(matches!(parse("records = []"), Err(SweepError::EmptyAxis { .. })));
        assert!(matches!(parse("record = [1]"), Err(SweepError::Option { .. })));
        assert!(matches!(parse("durability = \"always\""), Err(SweepError::Option { .. })));
        assert!(matches!(parse("partitions = [1, 0]"), Err(SweepError::Workload { .. })));
        assert!(matches!(parse("load = \"H\""), Err(SweepError::Load { .. })));
        let many = format!("records = {:?}\npartitions = {:?}", vec![1; 200], vec![1; 200]);
        assert!(matches!(parse(&many), Err(SweepError::TooMany { cells: 40_000 })));
    }
}
