//! Devices whose every register tells its unit and address, so that a value of another is seen at once.

use std::time::Duration;

use meterlake_config::ModbusDevice;
use meterlake_config::device_profile::DeviceProfile;
use meterlake_model::{MeterId, ReadingBatch};

use crate::modbus::bench::column;

/// The registers of such a device.
pub(crate) fn words(unit: u8, first: u16, registers: u16) -> Vec<u16> {
    (first..first + registers).map(|address| u16::from(unit) * 1000 + address).collect()
}

/// What [`words`] makes of two registers as one number.
pub(crate) fn value(unit: u8, address: u16) -> i64 {
    let word = i64::from(u16::from(unit) * 1000 + address);
    (word << 16) + word + 1
}

/// Two registers far apart, so that a poll has two requests of equal length.
const TWO_REQUESTS: &str = r#"
name = "two"
version = 1
maker = "test"
model = "test"
source = "test"
commodity = "water"
[defaults]
function = 3
type = "u32"
[[field]]
channel = "volume_m3"
address = 0
unit = "l"
[[field]]
channel = "reverse_volume_m3"
address = 100
unit = "l"
"#;

pub(crate) fn two_requests() -> DeviceProfile {
    DeviceProfile::parse(TWO_REQUESTS, "two").unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Every row of [`two_requests`] holds what the registers of its own unit tell, whole.
pub(crate) fn no_value_is_anothers(all: &ReadingBatch) {
    let read = [column(all, "volume_m3"), column(all, "reverse_volume_m3")];
    for (row, header) in all.water.headers().iter().enumerate() {
        let unit: u8 = header.meter_id.as_str()[1..].parse().unwrap();
        assert_eq!(read.each_ref().map(|column| column[row]), [0, 100].map(|at| Some(value(unit, at))), "{header:?}");
    }
}

/// As above where single registers may be missing.
pub(crate) fn no_value_of_unit_1_is_anothers(all: &ReadingBatch) {
    for (channel, address) in [("volume_m3", 0), ("reverse_volume_m3", 100)] {
        let read = column(all, channel);
        assert!(read.iter().flatten().all(|read| *read == value(1, address)), "{channel}: {read:?}");
    }
}

/// A device that is read every second as the meter `M` with the unit's number.
pub(crate) fn device(unit: u8, profile: DeviceProfile) -> ModbusDevice {
    let meter_id = MeterId::new(&format!("M{unit}")).unwrap();
    ModbusDevice { unit, meter_id, profile, interval: Duration::from_secs(1), offset: Duration::ZERO }
}
