//! Strings, bytes and records of responses: borrowed, shared or owned, so that a handler hands over what it has.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// A string in a response: decoded ones borrow from the frame; a handler gives a `&str`, an `Arc<str>` (a topic name of
/// the metadata image costs a reference count) or a `String`, each by `into()`. Reads as `str`.
#[derive(Clone)]
pub enum Str<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
    Owned(String),
}

impl Str<'_> {
    pub const EMPTY: Str<'static> = Str::Borrowed("");

    pub fn as_str(&self) -> &str {
        match self {
            Str::Borrowed(text) => text,
            Str::Shared(text) => text,
            Str::Owned(text) => text,
        }
    }

    /// The same text without a borrow.
    pub fn into_owned(self) -> Str<'static> {
        match self {
            Str::Borrowed(text) => Str::Owned(text.to_owned()),
            Str::Shared(text) => Str::Shared(text),
            Str::Owned(text) => Str::Owned(text),
        }
    }
}

impl Default for Str<'_> {
    fn default() -> Self {
        Str::EMPTY
    }
}

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(text: &'a str) -> Self {
        Str::Borrowed(text)
    }
}

impl From<String> for Str<'_> {
    fn from(text: String) -> Self {
        Str::Owned(text)
    }
}

impl<'a> From<&'a String> for Str<'a> {
    fn from(text: &'a String) -> Self {
        Str::Borrowed(text)
    }
}

impl From<Arc<str>> for Str<'_> {
    fn from(text: Arc<str>) -> Self {
        Str::Shared(text)
    }
}

impl From<&Arc<str>> for Str<'_> {
    fn from(text: &Arc<str>) -> Self {
        Str::Shared(Arc::clone(text))
    }
}

impl<'a> From<Cow<'a, str>> for Str<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Str::Borrowed(text),
            Cow::Owned(text) => Str::Owned(text),
        }
    }
}

impl PartialEq for Str<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Str<'_> {}

impl PartialEq<str> for Str<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// Opaque bytes in a response, such as a member's assignment. Reads as `[u8]`.
#[derive(Clone)]
pub enum Blob<'a> {
    Borrowed(&'a [u8]),
    Shared(Bytes),
}

impl Blob<'_> {
    pub const EMPTY: Blob<'static> = Blob::Borrowed(&[]);
}

impl Default for Blob<'_> {
    fn default() -> Self {
        Blob::EMPTY
    }
}

impl Deref for Blob<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Blob::Borrowed(bytes) => bytes,
            Blob::Shared(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Blob<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Blob::Borrowed(bytes)
    }
}

impl From<Bytes> for Blob<'_> {
    fn from(bytes: Bytes) -> Self {
        Blob::Shared(bytes)
    }
}

impl From<Vec<u8>> for Blob<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Blob::Shared(Bytes::from(bytes))
    }
}

impl PartialEq for Blob<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Blob<'_> {}

impl fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// Record batches in a fetch response: one view of the frame when decoded, a list of slices of the log when encoded.
/// The slices go to the socket from where they lie (`frame::response_slices`).
#[derive(Clone)]
pub enum Records<'a> {
    Borrowed(&'a [u8]),
    Slices(Vec<Bytes>),
    /// Bytes that are not in memory of ours, in so many parts: an empty piece of the frame marks the place of each. Only to be
    /// encoded in slices.
    Elsewhere {
        bytes: usize,
        parts: usize,
    },
}

impl<'a> Records<'a> {
    /// No records: a length of zero on the wire. Clients want that, and not null, where nothing is to be had.
    pub const EMPTY: Records<'static> = Records::Borrowed(&[]);

    /// The number of bytes over all slices.
    pub fn len(&self) -> usize {
        match self {
            Records::Borrowed(bytes) => bytes.len(),
            Records::Slices(slices) => slices.iter().map(Bytes::len).sum(),
            Records::Elsewhere { bytes, .. } => *bytes,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece: free for decoded records, a copy for several slices.
    pub fn to_contiguous(&self) -> Cow<'_, [u8]> {
        match self {
            Records::Borrowed(bytes) => Cow::Borrowed(bytes),
            Records::Slices(slices) => match slices.as_slice() {
                [] => Cow::Borrowed(&[]),
                [one] => Cow::Borrowed(one),
                many => Cow::Owned(many.concat()),
            },
            Records::Elsewhere { .. } => panic!("records that are elsewhere cannot be looked at"),
        }
    }
}

impl Default for Records<'_> {
    fn default() -> Self {
        Records::EMPTY
    }
}

impl<'a> From<&'a [u8]> for Records<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Records::Borrowed(bytes)
    }
}

impl From<Bytes> for Records<'_> {
    fn from(slice: Bytes) -> Self {
        Records::Slices(vec![slice])
    }
}

impl From<Vec<Bytes>> for Records<'_> {
    fn from(slices: Vec<Bytes>) -> Self {
        Records::Slices(slices)
    }
}

impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.to_contiguous() == other.to_contiguous()
    }
}

impl Eq for Records<'_> {}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of records", self.len())
    }
}
