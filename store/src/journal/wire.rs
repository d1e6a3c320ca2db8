//! Integers, texts and columns as bytes: variable-length integers, and decoding that never believes a length.

/// Why bytes are no record. A text for people; the caller adds the position.
pub(super) type Reason = String;

/// Appends an unsigned integer, seven bits a byte, the lowest first.
pub(super) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a length or count.
pub(super) fn put_len(out: &mut Vec<u8>, value: usize) {
    put_u64(out, value as u64);
}

/// Appends a signed integer; small magnitudes take few bytes.
pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends bytes with their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

const CONSTANT: u8 = 0;
const DELTA: u8 = 1;

/// Appends a column of signed integers: one value if all are equal, else differences of neighbours.
pub(super) fn put_column(out: &mut Vec<u8>, mut values: impl Iterator<Item = i64> + Clone) {
    let Some(first) = values.clone().next() else { return };
    if values.clone().all(|v| v == first) {
        out.push(CONSTANT);
        put_i64(out, first);
        return;
    }
    out.push(DELTA);
    let mut previous = 0;
    for value in values.by_ref() {
        put_i64(out, value.wrapping_sub(previous));
        previous = value;
    }
}

/// Reads what the `put_` functions wrote. Every length is checked against what is left before anything is reserved.
pub(super) struct Cursor<'a> {
    left: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Reason> {
        let (first, rest) = self.left.split_first().ok_or("it ends early")?;
        self.left = rest;
        Ok(*first)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Reason> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("an integer is longer than 64 bits".into())
    }

    pub(super) fn i64(&mut self) -> Result<i64, Reason> {
        let value = self.u64()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A count of things that take at least one byte each.
    pub(super) fn count(&mut self) -> Result<usize, Reason> {
        let count = self.u64()?;
        match usize::try_from(count) {
            Ok(n) if n <= self.left.len() => Ok(n),
            _ => Err(format!("a count of {count} is above the {} bytes left", self.left.len())),
        }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Reason> {
        let (taken, rest) = self
            .left
            .split_at_checked(len)
            .ok_or_else(|| format!("{len} bytes are wanted, {} left", self.left.len()))?;
        self.left = rest;
        Ok(taken)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Reason> {
        let len = self.count()?;
        self.take(len)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Reason> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8".into())
    }

    /// A column of `rows` values; the caller has bounded `rows`.
    pub(super) fn column(&mut self, rows: usize) -> Result<Vec<i64>, Reason> {
        if rows == 0 {
            return Ok(Vec::new());
        }
        match self.byte()? {
            CONSTANT => Ok(vec![self.i64()?; rows]),
            DELTA => {
                if rows > self.left.len() {
                    return Err(format!("a column of {rows} values has {} bytes", self.left.len()));
                }
                let mut values = Vec::with_capacity(rows);
                let mut previous = 0_i64;
                for _ in 0..rows {
                    previous = previous.wrapping_add(self.i64()?);
                    values.push(previous);
                }
                Ok(values)
            }
            other => Err(format!("column kind {other} is unknown")),
        }
    }

    pub(super) fn finish(&self) -> Result<(), Reason> {
        if self.left.is_empty() { Ok(()) } else { Err(format!("{} bytes are left over", self.left.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_at_the_ends_of_their_range_are_read_back() {
        for value in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.i64(), Ok(value));
            assert_eq!(cursor.finish(), Ok(()));
        }
    }

    #[test]
    fn an_integer_of_more_than_64_bits_is_refused() {
        assert!(Cursor::new(&[0xff; 11]).u64().is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).u64().is_err());
    }

    #[test]
    fn a_count_beyond_the_bytes_left_reserves_nothing() {
        let mut out = Vec::new();
        put_u64(&mut out, u64::MAX);
        assert!(Cursor::new(&out).count().is_err());
        assert!(Cursor::new(&out).bytes().is_err());
    }

    proptest! {
        #[test]
        fn columns_are_read_back(values in prop::collection::vec(any::<i64>(), 0..50)) {
            let mut out = Vec::new();
            put_column(&mut out, values.iter().copied());
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.column(values.len()), Ok(values));
            prop_assert_eq!(cursor.finish(), Ok(()));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut cursor = Cursor::new(&bytes);
            let _ = cursor.column(3);
            let _ = cursor.text();
            let _ = cursor.i64();
        }
    }
}
