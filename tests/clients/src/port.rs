//! Ports for one broker, kept free for it while it is down.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's ephemeral range (32768 on): a client that redials a dead port inside it may get that very port as its
/// own and connect to itself, and the broker could not come back.
const FIRST: u16 = 20_000;
const BLOCKS: u16 = 1_250;
const BLOCK_PORTS: u16 = 8;

/// Eight neighbouring ports. The first is held for as long as this lives, which keeps other tests away from the rest.
#[derive(Debug)]
pub struct Ports {
    _held: TcpListener,
    first: u16,
}

impl Ports {
    pub fn reserve() -> Self {
        // Each process starts elsewhere, so that two test runs rarely meet; when they do, the bind decides. No block is
        // used twice in a process: a client that a failed test left behind must not speak to the next test's broker.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let start = (std::process::id() * 40 % u32::from(BLOCKS)) as u16;
        for _ in 0..BLOCKS {
            let n = NEXT.fetch_add(1, Ordering::Relaxed) % BLOCKS;
            let first = FIRST + (start + n) % BLOCKS * BLOCK_PORTS;
            let Ok(held) = TcpListener::bind((Ipv4Addr::LOCALHOST, first)) else { continue };
            if (1..BLOCK_PORTS).all(|p| TcpListener::bind((Ipv4Addr::LOCALHOST, first + p)).is_ok()) {
                return Self { _held: held, first };
            }
        }
        panic!("no eight free ports from {FIRST} on");
    }

    /// The oracle's controller takes the next one; so do the endpoints of `listeners.mode=per-core`, of which there may be six.
    pub fn kafka(&self) -> u16 {
        self.first + 1
    }

    pub fn admin(&self) -> u16 {
        self.first + BLOCK_PORTS - 1
    }
}
