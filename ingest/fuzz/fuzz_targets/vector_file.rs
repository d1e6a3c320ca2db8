#![no_main]
//! Files of golden vectors.

use libfuzzer_sys::fuzz_target;
use meterlake_ingest::modbus::golden;

fuzz_target!(|input: &str| {
    if let Err(problems) = golden::parse(input, "fuzz") {
        assert!(!problems.is_empty(), "refused without a reason");
    }
});
