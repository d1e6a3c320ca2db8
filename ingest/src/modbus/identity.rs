//! Whether a device is what its profile and the registry take it for.

use meterlake_config::device_profile::{Check, DeviceProfile, Expected, RegisterType};

use super::decode::{Block, words_in};
use super::number::{NumberError, plate};

/// What a device says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nameplate {
    /// The maker's code of the model.
    pub model: Option<String>,
    /// The serial number.
    pub serial: Option<String>,
}

/// Reads what a device says about itself and compares it with the profile and with the registry's serial number, where
/// it has one. Registers that the blocks do not hold are not compared.
///
/// # Errors
/// What contradicts, for a person.
pub fn identify(profile: &DeviceProfile, registered: Option<&str>, blocks: &[&Block]) -> Result<Nameplate, String> {
    let mut nameplate = Nameplate::default();
    for (at, check) in profile.identify.checks().enumerate() {
        let Some(words) = words_in(blocks, &check.register) else { continue };
        let said = plate(words, &check.register).map_err(|error| unreadable(&check.what, error))?;
        if !check.equals.iter().any(|expected| is_expected(expected, said.as_deref())) {
            return Err(contradiction(profile, check, said.as_deref()));
        }
        if at == 0 && profile.identify.model.is_some() {
            nameplate.model = said;
        }
    }
    if let Some(register) = &profile.identify.serial
        && let Some(words) = words_in(blocks, register)
    {
        nameplate.serial = plate(words, register).map_err(|error| unreadable("serial number", error))?;
        if let (Some(registered), Some(said)) = (registered, &nameplate.serial)
            && !is_same_serial(registered, said)
        {
            return Err(format!("the device's serial number is {said}, the registry's {registered}"));
        }
    }
    Ok(nameplate)
}

fn unreadable(what: &str, error: NumberError) -> String {
    format!("the device's {what} cannot be read: {error}")
}

fn is_expected(expected: &Expected, said: Option<&str>) -> bool {
    let Some(said) = said else { return false };
    match expected {
        Expected::Number(number) => said == number.to_string(),
        Expected::Text(text) => said == text,
        Expected::Prefix(prefix) => said.starts_with(prefix),
    }
}

fn contradiction(profile: &DeviceProfile, check: &Check, said: Option<&str>) -> String {
    let wanted: Vec<_> = check
        .equals
        .iter()
        .map(|expected| match expected {
            Expected::Number(number) => number.to_string(),
            Expected::Text(text) => format!("\"{text}\""),
            Expected::Prefix(prefix) => format!("\"{prefix}…\""),
        })
        .collect();
    let said = match (said, check.register.kind) {
        (None, _) => "nothing".to_owned(),
        (Some(said), RegisterType::Text(_)) => format!("\"{said}\""),
        (Some(said), _) => said.to_owned(),
    };
    let (what, wanted) = (&check.what, wanted.join(" or "));
    format!("the device says {said} for its {what}, profile {} is for {wanted}", profile.label())
}

/// Serial numbers are written with and without leading zeros, and in letters of either size.
fn is_same_serial(one: &str, other: &str) -> bool {
    let plain = |text: &str| text.trim().trim_start_matches('0').to_ascii_lowercase();
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests;
