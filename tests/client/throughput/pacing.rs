//! 10,000 records a second: when is each acknowledged, and when is it in a consumer's hands?

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corelog::client::{ProducerRecord, RecordMetadata};
use corelog_clients::Broker;
use rdkafka::message::Message;
use rdkafka::producer::Producer as _;

use crate::figures::{Figures, measured, shown};
use crate::{VALUE, consuming, producing};

/// Between two records.
const STEP: Duration = Duration::from_micros(100);

/// Between the call that made the client and the first record that counts.
const WARM_UP: usize = 2_000;

/// Microseconds of each record from when it was due.
struct Times {
    acknowledged: Vec<u64>,
    consumed: Vec<u64>,
}

/// A round of one client.
struct Round {
    times: Times,
    figures: Figures,
}

pub fn compare(broker: &Broker, records: usize, rounds: usize) {
    let bootstrap = broker.bootstrap();
    let paced = (records / 10).max(100);
    type Measure = fn(&str, &str, usize) -> Times;
    let one = |name: &str, round: usize, measure: Measure| {
        let topic = format!("{name}-paced-{round}");
        let mut times = None;
        let figures = measured(paced, || times = Some(measure(&bootstrap, &topic, paced)));
        Round { times: times.expect("it was measured"), figures }
    };
    let mut rounds: Vec<[Round; 2]> =
        (0..rounds).map(|round| [one("ours", round, of_ours), one("theirs", round, of_theirs)]).collect();
    let cpu = |who: usize| rounds.iter().map(move |round| round[who].figures.cpu_us_per_record);
    println!(
        "paced: corelog {} us CPU/record, librdkafka {} us CPU/record",
        shown(cpu(0), 1),
        shown(cpu(1), 1)
    );
    type End = fn(&mut Times) -> &mut Vec<u64>;
    let ends: [(&str, End); 2] = [
        ("acknowledged", |times| &mut times.acknowledged),
        ("produced and consumed", |times| &mut times.consumed),
    ];
    for (what, end) in ends {
        for (percent, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let of = |rounds: &mut Vec<[Round; 2]>, who: usize| -> Vec<f64> {
                rounds.iter_mut().map(|round| quantile(end(&mut round[who].times), share)).collect()
            };
            let (ours, theirs) = (of(&mut rounds, 0), of(&mut rounds, 1));
            let ratios = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect::<Vec<_>>();
            println!(
                "{what}, {percent}: corelog {} us, librdkafka {} us, ratio {}",
                shown(ours, 0),
                shown(theirs, 0),
                shown(ratios, 2)
            );
        }
    }
}

fn quantile(times: &mut [u64], share: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize] as f64
}

/// When each record is due, for everybody who looks at the clock.
#[derive(Clone, Copy)]
struct Schedule {
    begin: Instant,
}

impl Schedule {
    fn due(self, number: u64) -> Instant {
        self.begin + STEP * u32::try_from(number).expect("a run has fewer than 2^32 records")
    }

    fn late_us(self, number: u64) -> u64 {
        Instant::now().saturating_duration_since(self.due(number)).as_micros() as u64
    }

    /// Calls `send` for each number when it is due, or at once where it was due before: a slow call makes those behind it late,
    /// and they show it.
    fn run(self, records: usize, mut send: impl FnMut(u64)) {
        // Else the kernel may wake the thread 50 us late, half the time between two records.
        nix::sys::prctl::set_timerslack(1).expect("set this thread's timer slack");
        for number in 0..records as u64 {
            thread::sleep(self.due(number).saturating_duration_since(Instant::now()));
            send(number);
        }
    }
}

/// A value that names its record.
fn numbered(number: u64) -> [u8; VALUE.len()] {
    let mut value = VALUE;
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(*value.first_chunk().expect("the bench wrote it"))
}

/// Times of records, by number, in any order.
#[derive(Clone)]
struct Board(Arc<Vec<AtomicU64>>);

impl Board {
    fn new(records: usize) -> Board {
        Board(Arc::new((0..records).map(|_| AtomicU64::new(u64::MAX)).collect()))
    }

    fn note(&self, number: u64, late_us: u64) {
        self.0[number as usize].store(late_us, Ordering::Relaxed);
    }

    fn times(&self) -> Vec<u64> {
        let times: Vec<u64> = self.0[WARM_UP..].iter().map(|time| time.load(Ordering::Relaxed)).collect();
        assert!(!times.contains(&u64::MAX), "every record ends");
        times
    }
}

fn of_ours(bootstrap: &str, topic: &str, records: usize) -> Times {
    let records = WARM_UP + records;
    let runtime = producing::runtime();
    runtime.block_on(consuming::make_topic(bootstrap, topic, 1));
    let producer = producing::ours(&runtime, bootstrap, &[("linger.ms", "0")]);
    let (acknowledged, consumed) = (Board::new(records), Board::new(records));
    let schedule = Schedule { begin: Instant::now() + Duration::from_millis(500) };
    let consuming = {
        let (bootstrap, topic, board) = (bootstrap.to_owned(), topic.to_owned(), consumed.clone());
        runtime.spawn(async move {
            let mut consumer = consuming::ours(&bootstrap, &topic, 1);
            let mut left = records;
            while left > 0 {
                let read = consumer.poll(Duration::from_secs(10)).await.expect("records");
                assert!(!read.is_empty(), "{left} records do not come");
                for record in &read {
                    let number = number(record.value.as_deref().expect("every record has a value"));
                    board.note(number, schedule.late_us(number));
                }
                left -= read.len();
            }
            consumer.close(Duration::from_secs(10)).await.expect("closed");
        })
    };
    // The first record waits for news of its topic, with tokio's timer.
    let entered = runtime.enter();
    schedule.run(records, |number| {
        let board = acknowledged.clone();
        let told = move |fate: Result<RecordMetadata, _>| {
            let _: RecordMetadata = fate.expect("acknowledged");
            board.note(number, schedule.late_us(number));
        };
        let value = numbered(number);
        let record = ProducerRecord::to(topic).value(&value);
        futures_executor::block_on(producer.enqueue_with(record, told));
    });
    drop(entered);
    runtime.block_on(consuming).expect("the consumer ends");
    runtime.block_on(producer.close(Duration::from_secs(10))).expect("closed");
    Times { acknowledged: acknowledged.times(), consumed: consumed.times() }
}

fn of_theirs(bootstrap: &str, topic: &str, records: usize) -> Times {
    let records = WARM_UP + records;
    producing::runtime().block_on(consuming::make_topic(bootstrap, topic, 1));
    let (acknowledged, consumed) = (Board::new(records), Board::new(records));
    let schedule = Schedule { begin: Instant::now() + Duration::from_millis(500) };
    let told = {
        let board = acknowledged.clone();
        move |is_stored: bool, number: u64| {
            assert!(is_stored, "acknowledged");
            board.note(number, schedule.late_us(number));
        }
    };
    let producer = producing::theirs(bootstrap, told, &[("linger.ms", "0")]);
    let (ended, end) = mpsc::channel();
    let consuming = {
        let (bootstrap, topic, board) = (bootstrap.to_owned(), topic.to_owned(), consumed.clone());
        thread::spawn(move || {
            let consumer = consuming::theirs(&bootstrap, &topic, 1);
            for left in (0..records).rev() {
                let record = consumer.poll(Duration::from_secs(10));
                let record =
                    record.unwrap_or_else(|| panic!("{left} records do not come")).expect("a record");
                let number = number(record.payload().expect("every record has a value"));
                board.note(number, schedule.late_us(number));
            }
            ended.send(()).expect("somebody waits");
        })
    };
    schedule.run(records, |number| producing::put(&producer, topic, number, &numbered(number)));
    producer.flush(Duration::from_secs(60)).expect("flushed");
    end.recv_timeout(Duration::from_secs(60)).expect("the consumer ends");
    consuming.join().expect("the consumer ends well");
    Times { acknowledged: acknowledged.times(), consumed: consumed.times() }
}
