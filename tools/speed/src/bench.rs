//! One broker on one place: topics that are remade when the place fills up, and rounds of load with everything counted.

use std::io;
use std::time::Duration;

use corelog_measure::device::{Counters, Devices, Untraceable};

use crate::command::{CpuTime, Server};
use crate::kernel::sleep;
use crate::load::{Edge, Idle, Load, Outcome, Pace, one_by_one, run};
use crate::mount::Place;
use crate::report::Sample;
use crate::wire::{TopicError, connect, create_topic, delete_topic, produce_frames, wait_until_served};

/// A topic is remade before a round that begins with less of the file system free.
const FREE_LEAST: f64 = 0.5;

/// A topic's shape, and the topic that has it now.
pub struct Topic {
    pub who: String,
    partitions: i32,
    value_bytes: usize,
    settings: Vec<(&'static str, String)>,
    frames: Vec<Vec<u8>>,
    /// The name it has on which process; none before the first round.
    made: Option<(String, u32)>,
}

impl Topic {
    pub fn new(who: &str, partitions: i32, value_bytes: usize, settings: &[(&'static str, &str)]) -> Topic {
        Topic {
            who: who.to_owned(),
            partitions,
            value_bytes,
            settings: settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            frames: Vec::new(),
            made: None,
        }
    }

    /// Makes it if it is not there, anew if the file system is too full for a round.
    pub fn prepare(&mut self, server: &Server, place: &Place, number: &mut u32) -> Result<(), TopicError> {
        if self.made.as_ref().is_some_and(|(_, pid)| *pid == server.pid) {
            if place.free()? >= FREE_LEAST {
                return Ok(());
            }
            self.remove(server, place)?;
        }
        *number += 1;
        let name = format!("speed-{number}");
        let settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        create_topic(&server.address, &name, self.partitions, &settings)?;
        self.frames = produce_frames(&name, self.partitions, self.value_bytes, 1);
        self.made = Some((name, server.pid));
        wait_until_served(&server.address, &self.frames)?;
        Ok(())
    }

    /// Deletes it and waits until its space is given back, or no more of it is.
    pub fn remove(&mut self, server: &Server, place: &Place) -> Result<(), TopicError> {
        let Some((name, pid)) = self.made.take() else { return Ok(()) };
        if pid != server.pid {
            return Ok(());
        }
        let before = place.free()?;
        delete_topic(&server.address, &name)?;
        for _ in 0..50 {
            sleep(Duration::from_millis(100))?;
            if place.free()? > before {
                // Most of a topic's files go at once.
                sleep(Duration::from_millis(300))?;
                break;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Many connections, by the load generator's loop.
    Many { connections: usize, pace: Pace },
    /// One connection with one request, in blocking calls.
    OneByOne,
}

#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub warm_up: Duration,
    pub window: Duration,
}

struct Snapshot {
    device: Counters,
    disks: Counters,
    cpu: CpuTime,
    /// Seconds that all CPUs together were busy.
    machine: f64,
}

impl Snapshot {
    fn take(server: &Server, place: &Place) -> io::Result<Snapshot> {
        let counters = |devices: &Result<Devices, Untraceable>| {
            // Without devices there is no column for what they did.
            devices.as_ref().map_or(Ok(Counters::default()), |devices| {
                devices.counters().map_err(|error| io::Error::other(error.to_string()))
            })
        };
        Ok(Snapshot {
            device: counters(&place.device)?,
            disks: counters(&place.disks)?,
            cpu: server.cpu_time()?,
            machine: machine_seconds()?,
        })
    }
}

/// Source: proc_stat(5). Its ticks are hundredths of a second on every architecture.
fn machine_seconds() -> io::Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
    let busy = |index: &usize| ticks.get(*index).copied().unwrap_or(0.0);
    Ok([0, 1, 2, 5, 6, 7].iter().map(busy).sum::<f64>() / 100.0)
}

/// One round: load on a prepared topic, then everything written back, so that no contender pays for the one before it.
pub fn round(
    server: &Server,
    place: &Place,
    topic: &Topic,
    shape: Shape,
    timing: Timing,
) -> io::Result<Sample> {
    let Timing { warm_up, window } = timing;
    let first = Snapshot::take(server, place)?;
    let (mut begin, mut end) = (None, None);
    let mut edge = |edge| {
        let snapshot = Some(Snapshot::take(server, place)?);
        match edge {
            Edge::WindowBegins => begin = snapshot,
            Edge::WindowEnds => end = snapshot,
        }
        Ok(())
    };
    let outcome = match shape {
        Shape::OneByOne => {
            let mut stream = connect(&server.address)?;
            one_by_one(&mut stream, &topic.frames, None, warm_up, window, &mut edge)?
        }
        Shape::Many { connections, pace } => {
            let (broker, frames) = (server.address.as_str(), topic.frames.as_slice());
            // What is sent is stored, and for a while in the journal too.
            let bytes_most = place.free_bytes()? / 2;
            let load =
                Load { broker, frames, connections, pace, idle: Idle::Sleep, warm_up, window, bytes_most };
            run(&load, &mut edge)?
        }
    };
    place.settle()?;
    let last = Snapshot::take(server, place)?;
    let (Some(begin), Some(end)) = (begin, end) else {
        return Err(io::Error::other("the window did not open and close"));
    };
    if outcome.answers == 0 {
        return Err(io::Error::other("no answer in the window"));
    }
    Ok(sample(&outcome, topic, [first, begin, end, last], place))
}

fn sample(outcome: &Outcome, topic: &Topic, snapshots: [Snapshot; 4], place: &Place) -> Sample {
    let [first, begin, end, last] = snapshots;
    let count = outcome.answers as f64;
    let mut columns = vec![("req/s", outcome.per_second())];
    columns.push(("MB/s", outcome.per_second() * topic.value_bytes as f64 / 1e6));
    columns.extend(latency_columns(&outcome.latency));
    if place.device.is_ok() {
        let device = end.device.since(begin.device);
        let all = last.device.since(first.device);
        columns.push(("flushes/rec", device.flushes as f64 / count));
        columns.push(("writes/rec", device.writes as f64 / count));
        columns.push(("KiB/rec", device.kib() / count));
        columns.push(("settled KiB/rec", all.kib() / outcome.answers_in_all as f64));
    }
    if place.disks.is_ok() {
        let disks = end.disks.since(begin.disks);
        columns.push(("disk fl/rec", disks.flushes as f64 / count));
        columns.push(("disk wr/rec", disks.writes as f64 / count));
        columns.push(("disk KiB/rec", disks.kib() / count));
    }
    let server = end.cpu.since(&begin.cpu);
    columns.push(("CPU us/req", server / count));
    columns.push(("load CPU %", outcome.busy * 100.0));
    // Kernel threads among them; much of it says that the machine is not quiet.
    let other = (end.machine - begin.machine - server / 1e6) / outcome.seconds - outcome.busy;
    columns.push(("other CPU %", other.max(0.0) * 100.0));
    Sample(columns)
}

/// Microseconds.
pub fn latency_columns(latency: &hdrhistogram::Histogram<u64>) -> [(&'static str, f64); 5] {
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    [
        ("p50 us", at(0.5)),
        ("p90 us", at(0.9)),
        ("p99 us", at(0.99)),
        ("p99.9 us", at(0.999)),
        ("max us", latency.max() as f64 / 1000.0),
    ]
}
