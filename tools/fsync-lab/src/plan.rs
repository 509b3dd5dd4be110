//! Which cells are measured, and how long each may take.

use std::fmt;
use std::time::Duration;

use crate::strategy::{Cache, Space, Strategy, Sync};
use crate::text::bytes_text;

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;

/// The group size that all comparisons start from: one block of the page cache and of most devices.
pub const BASE_GROUP_BYTES: u64 = 4 * KIB;
/// As many commits wait at once in the comparisons under load.
pub const BUSY_DEPTH: u32 = 16;
/// Over as many files the ladder of rates goes.
pub const LADDER_FILES: u32 = 16;

/// Who starts the next commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Load {
    /// The completion of one before: `depth` are in flight at any time.
    Closed,
    /// The clock, whatever is still in flight. The rate is this part of what the same strategy did in the closed loop.
    Open { percent: u32 },
}

/// One thing to measure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cell {
    pub strategy: Strategy,
    pub files: u32,
    pub group_bytes: u64,
    /// Commits in flight; in the open loop the most that the strategy may have in flight, others wait.
    pub depth: u32,
    pub load: Load,
}

impl Cell {
    pub fn closed(strategy: Strategy, files: u32, group_bytes: u64, depth: u32) -> Cell {
        Cell { strategy, files, group_bytes, depth, load: Load::Closed }
    }

    /// The closed-loop cell that an open-loop cell takes its rate from.
    pub fn reference(self) -> Cell {
        Cell { load: Load::Closed, ..self }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = bytes_text(self.group_bytes);
        write!(f, "{} {group} x{} files, depth {}", self.strategy, self.files, self.depth)?;
        match self.load {
            Load::Closed => Ok(()),
            Load::Open { percent } => write!(f, ", open loop at {percent} %"),
        }
    }
}

/// Kafka's way: a growing file in the page cache, fdatasync after the write.
pub const KAFKA_WAY: Strategy = Strategy::of(Cache::PageCache, Space::Extending, Sync::Ring);
/// What a large group does instead of going through the journal.
pub const BYPASS: Strategy = Strategy::of(Cache::PageCache, Space::Zeroed, Sync::Linked);
/// The broker's write path `direct`.
pub const DIRECT: Strategy = Strategy::of(Cache::Direct, Space::Zeroed, Sync::Linked);
pub const DIRECT_DSYNC: Strategy = Strategy::of(Cache::Direct, Space::Zeroed, Sync::RwfDsync);

/// The strategies that the broker chooses among, and one that devices with FUA favour. The plots show these.
pub const KEY_STRATEGIES: [Strategy; 5] = [KAFKA_WAY, BYPASS, DIRECT, DIRECT_DSYNC, Strategy::Journal];

/// What to measure, in what order, on how much space.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    pub name: &'static str,
    /// Open-loop cells after the closed-loop ones that they refer to.
    pub cells: Vec<Cell>,
    pub repetitions: u32,
    /// For all runs and the files they need; what comes after, some seconds more.
    pub total: Duration,
    /// Bytes of one set of files, over all its files.
    pub set_bytes: u64,
}

const FILES: [u32; 3] = [1, 16, 256];
const DEPTHS: [u32; 3] = [1, 4, 16];

impl Plan {
    /// Every strategy at the base; the five key ones along each dimension; three under a ladder of rates.
    pub fn quick() -> Plan {
        let mut cells = Vec::new();
        for strategy in Strategy::all() {
            cells.push(Cell::closed(strategy, 1, BASE_GROUP_BYTES, 1));
        }
        for strategy in KEY_STRATEGIES {
            for group in [512, 16 * KIB, 64 * KIB, 256 * KIB, MIB] {
                cells.push(Cell::closed(strategy, 1, group, 1));
            }
            for (files, depth) in [(1, 4), (1, 16), (16, 16), (256, 16)] {
                cells.push(Cell::closed(strategy, files, BASE_GROUP_BYTES, depth));
            }
        }
        // Where the journal stops to pay: see `recommend`.
        for strategy in [Strategy::Journal, BYPASS] {
            for group in BYPASS_GROUPS {
                cells.push(Cell::closed(strategy, LADDER_FILES, group, BUSY_DEPTH));
            }
        }
        for strategy in [KAFKA_WAY, DIRECT, Strategy::Journal] {
            cells.extend(ladder(strategy, &[10, 30, 50, 70, 90]));
        }
        Plan {
            name: "quick",
            cells: without_doubles(cells),
            repetitions: 3,
            total: Duration::from_secs(46),
            set_bytes: 64 * MIB,
        }
    }

    /// Every strategy in every pair of (files, group, depth), the third at its base, but fewer where 256 new files are needed;
    /// six under a ladder of rates.
    pub fn full() -> Plan {
        let mut cells = Vec::new();
        let groups = [512, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB];
        for strategy in Strategy::all() {
            for files in FILES {
                for group in groups {
                    for depth in DEPTHS {
                        let bases = [files == 1, group == BASE_GROUP_BYTES, depth == 1];
                        // Making and removing hundreds of files takes longer than measuring on them.
                        let is_costly = files == 256 && needs_fresh(strategy) && bases != [false, true, true];
                        if bases.contains(&true) && !(is_costly && depth != BUSY_DEPTH) {
                            cells.push(Cell::closed(strategy, files, group, depth));
                        }
                    }
                }
            }
        }
        for strategy in [Strategy::Journal, BYPASS] {
            for group in BYPASS_GROUPS {
                cells.push(Cell::closed(strategy, LADDER_FILES, group, BUSY_DEPTH));
            }
        }
        let growing_direct = Strategy::of(Cache::Direct, Space::Extending, Sync::Linked);
        for strategy in KEY_STRATEGIES.into_iter().chain([growing_direct]) {
            cells.extend(ladder(strategy, &[5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95]));
        }
        Plan {
            name: "full",
            cells: without_doubles(cells),
            repetitions: 3,
            total: Duration::from_secs(13 * 60),
            set_bytes: 256 * MIB,
        }
    }

    /// The product of what the operator named, each cell of the given length.
    pub fn chosen(chosen: &Chosen) -> Plan {
        let mut cells = Vec::new();
        for &strategy in &chosen.strategies {
            for &files in &chosen.files {
                for &group in &chosen.groups {
                    for &depth in &chosen.depths {
                        cells.push(Cell::closed(strategy, files, group, depth));
                    }
                }
            }
        }
        let largest = chosen.groups.iter().max().copied().unwrap_or(0).next_multiple_of(BASE_GROUP_BYTES);
        let files = u64::from(chosen.files.iter().max().copied().unwrap_or(1));
        let cells = without_doubles(cells);
        let runs = u32::try_from(cells.len()).unwrap_or(u32::MAX).saturating_mul(chosen.repetitions);
        Plan {
            name: "chosen",
            repetitions: chosen.repetitions,
            // Files are laid out first, and what was left dirty is cleaned up after each run.
            total: (chosen.seconds + Duration::from_millis(50)).saturating_mul(runs) + Duration::from_secs(1),
            set_bytes: (64 * MIB).max(files * largest),
            cells,
        }
    }

    /// The least that recommends: for checks of the tool itself.
    pub fn tiny() -> Plan {
        let mut cells = Vec::new();
        for strategy in Strategy::all() {
            cells.push(Cell::closed(strategy, 1, BASE_GROUP_BYTES, 1));
        }
        for strategy in [KAFKA_WAY, BYPASS, DIRECT, Strategy::Journal] {
            cells.push(Cell::closed(strategy, 1, 64 * KIB, 1));
            cells.push(Cell::closed(strategy, 16, BASE_GROUP_BYTES, BUSY_DEPTH));
        }
        for strategy in [Strategy::Journal, BYPASS] {
            cells.push(Cell::closed(strategy, LADDER_FILES, 256 * KIB, BUSY_DEPTH));
        }
        for strategy in [DIRECT, Strategy::Journal] {
            cells.extend(ladder(strategy, &[30, 70]));
        }
        Plan {
            name: "tiny",
            cells: without_doubles(cells),
            repetitions: 2,
            total: Duration::from_secs(10),
            set_bytes: 16 * MIB,
        }
    }

    pub fn runs(&self) -> usize {
        self.cells.len() * self.repetitions as usize
    }

    /// Bytes on the file system at the worst moment.
    pub fn space_bytes(&self) -> u64 {
        let mut sets: Vec<(Cache, u32)> = self.cells.iter().filter_map(|cell| zeroed_set(*cell)).collect();
        sets.sort_unstable();
        sets.dedup();
        let journal = self.cells.iter().any(|cell| cell.strategy == Strategy::Journal);
        let fresh = FRESH_SETS * self.set_bytes;
        sets.len() as u64 * self.set_bytes + fresh + if journal { JOURNAL_BYTES } else { 0 }
    }
}

/// What the operator named instead of a set.
#[derive(Clone, PartialEq, Debug)]
pub struct Chosen {
    pub strategies: Vec<Strategy>,
    pub files: Vec<u32>,
    pub groups: Vec<u64>,
    pub depths: Vec<u32>,
    pub repetitions: u32,
    /// Of one run of one cell.
    pub seconds: Duration,
}

const BYPASS_GROUPS: [u64; 5] = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB];

/// Files that grow or are reserved may take as many sets' bytes before their cell ends early.
pub const FRESH_SETS: u64 = 2;
/// Two halves, one filled while the other is checkpointed. Small, so that even a short cell pays for checkpoints.
pub const JOURNAL_BYTES: u64 = 32 * MIB;

/// The set of pre-zeroed files that a cell needs.
pub fn zeroed_set(cell: Cell) -> Option<(Cache, u32)> {
    match cell.strategy {
        Strategy::Journal => Some((Cache::PageCache, cell.files)),
        Strategy::PerFile { cache, space: Space::Zeroed, .. } => Some((cache, cell.files)),
        Strategy::PerFile { .. } => None,
    }
}

/// Whether each run needs new files.
fn needs_fresh(strategy: Strategy) -> bool {
    matches!(strategy, Strategy::PerFile { space: Space::Extending | Space::Fallocated, .. })
}

/// The rates for one strategy, the closed loop that they are parts of first.
fn ladder(strategy: Strategy, percents: &[u32]) -> Vec<Cell> {
    let reference = Cell::closed(strategy, LADDER_FILES, BASE_GROUP_BYTES, BUSY_DEPTH);
    let open = percents.iter().map(|&percent| Cell { load: Load::Open { percent }, ..reference });
    [reference].into_iter().chain(open).collect()
}

/// Each cell once, in the order of its first mention, open-loop cells last.
fn without_doubles(cells: Vec<Cell>) -> Vec<Cell> {
    let mut seen = std::collections::BTreeSet::new();
    let (closed, open): (Vec<Cell>, Vec<Cell>) =
        cells.into_iter().filter(|cell| seen.insert(*cell)).partition(|cell| cell.load == Load::Closed);
    closed.into_iter().chain(open).collect()
}

/// How long the next run may measure so that the rest still fits.
/// `overhead` is what a run has cost so far beside measuring.
pub fn run_time(left: Duration, runs_left: usize, overhead: Duration) -> Duration {
    let share = left / u32::try_from(runs_left.max(1)).unwrap_or(u32::MAX);
    share.saturating_sub(overhead).clamp(RUN_MIN, RUN_MAX)
}

/// Below this a disk with real flushes shows a handful of commits.
const RUN_MIN: Duration = Duration::from_millis(40);
const RUN_MAX: Duration = Duration::from_millis(400);

/// All runs in their order: every closed-loop cell once, all of them again, and then the open-loop ones likewise, whose
/// rates are set by then. Each repetition starts elsewhere, and every other one goes backwards, so that no cell always
/// follows the same neighbour's writeback.
pub fn runs(plan: &Plan) -> Vec<Cell> {
    let closed_count = plan.cells.iter().take_while(|cell| cell.load == Load::Closed).count();
    let (closed, open) = plan.cells.split_at(closed_count);
    let repeat = |cells: &[Cell]| {
        let turned = |repetition: u32| {
            let mut cells = cells.to_vec();
            let by = cells.len() * repetition as usize / plan.repetitions as usize;
            cells.rotate_left(by);
            if repetition % 2 == 1 {
                cells.reverse();
            }
            cells
        };
        (0..plan.repetitions).flat_map(turned).collect::<Vec<Cell>>()
    };
    repeat(closed).into_iter().chain(repeat(open)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn sets_name_each_cell_once_and_references_first() {
        for plan in [Plan::quick(), Plan::full(), Plan::tiny()] {
            let unique: std::collections::BTreeSet<Cell> = plan.cells.iter().copied().collect();
            assert_eq!(unique.len(), plan.cells.len(), "{}", plan.name);
            for (at, cell) in plan.cells.iter().enumerate() {
                if cell.load != Load::Closed {
                    let reference = plan.cells.iter().position(|other| *other == cell.reference());
                    assert!(reference.is_some_and(|reference| reference < at), "{}: {cell}", plan.name);
                }
                assert!(u64::from(cell.files) * cell.group_bytes <= plan.set_bytes, "{}: {cell}", plan.name);
            }
        }
    }

    #[test]
    fn every_dimension_is_in_the_full_set_and_time_is_kept() {
        let full = Plan::full();
        for strategy in Strategy::all() {
            let of_it: Vec<&Cell> = full.cells.iter().filter(|cell| cell.strategy == strategy).collect();
            for files in FILES {
                assert!(of_it.iter().any(|cell| cell.files == files));
            }
            for depth in DEPTHS {
                assert!(of_it.iter().any(|cell| cell.depth == depth));
            }
            for group in [512, 4 * KIB, MIB] {
                assert!(of_it.iter().any(|cell| cell.group_bytes == group));
            }
        }
        assert!(full.total < seconds(15.0 * 60.0));
        assert!(Plan::quick().total < seconds(60.0));
        for plan in [Plan::quick(), full] {
            assert!(RUN_MIN * (plan.runs() as u32) < plan.total, "{} does not fit", plan.name);
        }
    }

    #[test]
    fn a_run_takes_its_share_less_what_it_costs_beside() {
        let check = |left: f64, runs: usize, overhead: f64, expected: f64| {
            assert_eq!(run_time(seconds(left), runs, seconds(overhead)), seconds(expected));
        };
        check(30.0, 100, 0.1, 0.2);
        check(30.0, 100, 0.0, 0.3);
        check(300.0, 10, 0.0, 0.4);
        check(1.0, 100, 0.0, 0.04);
        check(0.0, 0, 1.0, 0.04);
    }

    #[test]
    fn each_repetition_has_all_cells_in_another_order_and_open_loop_comes_last() {
        let plan = Plan::quick();
        let runs = runs(&plan);
        assert_eq!(runs.len(), plan.runs());
        let closed_count = plan.cells.iter().filter(|cell| cell.load == Load::Closed).count();
        let (closed, open) = runs.split_at(3 * closed_count);
        assert!(closed.iter().all(|cell| cell.load == Load::Closed));
        for (runs, cells) in [(closed, &plan.cells[..closed_count]), (open, &plan.cells[closed_count..])] {
            let repetitions: Vec<&[Cell]> = runs.chunks(cells.len()).collect();
            assert_eq!(repetitions.len(), 3);
            for repetition in &repetitions {
                let mut sorted = repetition.to_vec();
                sorted.sort_unstable();
                let mut all = cells.to_vec();
                all.sort_unstable();
                assert_eq!(sorted, all);
            }
            assert_ne!(repetitions[0], repetitions[1]);
            assert_ne!(repetitions[1], repetitions[2]);
        }
    }

    #[test]
    fn space_counts_every_set_once() {
        let one = Plan { cells: vec![Cell::closed(DIRECT, 16, 4096, 1); 2], ..Plan::quick() };
        assert_eq!(one.space_bytes(), 3 * 64 * MIB);
        let journal = Plan { cells: vec![Cell::closed(Strategy::Journal, 16, 4096, 1)], ..Plan::quick() };
        assert_eq!(journal.space_bytes(), 3 * 64 * MIB + JOURNAL_BYTES);
    }
}
