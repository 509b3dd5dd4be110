//! Fuzz targets: plain functions over bytes, each in a file of its own, and the stored corpus that `cargo test` replays.
//!
//! A target of another room is one file here, one row in `TARGETS`, one libFuzzer program in `bin/` and a folder under
//! `corpus/`. A target panics when it has found something. What a run has found goes into the corpus.
//!
//! - replay: `cargo test -p corelog-fuzz`
//! - hunt, on the usual compiler (`--target` keeps the flags away from build scripts):
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
//!   -Cllvm-args=-sanitizer-coverage-trace-compares" \
//!   cargo run --target x86_64-unknown-linux-gnu --target-dir target/fuzz -p corelog-fuzz --features libfuzzer \
//!   --bin fuzz-request -- tools/fuzz/corpus/request
//! ```
//!
//! - make the corpus anew: `cargo run -p corelog-fuzz --bin make-corpus`

pub mod generate;
mod header;
mod journal;
pub mod recovery;
mod request;
mod response;

use std::path::PathBuf;

pub use header::header;
pub use journal::journal;
pub use recovery::recovery;
pub use request::request;
pub use response::response;

/// A target: the name of its corpus folder, and the function.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "header", run: header },
    Target { name: "journal", run: journal },
    Target { name: "recovery", run: recovery },
    Target { name: "request", run: request },
    Target { name: "response", run: response },
];

impl Target {
    pub fn corpus(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }
}
