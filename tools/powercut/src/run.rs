//! A whole run: file systems and write paths in turn, cut by cut, and what to say in the end.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use crate::broker::Broker;
use crate::choices::Choices;
use crate::device::Device;
use crate::life::{Fault, Life, Outcome};
use crate::options::{Durability, Faults, RunOptions, WritePath};
use crate::supervisor::keep_mounts_private;
use crate::verdict::Verdict;
use crate::volume::{Disk, FileSystem, Volume};

/// More findings of one cut than this help nobody; the history has them all.
const FINDINGS_SHOWN: usize = 20;
const EXPECTED_SHOWN: usize = 3;
const USED_PERCENT_MAX: u64 = 50;

/// What the cuts of one file system and write path came to.
struct Figures {
    file_system: FileSystem,
    path: WritePath,
    cuts: u32,
    cuts_with_loss: u32,
    acknowledged: u64,
    lost: u64,
    seconds: f64,
}

impl Figures {
    fn new(file_system: FileSystem, path: WritePath) -> Figures {
        Figures { file_system, path, cuts: 0, cuts_with_loss: 0, acknowledged: 0, lost: 0, seconds: 0.0 }
    }

    fn add(&mut self, verdict: &Verdict, acknowledged: u64, seconds: f64) {
        self.cuts += 1;
        self.cuts_with_loss += u32::from(verdict.lost > 0);
        self.acknowledged += acknowledged;
        self.lost += verdict.lost as u64;
        self.seconds += seconds;
    }

    fn print(&self, durability: &str) {
        println!(
            "{:5} {:10} {durability:6}: {} cuts, {} with losses, {} records acknowledged, {} lost, {:.2} s a cut",
            self.file_system.name(),
            self.path.name(),
            self.cuts,
            self.cuts_with_loss,
            self.acknowledged,
            self.lost,
            self.seconds / f64::from(self.cuts.max(1))
        );
    }
}

/// The cuts that are left to do, each with what goes before it.
struct Plan {
    plain: u32,
    faults: Vec<Fault>,
}

impl Plan {
    fn left(&self) -> u32 {
        self.plain + self.faults.len() as u32
    }

    /// Faults are spread over the cuts.
    fn next(&mut self, choices: &mut Choices) -> Option<Option<Fault>> {
        let left = self.left();
        if left == 0 {
            return None;
        }
        let drawn = choices.between(0, u64::from(left)) as usize;
        if drawn < self.faults.len() {
            return Some(Some(self.faults.swap_remove(drawn)));
        }
        self.plain -= 1;
        Some(None)
    }
}

/// `faults`: on a device of our own.
pub fn run(options: &RunOptions, faults: Option<&Faults>, work: &Path) -> io::Result<ExitCode> {
    keep_mounts_private()
        .map_err(|error| io::Error::new(error.kind(), format!("a mount namespace: {error}; run as root")))?;
    let seed = options.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
    });
    println!("seed {seed}: --seed {seed} repeats the choices");
    let mut choices = Choices::new(seed);
    let mut figures: Vec<Figures> = Vec::new();
    for path in &options.paths {
        figures.extend(options.file_systems.iter().map(|file_system| Figures::new(*file_system, *path)));
    }
    let Faults { eio_writes, eio_flushes, stalls, sector_bytes, lying_disk } =
        faults.cloned().unwrap_or_default();
    let repeat = |fault, count: u32| std::iter::repeat_n(fault, count as usize);
    let all_faults = repeat(Fault::FailedWrites, eio_writes)
        .chain(repeat(Fault::FailedFlushes, eio_flushes))
        .chain(repeat(Fault::Stall, stalls));
    let mut plan = Plan { plain: options.cuts, faults: all_faults.collect() };
    let began = Instant::now();
    let combinations = figures.len();
    let per_image = plan.left().div_ceil(combinations as u32).clamp(1, options.cuts_per_image.max(1));
    let mut is_good = true;
    for image in 0.. {
        if plan.left() == 0 || !is_good {
            break;
        }
        let figures = &mut figures[image % combinations];
        let disk = match faults {
            None => Disk::Image(work.join("disk")),
            Some(_) => {
                let sector_bytes = sector_bytes.unwrap_or_else(|| figures.file_system.sector_bytes());
                Disk::Device(Device::start(work, options.image_mib << 20, sector_bytes)?)
            }
        };
        let disk = Begin { disk, lies: lying_disk };
        is_good = live(options, work, disk, figures, &mut plan, per_image, &mut choices.fork())?;
    }
    println!();
    figures.iter().for_each(|figures| figures.print(options.durability.name()));
    let sum = |of: fn(&Figures) -> u64| figures.iter().map(of).sum::<u64>();
    let lost = sum(|f| f.lost);
    println!(
        "{} cuts in {:.0} s: {} records acknowledged, {lost} of them or of those read lost, in {} of the cuts",
        sum(|f| u64::from(f.cuts)),
        began.elapsed().as_secs_f64(),
        sum(|f| f.acknowledged),
        sum(|f| u64::from(f.cuts_with_loss))
    );
    if is_good && sum(|f| f.acknowledged) == 0 {
        println!("FAILED: nothing was ever acknowledged, so nothing was shown");
        is_good = false;
    }
    if is_good && options.expect_loss && lost == 0 {
        println!("FAILED: losses were expected and none was found");
        is_good = false;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a file system begins on.
struct Begin {
    disk: Disk,
    lies: bool,
}

/// One file system from mkfs to its last cut. True: the run may go on.
fn live(
    options: &RunOptions,
    work: &Path,
    begin: Begin,
    figures: &mut Figures,
    plan: &mut Plan,
    cuts_max: u32,
    choices: &mut Choices,
) -> io::Result<bool> {
    let bytes = options.image_mib << 20;
    let mountpoint = work.join("mount");
    let volume = Volume::make(begin.disk, bytes, figures.file_system, &options.mount_options, mountpoint)?;
    let broker = Broker::new(&options.broker, &options.settings, &options.cores, work.join("broker.log"))?;
    let durability = options.durability.name();
    let mut life = Life::begin(volume, broker, figures.path, durability, &options.load, choices.fork())?;
    if begin.lies {
        life.device().lie()?;
    }
    while life.cuts() < cuts_max
        && life.used_percent()? <= USED_PERCENT_MAX
        && let Some(fault) = plan.next(choices)
    {
        let began = Instant::now();
        let Outcome { verdict, story, acknowledged } = life.cut(fault)?;
        let seconds = began.elapsed().as_secs_f64();
        figures.add(&verdict, acknowledged, seconds);
        println!(
            "{} {} cut {}: {story}; {} records, {} lost; {seconds:.2} s",
            figures.file_system,
            figures.path.name(),
            life.cuts(),
            verdict.records,
            verdict.lost,
        );
        if verdict.is_clean() {
            continue;
        }
        // Where nothing is flushed, not even the file system or the start has to survive; where only the records are not,
        // it does.
        let is_expected =
            options.expect_loss && (verdict.lost > 0 || options.durability == Durability::Fsync);
        let shown = if is_expected { EXPECTED_SHOWN } else { FINDINGS_SHOWN };
        verdict.findings.iter().take(shown).for_each(|finding| println!("  {finding}"));
        if verdict.findings.len() > shown {
            println!("  ... and {} more", verdict.findings.len() - shown);
        }
        if !is_expected {
            life.write_history(&work.join("history.jsonl"))?;
            return Ok(false);
        }
        // What comes after a loss proves nothing: the next cut gets a fresh file system.
        break;
    }
    Ok(true)
}
