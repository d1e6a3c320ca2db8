//! What registers become: columns, events, and the word of a device about itself.

use meterlake_model::{Channel, EventKind};

use super::{Factor, Register};

/// One value of the device that becomes a column: the sum of its parts times its factors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The column.
    pub channel: Channel,
    /// What is added up, at least one.
    pub parts: Vec<Part>,
    /// The unit that the value has after scaling, as the file names it.
    pub unit: String,
    /// From the sum to the channel's unit: scale and unit in one exact factor.
    pub factor: Factor,
    /// The step in the channel's unit to which a float, or a quotient, is rounded. A whole multiple of the column's own
    /// step.
    pub resolution: Option<Factor>,
    /// A register that scales the value.
    pub scale_register: Option<ScaleRegister>,
    /// Registers that the value is multiplied or divided by.
    pub factor_registers: Vec<FactorRegister>,
    /// A register that says whether the value is negative.
    pub sign: Option<SignRegister>,
    /// Of a profile by discovery: the models that have this value at this place.
    pub models: Vec<u16>,
}

impl Field {
    /// Every register that the value needs.
    pub fn registers(&self) -> impl Iterator<Item = &Register> {
        let parts = self.parts.iter().map(|part| &part.register);
        let scale = self.scale_register.iter().map(|scale| &scale.register);
        let factors = self.factor_registers.iter().map(|factor| &factor.register);
        parts.chain(scale).chain(factors).chain(self.sign.iter().map(|sign| &sign.register))
    }

    /// As [`Self::registers`], to be changed.
    pub fn registers_mut(&mut self) -> impl Iterator<Item = &mut Register> {
        let parts = self.parts.iter_mut().map(|part| &mut part.register);
        let scale = self.scale_register.iter_mut().map(|scale| &mut scale.register);
        let factors = self.factor_registers.iter_mut().map(|factor| &mut factor.register);
        parts.chain(scale).chain(factors).chain(self.sign.iter_mut().map(|sign| &mut sign.register))
    }

    /// Whether it is one register and nothing else, so that it never lies in two requests.
    pub fn is_plain(&self) -> bool {
        self.parts.len() == 1
            && self.scale_register.is_none()
            && self.factor_registers.is_empty()
            && self.sign.is_none()
    }
}

/// One of the numbers that are added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it stands.
    pub register: Register,
    /// What it is multiplied by before it is added.
    pub scale: Factor,
}

/// A register that scales a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleRegister {
    /// Where it stands. When it is absent, the value is.
    pub register: Register,
    /// What its number means.
    pub meaning: ScaleMeaning,
}

/// What the number of a scale register means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScaleMeaning {
    /// The value times ten to its power.
    Exponent,
    /// So many of the value's digits are decimals.
    Decimals,
    /// The value times it.
    Multiplier,
    /// The value times what stands beside it here.
    Lookup(Vec<(u8, Factor)>),
}

/// A register that a value is multiplied or divided by, such as a transformer's ratio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactorRegister {
    /// Where it stands. When it is absent, the value is.
    pub register: Register,
    /// What the register itself is multiplied by.
    pub scale: Factor,
    /// Whether the value is divided by it.
    pub divide: bool,
}

/// A register that says whether a value is negative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRegister {
    /// Where it stands.
    pub register: Register,
    /// When the value is negative.
    pub negative: Negative,
}

/// When a value is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negative {
    /// When this bit is set; 0 is the lowest.
    Bit(u8),
    /// When the register holds this number.
    Number(u32),
}

/// A register whose bits, or whose number, are events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusField {
    /// Where it stands: `U16` or `U32`.
    pub register: Register,
    /// Whether `events` are by the register's number and not by its bits.
    pub is_code: bool,
    /// Bit (0 is the lowest) or number, and the event that it stands for, in rising order.
    pub events: Vec<(u8, EventKind)>,
    /// Of a profile by discovery: the models that have this register at this place.
    pub models: Vec<u16>,
}

/// What a device is asked about itself when it is connected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identify {
    /// The maker's code of the model.
    pub model: Option<Check>,
    /// The serial number.
    pub serial: Option<Register>,
    /// Further registers that must be as the profile takes for granted.
    pub require: Vec<Check>,
}

impl Identify {
    /// Every register that is asked for.
    pub fn registers(&self) -> impl Iterator<Item = &Register> {
        self.checks().map(|check| &check.register).chain(&self.serial)
    }

    /// The model and everything that is required.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.model.iter().chain(&self.require)
    }

    /// Whether nothing is asked.
    pub const fn is_empty(&self) -> bool {
        self.model.is_none() && self.serial.is_none() && self.require.is_empty()
    }
}

/// A register and what it may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is, for people.
    pub what: String,
    /// Where it stands.
    pub register: Register,
    /// What it may say, at least one.
    pub equals: Vec<Expected>,
}

/// What a register of a nameplate may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// This number.
    Number(i64),
    /// This text.
    Text(String),
    /// A text that begins so.
    Prefix(String),
}
