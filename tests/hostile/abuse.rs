//! What hostile and clumsy clients send over real sockets: the broker refuses it, keeps its memory, and serves the others.
#![allow(clippy::disallowed_methods)]

mod batches;
mod connections;
mod disk_full;
mod frames;
mod requests;
mod wire;
