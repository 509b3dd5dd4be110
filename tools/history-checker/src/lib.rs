//! Checks a history of sends and reads against what a partitioned log promises.
//!
//! A history is a list of [`Event`]s, one JSON object a line, in the order in which they happened. [`History`] gathers it,
//! [`check`] returns a [`Report`] with every anomaly. The list of anomalies follows Jepsen's for Kafka
//! (`jepsen/src/jepsen/tests/kafka.clj`), without the transactional ones.
//!
//! An offset is the order of its partition, so nothing has to be searched for: sorting is the dearest step.
#![forbid(unsafe_code)]

mod check;
mod event;
mod history;
mod report;

pub use check::check;
pub use event::Event;
pub use history::{History, HistoryError};
pub use report::{Anomaly, Kind, Report};
