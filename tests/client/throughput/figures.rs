//! What a round cost, and rounds taken together.

use std::time::{Duration, Instant};

use corelog_measure::spread::Spread;
use nix::sys::resource::{UsageWho, getrusage};

/// One round of one client.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub thousand_per_second: f64,
    pub cpu_us_per_record: f64,
}

/// Both clients in one round.
pub struct Pair {
    pub ours: Figures,
    pub theirs: Figures,
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("read this process's usage");
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}

pub fn measured(records: usize, round: impl FnOnce()) -> Figures {
    let (started, cpu_before) = (Instant::now(), cpu());
    round();
    let (elapsed, used) = (started.elapsed(), cpu() - cpu_before);
    Figures {
        thousand_per_second: records as f64 / elapsed.as_secs_f64() / 1000.0,
        cpu_us_per_record: used.as_secs_f64() * 1e6 / records as f64,
    }
}

/// `median (low to high)`.
pub fn shown(values: impl IntoIterator<Item = f64>, digits: usize) -> String {
    let Some(Spread { median, low, high }) = Spread::of(values) else { return "nothing".to_owned() };
    format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
}

/// Medians and spread of both, and of the ratio in each round.
pub fn print(what: &str, pairs: &[Pair]) {
    let of = |figure: fn(&Figures) -> f64, digits, unit| {
        println!(
            "{what}: corelog {} {unit}, librdkafka {} {unit}, ratio {}",
            shown(pairs.iter().map(|pair| figure(&pair.ours)), digits),
            shown(pairs.iter().map(|pair| figure(&pair.theirs)), digits),
            shown(pairs.iter().map(|pair| figure(&pair.ours) / figure(&pair.theirs)), 2),
        );
    };
    of(|figures| figures.thousand_per_second, 0, "k records/s");
    of(|figures| figures.cpu_us_per_record, 2, "us CPU/record");
}
