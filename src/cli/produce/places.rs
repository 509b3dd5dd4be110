//! `--verbose`: where each record is, a line each, printed by a thread of its own.
//!
//! Acknowledgements come on the client's tasks, which must not wait for whoever reads the lines. So the bound is where the
//! records come from: each needs a [`Turn`] before it is sent, and gives it back when its line is out.

use std::io::{self, Write};
use std::sync::{Arc, mpsc};

use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::cli::remote::RemoteError;
use crate::client::RecordMetadata;

/// So many records are on their way to a line at most: some MiB, and enough for batches to fill while lines are written.
const UNPRINTED_MAX: usize = 50_000;

/// A record's right to be printed.
pub(super) type Turn = OwnedSemaphorePermit;

/// The way to the thread that prints. Clones share it; with the last one gone, the thread prints what is left and ends.
#[derive(Clone)]
pub(super) struct Places {
    sender: mpsc::Sender<(RecordMetadata, Turn)>,
    room: Arc<Semaphore>,
}

impl Places {
    /// Starts the thread. What it returns says whether all was printed.
    pub fn open(is_json: bool) -> (Places, JoinHandle<Result<(), RemoteError>>) {
        let (sender, receiver) = mpsc::channel();
        let printing = tokio::task::spawn_blocking(move || {
            let mut out = io::BufWriter::new(io::stdout().lock());
            print_all(&receiver, is_json, &mut out).map_err(RemoteError::Print)
        });
        (Places { sender, room: Arc::new(Semaphore::new(UNPRINTED_MAX)) }, printing)
    }

    /// Waits until there is room for one more line.
    pub async fn turn(&self) -> Turn {
        let turn = Arc::clone(&self.room).acquire_owned().await;
        turn.expect("nobody closes the semaphore")
    }

    pub fn print(&self, metadata: RecordMetadata, turn: Turn) {
        // A thread that has ended has met a broken pipe, and the turn is over all the same.
        drop(self.sender.send((metadata, turn)));
    }
}

/// A line for each record, in the order of their acknowledgements, until nobody sends or nobody reads.
fn print_all(
    records: &mpsc::Receiver<(RecordMetadata, Turn)>,
    is_json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    while let Ok(first) = records.recv() {
        for (metadata, _turn) in std::iter::once(first).chain(records.try_iter()) {
            let line = if is_json { to_json(&metadata) } else { place(&metadata) };
            writeln!(out, "{line}")?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Where a record is.
pub(super) fn place(metadata: &RecordMetadata) -> String {
    let offset = metadata.offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
    format!("{}-{} offset {offset}", metadata.topic, metadata.partition)
}

fn to_json(metadata: &RecordMetadata) -> String {
    let RecordMetadata { topic, partition, offset, timestamp, .. } = metadata;
    json!({ "topic": &**topic, "partition": partition, "offset": offset, "timestamp": timestamp }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::producer::Stages;
    use crate::client::time::Instant;

    fn metadata(offset: Option<i64>) -> RecordMetadata {
        let now = Instant::now();
        let stages = Stages { opened: now, drained: now, sent: now, acknowledged: now, retries: 0 };
        RecordMetadata {
            topic: "t".into(),
            partition: 3,
            offset,
            timestamp: 1000,
            serialized_key_bytes: None,
            serialized_value_bytes: Some(1),
            stages,
        }
    }

    #[tokio::test]
    async fn a_turn_comes_back_with_its_line_and_when_nobody_reads() {
        let (sender, receiver) = mpsc::channel();
        let places = Places { sender, room: Arc::new(Semaphore::new(2)) };
        places.print(metadata(Some(7)), places.turn().await);
        places.print(metadata(None), places.turn().await);
        assert_eq!(places.room.available_permits(), 0, "a third record has to wait");
        let room = Arc::clone(&places.room);
        drop(places);
        let mut out = Vec::new();
        print_all(&receiver, false, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "t-3 offset 7\nt-3 offset ?\n");
        assert_eq!(room.available_permits(), 2);

        let (sender, receiver) = mpsc::channel();
        let places = Places { sender, room };
        drop(receiver);
        places.print(metadata(Some(8)), places.turn().await);
        assert_eq!(places.room.available_permits(), 2);
    }

    #[test]
    fn json_tells_the_same() {
        let told = to_json(&metadata(Some(7)));
        assert_eq!(told, r#"{"offset":7,"partition":3,"timestamp":1000,"topic":"t"}"#);
    }
}
