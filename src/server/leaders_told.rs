//! The leaders that an answer names to a client that came to the wrong broker, so that it finds them without asking for
//! metadata (KIP-951).

use std::collections::BTreeSet;

use crate::metadata::{Advertised, Image, Partition};
use crate::model::BrokerId;

/// Each once, by id.
#[derive(Default)]
pub struct LeadersTold(BTreeSet<BrokerId>);

impl LeadersTold {
    /// The id of the partition's leader, which the answer will say how to reach; -1 if there is none.
    pub fn tell(&mut self, image: &Image, partition: &Partition) -> i32 {
        let Some(leader) = image.advertised_leader(partition) else { return -1 };
        self.0.insert(leader.id);
        leader.id.0
    }

    /// How to reach those that were told. Most answers tell of none, and look at no broker.
    pub fn brokers<'i>(&self, image: &'i Image) -> impl Iterator<Item = Advertised<'i>> {
        let all = (!self.0.is_empty()).then(|| image.advertised());
        all.into_iter().flatten().filter(|broker| self.0.contains(&broker.id))
    }
}
