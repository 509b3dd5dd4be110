//! Topics that are flushed now and then: small groups go to the mapped journal, and no later than promised to the device.

use super::*;

const FLUSH: Duration = Duration::from_millis(FLUSH_MS);

fn setup() -> Setup {
    Setup { durability: Durability::Interval, ..Setup::default() }
}

/// Lets the machine run for so long.
fn pass(bench: &mut Bench, time: Duration) -> Result<(), Crashed> {
    let until = bench.io.now() + time;
    while bench.io.now() < until {
        bench.set.drive(&mut bench.io);
        if bench.set.has_events() && !bench.world.crashed() {
            bench.reap();
            continue;
        }
        bench.io.wait(bench.set.next_deadline().map_or(until, |deadline| deadline.min(until)));
        match bench.world.next_turn(until) {
            Turn::Shard(_) => bench.reap(),
            Turn::Idle => break,
            Turn::Crashed => return Err(Crashed),
            turn => panic!("{turn:?}"),
        }
    }
    Ok(())
}

#[test]
fn what_was_only_mapped_is_flushed_when_the_interval_is_over() {
    let mut bench = Bench::new(1, setup());
    (0..3).for_each(|topic| bench.append(topic, 500));
    bench.settle().unwrap();
    assert_eq!(bench.set.mapped_numbers().counts.entries, 3);
    pass(&mut bench, FLUSH / 2).unwrap();
    assert_eq!(bench.log(0).stored_offset(), 0, "nobody asked for it yet");
    pass(&mut bench, FLUSH).unwrap();
    assert!((0..3).all(|topic| bench.log(topic).file_flushed_offset() == 1));
    assert_eq!(bench.numbers().counts.groups, 0, "it went through the journal that flushes");
    assert_eq!(bench.assert_survives_worst("after the interval"), [(0, 1); 3]);
}

#[test]
fn a_steady_load_is_flushed_once_an_interval_and_no_record_waits_for_two() {
    let mut bench = Bench::new(1, setup());
    let mut ended = Vec::new();
    for _ in 0..400 {
        (0..3).for_each(|topic| bench.append(topic, 200));
        bench.settle().unwrap();
        ended.push((bench.io.now(), bench.acknowledged[0]));
        pass(&mut bench, Duration::from_millis(1)).unwrap();
        let now = bench.io.now();
        let old = ended.iter().rev().find(|(at, _)| now.since(*at) > 2 * FLUSH);
        let flushed = bench.log(0).file_flushed_offset();
        assert!(old.is_none_or(|(_, end)| flushed >= *end), "{flushed} flushed at {now:?}");
    }
    let (first, last) = (ended[0].0, ended[ended.len() - 1].0);
    let intervals = last.since(first).as_millis() as u64 / FLUSH_MS;
    assert!(intervals > 5, "{intervals} intervals");
    let mapped = bench.set.mapped_numbers().counts;
    assert!(mapped.entries >= 1_200, "{mapped:?}");
    let flushes = bench.numbers().segment_flushes;
    assert!((3 * (intervals - 1)..=3 * (intervals + 1)).contains(&flushes), "{flushes} in {intervals}");
}

#[test]
fn so_many_messages_are_flushed_before_the_interval_is_over() {
    let mut bench = Bench::new(1, Setup { flush_messages: Some(10), ..setup() });
    for ended in 1..=30 {
        bench.append(0, 100);
        bench.settle().unwrap();
        pass(&mut bench, Duration::from_millis(1)).unwrap();
        assert_eq!(bench.log(0).file_flushed_offset(), ended / 10 * 10);
    }
    assert_eq!(bench.assert_survives_worst("after thirty")[0], (0, 30));
}

#[test]
fn a_crash_at_any_operation_keeps_what_was_flushed() {
    fn work(bench: &mut Bench) -> Result<(), Crashed> {
        for _ in 0..6 {
            busy(bench, 12)?;
            pass(bench, 2 * FLUSH)?;
        }
        Ok(())
    }
    let mut bench = Bench::new(1, setup());
    work(&mut bench).unwrap();
    assert!((0..3).all(|topic| bench.log(topic).file_flushed_offset() > 40));
    assert!(bench.set.mapped_numbers().counts.entries > 50);
    crash_everywhere(CrashKind::PowerLoss, setup(), 7, work);
    crash_everywhere(CrashKind::ProcessKill, setup(), 13, work);
    let rolls = Setup { segment_bytes: 100 * KIB, ..setup() };
    crash_everywhere(CrashKind::PowerLoss, rolls, 11, work);
}

#[test]
fn large_blocks_past_the_page_cache_are_flushed_too() {
    let mut bench = Bench::new(1, Setup { write_path: WritePath::Direct, ..setup() });
    for _ in 0..10 {
        bench.append(0, 60_000);
        bench.settle().unwrap();
    }
    assert!(bench.log(0).is_journal_direct());
    pass(&mut bench, 3 * FLUSH).unwrap();
    assert_eq!(bench.assert_survives_worst("after the interval")[0], (0, 10));
}

#[test]
fn a_switch_between_durabilities_keeps_what_each_promised() {
    for seed in 0..10 {
        let mut bench = Bench::new(seed, setup());
        let levels = [Durability::Interval, Durability::Fsync, Durability::Os, Durability::Interval];
        for (round, durability) in levels.into_iter().cycle().take(12).enumerate() {
            bench.set_path(0, durability, WritePath::Auto);
            for _ in 0..1 + (round + seed as usize) % 5 {
                bench.append(0, 300);
                bench.turn().unwrap();
            }
        }
        bench.settle().unwrap();
        let count = bench.appended[0];
        pass(&mut bench, 2 * FLUSH).unwrap();
        assert_eq!(bench.assert_survives_worst("after the interval")[0], (0, count));
    }
}
