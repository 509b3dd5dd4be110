use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::buffer::AlignedBuffer;
use crate::model::{Monotonic, ShardId};
use crate::reactor::{
    Completion, File, Files, Io, OpenMode, Operation, Outcome, Rejected, Room, Socket, Token,
};

mod faults;

const SHARD: ShardId = ShardId(0);
const SEEDS: std::ops::Range<u64> = 0..300;

fn world(seed: u64) -> SimWorld {
    SimWorld::new(seed, SimOptions::default())
}

fn files(world: &SimWorld) -> SimFiles {
    world.files()
}

/// The content of a file after a crash and a restart; `None` if it is gone.
fn after(world: &SimWorld, kind: CrashKind, path: &str) -> Option<Vec<u8>> {
    if !world.crashed() {
        world.crash(kind);
    }
    world.restart();
    let mut files = files(world);
    (&mut files as &mut dyn Files).read_all(Path::new(path)).ok()
}

/// A file with its entry durable.
fn durable_file(world: &SimWorld, path: &str, content: &[u8]) -> File {
    let mut files = files(world);
    let file = files.open(Path::new(path), OpenMode::Write).unwrap();
    files.write_at(file, 0, content).unwrap();
    files.sync(file).unwrap();
    files.sync_directory(Path::new("/")).unwrap();
    file
}

/// Runs a scenario over many seeds and counts what came out.
fn outcomes<T: Ord>(scenario: impl Fn(SimWorld) -> T) -> BTreeMap<T, u32> {
    let mut outcomes = BTreeMap::new();
    for seed in SEEDS {
        *outcomes.entry(scenario(world(seed))).or_default() += 1;
    }
    outcomes
}

fn names<T: Ord + Copy>(outcomes: &BTreeMap<T, u32>) -> Vec<T> {
    outcomes.keys().copied().collect()
}

fn submit(io: &mut SimIo, value: u64, operation: Operation) -> Token {
    let token = Token::new(Room::Log, value);
    assert!(io.submit(token, operation).is_ok(), "the table is full");
    token
}

/// Lets the world run until the operation has ended.
fn end(world: &SimWorld, io: &mut SimIo, token: Token) -> Outcome {
    let mut completions = Vec::new();
    loop {
        io.reap(&mut completions);
        let ended = completions.iter().position(|completion| completion.token == token);
        if let Some(place) = ended {
            let completion = completions.remove(place);
            assert!(!completion.more);
            return completion.outcome;
        }
        world.advance_to_next_event().expect("the operation ends");
    }
}

fn run(world: &SimWorld, io: &mut SimIo, operation: Operation) -> Outcome {
    let token = submit(io, 1, operation);
    end(world, io, token)
}

fn is_done(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Done)
}

fn errno(outcome: Outcome) -> Option<i32> {
    match outcome {
        Outcome::Failed(error) => error.raw_os_error(),
        _ => None,
    }
}

mod power_loss {
    use super::*;

    #[test]
    fn synced_bytes_under_a_synced_name_survive() {
        let found = outcomes(|world| {
            durable_file(&world, "/a", &[7; 3000]);
            after(&world, CrashKind::PowerLoss, "/a") == Some(vec![7; 3000])
        });
        assert_eq!(names(&found), [true]);
    }

    #[test]
    fn a_synced_file_whose_name_is_not_synced_may_be_gone() {
        let found = outcomes(|world| {
            let mut files = files(&world);
            files.create_directory(Path::new("/d")).unwrap();
            files.sync_directory(Path::new("/")).unwrap();
            let file = files.open(Path::new("/d/a"), OpenMode::Write).unwrap();
            files.write_at(file, 0, b"bytes").unwrap();
            files.sync(file).unwrap();
            after(&world, CrashKind::PowerLoss, "/d/a").is_some()
        });
        assert_eq!(names(&found), [false, true]);
    }

    #[test]
    fn unsynced_sectors_are_lost_in_every_way() {
        #[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy, Debug)]
        enum Left {
            None,
            Shorter,
            Hole,
            All,
        }
        let found = outcomes(|world| {
            let file = durable_file(&world, "/a", &[1; 1000]);
            files(&world).write_at(file, 1000, &[2; 5000]).unwrap();
            let bytes = after(&world, CrashKind::PowerLoss, "/a").expect("its name is durable");
            assert_eq!(bytes[..1000], [1; 1000], "synced bytes");
            assert!(bytes[1000..].iter().all(|&byte| byte == 2 || byte == 0), "new bytes or nothing");
            match (bytes.len(), bytes[1000..].contains(&0)) {
                (1000, _) => Left::None,
                (6000, false) => Left::All,
                (6000, true) => Left::Hole,
                _ => Left::Shorter,
            }
        });
        assert_eq!(names(&found), [Left::None, Left::Shorter, Left::Hole, Left::All]);
    }

    #[test]
    fn an_unsynced_truncation_may_be_undone() {
        let cut = |syncs: bool| {
            outcomes(|world| {
                let file = durable_file(&world, "/a", &[1; 2000]);
                let mut files = files(&world);
                files.set_size(file, 700).unwrap();
                if syncs {
                    files.sync(file).unwrap();
                }
                let bytes = after(&world, CrashKind::PowerLoss, "/a").unwrap();
                assert!(bytes.iter().all(|&byte| byte == 1));
                bytes.len()
            })
        };
        assert_eq!(names(&cut(false)), [700, 2000]);
        assert_eq!(names(&cut(true)), [700]);
    }

    #[test]
    fn bytes_cut_off_do_not_come_back_under_a_synced_growth() {
        let found = outcomes(|world| {
            let file = durable_file(&world, "/a", &[1; 2000]);
            let mut files = files(&world);
            files.set_size(file, 700).unwrap();
            files.write_at(file, 1900, &[2; 10]).unwrap();
            files.sync(file).unwrap();
            let bytes = after(&world, CrashKind::PowerLoss, "/a").unwrap();
            let expected = [&[1; 700][..], &[0; 1200], &[2; 10]].concat();
            bytes == expected
        });
        assert_eq!(names(&found), [true]);
    }

    #[test]
    fn what_a_sync_covered_survives_growth_beside_it() {
        let found = outcomes(|world| {
            let file = durable_file(&world, "/a", &[1; 2000]);
            let mut files = files(&world);
            files.set_size(file, 700).unwrap();
            files.write_at(file, 700, &[2; 1300]).unwrap();
            let mut io = world.io(SHARD);
            let first = submit(&mut io, 1, Operation::Sync { file });
            // The sync has begun: what grows now it need not cover.
            world.advance_to_next_event();
            files.write_at(file, 2000, &[3; 1000]).unwrap();
            assert!(is_done(end(&world, &mut io, first)));
            if world.now().0 % 2 == 0 {
                assert!(is_done(run(&world, &mut io, Operation::Sync { file })));
            }
            let bytes = after(&world, CrashKind::PowerLoss, "/a").unwrap();
            bytes[..2000] == [&[1; 700][..], &[2; 1300]].concat()
        });
        assert_eq!(names(&found), [true]);
    }

    #[test]
    fn replacing_a_file_leaves_the_old_or_the_new_content_wherever_it_stops() {
        for seed in 0..20 {
            for nth in 1.. {
                let world = world(seed);
                durable_file(&world, "/a", b"old");
                world.arm_crash(CrashKind::PowerLoss, nth);
                let mut files = files(&world);
                let replaced = (&mut files as &mut dyn Files).replace(Path::new("/a"), b"newer");
                let was_stopped = world.crashed();
                assert_eq!(replaced.is_err(), was_stopped);
                let found = after(&world, CrashKind::PowerLoss, "/a").expect("never neither");
                match was_stopped {
                    true => {
                        assert!(found == b"old" || found == b"newer", "seed {seed} stop {nth}: {found:?}")
                    }
                    false => {
                        assert_eq!(found, b"newer", "seed {seed}");
                        assert!(nth > 5, "every call of the replacement was a place to stop at");
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn replacing_without_a_sync_is_found_out() {
        let found = outcomes(|world| {
            durable_file(&world, "/a", b"old");
            let mut files = files(&world);
            let file = files.open(Path::new("/t"), OpenMode::Truncate).unwrap();
            files.write_at(file, 0, b"newer").unwrap();
            files.rename(Path::new("/t"), Path::new("/a")).unwrap();
            files.sync_directory(Path::new("/")).unwrap();
            match after(&world, CrashKind::PowerLoss, "/a").as_deref() {
                Some(b"newer") => 1,
                Some(b"") => 0,
                _ => 2,
            }
        });
        assert_eq!(names(&found)[..2], [0, 1], "an empty file under the new name");
    }

    #[test]
    fn a_rename_between_directories_is_kept_or_lost_as_a_whole() {
        let found = outcomes(|world| {
            let mut files = files(&world);
            for directory in ["/a", "/b"] {
                files.create_directory(Path::new(directory)).unwrap();
            }
            let file = files.open(Path::new("/a/x"), OpenMode::Write).unwrap();
            files.sync(file).unwrap();
            files.sync_directory(Path::new("/")).unwrap();
            files.sync_directory(Path::new("/a")).unwrap();
            files.rename(Path::new("/a/x"), Path::new("/b/y")).unwrap();
            world.crash(CrashKind::PowerLoss);
            world.restart();
            let mut files = super::files(&world);
            let mut exists = |path: &str| files.kind(Path::new(path)).unwrap().is_some();
            (exists("/a/x"), exists("/b/y"))
        });
        assert_eq!(names(&found), [(false, true), (true, false)]);
    }
}

mod sync {
    use super::*;

    /// Writes behind synced bytes, then loses power once `operations` have ended. True if the new bytes are there.
    fn survives(operations: impl Fn(&SimWorld, &mut SimIo, File)) -> Vec<bool> {
        let found = outcomes(|world| {
            let file = durable_file(&world, "/a", &[1; 512]);
            let mut io = world.io(SHARD);
            operations(&world, &mut io, file);
            after(&world, CrashKind::PowerLoss, "/a").unwrap() == [[1; 512], [2; 512]].concat()
        });
        names(&found)
    }

    fn write(file: File) -> Operation {
        Operation::Write { file, position: 512, slices: vec![Bytes::from_static(&[2; 512])] }
    }

    #[test]
    fn a_linked_sync_covers_its_write() {
        let found = survives(|world, io, file| {
            let slices = vec![Bytes::from_static(&[2; 500]), Bytes::from_static(&[2; 12])];
            assert!(is_done(run(world, io, Operation::WriteThenSync { file, position: 512, slices })));
        });
        assert_eq!(found, [true]);
    }

    #[test]
    fn a_sync_submitted_after_the_write_ended_covers_it() {
        let found = survives(|world, io, file| {
            assert!(is_done(run(world, io, write(file))));
            assert!(is_done(run(world, io, Operation::Sync { file })));
        });
        assert_eq!(found, [true]);
    }

    #[test]
    fn a_sync_submitted_beside_the_write_may_miss_it() {
        let found = survives(|world, io, file| {
            let (first, second) = (submit(io, 1, write(file)), submit(io, 2, Operation::Sync { file }));
            let mut completions = Vec::new();
            while completions.len() < 2 {
                world.advance_to_next_event().unwrap();
                io.reap(&mut completions);
            }
            assert!(completions.iter().all(|end| end.token == first || end.token == second));
        });
        assert_eq!(found, [false, true]);
    }

    #[test]
    fn what_a_failed_sync_dropped_is_read_and_then_lost() {
        let found = outcomes(|world| {
            let file = durable_file(&world, "/a", &[1; 512]);
            let mut files = files(&world);
            files.write_at(file, 0, &[2; 512]).unwrap();
            world.set_faults(Faults { sync_error: 1_000_000, ..Faults::default() });
            assert_eq!(files.sync(file).unwrap_err().raw_os_error(), Some(libc::EIO));
            world.set_faults(Faults::default());
            let mut bytes = [0; 512];
            files.read_at(file, 0, &mut bytes).unwrap();
            assert_eq!(bytes, [2; 512], "the cache has it");
            files.sync(file).expect("nothing is dirty any more, as far as the kernel knows");
            after(&world, CrashKind::PowerLoss, "/a").unwrap()[0]
        });
        assert_eq!(names(&found), [1, 2]);
    }

    #[test]
    fn a_dropped_page_may_be_read_anew_after_a_restart() {
        let found = outcomes(|world| {
            let file = durable_file(&world, "/a", &[1; 512]);
            let mut files = files(&world);
            files.write_at(file, 0, &[2; 512]).unwrap();
            world.set_faults(Faults { sync_error: 1_000_000, ..Faults::default() });
            files.sync(file).unwrap_err();
            after(&world, CrashKind::ProcessKill, "/a").unwrap()[0]
        });
        assert_eq!(names(&found), [1, 2]);
    }
}

mod process_kill {
    use super::*;

    #[test]
    fn what_was_written_stays_without_any_sync() {
        let found = outcomes(|world| {
            let mut files = files(&world);
            let file = files.open(Path::new("/a"), OpenMode::Write).unwrap();
            files.write_at(file, 0, &[3; 2000]).unwrap();
            after(&world, CrashKind::ProcessKill, "/a") == Some(vec![3; 2000])
        });
        assert_eq!(names(&found), [true]);
    }

    #[test]
    fn a_write_in_flight_is_done_in_full_in_part_or_not_at_all() {
        let found = outcomes(|world| {
            let file = durable_file(&world, "/a", b"");
            let mut io = world.io(SHARD);
            let slices = vec![Bytes::from(vec![4; 3000])];
            submit(&mut io, 1, Operation::Write { file, position: 0, slices });
            let bytes = after(&world, CrashKind::ProcessKill, "/a").unwrap();
            match bytes.iter().filter(|&&byte| byte == 4).count() {
                0 => 0,
                3000 => 2,
                _ => 1,
            }
        });
        assert_eq!(names(&found), [0, 1, 2]);
    }

    #[test]
    fn a_door_from_before_leads_nowhere() {
        let world = world(1);
        let file = durable_file(&world, "/a", b"x");
        let mut old = world.io(SHARD);
        submit(&mut old, 1, Operation::Sync { file });
        world.crash(CrashKind::ProcessKill);
        assert_eq!(world.next_turn(Monotonic::NEVER), Turn::Crashed);
        assert!(old.files().kind(Path::new("/a")).is_err());
        world.restart();
        assert!(old.files().kind(Path::new("/a")).is_err());
        assert_eq!((old.in_flight(), world.open_files()), (0, 0));
        old.close_file(file);
        assert!(world.files().kind(Path::new("/a")).unwrap().is_some());
    }
}

#[test]
fn no_space_is_told_when_it_is_taken_and_not_within_what_was_reserved() {
    let world = SimWorld::new(1, SimOptions { quota_bytes: 64 << 10, ..SimOptions::default() });
    let file = durable_file(&world, "/a", b"");
    let mut io = world.io(SHARD);
    let reserve = |length| Operation::Reserve { file, position: 0, length };
    assert!(is_done(run(&world, &mut io, reserve(40 << 10))));
    assert_eq!(errno(run(&world, &mut io, reserve(100 << 10))), Some(libc::ENOSPC));
    let mut files = world.files();
    assert_eq!(files.size(file).unwrap(), 0);
    let write = |position| Operation::Write { file, position, slices: vec![Bytes::from(vec![1; 20 << 10])] };
    assert!(is_done(run(&world, &mut io, write(20 << 10))));
    assert_eq!(errno(run(&world, &mut io, write(60 << 10))), Some(libc::ENOSPC));
    let refused = (0..16).find_map(|i| files.open(Path::new(&format!("/{i}")), OpenMode::Write).err());
    assert_eq!(refused.expect("16 files of a block each do not fit").raw_os_error(), Some(libc::ENOSPC));
    world.set_quota(1 << 20);
    assert!(is_done(run(&world, &mut io, reserve(100 << 10))));
    let (free, size) = files.space(Path::new("/")).unwrap();
    assert!(size == 1 << 20 && free < (1 << 20) - (100 << 10), "{free} of {size}");
}

#[test]
fn errors_of_the_device_are_told() {
    let world = world(3);
    let file = durable_file(&world, "/a", &[1; 100]);
    let always = 1_000_000;
    world.set_faults(Faults {
        read_error: always,
        write_error: always,
        sync_error: always,
        ..Faults::default()
    });
    let mut io = world.io(SHARD);
    let read = Operation::Read { file, position: 0, length: 10, buffer: BytesMut::new() };
    assert_eq!(errno(run(&world, &mut io, read)), Some(libc::EIO));
    let slices = vec![Bytes::from_static(b"x")];
    let write = Operation::WriteThenSync { file, position: 0, slices };
    assert_eq!(errno(run(&world, &mut io, write)), Some(libc::EIO));
    assert_eq!(errno(run(&world, &mut io, Operation::Sync { file })), Some(libc::EIO));
    world.set_faults(Faults { rejection: always, ..Faults::default() });
    assert!(matches!(io.submit(Token::new(Room::Log, 9), Operation::Sync { file }), Err(Rejected(_))));
}

#[test]
fn a_stalled_disk_is_seen_by_the_age_of_its_oldest_operation() {
    let world = world(4);
    let file = durable_file(&world, "/a", b"x");
    let mut io = world.io(SHARD);
    world.stall_disk(Duration::from_secs(5));
    let start = io.now();
    let token = submit(&mut io, 1, Operation::Sync { file });
    assert_eq!(io.oldest_file_operation(), Some(start));
    assert!(is_done(end(&world, &mut io, token)));
    assert!(io.now().since(start) >= Duration::from_secs(5));
    assert_eq!(io.oldest_file_operation(), None);
}

#[test]
fn a_file_closes_when_the_last_operation_on_it_ends() {
    let world = world(5);
    let file = durable_file(&world, "/a", b"x");
    let mut io = world.io(SHARD);
    let token = submit(&mut io, 1, Operation::Sync { file });
    io.close_file(file);
    assert_eq!(world.open_files(), 1);
    assert!(is_done(end(&world, &mut io, token)));
    assert_eq!(world.open_files(), 0);
}

#[test]
fn jobs_of_a_shard_run_in_order() {
    for seed in 0..20 {
        let world = world(seed);
        let mut io = world.io(SHARD);
        for i in 0..10u8 {
            let job = move |files: &mut dyn Files| -> Box<dyn std::any::Any + Send> {
                let file = files.open(Path::new("/log"), OpenMode::Write).unwrap();
                let size = files.size(file).unwrap();
                files.write_at(file, size, &[i]).unwrap();
                files.close(file);
                Box::new(size)
            };
            submit(&mut io, u64::from(i), Operation::Job(Box::new(job)));
        }
        while world.advance_to_next_event().is_some() {}
        let mut completions = Vec::new();
        io.reap(&mut completions);
        for (i, completion) in completions.into_iter().enumerate() {
            let Outcome::Job(size) = completion.outcome else { panic!("not a job") };
            assert_eq!(*size.downcast::<u64>().unwrap(), i as u64);
        }
        assert_eq!(
            (&mut world.files() as &mut dyn Files).read_all(Path::new("/log")).unwrap(),
            (0..10).collect::<Vec<u8>>()
        );
    }
}

/// A shard that sends back what it receives, a round at a time.
struct EchoShard {
    io: SimIo,
    port: u16,
    waiting: BTreeMap<Socket, Vec<u8>>,
    sending: BTreeMap<Socket, bool>,
    accepted: u32,
    closed: u32,
}

impl EchoShard {
    const ACCEPT: u64 = 0;
    const RECEIVE: u64 = 1 << 32;
    const SEND: u64 = 2 << 32;
    const CLOSE: u64 = 3 << 32;

    fn new(world: &SimWorld, shard: u16, port: u16) -> EchoShard {
        let mut io = world.io(ShardId(shard));
        let (listener, port) = io.listen(port);
        submit(&mut io, Self::ACCEPT, Operation::Accept { listener });
        EchoShard { io, port, waiting: BTreeMap::new(), sending: BTreeMap::new(), accepted: 0, closed: 0 }
    }

    fn round(&mut self) {
        let mut completions = Vec::new();
        self.io.reap(&mut completions);
        for completion in completions {
            self.take(completion);
        }
        self.io.wait(Monotonic::NEVER);
    }

    fn take(&mut self, completion: Completion) {
        let value = completion.token.value;
        let socket = Socket(value as u32);
        match (value >> 32 << 32, completion.outcome) {
            (Self::ACCEPT, Outcome::Accepted { socket, .. }) => {
                self.accepted += 1;
                submit(&mut self.io, Self::RECEIVE | u64::from(socket.0), Operation::Receive { socket });
            }
            (Self::RECEIVE, Outcome::Received(received)) => {
                let bytes = self.io.bytes(&received).to_vec();
                self.io.give_back(received);
                self.waiting.entry(socket).or_default().extend(bytes);
                self.send(socket);
            }
            (Self::SEND, Outcome::Done) => {
                self.sending.remove(&socket);
                self.send(socket);
            }
            (Self::SEND, Outcome::Failed(_)) => _ = self.sending.remove(&socket),
            (Self::RECEIVE, Outcome::EndOfStream | Outcome::Failed(_)) => {
                submit(&mut self.io, Self::CLOSE | u64::from(socket.0), Operation::CloseSocket { socket });
                self.waiting.remove(&socket);
            }
            (Self::CLOSE, Outcome::Done) => self.closed += 1,
            _ => panic!("unexpected completion of {value:#x}"),
        }
    }

    fn send(&mut self, socket: Socket) {
        if let Some(bytes) = self.waiting.get_mut(&socket)
            && !bytes.is_empty()
            && self.sending.insert(socket, true).is_none()
        {
            let slices = vec![Bytes::from(std::mem::take(bytes))];
            submit(&mut self.io, Self::SEND | u64::from(socket.0), Operation::Send { socket, slices });
        }
    }
}

/// Drives echo shards until nothing is left to happen; returns what each client got.
fn drive(world: &SimWorld, shards: &mut [EchoShard]) -> BTreeMap<ClientId, Vec<u8>> {
    let mut received: BTreeMap<ClientId, Vec<u8>> = BTreeMap::new();
    let until = world.now() + Duration::from_secs(60);
    loop {
        match world.next_turn(until) {
            Turn::Shard(shard) => shards[usize::from(shard.0)].round(),
            Turn::Client(client) => received.entry(client).or_default().extend(world.client_received(client)),
            Turn::Idle => return received,
            Turn::Crashed => panic!("nobody crashed it"),
        }
    }
}

fn echo_world(seed: u64, shard_count: u16, options: SimOptions) -> (SimWorld, Vec<EchoShard>) {
    let world = SimWorld::new(seed, SimOptions { shard_count, ..options });
    let mut shards: Vec<EchoShard> = Vec::new();
    for shard in 0..shard_count {
        let port = shards.first().map_or(0, |first| first.port);
        shards.push(EchoShard::new(&world, shard, port));
    }
    (world, shards)
}

mod network {
    use super::*;

    #[test]
    fn each_client_gets_its_own_bytes_in_order_from_whichever_shard() {
        let options =
            SimOptions { receive_buffer_count: 2, receive_buffer_bytes: 1000, ..SimOptions::default() };
        let (world, mut shards) = echo_world(7, 3, options);
        let port = shards[0].port;
        let messages: Vec<Vec<u8>> = (0..20u8).map(|i| vec![i; 5000 + usize::from(i) * 100]).collect();
        let clients: Vec<ClientId> = messages.iter().map(|_| world.connect(port)).collect();
        for (&client, message) in clients.iter().zip(&messages) {
            world.client_send(client, message);
        }
        let received = drive(&world, &mut shards);
        for (client, message) in clients.iter().zip(&messages) {
            assert!(received[client] == *message, "{client:?}");
        }
        assert!(shards.iter().all(|shard| shard.accepted > 0), "every shard accepted some");
    }

    #[test]
    fn receives_that_wait_for_a_buffer_take_turns() {
        let options =
            SimOptions { receive_buffer_count: 2, receive_buffer_bytes: 1000, ..SimOptions::default() };
        let world = SimWorld::new(16, options);
        let mut io = world.io(SHARD);
        let (listener, port) = io.listen(0);
        submit(&mut io, 1, Operation::Accept { listener });
        let clients: Vec<ClientId> = (0..3).map(|_| world.connect(port)).collect();
        while world.advance_to_next_event().is_some() {}
        let mut completions = Vec::new();
        io.reap(&mut completions);
        for (number, completion) in (2..).zip(completions.drain(..)) {
            let Outcome::Accepted { socket, .. } = completion.outcome else { panic!("not accepted") };
            submit(&mut io, number, Operation::Receive { socket });
        }
        for (client, bytes) in clients.iter().zip([20_000, 20_000, 3]) {
            world.client_send(*client, &vec![7; bytes]);
        }
        while world.advance_to_next_event().is_some() {}
        let mut order = Vec::new();
        while order.len() < 12 {
            io.reap(&mut completions);
            for completion in completions.drain(..) {
                let Outcome::Received(received) = completion.outcome else { panic!("not received") };
                order.push(io.bytes(&received).len());
                io.give_back(received);
            }
        }
        let small = order.iter().position(|bytes| *bytes == 3).expect("it is heard");
        assert!(small <= 4, "two were full, then each of the others has one turn at most: {order:?}");
    }

    #[test]
    fn the_end_and_the_reset_of_a_stream_reach_the_server() {
        let (world, mut shards) = echo_world(8, 1, SimOptions::default());
        let (ended, reset) = (world.connect(shards[0].port), world.connect(shards[0].port));
        world.client_send(ended, b"goodbye");
        world.client_close(ended);
        world.client_send(reset, b"never mind");
        world.client_reset(reset);
        drive(&world, &mut shards);
        assert_eq!(shards[0].closed, 2);
        assert_eq!(world.client_state(reset), ClientState::Reset);
        assert_eq!(world.client_state(ended), ClientState::Ended);
        assert_eq!(shards[0].io.in_flight(), 1, "the accept");
    }

    #[test]
    fn nobody_listens_on_another_port() {
        let (world, mut shards) = echo_world(9, 1, SimOptions::default());
        let client = world.connect(shards[0].port + 1);
        drive(&world, &mut shards);
        assert_eq!(world.client_state(client), ClientState::Refused);
    }

    #[test]
    fn a_client_that_does_not_read_stops_the_send() {
        let options = SimOptions { send_window_bytes: 1000, ..SimOptions::default() };
        let (world, mut shards) = echo_world(10, 1, options);
        let client = world.connect(shards[0].port);
        world.client_pause(client);
        world.client_send(client, &[5; 10_000]);
        assert_eq!(drive(&world, &mut shards).remove(&client).unwrap_or_default(), b"");
        assert!(!shards[0].sending.is_empty(), "the send stands still");
        world.client_resume(client);
        assert!(drive(&world, &mut shards)[&client] == [5; 10_000]);
        assert!(shards[0].sending.is_empty());
    }

    #[test]
    fn a_close_with_bytes_unread_may_cost_the_client_its_reply() {
        let mut lost = 0;
        for seed in 0..50 {
            let world = world(seed);
            let mut io = world.io(SHARD);
            let (listener, port) = io.listen(0);
            submit(&mut io, 1, Operation::Accept { listener });
            let client = world.connect(port);
            let mut completions = Vec::new();
            while completions.is_empty() {
                world.advance_to_next_event().unwrap();
                io.reap(&mut completions);
            }
            let Outcome::Accepted { socket, .. } = completions[0].outcome else { panic!("not accepted") };
            world.client_send(client, b"a request that nobody reads");
            while world.advance_to_next_event().is_some() {}
            assert!(is_done(run(
                &world,
                &mut io,
                Operation::Send { socket, slices: vec![Bytes::from("no")] }
            )));
            assert!(is_done(run(&world, &mut io, Operation::CloseSocket { socket })));
            while world.advance_to_next_event().is_some() {}
            assert_eq!(world.client_state(client), ClientState::Reset);
            lost += u32::from(world.client_received(client).is_empty());
        }
        assert!((1..50).contains(&lost), "{lost} of 50");
    }

    #[test]
    fn nothing_is_received_once_a_socket_is_closing() {
        let options = SimOptions { receive_buffer_count: 1, ..SimOptions::default() };
        let (world, mut shards) = echo_world(15, 1, options);
        let client = world.connect(shards[0].port);
        drive(&world, &mut shards);
        let socket = Socket(1);
        world.client_send(client, b"bytes that are there and not reaped");
        while world.advance_to_next_event().is_some() {}
        let io = &mut shards[0].io;
        let close = submit(io, 9, Operation::CloseSocket { socket });
        let mut completions = Vec::new();
        while completions.len() < 2 {
            io.reap(&mut completions);
            world.advance_to_next_event();
        }
        assert!(matches!(completions[0].outcome, Outcome::Cancelled | Outcome::EndOfStream));
        assert!(completions[1].token == close && matches!(completions[1].outcome, Outcome::Done));
        // The buffer went back: another connection gets it.
        let other = world.connect(shards[0].port);
        world.client_send(other, b"hello");
        assert_eq!(drive(&world, &mut shards)[&other], b"hello");
    }

    #[test]
    fn a_crash_resets_every_connection() {
        let (world, mut shards) = echo_world(11, 2, SimOptions::default());
        let client = world.connect(shards[0].port);
        drive(&world, &mut shards);
        assert_eq!(world.client_state(client), ClientState::Open);
        world.crash(CrashKind::ProcessKill);
        world.restart();
        assert_eq!(world.client_state(client), ClientState::Reset);
    }
}

#[test]
fn a_doorbell_wakes_the_other_shard() {
    let (world, mut shards) = echo_world(12, 2, SimOptions::default());
    drive(&world, &mut shards);
    shards[0].io.ring_doorbell(ShardId(1));
    let until = world.now() + Duration::from_secs(1);
    assert_eq!(world.next_turn(until), Turn::Shard(ShardId(1)));
    shards[1].round();
    assert_eq!(world.next_turn(until), Turn::Idle);
    assert_eq!(world.now(), until);
}

#[test]
fn a_shard_gets_its_turn_when_its_wait_ends() {
    let world = world(13);
    let mut io = world.io(SHARD);
    let until = io.now() + Duration::from_millis(3);
    io.wait(until);
    assert_eq!(world.next_turn(Monotonic::NEVER), Turn::Shard(SHARD));
    assert_eq!(io.now(), until);
}

/// A run with files, network and jobs at once; returns the hash of all that happened.
fn busy_run(seed: u64) -> u64 {
    let options = SimOptions {
        faults: Faults { sync_error: 50_000, write_error: 50_000, read_error: 50_000, ..Faults::default() },
        wall_clock_jump: Duration::from_secs(3600),
        ..SimOptions::default()
    };
    let (world, mut shards) = echo_world(seed, 2, options);
    let port = shards[0].port;
    let mut files = world.files();
    let opened: Vec<File> =
        (0..4).map(|i| files.open(Path::new(&format!("/{i}")), OpenMode::Write).unwrap()).collect();
    for client in 0..5u8 {
        let client_id = world.connect(port);
        world.client_send(client_id, &vec![client; 20_000]);
    }
    let mut pending = Vec::new();
    for i in 0..40u64 {
        let file = opened[i as usize % 4];
        let slices = vec![Bytes::from(vec![i as u8; 700])];
        pending.push(submit(
            &mut shards[0].io,
            1 << 50 | i,
            Operation::WriteThenSync { file, position: i * 700, slices },
        ));
    }
    // The echo shard does not know these operations: take their completions here, before it runs.
    let mut completions = Vec::new();
    while completions.len() < pending.len() {
        world.advance_to_next_event().unwrap();
        let mut reaped = Vec::new();
        shards[0].io.reap(&mut reaped);
        for completion in reaped {
            match completion.token.value >= 1 << 50 {
                true => completions.push(completion),
                false => shards[0].take(completion),
            }
        }
    }
    drive(&world, &mut shards);
    world.event_hash()
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let hashes: Vec<u64> = (0..30).map(busy_run).collect();
    for (seed, &hash) in hashes.iter().enumerate() {
        assert_eq!(busy_run(seed as u64), hash, "seed {seed}");
    }
    let mut different = hashes.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), hashes.len(), "another seed gives another world");
}

#[test]
#[should_panic(expected = "a write at 100 covers what was written at 100")]
fn a_file_that_is_written_once_takes_no_second_write() {
    let world = SimWorld::new(1, SimOptions { written_once: &[".log"], ..SimOptions::default() });
    let file = world.files().open(Path::new("/0.log"), OpenMode::Write).unwrap();
    let mut io = world.io(ShardId(0));
    for position in [0, 512, 100] {
        let slices = vec![Bytes::from_static(&[7; 512])];
        io.submit(Token::new(Room::Log, 0), Operation::Write { file, position, slices }).ok().unwrap();
        while world.advance_to_next_event().is_some() {}
    }
}

/// A log of `a`, 1,000 bytes of it, then written again through O_DIRECT from its first block on.
fn write_again(block: impl Fn(usize) -> u8, blocks: usize) {
    let world = SimWorld::new(1, SimOptions { written_once: &[".log"], ..SimOptions::default() });
    let file = world.files().open(Path::new("/0.log"), OpenMode::Direct).unwrap();
    let mut io = world.io(ShardId(0));
    let first: Vec<u8> = (0..2 * 4096).map(|at| if at < 1000 || at == 4096 { b'a' } else { 0 }).collect();
    let second: Vec<u8> = (0..blocks * 4096).map(block).collect();
    for bytes in [first, second] {
        let mut aligned = AlignedBuffer::with_capacity(bytes.len());
        aligned.extend_from_slice(&bytes);
        let operation = Operation::Write { file, position: 0, slices: vec![aligned.freeze()] };
        io.submit(Token::new(Room::Log, 0), operation).ok().unwrap();
        while world.advance_to_next_event().is_some() {}
    }
}

#[test]
fn a_block_may_be_written_again_with_more_in_it() {
    write_again(|at| if at < 1000 { b'a' } else { b'b' }, 1);
}

#[test]
#[should_panic(expected = "a write at 0 covers what was written at 999")]
fn a_block_is_not_written_again_with_other_bytes() {
    write_again(|at| if at < 999 { b'a' } else { b'b' }, 1);
}

#[test]
#[should_panic(expected = "a write at 0 covers what was written at 4096")]
fn no_more_than_the_first_block_is_written_again() {
    write_again(|_| b'a', 2);
}

#[test]
fn a_buffer_given_back_is_overwritten() {
    let (world, mut shards) = echo_world(14, 1, SimOptions::default());
    let client = world.connect(shards[0].port);
    drive(&world, &mut shards);
    world.client_send(client, b"secret");
    let mut completions = Vec::new();
    let io = &mut shards[0].io;
    while completions.is_empty() {
        world.advance_to_next_event().unwrap();
        io.reap(&mut completions);
    }
    let Some(Outcome::Received(received)) = completions.pop().map(|end| end.outcome) else {
        panic!("no bytes")
    };
    let buffer = received.buffer;
    io.give_back(received);
    assert_eq!(io.peek_free(buffer)[0], 0xdb);
}
