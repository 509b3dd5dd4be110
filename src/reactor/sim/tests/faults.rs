//! What the disk does wrong beyond losing what was not synced, and the moments at which it can be tried.

use super::*;
use crate::buffer::AlignedBuffer;

const BLOCK: usize = 4096;

fn aligned(fill: u8, blocks: usize) -> Bytes {
    let mut buffer = AlignedBuffer::with_capacity(blocks * BLOCK);
    buffer.extend_from_slice(&vec![fill; blocks * BLOCK]);
    buffer.freeze()
}

fn direct(world: &SimWorld, path: &str) -> File {
    let file = files(world).open(Path::new(path), OpenMode::Direct).unwrap();
    files(world).sync_directory(Path::new("/")).unwrap();
    file
}

fn content(world: &SimWorld, path: &str) -> Vec<u8> {
    (&mut files(world) as &mut dyn Files).read_all(Path::new(path)).unwrap()
}

mod direct_files {
    use super::*;

    fn write(file: File, fill: u8) -> Operation {
        Operation::Write { file, position: 0, slices: vec![aligned(fill, 2)] }
    }

    /// How much of the new bytes is left.
    #[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy, Debug)]
    enum Left {
        None,
        Some,
        All,
    }

    fn left(bytes: &[u8]) -> Left {
        assert!(
            bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])),
            "sectors are whole"
        );
        match bytes.iter().filter(|byte| **byte == 2).count() {
            0 => Left::None,
            count if count == 2 * BLOCK => Left::All,
            _ => Left::Some,
        }
    }

    fn after_write(kind: CrashKind, awaits: bool) -> Vec<Left> {
        let found = outcomes(|world| {
            let file = direct(&world, "/a");
            let mut io = world.io(SHARD);
            assert!(is_done(run(
                &world,
                &mut io,
                Operation::WriteThenSync { file, position: 0, slices: vec![aligned(1, 2)] }
            )));
            match awaits {
                true => assert!(is_done(run(&world, &mut io, write(file, 2)))),
                false => _ = submit(&mut io, 2, write(file, 2)),
            }
            left(&after(&world, kind, "/a").unwrap())
        });
        names(&found)
    }

    #[test]
    fn a_completed_write_survives_the_process() {
        assert_eq!(after_write(CrashKind::ProcessKill, true), [Left::All]);
    }

    #[test]
    fn a_write_in_flight_is_torn_at_any_sector_when_the_process_is_killed() {
        assert_eq!(after_write(CrashKind::ProcessKill, false), [Left::None, Left::Some, Left::All]);
    }

    #[test]
    fn a_completed_write_without_a_sync_is_torn_by_a_power_loss() {
        assert_eq!(after_write(CrashKind::PowerLoss, true), [Left::None, Left::Some, Left::All]);
    }

    #[test]
    fn a_durable_write_covers_itself_and_nothing_else() {
        let found = outcomes(|world| {
            let file = direct(&world, "/a");
            let mut io = world.io(SHARD);
            let slices = |fill| vec![aligned(fill, 1)];
            run(&world, &mut io, Operation::Write { file, position: 0, slices: slices(1) });
            run(&world, &mut io, Operation::WriteDurable { file, position: 4096, slices: slices(2) });
            let bytes = after(&world, CrashKind::PowerLoss, "/a").unwrap();
            assert_eq!(bytes[BLOCK..], [2; BLOCK], "its own bytes");
            bytes[..BLOCK] == [1; BLOCK]
        });
        assert_eq!(names(&found), [false, true]);
    }

    #[test]
    #[should_panic(expected = "a direct write")]
    fn a_write_that_is_not_aligned_is_found_out() {
        let world = world(1);
        let file = direct(&world, "/a");
        let slices = vec![Bytes::from_static(&[0; 512])];
        submit(&mut world.io(SHARD), 1, Operation::Write { file, position: 0, slices });
    }
}

#[test]
fn a_cached_write_in_flight_is_there_up_to_some_byte_when_the_process_is_killed() {
    let found = outcomes(|world| {
        let file = durable_file(&world, "/a", &[1; 3000]);
        let slices = vec![Bytes::from(vec![2; 3000])];
        submit(&mut world.io(SHARD), 1, Operation::Write { file, position: 0, slices });
        let bytes = after(&world, CrashKind::ProcessKill, "/a").unwrap();
        let count = bytes.iter().take_while(|byte| **byte == 2).count();
        assert!(bytes[count..].iter().all(|byte| *byte == 1), "a hole before {count}");
        count % 512 != 0
    });
    assert_eq!(names(&found), [false, true]);
}

mod syncfs {
    use super::*;

    #[test]
    fn a_failed_one_drops_what_it_should_have_kept_and_the_next_succeeds() {
        let found = outcomes(|world| {
            let file = durable_file(&world, "/a", &[1; 2048]);
            let mut files = files(&world);
            files.write_at(file, 0, &[2; 2048]).unwrap();
            world.set_faults(Faults { sync_error: 1_000_000, ..Faults::default() });
            assert!(files.sync_file_system(Path::new("/")).is_err());
            world.set_faults(Faults::default());
            files.sync_file_system(Path::new("/")).unwrap();
            assert_eq!(content(&world, "/a"), [2; 2048], "reads go on to return what was written");
            after(&world, CrashKind::PowerLoss, "/a").unwrap() == [2; 2048]
        });
        assert_eq!(names(&found), [false, true]);
        assert!(found[&false] > 100, "it lies often: {found:?}");
    }

    #[test]
    fn an_earlier_failure_is_told_through_a_descriptor_that_was_open_then_and_once() {
        let world = world(1);
        let file = durable_file(&world, "/a", &[1; 100]);
        let mut files = files(&world);
        let through = files.open(Path::new("/w"), OpenMode::Write).unwrap();
        world.set_faults(Faults { write_back_error: 1_000_000, ..Faults::default() });
        files.write_at(file, 0, &[2; 100]).unwrap();
        world.set_faults(Faults::default());
        assert!(files.sync_file_system_through(through).is_err(), "it was open when it failed");
        files.sync_file_system_through(through).unwrap();
        assert!(files.sync(file).is_err(), "the file's own descriptor has not told of it");
        files.sync(file).unwrap();
        let late = files.open(Path::new("/a"), OpenMode::Write).unwrap();
        files.sync(late).unwrap();
    }
}

#[test]
fn a_misdirected_write_leaves_its_place_as_it_was_and_changes_another() {
    let found = outcomes(|world| {
        let other = durable_file(&world, "/b", &[9; 4 * BLOCK]);
        let file = durable_file(&world, "/a", &[1; 4 * BLOCK]);
        let mut files = files(&world);
        world.set_faults(Faults { misdirected_write: 1_000_000, ..Faults::default() });
        files.write_at(file, 0, &[2; BLOCK]).unwrap();
        files.sync(file).unwrap();
        assert_eq!(content(&world, "/a")[..BLOCK], [2; BLOCK], "the cache does not know");
        files.close(other);
        world.crash(CrashKind::PowerLoss);
        world.restart();
        let (a, b) = (content(&world, "/a"), content(&world, "/b"));
        let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == 2).count();
        assert_eq!(count(&a) + count(&b), BLOCK, "one block, somewhere");
        match (a[..BLOCK] == [2; BLOCK], count(&a) > 0) {
            (true, _) => "at its place by chance",
            (_, true) => "elsewhere in its file",
            _ => "in another file",
        }
    });
    assert!(found["elsewhere in its file"] > 0 && found["in another file"] > 0, "{found:?}");
}

#[test]
fn a_sector_that_went_bad_is_read_again_once_it_was_written() {
    let world = world(1);
    let file = durable_file(&world, "/a", &[1; 2048]);
    world.fail_sector(Path::new("/a"), 700).unwrap();
    let mut files = files(&world);
    let mut read = |position: u64, length: usize| files.read_at(file, position, &mut vec![0; length]).ok();
    assert_eq!(read(0, 2048), None);
    assert_eq!(read(0, 512), Some(512));
    assert_eq!(read(1024, 2048), Some(1024));
    assert_eq!(after(&world, CrashKind::PowerLoss, "/a"), None, "it stays bad");
    let mut files = self::files(&world);
    let file = files.open(Path::new("/a"), OpenMode::Write).unwrap();
    files.write_at(file, 512, &[3; 512]).unwrap();
    assert_eq!(content(&world, "/a")[512..1024], [3; 512]);
}

#[test]
fn damage_drawn_at_reads_stays() {
    let found = |faults| {
        outcomes(|world| {
            let file = durable_file(&world, "/a", &[1; 2048]);
            world.set_faults(faults);
            let mut bytes = vec![0; 2048];
            let read = files(&world).read_at(file, 0, &mut bytes);
            world.set_faults(Faults::default());
            let again = (&mut files(&world) as &mut dyn Files).read_all(Path::new("/a"));
            match (read, again) {
                (Err(_), Err(_)) => "unreadable",
                (Ok(_), Ok(again)) if again == bytes && bytes != [1; 2048] => "flipped",
                _ => "well",
            }
        })
    };
    let million = 1_000_000;
    assert_eq!(names(&found(Faults { latent_sector: million, ..Faults::default() })), ["unreadable"]);
    assert_eq!(names(&found(Faults { bit_flip: million, ..Faults::default() })), ["flipped"]);
}

mod moments {
    use super::*;

    fn read(disk: SimDisk, path: &str) -> Option<Vec<u8>> {
        let world = SimWorld::on(1, SimOptions::default(), disk);
        (&mut files(&world) as &mut dyn Files).read_all(Path::new(path)).ok()
    }

    /// A machine that has written and synced a second content over the first one.
    fn world_with_moments() -> (SimWorld, Vec<SimMoment>) {
        let world = world(1);
        let file = durable_file(&world, "/a", &[1; 1024]);
        world.keep_moments();
        let mut io = world.io(SHARD);
        let slices = vec![Bytes::from(vec![2; 1024])];
        run(&world, &mut io, Operation::WriteThenSync { file, position: 0, slices });
        let moments = world.take_moments();
        (world, moments)
    }

    #[test]
    fn they_are_kept_at_each_change_of_the_disk() {
        let (world, moments) = world_with_moments();
        let after: Vec<&str> = moments.iter().map(|moment| moment.after).collect();
        assert_eq!(after, ["a write is submitted", "a write is done", "a sync is done"]);
        assert_eq!(moments[0].in_flight, ["write and sync"]);
        assert!(moments[1].has_unsynced() && !moments[2].has_unsynced());
        files(&world).create_directory(Path::new("/d")).unwrap();
        assert_eq!(world.take_moments().len(), 1);
    }

    #[test]
    fn each_can_be_tried_many_times_and_leaves_the_others_alone() {
        let (_, moments) = world_with_moments();
        let found = |moment: &SimMoment, kind| {
            let contents = (0..60)
                .map(|seed| read(moment.crash(kind, Survivors::Drawn, seed), "/a").expect("it is durable"));
            contents.collect::<std::collections::BTreeSet<_>>()
        };
        let (old, new) = (vec![1; 1024], vec![2; 1024]);
        let check = |moment: &SimMoment, kind, has_old, has_new, is_one: bool| {
            let found = found(moment, kind);
            assert_eq!((found.contains(&old), found.contains(&new)), (has_old, has_new), "{}", moment.after);
            assert_eq!(found.len() == 1, is_one);
        };
        for _ in 0..2 {
            check(&moments[0], CrashKind::PowerLoss, true, true, false);
            check(&moments[1], CrashKind::PowerLoss, true, true, false);
            check(&moments[1], CrashKind::ProcessKill, false, true, true);
            check(&moments[2], CrashKind::PowerLoss, false, true, true);
        }
        assert_eq!(read(moments[1].crash(CrashKind::PowerLoss, Survivors::Nothing, 1), "/a"), Some(old));
        assert_eq!(read(moments[1].crash(CrashKind::PowerLoss, Survivors::Everything, 1), "/a"), Some(new));
    }

    #[test]
    fn disks_on_which_the_same_is_found_hash_alike() {
        let (_, moments) = world_with_moments();
        let hash =
            |moment: &SimMoment, survivors| moment.crash(CrashKind::PowerLoss, survivors, 1).content_hash();
        let synced = hash(&moments[2], Survivors::Nothing);
        assert_eq!(hash(&moments[1], Survivors::Everything), synced);
        assert_eq!(hash(&moments[2], Survivors::Drawn), synced);
        assert_ne!(hash(&moments[1], Survivors::Nothing), synced);
    }
}
