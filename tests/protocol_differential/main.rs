//! Our codec against the `kafka-protocol` crate, against vectors made from Kafka's own schemas, and against hostile bytes.
//!
//! Bodies are random, made from the shapes of our messages, for every API, version and direction served. What one codec
//! writes the other must read and write again to the same bytes.

#[path = "../../tools/fuzz/src/generate.rs"]
mod generate;

mod allocation;
mod codecs;
mod differential;
mod hostile;
mod vectors;
