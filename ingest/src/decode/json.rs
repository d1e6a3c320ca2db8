//! Reads JSON into places in its own text: nothing is copied, and no number becomes a float.
//!
//! Strict RFC 8259 with limits of depth and count. What the values mean is decided elsewhere.

use std::borrow::Cow;

use super::document::{Document, Kind, Limits, Node, small};

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JsonError {
    #[error("the payload is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    #[error("the payload is not JSON at byte {at}: {wanted} is wanted")]
    Syntax { at: usize, wanted: &'static str },
    #[error("the payload is nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("the payload holds more than {0} values")]
    TooMany(usize),
}

/// Reads one value with nothing but blanks around it.
pub(super) fn parse(payload: &[u8], limits: Limits) -> Result<Document<'_>, JsonError> {
    let text = std::str::from_utf8(payload).map_err(|error| JsonError::NotUtf8(error.valid_up_to()))?;
    Ok(Document::new(Cow::Borrowed(text), nodes(payload, limits)?))
}

/// As [`parse`]; the document keeps the text.
pub(super) fn parse_owned(text: String, limits: Limits) -> Result<Document<'static>, JsonError> {
    let nodes = nodes(text.as_bytes(), limits)?;
    Ok(Document::new(Cow::Owned(text), nodes))
}

fn nodes(text: &[u8], limits: Limits) -> Result<Vec<Node>, JsonError> {
    // A value takes some eight bytes in the payloads of meters.
    let nodes = Vec::with_capacity((text.len() / 8 + 4).min(2 * limits.values));
    let mut reader =
        Reader { bytes: text, at: 0, nodes, max_depth: limits.depth, max_values: limits.values, values: 0 };
    reader.blanks();
    reader.value(0)?;
    reader.blanks();
    if reader.at < text.len() {
        return Err(reader.wanted("the end"));
    }
    Ok(reader.nodes)
}

struct Reader<'p> {
    bytes: &'p [u8],
    at: usize,
    nodes: Vec<Node>,
    max_depth: usize,
    max_values: usize,
    values: usize,
}

impl Reader<'_> {
    fn wanted(&self, wanted: &'static str) -> JsonError {
        JsonError::Syntax { at: self.at, wanted }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Notes a value; `end` and `next` of a list or object are set once it closes.
    fn node(&mut self, kind: Kind, start: usize, end: usize) -> usize {
        let place = self.nodes.len();
        self.nodes.push(Node { kind, start: small(start), end: small(end), next: small(place + 1) });
        place
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        self.values += 1;
        if self.values > self.max_values {
            return Err(JsonError::TooMany(self.max_values));
        }
        match self.peek() {
            Some(b'"') => self.text(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => self.container(depth, Kind::Object, b'}'),
            Some(b'[') => self.container(depth, Kind::List, b']'),
            Some(b't') => self.word("true", Kind::True),
            Some(b'f') => self.word("false", Kind::False),
            Some(b'n') => self.word("null", Kind::Null),
            _ => Err(self.wanted("a value")),
        }
    }

    fn word(&mut self, word: &'static str, kind: Kind) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wanted("a value"));
        }
        self.node(kind, self.at, self.at + word.len());
        self.at += word.len();
        Ok(())
    }

    fn container(&mut self, depth: usize, kind: Kind, close: u8) -> Result<(), JsonError> {
        if depth >= self.max_depth {
            return Err(JsonError::TooDeep(self.max_depth));
        }
        let place = self.node(kind, self.at, self.at);
        self.at += 1;
        self.blanks();
        if self.peek() == Some(close) {
            self.at += 1;
        } else {
            loop {
                if kind == Kind::Object {
                    if self.peek() != Some(b'"') {
                        return Err(self.wanted("a name in quotes"));
                    }
                    self.text()?;
                    self.blanks();
                    if self.peek() != Some(b':') {
                        return Err(self.wanted("`:`"));
                    }
                    self.at += 1;
                    self.blanks();
                }
                self.value(depth + 1)?;
                self.blanks();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(byte) if byte == close => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(self.wanted("`,` or the closing bracket")),
                }
                self.blanks();
            }
        }
        let next = small(self.nodes.len());
        let node = &mut self.nodes[place];
        node.end = small(self.at);
        node.next = next;
        Ok(())
    }

    fn text(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            let plain = self.bytes[self.at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            self.at = plain.map_or(self.bytes.len(), |plain| self.at + plain);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return Err(self.wanted("a text without control characters")),
                None => return Err(self.wanted("the closing quote")),
            }
        }
        self.node(Kind::Text { escaped }, start, self.at);
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.wanted("four hexadecimal digits"));
                }
                self.at += 5;
            }
            _ => return Err(self.wanted("an escape such as `\\n`")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        self.node(Kind::Number, start, self.at);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let digits = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(self.wanted("a digit"));
        }
        self.at += digits;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
