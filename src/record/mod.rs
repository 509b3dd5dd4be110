//! Record batches, Kafka's unit of everything: produced, stored, replicated and fetched as the same bytes.
//!
//! *Owns* the v2 format: header view, checksum, builder, control records. *Never* does I/O and copies no payload.
//! Called by `protocol`, `partition`, `log` and the coordinators that write records of their own.

mod batch;
mod builder;
pub mod compression;
mod control;
mod crc;
#[allow(clippy::module_inception, reason = "one record inside the room of batches")]
pub mod record;

pub use batch::{
    Attributes, BATCH_HEADER_BYTES, BATCH_OVERHEAD_BYTES, BatchView, Batches, InvalidBatch, ProducerStamp,
    TimestampType, set_base_offset, set_leader_epoch, set_log_append_time, set_producer,
};
pub use builder::BatchBuilder;
pub use compression::{Codec, CompressionError, DecompressBounds, compress, decompress};
pub use control::{CONTROL_KEY_BYTES, ControlKind, EndTransactionMarker};
pub use crc::{crc32c, crc32c_append};
pub use record::{Header, NewRecord, Record, RecordError, Records};
