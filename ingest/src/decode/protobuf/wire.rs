//! The wire of protocol buffers: the fields of one message, one after the other, without copying.
//!
//! What a field means is decided by whoever reads; one that nobody knows is passed over, as the format wants it.

/// What stands behind a field's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire<'p> {
    /// A whole number, a truth value or an enumeration.
    Varint(u64),
    /// Eight bytes, lowest first: a double or a fixed whole number.
    Fixed64(u64),
    /// Text, bytes, a message or packed numbers.
    Bytes(&'p [u8]),
    /// Four bytes, lowest first: a float or a fixed whole number.
    Fixed32(u32),
}

/// Why a message is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("it ends within a field")]
    Short,
    #[error("a number has more than 64 bits")]
    LongVarint,
    #[error("field {0} is of kind {1}, which is none")]
    Kind(u64, u8),
    #[error("field number {0} is none")]
    Number(u64),
}

/// The highest field number that the format allows.
const MAX_FIELD: u64 = (1 << 29) - 1;

/// Reads the fields of one message.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'p>(&'p [u8]);

impl<'p> Fields<'p> {
    /// The fields of a message.
    pub(crate) const fn of(message: &'p [u8]) -> Self {
        Self(message)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let (value, rest) = varint(self.0)?;
        self.0 = rest;
        Ok(value)
    }

    fn take(&mut self, length: u64) -> Result<&'p [u8], WireError> {
        let length = usize::try_from(length).map_err(|_| WireError::Short)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn field(&mut self) -> Result<(u32, Wire<'p>), WireError> {
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(number) if number > 0 && tag >> 3 <= MAX_FIELD => number,
            _ => return Err(WireError::Number(tag >> 3)),
        };
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.fixed()?)),
            // Groups (3 and 4) went out of use before any of our formats began.
            kind => return Err(WireError::Kind(u64::from(number), u8::try_from(kind).unwrap_or(u8::MAX))),
        };
        Ok((number, wire))
    }
}

impl<'p> Iterator for Fields<'p> {
    type Item = Result<(u32, Wire<'p>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// One number of variable length, and what follows it.
///
/// # Errors
/// When the bytes end within it, or it is longer than 64 bits.
pub(crate) fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), WireError> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().enumerate().take(10) {
        // Of the tenth byte only one bit has room.
        if at == 9 && byte > 1 {
            return Err(WireError::LongVarint);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[at + 1..]));
        }
    }
    Err(if bytes.len() < 10 { WireError::Short } else { WireError::LongVarint })
}

/// Writes a number of variable length.
pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Writes a field that is a number.
pub(crate) fn write_number(field: u32, value: u64, out: &mut Vec<u8>) {
    write_varint(u64::from(field) << 3, out);
    write_varint(value, out);
}

/// Writes a field that is text, bytes or a message.
pub(crate) fn write_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(u64::from(field) << 3 | 2, out);
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(message: &[u8]) -> Result<Vec<(u32, Wire<'_>)>, WireError> {
        Fields::of(message).collect()
    }

    #[test]
    fn every_kind_of_field_is_read_and_groups_are_refused() {
        let message = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x1d, 0, 0, 0x80, 0x3f, 0x21, 1, 0, 0, 0, 0, 0, 0, 0];
        let expected =
            [(1, Wire::Varint(150)), (2, Wire::Bytes(b"hi")), (3, Wire::Fixed32(0x3f80_0000)), (4, Wire::Fixed64(1))];
        assert_eq!(read(&message), Ok(expected.to_vec()));
        for (message, error) in [
            (&[0x0b][..], WireError::Kind(1, 3)),
            (&[0x08], WireError::Short),
            (&[0x12, 5, 1], WireError::Short),
            (&[0x1d, 1, 2], WireError::Short),
            (&[0x00, 1], WireError::Number(0)),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], WireError::LongVarint),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], WireError::LongVarint),
        ] {
            assert_eq!(read(message), Err(error), "{message:02x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number in 1..1000_u32, value: u64, bytes: Vec<u8>) {
            let mut message = Vec::new();
            write_number(number, value, &mut message);
            write_bytes(number, &bytes, &mut message);
            prop_assert_eq!(read(&message), Ok(vec![(number, Wire::Varint(value)), (number, Wire::Bytes(&bytes))]));
            for end in 1..message.len() {
                prop_assert!(read(&message[..end]).is_err() || read(&message[..end]).unwrap().len() < 2);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
