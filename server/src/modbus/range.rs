//! Registers and units as people write them: `4:0x0000+20`, `1-32,100`.

use meterlake_config::device_profile::{Function, MAX_REGISTERS, RegisterRange};
use meterlake_ingest::modbus::BlockRequest;

/// Registers of one function code, perhaps more than one request can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registers {
    function: Function,
    first: u16,
    count: u32,
}

impl Registers {
    /// Reads `FUNCTION:FIRST+COUNT`; without `+COUNT` it is one register, without `FUNCTION:` holding registers.
    ///
    /// # Errors
    /// What is wrong, and what is allowed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "such as 4:0x0000+20: function code 3 or 4, first register from 0, how many";
        let (function, rest) = text.split_once(':').unwrap_or(("3", text));
        let function = function
            .parse()
            .ok()
            .and_then(Function::from_code)
            .ok_or_else(|| format!("function code {function} does not read registers; write it {FORM}"))?;
        let (first, count) = rest.split_once('+').unwrap_or((rest, "1"));
        let first = number(first).ok_or_else(|| format!("{first} is no register; write it {FORM}"))?;
        let count = number(count).filter(|count| *count > 0);
        let count = count.ok_or_else(|| format!("the number of registers is wrong; write it {FORM}"))?;
        if first + count > 0x1_0000 {
            return Err(format!("registers end at 65535 (0xFFFF); write it {FORM}"));
        }
        let first = u16::try_from(first).map_err(|_| format!("{first} is no register; write it {FORM}"))?;
        Ok(Self { function, first, count })
    }

    /// As requests, each of at most so many registers.
    pub(super) fn requests(self, most: u16) -> impl Iterator<Item = BlockRequest> {
        let most = most.clamp(1, MAX_REGISTERS);
        let (function, end) = (self.function, u32::from(self.first) + self.count);
        (u32::from(self.first)..end).step_by(usize::from(most)).filter_map(move |first| {
            let registers = u16::try_from((end - first).min(u32::from(most))).ok()?;
            Some(BlockRequest { function, range: RegisterRange::starting_at(u16::try_from(first).ok()?, registers) })
        })
    }
}

fn number(text: &str) -> Option<u32> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hex {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
    .filter(|number| *number <= 0x1_0000)
}

/// Units to ask, in the order given, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Units(pub(super) Vec<u8>);

impl Units {
    /// Reads `1-32,100`.
    ///
    /// # Errors
    /// What is wrong, and what is allowed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unit = |text: &str| {
            let unit = text.trim().parse::<u8>().ok().filter(|unit| (1..=247).contains(unit));
            unit.ok_or_else(|| format!("`{text}` is no unit; 1 to 247 are, written as in 1-32,100"))
        };
        let mut units = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (unit(first)?, unit(last)?);
            if last < first {
                return Err(format!("`{part}` ends before it begins"));
            }
            units.extend((first..=last).filter(|unit| !units.contains(unit)).collect::<Vec<_>>());
        }
        Ok(Self(units))
    }
}

/// A register as people look it up: `4:0x0034`.
pub(super) fn place(function: Function, address: u16) -> String {
    format!("{}:0x{address:04X}", function.code())
}

/// Words as `4366 3333`.
pub(super) fn words(words: &[u16]) -> String {
    words.iter().map(|word| format!("{word:04X}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_cut_into_requests_that_a_device_takes() {
        let shown = |text: &str, most| -> Vec<String> {
            Registers::parse(text).unwrap().requests(most).map(|request| request.to_string()).collect()
        };
        assert_eq!(shown("4:0x0010+20", 125), ["4/16+20"]);
        assert_eq!(shown("7", 125), ["3/7+1"]);
        assert_eq!(shown("3:0+300", 125), ["3/0+125", "3/125+125", "3/250+50"]);
        assert_eq!(shown("4:65535+1", 125), ["4/65535+1"]);
        assert_eq!(shown("3:0xFF00+0x100", 80), ["3/65280+80", "3/65360+80", "3/65440+80", "3/65520+16"]);
        for wrong in ["", "5:0+1", "6:0", "4:x+1", "4:0+0", "4:65535+2", "4:70000", "4:0+-1", "4:0+70000"] {
            assert!(Registers::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn units_are_named_once_each_and_only_those_that_a_device_can_have() {
        assert_eq!(Units::parse("3-5,1,4-6").unwrap().0, [3, 4, 5, 1, 6]);
        assert_eq!(Units::parse("1-247").unwrap().0.len(), 247);
        for wrong in ["", "0", "248", "5-3", "a", "1-", "1,,2"] {
            assert!(Units::parse(wrong).is_err(), "{wrong}");
        }
    }
}
