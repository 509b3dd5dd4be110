//! What the measuring tools share. It shares no code with the broker: an instrument must not have the errors of what it measures.

#![allow(clippy::disallowed_methods, reason = "an instrument has its own clock")]

pub mod clock;
pub mod crowd;
pub mod device;
pub mod host;
pub mod output;
pub mod page;
pub mod pin;
pub mod plot;
pub mod signals;
pub mod spread;
pub mod text;
