//! What the person knows of a meter: what its display shows.

use meterlake_ingest::modbus::guess::Hint;
use meterlake_model::{Channel, parse_scaled};

/// Reads `voltage_l1_v=230`, `voltage_l1_v=230@0x1000`.
///
/// # Errors
/// What is wrong, and what is allowed.
pub(super) fn parse(text: &str) -> Result<Hint, String> {
    let (name, rest) = text
        .split_once('=')
        .ok_or_else(|| "write it as voltage_l1_v=230, or voltage_l1_v=230@0x1000 with its register".to_owned())?;
    let channel = Channel::by_name(name.trim()).ok_or_else(|| {
        let names: Vec<_> = Channel::all().map(Channel::name).collect();
        format!("`{name}` is no column; there are {}", names.join(", "))
    })?;
    let (about, address) = rest.split_once('@').map_or((rest, None), |(about, address)| (about, Some(address)));
    let about = about.trim();
    parse_scaled(about, 6).map_err(|error| format!("`{about}` is no number: {error}"))?;
    let address = address.map(|address| {
        let hex = address.strip_prefix("0x");
        let number = hex.map_or_else(|| address.parse(), |hex| u16::from_str_radix(hex, 16));
        number.map_err(|_| format!("`{address}` is no register: 0 to 65535, or 0x0000 to 0xFFFF"))
    });
    let address = address.transpose()?;
    Ok(Hint::Value { channel, about: about.to_owned(), address, tolerance_permille: 0 })
}

/// The hint with how far the value may be off.
pub(super) fn within(hint: &Hint, permille: u16) -> Hint {
    match hint {
        Hint::Value { channel, about, address, .. } => {
            Hint::Value { channel: *channel, about: about.clone(), address: *address, tolerance_permille: permille }
        }
        other => other.clone(),
    }
}

/// The column that a hint is about.
pub(super) fn channel(hint: &Hint) -> Option<Channel> {
    match hint {
        Hint::Value { channel, .. } => Some(*channel),
        Hint::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_a_column_a_number_and_perhaps_a_register() {
        for (text, expected) in [
            ("voltage_l1_v=230", ("voltage_l1_v", "230", None)),
            ("energy_import_kwh=1234.5@0x0048", ("energy_import_kwh", "1234.5", Some(0x48))),
            ("power_kw=-1.5@12", ("power_kw", "-1.5", Some(12))),
        ] {
            let Ok(Hint::Value { channel, about, address, .. }) = parse(text) else { panic!("{text}") };
            assert_eq!((channel.name(), about.as_str(), address), expected);
        }
        for wrong in ["voltage", "voltage=230", "voltage_l1_v=", "voltage_l1_v=high", "voltage_l1_v=230@x", "a=b=c"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
