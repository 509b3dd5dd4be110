//! The library's own client against a running broker: what it promises when all is well, and when it is not.
//!
//! Each test has a broker of its own. `CORELOG_CLIENT_BOOTSTRAP=HOST:PORT` names one that runs already, such as Apache
//! Kafka's; tests that stop and start their broker are left out then, with a line that says so.
//! `CORELOG_TEST_ORACLE` lets each test start Apache Kafka instead (see `corelog_clients`).
// Tests have the host's clock and threads; the broker's rooms have not.
#![allow(clippy::disallowed_methods)]

mod admin;
mod assignors;
mod consume;
mod cuts;
mod encodings;
mod endurance;
mod faults;
mod fixture;
mod group;
mod java;
mod produce;
mod proxy;
mod questions;
mod security;
