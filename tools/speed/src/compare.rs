//! Question: how many produce requests a second, and how late, does one broker answer compared with another?
//!
//! Workload: closed loop; each connection keeps its share of the requests in flight, each request holds one batch of one
//! record for the next partition in turn. The brokers run already and are asked in turns (A B A B ...), medians and spread
//! are printed. It cannot show: fetches, open-loop latency, more than one client core.

use std::io;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use corelog_measure::spread::Spread;

use crate::load::{Idle, Load, Outcome, Pace, one_by_one, run as run_load};
use crate::wire::{TopicError, connect, create_topic, produce_frames, wait_until_served};

#[derive(Args)]
pub struct Compare {
    /// The broker in question
    #[arg(long, value_name = "HOST:PORT")]
    broker: String,
    /// The broker to compare with
    #[arg(long, value_name = "HOST:PORT")]
    against: Option<String>,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests in flight over all connections
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
    #[arg(long, default_value_t = 256)]
    partitions: i32,
    /// Bytes of the one record in each request
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// Topic setting for brokers that know it; the topic is made if missing
    #[arg(long, default_value = "os")]
    durability: String,
    #[arg(long, default_value_t = 1, allow_hyphen_values = true)]
    acks: i16,
}

fn measure(broker: &str, frames: &[Vec<u8>], options: &Compare) -> io::Result<Outcome> {
    let (warm_up, window) = (Duration::ZERO, Duration::from_secs_f64(options.seconds));
    if options.in_flight == 1 {
        return one_by_one(&mut connect(broker)?, frames, None, warm_up, window, &mut |_| Ok(()));
    }
    let connections = options.connections.min(options.in_flight).max(1);
    let load = Load {
        broker,
        frames,
        connections,
        pace: Pace::Closed { in_flight: options.in_flight / connections },
        idle: Idle::Spin,
        warm_up,
        window,
        bytes_most: u64::MAX,
    };
    run_load(&load, &mut |_| Ok(()))
}

pub fn run(options: &Compare) -> io::Result<()> {
    let topic = format!("speed-{}-{}", options.partitions, options.record_bytes);
    let frames = produce_frames(&topic, options.partitions, options.record_bytes, options.acks);
    let mut brokers = vec![options.broker.as_str()];
    brokers.extend(options.against.as_deref());
    for broker in &brokers {
        let own = create_topic(broker, &topic, options.partitions, &[("durability", &options.durability)]);
        let made = match own {
            // This broker does not know the setting.
            Err(TopicError::Refused { .. }) => create_topic(broker, &topic, options.partitions, &[]),
            other => other,
        };
        made.map_err(|error| io::Error::other(error.to_string()))?;
        wait_until_served(broker, &frames)?;
        measure(broker, &frames, options)?;
    }
    let mut outcomes: Vec<Vec<Outcome>> = brokers.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (broker, outcomes) in brokers.iter().zip(&mut outcomes) {
            outcomes.push(measure(broker, &frames, options)?);
        }
    }
    for (broker, all) in brokers.iter().zip(&outcomes) {
        let spread = |of: fn(&Outcome) -> f64| Spread::of(all.iter().map(of)).expect("a round, at least");
        let rate = spread(Outcome::per_second);
        let (p50, p99) = (spread(|o| o.at(0.5)).median, spread(|o| o.at(0.99)).median);
        println!(
            "{broker}: {:.0} requests/s ({:.0} to {:.0}), p50 {p50:.0} us, p99 {p99:.0} us",
            rate.median, rate.low, rate.high
        );
    }
    if let [ours, theirs] = outcomes.as_slice() {
        let ratio = |of: fn(&Outcome) -> f64| {
            Spread::of(ours.iter().zip(theirs).map(|(a, b)| of(a) / of(b))).expect("a round, at least")
        };
        let rate = ratio(Outcome::per_second);
        let (p50, p99) = (ratio(|o| o.at(0.5)).median, ratio(|o| o.at(0.99)).median);
        println!(
            "ratio: {:.2} x the requests ({:.2} to {:.2}), {p50:.2} x the p50, {p99:.2} x the p99",
            rate.median, rate.low, rate.high
        );
    }
    Ok(())
}
