//! Vectors that are used again: lists of slices go with every send and every write, and none is made for it.

use std::cell::RefCell;

use bytes::Bytes;

/// Vectors that are kept; more are freed.
const KEPT_VECTORS_MAX: usize = 1024;

/// A longer vector is freed: it was made for something rare.
const KEPT_ELEMENTS_MAX: usize = 256;

/// Vectors without a user, to be used again.
pub struct Spares<T> {
    kept: RefCell<Vec<Vec<T>>>,
}

impl<T> Default for Spares<T> {
    fn default() -> Spares<T> {
        Spares::new()
    }
}

impl<T> Spares<T> {
    pub const fn new() -> Spares<T> {
        Spares { kept: RefCell::new(Vec::new()) }
    }

    /// An empty vector.
    pub fn take(&self) -> Vec<T> {
        self.kept.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a vector for its next user, without what is in it.
    pub fn keep(&self, mut vector: Vec<T>) {
        vector.clear();
        let is_usual = (1..=KEPT_ELEMENTS_MAX).contains(&vector.capacity());
        let mut kept = self.kept.borrow_mut();
        if is_usual && kept.len() < KEPT_VECTORS_MAX {
            kept.push(vector);
        }
    }
}

thread_local! {
    static SLICES: Spares<Bytes> = const { Spares::new() };
}

/// An empty list for an operation, with room for as many slices as are usual.
pub fn spare_slices() -> Vec<Bytes> {
    let mut slices = SLICES.with(Spares::take);
    slices.reserve_exact(KEPT_ELEMENTS_MAX);
    slices
}

/// Keeps the list of an operation that has ended for the next one.
pub fn keep_slices(slices: Vec<Bytes>) {
    // Without the list (the thread ends) it is freed.
    let _ = SLICES.try_with(|kept| kept.keep(slices));
}

/// An empty vector in the memory of another, whose elements go. Both have elements of the same size, or it is new memory.
pub fn recycle<A, B>(mut vector: Vec<A>) -> Vec<B> {
    vector.clear();
    vector.into_iter().map(|_| unreachable!("it was cleared")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_used_again_without_what_was_in_it() {
        let mut first = spare_slices();
        first.extend([Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        let address = first.as_ptr();
        keep_slices(first);
        let second = spare_slices();
        assert!(second.is_empty());
        assert_eq!(second.as_ptr(), address);
    }

    #[test]
    fn a_recycled_vector_keeps_its_memory() {
        let text = String::from("lent");
        let borrowed: Vec<&str> = vec![&text];
        let address = borrowed.as_ptr().addr();
        let mut owned: Vec<&'static str> = recycle(borrowed);
        drop(text);
        owned.push("static");
        assert_eq!(owned.as_ptr().addr(), address);
    }
}
