#![no_main]
//! Files of golden messages.

use libfuzzer_sys::fuzz_target;
use meterlake_ingest::decode::golden::Golden;

fuzz_target!(|input: &str| {
    if let Err(problems) = Golden::parse(input, "fuzz") {
        assert!(!problems.is_empty(), "refused without a reason");
    }
});
