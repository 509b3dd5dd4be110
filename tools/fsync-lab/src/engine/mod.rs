//! Runs one cell once.

mod journal;
mod pace;
mod per_file;
mod syscall;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::duration_ns;
use crate::device::Devices;
use crate::files::{CellError, Stock};
use crate::memory::Aligned;
use crate::meter::{Costs, Sample, Window};
use crate::plan::{Cell, MIB};
use crate::ring::Ring;
use crate::strategy::{Strategy, Sync};

use pace::Pace;

/// What every run needs.
pub struct Bench<'a> {
    pub stock: &'a mut Stock,
    pub devices: Option<&'a Devices>,
    pub noise: Arc<Aligned>,
}

/// Sources of writes start at changing blocks of this; the rest is room for the largest write.
const NOISE_STEPS: u64 = 1024;
/// The largest write: the largest group, or all that a journal takes at once.
const WRITE_BYTES_MAX: u64 = 4 * MIB;

/// The bytes that all writes come from.
pub fn noise() -> Arc<Aligned> {
    Arc::new(Aligned::noise((NOISE_STEPS * 4096 + WRITE_BYTES_MAX) as usize))
}

/// Where in the noise the bytes of a commit start: neighbours differ.
fn noise_offset(commit: u64) -> usize {
    (commit % NOISE_STEPS * 4096) as usize
}

impl Bench<'_> {
    /// Runs a cell once. `rate`: commits a second to start, for an open-loop cell.
    pub fn run(&mut self, cell: Cell, time: Duration, rate: Option<f64>) -> Result<Sample, CellError> {
        let files = self.stock.open(cell)?;
        let mut costs = Costs::new(self.devices);
        let pace = |window| Pace::new(window, rate);
        let run_ns = duration_ns(time);
        let mut sample = match cell.strategy {
            Strategy::PerFile { sync: Sync::Syscall, .. } => {
                syscall::run(cell, &files, &self.noise, Window::from_now(run_ns), &mut costs)?
            }
            Strategy::PerFile { sync, .. } => {
                let mut ring = new_ring()?;
                let window = Window::from_now(run_ns);
                per_file::run(cell, sync, &files, &mut ring, &self.noise, pace(window), &mut costs)?
            }
            Strategy::Journal => {
                let journal = self.stock.open_journal()?;
                let mut ring = new_ring()?;
                let directory = self.stock.handle();
                let window = Window::from_now(run_ns);
                let shared = journal::Shared { journal: &journal, files: &files, directory };
                journal::run(cell, &shared, &mut ring, &self.noise, pace(window), &mut costs)?
            }
        };
        sample.offered = rate;
        // The others have left nothing dirty.
        if matches!(cell.strategy, Strategy::Journal | Strategy::PerFile { sync: Sync::None, .. }) {
            let settled = files.settle(self.stock.handle());
            settled.map_err(|error| CellError::of("flush after the cell", error))?;
        }
        Ok(sample)
    }
}

fn new_ring() -> Result<Ring, CellError> {
    Ring::new().map_err(|source| CellError::Unsupported { what: "io_uring", source })
}
