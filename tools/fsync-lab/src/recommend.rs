//! From figures to two settings and two sentences.

use crate::figures::{Figures, Results};
use crate::flush::Verdict;
use crate::plan::{BASE_GROUP_BYTES, BUSY_DEPTH, BYPASS, Cell, DIRECT, KAFKA_WAY, KIB, LADDER_FILES, MIB};
use crate::strategy::{Cache, Strategy};
use crate::text::{bytes_text, count_text, time_text};

/// The values of `log.write.path`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WritePath {
    /// The journal for topics that want `fsync`, the page cache for others.
    Auto,
    Direct,
    PageCache,
}

impl WritePath {
    pub fn name(self) -> &'static str {
        match self {
            WritePath::Auto => "auto",
            WritePath::Direct => "direct",
            WritePath::PageCache => "page-cache",
        }
    }
}

/// The broker's own default of `journal.bypass.bytes`.
pub const BYPASS_BYTES_DEFAULT: u64 = 64 * KIB;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recommendation {
    pub write_path: WritePath,
    pub bypass_bytes: u64,
    /// Two: what to set and why; what a flush is here and what follows.
    pub sentences: [String; 2],
}

/// Another path must be so much better than `auto`: below that, noise would decide.
const BETTER: f64 = 1.15;

/// What this host should use; None if the set did not measure what that takes, or measured memory.
pub fn recommend(results: &Results, flush: Verdict) -> Option<Recommendation> {
    if flush == Verdict::Memory {
        return None;
    }
    let files = busy_files(results)?;
    let at = |strategy| results.figures(Cell::closed(strategy, files, BASE_GROUP_BYTES, BUSY_DEPTH));
    let rate = |strategy| at(strategy).map(|figures| figures.commits_per_second.median);
    let (journal, direct, kafka) = (rate(Strategy::Journal), rate(DIRECT), rate(KAFKA_WAY));
    let (write_path, why) = match journal {
        None if is_without_direct(results) => (WritePath::PageCache, no_direct_text()),
        None => return None,
        Some(journal) => {
            let others = [(WritePath::Direct, direct), (WritePath::PageCache, kafka)];
            let best = others.into_iter().filter_map(|(path, rate)| Some((path, rate?)));
            let best = best.max_by(|a, b| a.1.total_cmp(&b.1));
            match best {
                Some((path, rate)) if rate > journal * BETTER => (path, own_files_text(files, rate, journal)),
                best => (WritePath::Auto, journal_text(files, at(Strategy::Journal)?, best, at(KAFKA_WAY))),
            }
        }
    };
    let bypass_bytes = bypass_bytes(results).unwrap_or(BYPASS_BYTES_DEFAULT);
    let first = format!(
        "Set log.write.path = {} and journal.bypass.bytes = {bypass_bytes} ({}): {why}.",
        write_path.name(),
        bytes_text(bypass_bytes),
    );
    Some(Recommendation { write_path, bypass_bytes, sentences: [first, flush_text(flush)] })
}

/// The largest number of files that was measured under load.
fn busy_files(results: &Results) -> Option<u32> {
    let busy = results.cells.iter().map(|measured| measured.cell);
    let busy = busy.filter(|cell| {
        *cell == cell.reference() && cell.depth == BUSY_DEPTH && cell.group_bytes == BASE_GROUP_BYTES
    });
    busy.filter(|cell| cell.strategy == KAFKA_WAY || cell.strategy == Strategy::Journal)
        .map(|cell| cell.files)
        .max()
}

fn is_without_direct(results: &Results) -> bool {
    let mut direct = results.cells.iter().filter(|measured| {
        matches!(measured.cell.strategy, Strategy::PerFile { cache: Cache::Direct, .. } | Strategy::Journal)
    });
    direct.all(|measured| measured.outcome.is_err())
}

fn no_direct_text() -> String {
    "this file system does not take O_DIRECT writes, which journal and direct need".to_owned()
}

fn own_files_text(files: u32, rate: f64, journal: f64) -> String {
    format!(
        "over {files} files with {BUSY_DEPTH} commits of {} in flight it makes {} durable commits a second, the journal {}",
        bytes_text(BASE_GROUP_BYTES),
        count_text(rate),
        count_text(journal),
    )
}

fn journal_text(
    files: u32,
    journal: &Figures,
    best: Option<(WritePath, f64)>,
    kafka: Option<&Figures>,
) -> String {
    let mut text = format!(
        "over {files} files with {BUSY_DEPTH} commits of {} in flight the journal makes {} durable commits a second at p99 {}",
        bytes_text(BASE_GROUP_BYTES),
        count_text(journal.commits_per_second.median),
        time_text(journal.latency_us.p99),
    );
    if let Some(kafka) = kafka {
        text += &format!(
            ", an fdatasync per growing file {} at {}",
            count_text(kafka.commits_per_second.median),
            time_text(kafka.latency_us.p99)
        );
    }
    if let Some((WritePath::Direct, rate)) = best {
        text += &format!(", O_DIRECT into pre-zeroed files {}", count_text(rate));
    }
    text
}

fn flush_text(flush: Verdict) -> String {
    let advice = match flush {
        Verdict::AboutNothing => {
            ", so compare strategies here by flushes and KiB per commit, and trust no figure about power loss"
        }
        Verdict::NotSent => ", so durability rests on the disk's word",
        Verdict::Real => ", so few flushes are what pays: let many records share one",
        // Nothing is recommended there.
        Verdict::Memory => "",
        Verdict::Unknown => ", so measure again where O_DIRECT and the block layer's counters can be had",
    };
    let flush = flush.to_string();
    let mut letters = flush.chars();
    let capital = letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter().chain(letters);
    capital.collect::<String>() + advice + "."
}

/// The group size from which a group alone is better off past the journal: where the two curves of commits a second
/// cross, as a power of two.
pub fn bypass_bytes(results: &Results) -> Option<u64> {
    let mut ratios: Vec<(u64, f64)> = Vec::new();
    for measured in &results.cells {
        let cell = measured.cell;
        let compared = Cell::closed(Strategy::Journal, LADDER_FILES, cell.group_bytes, BUSY_DEPTH);
        if cell == compared
            && let (Ok(journal), Some(past)) =
                (&measured.outcome, results.figures(Cell { strategy: BYPASS, ..cell }))
        {
            let ratio = journal.commits_per_second.median / past.commits_per_second.median;
            ratios.push((cell.group_bytes, ratio));
        }
    }
    ratios.sort_unstable_by_key(|(bytes, _)| *bytes);
    crossing(&ratios)
}

/// The last crossing from above 1 to below, interpolated on logarithmic axes; the ends where there is none.
fn crossing(ratios: &[(u64, f64)]) -> Option<u64> {
    if ratios.len() < 2 {
        return None;
    }
    // From the largest size down: one lucky cell among small sizes does not count.
    let last_won = ratios.iter().rposition(|(_, ratio)| *ratio >= 1.0);
    let bytes = match last_won {
        None => ratios[0].0,
        Some(at) if at + 1 == ratios.len() => ratios[at].0,
        Some(at) => {
            let ((low, won), (high, lost)) = (ratios[at], ratios[at + 1]);
            let part = won.ln() / (won.ln() - lost.ln());
            let log = (low as f64).log2() + part * ((high as f64).log2() - (low as f64).log2());
            1 << (log.round() as u32).clamp(9, 30)
        }
    };
    Some(bytes.clamp(BASE_GROUP_BYTES, MIB))
}

/// The first line of a file that this tool wrote, and may therefore write again.
pub const CONFIG_HEAD: &str = "# Written by corelog fsync-lab";

/// The settings as a file for `corelog start --config`.
/// `warning`: what puts the figures in doubt.
pub fn config_text(
    recommendation: &Recommendation,
    host: &crate::host::Host,
    warning: Option<&str>,
) -> String {
    let mut text = format!("{CONFIG_HEAD} on {}.\n", host.when_text());
    text +=
        &format!("# Measured under {} ({}, {}).\n", host.path.display(), host.file_system, host.disk_text());
    for sentence in recommendation.sentences.iter().map(String::as_str).chain(warning) {
        text += &format!("# {sentence}\n");
    }
    text += &format!("\"log.write.path\" = \"{}\"\n", recommendation.write_path.name());
    text += &format!("\"journal.bypass.bytes\" = {}\n", recommendation.bypass_bytes);
    text
}

/// What no measurement from here can tell.
pub const UNKNOWABLE: [&str; 4] = [
    "Whether a flush reaches the medium: a disk, controller or hypervisor may answer it from a volatile cache and lose \
     power. Only pulling the plug tells.",
    "A virtual disk's real cost: its host may cache, share and throttle it, differently tomorrow.",
    "How long it lasts: runs of a fraction of a second do not reach a drive's thermal limits, its garbage collection or \
     the end of its cache.",
    "What else uses the disk: counters are those of whole disks, and hold the writes of every program.",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Measured;
    use crate::meter::Percentiles;
    use corelog_measure::spread::Spread;

    fn figures(rate: f64) -> Figures {
        let spread = |median| Spread { median, low: median, high: median };
        Figures {
            runs: 3,
            commits: 1000,
            commits_per_second: spread(rate),
            megabytes_per_second: 1.0,
            latency_us: Percentiles { p50: 50.0, p90: 60.0, p99: 500.0, p999: 900.0, max: 1000.0 },
            p50_us: spread(50.0),
            p99_us: spread(500.0),
            write_p50_us: None,
            sync_p50_us: None,
            device: None,
            cpu_us: 1.0,
            offered: None,
            ended_early: false,
            is_saturated: false,
        }
    }

    fn busy(rates: &[(Strategy, Option<f64>)]) -> Results {
        let cell = |&(strategy, rate): &(Strategy, Option<f64>)| Measured {
            cell: Cell::closed(strategy, 256, BASE_GROUP_BYTES, BUSY_DEPTH),
            outcome: rate.map(figures).ok_or_else(|| "no O_DIRECT".to_owned()),
        };
        Results { cells: rates.iter().map(cell).collect() }
    }

    #[test]
    fn the_path_with_most_commits_is_taken_but_noise_does_not_decide() {
        let check = |journal: f64, direct: f64, kafka: f64, expected: WritePath| {
            let rates =
                [(Strategy::Journal, Some(journal)), (DIRECT, Some(direct)), (KAFKA_WAY, Some(kafka))];
            let found = recommend(&busy(&rates), Verdict::Real).unwrap();
            assert_eq!(found.write_path, expected, "{journal} {direct} {kafka}");
            assert_eq!(found.bypass_bytes, BYPASS_BYTES_DEFAULT, "nothing was measured about it");
        };
        check(200e3, 60e3, 20e3, WritePath::Auto);
        check(60e3, 65e3, 20e3, WritePath::Auto);
        check(60e3, 80e3, 20e3, WritePath::Direct);
        check(60e3, 80e3, 90e3, WritePath::PageCache);
    }

    #[test]
    fn without_direct_writes_only_the_page_cache_is_left() {
        let rates = [(Strategy::Journal, None), (DIRECT, None), (KAFKA_WAY, Some(1e3))];
        let found = recommend(&busy(&rates), Verdict::Unknown).unwrap();
        assert_eq!(found.write_path, WritePath::PageCache);
        assert_eq!(recommend(&Results::default(), Verdict::Real), None);
        assert_eq!(recommend(&busy(&[(Strategy::Journal, Some(1e5))]), Verdict::Memory), None);
    }

    #[test]
    fn sentences_are_two_and_speak_of_the_flush() {
        let rates = [(Strategy::Journal, Some(2e5)), (DIRECT, Some(1e4)), (KAFKA_WAY, Some(1e4))];
        let found = recommend(&busy(&rates), Verdict::AboutNothing).unwrap();
        for sentence in &found.sentences {
            assert!(sentence.ends_with('.') && !sentence.trim_end_matches('.').contains(". "), "{sentence}");
        }
        assert!(found.sentences[1].starts_with("This disk's flush costs about nothing: it is virtual"));
    }

    #[test]
    fn settings_are_toml_of_two_keys_under_comments() {
        let report = crate::report::sample::report(true);
        let text = config_text(report.recommendation.as_ref().unwrap(), &report.host, Some("Busy."));
        assert!(text.starts_with(CONFIG_HEAD));
        let settings: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(settings.len(), 2, "{text}");
        assert!(settings[0].starts_with("\"log.write.path\" = \""));
        let bytes = settings[1].strip_prefix("\"journal.bypass.bytes\" = ").unwrap();
        assert!((4096..=1 << 20).contains(&bytes.parse::<u64>().unwrap()), "{bytes}");
        assert!(text.contains("# Busy.\n"));
    }

    #[test]
    fn curves_cross_where_the_journal_stops_to_pay() {
        let check = |ratios: &[(u64, f64)], expected: Option<u64>| {
            assert_eq!(crossing(ratios), expected, "{ratios:?}");
        };
        check(&[], None);
        check(&[(4 * KIB, 3.0)], None);
        check(&[(4 * KIB, 5.0), (16 * KIB, 2.0), (64 * KIB, 0.5)], Some(32 * KIB));
        check(&[(4 * KIB, 5.0), (16 * KIB, 1.01), (64 * KIB, 0.2)], Some(16 * KIB));
        check(&[(4 * KIB, 0.9), (64 * KIB, 0.5)], Some(4 * KIB));
        check(&[(4 * KIB, 3.0), (64 * KIB, 2.0), (1024 * KIB, 1.5)], Some(1024 * KIB));
        // One lucky small cell does not hide the crossing above it.
        check(&[(4 * KIB, 0.9), (16 * KIB, 2.0), (64 * KIB, 0.5)], Some(32 * KIB));
    }
}
