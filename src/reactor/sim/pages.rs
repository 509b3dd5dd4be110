//! Bytes of a file that copies share, page by page, until one of them changes: what lets a crash be tried at every moment
//! without running up to it again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::disk::SECTOR_BYTES;

const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// A page that was never written is not there and reads as zeros. Behind the length every byte is zero.
#[derive(Clone, Default)]
pub struct Pages {
    pages: Vec<Option<Arc<Page>>>,
    length: u64,
}

/// The parts of `position..position + length` that lie in one page each: page, place in it, place in the range, bytes.
fn parts(position: u64, length: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let start = position as usize;
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < length).then(|| {
            let (page, within) = ((start + done) / PAGE_BYTES, (start + done) % PAGE_BYTES);
            let count = (PAGE_BYTES - within).min(length - done);
            let part = (page, within, done, count);
            done += count;
            part
        })
    })
}

impl Pages {
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Cuts, or grows with zeros.
    pub fn resize(&mut self, length: u64) {
        if length < self.length {
            let within = length as usize % PAGE_BYTES;
            if within > 0
                && let Some(page) = &mut self.pages[length as usize / PAGE_BYTES]
            {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.pages.resize((length as usize).div_ceil(PAGE_BYTES), None);
        self.length = length;
    }

    /// Reads what there is; returns the bytes read.
    pub fn read(&self, position: u64, into: &mut [u8]) -> usize {
        let length = into.len().min(self.length.saturating_sub(position) as usize);
        for (page, within, done, count) in parts(position, length) {
            let into = &mut into[done..done + count];
            match &self.pages[page] {
                Some(page) => into.copy_from_slice(&page[within..within + count]),
                None => into.fill(0),
            }
        }
        length
    }

    /// Panics: beyond the end.
    pub fn write(&mut self, position: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len() as u64;
        assert!(end <= self.length, "a write up to {end} into {} bytes", self.length);
        for (page, within, done, count) in parts(position, bytes.len()) {
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within..within + count].copy_from_slice(&bytes[done..done + count]);
        }
    }

    /// Takes one sector from where it is in `other`, as far as both reach.
    pub fn copy_sector(&mut self, sector: u64, other: &Pages) {
        self.copy_sector_to(sector, sector, other);
    }

    /// Takes sector `from` of `other` as this one's sector `to`.
    pub fn copy_sector_to(&mut self, to: u64, from: u64, other: &Pages) {
        let mut bytes = [0; SECTOR_BYTES as usize];
        let read = other.read(from * SECTOR_BYTES, &mut bytes);
        let position = to * SECTOR_BYTES;
        let length = read.min(self.length.saturating_sub(position) as usize);
        self.write(position, &bytes[..length]);
    }

    pub fn flip_bit(&mut self, position: u64, bit: u8) {
        let mut byte = [0];
        if self.read(position, &mut byte) == 1 {
            self.write(position, &[byte[0] ^ 1 << (bit % 8)]);
        }
    }
}

impl Hash for Pages {
    /// Equal bytes hash alike, whether zeros were written or not.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.length.hash(state);
        for (number, page) in self.pages.iter().enumerate() {
            if let Some(page) = page
                && **page != [0; PAGE_BYTES]
            {
                number.hash(state);
                state.write(&**page);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(pages: &Pages) -> Vec<u8> {
        let mut bytes = vec![9; pages.len() as usize + 3];
        let read = pages.read(0, &mut bytes);
        bytes.truncate(read);
        bytes
    }

    fn of(content: &[u8]) -> Pages {
        let mut pages = Pages::default();
        pages.resize(content.len() as u64);
        pages.write(0, content);
        pages
    }

    #[test]
    fn bytes_cut_off_are_zeros_after_growth() {
        let mut pages = of(&[7; 10_000]);
        pages.resize(5_000);
        pages.resize(9_000);
        assert_eq!(bytes(&pages), [vec![7; 5_000], vec![0; 4_000]].concat());
    }

    #[test]
    fn a_copy_keeps_what_the_other_changes() {
        let mut pages = of(&[1; 9_000]);
        let copy = pages.clone();
        pages.write(4_090, &[2; 10]);
        assert_eq!(bytes(&copy), [1; 9_000]);
        assert_eq!(bytes(&pages)[4_089..4_101], [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
    }

    #[test]
    fn a_sector_is_copied_as_far_as_both_reach() {
        let check = |target: usize, source: usize, expected: usize| {
            let mut pages = of(&vec![1; target]);
            pages.copy_sector(1, &of(&vec![2; source]));
            assert_eq!(
                bytes(&pages).iter().filter(|byte| **byte == 2).count(),
                expected,
                "{target} {source}"
            );
        };
        check(2_000, 2_000, 512);
        check(600, 2_000, 88);
        check(2_000, 700, 188);
        check(100, 2_000, 0);
        check(2_000, 100, 0);
    }

    #[test]
    fn zeros_hash_alike_written_or_not() {
        let hash = |pages: &Pages| {
            let mut state = rustc_hash::FxHasher::default();
            pages.hash(&mut state);
            state.finish()
        };
        let mut grown = Pages::default();
        grown.resize(9_000);
        assert_eq!(hash(&grown), hash(&of(&[0; 9_000])));
        assert_ne!(hash(&grown), hash(&of(&[0; 9_001])));
        assert_ne!(hash(&grown), hash(&of(&[1; 9_000])));
    }
}
