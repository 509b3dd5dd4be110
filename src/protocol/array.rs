//! Arrays that allocate nothing when decoded.

use std::fmt;
use std::marker::PhantomData;

use crate::protocol::codec::{Format, Nullable, Wire, length, long_length_bytes, put_length};
use crate::protocol::reader::{DecodeError, Fault, Reader};
use crate::protocol::shape::Shape;
use crate::protocol::writer::Writer;

/// Elements of a message: a checked view of the frame when decoded, a `Vec` or a slice when composed.
///
/// Decoding walks the elements once and keeps only where they lie; `iter` reads them again, one by one, which cannot
/// fail. So a request of any size takes no memory beyond its frame, at the price of a second walk. The walk steps over
/// record batches and strings without touching their bytes (strings are checked for UTF-8).
///
/// A handler composes with `vec.into()`, `slice.into()` or `collect()`.
#[derive(Clone)]
pub enum Array<'a, T> {
    View(View<'a, T>),
    Slice(&'a [T]),
    Owned(Vec<T>),
}

/// Where `count` elements lie in the frame; made only by a decoder that has read them all.
pub struct View<'a, T> {
    elements: Reader<'a>,
    count: usize,
    format: Format,
    element: PhantomData<fn() -> T>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        View { elements: self.elements.clone(), count: self.count, format: self.format, element: PhantomData }
    }
}

impl<'a, T> Array<'a, T> {
    pub const EMPTY: Array<'a, T> = Array::Owned(Vec::new());

    pub fn len(&self) -> usize {
        match self {
            Array::View(view) => view.count,
            Array::Slice(elements) => elements.len(),
            Array::Owned(elements) => elements.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Wire<'a> + Clone> Array<'a, T> {
    /// The elements by value: read from the frame, or cloned if the array was composed. Each call walks from the start;
    /// there is no way to an element by its index.
    pub fn iter(&self) -> Iter<'_, 'a, T> {
        match self {
            Array::View(view) => Iter::View(view.clone()),
            Array::Slice(elements) => Iter::Slice(elements.iter()),
            Array::Owned(elements) => Iter::Slice(elements.iter()),
        }
    }

    pub fn first(&self) -> Option<T> {
        self.iter().next()
    }

    pub fn to_vec(&self) -> Vec<T> {
        self.iter().collect()
    }
}

impl<'a, T: Wire<'a>> View<'a, T> {
    fn next(&mut self) -> Option<T> {
        self.count = self.count.checked_sub(1)?;
        Some(
            T::read(&mut self.elements, self.format)
                .expect("the same bytes were read without error when decoded"),
        )
    }
}

/// The elements of an `Array`, by value.
pub enum Iter<'s, 'a, T> {
    View(View<'a, T>),
    Slice(std::slice::Iter<'s, T>),
    Owned(std::vec::IntoIter<T>),
}

impl<'a, T: Wire<'a> + Clone> Iterator for Iter<'_, 'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Iter::View(view) => view.next(),
            Iter::Slice(elements) => elements.next().cloned(),
            Iter::Owned(elements) => elements.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self {
            Iter::View(view) => view.count,
            Iter::Slice(elements) => elements.len(),
            Iter::Owned(elements) => elements.len(),
        };
        (left, Some(left))
    }
}

impl<'a, T: Wire<'a> + Clone> ExactSizeIterator for Iter<'_, 'a, T> {}

impl<'s, 'a, T: Wire<'a> + Clone> IntoIterator for &'s Array<'a, T> {
    type Item = T;
    type IntoIter = Iter<'s, 'a, T>;

    fn into_iter(self) -> Iter<'s, 'a, T> {
        self.iter()
    }
}

impl<'a, T: Wire<'a> + Clone> IntoIterator for Array<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, 'a, T>;

    fn into_iter(self) -> Iter<'a, 'a, T> {
        match self {
            Array::View(view) => Iter::View(view),
            Array::Slice(elements) => Iter::Slice(elements.iter()),
            Array::Owned(elements) => Iter::Owned(elements.into_iter()),
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Array<'a, T> {
    const SHAPE: Shape = Shape::Array(&T::SHAPE);

    fn read(reader: &mut Reader<'a>, format: Format) -> Result<Self, DecodeError> {
        match Self::read_nullable(reader, format)? {
            Some(array) => Ok(array),
            None => Err(reader.error(Fault::Null)),
        }
    }

    fn write(&self, writer: &mut Writer<'_>, format: Format) {
        put_length(Some(self.len()), writer, format);
        let elements = match self {
            Array::View(view) => {
                let mut view = view.clone();
                while let Some(element) = view.next() {
                    element.write(writer, format);
                }
                return;
            }
            Array::Slice(elements) => elements,
            Array::Owned(elements) => elements.as_slice(),
        };
        for element in elements {
            element.write(writer, format);
        }
    }

    fn bytes_min(format: Format) -> usize {
        long_length_bytes(format)
    }
}

impl<'a, T: Wire<'a>> Nullable<'a> for Array<'a, T> {
    fn read_nullable(reader: &mut Reader<'a>, format: Format) -> Result<Option<Self>, DecodeError> {
        let Some(count) = length(reader, format)? else {
            return Ok(None);
        };
        let left = reader.remaining().len();
        let bytes_min = T::bytes_min(format);
        assert!(bytes_min > 0, "elements without bytes would make any count true");
        if count > left / bytes_min {
            return Err(reader.error(Fault::CountBeyondFrame { count: count as u64, left }));
        }
        let elements = reader.clone();
        T::skip(count, reader, format)?;
        Ok(Some(Array::View(View { elements, count, format, element: PhantomData })))
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer<'_>, format: Format) {
        match value {
            Some(array) => array.write(writer, format),
            None => put_length(None, writer, format),
        }
    }
}

impl<T> Default for Array<'_, T> {
    fn default() -> Self {
        Array::EMPTY
    }
}

impl<T> From<Vec<T>> for Array<'_, T> {
    fn from(elements: Vec<T>) -> Self {
        Array::Owned(elements)
    }
}

impl<'a, T> From<&'a [T]> for Array<'a, T> {
    fn from(elements: &'a [T]) -> Self {
        Array::Slice(elements)
    }
}

impl<'a, T, const N: usize> From<[T; N]> for Array<'a, T> {
    fn from(elements: [T; N]) -> Self {
        Array::Owned(elements.into())
    }
}

impl<T> FromIterator<T> for Array<'_, T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Array::Owned(elements.into_iter().collect())
    }
}

impl<'a, T: Wire<'a> + Clone + PartialEq> PartialEq for Array<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<'a, T: Wire<'a> + Clone + fmt::Debug> fmt::Debug for Array<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    const CLASSIC: Format = Format { version: 0, flexible: false };
    const FLEXIBLE: Format = Format { version: 9, flexible: true };

    #[test]
    fn views_slices_and_vectors_are_the_same_array() {
        let names = ["a", "", "long enough"];
        for format in [CLASSIC, FLEXIBLE] {
            let owned: Array<&str> = names.into();
            let mut out = BytesMut::new();
            owned.write(&mut Writer::contiguous(&mut out), format);
            let mut reader = Reader::new(&out);
            let view = Array::<&str>::read(&mut reader, format).unwrap();
            assert!(matches!(view, Array::View(_)) && reader.remaining().is_empty());
            assert_eq!((view.len(), view.to_vec()), (3, names.to_vec()));
            assert_eq!(view, owned);
            assert_eq!(view, Array::Slice(&names));
            assert_eq!(view.clone().into_iter().collect::<Vec<_>>(), owned.into_iter().collect::<Vec<_>>());
            let mut again = BytesMut::new();
            view.write(&mut Writer::contiguous(&mut again), format);
            assert_eq!(again, out);
        }
    }

    #[test]
    fn elements_are_checked_when_the_array_is_decoded() {
        // Two strings announced, the second is not UTF-8.
        let error =
            Array::<&str>::read(&mut Reader::new(b"\0\0\0\x02\0\x01a\0\x01\xff"), CLASSIC).unwrap_err();
        assert_eq!((error.fault, error.position), (Fault::NotUtf8, 9));
    }

    #[test]
    fn counts_are_held_against_the_smallest_elements() {
        let check = |bytes: &[u8], expected| {
            let read = Array::<i32>::read(&mut Reader::new(bytes), CLASSIC);
            assert_eq!(read.map(|array| array.to_vec()).map_err(|error| error.fault), expected, "{bytes:x?}");
        };
        check(b"\0\0\0\x01\0\0\0\x07", Ok(vec![7]));
        check(b"\0\0\0\x02\0\0\0\x07", Err(Fault::CountBeyondFrame { count: 2, left: 4 }));
        check(b"\x7f\xff\xff\xff", Err(Fault::CountBeyondFrame { count: 0x7fff_ffff, left: 0 }));
        check(b"\xff\xff\xff\xff", Err(Fault::Null));
        check(b"\xff\xff\xff\xfe", Err(Fault::NegativeLength(-2)));
    }
}
