//! libFuzzer program of `corelog_fuzz::header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelog_fuzz::header(data));
