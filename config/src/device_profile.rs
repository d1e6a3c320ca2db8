//! Device profiles: which registers of a Modbus meter hold what. A new meter type is a file, not code.
//!
//! A profile is TOML: the maker's facts (address, function code, type, order of bytes and words, scale, unit) and the
//! column that each register becomes (every key: `config/profiles/README.md`). All that a decoder has to compute is settled here, in exact decimals. How
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
//! type = "u32"                  # u8_high … u64, i8_high … i64, f32 f64, bcd16 … bcd64, m10k32 … m10k64
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
//!
//! [identify.model]              # asked when connected; another model's readings are refused
//! address = 0x0301
//! type = "u16"
//! equals = ["0x0070", "113"]
//! "#;
//! let profile = DeviceProfile::parse(text, "example.toml").expect("no problems");
//! assert_eq!(profile.label(), "example@1");
//! assert_eq!(profile.fields[0].parts[0].register.address, 0x0010, "counted from 0 as on the wire");
//! ```

mod factor;
mod field;
mod read;
mod register;
mod shipped;
mod unit;

use std::time::Duration;

use meterlake_model::Commodity;

use crate::Problem;
pub use factor::Factor;
pub use field::{
    Check, Expected, FactorRegister, Field, Identify, Negative, Part, ScaleMeaning, ScaleRegister, SignRegister,
    StatusField,
};
pub use register::{
    Absent, BitRange, ByteOrder, ForbiddenRange, Function, MAX_REGISTERS, MAX_TEXT, Register, RegisterRange,
    RegisterType,
};
use shipped::SHIPPED;
pub use unit::own_unit;

/// Where SunSpec devices put their marker.
const SUNSPEC_BASES: [u16; 3] = [40_000, 50_000, 0];

/// How the registers of a device are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Where the profile says.
    Fixed,
    /// By the device's own directory.
    SunSpec(SunSpec),
    /// Where the directory of one device said.
    Found(Found),
}

/// Where a device has the model that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The model's number.
    pub model: u16,
    /// The register that holds the model's number.
    pub address: u16,
    /// The register that holds the number of the model with the nameplate, where there is one.
    pub common: Option<u16>,
}

/// Where a device's own directory is looked for, and what in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SunSpec {
    /// Registers that may hold the marker, in the order in which they are tried.
    pub bases: Vec<u16>,
    /// Models of which the first that the device has is read.
    pub models: Vec<u16>,
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
    /// How the registers are found.
    pub layout: Layout,
    /// What the device is asked about itself.
    pub identify: Identify,
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
        // A test parses all of them, so that none is missing for its mistakes.
        Self::parse(Self::shipped_text(name)?, name).ok()
    }

    /// The file of a profile that comes with the program: a start for one's own.
    pub fn shipped_text(name: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|shipped| shipped.name == name).map(|shipped| shipped.profile)
    }

    /// The vector of a profile that comes with the program: register blocks beside what they must become.
    pub fn shipped_vector(name: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|shipped| shipped.name == name).map(|shipped| shipped.vector)
    }

    /// The names that [`Self::shipped`] knows, in alphabetical order.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|shipped| shipped.name)
    }

    /// Where the device's directory said that the registers are; `None` when the profile says it itself.
    pub const fn layout_found(&self) -> Option<Found> {
        match self.layout {
            Layout::Found(found) => Some(found),
            Layout::Fixed | Layout::SunSpec(_) => None,
        }
    }

    /// Name and version as rows carry them: `eastron-sdm630@1`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests;
