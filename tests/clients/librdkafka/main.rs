//! librdkafka, through the `rdkafka` crate, against a broker of its own in each test.
// Tests have the host's clock and threads; the broker's rooms have not.
#![allow(clippy::disallowed_methods)]

mod admin;
mod compression;
mod consume;
mod group;
mod produce;
mod restart;
