//! A consumer as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::client::error::ClientError;

use super::{Consumer, ConsumerRecord};

/// Records as they come; it never ends by itself. After an error it goes on with what follows, as `poll` does, until the
/// error is fatal: then it ends. It may be dropped and made again at any time: nothing is taken that was not returned.
///
/// ```
/// # mod example {
/// use std::pin::Pin;
///
/// use corelog::client::{ClientError, Consumer};
/// use futures_core::Stream;
///
/// # pub async fn run(broker: String) -> Result<(), ClientError> {
/// # let settings = corelog::client::ConsumerSettings::builder().set("bootstrap.servers", broker);
/// # let settings = settings.set("group.id", "billing").set("auto.offset.reset", "earliest").build()?;
/// # let mut consumer = Consumer::new(settings)?;
/// # consumer.subscribe(["orders"])?;
/// let handle = consumer.handle();
/// let mut records = consumer.stream();
/// while let Some(record) = std::future::poll_fn(|c| Pin::new(&mut records).poll_next(c)).await {
///     let record = record?;
///     println!("{:?}", record.value);
///     handle.commit().await?;
/// #   if record.offset == 2 { break }
/// }
/// # Ok(())
/// # }
/// # }
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docs/broker.rs"));
/// # fn main() { with_orders(example::run) }
/// ```
pub struct RecordStream<'c> {
    consumer: &'c mut Consumer,
    has_ended: bool,
}

impl fmt::Debug for RecordStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordStream").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

impl<'c> RecordStream<'c> {
    pub(super) fn new(consumer: &'c mut Consumer) -> RecordStream<'c> {
        RecordStream { consumer, has_ended: false }
    }
}

impl Stream for RecordStream<'_> {
    type Item = Result<ConsumerRecord, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // One at a time: the position moves with each, and no further.
        match self.consumer.poll_next_records(context, 1) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(mut records)) => Poll::Ready(records.pop().map(Ok)),
            Poll::Ready(Err(error)) => {
                self.has_ended = error.is_fatal();
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}
