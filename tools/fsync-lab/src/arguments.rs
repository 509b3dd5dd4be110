//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::plan::{BASE_GROUP_BYTES, Chosen, DIRECT, KIB, MIB, Plan};
use crate::strategy::{Strategy, UnknownStrategy};

/// Measures what a durable commit costs on a file system, by strategy, and recommends one for this host.
///
/// Works in a directory of its own under PATH and removes it at the end, also after Ctrl-C. Never touches a device.
#[derive(Parser, Debug)]
#[command(name = "corelog-fsync-lab", bin_name = "corelog fsync-lab", version, max_term_width = 120)]
pub struct Arguments {
    /// The directory whose file system is measured
    #[arg(value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
    /// Every strategy in every pair of files, group size and depth: under 15 min instead of under 1
    #[arg(long, conflicts_with_all = ["tiny", "strategy", "raw_floor"])]
    pub full: bool,
    /// A check of this tool rather than of the disk: about 10 s
    #[arg(long, conflicts_with_all = ["strategy", "raw_floor"], hide_short_help = true)]
    pub tiny: bool,
    /// Measure only this: journal, CACHE/SPACE/SYNC as in direct/zeroed/linked, or all; may be repeated
    #[arg(long, value_name = "STRATEGY", value_parser = parse_strategies, hide_short_help = true)]
    pub strategy: Vec<Strategies>,
    /// With --strategy: over so many files; may be a list
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", requires = "strategy",
          value_parser = clap::value_parser!(u32).range(1..=1024), hide_short_help = true)]
    pub files: Vec<u32>,
    /// With --strategy: record group in bytes; 4KiB and 1MiB are understood; may be a list
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "4KiB", requires = "strategy",
          value_parser = parse_bytes, hide_short_help = true)]
    pub group: Vec<u64>,
    /// With --strategy: commits in flight; may be a list
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", requires = "strategy",
          value_parser = clap::value_parser!(u32).range(1..=64), hide_short_help = true)]
    pub depth: Vec<u32>,
    /// With --strategy or --raw-floor: length of one run
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds, hide_short_help = true)]
    pub seconds: Duration,
    /// With --strategy or --raw-floor: runs of each cell
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100),
          hide_short_help = true)]
    pub repetitions: u32,
    /// Print one line of JSON: p50 of a linked write and fdatasync, one file, one in flight; the floor for any broker
    #[arg(long, conflicts_with_all = ["strategy"])]
    pub raw_floor: bool,
    /// Also ask fio the same of the same file, in turns, and compare
    #[arg(long, conflicts_with = "raw_floor")]
    pub fio: bool,
    /// Stay on this CPU, as a shard of the broker would [default: any]
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// Write all figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots: one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the recommendation as settings for `corelog start --config FILE`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["strategy", "raw_floor"])]
    pub apply: Option<PathBuf>,
}

impl Arguments {
    /// What these arguments ask to measure.
    pub fn plan(&self) -> Plan {
        if self.raw_floor {
            return Plan::chosen(&Chosen {
                strategies: vec![DIRECT],
                files: vec![1],
                groups: vec![BASE_GROUP_BYTES],
                depths: vec![1],
                repetitions: self.repetitions,
                seconds: self.seconds,
            });
        }
        if !self.strategy.is_empty() {
            return Plan::chosen(&Chosen {
                strategies: self.strategy.iter().flat_map(Strategies::list).collect(),
                files: self.files.clone(),
                groups: self.group.clone(),
                depths: self.depth.clone(),
                repetitions: self.repetitions,
                seconds: self.seconds,
            });
        }
        match (self.full, self.tiny) {
            (true, _) => Plan::full(),
            (_, true) => Plan::tiny(),
            _ => Plan::quick(),
        }
    }

    /// The length of one run where the operator set it; otherwise the runs share the plan's time.
    pub fn run_time(&self) -> Option<Duration> {
        (self.raw_floor || !self.strategy.is_empty()).then_some(self.seconds)
    }
}

/// What one `--strategy` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategies {
    All,
    One(Strategy),
}

impl Strategies {
    fn list(&self) -> Vec<Strategy> {
        match self {
            Strategies::All => Strategy::all(),
            Strategies::One(strategy) => vec![*strategy],
        }
    }
}

fn parse_strategies(text: &str) -> Result<Strategies, UnknownStrategy> {
    if text == "all" { Ok(Strategies::All) } else { text.parse().map(Strategies::One) }
}

/// What is wrong with a number on the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
enum InvalidNumber {
    Group,
    Seconds,
}

impl fmt::Display for InvalidNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidNumber::Group => "expected bytes from 512 to 4MiB, as 512, 16KiB or 1MiB",
            InvalidNumber::Seconds => "expected seconds from 0.05 to 600",
        })
    }
}

impl std::error::Error for InvalidNumber {}

fn parse_bytes(text: &str) -> Result<u64, InvalidNumber> {
    let (number, unit) = match text {
        text if text.ends_with("KiB") => (&text[..text.len() - 3], KIB),
        text if text.ends_with("MiB") => (&text[..text.len() - 3], MIB),
        text => (text, 1),
    };
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| (512..=4 * MIB).contains(bytes)).ok_or(InvalidNumber::Group)
}

fn parse_seconds(text: &str) -> Result<Duration, InvalidNumber> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.05..=600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or(InvalidNumber::Seconds)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn typed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["corelog-fsync-lab"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn definitions_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sets_are_chosen_by_options() {
        let check = |line: &str, name: &str, cells: usize| {
            let plan = typed(line).unwrap().plan();
            assert_eq!((plan.name, plan.cells.len()), (name, cells), "{line}");
        };
        check("", "quick", Plan::quick().cells.len());
        check("/data --full", "full", Plan::full().cells.len());
        check("--raw-floor", "chosen", 1);
        check(
            "--strategy journal --strategy direct/zeroed/linked --group 512,4KiB --depth 1,16",
            "chosen",
            8,
        );
        check("--strategy all --strategy journal --files 4 --group 1MiB", "chosen", 37);
        assert_eq!(typed("--raw-floor --seconds 0.5").unwrap().run_time(), Some(Duration::from_millis(500)));
        assert_eq!(typed("--full").unwrap().run_time(), None);
    }

    #[test]
    fn slips_are_refused() {
        let check = |line: &str, kind: ErrorKind| {
            assert_eq!(typed(line).map(|_| ()).unwrap_err().kind(), kind, "{line}");
        };
        check("--full --tiny", ErrorKind::ArgumentConflict);
        check("--strategy direct", ErrorKind::ValueValidation);
        check("--group 4KiB", ErrorKind::MissingRequiredArgument);
        check("--strategy journal --group 8MiB", ErrorKind::ValueValidation);
        check("--strategy journal --group x", ErrorKind::ValueValidation);
        check("--raw-floor --seconds 0", ErrorKind::ValueValidation);
        check("--strategy journal --apply x", ErrorKind::ArgumentConflict);
    }
}
