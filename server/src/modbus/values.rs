//! Each value of a profile by itself: one that cannot be read does not hide the others.

use meterlake_config::device_profile::{DeviceProfile, Field, Register};
use meterlake_ingest::modbus::{Block, decode_blocks};

/// A field's value in units of its column's last decimal; `None` when the device says that it has none.
///
/// # Errors
/// Why the registers are no value of the field; or that they are not in the blocks.
pub(super) fn value_of(profile: &DeviceProfile, field: &Field, blocks: &[Block]) -> Result<Option<i64>, String> {
    if let Some(lacking) = field.registers().find(|register| words(register, blocks).is_none()) {
        return Err(format!("register {} was not read", place(lacking)));
    }
    let own = DeviceProfile { fields: vec![field.clone()], status: Vec::new(), ..profile.clone() };
    let blocks: Vec<&Block> = blocks.iter().collect();
    let values = decode_blocks(&own, &blocks).map_err(|error| error.to_string())?;
    Ok(values.values.first().map(|(_, value)| *value))
}

/// A register's words; `None` when they are not in the blocks.
fn words<'b>(register: &Register, blocks: &'b [Block]) -> Option<&'b [u16]> {
    blocks.iter().find_map(|block| block.words(register))
}

/// All registers of a field, each with its address and its words: `0048` and `4366 199A` of a plain one.
pub(super) fn shown(field: &Field, blocks: &[Block]) -> (String, String) {
    let places: Vec<_> = field.registers().map(place).collect();
    let words: Vec<_> = field.registers().map(|r| super::range::words(words(r, blocks).unwrap_or_default())).collect();
    (places.join(", "), words.join(", "))
}

fn place(register: &Register) -> String {
    super::range::place(register.function, register.address)
}
