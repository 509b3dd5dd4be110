//! Kafka's bytes as the load needs them. From the broker's code come the message definitions and the batch format alone.

mod admin;
mod answers;
mod batch;
mod check;
mod keys;
mod requests;

pub use admin::{ANSWER_BYTES_MOST, Admin, Layout, TopicError, WireError, error_text};
pub use answers::produced;
pub use batch::{KEY_BYTES, STAMP_BYTES, Stamp};
pub use check::{Checked, Checker, Depth, Read};
pub use keys::Chooser;
pub use requests::{EchoFrame, Outgoing, ProduceFrame, fetch_frame};
