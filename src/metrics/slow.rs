//! Requests that took longer than an operator wants, with their stages: the last of them are kept.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::stages::{Stage, Timed};
use crate::model::{PartitionIndex, Timestamp, TopicName};

/// How many a shard keeps.
pub const SLOW_REQUESTS_MAX: usize = 256;

/// One slow request.
#[derive(Clone, PartialEq, Debug)]
pub struct SlowRequest {
    /// When its reply was on the way.
    pub at: Timestamp,
    pub timed: Timed,
    pub client_id: Option<Arc<str>>,
    pub peer: IpAddr,
    /// The partition that answered last, if its topic is still there.
    pub partition: Option<(TopicName, PartitionIndex)>,
}

/// The last slow requests of one shard.
#[derive(Debug)]
pub struct SlowRequests {
    threshold: Duration,
    last: VecDeque<SlowRequest>,
}

impl SlowRequests {
    pub fn new(threshold: Duration) -> SlowRequests {
        SlowRequests { threshold, last: VecDeque::with_capacity(SLOW_REQUESTS_MAX) }
    }

    pub fn threshold(&self) -> Duration {
        self.threshold
    }

    /// From here on; what was kept before stays.
    pub fn set_threshold(&mut self, threshold: Duration) {
        self.threshold = threshold;
    }

    /// A long poll waits because its client wants it to: that does not make it slow.
    pub fn is_slow(&self, timed: &Timed) -> bool {
        timed.clock.total() - timed.clock.spent(Stage::Waited) > self.threshold
    }

    pub fn keep(&mut self, request: SlowRequest) {
        if self.last.len() == SLOW_REQUESTS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(request);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &SlowRequest> {
        self.last.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::metrics::{Class, Source, StageClock};
    use crate::model::Monotonic;

    fn timed(read_us: u64, waited_us: u64, correlation_id: i32) -> Timed {
        let mut clock = StageClock::start(Monotonic(0));
        clock.lap(Stage::Read, Monotonic(read_us * 1000));
        clock.lap(Stage::Waited, Monotonic((read_us + waited_us) * 1000));
        let class = Some(Class::Fetch(Source::Disk));
        Timed { api_key: 1, api_version: 12, correlation_id, class, clock, partition: None }
    }

    #[test]
    fn a_long_poll_is_not_slow_and_the_newest_stay() {
        let mut slow = SlowRequests::new(Duration::from_micros(100));
        assert!(!slow.is_slow(&timed(100, 1_000_000, 0)));
        assert!(slow.is_slow(&timed(101, 0, 0)));
        for correlation_id in 0..300 {
            let (timed, peer) = (timed(200, 0, correlation_id), IpAddr::V4(Ipv4Addr::LOCALHOST));
            slow.keep(SlowRequest { at: 0, timed, client_id: None, peer, partition: None });
        }
        let kept: Vec<i32> = slow.iter().map(|request| request.timed.correlation_id).collect();
        assert_eq!(kept, (300 - SLOW_REQUESTS_MAX as i32..300).collect::<Vec<_>>());
    }
}
