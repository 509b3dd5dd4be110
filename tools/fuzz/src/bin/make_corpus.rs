//! Writes the corpus of the recovery of a folder and of a journal, and the protocol's: for every API a message of its lowest, first flexible and highest version, whole and
//! with a few bytes changed, and hand-made headers and hostile requests. The same on every run, so a change of the
//! messages shows as a change of files.

use std::fs;
use std::io;

use bytes::BytesMut;
use corelog::protocol::messages::{AnyRequest, AnyResponse};
use corelog::protocol::{ApiKey, RequestHeader, Writer};
use corelog_fuzz::generate::{Generator, Random};
use corelog_fuzz::recovery::sample;
use corelog_fuzz::{TARGETS, Target};

/// Name and bytes of headers, the first ones with a body behind.
const HEADERS: &[(&str, &[u8])] = &[
    ("classic", b"\0\x03\0\x01\0\0\0\x01\0\x04fuzz\xff\xff\xff\xff"),
    ("flexible", b"\0\x12\0\x03\0\0\0\x01\0\x04fuzz\0\x05name\x041.0\0"),
    ("null_client_id", b"\0\x03\0\x01\0\0\0\x01\xff\xff\xff\xff\xff\xff"),
    ("unknown_tag", b"\0\x12\0\x03\0\0\0\x01\0\x04fuzz\x01\x4d\x02\xab\xcd\x01\x01\0"),
    ("unknown_api", b"\x27\x0f\0\0\0\0\0\x01\0\x04fuzz"),
    ("version_of_the_future", b"\0\x12\x03\xe7\0\0\0\x01\0\x04fuzz\0"),
    ("cut_in_the_client_id", b"\0\x03\0\x01\0\0\0\x01\0\x09fuz"),
    ("client_id_length_minus_two", b"\0\x03\0\x01\0\0\0\x01\xff\xfe"),
    ("tag_count_beyond_the_frame", b"\0\x12\0\x03\0\0\0\x01\0\0\xff\xff\xff\xff\x0f"),
    ("http", b"GET / HTTP/1.1\r\nHost: broker:9092\r\n\r\n"),
];

/// Bodies of Metadata requests that lie about what follows, with their version.
const METADATA: &[(&str, i16, &[u8])] = &[
    ("array_of_two_billion", 1, b"\x7f\xff\xff\xff"),
    ("array_length_minus_two", 1, b"\xff\xff\xff\xfe"),
    ("array_beyond_the_frame", 1, b"\0\0\0\x05\0\x01a"),
    ("string_beyond_the_frame", 1, b"\0\0\0\x01\x01\xf4a"),
    ("null_name", 1, b"\0\0\0\x01\xff\xff"),
    ("name_not_in_utf8", 1, b"\0\0\0\x01\0\x02\xff\xfe"),
    ("bytes_after_it", 1, b"\xff\xff\xff\xffmore"),
    ("empty_body", 1, b""),
    ("compact_array_of_many", 9, b"\xff\xff\xff\x7f"),
    ("varint_of_six_bytes", 9, b"\x80\x80\x80\x80\x80\x01"),
    ("tag_count_beyond_the_frame", 9, b"\0\x01\0\0\x7f"),
    ("tag_size_beyond_the_frame", 9, b"\0\x01\0\0\x01\x05\x7f"),
    ("tags_out_of_order", 9, b"\0\x01\0\0\x02\x05\x01a\x02\x01b"),
    ("tag_twice", 9, b"\0\x01\0\0\x02\x05\x01a\x05\x01b"),
];

fn main() -> io::Result<()> {
    for (name, bytes) in HEADERS {
        write("header", name, bytes)?;
    }
    for (name, version, body) in METADATA {
        write(
            "request",
            &format!("metadata_{name}"),
            &[&header(ApiKey::Metadata, *version)[..], body].concat(),
        )?;
    }
    for (name, recipe) in recoveries() {
        write("recovery", &name, &recipe)?;
    }
    for (name, recipe) in journals() {
        write("journal", &name, &recipe)?;
    }
    for &api in ApiKey::ALL {
        for version in versions(api) {
            let mut random = Random::new((api.key() as u64) << 16 | version as u64);
            let header = header(api, version);
            let (body, _) = Generator::new(api, version, &mut random).body(AnyRequest::shape(api));
            let name = format!("{}_{version}", api.name());
            write("request", &name, &[&header[..], &body].concat())?;
            write(
                "request",
                &format!("{name}_changed"),
                &[&header[..], &changed(&body, &mut random)].concat(),
            )?;
            let (body, _) = Generator::new(api, version, &mut random).body(AnyResponse::shape(api));
            let prefix = [api.key().to_be_bytes(), version.to_be_bytes()].concat();
            write("response", &name, &[&prefix[..], &body].concat())?;
            write(
                "response",
                &format!("{name}_changed"),
                &[&prefix[..], &changed(&body, &mut random)].concat(),
            )?;
        }
    }
    Ok(())
}

/// Sound folders under several checkpoints, and each kind of change to each file.
fn recoveries() -> Vec<(String, Vec<u8>)> {
    const KINDS: [&str; 9] =
        ["", "bits", "zeros", "shorter", "zeros_behind", "misplaced", "gone", "another_file", "file_behind"];
    let mut recipes = vec![("clean".to_owned(), vec![1, 0, 0])];
    for (recovery_point, log_start) in [(0, 0), (4, 0), (6, 2), (12, 0), (12, 12)] {
        recipes.push((format!("sound_{recovery_point}_{log_start}"), vec![0, recovery_point, log_start]));
    }
    for (file, name) in (0u8..).zip(sample().keys()) {
        for (kind, change) in (0u8..).zip(KINDS).skip(1) {
            let recipe = vec![0, 6, 0, file, kind, 1, 40, 9];
            recipes
                .push((format!("{}_{change}", name.trim_start_matches('0').trim_start_matches('.')), recipe));
        }
    }
    recipes
}

/// The sound directory, and each kind of change to blocks of the journal and to the segments.
fn journals() -> Vec<(String, Vec<u8>)> {
    const KINDS: [&str; 9] =
        ["", "bits", "zeros", "shorter", "longer", "misdirected", "gone", "swapped", "forged"];
    let mut recipes = vec![("sound".to_owned(), vec![0]), ("sound_with_recovery_points".to_owned(), vec![1])];
    for (kind, change) in (0u8..).zip(KINDS).skip(1) {
        for block in 0u16..16 {
            let [high, low] = (block * 64 + block % 40).to_be_bytes();
            let value = [0, 2 + block as u8];
            recipes.push((format!("{change}_{block}"), [&[1, 0, kind, high, low][..], &value].concat()));
        }
        for file in [4u8, 5, 10] {
            recipes.push((format!("segment_{change}_{file}"), vec![1, file, kind, 0, 45, 0, 3]));
        }
    }
    recipes
}

/// The lowest version, the first flexible one, the highest.
fn versions(api: ApiKey) -> Vec<i16> {
    let mut versions = vec![*api.versions().start(), *api.versions().end()];
    versions.extend(api.flexible_from());
    versions.sort_unstable();
    versions.dedup();
    versions
}

fn header(api: ApiKey, version: i16) -> Vec<u8> {
    let mut out = BytesMut::new();
    RequestHeader { api_key: api.key(), api_version: version, correlation_id: 1, client_id: Some("fuzz") }
        .encode(&mut Writer::contiguous(&mut out));
    out.to_vec()
}

/// One to three bytes are other ones, often a sign or a length.
fn changed(body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut changed = body.to_vec();
    for _ in 0..=random.below(3) {
        if let Some(byte) = changed.get_mut(random.below(body.len().max(1) as u64) as usize) {
            *byte = [0, 1, 0x7f, 0x80, 0xff, random.word() as u8][random.below(6) as usize];
        }
    }
    changed
}

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let target = TARGETS.iter().find(|known| known.name == target).expect("a target of the table");
    let folder = Target::corpus(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}
