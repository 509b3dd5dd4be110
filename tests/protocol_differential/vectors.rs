//! Bodies written by another hand: `vectors.txt` was made by an encoder that walks the JSON schemas inside Apache Kafka
//! 4.3.1's client jar, with random values; at least one for every layout, eight for those that `kafka-protocol` lacks.
//!
//! A line: API, direction, version, the body in hex.

use crate::codecs::{Layout, layouts};
use crate::differential::{UNKNOWN_TO_THEM, hex};

const VECTORS: &str = include_str!("vectors.txt");

fn vectors() -> impl Iterator<Item = (Layout, Vec<u8>)> {
    VECTORS.lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (api, direction, version) = (word(), word().to_owned(), word().parse::<i16>().unwrap());
        let layout = layouts()
            .find(|layout| {
                layout.api.name() == api
                    && format!("{:?}", layout.direction).eq_ignore_ascii_case(&direction)
                    && layout.version == version
            })
            .unwrap_or_else(|| panic!("{line}"));
        (layout, unhex(word()))
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn bodies_written_from_kafkas_schemas_are_read_whole_and_written_the_same() {
    for (layout, body) in vectors() {
        let ours = layout.ours(&body).unwrap_or_else(|error| panic!("{layout:?}: {error} in {}", hex(&body)));
        assert_eq!(hex(&ours), hex(&body), "{layout:?}");
    }
}

#[test]
fn every_layout_has_a_vector() {
    for layout in layouts() {
        let wanted = if UNKNOWN_TO_THEM.contains(&layout) { 3 } else { 1 };
        let found = vectors().filter(|(other, _)| *other == layout).count();
        assert!(found >= wanted, "{layout:?}: {found} vectors");
    }
}
