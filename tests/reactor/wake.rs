//! Waking a shard that sleeps: from another ring, from a thread without one, from a helper, by the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use corelog::model::{Monotonic, ShardId};
use corelog::reactor::{Doorbells, Io, RingOptions};

use crate::driver::Driver;

/// What ends a test that would otherwise hang.
fn guard(ring: &impl Io) -> Monotonic {
    ring.now() + Duration::from_secs(30)
}

#[test]
fn a_wait_ends_at_its_time() {
    let mut driver = Driver::new();
    let start = driver.ring.now();
    let until = start + Duration::from_millis(20);
    driver.ring.wait(until);
    while driver.ring.now() < until {
        assert!(driver.ring.now() < guard(&driver.ring));
        driver.poll();
        driver.ring.wait(until);
    }
    let before = driver.ring.now();
    driver.ring.wait(before);
    driver.ring.wait(Monotonic(0));
    assert!(driver.ring.now().since(before) < Duration::from_secs(10), "a wait for the past does not sleep");
}

#[test]
fn two_rings_wake_each_other() {
    const ROUNDS: u32 = 500;
    let doorbells = Doorbells::new(2).unwrap();
    let ball = Arc::new(AtomicU32::new(0));
    let play = |me: u16| {
        let (doorbells, ball) = (Arc::clone(&doorbells), Arc::clone(&ball));
        move || {
            let mut driver = Driver::with_doorbells(ShardId(me), RingOptions::default(), doorbells);
            let guard = guard(&driver.ring);
            loop {
                let seen = ball.load(Ordering::SeqCst);
                if seen >= ROUNDS {
                    break;
                }
                if seen % 2 == u32::from(me) {
                    ball.store(seen + 1, Ordering::SeqCst);
                    driver.ring.ring_doorbell(ShardId(1 - me));
                }
                // Submits the doorbell, and sleeps until the other rings back; after the last round nobody does.
                driver.ring.wait(if seen + 1 == ROUNDS { Monotonic(0) } else { guard });
                driver.poll();
                assert!(driver.ring.now() < guard, "shard {me} slept through a doorbell at {seen}");
            }
            driver.ring.counters()
        }
    };
    let (first, second) = std::thread::scope(|scope| {
        let (first, second) = (scope.spawn(play(0)), scope.spawn(play(1)));
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(ball.load(Ordering::SeqCst), ROUNDS);
    assert!(
        first.doorbells_by_event + second.doorbells_by_event < 10,
        "MSG_RING carried them: {first:?} {second:?}"
    );
}

#[test]
fn a_doorbell_for_a_ring_that_is_not_up_is_not_lost() {
    let doorbells = Doorbells::new(2).unwrap();
    let mut first = Driver::with_doorbells(ShardId(0), RingOptions::default(), doorbells.clone());
    first.ring.ring_doorbell(ShardId(1));
    first.poll();
    let mut second = Driver::with_doorbells(ShardId(1), RingOptions::default(), doorbells);
    let guard = guard(&second.ring);
    second.ring.wait(guard);
    assert!(second.ring.now() < guard);
    // A ring that is gone takes none; the bell of the shard still does.
    drop(second);
    first.ring.ring_doorbell(ShardId(1));
    first.poll();
}

#[test]
fn any_thread_wakes_a_shard() {
    const WAKES: u32 = 200;
    let mut driver = Driver::new();
    let waker = driver.doorbells.waker(ShardId(0));
    let (asked, seen) = (AtomicU32::new(0), AtomicU32::new(0));
    let guard = guard(&driver.ring);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for wake in 1..=WAKES {
                asked.store(wake, Ordering::SeqCst);
                waker.wake();
                while seen.load(Ordering::SeqCst) < wake {
                    std::thread::yield_now();
                }
            }
        });
        loop {
            let wake = asked.load(Ordering::SeqCst);
            seen.store(wake, Ordering::SeqCst);
            if wake == WAKES {
                break;
            }
            driver.ring.wait(guard);
            driver.poll();
            assert!(driver.ring.now() < guard, "slept through wake-up {wake}");
        }
    });
}
