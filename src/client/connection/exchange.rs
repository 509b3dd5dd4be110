//! The task of a connection: writes what was submitted, reads answers, watches deadlines; fails what is left at its end.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::client::error::{ClientError, Fatal, Retriable, Waited};
use crate::client::time::Instant;
use crate::config::Address;
use crate::protocol::ApiKey;

use super::transport::Transport;
use super::{Answer, Shared};

/// Requests gathered into one write, and pieces of them in one system call (Linux takes 1024).
const GATHERED_REQUESTS_MAX: usize = 64;
const GATHERED_PIECES_MAX: usize = 128;

/// No broker sends more in one answer: fetches are asked for at most half of it. A length beyond is no length.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Room made for a read that may bring anything.
const READ_BYTES: usize = 64 << 10;

/// A frame up to this length, which a fetch by default stays below, gets its room at once: what has come of it is never moved
/// then, and room that nothing was written to is no memory. A longer claim makes no more room than twice what has come.
const FRAME_ROOM_MAX: usize = 64 << 20;

/// How often deadlines are looked at: what passes one is late by at most this much.
const WATCH: Duration = Duration::from_millis(50);

/// A request on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub pieces: Vec<Bytes>,
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub submitted: Instant,
    pub deadline: Instant,
    pub timeout: Duration,
    pub reply: Reply,
}

/// Called with an answer, or with `None` where there is none.
type Then = Box<dyn FnOnce(Result<Option<Answer>, ClientError>) + Send>;

/// Who waits for what.
pub(super) enum Reply {
    Answer(oneshot::Sender<Result<Answer, ClientError>>),
    Call(Then),
    /// Brokers do not answer this one.
    Written(Then),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reply::Answer(_) => "Answer",
            Reply::Call(_) => "Call",
            Reply::Written(_) => "Written",
        })
    }
}

impl Reply {
    pub(super) fn fail(self, error: ClientError) {
        // Whoever stopped waiting does not want to know.
        match self {
            Reply::Answer(sender) => drop(sender.send(Err(error))),
            Reply::Call(then) | Reply::Written(then) => then(Err(error)),
        }
    }
}

/// A request that was written, or is being written.
struct Waiting {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    submitted: Instant,
    deadline: Instant,
    timeout: Duration,
    reply: Reply,
}

/// Why a connection ended.
enum End {
    /// Nobody has a handle any more and all is answered.
    Unused,
    Io(io::Error),
    /// The request with this correlation id had no answer in time.
    TimedOut(i32),
    /// Not the peer's protocol, or not an answer to what was asked.
    NotKafka,
}

/// What the three halves of the task share; they run on one thread at a time, so the lock is never contended.
struct Table {
    waiting: Mutex<VecDeque<Waiting>>,
    handles_are_gone: std::sync::atomic::AtomicBool,
}

impl Table {
    fn with<T>(&self, body: impl FnOnce(&mut VecDeque<Waiting>) -> T) -> T {
        body(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) async fn run(
    transport: Transport,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    address: Address,
    shared: Arc<Shared>,
) {
    let table = Table { waiting: Mutex::default(), handles_are_gone: false.into() };
    let Transport { reader, mut writer } = transport;
    let end = tokio::select! {
        end = write(&mut writer, &mut outgoing, &table, &shared) => end,
        end = read(reader, &table, &address, &shared) => end,
        end = watch(&table) => end,
    };
    // From here on submissions fail at once; those that came before are failed below.
    outgoing.close();
    let cause = Arc::new(match &end {
        End::Io(error) => copy_of(error),
        End::TimedOut(_) => io::ErrorKind::TimedOut.into(),
        End::NotKafka => io::ErrorKind::InvalidData.into(),
        End::Unused => io::ErrorKind::NotConnected.into(),
    });
    for waiting in table.with(std::mem::take) {
        let error = match end {
            End::TimedOut(id) if id == waiting.correlation_id => {
                let what = Waited::Response(waiting.api);
                Retriable::TimedOut { what, after: waiting.timeout, last: None }.into()
            }
            End::NotKafka => Fatal::NotKafka { address: address.clone() }.into(),
            _ => disconnected(&address, waiting.api, &cause),
        };
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        waiting.reply.fail(error);
    }
    while let Some(unsent) = outgoing.recv().await {
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        unsent.reply.fail(disconnected(&address, unsent.api, &cause));
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

fn disconnected(address: &Address, api: ApiKey, source: &Arc<io::Error>) -> ClientError {
    let (address, source) = (address.clone(), Arc::clone(source));
    Retriable::Disconnected { address, api: Some(api), source }.into()
}

async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    outgoing: &mut mpsc::UnboundedReceiver<Outgoing>,
    table: &Table,
    shared: &Shared,
) -> End {
    let mut taken = Vec::with_capacity(GATHERED_REQUESTS_MAX);
    let mut pieces = VecDeque::new();
    let mut written = Vec::new();
    while outgoing.recv_many(&mut taken, GATHERED_REQUESTS_MAX).await > 0 {
        table.with(|waiting| {
            for request in taken.drain(..) {
                pieces.extend(request.pieces);
                let entry = Waiting {
                    api: request.api,
                    version: request.version,
                    correlation_id: request.correlation_id,
                    submitted: request.submitted,
                    deadline: request.deadline,
                    timeout: request.timeout,
                    reply: request.reply,
                };
                // An answer may come while the request is still being written: it must be found.
                waiting.push_back(entry);
            }
        });
        if let Err(error) = write_pieces(writer, &mut pieces).await {
            return End::Io(error);
        }
        table.with(|waiting| {
            // Those that nobody answers are done.
            while let Some(at) = waiting.iter().position(|entry| matches!(entry.reply, Reply::Written(_))) {
                written.extend(waiting.remove(at));
            }
        });
        for entry in written.drain(..) {
            shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            if let Reply::Written(then) = entry.reply {
                then(Ok(None));
            }
        }
    }
    table.handles_are_gone.store(true, Ordering::Relaxed);
    if table.with(|waiting| waiting.is_empty()) {
        return End::Unused;
    }
    // The reader ends it with the last answer.
    std::future::pending().await
}

async fn write_pieces(
    writer: &mut (impl AsyncWrite + Unpin),
    pieces: &mut VecDeque<Bytes>,
) -> io::Result<()> {
    while !pieces.is_empty() {
        let slices: [IoSlice<'_>; GATHERED_PIECES_MAX] =
            std::array::from_fn(|at| IoSlice::new(pieces.get(at).map_or(&[], |piece| piece)));
        let count = pieces.len().min(GATHERED_PIECES_MAX);
        let mut sent = writer.write_vectored(&slices[..count]).await?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = pieces.front_mut() {
            if first.len() > sent {
                first.advance(sent);
                break;
            }
            sent -= first.len();
            pieces.pop_front();
        }
    }
    writer.flush().await
}

async fn read(mut reader: impl AsyncRead + Unpin, table: &Table, address: &Address, shared: &Shared) -> End {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(prefix) = buffer.first_chunk::<4>() {
            let length = u32::from_be_bytes(*prefix) as usize;
            if !(4..=FRAME_BYTES_MAX).contains(&length) {
                return End::NotKafka;
            }
            if buffer.len() < 4 + length {
                break;
            }
            buffer.advance(4);
            let frame = buffer.split_to(length).freeze();
            if let Some(end) = answer(frame, table, address, shared) {
                return end;
            }
        }
        buffer.reserve(room(&buffer));
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return End::Io(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) => return End::Io(error),
        }
    }
}

/// Bytes to make room for behind what has come: what is missing of the frame that is being received, and no more, so that
/// its last read does not move it.
fn room(buffer: &[u8]) -> usize {
    let Some(prefix) = buffer.first_chunk::<4>() else { return READ_BYTES };
    let end = 4 + u32::from_be_bytes(*prefix) as usize;
    let missing = end.saturating_sub(buffer.len());
    if end <= FRAME_ROOM_MAX { missing } else { missing.min(buffer.len().max(READ_BYTES)) }
}

/// Gives a frame to whoever waits for it. An end: the frame is for nobody, or nobody needs the connection any more.
fn answer(frame: Bytes, table: &Table, address: &Address, shared: &Shared) -> Option<End> {
    let entry = table.with(|waiting| match waiting.front() {
        Some(oldest) if frame.starts_with(&oldest.correlation_id.to_be_bytes()) => waiting.pop_front(),
        _ => None,
    });
    let Some(entry) = entry else { return Some(End::NotKafka) };
    shared.in_flight.fetch_sub(1, Ordering::Relaxed);
    let latency = entry.submitted.elapsed();
    let answer = Answer { frame, api: entry.api, version: entry.version, latency, address: address.clone() };
    match entry.reply {
        // Whoever stopped waiting does not want to know.
        Reply::Answer(sender) => drop(sender.send(Ok(answer))),
        Reply::Call(then) => then(Ok(Some(answer))),
        // Kafka answers acks=0 with nothing.
        Reply::Written(_) => return Some(End::NotKafka),
    }
    let is_unused =
        table.handles_are_gone.load(Ordering::Relaxed) && table.with(|waiting| waiting.is_empty());
    is_unused.then_some(End::Unused)
}

async fn watch(table: &Table) -> End {
    loop {
        tokio::time::sleep(WATCH).await;
        let now = Instant::now();
        let late = table.with(|waiting| {
            waiting.iter().find(|entry| entry.deadline <= now).map(|entry| entry.correlation_id)
        });
        if let Some(correlation_id) = late {
            return End::TimedOut(correlation_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_length_makes_room_for_what_is_missing_within_reason() {
        let check = |length: usize, come: usize, expected: usize| {
            let mut buffer = (length as u32).to_be_bytes().to_vec();
            buffer.resize(come, 0);
            assert_eq!(room(&buffer), expected, "{come} of {length}");
        };
        check(1 << 20, 4, 1 << 20);
        check(1 << 20, 4 + (1 << 20) - 7, 7);
        check(100, 50, 54);
        // Longer than any fetch that we ask for by default: as much again as has come.
        check(FRAME_BYTES_MAX, 4, READ_BYTES);
        check(FRAME_BYTES_MAX, 1 << 20, 1 << 20);
        check(FRAME_BYTES_MAX, FRAME_BYTES_MAX - 96, 100);
        assert_eq!(room(&[0, 0]), READ_BYTES);
    }
}
