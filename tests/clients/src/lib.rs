//! What the tests with real clients share: a broker process to talk to, and librdkafka with the wrinkles taken out.
//!
//! `CORELOG_BIN` names another binary to test than the one that `cargo test` built. `CORELOG_TEST_ORACLE` names the
//! folder of the real Apache Kafka: then the tests run against that one, which shows whether it is the test that errs.
// Tests have the host's clock and threads; the broker's rooms have not.
#![allow(clippy::disallowed_methods)]

pub mod broker;
pub mod client;
mod port;

pub use broker::{Broker, Options};

/// The broker to test, built by Cargo for the calling test.
#[macro_export]
macro_rules! options {
    () => {
        $crate::Options::new(env!("CARGO_BIN_EXE_corelog-under-test"))
    };
}
