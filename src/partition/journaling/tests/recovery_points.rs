//! What was durable is known to have been, at any time: by a recovery point, or by the journal.

use super::*;

/// For each topic, up to which offset a start that found less would tell of damage, if the power failed now.
fn known_durable(bench: &Bench) -> Vec<Offset> {
    let disk = bench.world.moment().crash(CrashKind::PowerLoss, Survivors::Nothing, 0);
    let world = SimWorld::on(3, SimOptions::default(), disk);
    let files = &mut world.files();
    let redone = redo_all(files, Path::new(DATA), &mut |_| {}).unwrap();
    let book = CheckpointBook::load(files, Path::new(DATA)).unwrap();
    let known = |topic| {
        let new = bench.setup.partition(topic);
        let key = PartitionKey { topic_id: new.topic_id, partition: 0 };
        let journaled_end = redone.partitions.get(&key).map_or(0, |redone| redone.end_offset);
        journaled_end.max(book.adopt(&new.at, new.topic_id).0)
    };
    (0..bench.setup.topics).map(known).collect()
}

#[test]
fn what_is_acknowledged_is_below_a_recovery_point_or_in_the_journal() {
    // The files of a few logs are flushed one by one, those of many by one `syncfs`.
    for topics in [3, 12] {
        let mut bench = Bench::new(1, Setup { topics, segment_bytes: 40 * KIB, ..Setup::default() });
        // A recovery point waits for the file of the first batch's epoch.
        (0..topics).for_each(|topic| bench.append(topic.into(), 100));
        bench.quiesce().unwrap();
        for _ in 0..80 {
            (0..topics).for_each(|topic| bench.append(topic.into(), 2_000 + 300 * usize::from(topic)));
            while bench.acknowledged != bench.appended {
                bench.turn().unwrap();
                let known = known_durable(&bench);
                assert!(
                    known.iter().zip(&bench.promised).all(|(known, promised)| known >= promised),
                    "{known:?}"
                );
            }
        }
        let numbers = bench.numbers();
        assert!(numbers.counts.checkpoints > 3, "{numbers:?}");
        assert_eq!(numbers.file_system_flushes > 0, topics > 3, "{numbers:?}");
        assert!(bench.log(0).segment_count() > 1, "none rolled");
    }
}

#[test]
fn damage_to_what_a_checkpoint_has_released_is_no_torn_end() {
    for kind in [CrashKind::PowerLoss, CrashKind::ProcessKill] {
        let mut bench = Bench::new(1, Setup::default());
        let batch_bytes = bench.batch(0, 1_000).len() as u64;
        for _ in 0..5 {
            bench.append(0, 1_000);
            bench.settle().unwrap();
        }
        bench.quiesce().unwrap();
        bench.checkpoint().unwrap();
        // Of another one: the journal is in use, and holds nothing of the first.
        bench.append(1, 100);
        bench.settle().unwrap();
        bench.world.crash(kind);
        bench.world.restart();
        let path = layout::offset_file(bench.log(0).directory(), 0, FileSuffix::Log);
        // The magic of the third batch.
        bench.world.flip_bit(&path, 2 * batch_bytes + 16, 4).unwrap();
        let told = Bench::try_start(bench.world.clone(), bench.setup).err().expect("the damage is found");
        assert!(told.starts_with(&format!("damaged: {} at byte ", path.display())), "{kind:?}: {told}");
    }
}

#[test]
fn a_journal_goes_on_without_room_for_recovery_points() {
    let mut bench = Bench::new(1, Setup::default());
    (0..3).for_each(|topic| bench.append(topic, 5_000));
    bench.quiesce().unwrap();
    bench.world.set_quota(0);
    bench.checkpoint().unwrap();
    assert_eq!(bench.failures, 0);
    assert!(bench.numbers().used_bytes <= 4096, "all but the group that tells of it is released");
    bench.world.set_quota(u64::MAX);
    // They are made up for by the next one.
    bench.append(0, 100);
    bench.quiesce().unwrap();
    bench.checkpoint().unwrap();
    assert_eq!(known_durable(&bench), [2, 1, 1]);
}

/// What the journal says of the first topic's bytes after a bit of them was flipped.
fn is_damage_told(bench: &Bench) -> bool {
    bench.world.crash(CrashKind::PowerLoss);
    bench.world.restart();
    let path = layout::offset_file(bench.log(0).directory(), 0, FileSuffix::Log);
    bench.world.flip_bit(&path, 10_000, 4).unwrap();
    let redone = redo_all(&mut bench.world.files(), Path::new(DATA), &mut |_| {}).unwrap();
    let key = PartitionKey { topic_id: bench.setup.partition(0).topic_id, partition: 0 };
    redone.partitions[&key].damaged.is_some()
}

#[test]
fn a_later_group_remembers_what_went_past_the_journal_while_it_is_cached() {
    let bypass = |bench: &mut Bench| {
        // One that begins with a large batch is written past the page cache.
        for bytes in [100, 2 * BYPASS as usize] {
            bench.append(0, bytes);
            bench.settle().unwrap();
        }
    };
    let setup = Setup { topics: 2, ..Setup::default() };
    let mut bench = Bench::new(1, setup);
    bypass(&mut bench);
    bench.append(0, 100);
    bench.settle().unwrap();
    assert!(is_damage_told(&bench));

    // The cache has a MiB.
    let mut bench = Bench::new(1, setup);
    bypass(&mut bench);
    for _ in 0..15 {
        bench.append(1, 2 * BYPASS as usize);
        bench.settle().unwrap();
    }
    bench.append(0, 100);
    bench.settle().unwrap();
    assert!(!is_damage_told(&bench));
}
