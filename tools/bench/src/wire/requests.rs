//! Requests as bytes to be sent, made once and changed in a few places for each sending.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use bytes::BytesMut;
use corelog::protocol::messages::api_versions::ApiVersionsRequest;
use corelog::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelog::protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use corelog::protocol::write_request;

use crate::workload::Workload;

use super::batch::{KEY_BYTES, Stamp, Template};

/// Versions that Kafka 2.6 to 4.x and corelog speak, with topics by name.
pub const PRODUCE_VERSION: i16 = 9;
pub const FETCH_VERSION: i16 = 12;
const _: () = assert!(FETCH_VERSION <= 12 && PRODUCE_VERSION <= 12, "later versions have topics by id");
pub const API_VERSIONS_VERSION: i16 = 3;

pub const CLIENT_ID: &str = "corelog-bench";

/// Behind length, API and version.
const CORRELATION_AT: usize = 8;

/// The end of a frame longer than this is sent from where it lies, not copied for each sending.
const COPY_MOST: usize = 8 << 10;

/// What is to be sent on one connection.
#[derive(Default)]
pub struct Outgoing {
    /// Bytes of our own, in order.
    own: Vec<u8>,
    own_sent: usize,
    pieces: VecDeque<Piece>,
    /// Of the first piece.
    sent: usize,
}

enum Piece {
    Own(usize),
    /// A frame from a position to its end.
    Shared(Rc<[u8]>, usize),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Own(length) => *length,
            Piece::Shared(frame, from) => frame.len() - from,
        }
    }
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn push_own(&mut self, bytes: &[u8]) -> &mut [u8] {
        if self.pieces.is_empty() {
            self.own.clear();
            self.own_sent = 0;
        }
        let at = self.own.len();
        self.own.extend_from_slice(bytes);
        match self.pieces.back_mut() {
            Some(Piece::Own(length)) => *length += bytes.len(),
            _ => self.pieces.push_back(Piece::Own(bytes.len())),
        }
        &mut self.own[at..]
    }

    fn push_shared(&mut self, frame: &Rc<[u8]>, from: usize) {
        self.pieces.push_back(Piece::Shared(Rc::clone(frame), from));
    }

    /// What comes next, in at most `most` pieces.
    pub fn slices(&self, most: usize) -> Vec<IoSlice<'_>> {
        let mut own_at = self.own_sent;
        let mut slices = Vec::with_capacity(self.pieces.len().min(most));
        for (number, piece) in self.pieces.iter().take(most).enumerate() {
            let skip = if number == 0 { self.sent } else { 0 };
            slices.push(IoSlice::new(match piece {
                Piece::Own(length) => {
                    let bytes = &self.own[own_at + skip..own_at + length];
                    own_at += length;
                    bytes
                }
                Piece::Shared(frame, from) => &frame[from + skip..],
            }));
        }
        slices
    }

    /// Forgets bytes that have been sent.
    pub fn consume(&mut self, count: usize) {
        self.sent += count;
        while let Some(first) = self.pieces.front().filter(|first| first.len() <= self.sent) {
            self.sent -= first.len();
            if let Piece::Own(length) = first {
                self.own_sent += length;
            }
            self.pieces.pop_front();
        }
        assert!(self.sent == 0 || !self.pieces.is_empty(), "no more is sent than was there");
        if self.own_sent > (64 << 10) && self.own_sent * 2 > self.own.len() {
            self.own.drain(..self.own_sent);
            self.own_sent = 0;
        }
    }
}

/// A produce request for any partition of a topic, with one batch.
pub struct ProduceFrame {
    template: Template,
    frame: Rc<[u8]>,
    partition_at: usize,
    batch_at: usize,
}

impl ProduceFrame {
    pub fn new(workload: &Workload, topic: &str) -> io::Result<ProduceFrame> {
        let template = Template::new(workload)?;
        let frame = |partition| {
            let request = ProduceRequest {
                acks: workload.acks,
                timeout_ms: 30_000,
                topic_data: vec![TopicProduceData {
                    name: topic,
                    partition_data: vec![PartitionProduceData {
                        index: partition,
                        records: Some(&template.bytes),
                    }]
                    .into(),
                    ..Default::default()
                }]
                .into(),
                ..Default::default()
            };
            let mut frame = BytesMut::new();
            write_request(&request, PRODUCE_VERSION, 0, Some(CLIENT_ID), &mut frame);
            frame
        };
        let bytes = frame(0);
        let differs = bytes.iter().zip(&frame(-1)).position(|(a, b)| a != b);
        let partition_at = differs.expect("the partition stands in the frame");
        let batch_at = bytes.windows(template.bytes.len()).rposition(|part| part == template.bytes);
        let batch_at = batch_at.expect("the batch stands in the frame");
        Ok(ProduceFrame { template, frame: bytes.to_vec().into(), partition_at, batch_at })
    }

    pub fn len(&self) -> usize {
        self.frame.len()
    }

    pub fn push(
        &self,
        out: &mut Outgoing,
        correlation: i32,
        partition: i32,
        stamp: Stamp,
        key: Option<[u8; KEY_BYTES]>,
    ) {
        let whole = self.frame.len();
        let copied = if whole > COPY_MOST { self.batch_at + self.template.changing_bytes() } else { whole };
        // Where nothing is stamped the CRC stands as it is, but what comes before the batch still changes.
        let head = out.push_own(&self.frame[..copied.max(self.batch_at)]);
        head[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation.to_be_bytes());
        head[self.partition_at..self.partition_at + 4].copy_from_slice(&partition.to_be_bytes());
        self.template.stamp(&mut head[self.batch_at..], stamp, key);
        let copied = head.len();
        if copied < whole {
            out.push_shared(&self.frame, copied);
        }
    }
}

/// An ApiVersions request.
pub struct EchoFrame(BytesMut);

impl EchoFrame {
    pub fn new() -> EchoFrame {
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_ID,
            client_software_version: env!("CARGO_PKG_VERSION"),
        };
        let mut frame = BytesMut::new();
        write_request(&request, API_VERSIONS_VERSION, 0, Some(CLIENT_ID), &mut frame);
        EchoFrame(frame)
    }

    pub fn push(&self, out: &mut Outgoing, correlation: i32) {
        let frame = out.push_own(&self.0);
        frame[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation.to_be_bytes());
    }
}

/// A fetch of some partitions, each from its offset, without a session.
pub fn fetch_frame(
    out: &mut Outgoing,
    correlation: i32,
    topic: &str,
    partitions: impl Iterator<Item = (i32, i64)>,
    bytes_most: i32,
    wait_ms: i32,
) {
    out.push_own(&fetch_bytes(correlation, topic, partitions, bytes_most, wait_ms));
}

pub fn fetch_bytes(
    correlation: i32,
    topic: &str,
    partitions: impl Iterator<Item = (i32, i64)>,
    bytes_most: i32,
    wait_ms: i32,
) -> BytesMut {
    let partition = |(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: bytes_most,
        ..Default::default()
    };
    let partitions: Vec<FetchPartition> = partitions.map(partition).collect();
    let request = FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        topics: vec![FetchTopic { topic, partitions: partitions.into(), ..Default::default() }].into(),
        ..Default::default()
    };
    let mut frame = BytesMut::new();
    write_request(&request, FETCH_VERSION, correlation, Some(CLIENT_ID), &mut frame);
    frame
}

#[cfg(test)]
mod tests {
    use corelog::protocol::{ApiKey, Message, decode_header};
    use corelog::record::BatchView;

    use super::*;
    use crate::workload::Compression;

    fn sent(out: &mut Outgoing, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !out.is_empty() {
            let slices = out.slices(3);
            let next: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            bytes.extend_from_slice(&next);
            out.consume(next.len());
        }
        bytes
    }

    #[test]
    fn frames_are_sent_whole_whatever_a_socket_takes_at_once() {
        let check = |workload: &Workload| {
            let frame = ProduceFrame::new(workload, "t").unwrap();
            let mut wholes = Vec::new();
            for step in [1, 7, 1000, usize::MAX] {
                let mut out = Outgoing::default();
                for n in 0..3 {
                    let stamp = Stamp { connection: 9, partition: n, sequence: 5, due_ns: 1 };
                    frame.push(&mut out, 100 + n as i32, n as i32, stamp, None);
                }
                wholes.push(sent(&mut out, step));
            }
            assert!(wholes.iter().all(|whole| *whole == wholes[0]));
            let mut rest = &wholes[0][..];
            for n in 0..3 {
                let (one, more) = rest.split_at(frame.len());
                rest = more;
                assert_eq!(one[..4], (frame.len() as u32 - 4).to_be_bytes());
                let (header, mut body) = decode_header(&one[4..]).unwrap();
                assert_eq!((header.served_api(), header.correlation_id), (Some(ApiKey::Produce), 100 + n));
                let request = ProduceRequest::decode(&mut body, header.api_version).unwrap();
                let partition = request.topic_data.first().unwrap().partition_data.first().unwrap();
                assert_eq!(partition.index, n);
                BatchView::parse(partition.records.unwrap()).unwrap().check_crc().unwrap();
            }
            assert!(rest.is_empty());
        };
        check(&Workload::default());
        check(&Workload { records: 64, ..Workload::default() });
        check(&Workload { records: 64, compression: Compression::Lz4, ..Workload::default() });
        check(&Workload { records: 900, compression: Compression::Snappy, ..Workload::default() });
    }
}
