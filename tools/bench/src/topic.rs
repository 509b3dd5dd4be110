//! A topic that was made for a load: what it is for, what was put into it, and whether that can be read back.

use std::time::Duration;

use corelog_measure::clock::now_ns;
use corelog_measure::signals;

use crate::contender::ContenderError;
use crate::engine::EngineError;
use crate::wire::{Admin, Checked, Checker, Depth, Layout, Outgoing, ProduceFrame, Stamp, produced};
use crate::workload::{Keys, Workload};

/// A topic, and what was put into it.
pub struct Topic {
    pub workload: Workload,
    pub layout: Layout,
    pub sent_bytes: u64,
    /// Numbers of connections that have written to it; the next one takes the next.
    pub connections_used: u32,
    /// Records, by partition.
    acknowledged: Vec<u64>,
    /// A request failed or had no answer: more may be in the log than was acknowledged.
    pub is_uncertain: bool,
}

impl Topic {
    /// Made under this name; who leads its partitions is to be found out.
    pub fn new(name: String, workload: &Workload) -> Topic {
        Topic {
            workload: workload.clone(),
            layout: Layout { topic: name, partitions: workload.partitions, leaders: Vec::new() },
            sent_bytes: 0,
            connections_used: 0,
            acknowledged: vec![0; workload.partitions as usize],
            is_uncertain: false,
        }
    }

    /// Whether a load finds in it what it would make for itself.
    pub fn serves(&self, workload: &Workload) -> bool {
        let of = |w: &Workload| {
            (
                (w.mode, w.partitions, w.durability, w.write_path, w.record_bytes, w.records),
                (w.keys, w.key_count, w.compression, w.acks, w.fill_bytes),
            )
        };
        of(&self.workload) == of(workload)
    }

    /// So many records of each partition have been acknowledged.
    pub fn note(&mut self, acknowledged: &[u64], workload: &Workload) {
        for (sum, records) in self.acknowledged.iter_mut().zip(acknowledged) {
            *sum += records;
            self.sent_bytes += records * workload.record_bytes as u64;
        }
    }

    /// Sends each partition one batch until the broker takes it: it may serve a new topic a moment after it said so.
    pub fn wait_until_served(&mut self) -> Result<(), ContenderError> {
        let workload = Workload { acks: -1, ..self.workload.clone() };
        let frame = ProduceFrame::new(&workload, &self.layout.topic).map_err(EngineError::Frame)?;
        let give_up = now_ns() + 60_000_000_000;
        let number = self.connections_used;
        self.connections_used += 1;
        for (leader, partitions) in &self.layout.leaders {
            let mut admin = Admin::connect(&leader.to_string())?;
            for partition in partitions.iter().copied() {
                let mut out = Outgoing::default();
                let stamp = Stamp { connection: number, partition: partition as u32, ..Stamp::default() };
                frame.push(
                    &mut out,
                    1,
                    partition,
                    stamp,
                    Some([0; 8]).filter(|_| workload.keys != Keys::None),
                );
                let bytes: Vec<u8> = out.slices(usize::MAX).iter().flat_map(|slice| slice.to_vec()).collect();
                loop {
                    let answer = admin.produce(&bytes)?;
                    let found = produced(&answer)?;
                    if found.error == 0 {
                        self.acknowledged[partition as usize] += workload.records as u64;
                        break;
                    }
                    if now_ns() > give_up {
                        return Err(ContenderError::NotServed { partition, code: found.error });
                    }
                    if signals::received().is_some() {
                        return Err(EngineError::Interrupted.into());
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        Ok(())
    }

    /// Reads the beginning of each partition, `bytes_most` in all, and holds the logs' ends against what was acknowledged.
    pub fn read_back(&self, bytes_most: u64) -> Result<Checked, ContenderError> {
        let workload = &self.workload;
        let mut checker = Checker::new(Depth::Whole, workload.record_bytes);
        let bytes_each = (bytes_most / self.layout.partitions.max(1) as u64).max(1);
        let mut reads = Vec::new();
        for (leader, partitions) in &self.layout.leaders {
            let mut admin = Admin::connect(&leader.to_string())?;
            for partition in partitions.iter().copied() {
                let mut bytes = 0;
                loop {
                    if signals::received().is_some() {
                        return Err(EngineError::Interrupted.into());
                    }
                    let from = std::iter::once((partition, checker.next_offset(partition)));
                    let answer = admin.fetch(&self.layout.topic, from, 1 << 20)?;
                    reads.clear();
                    checker.read(&answer, &mut reads, |_, _| {})?;
                    let brought: u64 = reads.iter().map(|read| read.bytes).sum();
                    bytes += brought;
                    let (read, end) = (checker.next_offset(partition), checker.high_watermark(partition));
                    if brought == 0 && read < end {
                        let text = format!(
                            "partition {partition}: nothing comes from offset {read} on, the log ends at {end}"
                        );
                        checker.checked.wrong(text);
                    }
                    if brought == 0 || bytes >= bytes_each {
                        break;
                    }
                }
                let (wanted, found) =
                    (self.acknowledged[partition as usize], checker.high_watermark(partition));
                let is_right = match self.is_uncertain {
                    true => found as u64 >= wanted,
                    false => found as u64 == wanted,
                };
                if !is_right {
                    checker.checked.wrong(format_args!(
                        "partition {partition}: {wanted} records were acknowledged, the log ends at {found}"
                    ));
                }
            }
        }
        Ok(checker.checked)
    }
}
