//! What a corelog broker says of its own times, at `/latency` of its admin port.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One stage of produce or fetch requests, microseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stage {
    pub api: String,
    /// Durability and write path, or where records were read from.
    pub class: String,
    pub stage: String,
    pub count: u64,
    #[serde(default)]
    pub mean_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
}

/// As a request goes through them; one that is not known comes behind these.
const ORDER: [&str; 9] =
    ["received", "decoded", "mesh", "appended", "written", "flushed", "read", "waited", "replied"];

/// Why there are none. A broker without this page is none the worse for it.
#[derive(Debug)]
pub enum LatencyError {
    Get(io::Error),
    Json(serde_json::Error),
    NoStages,
}

impl fmt::Display for LatencyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LatencyError::Get(source) => write!(f, "GET /latency: {source}"),
            LatencyError::Json(source) => write!(f, "read /latency: {source}"),
            LatencyError::NoStages => {
                f.write_str("/latency has no stages of produce or fetch; is metrics.stages off?")
            }
        }
    }
}

impl std::error::Error for LatencyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LatencyError::Get(source) => Some(source),
            LatencyError::Json(source) => Some(source),
            LatencyError::NoStages => None,
        }
    }
}

/// The stages of the last 10 s.
pub fn stages(admin: &str) -> Result<Vec<Stage>, LatencyError> {
    let page = get(admin, "/latency").map_err(LatencyError::Get)?;
    let found = of_page(&serde_json::from_str(&page).map_err(LatencyError::Json)?);
    if found.is_empty() { Err(LatencyError::NoStages) } else { Ok(found) }
}

fn of_page(page: &Value) -> Vec<Stage> {
    let mut found = Vec::new();
    for api in ["produce", "fetch"] {
        for class in page["last_10_s"][api].as_array().into_iter().flatten() {
            let labels = class.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str());
            let name = labels.collect::<Vec<_>>().join(", ");
            let mut stages: Vec<_> = class["stages"].as_object().into_iter().flatten().collect();
            let place = |stage: &str| ORDER.iter().position(|known| *known == stage).unwrap_or(ORDER.len());
            stages.sort_by_key(|(stage, _)| place(stage));
            for (stage, figures) in stages {
                let us = |field: &str| figures[field].as_f64().unwrap_or(0.0);
                found.push(Stage {
                    api: api.to_owned(),
                    class: name.clone(),
                    stage: stage.clone(),
                    count: figures["count"].as_u64().unwrap_or(0),
                    mean_us: us("mean_us"),
                    p50_us: us("p50_us"),
                    p99_us: us("p99_us"),
                    p999_us: us("p999_us"),
                });
            }
        }
    }
    found
}

/// HTTP/1.0, so that the end of the answer is the end of the connection.
fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("answered with {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_found_in_the_page() {
        let text = r#"{"since_start": {}, "last_10_s": {"seconds": 9.9, "produce": [
            {"durability": "fsync", "path": "journal", "stages": {
                "flushed": {"count": 7, "mean_us": 51, "p50_us": 50.5, "p90_us": 60, "p99_us": 70.25, "p999_us": 80},
                "total": {"count": 7, "p50_us": 90, "p99_us": 100, "p999_us": 110},
                "written": {"count": 7, "p50_us": 9, "p99_us": 10, "p999_us": 11}}}], "fetch": []}}"#;
        let found = of_page(&serde_json::from_str(text).unwrap());
        assert_eq!(
            found.iter().map(|stage| &*stage.stage).collect::<Vec<_>>(),
            ["written", "flushed", "total"]
        );
        assert_eq!((found[1].class.as_str(), found[1].count), ("fsync, journal", 7));
        assert_eq!((found[1].mean_us, found[1].p50_us, found[1].p99_us), (51.0, 50.5, 70.25));
        assert_eq!(of_page(&serde_json::from_str(r#"{"metrics": 1}"#).unwrap()), []);
    }
}
