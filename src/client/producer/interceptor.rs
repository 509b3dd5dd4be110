//! Code of the caller's that sees every record twice: before it is serialized, and after its fate is known.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::client::error::ClientError;

use super::record::{ProducerRecord, RecordMetadata};
use super::serializer::SerializeError;

/// Sees, and may change, records on their way. One that fails or panics is passed over with a warning: it never loses a
/// record.
pub trait Interceptor<K: ?Sized = [u8], V: ?Sized = [u8]>: Send + Sync {
    /// Before serialization and the choice of a partition, on the caller's thread. What was changed before an error stays.
    fn on_send(&self, record: &mut ProducerRecord<'_, K, V>) -> Result<(), SerializeError>;

    /// When the record was acknowledged or lost, before its callback, mostly on the sender's task: be quick.
    fn on_acknowledgement(&self, outcome: Result<&RecordMetadata, &ClientError>);
}

/// The half of an interceptor that knows no types of records.
pub(super) trait Observer: Send + Sync {
    fn acknowledged(&self, outcome: Result<&RecordMetadata, &ClientError>);
}

/// The interceptors of a producer, in order.
pub(super) struct Interceptors<K: ?Sized, V: ?Sized>(pub Vec<Box<dyn Interceptor<K, V>>>);

impl<K: ?Sized, V: ?Sized> Interceptors<K, V> {
    pub fn on_send(&self, record: &mut ProducerRecord<'_, K, V>) {
        for interceptor in &self.0 {
            match guarded(|| interceptor.on_send(record)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "an interceptor failed on send"),
                Err(message) => tracing::warn!(message, "an interceptor panicked on send"),
            }
        }
    }
}

impl<K: ?Sized, V: ?Sized> Observer for Interceptors<K, V> {
    fn acknowledged(&self, outcome: Result<&RecordMetadata, &ClientError>) {
        for interceptor in &self.0 {
            if let Err(message) = guarded(|| interceptor.on_acknowledgement(outcome)) {
                tracing::warn!(message, "an interceptor panicked on acknowledgement");
            }
        }
    }
}

/// Runs code of the caller's. An error: it panicked, and what it said. (Where panics abort the process, they do.)
pub(super) fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    // Whoever shares state with the code that panicked is the caller, who wrote it.
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    struct Rename(&'static str);

    impl Interceptor for Rename {
        fn on_send(&self, record: &mut ProducerRecord<'_>) -> Result<(), SerializeError> {
            record.topic = Cow::Owned(format!("{}-{}", record.topic, self.0));
            match self.0 {
                "fails" => Err("no".into()),
                "panics" => panic!("no {}", 1),
                _ => Ok(()),
            }
        }
        fn on_acknowledgement(&self, _: Result<&RecordMetadata, &ClientError>) {
            panic!("never again");
        }
    }

    #[test]
    fn one_that_fails_stops_neither_the_others_nor_the_record() {
        let chain: Vec<Box<dyn Interceptor>> =
            vec![Box::new(Rename("fails")), Box::new(Rename("panics")), Box::new(Rename("works"))];
        let interceptors = Interceptors(chain);
        let mut record = ProducerRecord::to("t").value(b"v");
        interceptors.on_send(&mut record);
        assert_eq!(record.topic, "t-fails-panics-works");
        interceptors.acknowledged(Err(&ClientError::Fatal(crate::client::Fatal::Closed)));
        assert_eq!(guarded(|| panic!("no {}", 1)), Err::<(), _>("no 1".to_owned()));
    }
}
