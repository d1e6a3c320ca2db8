#![no_main]
//! Files of device profiles; what is taken can be planned within the limits of a request.

use libfuzzer_sys::fuzz_target;
use meterlake_config::device_profile::{DeviceProfile, MAX_REGISTERS};
use meterlake_ingest::modbus::plan;

fuzz_target!(|input: &str| {
    match DeviceProfile::parse(input, "fuzz") {
        Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
        Ok(profile) => {
            for request in plan(&profile) {
                assert!((1..=profile.max_registers.min(MAX_REGISTERS)).contains(&request.registers()), "{request:?}");
            }
        }
    }
});
