//! `corelog cluster slots` and `move-slot`: which placement slots a broker has where, and moving them between its cores.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::admin::{AdminError, get, put};
use super::arguments::{Admin, Slots};
use super::table::{Table, json_text};

/// Rates are of so long: two looks at the broker's counters.
const WINDOW: Duration = Duration::from_secs(1);

/// Runs the command and returns what it prints.
pub fn run(command: &Slots) -> Result<String, AdminError> {
    match command {
        Slots::Slots { admin: Admin { admin, json } } => {
            let (first, began) = (get(admin, "/slots")?, now());
            sleep(WINDOW);
            let last = get(admin, "/slots")?;
            let table = table(&first, &last, now() - began);
            Ok(if *json { json_text(&json!({ "slots": table.to_json() })) } else { table.to_text() })
        }
        Slots::MoveSlot { slot, core, admin: Admin { admin, json } } => {
            let done = put(admin, &format!("/slots/{slot}/core/{core}"))?;
            Ok(if *json { json_text(&done) } else { format!("slot {slot} is on core {core}\n") })
        }
    }
}

/// One line a slot: where it is, what it holds, and what went through it between two looks.
fn table(first: &Value, last: &Value, window: Duration) -> Table {
    let columns =
        ["slot", "core", "endpoint", "partitions", "bytes", "requests/s", "in bytes/s", "out bytes/s"];
    let mut table = Table::new(&columns);
    let slots = |page: &Value| page["slots"].as_array().cloned().unwrap_or_default();
    let before = slots(first);
    for slot in slots(last) {
        let same = |other: &&Value| other["slot"] == slot["slot"] && other["core"] == slot["core"];
        let before = before.iter().find(same);
        let rate = |name: &str| {
            let count = |slot: &Value| slot[name].as_u64().unwrap_or(0);
            // Of one that has moved meanwhile the new core has counted from the start.
            let moved = count(&slot).saturating_sub(before.map_or(0, count));
            json!((moved as f64 / window.as_secs_f64()).round() as u64)
        };
        table.push(vec![
            slot["slot"].clone(),
            slot["core"].clone(),
            slot["endpoint"].clone(),
            slot["partitions"].clone(),
            slot["size_bytes"].clone(),
            rate("requests"),
            rate("in_bytes"),
            rate("out_bytes"),
        ]);
    }
    table
}

#[allow(clippy::disallowed_methods, reason = "a command line may wait")]
fn sleep(window: Duration) {
    std::thread::sleep(window);
}

#[allow(clippy::disallowed_methods, reason = "a command line has its own clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_lines_with_what_went_through_them() {
        let slot = |slot: u16, core: u16, in_bytes: u64| {
            json!({
                "slot": slot, "core": core, "endpoint": 0, "partitions": 3, "size_bytes": 4096,
                "requests": in_bytes / 100, "in_bytes": in_bytes, "out_bytes": 0,
            })
        };
        let first = json!({ "cores": 2, "slots": [slot(0, 0, 1000), slot(1, 0, 5000)] });
        let last = json!({ "cores": 2, "slots": [slot(0, 0, 3000), slot(1, 1, 400)] });
        assert_eq!(
            table(&first, &last, Duration::from_secs(2)).to_text(),
            "SLOT  CORE  ENDPOINT  PARTITIONS  BYTES  REQUESTS/S  IN BYTES/S  OUT BYTES/S\n\
             \x20  0     0         0           3   4096          10        1000            0\n\
             \x20  1     1         0           3   4096           2         200            0\n"
        );
    }
}
