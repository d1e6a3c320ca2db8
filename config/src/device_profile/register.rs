//! Registers: which, and what their bits mean.

/// Registers that one request may ask for, by the Modbus specification.
pub const MAX_REGISTERS: u16 = 125;
/// Registers that a text may have.
pub const MAX_TEXT: u8 = 32;

/// How a register is read. Codes that write do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// Function code 3.
    HoldingRegisters,
    /// Function code 4.
    InputRegisters,
}

impl Function {
    /// Both.
    pub const ALL: [Self; 2] = [Self::HoldingRegisters, Self::InputRegisters];

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
    /// Unsigned, the high byte of one register.
    U8High,
    /// Unsigned, the low byte of one register.
    U8Low,
    /// Two's complement, the high byte of one register.
    I8High,
    /// Two's complement, the low byte of one register.
    I8Low,
    /// Unsigned, one register.
    U16,
    /// Two's complement, one register.
    I16,
    /// Unsigned, two registers.
    U32,
    /// Two's complement, two registers.
    I32,
    /// Unsigned, three registers.
    U48,
    /// Two's complement, three registers.
    I48,
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
    /// Twelve decimal digits, three registers.
    Bcd48,
    /// Sixteen decimal digits, four registers.
    Bcd64,
    /// Two registers of four decimal digits each, as numbers from -9999 to 9999.
    M10k32,
    /// Three registers of four decimal digits each.
    M10k48,
    /// Four registers of four decimal digits each.
    M10k64,
    /// ASCII text in so many registers, 1 to [`MAX_TEXT`]. Of nameplates only, never of a value.
    Text(u8),
}

impl RegisterType {
    /// Those of numbers, with their names in files.
    pub const NUMBERS: [(&'static str, Self); 21] = [
        ("u16", Self::U16),
        ("i16", Self::I16),
        ("u32", Self::U32),
        ("i32", Self::I32),
        ("u48", Self::U48),
        ("i48", Self::I48),
        ("u64", Self::U64),
        ("i64", Self::I64),
        ("f32", Self::F32),
        ("f64", Self::F64),
        ("bcd16", Self::Bcd16),
        ("bcd32", Self::Bcd32),
        ("bcd48", Self::Bcd48),
        ("bcd64", Self::Bcd64),
        ("m10k32", Self::M10k32),
        ("m10k48", Self::M10k48),
        ("m10k64", Self::M10k64),
        ("u8_high", Self::U8High),
        ("u8_low", Self::U8Low),
        ("i8_high", Self::I8High),
        ("i8_low", Self::I8Low),
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        Self::NUMBERS.iter().find(|(_, kind)| *kind == self).map_or("string", |(name, _)| name)
    }

    /// Number of 16-bit registers.
    pub const fn registers(self) -> u16 {
        match self {
            Self::U8High | Self::U8Low | Self::I8High | Self::I8Low => 1,
            Self::U16 | Self::I16 | Self::Bcd16 => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 | Self::M10k32 => 2,
            Self::U48 | Self::I48 | Self::Bcd48 | Self::M10k48 => 3,
            Self::U64 | Self::I64 | Self::F64 | Self::Bcd64 | Self::M10k64 => 4,
            Self::Text(registers) => registers as u16,
        }
    }

    /// Number of bits that make the value; 0 of a text.
    pub const fn width(self) -> u8 {
        match self {
            Self::U8High | Self::U8Low | Self::I8High | Self::I8Low => 8,
            Self::U16 | Self::I16 | Self::Bcd16 => 16,
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 | Self::M10k32 => 32,
            Self::U48 | Self::I48 | Self::Bcd48 | Self::M10k48 => 48,
            Self::U64 | Self::I64 | Self::F64 | Self::Bcd64 | Self::M10k64 => 64,
            Self::Text(_) => 0,
        }
    }

    /// Whether it is a binary float.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it is a binary integer, of which single bits can be taken.
    pub const fn is_integer(self) -> bool {
        self.is_signed() || matches!(self, Self::U8High | Self::U8Low | Self::U16 | Self::U32 | Self::U48 | Self::U64)
    }

    /// Whether it is an integer in two's complement.
    pub const fn is_signed(self) -> bool {
        matches!(self, Self::I8High | Self::I8Low | Self::I16 | Self::I32 | Self::I48 | Self::I64)
    }
}

/// The order in which a device sends the bytes of a value. Big is what the Modbus specification says. Registers and the
/// bytes within each are either in order or reversed, however many registers there are.
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
    pub const NAMES: [(&'static str, Self); 4] = [
        ("big", Self::Big),
        ("little", Self::Little),
        ("word_swapped", Self::WordSwapped),
        ("byte_swapped", Self::ByteSwapped),
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, order)| *order == self).map_or("", |(name, _)| name)
    }
}

/// How a device says that it has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Absent {
    /// By these bits, right-aligned, after the bytes were brought into order.
    Bits(u64),
    /// By any float that is not a number.
    NotANumber,
}

/// Some bits of an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BitRange {
    /// The lowest; 0 is the lowest of the whole integer.
    pub first: u8,
    /// How many, at least one.
    pub count: u8,
}

/// A value as it stands in the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Function code.
    pub function: Function,
    /// First register, counted from 0 as on the wire; in a profile by discovery from the begin of its model.
    pub address: u16,
    /// Type of the bits.
    pub kind: RegisterType,
    /// Order of the bytes.
    pub order: ByteOrder,
    /// Of integers: the bits that are the value, where not all are.
    pub bits: Option<BitRange>,
    /// What the device says when it has no value.
    pub absent: Vec<Absent>,
}

impl Register {
    /// The registers that it takes.
    pub const fn range(&self) -> RegisterRange {
        RegisterRange::starting_at(self.address, self.kind.registers())
    }
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
