//! Device profiles: which registers of a Modbus meter hold what. A new meter type is a file, not code.
//!
//! A profile is TOML: the maker's facts (address, function code, type, order of bytes and words, scale, unit) and the
//! column that each register becomes. All that a decoder has to compute is settled here, in exact decimals. How
//! requests are merged and answers decoded is not known here.
//!
//! ```
//! use meterlake_config::device_profile::DeviceProfile;
//!
//! let text = r#"
//! name = "example"              # asked for by this name; rows bear `example@1`
//! version = 1
//! maker = "Example Ltd"
//! model = "E1"
//! source = "manual, page 12"    # where the register facts come from
//! commodity = "electricity"
//!
//! [read]                        # what a request may do
//! max_registers = 60            # 1 to 125
//! max_hole = 8                  # registers without a field that are read along
//! never = [{ function = 4, first = 0x0100, last = 0x01FF }]
//! pause_ms = 20                 # rest before each request
//! keep_raw = true               # keep the blocks as they came
//!
//! [defaults]                    # for fields that do not say otherwise
//! address_base = 1              # the manual counts from 0 or from 1
//! function = 4                  # 3 holding registers, 4 input registers
//! type = "u32"                  # u16 i16 u32 i32 u64 i64 f32 f64 bcd16 bcd32
//! order = "word_swapped"        # big, little, word_swapped, byte_swapped
//!
//! [[field]]
//! channel = "energy_import_kwh" # the column
//! address = 0x0011
//! unit = "Wh"                   # after scaling
//! scale = 10                    # exact decimal, 1 when left out
//!
//! [[field]]
//! channel = "voltage_l1_v"
//! address = 0x0001
//! type = "f32"
//! unit = "V"
//! resolution = 0.1              # floats are rounded to the meter's own step
//! absent = ["nan"]              # or bits such as "0x8000": no value, no fault
//!
//! [[status]]                    # bits that are events
//! address = 0x0031
//! bits = { 0 = "cover_open", 5 = "fault" }
//! "#;
//! let profile = DeviceProfile::parse(text, "example.toml").expect("no problems");
//! assert_eq!(profile.label(), "example@1");
//! assert_eq!(profile.fields[0].address, 0x0010, "counted from 0 as on the wire");
//! ```

mod factor;
mod read;
mod unit;

use std::time::Duration;

use meterlake_model::{Channel, Commodity, EventKind};

use crate::Problem;
pub use factor::Factor;

/// Registers that one request may ask for, by the Modbus specification.
pub const MAX_REGISTERS: u16 = 125;

const SHIPPED: &[(&str, &str)] = &[
    ("eastron-sdm630", include_str!("../profiles/eastron-sdm630.toml")),
    ("pulse-water", include_str!("../profiles/pulse-water.toml")),
];

/// How a register is read. Codes that write do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// Function code 3.
    HoldingRegisters,
    /// Function code 4.
    InputRegisters,
}

impl Function {
    /// 3 or 4.
    pub const fn code(self) -> u8 {
        match self {
            Self::HoldingRegisters => 3,
            Self::InputRegisters => 4,
        }
    }

    /// From 3 or 4.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            3 => Some(Self::HoldingRegisters),
            4 => Some(Self::InputRegisters),
            _ => None,
        }
    }
}

/// What the bits of a register mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegisterType {
    /// Unsigned, one register.
    U16,
    /// Two's complement, one register.
    I16,
    /// Unsigned, two registers.
    U32,
    /// Two's complement, two registers.
    I32,
    /// Unsigned, four registers.
    U64,
    /// Two's complement, four registers.
    I64,
    /// IEEE 754 single precision, two registers.
    F32,
    /// IEEE 754 double precision, four registers.
    F64,
    /// Four decimal digits, one register.
    Bcd16,
    /// Eight decimal digits, two registers.
    Bcd32,
}

impl RegisterType {
    /// With their names in files.
    pub(crate) const NAMES: [(&'static str, Self); 10] = [
        ("u16", Self::U16),
        ("i16", Self::I16),
        ("u32", Self::U32),
        ("i32", Self::I32),
        ("u64", Self::U64),
        ("i64", Self::I64),
        ("f32", Self::F32),
        ("f64", Self::F64),
        ("bcd16", Self::Bcd16),
        ("bcd32", Self::Bcd32),
    ];

    /// Number of 16-bit registers.
    pub const fn registers(self) -> u16 {
        match self {
            Self::U16 | Self::I16 | Self::Bcd16 => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
        }
    }

    /// Whether it is a binary float.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// The order in which a device sends the bytes of a value. Big is what the Modbus specification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ByteOrder {
    /// High word first, high byte first: `A B C D`.
    #[default]
    Big,
    /// Low word first, low byte first: `D C B A`.
    Little,
    /// Low word first, high byte first: `C D A B`.
    WordSwapped,
    /// High word first, low byte first: `B A D C`.
    ByteSwapped,
}

impl ByteOrder {
    /// With their names in files.
    pub(crate) const NAMES: [(&'static str, Self); 4] = [
        ("big", Self::Big),
        ("little", Self::Little),
        ("word_swapped", Self::WordSwapped),
        ("byte_swapped", Self::ByteSwapped),
    ];
}

/// How a device says that it has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Absent {
    /// By these bits, right-aligned, after the bytes were brought into order.
    Bits(u64),
    /// By any float that is not a number.
    NotANumber,
}

/// One value of the device that becomes a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The column.
    pub channel: Channel,
    /// Function code.
    pub function: Function,
    /// First register, counted from 0 as on the wire.
    pub address: u16,
    /// Type of the bits.
    pub kind: RegisterType,
    /// Order of the bytes.
    pub order: ByteOrder,
    /// The unit that the value has after scaling, as the file names it.
    pub unit: String,
    /// From the raw number to the channel's unit: scale and unit in one exact factor.
    pub factor: Factor,
    /// Of floats: the step in the channel's unit to which they are rounded. A whole multiple of the column's own step.
    pub resolution: Option<Factor>,
    /// What the device says when it has no value: the column stays empty.
    pub absent: Vec<Absent>,
}

/// A register whose bits are events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusField {
    /// Function code.
    pub function: Function,
    /// First register, counted from 0 as on the wire.
    pub address: u16,
    /// `U16` or `U32`.
    pub kind: RegisterType,
    /// Order of the bytes.
    pub order: ByteOrder,
    /// Bit (0 is the lowest) and the event that it stands for, by bit.
    pub bits: Vec<(u8, EventKind)>,
}

/// Registers from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegisterRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl RegisterRange {
    /// Of `registers` from `address` on; ends at the last address that exists. `registers` is at least 1.
    pub const fn starting_at(address: u16, registers: u16) -> Self {
        Self { first: address, last: address.saturating_add(registers.saturating_sub(1)) }
    }

    /// Number of registers.
    pub const fn len(self) -> u32 {
        if self.last < self.first { 0 } else { (self.last - self.first) as u32 + 1 }
    }

    /// Whether it holds no register.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether both have a register in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// A register range that must not be read, with the function code it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForbiddenRange {
    /// Function code.
    pub function: Function,
    /// The registers.
    pub range: RegisterRange,
}

/// How one type of meter is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProfile {
    /// Name by which configuration asks for it.
    pub name: String,
    /// Raised with every change that alters what is decoded.
    pub version: u32,
    /// Who makes the meter.
    pub maker: String,
    /// Which meter.
    pub model: String,
    /// Where the register facts come from.
    pub source: String,
    /// What it measures.
    pub commodity: Commodity,
    /// Values, in the order of the file.
    pub fields: Vec<Field>,
    /// Event bits, in the order of the file.
    pub status: Vec<StatusField>,
    /// Registers that one request may ask for, 1 to [`MAX_REGISTERS`].
    pub max_registers: u16,
    /// Registers without a field that a request may read along, between two fields.
    pub max_hole: u16,
    /// What no request may touch.
    pub never_read: Vec<ForbiddenRange>,
    /// Rest that the device needs before each request.
    pub pause: Duration,
    /// Whether the register blocks are kept as they came.
    pub keep_raw: bool,
}

impl DeviceProfile {
    /// Reads and checks a profile. `file` names it in problems.
    ///
    /// # Errors
    /// Everything that is wrong with it, with lines.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        read::profile(text, file)
    }

    /// A profile that comes with the program.
    pub fn shipped(name: &str) -> Option<Self> {
        let (name, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
        // A test parses all of them, so that none is missing for its mistakes.
        Self::parse(text, name).ok()
    }

    /// The names that [`Self::shipped`] knows.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// Name and version as rows carry them: `eastron-sdm630@1`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests;
