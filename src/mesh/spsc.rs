//! A bounded ring from one shard to another: one sender, one receiver, no lock, no allocation after it is made.
//!
//! ```text
//!          head (receiver)        tail (sender, published)      written (sender, private)
//!             v                      v                             v
//!   | free .. | full full full full  | full, not yet visible ..... | free ..
//! ```
//! Invariant: `head <= tail <= written <= head + capacity`, in counters that only grow. The receiver owns the slots
//! `head..tail`, the sender owns the others; the release store of `tail` (or `head`) hands slots over, the acquire load on
//! the other side takes them.
//!
//! Sleeping is not the ring's business: a shard has many rings and one [`SleepFlag`].
#![allow(unsafe_code)]

#[cfg(corelog_loom)]
use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    },
};
use std::mem::MaybeUninit;
#[cfg(not(corelog_loom))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};

#[cfg(not(corelog_loom))]
use plain::UnsafeCell;

/// The standard cell with loom's way of access, so that one text serves both.
#[cfg(not(corelog_loom))]
mod plain {
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
            access(self.0.get())
        }
    }
}

/// A line of its own, so that the two ends do not take each other's cache line with every store.
/// 128: x86 prefetches lines in pairs, and some aarch64 cores have lines of 128 bytes.
#[repr(align(128))]
struct CacheLine<T>(T);

struct Shared<T> {
    /// Written by the receiver alone.
    head: CacheLine<AtomicUsize>,
    /// Written by the sender alone.
    tail: CacheLine<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is touched by one side at a time (the invariant at the top of this file), so sharing the ring between two
// threads only moves values of `T` from one to the other, which `T: Send` allows.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as for `Sync`; nothing in the ring is bound to the thread that made it.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, counter: usize) -> &UnsafeCell<MaybeUninit<T>> {
        // The capacity is a power of two (asserted in `channel`), so counters may wrap around.
        &self.slots[counter & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both ends are gone, and the sender published all it had written: `head..tail` are all the values there are.
        let (mut head, tail) = (self.head.0.load(Ordering::Relaxed), self.tail.0.load(Ordering::Relaxed));
        while head != tail {
            // SAFETY: the slot is in `head..tail`, so it holds a value; `&mut self` excludes any other access.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// The end that writes. Not shared: one thread at a time.
pub struct Sender<T> {
    ring: Arc<Shared<T>>,
    /// Next slot to write; ahead of the shared `tail` by what is not yet published.
    written: usize,
    published: usize,
    /// The receiver's `head` as last seen: never ahead of the truth, so at worst the ring looks too full, and then it is read anew.
    head_seen: usize,
}

/// The end that reads. Not shared: one thread at a time.
pub struct Receiver<T> {
    ring: Arc<Shared<T>>,
    head: usize,
    /// The sender's `tail` as last seen.
    tail_seen: usize,
}

/// Makes a ring for `capacity` values.
/// Panics: if `capacity` is not a power of two.
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity.is_power_of_two(), "capacity {capacity} of a ring is not a power of two");
    let ring = Arc::new(Shared {
        head: CacheLine(AtomicUsize::new(0)),
        tail: CacheLine(AtomicUsize::new(0)),
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let sender = Sender { ring: Arc::clone(&ring), written: 0, published: 0, head_seen: 0 };
    (sender, Receiver { ring, head: 0, tail_seen: 0 })
}

impl<T: Send> Sender<T> {
    /// Writes a value into the ring; the receiver sees it after [`publish`](Sender::publish).
    /// Errors: the value itself, if the ring is full.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.free() == 0 {
            return Err(value);
        }
        // SAFETY: `written - head < capacity`, so the receiver has no value in this slot and does not touch it before the
        // store of `tail` in `publish`; there is one sender, so nobody else writes it.
        self.ring.slot(self.written).with_mut(|slot| unsafe { (*slot).write(value) });
        self.written = self.written.wrapping_add(1);
        Ok(())
    }

    /// Lets the receiver see everything pushed so far. True if there was something new: then look at its [`SleepFlag`].
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.published == self.written {
            return false;
        }
        // Release: the values are written before the counter that hands them over.
        self.ring.tail.0.store(self.written, Ordering::Release);
        self.published = self.written;
        true
    }

    /// Values that fit now.
    #[inline]
    pub fn free(&mut self) -> usize {
        let capacity = self.ring.slots.len();
        if self.written.wrapping_sub(self.head_seen) == capacity {
            // Acquire: the receiver has moved its values out before the slots are written again.
            self.head_seen = self.ring.head.0.load(Ordering::Acquire);
        }
        let used = self.written.wrapping_sub(self.head_seen);
        assert!(used <= capacity, "{used} values in a ring of {capacity}");
        capacity - used
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Written values belong to the ring; publishing them is what gives them an owner who drops them.
        self.ring.tail.0.store(self.written, Ordering::Release);
    }
}

impl<T: Send> Receiver<T> {
    /// The oldest published value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: `head < tail`, so the sender wrote this slot before its release store, which `is_empty` loaded with
        // acquire; storing `head + 1` below gives the slot back only after the value has been moved out.
        let value = self.ring.slot(self.head).with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        // Release: the value is out before the sender may write the slot.
        self.ring.head.0.store(self.head, Ordering::Release);
        Some(value)
    }

    /// Nothing is published that was not popped. Reads the sender's counter only when all that was seen is popped.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        if self.head == self.tail_seen {
            // Acquire: pairs with the release in `publish`.
            self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
        }
        self.head == self.tail_seen
    }
}

/// Whether a shard sleeps and needs a doorbell. One per shard, shared with all who send to it.
///
/// ```text
/// receiver: announce()  -> all rings empty?  -> sleep; else awake()
/// sender:   publish()   -> take()?           -> ring the doorbell
/// ```
/// Both sides store, pass a sequentially consistent fence, then load what the other stored. Of two such fences one comes
/// first, so either the receiver finds the message or the sender finds the flag: a wake-up is never lost. Weaker orders
/// allow both loads to see the old values.
pub struct SleepFlag(CacheLine<AtomicBool>);

impl Default for SleepFlag {
    fn default() -> SleepFlag {
        SleepFlag::new()
    }
}

impl SleepFlag {
    pub fn new() -> SleepFlag {
        SleepFlag(CacheLine(AtomicBool::new(false)))
    }

    /// Receiver: says that it is about to sleep. It must look into all its rings once more after this, before it sleeps.
    pub fn announce(&self) {
        self.0.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Receiver: it is awake, doorbells are not needed. A doorbell already under way is harmless.
    pub fn awake(&self) {
        self.0.0.store(false, Ordering::Relaxed);
    }

    /// Sender, after `publish`: true if the receiver may sleep and this sender must wake it. One of several senders gets it.
    pub fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        // The load first: a swap would take the cache line from an awake receiver with every message.
        self.0.0.load(Ordering::Relaxed) && self.0.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(corelog_loom)))]
mod tests {
    use super::*;

    #[test]
    fn values_come_out_in_order_once_published() {
        let (mut sender, mut receiver) = channel(4);
        assert_eq!(receiver.pop(), None);
        sender.push(1).unwrap();
        sender.push(2).unwrap();
        assert!(receiver.is_empty(), "not published yet");
        assert!(sender.publish());
        assert!(!sender.publish(), "nothing new");
        assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some(1), Some(2), None));
    }

    #[test]
    fn a_full_ring_gives_the_value_back() {
        let (mut sender, mut receiver) = channel(2);
        sender.push("a").unwrap();
        sender.push("b").unwrap();
        assert_eq!(sender.push("c"), Err("c"));
        sender.publish();
        assert_eq!(receiver.pop(), Some("a"));
        assert_eq!(sender.free(), 1);
        sender.push("c").unwrap();
        assert_eq!(sender.push("d"), Err("d"));
        sender.publish();
        assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some("b"), Some("c"), None));
    }

    #[test]
    fn values_left_in_the_ring_are_dropped_once() {
        let value = std::sync::Arc::new(());
        let (mut sender, mut receiver) = channel(8);
        for _ in 0..5 {
            sender.push(value.clone()).unwrap();
        }
        sender.publish();
        sender.push(value.clone()).unwrap();
        drop(receiver.pop());
        assert_eq!(std::sync::Arc::strong_count(&value), 6);
        drop(receiver);
        drop(sender);
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn a_capacity_that_is_no_power_of_two_is_refused() {
        let _ = channel::<u8>(3);
    }

    #[test]
    fn one_of_two_senders_rings_the_doorbell() {
        let flag = SleepFlag::new();
        assert!(!flag.take(), "awake");
        flag.announce();
        assert!(flag.take());
        assert!(!flag.take(), "already taken");
        flag.announce();
        flag.awake();
        assert!(!flag.take());
    }

    #[test]
    fn two_threads_pass_every_value_in_order() {
        const COUNT: u64 = 20_000;
        let (mut sender, mut receiver) = channel(16);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for value in 0..COUNT {
                    while sender.push(value).is_err() {
                        sender.publish();
                        std::thread::yield_now();
                    }
                    if value % 3 == 0 {
                        sender.publish();
                    }
                }
                sender.publish();
            });
            let mut expected = 0;
            while expected < COUNT {
                match receiver.pop() {
                    Some(value) => {
                        assert_eq!(value, expected);
                        expected += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
    }
}

/// Every interleaving and every allowed memory order: `RUSTFLAGS="--cfg corelog_loom" cargo test --release --lib mesh::spsc`.
#[cfg(all(test, corelog_loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn slots_change_hands_without_a_race() {
        loom::model(|| {
            let (mut sender, mut receiver) = channel(2);
            let thread = loom::thread::spawn(move || {
                let mut pushed = 0;
                for value in 0..3u32 {
                    // Without retry: loom would explore waiting without end. Three into two slots also meets a full ring.
                    if sender.push(Box::new(value)).is_ok() {
                        pushed += 1;
                    }
                    sender.publish();
                }
                pushed
            });
            let mut popped = Vec::new();
            for _ in 0..2 {
                popped.extend(receiver.pop());
            }
            let pushed = thread.join().unwrap();
            while let Some(value) = receiver.pop() {
                popped.push(value);
            }
            assert_eq!(popped.len(), pushed);
            assert!(popped.windows(2).all(|pair| pair[0] < pair[1]), "{popped:?}");
        });
    }

    #[test]
    fn a_wake_up_is_never_lost() {
        loom::model(|| {
            let (mut sender, mut receiver) = channel(2);
            let flag = Arc::new(SleepFlag::new());
            let senders_flag = Arc::clone(&flag);
            let thread = loom::thread::spawn(move || {
                sender.push(7u8).unwrap();
                sender.publish();
                senders_flag.take()
            });
            flag.announce();
            let would_sleep = receiver.is_empty();
            let doorbell = thread.join().unwrap();
            assert!(!would_sleep || doorbell, "the receiver sleeps on a message and nobody wakes it");
        });
    }
}
