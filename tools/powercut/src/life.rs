//! The life of one file system: a broker on it, load, cut after cut, and a look at everything after each.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use history_checker::Event;

use crate::broker::{Broker, Started, pause};
use crate::choices::Choices;
use crate::client::{Connection, Partition};
use crate::consumer::{Positions, read_all, read_along};
use crate::device::{Device, DiskFault};
use crate::options::{Load, WritePath};
use crate::producer::{Producer, Round};
use crate::verdict::{Verdict, judge, push_reads};
use crate::volume::Volume;

/// A second cut comes into the start after the first, so often in a hundred.
const CUT_IN_RECOVERY_PERCENT: u64 = 20;
/// A topic is made right before the cut, so often in a hundred.
const LATE_TOPIC_PERCENT: u64 = 20;
/// The broker goes on for up to so long after the power: it must not acknowledge what it cannot keep.
const AFTERLIFE_MS: u64 = 40;

/// A broker that meets an error must end within this; one whose disk goes on must go on.
const END_WAIT: Duration = Duration::from_secs(15);
/// Answers that were on their way when the disk stopped.
const STALL_GRACE: Duration = Duration::from_millis(200);

/// A round while its cut is being made.
struct Moment<'a> {
    round: &'a Round,
    story: &'a mut String,
    findings: &'a mut Vec<String>,
    /// From then on a producer may meet anything.
    cut_at: &'a mut u64,
}

pub struct Life {
    /// Before the volume: it is dropped first, and nothing can be unmounted under it.
    broker: Broker,
    volume: Volume,
    choices: Choices,
    durability: String,
    path: WritePath,
    load: Load,
    clock: Instant,
    producers: Vec<Producer>,
    partitions: Vec<Partition>,
    /// Where the reader along stands, and how far the log was read after the last cut.
    along: Positions,
    known: Positions,
    /// All that was sent, acknowledged and read so far.
    events: Vec<Event>,
    /// The same with the whole log as it was read when something was wrong with it.
    faulty: Option<Vec<Event>>,
    cuts: u32,
}

/// What goes wrong with a device of our own before the power does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    FailedWrites,
    FailedFlushes,
    Stall,
}

/// What one cut came to.
pub struct Outcome {
    pub verdict: Verdict,
    /// In words: what was done and how long it took.
    pub story: String,
    pub acknowledged: u64,
}

impl Life {
    /// Starts the broker on the empty volume and makes its topics.
    pub fn begin(
        volume: Volume,
        broker: Broker,
        path: WritePath,
        durability: &str,
        load: &Load,
        mut choices: Choices,
    ) -> io::Result<Life> {
        let producers = (0..load.producers).map(|n| {
            let is_idempotent = n % 2 == 1;
            let name = if is_idempotent { format!("idempotent-{n}") } else { format!("plain-{n}") };
            Producer::new(name, is_idempotent, choices.fork())
        });
        let producers = producers.collect();
        let mut life = Life {
            broker,
            volume,
            choices,
            durability: durability.to_owned(),
            path,
            load: load.clone(),
            clock: Instant::now(),
            producers,
            partitions: Vec::new(),
            along: Positions::new(),
            known: Positions::new(),
            events: vec![Event::Assigned { consumer: "along".to_owned(), at_ns: 0 }],
            faulty: None,
            cuts: 0,
        };
        match life.broker.start(&life.data())? {
            Started::Ready => {}
            Started::Not(why) => return Err(io::Error::other(format!("on an empty directory: {why}"))),
        }
        let mut connection = Connection::open(life.broker.address())?;
        let topics = path.topics();
        let share = (life.load.partitions / topics.len() as i32).max(1);
        for write_path in topics {
            life.create_topic(&mut connection, write_path, write_path, share)?;
        }
        Ok(life)
    }

    fn data(&self) -> PathBuf {
        self.volume.mountpoint().join("data")
    }

    pub fn cuts(&self) -> u32 {
        self.cuts
    }

    pub fn used_percent(&self) -> io::Result<u64> {
        self.volume.used_percent()
    }

    fn create_topic(
        &mut self,
        connection: &mut Connection,
        name: &str,
        write_path: &str,
        partitions: i32,
    ) -> io::Result<()> {
        let segment_bytes = ["1048576", "4194304", "1073741824"][self.choices.between(0, 3) as usize];
        let configs = [
            ("write.path", write_path),
            ("durability", self.durability.as_str()),
            ("segment.bytes", segment_bytes),
        ];
        connection.create_topic(name, partitions, &configs)?;
        for index in 0..partitions {
            let partition = Partition { topic: name.to_owned(), index };
            self.along.insert(partition.clone(), 0);
            self.partitions.push(partition);
        }
        Ok(())
    }

    /// Load, the cut, the way back, and the look at everything.
    pub fn cut(&mut self, fault: Option<Fault>) -> io::Result<Outcome> {
        self.cuts += 1;
        let began = Instant::now();
        let round = Round {
            address: self.broker.address(),
            partitions: self.partitions.clone(),
            clock: self.clock,
            is_over: AtomicBool::new(false),
            bytes_left: AtomicI64::new(i64::from(self.load.kib_per_cut) << 10),
            acknowledged: AtomicU64::new(0),
        };
        let mut story = String::new();
        let mut findings = Vec::new();
        self.load_until_cut(&round, fault, &mut story, &mut findings)?;
        let loaded = began.elapsed();
        let acknowledged = round.acknowledged.load(Ordering::Relaxed);
        if let Err(error) = self.power_on(&mut story) {
            findings.push(format!("no-mount: {error}"));
            return Ok(Outcome { verdict: Verdict { findings, ..Verdict::default() }, story, acknowledged });
        }
        let mounted = began.elapsed();
        if let Started::Not(why) = self.broker.start(&self.data())? {
            findings.push(format!("no-start: {why}"));
            return Ok(Outcome { verdict: Verdict { findings, ..Verdict::default() }, story, acknowledged });
        }
        let ready = began.elapsed();
        let mut verdict = self.look()?;
        verdict.findings.splice(0..0, findings);
        story += &format!(
            "; {acknowledged} acked; load {:.2} s, mount {:.2} s, start {:.2} s, check {:.2} s",
            loaded.as_secs_f64(),
            (mounted - loaded).as_secs_f64(),
            (ready - mounted).as_secs_f64(),
            (began.elapsed() - ready).as_secs_f64()
        );
        Ok(Outcome { verdict, story, acknowledged })
    }

    /// Power on after the cut; sometimes it goes again while the broker recovers.
    fn power_on(&mut self, story: &mut String) -> io::Result<()> {
        self.volume.power_on()?;
        let mut again = 0;
        while self.choices.percent(CUT_IN_RECOVERY_PERCENT) {
            again += 1;
            let time = self.choices.millis(0, 150);
            self.broker.start_for(&self.data(), time)?;
            self.volume.cut(&mut self.choices, &AtomicBool::default())?;
            self.broker.kill();
            self.volume.power_on()?;
        }
        if again > 0 {
            *story += &format!(", {again} x again while starting");
        }
        Ok(())
    }

    /// Runs the load until the power is cut under it and the broker is gone.
    fn load_until_cut(
        &mut self,
        round: &Round,
        fault: Option<Fault>,
        story: &mut String,
        findings: &mut Vec<String>,
    ) -> io::Result<()> {
        let mut producers = std::mem::take(&mut self.producers);
        let mut along = std::mem::take(&mut self.along);
        let mut reads = Vec::new();
        let mut cut_at = u64::MAX;
        let result = std::thread::scope(|scope| {
            let threads: Vec<_> = producers
                .iter_mut()
                .map(|producer| scope.spawn(move || (producer.run(round), round.now_ns())))
                .collect();
            let reader = scope.spawn(|| read_along("along", &mut along, round, &mut reads));
            let mut moment = Moment { round, story, findings, cut_at: &mut cut_at };
            let result = self.wait_and_cut(fault, &mut moment);
            // Whatever happened: without the broker every thread ends.
            let status = self.broker.kill();
            if status.code().is_some() {
                *story += &format!(", ended itself ({status})");
            }
            for thread in threads {
                let (ended, at) = thread.join().expect("a producer does not panic");
                match ended {
                    // Afterwards anything but an acknowledgement is right.
                    _ if at >= cut_at => {}
                    ended => findings.push(format!("load-ended: before the cut, {ended}")),
                }
            }
            let _ = reader.join().expect("the reader does not panic");
            result
        });
        for producer in &mut producers {
            self.events.append(&mut producer.events);
        }
        self.events.append(&mut reads);
        self.producers = producers;
        // A topic that was made meanwhile stands at its start.
        along.append(&mut self.along);
        self.along = along;
        result
    }

    fn wait_and_cut(&mut self, fault: Option<Fault>, moment: &mut Moment<'_>) -> io::Result<()> {
        pause(self.choices.millis(u64::from(self.load.ms_min), u64::from(self.load.ms_max)));
        if let Err(error) = self.before_cut(fault, moment) {
            moment.findings.push(format!("before-cut: {error}"));
        }
        if *moment.cut_at == u64::MAX {
            if !self.broker.is_running() {
                moment.findings.push(format!("broker-ended: before the cut: {}", self.broker.last_words()));
            }
            *moment.cut_at = moment.round.now_ns();
        }
        let what = self.volume.cut(&mut self.choices, &moment.round.is_over)?;
        moment.story.insert_str(0, &what);
        // Half of the brokers die with their disk, half of them live to see it.
        if self.choices.percent(50) {
            pause(self.choices.millis(0, AFTERLIFE_MS));
        }
        Ok(())
    }

    /// What happens under load before the power goes.
    fn before_cut(&mut self, fault: Option<Fault>, moment: &mut Moment<'_>) -> io::Result<()> {
        let address = moment.round.address;
        if self.path == WritePath::Switch {
            let to = WritePath::ALL_KINDS[self.choices.between(0, 3) as usize];
            Connection::open(address)?.alter_topic(self.path.topics()[0], "write.path", to)?;
            *moment.story += &format!(", now {to}");
        }
        match fault {
            None => {}
            Some(Fault::Stall) => self.stall(moment)?,
            Some(Fault::FailedWrites) => return self.fail(DiskFault::Writes, moment),
            Some(Fault::FailedFlushes) => {
                let once = self.choices.percent(50);
                return self.fail(DiskFault::Flushes { once }, moment);
            }
        }
        if self.choices.percent(LATE_TOPIC_PERCENT) {
            let name = format!("late-{}", self.cuts);
            let kinds = self.path.topics();
            let write_path = kinds[self.choices.between(0, kinds.len() as u64) as usize];
            let mut connection = Connection::open(address)?;
            self.create_topic(&mut connection, &name, write_path, 2)?;
            *moment.story += ", right after a topic was made";
        } else {
            pause(self.choices.millis(0, 50));
        }
        Ok(())
    }

    /// Panics on an image: faults are for a device of our own.
    pub fn device(&mut self) -> &mut Device {
        self.volume.device().expect("faults are for a device of our own")
    }

    /// The disk fails: the broker must end, and say with which file, operation and error.
    fn fail(&mut self, fault: DiskFault, moment: &mut Moment<'_>) -> io::Result<()> {
        *moment.cut_at = moment.round.now_ns();
        // See `Volume::cut`: when one flush fails and the file system with it, another may be reported as done. Where no
        // flush needs the file system's own log, none is, and what is acknowledged now counts as ever.
        if !self.path.is_preallocated() {
            moment.round.is_over.store(true, Ordering::SeqCst);
        }
        self.device().fail(fault)?;
        *moment.story += &format!(", after {fault:?} failed");
        let Some(status) = self.broker.wait_for_end(END_WAIT) else {
            let what =
                format!("no-end: the broker still runs {} s after {fault:?} failed", END_WAIT.as_secs());
            moment.findings.push(what);
            return Ok(());
        };
        if status.code() != Some(1) {
            moment.findings.push(format!("bad-end: {status} after {fault:?} failed, not exit code 1"));
        }
        let words = self.broker.last_words();
        let path = self.data().display().to_string();
        if !(words.contains(&path) && words.contains("os error")) {
            moment.findings.push(format!("no-reason: no path and error after {fault:?} failed in: {words}"));
        }
        Ok(())
    }

    /// The disk stands still: nothing may be acknowledged, and everything goes on afterwards.
    fn stall(&mut self, moment: &mut Moment<'_>) -> io::Result<()> {
        let acknowledged = || moment.round.acknowledged.load(Ordering::Relaxed);
        self.device().stall()?;
        pause(STALL_GRACE);
        let before = acknowledged();
        let time = self.choices.millis(500, 2000);
        pause(time);
        let after = acknowledged();
        if after > before {
            let what = format!("{} acknowledged while the disk stood still", after - before);
            moment.findings.push(format!("early-ack: {what}"));
        }
        self.device().resume()?;
        let give_up = Instant::now() + END_WAIT;
        while acknowledged() == after && Instant::now() < give_up {
            pause(Duration::from_millis(2));
        }
        if acknowledged() == after {
            let what = format!("nothing acknowledged {} s after the disk went on", END_WAIT.as_secs());
            moment.findings.push(format!("no-resume: {what}"));
        }
        if !self.broker.is_running() {
            moment.findings.push(format!("bad-end: a disk that stood still for {time:?} ended the broker"));
        }
        *moment.story += &format!(", after it stood still for {:.2} s", time.as_secs_f64());
        Ok(())
    }

    /// Reads everything and judges it.
    fn look(&mut self) -> io::Result<Verdict> {
        let mut connection = Connection::open(self.broker.address())?;
        let logs = read_all(&mut connection, &self.partitions)?;
        let mut history = self.events.clone();
        let verdict = judge(&mut history, &logs);
        if !verdict.is_clean() {
            self.faulty = Some(history);
        }
        // From now on these count as read. What lies below was read after an earlier cut already.
        let consumer = format!("after-cut-{}", self.cuts);
        for (partition, log) in &logs {
            let known = self.known.entry(partition.clone()).or_default();
            let new = log.records.partition_point(|(offset, _)| *offset < *known);
            push_reads(&consumer, partition, &log.records[new..], &mut self.events);
            *known = log.records.last().map_or(0, |(offset, _)| offset + 1);
        }
        Ok(verdict)
    }

    /// Leaves the history for `history-checker`.
    pub fn write_history(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for event in self.faulty.as_ref().unwrap_or(&self.events) {
            serde_json::to_writer(&mut file, event)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }
}
