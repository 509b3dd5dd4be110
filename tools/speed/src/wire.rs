//! The few Kafka requests that the tool sends.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use corelog::model::LeaderEpoch;
use corelog::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelog::protocol::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use corelog::protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use corelog::protocol::{DecodeError, Request, Response, decode_response_header, write_request};
use corelog::record::BatchBuilder;

use crate::kernel::{now, sleep};

/// Versions that all brokers in question speak, with topics by name.
const PRODUCE_VERSION: i16 = 9;
/// Of CreateTopics and DeleteTopics.
const TOPICS_VERSION: i16 = 4;

/// Error codes of the Kafka protocol guide.
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const TOPIC_ALREADY_EXISTS: i16 = 36;

/// Why there is no such topic.
#[derive(Debug)]
pub enum TopicError {
    Io(io::Error),
    /// The broker's answer.
    Refused {
        code: i16,
        message: String,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicError::Io(error) => error.fmt(f),
            TopicError::Refused { code, message } => {
                write!(f, "the broker answers with error {code}: {message}")
            }
        }
    }
}

impl From<io::Error> for TopicError {
    fn from(error: io::Error) -> TopicError {
        TopicError::Io(error)
    }
}

pub fn connect(broker: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(broker)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends one frame and waits for its answer, without the length before it.
fn ask(stream: &mut TcpStream, frame: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// As [`ask`], with a request that is still to be encoded.
fn ask_for<'a>(stream: &mut TcpStream, request: &impl Request<'a>, version: i16) -> io::Result<Vec<u8>> {
    let mut frame = BytesMut::new();
    write_request(request, version, 1, Some("speed"), &mut frame);
    ask(stream, &frame)
}

/// The body of an answer.
fn response<'a, R: Response<'a>>(answer: &'a [u8], version: i16) -> io::Result<R> {
    let unreadable = |error: DecodeError| {
        io::Error::other(format!("an answer to {} that cannot be read: {error}", R::API.name()))
    };
    let (_, mut body) = decode_response_header(answer, R::API, version).map_err(unreadable)?;
    R::decode(&mut body, version).map_err(unreadable)
}

/// Makes a topic with one replica. One that is there already is left as it is.
pub fn create_topic(
    broker: &str,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<(), TopicError> {
    let mut stream = connect(broker)?;
    let configs: Vec<_> =
        settings.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect();
    let topic = CreatableTopic {
        name,
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.into(),
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic].into(), timeout_ms: 60_000, ..Default::default() };
    let answer = ask_for(&mut stream, &request, TOPICS_VERSION)?;
    let response: CreateTopicsResponse = response(&answer, TOPICS_VERSION)?;
    match response.topics.first() {
        Some(topic) if topic.error_code != 0 && topic.error_code != TOPIC_ALREADY_EXISTS => {
            let message = topic.error_message.as_deref().unwrap_or("no message").to_owned();
            Err(TopicError::Refused { code: topic.error_code, message })
        }
        _ => Ok(()),
    }
}

pub fn delete_topic(broker: &str, name: &str) -> Result<(), TopicError> {
    let mut stream = connect(broker)?;
    let request =
        DeleteTopicsRequest { topic_names: vec![name].into(), timeout_ms: 60_000, ..Default::default() };
    let answer = ask_for(&mut stream, &request, TOPICS_VERSION)?;
    let response: DeleteTopicsResponse = response(&answer, TOPICS_VERSION)?;
    match response.responses.first().map_or(0, |result| result.error_code) {
        0 => Ok(()),
        code => Err(TopicError::Refused { code, message: format!("{name} cannot be deleted") }),
    }
}

/// One produce request for each partition, ready to be sent: one batch with one record.
pub fn produce_frames(topic: &str, partitions: i32, value_bytes: usize, acks: i16) -> Vec<Vec<u8>> {
    let value = vec![b'x'; value_bytes];
    let mut batch = BatchBuilder::new();
    batch.push(1_700_000_000_000, None, Some(&value));
    let records = batch.finish(0, LeaderEpoch(-1));
    let frame = |partition| {
        let request = ProduceRequest {
            acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: topic,
                partition_data: vec![PartitionProduceData { index: partition, records: Some(&records) }]
                    .into(),
                ..Default::default()
            }]
            .into(),
            ..Default::default()
        };
        let mut frame = BytesMut::new();
        write_request(&request, PRODUCE_VERSION, 7, Some("speed"), &mut frame);
        frame.to_vec()
    };
    (0..partitions).map(frame).collect()
}

/// The bytes of a record's value that make its batch as long as given.
pub fn value_bytes_for_batch(batch_bytes: usize) -> usize {
    let mut value_bytes = batch_bytes.saturating_sub(64);
    loop {
        let mut batch = BatchBuilder::new();
        batch.push(0, None, Some(&vec![b'x'; value_bytes]));
        let length = batch.finish(0, LeaderEpoch(-1)).len();
        if length <= batch_bytes || value_bytes == 0 {
            return value_bytes;
        }
        value_bytes -= length - batch_bytes;
    }
}

/// The error code in the answer to a produce request for one partition.
fn produce_error(answer: &[u8]) -> io::Result<i16> {
    let response: ProduceResponse = response(answer, PRODUCE_VERSION)?;
    let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
    Ok(partition.map_or(-1, |partition| partition.error_code))
}

/// An answer to a produce request, without the length before it, must say that the record is in the log.
pub fn check_produced(answer: &[u8]) -> io::Result<()> {
    match produce_error(answer)? {
        0 => Ok(()),
        code => Err(io::Error::other(format!("a produce request is answered with error {code}"))),
    }
}

/// Sends each frame once, one after another, until the broker takes it: it may serve a new topic a moment after it said so.
pub fn wait_until_served(broker: &str, frames: &[Vec<u8>]) -> io::Result<()> {
    let mut stream = connect(broker)?;
    let give_up = now() + Duration::from_secs(60);
    for frame in frames {
        loop {
            let answer = ask(&mut stream, frame)?;
            match produce_error(&answer)? {
                UNKNOWN_TOPIC_OR_PARTITION | LEADER_NOT_AVAILABLE | NOT_LEADER_OR_FOLLOWER
                    if now() < give_up =>
                {
                    sleep(Duration::from_millis(20))?;
                }
                _ => {
                    check_produced(&answer)?;
                    break;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fills_the_bytes_it_is_given() {
        let check = |batch_bytes: usize| {
            let mut batch = BatchBuilder::new();
            batch.push(0, None, Some(&vec![b'x'; value_bytes_for_batch(batch_bytes)]));
            let length = batch.finish(0, LeaderEpoch(-1)).len();
            assert!(length <= batch_bytes && length + 8 > batch_bytes, "{length} of {batch_bytes}");
        };
        for batch_bytes in [128, 4096, 65_536, 1 << 20] {
            check(batch_bytes);
        }
    }
}
