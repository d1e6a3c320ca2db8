//! The form of a registration or heartbeat packet, as people write it.
//!
//! Text stands for itself, `\x7E`, `\r`, `\n`, `\t`, `\0`, `\\` and `\{` for single bytes. `{id}` is the id as text up to
//! what follows it, or to the end of what came; `{id:15}` the id of so many bytes of text; `{id:hex:6}` so many bytes
//! whose hexadecimal digits are the id; `{any:2}` so many bytes of any value. After `hex:` literals are pairs of
//! hexadecimal digits, with blanks as one likes: `hex: 7E 01 {id:hex:6} {any:2} 7E`.

/// A packet as its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketPattern {
    /// In the order of the packet; literals lie never next to each other.
    pub parts: Vec<PacketPart>,
}

/// A part of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PacketPart {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of any value.
    Any(usize),
    /// Who calls.
    Id {
        /// How its bytes are read.
        form: IdForm,
        /// How many; `None` for as many as come before what follows.
        length: Option<usize>,
    },
}

/// How the bytes of an id are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdForm {
    /// As text.
    Text,
    /// As hexadecimal digits, in capitals, two for each byte.
    Hex,
}

/// The longest packet.
const MOST_BYTES: usize = 256;

impl PacketPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong, as in "`registration` …".
    pub fn parse(text: &str) -> Result<Self, String> {
        let (hex, mut rest) = match text.strip_prefix("hex:") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut parts: Vec<PacketPart> = Vec::new();
        while let Some(first) = rest.chars().next() {
            if first == '{' {
                let (field, after) =
                    rest[1..].split_once('}').ok_or_else(|| format!("has a `{{` without its `}}` in \"{text}\""))?;
                parts.push(field_of(field)?);
                rest = after;
                continue;
            }
            let (bytes, after) = if hex { hex_byte(rest)? } else { literal(rest, first)? };
            rest = after;
            match parts.last_mut() {
                Some(PacketPart::Bytes(before)) => before.extend(bytes),
                _ if bytes.is_empty() => {}
                _ => parts.push(PacketPart::Bytes(bytes)),
            }
        }
        let pattern = Self { parts };
        pattern.check(text)?;
        Ok(pattern)
    }

    /// The number of its bytes; `None` when the id may have any length.
    pub fn length(&self) -> Option<usize> {
        self.parts.iter().map(PacketPart::length).sum()
    }

    /// Whether it says who calls.
    pub fn has_id(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, PacketPart::Id { .. }))
    }

    /// Whether it has bytes that are always the same.
    pub fn has_bytes(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, PacketPart::Bytes(_)))
    }

    fn check(&self, text: &str) -> Result<(), String> {
        if self.parts.is_empty() {
            return Err("is empty".to_owned());
        }
        let ids = self.parts.iter().filter(|part| matches!(part, PacketPart::Id { .. })).count();
        if ids > 1 {
            return Err(format!("has {ids} ids in \"{text}\""));
        }
        let open = self.parts.iter().position(|part| part.length().is_none());
        let follower = open.and_then(|open| self.parts.get(open + 1));
        if follower.is_some_and(|part| !matches!(part, PacketPart::Bytes(_))) {
            return Err(format!("has an id without a length before bytes of any value in \"{text}\""));
        }
        let fixed: usize = self.parts.iter().filter_map(PacketPart::length).sum();
        if fixed > MOST_BYTES {
            return Err(format!("has {fixed} bytes; a packet has at most {MOST_BYTES}"));
        }
        Ok(())
    }
}

impl PacketPart {
    fn length(&self) -> Option<usize> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::Any(length) => Some(*length),
            Self::Id { length, .. } => *length,
        }
    }
}

fn field_of(field: &str) -> Result<PacketPart, String> {
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| (1..=64).contains(number));
        number.ok_or_else(|| format!("has `{text}` bytes in `{{{field}}}`; 1 to 64 are possible"))
    };
    let id = |form, length| PacketPart::Id { form, length };
    match *field.split(':').collect::<Vec<_>>() {
        ["id"] => Ok(id(IdForm::Text, None)),
        ["id", "hex", length] => {
            let length = number(length)?;
            // Two digits a byte, and an id has at most 64 characters.
            if length > 32 {
                Err(format!("has more than 32 bytes in `{{{field}}}`"))
            } else {
                Ok(id(IdForm::Hex, Some(length)))
            }
        }
        ["id", length] => Ok(id(IdForm::Text, Some(number(length)?))),
        ["any", length] => Ok(PacketPart::Any(number(length)?)),
        _ => Err(format!("has `{{{field}}}`; {{id}}, {{id:15}}, {{id:hex:6}} and {{any:2}} are possible")),
    }
}

/// One pair of hexadecimal digits, or a blank.
fn hex_byte(rest: &str) -> Result<(Vec<u8>, &str), String> {
    if let Some(after) = rest.strip_prefix(' ') {
        return Ok((Vec::new(), after));
    }
    let (byte, after) = two_digits(rest)?;
    Ok((vec![byte], after))
}

fn literal(rest: &str, first: char) -> Result<(Vec<u8>, &str), String> {
    if first != '\\' {
        let (own, after) = rest.split_at(first.len_utf8());
        return Ok((own.as_bytes().to_vec(), after));
    }
    let after = &rest[1..];
    if let Some(digits) = after.strip_prefix('x') {
        let (byte, after) = two_digits(digits)?;
        return Ok((vec![byte], after));
    }
    let escapes = [('r', b'\r'), ('n', b'\n'), ('t', b'\t'), ('0', 0), ('\\', b'\\'), ('{', b'{')];
    let escape = escapes.iter().find(|(letter, _)| after.starts_with(*letter));
    let (_, byte) = escape.ok_or_else(|| {
        format!(
            "has `\\{}`; \\xHH, \\r, \\n, \\t, \\0, \\\\ and \\{{ are possible",
            after.chars().take(1).collect::<String>()
        )
    })?;
    Ok((vec![*byte], &after[1..]))
}

fn two_digits(text: &str) -> Result<(u8, &str), String> {
    let pair = text.get(..2).filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let found: String = text.chars().take(2).collect();
    byte.map(|byte| (byte, &text[2..])).ok_or_else(|| format!("has `{found}` where two hexadecimal digits are wanted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(bytes: &[u8]) -> PacketPart {
        PacketPart::Bytes(bytes.to_vec())
    }

    #[test]
    fn a_pattern_is_read_part_by_part() {
        let text = |length| PacketPart::Id { form: IdForm::Text, length };
        for (pattern, parts) in [
            ("{id:15}", vec![text(Some(15))]),
            (r"REG,{id},\r\n", vec![bytes(b"REG,"), text(None), bytes(b",\r\n")]),
            (r"\x7e\0\{\\", vec![bytes(&[0x7E, 0, b'{', b'\\'])]),
            (
                "hex: 7B 0100 {id:hex:6} {any:2}7b",
                vec![
                    bytes(&[0x7B, 1, 0]),
                    PacketPart::Id { form: IdForm::Hex, length: Some(6) },
                    PacketPart::Any(2),
                    bytes(&[0x7B]),
                ],
            ),
            ("ü", vec![bytes("ü".as_bytes())]),
        ] {
            assert_eq!(PacketPattern::parse(pattern), Ok(PacketPattern { parts }), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_reason() {
        for (pattern, complaint) in [
            ("", "is empty"),
            ("hex:", "is empty"),
            ("{id", "has a `{` without its `}` in \"{id\""),
            ("{id}{id:3}", "has 2 ids in \"{id}{id:3}\""),
            ("{id}{any:2}", "has an id without a length before bytes of any value in \"{id}{any:2}\""),
            ("{id:0}", "has `0` bytes in `{id:0}`; 1 to 64 are possible"),
            ("{id:hex:33}", "has more than 32 bytes in `{id:hex:33}`"),
            ("{imei}", "has `{imei}`; {id}, {id:15}, {id:hex:6} and {any:2} are possible"),
            ("hex:7", "has `7` where two hexadecimal digits are wanted"),
            (r"\xZZ", "has `ZZ` where two hexadecimal digits are wanted"),
            (r"\q", r"has `\q`; \xHH, \r, \n, \t, \0, \\ and \{ are possible"),
            ("{any:64}{any:64}{any:64}{any:64}a", "has 257 bytes; a packet has at most 256"),
        ] {
            assert_eq!(PacketPattern::parse(pattern), Err(complaint.to_owned()), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in ".{0,40}", hex: bool) {
            let text = if hex { format!("hex:{text}") } else { text };
            if let Ok(pattern) = PacketPattern::parse(&text) {
                prop_assert!(!pattern.parts.is_empty());
            }
        }
    }
}
