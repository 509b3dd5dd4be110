//! What the machine does without a broker: durable writes of raw files, and round trips to an echo server.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::kernel::{Aligned, Commits, check_interrupted, echo, now, pin};
use crate::load::{Outcome, histogram, one_by_one, record};

/// How one group of bytes becomes durable; always over bytes that were written before, so that no metadata changes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Way {
    PageCacheCalls,
    PageCacheLinked,
    DirectCalls,
    DirectLinked,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Way::PageCacheCalls => "page cache, pwrite, fdatasync",
            Way::PageCacheLinked => "page cache, linked write-fdatasync",
            Way::DirectCalls => "O_DIRECT, pwrite, fdatasync",
            Way::DirectLinked => "O_DIRECT, linked write-fdatasync",
        }
    }

    fn flags(self) -> i32 {
        match self {
            Way::PageCacheCalls | Way::PageCacheLinked => 0,
            Way::DirectCalls | Way::DirectLinked => libc::O_DIRECT,
        }
    }
}

/// Zeroed, flushed files, removed with this value.
pub struct RawFiles {
    paths: Vec<PathBuf>,
    file_bytes: u64,
}

impl RawFiles {
    pub fn zeroed(folder: &Path, count: usize, file_bytes: u64) -> io::Result<RawFiles> {
        let step = Aligned::filled(1 << 20, 0);
        let mut files = RawFiles { paths: Vec::new(), file_bytes };
        for index in 0..count {
            let path = folder.join(format!("raw-{file_bytes}-{index}"));
            files.paths.push(path.clone());
            let mut file =
                OpenOptions::new().write(true).create(true).custom_flags(libc::O_DIRECT).open(&path)?;
            for _ in 0..file_bytes / step.as_slice().len() as u64 {
                file.write_all(step.as_slice())?;
            }
            file.sync_all()?;
        }
        File::open(folder)?.sync_all()?;
        Ok(files)
    }

    fn open(&self, count: usize, flags: i32) -> io::Result<Vec<File>> {
        let open = |path: &PathBuf| {
            let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
            // Every way begins with nothing of the file in memory.
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
            Ok(file)
        };
        self.paths[..count].iter().map(open).collect()
    }
}

impl Drop for RawFiles {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = fs::remove_file(path);
        }
    }
}

pub struct RawOutcome {
    pub per_second: f64,
    pub mb_per_second: f64,
    pub latency: Histogram<u64>,
}

/// Counts what falls into the window.
struct Meter {
    begin: Instant,
    end: Instant,
    latency: Histogram<u64>,
}

impl Meter {
    fn add(&mut self, since: Instant) -> io::Result<bool> {
        check_interrupted()?;
        let time = now();
        if time >= self.begin && time < self.end {
            record(&mut self.latency, time - since);
        }
        Ok(time < self.end)
    }
}

/// Commits groups one after another into each of the first `count` files, on `cpu`, for the time given.
pub fn commits(
    files: &RawFiles,
    count: usize,
    way: Way,
    group_bytes: usize,
    cpu: usize,
    window: Duration,
) -> io::Result<RawOutcome> {
    on_cpu(cpu, || {
        let opened = files.open(count, way.flags())?;
        let groups = files.file_bytes / group_bytes as u64;
        let begin = now() + Duration::from_millis(200);
        let mut meter = Meter { begin, end: begin + window, latency: histogram() };
        match way {
            Way::PageCacheCalls | Way::DirectCalls => {
                let buffer = Aligned::filled(group_bytes, b'r');
                let mut group = 0;
                loop {
                    let since = now();
                    opened[0].write_all_at(buffer.as_slice(), group % groups * group_bytes as u64)?;
                    nix::unistd::fdatasync(&opened[0])?;
                    group += 1;
                    if !meter.add(since)? {
                        break;
                    }
                }
            }
            Way::PageCacheLinked | Way::DirectLinked => {
                let mut ring = Commits::new(Aligned::filled(group_bytes, b'r'), opened)?;
                let mut next = vec![0_u64; count];
                let mut since = vec![now(); count];
                let mut done: Vec<usize> = (0..count).collect();
                let mut goes_on = true;
                while goes_on {
                    for file in done.drain(..) {
                        ring.begin(file, next[file] % groups * group_bytes as u64)?;
                        next[file] += 1;
                        since[file] = now();
                    }
                    ring.wait(&mut done)?;
                    for file in &done {
                        goes_on &= meter.add(since[*file])?;
                    }
                }
            }
        }
        let per_second = meter.latency.len() as f64 / window.as_secs_f64();
        Ok(RawOutcome {
            per_second,
            mb_per_second: per_second * group_bytes as f64 / 1e6,
            latency: meter.latency,
        })
    })
}

/// Round trips of a request and a reply between this thread and an echo server on a ring on `cpu`.
pub fn echo_round_trips(request: usize, reply: usize, cpu: usize, window: Duration) -> io::Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    let (server, _) = listener.accept()?;
    server.set_nodelay(true)?;
    std::thread::scope(|scope| {
        let echoing = scope.spawn(move || -> io::Result<()> {
            pin(cpu)?;
            echo(server.as_raw_fd(), request, reply)
        });
        let frames = [vec![b'q'; request]];
        let warm_up = Duration::from_millis(200);
        let outcome = one_by_one(&mut client, &frames, Some(reply), warm_up, window, &mut |_| Ok(()));
        drop(client);
        echoing.join().expect("the echo server does not panic")?;
        outcome
    })
}

pub fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            pin(cpu)?;
            work()
        });
        thread.join().expect("the measuring thread does not panic")
    })
}
