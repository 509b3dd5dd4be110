//! libFuzzer program of `corelog_fuzz::response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelog_fuzz::response(data));
