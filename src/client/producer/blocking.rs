//! A producer for programs without a runtime: it brings its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::client::error::{ClientError, Fatal};
use crate::client::settings::ProducerSettings;

use super::{Delivery, Producer, ProducerBuilder, ProducerMetrics, ProducerRecord, RecordMetadata};

/// As [`Producer`], with a background thread of its own; every call blocks the caller's. Not for use inside a runtime.
pub struct BlockingProducer<K: ?Sized = [u8], V: ?Sized = [u8]> {
    producer: Producer<K, V>,
    runtime: Runtime,
}

impl BlockingProducer {
    /// A producer of bytes.
    pub fn new(settings: ProducerSettings) -> Result<BlockingProducer, ClientError> {
        BlockingProducer::build(Producer::builder(settings, super::BytesSerializer, super::BytesSerializer))
    }
}

impl<K: ?Sized + Send + Sync + 'static, V: ?Sized + Send + Sync + 'static> BlockingProducer<K, V> {
    /// Starts the thread and on it the producer that was put together. Errors: no thread was to be had.
    pub fn build(builder: ProducerBuilder<K, V>) -> Result<BlockingProducer<K, V>, ClientError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("corelog-producer")
            .enable_all()
            .build()
            .map_err(|source| Fatal::Runtime { source: Arc::new(source) })?;
        let producer = {
            let _entered = runtime.enter();
            builder.build()?
        };
        Ok(BlockingProducer { producer, runtime })
    }

    /// Sends a record and waits until it is acknowledged or lost.
    pub fn send(&self, record: ProducerRecord<'_, K, V>) -> Result<RecordMetadata, ClientError> {
        self.enqueue(record)?.wait()
    }

    /// As [`Producer::enqueue`]; [`Delivery::wait`] tells the fate.
    pub fn enqueue(&self, record: ProducerRecord<'_, K, V>) -> Result<Delivery, ClientError> {
        self.runtime.block_on(self.producer.enqueue(record))
    }

    /// As [`Producer::flush`].
    pub fn flush(&self) {
        self.runtime.block_on(self.producer.flush());
    }

    /// As [`Producer::close`].
    pub fn close(self, patience: Duration) -> Result<(), ClientError> {
        self.runtime.block_on(self.producer.close(patience))
    }

    pub fn metrics(&self) -> ProducerMetrics {
        self.producer.metrics()
    }
}
