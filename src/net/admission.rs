//! Whom the node lets in: how many connections, in all and from each address.
//!
//! *Owns* the counts, which all shards share. They are touched when a connection comes and when it goes, never for a request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bounds, none of which one shard could keep alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdmissionLimits {
    /// `max.connections`.
    pub connections_max: u32,
    /// `max.connections.per.ip`.
    pub address_max: u32,
    /// `max.connections.per.ip.overrides`: for these addresses in the place of `address_max`.
    pub overrides: BTreeMap<IpAddr, u32>,
}

#[derive(Default)]
struct Counts {
    open: u32,
    /// Of addresses with a connection.
    by_address: BTreeMap<IpAddr, u32>,
}

/// Core: shared by all shards.
pub struct Admission {
    limits: AdmissionLimits,
    counts: Mutex<Counts>,
}

/// A connection that was let in: it counts until this is dropped.
pub struct Admitted {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    pub fn new(limits: AdmissionLimits) -> Admission {
        Admission { limits, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: a bound is reached. An IPv4 address is the same one when it comes in over IPv6.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admitted> {
        let address = peer.to_canonical();
        let address_max = self.limits.overrides.get(&address).copied().unwrap_or(self.limits.address_max);
        let mut counts = self.counts();
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.open >= self.limits.connections_max || here >= address_max {
            return None;
        }
        counts.open += 1;
        counts.by_address.insert(address, here + 1);
        Some(Admitted { admission: Arc::clone(self), address })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.open -= 1;
        match counts.by_address.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => _ = counts.by_address.remove(&self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_leaves_makes_room() {
        let overrides = BTreeMap::from([(address("10.0.0.9"), 0), (address("10.0.0.2"), 3)]);
        let limits = AdmissionLimits { connections_max: 4, address_max: 2, overrides };
        let admission = Arc::new(Admission::new(limits));
        let admit = |text: &str| admission.admit(address(text));
        assert!(admit("10.0.0.9").is_none(), "nobody from there");
        let mut in_here = vec![admit("10.0.0.1").unwrap(), admit("::ffff:10.0.0.1").unwrap()];
        assert!(admit("10.0.0.1").is_none(), "two of this address are here");
        in_here.extend([admit("10.0.0.2").unwrap(), admit("10.0.0.2").unwrap()]);
        assert!(admit("10.0.0.3").is_none(), "four are here");
        in_here.remove(0);
        in_here.push(admit("10.0.0.2").unwrap());
        assert!(admit("10.0.0.2").is_none());
        in_here.clear();
        assert!(admission.counts().by_address.is_empty());
        assert_eq!(admission.counts().open, 0);
    }
}
