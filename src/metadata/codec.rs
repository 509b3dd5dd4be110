//! Bytes of metadata records: big-endian integers, LEB128 lengths. Reading is bounded by the bytes that are there.

use std::sync::Arc;

use super::records::DecodeError;
use crate::model::Uuid;

/// Appends values to a buffer.
#[derive(Default)]
pub(super) struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.bytes.extend_from_slice(&value.0);
    }

    /// LEB128: seven bits a byte, lowest first, the top bit set on all but the last.
    pub fn count(&mut self, value: usize) {
        let mut value = u32::try_from(value).expect("records are bounded far below 4 GiB");
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub fn text(&mut self, value: &str) {
        self.count(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// A byte that says whether the text follows.
    pub fn optional_text(&mut self, value: Option<&str>) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            self.text(value);
        }
    }
}

/// Takes values off the front of a slice.
pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.array()?))
    }

    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::BadFlag(other)),
        }
    }

    /// A count of elements of at least one byte each: more than the bytes left is an error before anything is allocated.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let mut value: u64 = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return match usize::try_from(value) {
                    Ok(count) if count <= self.bytes.len() => Ok(count),
                    _ => Err(DecodeError::Truncated),
                };
            }
        }
        Err(DecodeError::LongCount)
    }

    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let count = self.count()?;
        std::str::from_utf8(self.take(count)?).map_err(DecodeError::NotUtf8)
    }

    pub fn shared_text(&mut self) -> Result<Arc<str>, DecodeError> {
        Ok(Arc::from(self.text()?))
    }

    pub fn optional_text(&mut self) -> Result<Option<&'a str>, DecodeError> {
        if self.flag()? { Ok(Some(self.text()?)) } else { Ok(None) }
    }

    /// Nothing may be left over.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(self.bytes.len())) }
    }
}
