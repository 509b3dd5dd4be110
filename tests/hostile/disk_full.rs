//! A file system without room: producers are told, readers go on, and nothing acknowledged is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use corelog::protocol::ErrorCode;
use corelog_clients::options;

use crate::wire::{Client, batch, wait_until};

/// What the operator reads in the log.
const SHORTAGE: &str = "no storage space";

/// A small file system in memory, mounted over a directory. Unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None`: this needs root.
    fn over(directory: &Path, size: &str) -> Option<Mount> {
        std::fs::create_dir_all(directory).expect("make the mount point");
        let size = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory);
        let done = mount.output().is_ok_and(|output| output.status.success());
        done.then(|| Mount(directory.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_refuses_producers_serves_readers_and_recovers() {
    let mut broker = options!()
        .cores(1)
        .set("log.segment.bytes", "4194304")
        .set("offsets.topic.num.partitions", "1")
        .allow_warning(SHORTAGE)
        .allow_warning("is on tmpfs")
        .start();
    // The directory comes from the first start; the second finds an empty file system over it.
    broker.stop();
    let Some(mount) = Mount::over(&broker.data_directory(), "48m") else {
        eprintln!("skipped: mounting a small file system needs root");
        broker.finish();
        return;
    };
    broker.start_again();
    let mut client = Client::connect(broker.address());
    client.create_topic("t", 1);
    wait_until("the topic", || client.produce("t", &batch(b"first")).0 == 0);
    let ballast = broker.data_directory().join("ballast");
    std::fs::write(&ballast, vec![0; 16 << 20]).expect("take a third of the room");

    let value = vec![b'v'; 500_000];
    let mut acknowledged = 1;
    let refusal = loop {
        let (error, offset) = client.produce("t", &batch(&value));
        if error != 0 {
            break error;
        }
        assert_eq!(offset, acknowledged);
        acknowledged += 1;
        assert!(acknowledged < 200, "48 MiB do not hold 200 records of 500 kB");
    };
    assert_eq!(refusal, ErrorCode::KafkaStorageError.code());
    let (error, end, records) = client.fetch("t", 0);
    assert_eq!((error, end, records.is_empty()), (0, acknowledged, false), "readers go on");
    // Log lines are written by a thread of their own, after the answer perhaps.
    let log = broker.directory().join("broker.log");
    let read = || std::fs::read_to_string(&log).expect("read the broker's log");
    wait_until("the operator to be told", || read().contains(SHORTAGE));

    std::fs::remove_file(&ballast).expect("make room");
    wait_until("the log takes records again", || client.produce("t", &batch(b"later")).0 == 0);
    let (error, end, _) = client.fetch("t", acknowledged);
    assert_eq!((error, end > acknowledged), (0, true));

    broker.kill9();
    broker.start_again();
    let mut client = Client::connect(broker.address());
    let mut offset = 0;
    while offset < end {
        let (error, high_watermark, records) = client.fetch("t", offset);
        assert_eq!((error, high_watermark), (0, end), "after a kill");
        let whole = corelog::record::BatchView::parse(&records).expect("a whole batch at each offset");
        assert_eq!(whole.base_offset(), offset);
        offset = whole.end_offset();
    }
    broker.kill9();
    drop(mount);
    broker.start_again();
    broker.finish();
}
