#![no_main]
//! Files of payload maps: what is refused has its reasons, with lines that exist.

use libfuzzer_sys::fuzz_target;
use meterlake_config::payload_map::PayloadMap;

fuzz_target!(|input: &str| {
    if let Err(problems) = PayloadMap::parse(input, "fuzz") {
        assert!(!problems.is_empty(), "refused without a reason");
    }
});
