//! From keys and values to bytes.

use std::error::Error;

/// Why a serializer did not want a value.
pub type SerializeError = Box<dyn Error + Send + Sync>;

/// Turns keys or values of type `T` into bytes.
pub trait Serializer<T: ?Sized>: Send + Sync {
    /// The bytes of `value`, a part of it or written to `scratch`, which is empty. What it says of errors, and its panics,
    /// become the error of that one record.
    fn serialize<'v>(
        &self,
        topic: &str,
        value: &'v T,
        scratch: &'v mut Vec<u8>,
    ) -> Result<&'v [u8], SerializeError>;
}

/// Bytes as they are.
#[derive(Clone, Copy, Default, Debug)]
pub struct BytesSerializer;

/// Text as UTF-8.
#[derive(Clone, Copy, Default, Debug)]
pub struct StringSerializer;

/// Whatever serde can write, as JSON.
#[derive(Clone, Copy, Default, Debug)]
pub struct JsonSerializer;

impl Serializer<[u8]> for BytesSerializer {
    fn serialize<'v>(
        &self,
        _: &str,
        value: &'v [u8],
        _: &'v mut Vec<u8>,
    ) -> Result<&'v [u8], SerializeError> {
        Ok(value)
    }
}

impl Serializer<str> for StringSerializer {
    fn serialize<'v>(&self, _: &str, value: &'v str, _: &'v mut Vec<u8>) -> Result<&'v [u8], SerializeError> {
        Ok(value.as_bytes())
    }
}

impl<T: serde::Serialize + ?Sized> Serializer<T> for JsonSerializer {
    fn serialize<'v>(
        &self,
        _: &str,
        value: &'v T,
        scratch: &'v mut Vec<u8>,
    ) -> Result<&'v [u8], SerializeError> {
        serde_json::to_writer(&mut *scratch, value)?;
        Ok(scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_bytes() {
        let mut scratch = Vec::new();
        assert_eq!(BytesSerializer.serialize("t", &b"\0\xff"[..], &mut scratch).unwrap(), b"\0\xff");
        assert_eq!(StringSerializer.serialize("t", "é", &mut Vec::new()).unwrap(), "é".as_bytes());
        let map = std::collections::BTreeMap::from([("a", 1)]);
        assert_eq!(JsonSerializer.serialize("t", &map, &mut Vec::new()).unwrap(), br#"{"a":1}"#);
        // JSON has no keys but texts.
        let odd = std::collections::BTreeMap::from([((1, 2), 1)]);
        assert!(JsonSerializer.serialize("t", &odd, &mut Vec::new()).is_err());
    }
}
