//! Records of segments go from the page cache to consumers without a copy, as long as nobody could have changed them.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use corelog::model::LeaderEpoch;
use corelog::reactor::{Files, OpenMode, StdFiles};
use corelog::record::{BatchBuilder, Batches};

use crate::client::{self, Client};
use crate::node::Node;

const BATCHES: usize = 360;
const VALUE_BYTES: usize = 64 << 10;
const SETTINGS: &[&str] = &["shard.tail.cache.bytes=1048576", "journal.size=33554432"];
const TOPIC: &[(&str, &str)] =
    &[("segment.bytes", "8388608"), ("durability", "os"), ("write.path", "page-cache")];
const CORRUPT_MESSAGE: i16 = 2;

/// A broker with a log of three segments, all of them larger than what is kept in memory for consumers.
struct Scene {
    directory: tempfile::TempDir,
    node: Node,
    client: Client,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().expect("a directory");
        let node = Node::start(directory.path(), 1, false, SETTINGS);
        let mut client = Client::connect(node.addresses[0]);
        client.create_topic("t", 1, TOPIC);
        for number in 0..BATCHES {
            client.send(&client::produce_batch("t", 0, &batch(number)));
            assert_eq!(client::produced(client.receive()), number as i64);
        }
        Scene { directory, node, client }
    }

    fn restart(self) -> Scene {
        let Scene { directory, node, client } = self;
        drop(client);
        node.stop(directory.path());
        let node = Node::start(directory.path(), 1, false, SETTINGS);
        let client = Client::connect(node.addresses[0]);
        Scene { directory, node, client }
    }

    /// Reads it all and compares it. Returns bytes that went through pipes, and bytes that were read to be copied.
    fn read_all(&mut self, max_bytes: i32) -> (u64, u64) {
        let before = self.node.work();
        let mut offset = 0;
        while offset < BATCHES as i64 {
            self.client.send(&client::fetch("t", 0, offset, max_bytes));
            let (error, records) = client::fetched_records(self.client.receive());
            assert_eq!(error, 0, "at {offset}");
            let mut count = 0;
            for found in Batches::new(&records) {
                // A batch that the limit has cut.
                let Ok(found) = found else { break };
                found.check_crc().expect("a sound batch");
                assert_eq!(found.base_offset(), offset);
                let sent = batch(offset as usize);
                assert!(found.bytes()[21..] == sent[21..], "the batch at {offset} is another");
                offset = found.end_offset();
                count += 1;
            }
            assert!(count > 0, "a fetch at {offset} brings no whole batch");
        }
        let work = self.node.work().since(before);
        (work.piped_bytes, work.disk_read_bytes)
    }

    /// Fetches up to a megabyte; the offset behind its whole batches, or the error.
    fn fetch_whole(&mut self, offset: i64) -> Result<i64, i16> {
        self.client.send(&client::fetch("t", 0, offset, 1 << 20));
        match client::fetched_records(self.client.receive()) {
            (0, records) => Ok(Batches::new(&records).flatten().last().expect("a batch").end_offset()),
            (error, records) => {
                assert!(records.is_empty(), "{} bytes with error {error}", records.len());
                Err(error)
            }
        }
    }

    /// The file of the first segment.
    fn first_segment(&self) -> PathBuf {
        fn find(directory: &Path) -> Option<PathBuf> {
            let entries = std::fs::read_dir(directory).expect("a directory that can be read");
            entries.map(|entry| entry.expect("an entry").path()).find_map(|path| match path.is_dir() {
                true => find(&path),
                false => {
                    let is_ours = path.parent().and_then(Path::file_name).is_some_and(|name| name == "t-0");
                    (is_ours && path.ends_with("00000000000000000000.log")).then_some(path)
                }
            })
        }
        find(self.directory.path()).expect("the segment's file")
    }
}

/// One record with bytes that are those of no other batch.
fn batch(number: usize) -> Vec<u8> {
    let mut value: Vec<u8> = (0..VALUE_BYTES).map(|i| (i * 31 + number * 7 + i / 253) as u8).collect();
    value[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let mut batch = BatchBuilder::new();
    batch.push(1_700_000_000_000, None, Some(&value));
    batch.finish(0, LeaderEpoch(-1)).to_vec()
}

fn is_resident(path: &Path) -> bool {
    let mut files = StdFiles;
    let file = files.open(path, OpenMode::Read).expect("open the segment");
    let length = files.size(file).expect("its size");
    let is_resident = files.is_resident(file, 0, length);
    files.close(file);
    is_resident
}

#[test]
fn what_was_just_written_goes_without_a_copy() {
    let _alone = crate::ALONE.lock();
    let mut scene = Scene::new();
    if !is_resident(&scene.first_segment()) {
        return println!(
            "skipped: this kernel does not say what is in the page cache (cachestat, Linux 6.5)"
        );
    }
    let total = (BATCHES * VALUE_BYTES) as u64;
    let (piped, read) = scene.read_all(1 << 20);
    assert!(piped > total * 3 / 4, "{piped} bytes of {total} without a copy, {read} with one");
    // More than one pipe holds.
    let (piped, read) = scene.read_all(3 << 20);
    assert!(piped > total * 3 / 4, "{piped} bytes of {total} without a copy, {read} with one");
    // So little at a time is copied, and so is more than four pipes hold.
    assert_eq!(scene.read_all(100_000).0, 0);
    assert_eq!(scene.read_all(8 << 20).0, 0);
}

#[test]
fn after_a_start_what_is_read_is_checked_once() {
    let _alone = crate::ALONE.lock();
    let mut scene = Scene::new();
    if !is_resident(&scene.first_segment()) {
        return println!(
            "skipped: this kernel does not say what is in the page cache (cachestat, Linux 6.5)"
        );
    }
    scene = scene.restart();
    let total = (BATCHES * VALUE_BYTES) as u64;
    assert_eq!(scene.read_all(1 << 20).0, 0, "nobody knows yet whether it is sound");
    let (piped, read) = scene.read_all(1 << 20);
    assert!(piped > total * 3 / 4, "{piped} bytes of {total} without a copy, {read} with one");
}

#[test]
fn what_comes_back_from_the_device_is_checked_again() {
    let _alone = crate::ALONE.lock();
    let mut scene = Scene::new();
    let path = scene.first_segment();
    // How far one fetch goes, and where the next begins: the broker knows the place.
    let next = scene.fetch_whole(0).expect("it is sound");
    // One bit of a batch behind that, and the cache forgets the file.
    let file = std::fs::File::options().read(true).write(true).open(&path).expect("open the segment");
    let position = (next as u64 + 2) * batch(0).len() as u64 + 5000;
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("a byte");
    byte[0] ^= 0x10;
    file.write_all_at(&byte, position).expect("another byte");
    file.sync_all().expect("a flush");
    // SAFETY: advice about a descriptor that is open.
    #[allow(unsafe_code)]
    let advised = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(advised, 0);
    if is_resident(&path) {
        return println!("skipped: the temporary directory's file system is memory");
    }
    let before = scene.node.work();
    // What the kernel has read, and read ahead, is in memory again the next time, and is checked all the same.
    for _ in 0..3 {
        assert_eq!(scene.fetch_whole(next), Err(CORRUPT_MESSAGE));
    }
    // From the start as well: the search for it meets the device.
    for _ in 0..3 {
        assert_eq!(scene.fetch_whole(next + 1), Err(CORRUPT_MESSAGE));
    }
    assert_eq!(scene.node.work().since(before).piped_bytes, 0);
    scene.fetch_whole(next + 3).expect("what is behind it is sound");
}
