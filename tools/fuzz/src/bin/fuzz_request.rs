//! libFuzzer program of `corelog_fuzz::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelog_fuzz::request(data));
