//! How each type of Kafka's schemas lies on the wire.
//!
//! | type | classic | flexible |
//! | --- | --- | --- |
//! | bool, int8, int16, int32, int64, uuid | 1, 1, 2, 4, 8, 16 bytes, big-endian | same |
//! | string | int16 length, bytes; null: -1 | varint length + 1, bytes; null: 0 |
//! | bytes, records | int32 length, bytes; null: -1 | varint length + 1, bytes; null: 0 |
//! | array | int32 count, elements; null: -1 | varint count + 1, elements; null: 0 |
//! | struct | its fields | its fields, then tagged fields: count, then tag, size, bytes of each, ascending |
//! | nullable struct | int8, negative: null | same |
//!
//! Source: Apache Kafka, `clients/src/main/resources/common/message/README.md` and the protocol guide.

use crate::model::Uuid;
use crate::protocol::reader::{DecodeError, Fault, Reader};
use crate::protocol::shape::Shape;
use crate::protocol::text::{Blob, Records, Str};
use crate::protocol::writer::Writer;

/// The layout that one request and its response speak: the version, and what follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    pub version: i16,
    /// Compact lengths, and tagged fields at the end of every struct.
    pub flexible: bool,
}

/// A value that can be read from and written to the wire in a given format.
/// `read` gives the same result for the same bytes every time: `Array` reads its elements twice and counts on it.
pub trait Wire<'a>: Sized {
    /// What the value looks like, for those who make bytes from the schema (tests, fuzzing).
    const SHAPE: Shape;

    fn read(reader: &mut Reader<'a>, format: Format) -> Result<Self, DecodeError>;

    fn write(&self, writer: &mut Writer<'_>, format: Format);

    /// The fewest bytes a value takes: what a count of elements is held against.
    fn bytes_min(format: Format) -> usize;

    /// Steps over `count` values, each checked as `read` checks it.
    fn skip(count: usize, reader: &mut Reader<'a>, format: Format) -> Result<(), DecodeError> {
        for _ in 0..count {
            Self::read(reader, format)?;
        }
        Ok(())
    }
}

/// A type that has a null on the wire.
pub trait Nullable<'a>: Wire<'a> + Default {
    fn read_nullable(reader: &mut Reader<'a>, format: Format) -> Result<Option<Self>, DecodeError>;

    fn write_nullable(value: Option<&Self>, writer: &mut Writer<'_>, format: Format);
}

/// Reads a field that is nullable in some versions, `nullable` in this one or not.
pub(super) fn read_nullable<'a, T: Nullable<'a>>(
    reader: &mut Reader<'a>,
    format: Format,
    nullable: bool,
) -> Result<Option<T>, DecodeError> {
    if nullable { T::read_nullable(reader, format) } else { T::read(reader, format).map(Some) }
}

/// Writes a field that is nullable in some versions. In the others a `None` is our own mistake; the peer gets the empty
/// value, which it can read.
pub(super) fn write_nullable<'a, T: Nullable<'a>>(
    value: &Option<T>,
    writer: &mut Writer<'_>,
    format: Format,
    nullable: bool,
) {
    match value {
        value if nullable => T::write_nullable(value.as_ref(), writer, format),
        Some(value) => value.write(writer, format),
        None => {
            debug_assert!(false, "null in version {} where none is allowed", format.version);
            T::default().write(writer, format);
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<T>
where
    T: Nullable<'a>,
{
    const SHAPE: Shape = T::SHAPE;

    fn read(reader: &mut Reader<'a>, format: Format) -> Result<Self, DecodeError> {
        T::read_nullable(reader, format)
    }

    fn write(&self, writer: &mut Writer<'_>, format: Format) {
        T::write_nullable(self.as_ref(), writer, format);
    }

    fn bytes_min(format: Format) -> usize {
        length_bytes_min::<T>(format)
    }
}

/// The null of every nullable type is one byte when flexible and never longer than its empty value otherwise.
fn length_bytes_min<'a, T: Wire<'a>>(format: Format) -> usize {
    match T::SHAPE {
        Shape::Struct(_) => 1,
        _ => T::bytes_min(format),
    }
}

macro_rules! fixed_width {
    ($($type:ty, $shape:ident, $width:literal;)+) => {$(
        impl<'a> Wire<'a> for $type {
            const SHAPE: Shape = Shape::$shape;

            #[inline]
            fn read(reader: &mut Reader<'a>, _: Format) -> Result<Self, DecodeError> {
                Ok(<$type>::from_be_bytes(reader.array()?))
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>, _: Format) {
                writer.put(&self.to_be_bytes());
            }

            fn bytes_min(_: Format) -> usize {
                $width
            }

            fn skip(count: usize, reader: &mut Reader<'a>, _: Format) -> Result<(), DecodeError> {
                reader.take(count * $width).map(drop)
            }
        }
        const _: () = assert!(size_of::<$type>() == $width);
    )+};
}

fixed_width! {
    i8, Int8, 1;
    i16, Int16, 2;
    i32, Int32, 4;
    i64, Int64, 8;
}

impl<'a> Wire<'a> for bool {
    const SHAPE: Shape = Shape::Bool;

    fn read(reader: &mut Reader<'a>, _: Format) -> Result<Self, DecodeError> {
        let [byte] = reader.array()?;
        Ok(byte != 0)
    }

    fn write(&self, writer: &mut Writer<'_>, _: Format) {
        writer.put(&[u8::from(*self)]);
    }

    fn bytes_min(_: Format) -> usize {
        1
    }
}

impl<'a> Wire<'a> for Uuid {
    const SHAPE: Shape = Shape::Uuid;

    fn read(reader: &mut Reader<'a>, _: Format) -> Result<Self, DecodeError> {
        Ok(Uuid(reader.array()?))
    }

    fn write(&self, writer: &mut Writer<'_>, _: Format) {
        writer.put(&self.0);
    }

    fn bytes_min(_: Format) -> usize {
        16
    }
}

/// `read` of a type whose null is refused.
fn not_null<'a, T: Nullable<'a>>(reader: &mut Reader<'a>, format: Format) -> Result<T, DecodeError> {
    match T::read_nullable(reader, format)? {
        Some(value) => Ok(value),
        None => Err(reader.error(Fault::Null)),
    }
}

impl<'a> Wire<'a> for &'a str {
    const SHAPE: Shape = Shape::String;

    fn read(reader: &mut Reader<'a>, format: Format) -> Result<Self, DecodeError> {
        not_null(reader, format)
    }

    fn write(&self, writer: &mut Writer<'_>, format: Format) {
        writer.put_str(Some(self), format.flexible);
    }

    fn bytes_min(format: Format) -> usize {
        if format.flexible { 1 } else { 2 }
    }
}

impl<'a> Nullable<'a> for &'a str {
    fn read_nullable(reader: &mut Reader<'a>, format: Format) -> Result<Option<Self>, DecodeError> {
        if !format.flexible {
            return reader.classic_nullable_str();
        }
        match reader.compact_length()? {
            None => Ok(None),
            Some(length) => Ok(Some(reader.utf8(length)?)),
        }
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer<'_>, format: Format) {
        writer.put_str(value.copied(), format.flexible);
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    const SHAPE: Shape = Shape::Bytes;

    fn read(reader: &mut Reader<'a>, format: Format) -> Result<Self, DecodeError> {
        not_null(reader, format)
    }

    fn write(&self, writer: &mut Writer<'_>, format: Format) {
        put_length(Some(self.len()), writer, format);
        writer.put(self);
    }

    fn bytes_min(format: Format) -> usize {
        long_length_bytes(format)
    }
}

impl<'a> Nullable<'a> for &'a [u8] {
    fn read_nullable(reader: &mut Reader<'a>, format: Format) -> Result<Option<Self>, DecodeError> {
        match length(reader, format)? {
            None => Ok(None),
            Some(length) => Ok(Some(reader.take(length)?)),
        }
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer<'_>, format: Format) {
        match value {
            Some(bytes) => bytes.write(writer, format),
            None => put_length(None, writer, format),
        }
    }
}

/// The length of bytes or records, or the count of an array; `None` for null.
pub(super) fn length(reader: &mut Reader<'_>, format: Format) -> Result<Option<usize>, DecodeError> {
    if format.flexible { reader.compact_length() } else { reader.long_length() }
}

pub(super) fn put_length(length: Option<usize>, writer: &mut Writer<'_>, format: Format) {
    if format.flexible { writer.put_compact_length(length) } else { writer.put_long_length(length) }
}

pub(super) fn long_length_bytes(format: Format) -> usize {
    if format.flexible { 1 } else { 4 }
}

/// A type that reads as a view of another and differs only in what it can be written from.
macro_rules! reads_as {
    ($type:ident, $view:ty, |$value:ident, $writer:ident, $format:ident| $write:expr) => {
        impl<'a> Wire<'a> for $type<'a> {
            const SHAPE: Shape = <$view as Wire<'a>>::SHAPE;

            fn read(reader: &mut Reader<'a>, format: Format) -> Result<Self, DecodeError> {
                <$view>::read(reader, format).map($type::Borrowed)
            }

            fn write(&self, $writer: &mut Writer<'_>, $format: Format) {
                let $value = self;
                $write
            }

            fn bytes_min(format: Format) -> usize {
                <$view as Wire<'a>>::bytes_min(format)
            }
        }

        impl<'a> Nullable<'a> for $type<'a> {
            fn read_nullable(reader: &mut Reader<'a>, format: Format) -> Result<Option<Self>, DecodeError> {
                Ok(<$view>::read_nullable(reader, format)?.map($type::Borrowed))
            }

            fn write_nullable(value: Option<&Self>, writer: &mut Writer<'_>, format: Format) {
                match value {
                    Some(value) => value.write(writer, format),
                    None => <$view>::write_nullable(None, writer, format),
                }
            }
        }
    };
}

reads_as!(Str, &'a str, |text, writer, format| writer.put_str(Some(text), format.flexible));
reads_as!(Blob, &'a [u8], |bytes, writer, format| (&**bytes).write(writer, format));
reads_as!(Records, &'a [u8], |records, writer, format| {
    put_length(Some(records.len()), writer, format);
    match records {
        Records::Borrowed(bytes) => writer.put(bytes),
        Records::Slices(slices) => writer.put_slices(slices),
        Records::Elsewhere { bytes, parts } => writer.leave_out(*bytes, *parts),
    }
});
