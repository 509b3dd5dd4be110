//! Loads with a letter, so that a table can be measured again by its row.

use crate::workload::{Durability, Mode, Workload};

/// A load of the table. D has no rate of its own: without one it gets half of what C reaches.
pub struct Preset {
    pub letter: char,
    pub what: &'static str,
}

pub const PRESETS: [Preset; 8] = [
    Preset { letter: 'A', what: "produce: 1 partition, 1 connection, 1 in flight" },
    Preset { letter: 'B', what: "produce: 16 partitions, 8 connections x 5, 64 records a batch" },
    Preset { letter: 'C', what: "produce: 256 partitions, 32 connections x 8, 1 record a batch" },
    Preset {
        letter: 'D',
        what: "as C, open loop at --rate; without, at half of what --against (or the broker) reaches in C",
    },
    Preset {
        letter: 'E',
        what: "fetch: 1 GiB from the page cache, 4 connections, 1 MiB of a partition at a time",
    },
    Preset { letter: 'F', what: "end to end: 100 records a second, 1 partition" },
    Preset { letter: 'G', what: "produce: 4 partitions, 4 connections x 5, 1000 records (1 MiB) a batch" },
    Preset { letter: 'H', what: "ApiVersions: 1 connection x 1, then 32 x 8" },
];

/// One row of the table: its name and its load.
pub type Named = (String, Workload);

/// The loads of a letter; none for one that is not there.
pub fn loads(letter: char) -> Vec<Named> {
    let base = Workload { durability: Durability::Os, ..Workload::default() };
    let of = |partitions, connections, in_flight, records| Workload {
        partitions,
        connections,
        in_flight,
        records,
        ..base.clone()
    };
    let letter = letter.to_ascii_uppercase();
    let workload = match letter {
        'A' => of(1, 1, 1, 1),
        'B' => of(16, 8, 5, 64),
        'C' | 'D' => of(256, 32, 8, 1),
        'E' => Workload { mode: Mode::Fetch, fill_bytes: 1 << 30, ..of(4, 4, 1, 64) },
        'F' => Workload { mode: Mode::EndToEnd, rate: Some(100.0), ..of(1, 1, 1, 1) },
        'G' => of(4, 4, 5, 1000),
        'H' => {
            let echo =
                |connections, in_flight| Workload { mode: Mode::Echo, ..of(1, connections, in_flight, 1) };
            return vec![("H1".to_owned(), echo(1, 1)), ("H256".to_owned(), echo(32, 8))];
        }
        _ => return Vec::new(),
    };
    vec![(letter.to_string(), workload)]
}

/// What is measured when nothing is asked for: what a broker is chosen by, in half a minute.
pub fn first_look() -> Vec<Named> {
    let with = |letter, durability| {
        loads(letter).into_iter().map(move |(name, workload)| (name, Workload { durability, ..workload }))
    };
    let mut all: Vec<Named> = Vec::new();
    for (letter, durability) in [
        ('A', Durability::Os),
        ('A', Durability::Fsync),
        ('B', Durability::Fsync),
        ('C', Durability::Os),
        ('C', Durability::Fsync),
        ('E', Durability::Os),
        ('F', Durability::Fsync),
    ] {
        all.extend(with(letter, durability));
    }
    for (_, workload) in &mut all {
        workload.fill_bytes = 256 << 20;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_has_a_load_that_makes_sense() {
        for preset in &PRESETS {
            let loads = loads(preset.letter);
            assert!(!loads.is_empty(), "{}", preset.letter);
            for (name, workload) in loads {
                assert!(name.starts_with(preset.letter));
                assert_eq!(workload.check(), Ok(()), "{name}");
            }
        }
        assert!(loads('Z').is_empty());
        assert!(first_look().iter().all(|(_, workload)| workload.check().is_ok()));
    }
}
