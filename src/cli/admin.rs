//! Asks a broker's admin server, by HTTP: one `GET` or `PUT`, one JSON answer.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::config::Address;

/// A page is some 100 KiB; whoever sends this much is no corelog.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How long connecting, and each read and write, may take. The server waits for its shards for 2 s.
const WAIT: Duration = Duration::from_secs(5);

/// How long the answer to a `PUT` may take. The server gives up after 60 s, and says so.
const DONE_WAIT: Duration = Duration::from_secs(65);

/// Why the admin server's answer is not there.
#[derive(Debug)]
pub enum AdminError {
    Connect {
        address: Address,
        source: io::Error,
    },
    Lost {
        address: Address,
        request: String,
        source: io::Error,
    },
    Status {
        address: Address,
        request: String,
        status: String,
    },
    /// Not the JSON that was asked for.
    NotCorelog {
        address: Address,
        request: String,
    },
    /// The broker will not, or cannot, and says why.
    Refused {
        why: String,
    },
    /// The terminal cannot be drawn on.
    Terminal(io::Error),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::Connect { address, source } => {
                write!(
                    f,
                    "connect to the admin server at {address}: {source}; the broker's `ready:` line names it, give it with --admin"
                )
            }
            AdminError::Lost { address, request, source } => {
                write!(f, "{request} of {address}: {source}; look at the broker's log")
            }
            AdminError::Status { address, request, status } => {
                write!(
                    f,
                    "{request} of {address}: {status}; is it the admin server of this version of corelog?"
                )
            }
            AdminError::NotCorelog { address, request } => {
                write!(
                    f,
                    "{address} does not answer {request} as corelog does; give its admin address with --admin"
                )
            }
            AdminError::Refused { why } => f.write_str(why),
            AdminError::Terminal(source) => {
                write!(f, "draw on the terminal: {source}; use --once where there is none")
            }
        }
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AdminError::Connect { source, .. }
            | AdminError::Lost { source, .. }
            | AdminError::Terminal(source) => Some(source),
            AdminError::Status { .. } | AdminError::NotCorelog { .. } | AdminError::Refused { .. } => None,
        }
    }
}

/// The JSON page of this path.
pub fn get(address: &Address, path: &str) -> Result<Value, AdminError> {
    ask(address, format!("GET {path}"), WAIT)
}

/// Has the broker do what this path names; returns what it says of it.
pub fn put(address: &Address, path: &str) -> Result<Value, AdminError> {
    ask(address, format!("PUT {path}"), DONE_WAIT)
}

fn ask(address: &Address, request: String, wait: Duration) -> Result<Value, AdminError> {
    let stream =
        connect(address).map_err(|source| AdminError::Connect { address: address.clone(), source })?;
    let answer = match exchange(stream, address, &request, wait) {
        Ok(answer) => answer,
        Err(source) => return Err(AdminError::Lost { address: address.clone(), request, source }),
    };
    let Some((status, body)) = parse(&answer) else {
        return Err(AdminError::NotCorelog { address: address.clone(), request });
    };
    let page: Option<Value> = serde_json::from_slice(body).ok();
    if status != "200 OK" {
        return Err(match page.as_ref().and_then(|page| page["error"].as_str()) {
            Some(why) => AdminError::Refused { why: why.to_owned() },
            None => AdminError::Status { address: address.clone(), request, status: status.to_owned() },
        });
    }
    page.ok_or_else(|| AdminError::NotCorelog { address: address.clone(), request })
}

fn connect(address: &Address) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in (address.host.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, WAIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The whole answer. The server closes after it, so that nothing has to be known of its length.
fn exchange(mut stream: TcpStream, address: &Address, request: &str, wait: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(WAIT))?;
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body. Bodies of a known length only: the server has no others.
fn parse(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let (version, status) = head.lines().next()?.split_once(' ')?;
    let is_chunked = head.lines().any(|line| line.to_ascii_lowercase().starts_with("transfer-encoding:"));
    (version.starts_with("HTTP/1.") && !is_chunked).then_some((status, &answer[end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let check = |answer: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(status, body)| (status, body.as_bytes()));
            assert_eq!(parse(answer.as_bytes()), expected, "{answer}");
        };
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Some(("200 OK", "{}")));
        check("HTTP/1.1 404 Not Found\r\n\r\n", Some(("404 Not Found", "")));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", None);
        check("HTTP/1.1 200 OK\r\n", None);
        check("\0\0\0\x05hello\r\n\r\n", None);
        check("SSH-2.0 x\r\n\r\n", None);
    }

    #[test]
    fn nobody_there_is_told_with_the_remedy() {
        let address = Address { host: "127.0.0.1".to_owned(), port: 9644 };
        let source = io::Error::from(io::ErrorKind::ConnectionRefused);
        let text = AdminError::Connect { address, source }.to_string();
        assert!(text.contains("127.0.0.1:9644") && text.contains("--admin"), "{text}");
    }
}
