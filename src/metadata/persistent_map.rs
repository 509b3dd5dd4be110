//! A sorted map whose clone is two pointer copies, for images that share all but what changed.
//!
//! Two levels: a vector of chunks, each a sorted vector of at most `CHUNK_MAX` entries. A change copies one chunk and the
//! vector of chunks: with 10,000 topics some 64 entries and 150 pointers, where cloning a `BTreeMap` would touch all 10,000.
//! Changes through the only holder of a map copy nothing, so that applying many records in a row stays linear.
//!
//! Invariants: no chunk is empty or longer than `CHUNK_MAX`; keys strictly grow within and across chunks.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// 128: a copied chunk stays within a few KiB; the vector of chunks passes it in length only above 8,000 entries.
const CHUNK_MAX: usize = 128;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A sorted map with cheap clones. Lookups are two binary searches.
#[derive(Clone)]
pub struct PersistentMap<K, V> {
    chunks: Arc<Vec<Chunk<K, V>>>,
    length: usize,
}

impl<K, V> Default for PersistentMap<K, V> {
    fn default() -> Self {
        PersistentMap { chunks: Arc::new(Vec::new()), length: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> PersistentMap<K, V> {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let chunk = self.chunks.get(self.chunk_of(key)?)?;
        let at = chunk.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        Some(&chunk[at].1)
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The value to change in place; copies what is shared with other maps.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let index = self.chunk_of(key)?;
        let at = self.chunks[index].binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        Some(&mut Arc::make_mut(&mut Arc::make_mut(&mut self.chunks)[index])[at].1)
    }

    /// Puts `value` in; returns what it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.is_empty() {
            chunks.push(Arc::new(vec![(key, value)]));
            self.length = 1;
            return None;
        }
        let index = chunks.partition_point(|chunk| chunk[0].0 <= key).saturating_sub(1);
        let chunk = Arc::make_mut(&mut chunks[index]);
        match chunk.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => Some(std::mem::replace(&mut chunk[at].1, value)),
            Err(at) => {
                chunk.insert(at, (key, value));
                if chunk.len() > CHUNK_MAX {
                    let upper = chunk.split_off(CHUNK_MAX / 2);
                    chunks.insert(index + 1, Arc::new(upper));
                }
                self.length += 1;
                None
            }
        }
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = self.chunk_of(key)?;
        let at = self.chunks[index].binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let (_, value) = Arc::make_mut(&mut chunks[index]).remove(at);
        self.length -= 1;
        if chunks[index].is_empty() {
            chunks.remove(index);
        } else if index + 1 < chunks.len() && chunks[index].len() + chunks[index + 1].len() <= CHUNK_MAX / 2 {
            // Joins small neighbours, so that the vector of chunks shrinks with the map.
            let upper = chunks.remove(index + 1);
            Arc::make_mut(&mut chunks[index]).extend(upper.iter().cloned());
        }
        Some(value)
    }

    /// All entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(k, v)| (k, v)))
    }

    /// The entries at or above `start`, in order.
    pub fn iter_from<Q: Ord + ?Sized>(&self, start: &Q) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        let first = self.chunk_of(start).unwrap_or(0);
        let skip =
            self.chunks.get(first).map_or(0, |chunk| chunk.partition_point(|(k, _)| k.borrow() < start));
        let rest = Range { start: first.min(self.chunks.len()), end: self.chunks.len() };
        self.chunks[rest].iter().flat_map(|chunk| chunk.iter().map(|(k, v)| (k, v))).skip(skip)
    }

    /// Calls `changed(before, after)` for each key whose value is absent on one side, or not `same` on both, in order.
    /// Chunks that the two maps share are skipped without a look inside.
    pub fn compare<'a>(
        &'a self,
        after: &'a PersistentMap<K, V>,
        same: impl Fn(&V, &V) -> bool,
        mut changed: impl FnMut(Option<&'a V>, Option<&'a V>),
    ) {
        let (mut left, mut right) = (Cursor::new(&self.chunks), Cursor::new(&after.chunks));
        loop {
            while let (Some(l), Some(r)) = (left.whole_chunk(), right.whole_chunk())
                && Arc::ptr_eq(l, r)
            {
                left.skip_chunk();
                right.skip_chunk();
            }
            let order = match (left.entry(), right.entry()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((l, _)), Some((r, _))) => l.cmp(r),
            };
            let before = if order.is_le() { left.take() } else { None };
            let after = if order.is_ge() { right.take() } else { None };
            match (before, after) {
                (Some(b), Some(a)) if same(b, a) => {}
                _ => changed(before, after),
            }
        }
    }

    /// The chunk that would hold `key`; `None` if all keys are above it.
    fn chunk_of<Q: Ord + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        self.chunks.partition_point(|chunk| chunk[0].0.borrow() <= key).checked_sub(1)
    }
}

/// A place between two entries of the chunks.
struct Cursor<'a, K, V> {
    chunks: &'a [Chunk<K, V>],
    at: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(chunks: &'a [Chunk<K, V>]) -> Self {
        Cursor { chunks, at: 0 }
    }

    /// The next chunk, if nothing of it was taken yet.
    fn whole_chunk(&self) -> Option<&'a Chunk<K, V>> {
        self.chunks.first().filter(|_| self.at == 0)
    }

    fn skip_chunk(&mut self) {
        self.chunks = &self.chunks[1..];
        self.at = 0;
    }

    fn entry(&self) -> Option<&'a (K, V)> {
        self.chunks.first().map(|chunk| &chunk[self.at])
    }

    fn take(&mut self) -> Option<&'a V> {
        let chunk = self.chunks.first()?;
        let value = &chunk[self.at].1;
        self.at += 1;
        if self.at == chunk.len() {
            self.skip_chunk();
        }
        Some(value)
    }
}

/// Equal entries; how they are cut into chunks does not count.
impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for PersistentMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for PersistentMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check_shape(map: &PersistentMap<u16, u32>) {
        assert!(map.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_MAX));
        assert!(map.iter().zip(map.iter().skip(1)).all(|((a, _), (b, _))| a < b), "keys strictly grow");
        assert_eq!(map.iter().count(), map.len());
    }

    proptest! {
        #[test]
        fn behaves_as_a_btree_map(steps in prop::collection::vec((0u16..600, any::<u32>(), 0u8..4), 0..3000)) {
            let (mut map, mut model) = (PersistentMap::default(), BTreeMap::new());
            for (key, value, action) in steps {
                match action {
                    0 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    1 => prop_assert_eq!(map.get_mut(&key), model.get_mut(&key)),
                    _ => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            check_shape(&map);
            prop_assert!(map.iter().eq(model.iter()));
            for start in [0u16, 1, 77, 300, 599, 600] {
                prop_assert!(map.iter_from(&start).eq(model.range(start..)));
            }
        }

        #[test]
        fn a_clone_keeps_its_content_and_compare_finds_the_rest(
            base in prop::collection::btree_map(0u16..900, any::<u32>(), 0..900),
            steps in prop::collection::vec((0u16..900, any::<u32>(), any::<bool>()), 0..60),
        ) {
            let mut before = PersistentMap::default();
            for (k, v) in &base {
                before.insert(*k, *v);
            }
            let mut after = before.clone();
            for (key, value, remove) in steps {
                if remove { after.remove(&key); } else { after.insert(key, value); }
            }
            prop_assert!(before.iter().eq(base.iter()), "a change of the clone does not show in the original");
            let mut found = 0;
            before.compare(&after, |a, b| a == b, |b, a| { assert_ne!(b, a); found += 1; });
            let keys: std::collections::BTreeSet<u16> = before.iter().chain(after.iter()).map(|(k, _)| *k).collect();
            let expected = keys.iter().filter(|k| before.get(*k) != after.get(*k)).count();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_change_copies_one_chunk() {
        let mut map: PersistentMap<u16, u32> = PersistentMap::default();
        for key in 0..10_000 {
            map.insert(key, 0);
        }
        let before = map.clone();
        map.insert(5_000, 1);
        let shared = map.chunks.iter().filter(|c| before.chunks.iter().any(|b| Arc::ptr_eq(b, c))).count();
        assert_eq!(shared, map.chunks.len() - 1);
    }
}
