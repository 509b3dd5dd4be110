//! The `message!` macro: each field of a message once, on one line.
//!
//! ```text
//! request ProduceRequest<'a> of Produce {
//!     transactional_id: Option<&'a str> => 3.., null 3..;
//!     name: &'a str                     => 3..=12, ignorable;
//!     high_watermark: i64               => 18.., tag 1, default i64::MAX;
//! }
//! ```
//!
//! - after `=>`: the versions in which the field is there; in others it decodes to its default and is not written;
//! - `null`: the versions in which an `Option` may be null; `Option` fields have it, others do not;
//! - `tag`: a tagged field, written when it differs from the default; the ranges of such a line are its tagged ones;
//! - `default`: what the field is when absent, if not `Default::default()`;
//! - `ignorable`: a value other than the default may be dropped in versions without the field. Without the word such a
//!   value is a mistake of ours, which debug builds assert.
//!
//! Types: Kafka's `string` is `&str` in requests, which handlers read, and `Str` in responses, which handlers compose;
//! `bytes` and `records` are `&[u8]` in requests, `Blob` and `Records` in responses. Names are those of Kafka's schemas in
//! snake case, in the order of the schema, which is the order on the wire.
//!
//! Source of all message files: Apache Kafka 4.3.1, `clients/src/main/resources/common/message/*.json`.

use std::ops::RangeBounds;

use bytes::BytesMut;

use crate::protocol::api::ApiKey;
use crate::protocol::codec::Wire;
use crate::protocol::reader::{DecodeError, Fault, Reader};
use crate::protocol::writer::Writer;

/// A request or a response: the body of a frame after its header.
pub trait Message<'a>: Wire<'a> {
    const API: ApiKey;

    /// Reads a body. What it holds borrows from the frame. Bytes after the last field stay in the reader.
    fn decode(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError> {
        match Self::API.format(version) {
            Some(format) => Self::read(reader, format),
            None => Err(reader.error(Fault::UnsupportedVersion { api_key: Self::API.key(), version })),
        }
    }

    /// Writes the body after what `out` holds. `version` is one we serve: it came from a request that was decoded.
    fn encode(&self, out: &mut BytesMut, version: i16) {
        self.encode_to(&mut Writer::contiguous(out), version);
    }

    /// As `encode`, into a writer.
    fn encode_to(&self, writer: &mut Writer<'_>, version: i16) {
        let Some(format) = Self::API.format(version) else {
            panic!("{} is not served in version {version}", Self::API.name());
        };
        self.write(writer, format);
    }
}

/// Marks the messages that clients send.
pub trait Request<'a>: Message<'a> {}

/// Marks the messages that brokers send.
pub trait Response<'a>: Message<'a> {}

/// Is `version` in the range? A function, since a bare `(3..).contains(&version)` leaves the literal's type open.
#[inline(always)]
pub(super) fn within(versions: impl RangeBounds<i16>, version: i16) -> bool {
    versions.contains(&version)
}

/// `==` between values of one type, so that a default's type is known from the field's.
#[inline(always)]
pub(super) fn equals<T: PartialEq>(value: &T, default: T) -> bool {
    *value == default
}

macro_rules! message {
    ($(
        $(#[$meta:meta])*
        $kind:ident $name:ident $(<$life:lifetime>)? $(of $api:ident)? {
            $(
                $(#[$field_meta:meta])*
                $field:ident : $type:ty => $versions:expr
                $(, null $null:expr)?
                $(, tag $tag:literal)?
                $(, default $default:expr)?
                $(, ignorable $([$ignorable:tt])?)?
                ;
            )*
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name $(<$life>)? {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $(<$life>)? Default for $name $(<$life>)? {
            fn default() -> Self {
                $name { $( $field: message!(@default $($default)?), )* }
            }
        }

        impl<'a> $crate::protocol::codec::Wire<'a> for $name $(<$life>)? {
            const SHAPE: $crate::protocol::shape::Shape = $crate::protocol::shape::Shape::Struct(&[
                $( $crate::protocol::shape::FieldShape {
                    name: stringify!($field),
                    shape: <$type as $crate::protocol::codec::Wire<'a>>::SHAPE,
                    present: |version| $crate::protocol::message::within($versions, version),
                    nullable: message!(@nullable $($null)?),
                    tag: message!(@tag $($tag)?),
                }, )*
            ]);

            fn read(
                reader: &mut $crate::protocol::reader::Reader<'a>,
                format: $crate::protocol::codec::Format,
            ) -> Result<Self, $crate::protocol::reader::DecodeError> {
                let version = format.version;
                let mut message = Self::default();
                $(
                    if message!(@untagged $($tag)?) && $crate::protocol::message::within($versions, version) {
                        message.$field = message!(@read reader, format, $($null)?)
                            .map_err(|error| error.in_field(concat!(stringify!($name), ".", stringify!($field))))?;
                    }
                )*
                if format.flexible {
                    let mut left = reader.tagged_field_count()?;
                    while let Some((tag, mut _tagged)) = reader.tagged_field(&mut left)? {
                        $(
                            if message!(@tag $($tag)?) == Some(tag) && $crate::protocol::message::within($versions, version) {
                                message.$field = message!(@read &mut _tagged, format, $($null)?)
                                    .and_then(|value| _tagged.end_of_tagged_field(tag).map(|()| value))
                                    .map_err(|error| error.in_field(concat!(stringify!($name), ".", stringify!($field))))?;
                            }
                        )*
                    }
                }
                Ok(message)
            }

            fn write(
                &self,
                writer: &mut $crate::protocol::writer::Writer<'_>,
                format: $crate::protocol::codec::Format,
            ) {
                let version = format.version;
                $(
                    if !$crate::protocol::message::within($versions, version) {
                        debug_assert!(
                            message!(@is_ignorable $(ignorable $($ignorable)?)?)
                                || $crate::protocol::message::equals(&self.$field, message!(@default $($default)?)),
                            concat!(stringify!($name), ".", stringify!($field), " is set in version {}, which lacks it"),
                            version,
                        );
                    } else if message!(@untagged $($tag)?) {
                        message!(@write &self.$field, writer, format, $($null)?);
                    }
                )*
                if format.flexible {
                    let mut _count = 0;
                    $(
                        _count += u32::from(
                            !message!(@untagged $($tag)?)
                                && $crate::protocol::message::within($versions, version)
                                && !$crate::protocol::message::equals(&self.$field, message!(@default $($default)?)),
                        );
                    )*
                    writer.put_uvarint(_count);
                    $(
                        if let Some(tag) = message!(@tag $($tag)?)
                            && $crate::protocol::message::within($versions, version)
                            && !$crate::protocol::message::equals(&self.$field, message!(@default $($default)?))
                        {
                            writer.put_tagged_field(tag, |writer| {
                                message!(@write &self.$field, writer, format, $($null)?);
                            });
                        }
                    )*
                }
            }

            fn bytes_min(format: $crate::protocol::codec::Format) -> usize {
                let version = format.version;
                let mut bytes = usize::from(format.flexible);
                $(
                    if message!(@untagged $($tag)?) && $crate::protocol::message::within($versions, version) {
                        bytes += <$type as $crate::protocol::codec::Wire<'a>>::bytes_min(format);
                    }
                )*
                bytes
            }
        }

        impl<'a> $crate::protocol::codec::Nullable<'a> for $name $(<$life>)? {
            fn read_nullable(
                reader: &mut $crate::protocol::reader::Reader<'a>,
                format: $crate::protocol::codec::Format,
            ) -> Result<Option<Self>, $crate::protocol::reader::DecodeError> {
                let present = <i8 as $crate::protocol::codec::Wire>::read(reader, format)?;
                if present < 0 {
                    return Ok(None);
                }
                <Self as $crate::protocol::codec::Wire>::read(reader, format).map(Some)
            }

            fn write_nullable(
                value: Option<&Self>,
                writer: &mut $crate::protocol::writer::Writer<'_>,
                format: $crate::protocol::codec::Format,
            ) {
                match value {
                    None => $crate::protocol::codec::Wire::write(&-1i8, writer, format),
                    Some(value) => {
                        $crate::protocol::codec::Wire::write(&1i8, writer, format);
                        $crate::protocol::codec::Wire::write(value, writer, format);
                    }
                }
            }
        }

        message!(@kind $kind $name $(<$life>)? $(of $api)?);
    )+};

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@nullable) => { |_| false };
    (@nullable $null:expr) => { |version| $crate::protocol::message::within($null, version) };
    (@tag) => { None::<u32> };
    (@tag $tag:literal) => { Some::<u32>($tag) };
    (@untagged) => { true };
    (@untagged $tag:literal) => { false };
    (@is_ignorable) => { false };
    (@is_ignorable ignorable) => { true };

    (@read $reader:expr, $format:ident,) => { $crate::protocol::codec::Wire::read($reader, $format) };
    (@read $reader:expr, $format:ident, $null:expr) => {
        $crate::protocol::codec::read_nullable($reader, $format, $crate::protocol::message::within($null, $format.version))
    };
    (@write $value:expr, $writer:ident, $format:ident,) => {
        $crate::protocol::codec::Wire::write($value, $writer, $format)
    };
    (@write $value:expr, $writer:ident, $format:ident, $null:expr) => {
        $crate::protocol::codec::write_nullable(
            $value, $writer, $format, $crate::protocol::message::within($null, $format.version),
        )
    };

    (@kind struct $name:ident $(<$life:lifetime>)?) => {};
    (@kind request $name:ident $(<$life:lifetime>)? of $api:ident) => {
        impl<'a> $crate::protocol::message::Message<'a> for $name $(<$life>)? {
            const API: $crate::protocol::api::ApiKey = $crate::protocol::api::ApiKey::$api;
        }
        impl<'a> $crate::protocol::message::Request<'a> for $name $(<$life>)? {}
    };
    (@kind response $name:ident $(<$life:lifetime>)? of $api:ident) => {
        impl<'a> $crate::protocol::message::Message<'a> for $name $(<$life>)? {
            const API: $crate::protocol::api::ApiKey = $crate::protocol::api::ApiKey::$api;
        }
        impl<'a> $crate::protocol::message::Response<'a> for $name $(<$life>)? {}
    };
}

pub(super) use message;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::protocol::Array;
    use crate::protocol::messages::fetch::{FetchRequest, FetchTopic};
    use crate::protocol::messages::metadata::{MetadataRequest, MetadataResponse, MetadataResponseTopic};
    use crate::protocol::messages::produce::{ProduceRequest, TopicProduceData};

    fn round_trip<'a, M: Message<'a>>(message: &M, version: i16, out: &'a mut BytesMut) -> M {
        message.encode(out, version);
        let mut reader = Reader::new(out);
        let decoded = M::decode(&mut reader, version).unwrap();
        assert!(reader.remaining().is_empty());
        decoded
    }

    #[test]
    fn fields_absent_in_a_version_decode_to_their_defaults() {
        let sent = FetchRequest { min_bytes: 5, ..Default::default() };
        let mut out = BytesMut::new();
        let got = round_trip(&sent, 4, &mut out);
        assert_eq!((got.min_bytes, got.session_epoch, got.rack_id), (5, -1, ""));
    }

    #[test]
    fn tagged_fields_are_written_only_when_they_differ_from_the_default() {
        let size = |request: &FetchRequest| {
            let mut out = BytesMut::new();
            request.encode(&mut out, 12);
            out.len()
        };
        let plain = FetchRequest::default();
        let named = FetchRequest { cluster_id: Some("abc"), ..Default::default() };
        assert_eq!(size(&named), size(&plain) + 6, "tag, size, length, three bytes");
        let mut out = BytesMut::new();
        assert_eq!(round_trip(&named, 12, &mut out).cluster_id, Some("abc"));
    }

    #[test]
    fn null_and_empty_arrays_stay_apart() {
        for (topics, is_null) in [(None, true), (Some(Array::EMPTY), false)] {
            for version in [1, 9, 12] {
                let mut out = BytesMut::new();
                let request = MetadataRequest { topics: topics.clone(), ..Default::default() };
                let got = round_trip(&request, version, &mut out);
                assert_eq!(got.topics.is_none(), is_null, "version {version}");
            }
        }
    }

    #[test]
    fn ignorable_fields_are_dropped_where_a_version_lacks_them() {
        let topic =
            TopicProduceData { name: "a", topic_id: crate::model::Uuid([7; 16]), ..Default::default() };
        let request = ProduceRequest { topic_data: vec![topic].into(), ..Default::default() };
        let mut out = BytesMut::new();
        let topic = round_trip(&request, 12, &mut out).topic_data.first().unwrap();
        assert_eq!((topic.name, topic.topic_id.is_zero()), ("a", true));
        let mut out = BytesMut::new();
        let topic = round_trip(&request, 13, &mut out).topic_data.first().unwrap();
        assert_eq!((topic.name, topic.topic_id.is_zero()), ("", false));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "FetchRequest.forgotten_topics_data is set in version 6, which lacks it")]
    fn fields_that_may_not_be_dropped_are_asserted() {
        let forgotten = vec![Default::default()].into();
        FetchRequest { forgotten_topics_data: forgotten, ..Default::default() }
            .encode(&mut BytesMut::new(), 6);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "null in version 11 where none is allowed")]
    fn nulls_where_none_is_allowed_are_asserted() {
        let topics = vec![MetadataResponseTopic { name: None, ..Default::default() }].into();
        MetadataResponse { topics, ..Default::default() }.encode(&mut BytesMut::new(), 11);
    }

    #[test]
    #[should_panic(expected = "Fetch is not served in version 3")]
    fn encoding_in_a_version_not_served_is_our_mistake() {
        FetchRequest { topics: vec![FetchTopic::default()].into(), ..Default::default() }
            .encode(&mut BytesMut::new(), 3);
    }

    #[test]
    fn tags_rise_in_every_struct() {
        use crate::protocol::messages::{AnyRequest, AnyResponse};
        use crate::protocol::shape::Shape;
        fn check(shape: Shape) {
            match shape {
                Shape::Array(element) => check(*element),
                Shape::Struct(fields) => {
                    let tags: Vec<u32> = fields.iter().filter_map(|field| field.tag).collect();
                    assert!(tags.is_sorted(), "written in this order: {fields:?}");
                    fields.iter().for_each(|field| check(field.shape));
                }
                _ => {}
            }
        }
        for &api in ApiKey::ALL {
            check(AnyRequest::shape(api));
            check(AnyResponse::shape(api));
        }
    }
}
