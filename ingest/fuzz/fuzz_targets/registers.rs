#![no_main]
//! Registers of any content, by every shipped profile: the first byte chooses the profile, the rest fills its registers.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meterlake_config::device_profile::DeviceProfile;
use meterlake_ingest::modbus::{Image, golden, plan};

static PROFILES: LazyLock<Vec<DeviceProfile>> =
    LazyLock::new(|| DeviceProfile::shipped_names().filter_map(DeviceProfile::shipped).collect());

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let profile = &PROFILES[usize::from(*choice) % PROFILES.len()];
    let mut words = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut image = Image::new();
    for request in plan(profile) {
        let registers: Vec<u16> = (0..request.registers()).map(|_| words.next().unwrap_or(0)).collect();
        image.set(request.function, request.range.first, &registers);
    }
    // Values and events, or a dead letter with its reason; what is recorded is read back as recorded.
    let Ok(text) = golden::record(profile, "fuzz", &image) else { return };
    let cases = golden::parse(&text, "fuzz").expect("what is recorded can be parsed");
    for case in &cases {
        golden::run(profile, case).expect("what is recorded is read again alike");
    }
});
