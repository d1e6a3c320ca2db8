//! Nameplates against profiles and registries. Live lines are in `tests/integration/modbus`.

use super::*;
use crate::modbus::{Image, plan_identity};
use meterlake_config::device_profile::Function;

const PROFILE: &str = r#"
name = "asked"
version = 1
maker = "test"
model = "test"
source = "test"
commodity = "water"
[defaults]
function = 3
type = "u16"
[[field]]
channel = "volume_m3"
address = 0
unit = "m3"
[identify.model]
address = 100
type = "string"
registers = 3
equals = ["WM7", "WX*"]
[identify.serial]
address = 110
type = "bcd32"
[[identify.require]]
what = "unit of the totaliser"
address = 120
equals = ["0", "0x0002"]
"#;

fn said(model: [u16; 3], serial: [u16; 2], unit: u16, registered: Option<&str>) -> Result<Nameplate, String> {
    let profile = DeviceProfile::parse(PROFILE, "asked").unwrap_or_else(|problems| panic!("{problems:#?}"));
    let mut image = Image::new();
    image.set(Function::HoldingRegisters, 100, &model);
    image.set(Function::HoldingRegisters, 110, &serial);
    image.set(Function::HoldingRegisters, 120, &[unit]);
    let blocks: Vec<_> = plan_identity(&profile).into_iter().map(|request| image.block(request).unwrap()).collect();
    identify(&profile, registered, &blocks.iter().collect::<Vec<_>>())
}

const WM7: [u16; 3] = [0x574D, 0x3700, 0];
const WX12: [u16; 3] = [0x5758, 0x3132, 0x2020];
const EM7: [u16; 3] = [0x454D, 0x3700, 0];
const SERIAL: [u16; 2] = [0x0012, 0x3456];

#[test]
fn a_device_is_taken_for_what_it_says() {
    let plate = |model: &str| Ok(Nameplate { model: Some(model.to_owned()), serial: Some("123456".to_owned()) });
    for (model, registered, expected) in [
        (WM7, None, plate("WM7")),
        (WX12, Some("123456"), plate("WX12")),
        (WM7, Some(" 00123456"), plate("WM7")),
        (WM7, Some("123457"), Err("the device's serial number is 123456, the registry's 123457")),
        (EM7, None, Err("the device says \"EM7\" for its model, profile asked@1 is for \"WM7\" or \"WX…\"")),
        ([0; 3], None, Err("the device says nothing for its model, profile asked@1 is for \"WM7\" or \"WX…\"")),
    ] {
        assert_eq!(said(model, SERIAL, 2, registered), expected.map_err(str::to_owned), "{model:04X?}");
    }
}

#[test]
fn what_the_profile_takes_for_granted_must_be_so() {
    assert_eq!(
        said(WM7, SERIAL, 1, None).unwrap_err(),
        "the device says 1 for its unit of the totaliser, profile asked@1 is for 0 or 2"
    );
    assert_eq!(
        said(WM7, [0x00AB, 0], 0, Some("1")).unwrap_err(),
        "the device's serial number cannot be read: 0xAB0000 is not binary coded decimal"
    );
}

#[test]
fn what_was_not_read_is_not_compared() {
    let profile = DeviceProfile::parse(PROFILE, "asked").unwrap();
    assert_eq!(identify(&profile, Some("1"), &[]), Ok(Nameplate::default()));
}
