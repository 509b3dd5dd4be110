//! libFuzzer program of `corelog_fuzz::recovery`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelog_fuzz::recovery(data));
