//! `corelog trace slow`: the last requests that took longer than the broker's `slow.request.us`, with their stages.

use serde_json::{Value, json};

use super::admin::{AdminError, get};
use super::arguments::{Admin, Trace};
use super::table::{Table, json_text};
use crate::metrics::Stage;

/// Runs the command and returns what it prints.
pub fn run(command: &Trace) -> Result<String, AdminError> {
    match command {
        Trace::Slow { admin: Admin { admin, json } } => {
            let page = get(admin, "/trace/slow")?;
            Ok(if *json { json_text(&page) } else { text(&page) })
        }
    }
}

/// One line a request, newest first: who, what, and where the time went, in microseconds.
fn text(page: &Value) -> String {
    let requests = page["requests"].as_array().map_or(&[][..], Vec::as_slice);
    if requests.is_empty() {
        return match page["threshold_us"].as_u64() {
            Some(us) => format!("no request took longer than {us} us\n"),
            None => "no shard says; ask again, and look at the broker's log if it stays so\n".to_owned(),
        };
    }
    let mut columns = vec!["at", "api", "client", "partition", "kind", "total"];
    columns.extend(Stage::ALL.map(Stage::name));
    let mut table = Table::new(&columns);
    for request in requests {
        let word = |name: &str| request[name].as_str();
        let kind = match (word("durability"), word("path"), word("source")) {
            (Some(durability), Some(path), _) => json!(format!("{durability}/{path}")),
            (_, _, Some(source)) => json!(source),
            _ => Value::Null,
        };
        let partition =
            word("topic").map_or(Value::Null, |topic| json!(format!("{topic}-{}", request["partition"])));
        let client = word("client_id").or(word("peer")).map_or(Value::Null, |client| json!(client));
        let mut row = vec![
            request["at"].clone(),
            request["api"].clone(),
            client,
            partition,
            kind,
            whole(&request["total_us"]),
        ];
        row.extend(Stage::ALL.map(|stage| whole(&request["stages"][stage.name()])));
        table.push(row);
    }
    table.to_text()
}

/// Without the fraction: a slow request has enough microseconds.
fn whole(us: &Value) -> Value {
    us.as_f64().map_or(Value::Null, |us| json!(us.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_requests_are_lines_with_their_stages() {
        let page = json!({ "threshold_us": 100, "requests": [
            {
                "at": "2026-01-31T12:00:00.000Z", "shard": 0, "api": "Produce", "client_id": "app", "peer": "::1",
                "topic": "t", "partition": 3, "durability": "fsync", "path": "journal", "total_us": 1500.4,
                "stages": { "decoded": 1.2, "mesh": 0.0, "appended": 3.0, "written": 200.0, "flushed": 1290.0, "replied": 6.2 },
            },
            { "at": "2026-01-31T11:00:00.000Z", "shard": 1, "api": "Metadata", "client_id": null, "peer": "::1", "total_us": 101.0 },
        ]});
        assert_eq!(
            text(&page),
            "AT                        API       CLIENT  PARTITION  KIND           TOTAL  DECODED  MESH  APPENDED  WRITTEN  FLUSHED  READ  WAITED  REPLIED\n\
             2026-01-31T12:00:00.000Z  Produce   app     t-3        fsync/journal   1500        1     0         3      200     1290     -       -        6\n\
             2026-01-31T11:00:00.000Z  Metadata  ::1     -          -                101        -     -         -        -        -     -       -        -\n"
        );
        assert_eq!(
            text(&json!({ "threshold_us": 100, "requests": [] })),
            "no request took longer than 100 us\n"
        );
        assert!(text(&json!({ "threshold_us": null, "requests": [] })).contains("no shard says"));
    }
}
