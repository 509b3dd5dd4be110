//! The log against a model: random operations, crashes at every operation, and files judged by an independent reader.
#![allow(clippy::disallowed_types, reason = "tests stand outside the seam")]

mod bench;
mod crash;
mod disk;
mod folder;
mod model;
mod scenarios;
