//! The reactor on the real kernel: loopback sockets, temporary files. Nothing sleeps: tests wait for events, with a deadline.
#![allow(
    clippy::disallowed_methods,
    reason = "these tests make the threads and read the clocks that the rooms may not"
)]

mod driver;

mod file;
mod piped;
mod probe;
mod socket;
mod wake;
