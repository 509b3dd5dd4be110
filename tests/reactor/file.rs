//! Writes, reads, syncs and jobs on files.

use std::os::fd::IntoRawFd;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use corelog::model::ShardId;
use corelog::reactor::{
    Doorbells, File, Files, Io, OpenMode, Operation, Outcome, Rejected, RingOptions, Room, Slices, StdFiles,
    Token,
};

use crate::driver::{Driver, errno, is_done, name};

/// A write that goes to the copying threads.
const LARGE: usize = 700_000;

fn slices(parts: &[&[u8]]) -> Slices {
    parts.iter().map(|part| Bytes::copy_from_slice(part)).collect()
}

fn open(path: &Path, mode: OpenMode) -> File {
    StdFiles.open(path, mode).expect("open")
}

fn read(driver: &mut Driver, file: File, position: u64, length: u32) -> Vec<u8> {
    match driver.run(Operation::Read { file, position, length, buffer: BytesMut::from("stale") }) {
        Outcome::Read(bytes) => bytes.to_vec(),
        other => panic!("read: {}", name(&other)),
    }
}

#[test]
fn what_was_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::new();
    let file = open(&directory.path().join("a"), OpenMode::Write);
    assert!(is_done(&driver.run(Operation::Reserve { file, position: 0, length: 1 << 20 })));
    assert_eq!(StdFiles.size(file).unwrap(), 0, "a reservation leaves the size alone");
    let parts = slices(&[b"one", b"", b"two", b"three"]);
    assert!(is_done(&driver.run(Operation::Write { file, position: 4, slices: parts })));
    assert!(is_done(&driver.run(Operation::Sync { file })));
    assert_eq!(read(&mut driver, file, 4, 11), b"onetwothree");
    assert_eq!(read(&mut driver, file, 2, 100), b"\0\0onetwothree", "fewer bytes at the end of the file");
    assert_eq!(read(&mut driver, file, 500, 10), b"");
    assert!(is_done(&driver.run(Operation::WriteThenSync { file, position: 0, slices: slices(&[b"zero"]) })));
    assert_eq!(read(&mut driver, file, 0, 7), b"zeroone");
    driver.ring.close_file(file);
}

#[test]
fn more_slices_than_one_call_takes_are_written_and_synced() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::new();
    let file = open(&directory.path().join("a"), OpenMode::Write);
    let slices: Slices = (0..5000u32).map(|i| Bytes::copy_from_slice(&i.to_be_bytes())).collect();
    let expected = slices.concat();
    assert!(is_done(&driver.run(Operation::WriteThenSync { file, position: 8, slices: slices.clone() })));
    assert!(read(&mut driver, file, 8, 20_000) == expected);
    assert!(is_done(&driver.run(Operation::Write { file, position: 20_008, slices: slices.clone() })));
    assert!(read(&mut driver, file, 20_008, 20_000) == expected);
    // The kernel is told to send all of it on once the last part is written.
    assert!(is_done(&driver.run(Operation::WriteOut { file, position: 40_008, slices })));
    assert!(read(&mut driver, file, 40_008, 20_000) == expected);
    driver.ring.close_file(file);
}

/// The nice value of the calling thread, and those of this process's threads whose names begin so.
fn nice_values(name: &str) -> (i32, Vec<i32>) {
    // `PID (NAME) STATE ...`: the nice value is the 19th field.
    let nice = |after: &str| after.split(' ').nth(16).unwrap().parse().unwrap();
    let own = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let own = nice(own.rsplit_once(") ").unwrap().1);
    let mut values = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        // Threads of other tests end meanwhile.
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
        let (before, after) = stat.rsplit_once(") ").unwrap();
        if before.split_once('(').unwrap().1.starts_with(name) {
            values.push(nice(after));
        }
    }
    (own, values)
}

#[test]
fn large_writes_are_copied_by_threads_behind_the_rings() {
    let directory = tempfile::tempdir().unwrap();
    // A shard of its own, for the names of its threads.
    let mut driver = Driver::with_doorbells(ShardId(3), RingOptions::default(), Doorbells::new(4).unwrap());
    let file = open(&directory.path().join("a"), OpenMode::Write);
    let bytes: Vec<u8> = (0..2_000_003u32).map(|i| (i / 7) as u8 ^ (i >> 16) as u8).collect();
    // Slices smaller and larger than a chunk, and an empty one.
    let mut rest = &bytes[..];
    let mut slices: Slices = Vec::new();
    for length in [1, 0, 131_072, 131_073, 900_001, 5] {
        slices.push(Bytes::copy_from_slice(&rest[..length]));
        rest = &rest[length..];
    }
    slices.push(Bytes::copy_from_slice(rest));
    // A copy is not durable.
    assert!(is_done(&driver.run(Operation::WriteDurable { file, position: 5, slices: slices.clone() })));
    assert_eq!(nice_values("copier-3.").1, &[] as &[i32]);
    assert!(is_done(&driver.run(Operation::Write { file, position: 11, slices: slices.clone() })));
    assert!(read(&mut driver, file, 11, 3_000_000) == bytes);
    assert!(is_done(&driver.run(Operation::WriteThenSync {
        file,
        position: 3_000_000,
        slices: slices.clone()
    })));
    assert!(read(&mut driver, file, 3_000_000, 3_000_000) == bytes);
    assert!(is_done(&driver.run(Operation::WriteOut { file, position: 5_000_017, slices })));
    assert!(read(&mut driver, file, 5_000_017, 3_000_000) == bytes);
    let (own, nice) = nice_values("copier-3.");
    assert_eq!(nice.len(), 4, "{nice:?}");
    assert!(nice.iter().all(|nice| *nice == (own + 10).min(19)), "{nice:?} behind {own}");
    driver.ring.close_file(file);
}

#[test]
fn a_ring_that_goes_waits_for_its_large_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let mut driver = Driver::new();
    let file = open(&path, OpenMode::Write);
    for i in 0..20u64 {
        let slices = vec![Bytes::from(vec![i as u8 + 1; 1 << 20])];
        driver.submit(Operation::Write { file, position: i << 20, slices });
    }
    drop(driver);
    StdFiles.close(file);
    let written = std::fs::read(path).unwrap();
    assert_eq!(written.len(), 20 << 20);
    assert!(written.iter().enumerate().all(|(i, byte)| usize::from(*byte) == (i >> 20) + 1));
}

#[test]
fn nothing_to_write_is_still_synced() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::new();
    let file = open(&directory.path().join("a"), OpenMode::Write);
    assert!(is_done(&driver.run(Operation::Write { file, position: 0, slices: slices(&[]) })));
    assert!(is_done(&driver.run(Operation::WriteThenSync { file, position: 0, slices: slices(&[b""]) })));
    driver.ring.close_file(file);
}

#[test]
fn a_write_that_fails_cancels_its_sync_and_tells_its_own_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    std::fs::write(&path, b"before").unwrap();
    let mut driver = Driver::new();
    let file = open(&path, OpenMode::Read);
    let check = |driver: &mut Driver, operation| assert_eq!(errno(driver.run(operation)), libc::EBADF);
    check(&mut driver, Operation::Write { file, position: 0, slices: slices(&[b"x"]) });
    check(&mut driver, Operation::WriteThenSync { file, position: 0, slices: slices(&[b"x"]) });
    let large = vec![Bytes::from(vec![1; LARGE])];
    check(&mut driver, Operation::Write { file, position: 0, slices: large.clone() });
    check(&mut driver, Operation::WriteThenSync { file, position: 0, slices: large });
    check(&mut driver, Operation::Reserve { file, position: 0, length: 10 });
    assert_eq!(driver.ring.in_flight(), 0);
    assert_eq!(read(&mut driver, file, 0, 10), b"before");
    driver.ring.close_file(file);
}

#[test]
fn a_failed_sync_is_told() {
    // A pipe can be written and not synced: the link holds, its second half fails.
    let (_read_end, write_end) = nix::unistd::pipe().unwrap();
    let mut driver = Driver::new();
    let file = File(write_end.into_raw_fd());
    let outcome = driver.run(Operation::WriteThenSync { file, position: 0, slices: slices(&[b"x"]) });
    assert_eq!(errno(outcome), libc::EINVAL);
    assert_eq!(errno(driver.run(Operation::Sync { file })), libc::EINVAL);
    driver.ring.close_file(file);
}

#[test]
fn a_short_write_breaks_the_link_and_both_halves_are_done_again() {
    // A pipe takes 64 KiB at a time: each write but the last is short, and takes its sync down with it (ECANCELED).
    // That is no failure: the rest is written, then the sync is tried, and only its own answer counts.
    let (read_end, write_end) = nix::unistd::pipe().unwrap();
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i / 7) as u8).collect();
    let length = bytes.len();
    let reader = std::thread::spawn(move || {
        let mut read_end = std::fs::File::from(read_end);
        let mut linked = vec![0; length];
        std::io::Read::read_exact(&mut read_end, &mut linked).unwrap();
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut read_end, &mut plain).unwrap();
        (linked, plain)
    });
    let mut driver = Driver::new();
    let file = File(write_end.into_raw_fd());
    let slices: Slices = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
    let linked = Operation::WriteThenSync { file, position: 0, slices: slices.clone() };
    assert_eq!(errno(driver.run(linked)), libc::EINVAL, "a pipe cannot be synced");
    assert!(driver.ring.counters().short_transfers >= 2, "{:?}", driver.ring.counters());
    assert!(is_done(&driver.run(Operation::Write { file, position: 0, slices })));
    StdFiles.close(file);
    let (linked, plain) = reader.join().unwrap();
    assert!(linked == bytes && plain == bytes);
}

#[test]
fn a_short_read_goes_on_to_the_end() {
    let (read_end, write_end) = nix::unistd::pipe().unwrap();
    let mut driver = Driver::new();
    let file = File(read_end.into_raw_fd());
    let token = driver.submit(Operation::Read { file, position: 0, length: 100, buffer: BytesMut::new() });
    for part in ["one ", "two ", "three"] {
        nix::unistd::write(&write_end, part.as_bytes()).unwrap();
        driver.poll();
    }
    assert_eq!(driver.ring.in_flight(), 1, "it waits for more");
    drop(write_end);
    match driver.end(token) {
        Outcome::Read(bytes) => assert_eq!(bytes, "one two three"),
        other => panic!("read: {}", name(&other)),
    }
    StdFiles.close(file);
}

#[test]
fn a_short_write_goes_on_until_the_disk_says_why() {
    // The kernel writes what fits, which breaks the link, and refuses the rest.
    check_short_write("size=64k", 10_000);
    check_short_write("size=512k", LARGE / 10);
}

/// Ten slices of so many bytes on a file system that has less.
fn check_short_write(size: &str, slice_bytes: usize) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let target = directory.path();
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(target);
    if !mount.output().is_ok_and(|output| output.status.success()) {
        println!("skipped: mounting a small file system takes root");
        return;
    }
    let mut driver = Driver::new();
    let file = open(&path, OpenMode::Write);
    let slices: Slices = (0..10u8).map(|i| Bytes::from(vec![i; slice_bytes])).collect();
    let outcome = driver.run(Operation::WriteThenSync { file, position: 0, slices });
    assert_eq!(errno(outcome), libc::ENOSPC);
    assert!(driver.ring.counters().short_transfers >= 1, "{:?}", driver.ring.counters());
    assert_eq!(errno(driver.run(Operation::Reserve { file, position: 0, length: 1 << 20 })), libc::ENOSPC);
    StdFiles.close(file);
    drop(driver);
    let unmounted = std::process::Command::new("umount").arg(target).status();
    assert!(unmounted.unwrap().success());
}

#[test]
fn a_file_closes_after_the_operations_in_flight_on_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::new();
    let file = open(&directory.path().join("a"), OpenMode::Write);
    let part = Bytes::from(vec![7; 1 << 20]);
    let tokens: Vec<Token> = (0..20u64)
        .map(|i| driver.submit(Operation::Write { file, position: i << 20, slices: vec![part.clone()] }))
        .collect();
    driver.ring.close_file(file);
    assert!(driver.ring.oldest_file_operation().is_some());
    for token in tokens {
        assert!(is_done(&driver.end(token)));
    }
    assert_eq!(driver.ring.oldest_file_operation(), None);
    assert_eq!(std::fs::metadata(directory.path().join("a")).unwrap().len(), 20 << 20);
    // The close runs on a worker of the kernel; the descriptor is gone some time after it was submitted.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while StdFiles.size(file).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the file was never closed");
        driver.poll();
    }
}

#[test]
fn jobs_run_in_order_and_bring_their_results() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut driver = Driver::new();
    let tokens: Vec<Token> = (0..50u8)
        .map(|i| {
            let path = path.clone();
            driver.submit(Operation::Job(Box::new(move |files| {
                let file = files.open(&path, OpenMode::Write).unwrap();
                let size = files.size(file).unwrap();
                files.write_at(file, size, &[i]).unwrap();
                files.close(file);
                Box::new(size)
            })))
        })
        .collect();
    assert_eq!(driver.ring.in_flight(), 50);
    for (i, token) in tokens.into_iter().enumerate() {
        match driver.end(token) {
            Outcome::Job(size) => assert_eq!(*size.downcast::<u64>().unwrap(), i as u64),
            other => panic!("job: {}", name(&other)),
        }
    }
    assert_eq!(std::fs::read(&path).unwrap(), (0..50).collect::<Vec<u8>>());
}

#[test]
fn a_full_table_gives_the_operation_back() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        corelog::reactor::RingOptions { sockets_max: 1, file_operations_max: 1, ..Default::default() };
    let mut driver = Driver::with_options(options);
    let file = open(&directory.path().join("a"), OpenMode::Write);
    let mut tokens = Vec::new();
    let refused = loop {
        let token = Token::new(Room::Log, tokens.len() as u64);
        match driver.ring.submit(token, Operation::Write { file, position: 0, slices: slices(&[b"x"]) }) {
            Ok(()) => tokens.push(token),
            Err(Rejected(operation)) => break operation,
        }
        assert!(tokens.len() < 100);
    };
    assert!(matches!(refused, Operation::Write { position: 0, .. }));
    assert_eq!(driver.ring.in_flight(), tokens.len());
    for token in tokens {
        assert!(is_done(&driver.end(token)));
    }
    assert!(is_done(&driver.run(refused)));
    driver.ring.close_file(file);
}

#[test]
fn a_dropped_ring_waits_for_what_is_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::new();
    let file = open(&directory.path().join("a"), OpenMode::Write);
    let bytes = Bytes::from(vec![5; 1 << 20]);
    for i in 0..8u64 {
        driver.submit(Operation::WriteThenSync { file, position: i << 20, slices: vec![bytes.clone()] });
    }
    driver.poll();
    drop(driver);
    // Freed, hence the kernel was done with them; what it holds on to would have been leaked.
    assert!(bytes.is_unique());
    StdFiles.close(file);
}

/// Bytes for a write past the page cache.
fn aligned(byte: u8, length: usize) -> Bytes {
    let mut buffer = corelog::buffer::AlignedBuffer::with_capacity(length);
    buffer.extend_from_slice(&vec![byte; length]);
    buffer.pad();
    buffer.freeze()
}

#[test]
fn direct_writes_go_past_the_page_cache_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut driver = Driver::new();
    let path = directory.path().join("a");
    let file = match StdFiles.open(&path, OpenMode::Direct) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            return println!("skipped: the temporary directory's file system has no O_DIRECT");
        }
        Err(error) => panic!("{error}"),
    };
    let slices = vec![aligned(1, 4096), aligned(2, 8000)];
    assert!(is_done(&driver.run(Operation::WriteThenSync { file, position: 4096, slices })));
    let slices = vec![aligned(3, 4096)];
    assert!(is_done(&driver.run(Operation::WriteDurable { file, position: 0, slices })));
    StdFiles.sync_file_system_through(file).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 4 * 4096);
    let expected = [vec![3; 4096], vec![1; 4096], vec![2; 8000], vec![0; 192]].concat();
    assert!(bytes == expected, "the bytes differ from what was written");
    // What is not aligned is refused by the kernel, and told.
    let slices = vec![Bytes::from_static(b"abc")];
    assert!(matches!(driver.run(Operation::Write { file, position: 0, slices }), Outcome::Failed(_)));
}
