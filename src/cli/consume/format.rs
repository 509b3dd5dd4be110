//! How `corelog consume` prints a record: a text with places, or JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::client::ConsumerRecord;
use crate::client::consumer::ConsumerHeader;
use crate::record::TimestampType;

/// How a record is printed, on a line of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Format {
    Text(Vec<Piece>),
    /// One object a line.
    Json,
}

/// A part of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    Literal(String),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Timestamp,
}

/// Why a text is no format. clap puts the option and its value before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FormatError {
    Unknown { place: String },
    UnknownEscape { escape: String },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Unknown { place } => write!(
                f,
                "{place} stands for nothing; there are %t topic, %p partition, %o offset, %T timestamp in ms, %k key, %v value, %h headers, %% a percent sign, and the format json"
            ),
            FormatError::UnknownEscape { escape } => {
                write!(f, "{escape} stands for nothing; there are \\t, \\n, \\r and \\\\")
            }
        }
    }
}

impl std::error::Error for FormatError {}

impl Format {
    pub fn parse(text: &str) -> Result<Format, FormatError> {
        if text == "json" {
            return Ok(Format::Json);
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '%' => {
                    let piece = match letters.next() {
                        Some('%') => {
                            literal.push('%');
                            continue;
                        }
                        Some('t') => Piece::Topic,
                        Some('p') => Piece::Partition,
                        Some('o') => Piece::Offset,
                        Some('k') => Piece::Key,
                        Some('v') => Piece::Value,
                        Some('h') => Piece::Headers,
                        Some('T') => Piece::Timestamp,
                        other => {
                            let place = format!("%{}", other.map(String::from).unwrap_or_default());
                            return Err(FormatError::Unknown { place });
                        }
                    };
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(piece);
                }
                '\\' => literal.push(match letters.next() {
                    Some('t') => '\t',
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('\\') => '\\',
                    other => {
                        let escape = format!("\\{}", other.map(String::from).unwrap_or_default());
                        return Err(FormatError::UnknownEscape { escape });
                    }
                }),
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Format::Text(pieces))
    }

    /// Puts the record's line behind what is in `out`. Bytes that are no text stay as they are in a text.
    pub fn write(&self, record: &ConsumerRecord, out: &mut Vec<u8>) {
        match self {
            Format::Json => out.extend(to_json(record).to_string().as_bytes()),
            Format::Text(pieces) => pieces.iter().for_each(|piece| piece.write(record, out)),
        }
        out.push(b'\n');
    }
}

impl Piece {
    fn write(&self, record: &ConsumerRecord, out: &mut Vec<u8>) {
        match self {
            Piece::Literal(text) => out.extend(text.as_bytes()),
            Piece::Topic => out.extend(record.topic.as_bytes()),
            Piece::Partition => out.extend(record.partition.to_string().as_bytes()),
            Piece::Offset => out.extend(record.offset.to_string().as_bytes()),
            Piece::Timestamp => out.extend(record.timestamp.to_string().as_bytes()),
            Piece::Key => out.extend(record.key.as_deref().unwrap_or_default()),
            Piece::Value => out.extend(record.value.as_deref().unwrap_or_default()),
            Piece::Headers => {
                for (at, ConsumerHeader { name, value }) in record.headers.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    out.extend(name.as_ref());
                    out.push(b'=');
                    out.extend(value.as_deref().unwrap_or_default());
                }
            }
        }
    }
}

/// Text as text; bytes that are none as `{"hex": ...}`, so that both can be told apart and nothing is lost.
fn bytes(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => json!(text),
        Some((Err(_), bytes)) => {
            json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    }
}

fn to_json(record: &ConsumerRecord) -> Value {
    let header = |header: &ConsumerHeader| json!({ "name": bytes(Some(&header.name)), "value": bytes(header.value.as_deref()) });
    json!({
        "topic": &*record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestamp_type": match record.timestamp_type {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        },
        "key": bytes(record.key.as_deref()),
        "value": bytes(record.value.as_deref()),
        "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record() -> ConsumerRecord {
        let header = |name: &'static str, value: Option<&'static [u8]>| ConsumerHeader {
            name: Bytes::from_static(name.as_bytes()),
            value: value.map(Bytes::from_static),
        };
        ConsumerRecord {
            topic: "t".into(),
            partition: 2,
            offset: 7,
            timestamp: 1000,
            timestamp_type: TimestampType::CreateTime,
            leader_epoch: 0,
            key: None,
            value: Some(Bytes::from_static(b"\xff1")),
            headers: vec![header("a", Some(b"b")), header("c", None)],
        }
    }

    #[test]
    fn places_are_filled() {
        let check = |format: &str, expected: &[u8]| {
            let mut out = Vec::new();
            Format::parse(format).unwrap().write(&record(), &mut out);
            assert_eq!(out, expected, "{format}");
        };
        check("%t %p %o %k %v %h", b"t 2 7  \xff1 a=b,c=\n");
        check("%%%T\\t100%%", b"%1000\t100%\n");
        check("", b"\n");
    }

    #[test]
    fn json_keeps_what_is_no_text() {
        let mut out = Vec::new();
        Format::Json.write(&record(), &mut out);
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["value"], json!({ "hex": "ff31" }));
        assert_eq!((&value["key"], &value["offset"]), (&Value::Null, &json!(7)));
        assert_eq!(value["headers"][1], json!({ "name": "c", "value": null }));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn what_stands_for_nothing_is_told() {
        let check = |format: &str, expected: &str| {
            let text = Format::parse(format).unwrap_err().to_string();
            assert!(text.starts_with(expected), "{format}: {text}");
        };
        check("%s", "%s stands for nothing; there are %t topic");
        check("a%", "% stands for nothing");
        check("\\x", "\\x stands for nothing");
    }
}
