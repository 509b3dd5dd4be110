//! Where a broker listens and what it tells clients of that: one address for all shards, or one for each endpoint, with the
//! port of its number.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use corelog::config::{Address, Config, ListenersMode};
use corelog::control::{ListenError, ServedEndpoint};
use corelog::metadata::Layout;
use corelog::model::{BrokerId, Endpoint, NodeId, ShardId};

/// Where one shard listens, and whose clients come in there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// `None`: those of all endpoints.
    pub endpoint: Option<Endpoint>,
    /// With port 0 the kernel chooses one.
    pub address: SocketAddr,
}

/// The ports that clients are told, as a registration has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announced {
    pub port: u16,
    pub endpoint_ports: Vec<u16>,
}

/// The ports of the endpoints, counted up from this address, are no ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortsError {
    address: Address,
    endpoints: u16,
}

impl fmt::Display for PortsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortsError { address, endpoints } = self;
        write!(
            f,
            "the {endpoints} endpoints of `listeners.mode` = `per-core` need as many ports from {address} on, and ports end at 65535; choose a lower one"
        )
    }
}

impl std::error::Error for PortsError {}

/// The addresses of a process, by endpoint, or the one that all of them share.
pub struct Addresses {
    layout: Layout,
    shards: u16,
    is_shared: bool,
    places: Vec<SocketAddr>,
}

/// `count` ports from `first` on; 0 stays 0. `None`: there are not so many.
fn ports(first: u16, count: u16) -> Option<Vec<u16>> {
    match first {
        0 => Some(vec![0; usize::from(count)]),
        _ => (0..count).map(|number| first.checked_add(number)).collect(),
    }
}

impl Addresses {
    /// As the configuration wants them for a directory of this layout.
    pub fn new(
        config: &Config,
        listen: SocketAddr,
        layout: Layout,
        shards: u16,
    ) -> Result<Addresses, PortsError> {
        let is_shared = config.listeners_mode == ListenersMode::Shared;
        let count = if is_shared { 1 } else { layout.endpoints() };
        let too_high = |address: &Address| PortsError { address: address.clone(), endpoints: count };
        if let Some(advertised) = &config.advertised {
            ports(advertised.port, count).ok_or_else(|| too_high(advertised))?;
        }
        let ports = ports(listen.port(), count).ok_or_else(|| too_high(&config.listen))?;
        let places = ports.into_iter().map(|port| SocketAddr::new(listen.ip(), port)).collect();
        Ok(Addresses { layout, shards, is_shared, places })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> {
        self.places.iter().copied()
    }

    /// Where a shard listens.
    pub fn of_shard(&self, shard: ShardId) -> Vec<Place> {
        if self.is_shared {
            return vec![Place { endpoint: None, address: self.places[0] }];
        }
        let endpoints = self.layout.endpoints_of(shard, self.shards);
        let place = |endpoint: Endpoint| Place {
            endpoint: Some(endpoint),
            address: self.places[usize::from(endpoint.0)],
        };
        endpoints.map(place).collect()
    }

    /// A shard listens there now: others of the same endpoint do so on the same port.
    pub fn settle(&mut self, place: Place) {
        let number = place.endpoint.map_or(0, |endpoint| usize::from(endpoint.0));
        self.places[number] = place.address;
    }

    pub fn first(&self) -> SocketAddr {
        self.places[0]
    }

    /// What clients are told: the ports where this process listens, or those that lead there from elsewhere.
    pub fn announced(&self, advertised: Option<&Address>) -> Announced {
        let listening = || self.places.iter().map(SocketAddr::port).collect();
        let ports: Vec<u16> = match advertised.map_or(0, |address| address.port) {
            0 => listening(),
            first => ports(first, self.places.len() as u16).expect("checked before anything was listened to"),
        };
        Announced { port: ports[0], endpoint_ports: if self.is_shared { Vec::new() } else { ports } }
    }

    /// The endpoints that clients see as brokers, if they do.
    pub fn endpoints(&self, node: NodeId) -> Vec<ServedEndpoint> {
        if self.is_shared {
            return Vec::new();
        }
        let served = |(endpoint, kafka): (Endpoint, &SocketAddr)| ServedEndpoint {
            broker: BrokerId::of_endpoint(node, endpoint),
            kafka: *kafka,
            shards: self.layout.shards_of(endpoint, self.shards).collect(),
        };
        (0..).map(Endpoint).zip(&self.places).map(served).collect()
    }
}

/// Why an address cannot be listened on, and what would do.
pub fn refused(address: SocketAddr, source: &io::Error) -> ListenError {
    let address = Address { host: address.ip().to_string(), port: address.port() };
    ListenError { address, option: "--listen", source: source.kind() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &[&str]) -> Config {
        let written: Vec<_> =
            options.iter().map(|option| corelog::config::parse_set(option).unwrap()).collect();
        corelog::config::parse(None, &written).unwrap().config
    }

    fn addresses(options: &[&str], endpoints: u16, shards: u16) -> Result<Addresses, PortsError> {
        let config = config(options);
        let listen = config.listen.to_string().parse().unwrap();
        Addresses::new(&config, listen, Layout::new(64, endpoints).unwrap(), shards)
    }

    const PER_CORE: &str = "listeners.mode=per-core";

    #[test]
    fn each_shard_listens_for_its_endpoints_from_the_first_port_on() {
        let check = |options: &[&str], shards: u16, shard: u16, expected: &[(Option<u16>, u16)]| {
            let places = addresses(options, 3, shards).unwrap().of_shard(ShardId(shard));
            let found: Vec<_> =
                places.iter().map(|place| (place.endpoint.map(|e| e.0), place.address.port())).collect();
            assert_eq!(found, expected, "shard {shard} of {shards}, {options:?}");
        };
        check(&[], 2, 1, &[(None, 9092)]);
        check(&[PER_CORE], 2, 0, &[(Some(0), 9092), (Some(2), 9094)]);
        check(&[PER_CORE], 2, 1, &[(Some(1), 9093)]);
        check(&[PER_CORE], 4, 3, &[(Some(0), 9092)]);
        check(&[PER_CORE, "listeners=127.0.0.1:0"], 1, 0, &[(Some(0), 0), (Some(1), 0), (Some(2), 0)]);
    }

    #[test]
    fn clients_are_told_the_ports_that_lead_there() {
        let check = |options: &[&str], expected: (u16, &[u16])| {
            let mut addresses = addresses(options, 2, 1).unwrap();
            for place in addresses.of_shard(ShardId(0)) {
                let chosen = 40_000 + place.endpoint.map_or(0, |endpoint| endpoint.0 * 7);
                let port = if place.address.port() == 0 { chosen } else { place.address.port() };
                addresses.settle(Place { address: SocketAddr::new(place.address.ip(), port), ..place });
            }
            let Announced { port, endpoint_ports } = addresses.announced(config(options).advertised.as_ref());
            assert_eq!((port, endpoint_ports.as_slice()), expected, "{options:?}");
        };
        check(&[], (9092, &[]));
        check(&["listeners=127.0.0.1:0"], (40_000, &[]));
        check(&["advertised.listeners=h:19092"], (19092, &[]));
        check(&[PER_CORE], (9092, &[9092, 9093]));
        check(&[PER_CORE, "listeners=127.0.0.1:0"], (40_000, &[40_000, 40_007]));
        check(&[PER_CORE, "advertised.listeners=h:19092"], (19092, &[19092, 19093]));
    }

    #[test]
    fn ports_end_at_65535() {
        let check = |options: &[&str], is_ok: bool| {
            assert_eq!(addresses(options, 2, 1).is_ok(), is_ok, "{options:?}");
        };
        check(&["listeners=127.0.0.1:65535"], true);
        check(&[PER_CORE, "listeners=127.0.0.1:65535"], false);
        check(&[PER_CORE, "listeners=127.0.0.1:65534"], true);
        check(&[PER_CORE, "advertised.listeners=h:65535"], false);
    }
}
