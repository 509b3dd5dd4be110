//! `history-checker FILE`: reads a history of sends and reads (`-`: standard input), prints its anomalies and a summary.
//! Exit code 0: none. 1: anomalies. 2: the file is no history.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;

use history_checker::{History, check};

/// More lines than this help nobody; the summary has the count.
const ANOMALIES_SHOWN: usize = 50;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: history-checker FILE   (JSON lines; `-` reads standard input)");
        return ExitCode::from(2);
    };
    let lines: Box<dyn BufRead> = if path == "-" {
        Box::new(io::stdin().lock())
    } else {
        match File::open(&path) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(cause) => return unreadable(&path, &cause),
        }
    };
    let history = match History::from_lines(lines) {
        Ok(history) => history,
        Err(cause) => return unreadable(&path, &cause),
    };
    let report = check(&history);
    for anomaly in report.anomalies.iter().take(ANOMALIES_SHOWN) {
        println!("{anomaly}");
    }
    if report.anomalies.len() > ANOMALIES_SHOWN {
        println!("... and {} more", report.anomalies.len() - ANOMALIES_SHOWN);
    }
    println!("{}", report.summary());
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn unreadable(path: &str, cause: &dyn std::error::Error) -> ExitCode {
    eprintln!("history-checker: {path}: {cause}");
    ExitCode::from(2)
}
