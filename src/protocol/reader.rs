//! Reads primitives from one frame. Every length is checked against the bytes left before anything is taken or made.

use std::fmt;

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The frame ends inside a value.
    Truncated { wanted: usize, left: usize },
    /// A count of elements that the bytes left cannot hold.
    CountBeyondFrame { count: u64, left: usize },
    /// A length or count below zero that is not the null of this type.
    NegativeLength(i64),
    /// A string longer than 32,767 bytes; Kafka's limit in the compact form too.
    StringTooLong(usize),
    /// Null where this version has none.
    Null,
    /// Kafka replaces broken UTF-8; we refuse it, since a name that was changed on the way names something else.
    NotUtf8,
    /// A varint of more than 32 bits.
    VarintOverflow,
    /// A known tagged field shorter or longer than its announced size.
    TagSize { tag: u32 },
    /// A version that we do not serve; there is no layout to read by.
    UnsupportedVersion { api_key: i16, version: i16 },
}

/// Bytes of a peer that are no valid message: what is wrong, in which field, at which byte of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    pub fault: Fault,
    /// `Struct.field`; empty while no field is known.
    pub field: &'static str,
    /// Counted from the frame's first byte after its length prefix.
    pub position: usize,
}

impl DecodeError {
    /// Names the innermost field; the outer ones find it named already.
    #[cold]
    pub(super) fn in_field(mut self, field: &'static str) -> DecodeError {
        if self.field.is_empty() {
            self.field = field;
        }
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        match self.fault {
            Fault::Truncated { wanted, left } => write!(f, "{wanted} bytes wanted, {left} left")?,
            Fault::CountBeyondFrame { count, left } => {
                write!(f, "{count} elements announced in {left} bytes")?
            }
            Fault::NegativeLength(length) => write!(f, "length {length}")?,
            Fault::StringTooLong(length) => write!(f, "string of {length} bytes")?,
            Fault::Null => write!(f, "null where none is allowed")?,
            Fault::NotUtf8 => write!(f, "string is not UTF-8")?,
            Fault::VarintOverflow => write!(f, "varint of more than 32 bits")?,
            Fault::TagSize { tag } => write!(f, "tagged field {tag} does not have its announced size")?,
            Fault::UnsupportedVersion { api_key, version } => {
                write!(f, "api {api_key} version {version} is not served")?
            }
        }
        write!(f, " (byte {})", self.position)
    }
}

impl std::error::Error for DecodeError {}

/// A cursor over one frame. All it gives out borrows from the frame; it never allocates.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub fn new(frame: &'a [u8]) -> Reader<'a> {
        Reader { left: frame, position: 0 }
    }

    /// The bytes not read yet. Kafka ignores what follows a request's last field, and so do we.
    pub fn remaining(&self) -> &'a [u8] {
        self.left
    }

    /// Bytes read so far, counted from the frame's start.
    pub fn position(&self) -> usize {
        self.position
    }

    #[cold]
    pub(super) fn error(&self, fault: Fault) -> DecodeError {
        DecodeError { fault, field: "", position: self.position }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        match self.left.split_at_checked(count) {
            Some((taken, left)) => {
                self.left = left;
                self.position += count;
                Ok(taken)
            }
            None => Err(self.error(Fault::Truncated { wanted: count, left: self.left.len() })),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.left.split_first_chunk::<N>() {
            Some((taken, left)) => {
                self.left = left;
                self.position += N;
                Ok(*taken)
            }
            None => Err(self.error(Fault::Truncated { wanted: N, left: self.left.len() })),
        }
    }

    /// An unsigned varint of at most five bytes, seven bits in each, lowest first.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(self.error(Fault::VarintOverflow));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error(Fault::VarintOverflow))
    }

    /// A length in the compact form: n + 1 as varint, 0 for null.
    pub(super) fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize))
    }

    /// A length in the classic 16-bit form: -1 for null.
    pub(super) fn short_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = i16::from_be_bytes(self.array()?);
        self.classic_length(i64::from(length))
    }

    /// A length in the classic 32-bit form: -1 for null.
    pub(super) fn long_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = i32::from_be_bytes(self.array()?);
        self.classic_length(i64::from(length))
    }

    fn classic_length(&self, length: i64) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            ..-1 => Err(self.error(Fault::NegativeLength(length))),
            0.. => Ok(Some(length as usize)),
        }
    }

    pub(super) fn utf8(&mut self, length: usize) -> Result<&'a str, DecodeError> {
        if length > i16::MAX as usize {
            return Err(self.error(Fault::StringTooLong(length)));
        }
        let start = self.clone();
        std::str::from_utf8(self.take(length)?).map_err(|_invalid| start.error(Fault::NotUtf8))
    }

    /// A string with a 16-bit length whatever the version; the client id of a request header is one.
    pub(super) fn classic_nullable_str(&mut self) -> Result<Option<&'a str>, DecodeError> {
        match self.short_length()? {
            None => Ok(None),
            Some(length) => Ok(Some(self.utf8(length)?)),
        }
    }

    /// The next tagged field of `left`, counted down. `None` after the last.
    pub(super) fn tagged_field(&mut self, left: &mut u32) -> Result<Option<(u32, Reader<'a>)>, DecodeError> {
        if *left == 0 {
            return Ok(None);
        }
        *left -= 1;
        let tag = self.uvarint()?;
        let size = self.uvarint()? as usize;
        let position = self.position;
        let field = Reader { left: self.take(size)?, position };
        Ok(Some((tag, field)))
    }

    /// How many tagged fields follow; each takes two bytes at least.
    pub(super) fn tagged_field_count(&mut self) -> Result<u32, DecodeError> {
        let count = self.uvarint()?;
        if count as usize > self.left.len() / 2 {
            return Err(
                self.error(Fault::CountBeyondFrame { count: u64::from(count), left: self.left.len() })
            );
        }
        Ok(count)
    }

    /// Checks that a known tagged field was read to its end.
    pub(super) fn end_of_tagged_field(&self, tag: u32) -> Result<(), DecodeError> {
        if self.left.is_empty() { Ok(()) } else { Err(self.error(Fault::TagSize { tag })) }
    }

    /// Skips a section of tagged fields of which none is known.
    pub(super) fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        let mut left = self.tagged_field_count()?;
        while self.tagged_field(&mut left)?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_hold_32_bits_and_no_more() {
        let check = |bytes: &[u8], expected: Result<u32, Fault>| {
            assert_eq!(Reader::new(bytes).uvarint().map_err(|e| e.fault), expected, "{bytes:x?}");
        };
        check(&[0], Ok(0));
        check(&[0x7f], Ok(127));
        check(&[0x80, 0x01], Ok(128));
        check(&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX));
        check(&[0xff, 0xff, 0xff, 0xff, 0x10], Err(Fault::VarintOverflow));
        check(&[0xff, 0xff, 0xff, 0xff, 0x8f], Err(Fault::VarintOverflow));
        check(&[0x80], Err(Fault::Truncated { wanted: 1, left: 0 }));
    }

    #[test]
    fn lengths_below_minus_one_are_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff]).short_length(), Ok(None));
        assert_eq!(Reader::new(&[0xff, 0xfe]).short_length().unwrap_err().fault, Fault::NegativeLength(-2));
        let i32_min = i32::MIN.to_be_bytes();
        let fault = Reader::new(&i32_min).long_length().unwrap_err().fault;
        assert_eq!(fault, Fault::NegativeLength(i64::from(i32::MIN)));
    }

    #[test]
    fn more_tagged_fields_than_bytes_are_refused() {
        let fault =
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]).skip_tagged_fields().unwrap_err().fault;
        assert_eq!(fault, Fault::CountBeyondFrame { count: u64::from(u32::MAX), left: 2 });
    }
}
