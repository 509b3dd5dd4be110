//! Runs every target over its stored corpus.

use std::fs;

use corelog_fuzz::TARGETS;

#[test]
fn every_stored_input_passes_its_target() {
    for target in TARGETS {
        let mut count = 0;
        let folder = target.corpus();
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            // The name of the input is what a failing run shows last.
            println!("{}", path.display());
            (target.run)(&fs::read(&path).unwrap());
            count += 1;
        }
        println!("{}: {count} inputs replayed", target.name);
        assert!(count > 0, "the corpus of {} is empty", target.name);
    }
}

#[test]
fn every_corpus_has_a_target() {
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "nobody replays corpus/{name}");
    }
}
