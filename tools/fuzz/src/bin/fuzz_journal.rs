//! libFuzzer program of `corelog_fuzz::journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corelog_fuzz::journal(data));
