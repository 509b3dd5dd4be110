//! The load generator: one thread, many connections, requests of fixed bytes, latency to the nanosecond.
//!
//! Closed loop: every connection keeps its requests in flight. Open loop: requests are due at fixed times whatever the
//! broker does, and latency counts from the time one was due, so that a stall counts for all who waited in it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::kernel::{Readiness, check_interrupted, now};
use crate::wire::{check_produced, connect};

#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Requests in flight on each connection.
    Closed {
        in_flight: usize,
    },
    Open {
        per_second: f64,
    },
}

/// What happens while no answer is there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Idle {
    /// The CPU is left to whoever completes I/O there.
    Sleep,
    Spin,
}

/// Answers for each frame before the window begins, and within it: a new partition's first batches wait for its files, which
/// on a busy disk takes seconds, and a disk that stands still for a while gives none at all.
const ANSWERS_LEAST: u64 = 10;

/// But neither takes longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Load<'a> {
    pub broker: &'a str,
    /// One for each partition; taken in turn.
    pub frames: &'a [Vec<u8>],
    pub connections: usize,
    pub pace: Pace,
    pub idle: Idle,
    pub warm_up: Duration,
    pub window: Duration,
    /// Bytes of requests after which the window ends before its time, so that a fast broker does not fill the disk.
    pub bytes_most: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Edge {
    WindowBegins,
    WindowEnds,
}

pub struct Outcome {
    /// Answers in the window.
    pub answers: u64,
    pub seconds: f64,
    /// Nanoseconds. Closed loop: of the answers in the window; open loop: of the requests that were due in it.
    pub latency: Histogram<u64>,
    /// Answers in all, those of the warm-up and after the window with them.
    pub answers_in_all: u64,
    /// The share of the window that the generator's thread spent on its CPU.
    pub busy: f64,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    /// Microseconds.
    pub fn at(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Latencies from 1 ns to 10 minutes with an error below 0.1 %.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("valid bounds")
}

pub fn record(latency: &mut Histogram<u64>, time: Duration) {
    latency.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
}

/// Nanoseconds that the calling thread has been on a CPU. Source: Documentation/scheduler/sched-stats.rst.
fn thread_nanoseconds() -> io::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0.0))
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// The frames to be sent, and how much of the first one is.
    out: VecDeque<usize>,
    sent: usize,
    /// When each request without an answer was sent or due.
    since: VecDeque<Instant>,
    next: usize,
    step: usize,
    watches_write: bool,
}

impl Connection {
    /// Returns the bytes of the request.
    fn queue(&mut self, frames: &[Vec<u8>], since: Instant) -> u64 {
        let frame = self.next % frames.len();
        self.out.push_back(frame);
        self.next += self.step;
        self.since.push_back(since);
        frames[frame].len() as u64
    }

    fn flush(&mut self, frames: &[Vec<u8>]) -> io::Result<()> {
        const AT_ONCE: usize = 64;
        while let Some(&first) = self.out.front() {
            let rest = self.out.iter().skip(1).take(AT_ONCE - 1).map(|frame| IoSlice::new(&frames[*frame]));
            let slices: Vec<IoSlice> =
                std::iter::once(IoSlice::new(&frames[first][self.sent..])).chain(rest).collect();
            match self.stream.write_vectored(&slices) {
                Ok(mut count) => {
                    count += self.sent;
                    while let Some(&frame) = self.out.front().filter(|frame| frames[**frame].len() <= count) {
                        count -= frames[frame].len();
                        self.out.pop_front();
                    }
                    self.sent = count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what has arrived; calls for each answer with the time its request was sent or due.
    fn take(&mut self, buffer: &mut [u8], mut answered: impl FnMut(Instant)) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) => return Err(io::Error::other("the broker closed the connection")),
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        }
        let (mut at, mut answers) = (0, 0);
        while let Some(length) = self.received.get(at..at + 4) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            let Some(answer) = self.received.get(at + 4..at + 4 + length) else { break };
            check_produced(answer)?;
            at += 4 + length;
            answers += 1;
            answered(self.since.pop_front().ok_or_else(|| io::Error::other("an answer to nothing"))?);
        }
        self.received.drain(..at);
        Ok(answers)
    }
}

/// Runs the load: warm-up, window, and until every request has its answer. `edge` is called at both ends of the window.
pub fn run(load: &Load, edge: &mut dyn FnMut(Edge) -> io::Result<()>) -> io::Result<Outcome> {
    let frames = load.frames;
    let mut readiness = Readiness::new(load.connections)?;
    let mut connections = Vec::new();
    for index in 0..load.connections {
        let stream = connect(load.broker)?;
        stream.set_nonblocking(true)?;
        readiness.add(&stream, index)?;
        connections.push(Connection {
            stream,
            received: Vec::new(),
            out: VecDeque::new(),
            sent: 0,
            since: VecDeque::new(),
            next: index,
            step: load.connections,
            watches_write: false,
        });
    }
    let mut latency = histogram();
    let mut buffer = vec![0; 64 << 10];
    let (mut answers, mut answers_in_all, mut due_count) = (0, 0, 0_u64);
    let (mut outstanding, mut bytes) = (0, 0);
    let answers_least = ANSWERS_LEAST * frames.len() as u64;
    let start = now();
    let mut begun: Option<(Instant, f64)> = None;
    let mut ended: Option<(Instant, f64)> = None;
    if let Pace::Closed { in_flight } = load.pace {
        for connection in &mut connections {
            bytes += (0..in_flight).map(|_| connection.queue(frames, start)).sum::<u64>();
            outstanding += in_flight;
            connection.flush(frames)?;
        }
    }
    loop {
        check_interrupted()?;
        let mut time = now();
        let is_warm = || {
            let is_time = time >= start + load.warm_up && answers_in_all >= answers_least;
            is_time || time >= start + load.warm_up.max(PATIENCE) || bytes >= load.bytes_most / 3
        };
        if begun.is_none() && is_warm() {
            edge(Edge::WindowBegins)?;
            time = now();
            begun = Some((time, thread_nanoseconds()?));
        }
        let is_over = |begin: Instant| {
            let is_time = time >= begin + load.window && answers >= answers_least;
            is_time || time >= begin + load.window.max(PATIENCE) || bytes >= load.bytes_most
        };
        if let (Some((begin, _)), None) = (begun, ended)
            && is_over(begin)
        {
            if time < begin + load.window {
                eprintln!("the window ends after {:?}: {bytes} bytes were sent", time - begin);
            }
            ended = Some((time, thread_nanoseconds()?));
            edge(Edge::WindowEnds)?;
        }
        if let Some((end, _)) = ended {
            if outstanding == 0 {
                break;
            }
            if time > end + Duration::from_secs(60) {
                return Err(io::Error::other("requests have no answer 60 s after the window"));
            }
        }
        // A limit on the sleep, so that the window's ends and an interrupt are seen.
        let mut sleep = Duration::from_millis(2);
        if let (Pace::Open { per_second }, None) = (load.pace, ended) {
            loop {
                let due = start + Duration::from_secs_f64(due_count as f64 / per_second);
                if due > time {
                    sleep = sleep.min(due - time);
                    break;
                }
                let index = (due_count % connections.len() as u64) as usize;
                bytes += connections[index].queue(frames, due);
                due_count += 1;
                outstanding += 1;
            }
            for connection in &mut connections {
                if !connection.out.is_empty() && !connection.watches_write {
                    connection.flush(frames)?;
                }
            }
        }
        if load.idle == Idle::Spin {
            sleep = Duration::ZERO;
        }
        for (index, writable) in readiness.wait(sleep)? {
            let connection = &mut connections[index];
            if writable {
                connection.flush(frames)?;
            }
            let arrived = now();
            let taken = connection.take(&mut buffer, |since| {
                answers_in_all += 1;
                let Some((begin, _)) = begun else { return };
                let counts = match load.pace {
                    Pace::Closed { .. } => ended.is_none(),
                    Pace::Open { .. } => since >= begin && ended.is_none_or(|(end, _)| since < end),
                };
                answers += u64::from(ended.is_none());
                if counts {
                    record(&mut latency, arrived - since);
                }
            })?;
            outstanding -= taken;
            if matches!(load.pace, Pace::Closed { .. }) && ended.is_none() && taken > 0 {
                let time = now();
                bytes += (0..taken).map(|_| connection.queue(frames, time)).sum::<u64>();
                outstanding += taken;
                connection.flush(frames)?;
            }
        }
        // What the socket did not take is sent when it can be written again.
        for (index, connection) in connections.iter_mut().enumerate() {
            if connection.out.is_empty() == connection.watches_write {
                connection.watches_write = !connection.out.is_empty();
                readiness.set(&connection.stream, index, connection.watches_write)?;
            }
        }
    }
    let ((begin, busy_before), (end, busy_after)) =
        begun.zip(ended).expect("the loop ends after the window's end");
    let seconds = (end - begin).as_secs_f64();
    let busy = (busy_after - busy_before) / 1e9 / seconds;
    Ok(Outcome { answers, seconds, latency, answers_in_all, busy })
}

/// One request after another over one connection, the frames in turn, in blocking calls; `reply_bytes` for a peer whose replies have a fixed
/// length, else they are Kafka's. The same code asks a broker and an echo server, so that the two can be compared.
pub fn one_by_one(
    stream: &mut TcpStream,
    frames: &[Vec<u8>],
    reply_bytes: Option<usize>,
    warm_up: Duration,
    window: Duration,
    edge: &mut dyn FnMut(Edge) -> io::Result<()>,
) -> io::Result<Outcome> {
    let mut latency = histogram();
    let mut buffer = vec![0; 64 << 10];
    let (mut answers, mut answers_in_all) = (0, 0_u64);
    let start = now();
    let mut begun: Option<(Instant, f64)> = None;
    loop {
        check_interrupted()?;
        let time = now();
        match begun {
            None if time >= start + warm_up => {
                edge(Edge::WindowBegins)?;
                begun = Some((now(), thread_nanoseconds()?));
            }
            Some((begin, busy_before)) if time >= begin + window => {
                let seconds = (time - begin).as_secs_f64();
                let busy = (thread_nanoseconds()? - busy_before) / 1e9 / seconds;
                edge(Edge::WindowEnds)?;
                return Ok(Outcome { answers, seconds, latency, answers_in_all, busy });
            }
            _ => {}
        }
        let sent = now();
        stream.write_all(&frames[answers_in_all as usize % frames.len()])?;
        let mut filled = 0;
        let wanted = loop {
            match stream.read(&mut buffer[filled..])? {
                0 => return Err(io::Error::other("the peer closed the connection")),
                count => filled += count,
            }
            let wanted = match (reply_bytes, buffer[..filled].first_chunk()) {
                (Some(bytes), _) => bytes,
                (None, Some(length)) => 4 + u32::from_be_bytes(*length) as usize,
                (None, None) => continue,
            };
            if filled >= wanted {
                break wanted;
            }
        };
        let took = sent.elapsed();
        if reply_bytes.is_none() {
            check_produced(&buffer[4..wanted])?;
        }
        answers_in_all += 1;
        if begun.is_some() {
            answers += 1;
            record(&mut latency, took);
        }
    }
}
