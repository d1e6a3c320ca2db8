//! Reads JSON into a flat list of places in the text: nothing is copied, and no number becomes a float.
//!
//! Strict RFC 8259 with limits of depth and count. What the values mean is decided elsewhere.

use std::borrow::Cow;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    True,
    False,
    Number,
    Text { escaped: bool },
    List,
    Object,
}

/// One value: its place in the text, quotes excluded, and where the next value that is not inside it begins.
#[derive(Debug, Clone, Copy)]
struct Node {
    kind: Kind,
    start: u32,
    end: u32,
    next: u32,
}

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("the payload is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    #[error("the payload is not JSON at byte {at}: {wanted} is wanted")]
    Syntax { at: usize, wanted: &'static str },
    #[error("the payload is nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("the payload holds more than {0} values")]
    TooMany(usize),
}

/// A text that was read.
pub(crate) struct Json<'p> {
    text: &'p str,
    nodes: Vec<Node>,
}

impl<'p> Json<'p> {
    /// Reads one value with nothing but blanks around it.
    pub(crate) fn parse(payload: &'p [u8], max_depth: usize, max_values: usize) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(payload).map_err(|error| JsonError::NotUtf8(error.valid_up_to()))?;
        // A value takes some eight bytes in the payloads of meters.
        let nodes = Vec::with_capacity((payload.len() / 8 + 4).min(2 * max_values));
        let mut reader = Reader { bytes: payload, at: 0, nodes, max_depth, max_values, values: 0 };
        reader.blanks();
        reader.value(0)?;
        reader.blanks();
        if reader.at < payload.len() {
            return Err(reader.wanted("the end"));
        }
        Ok(Self { text, nodes: reader.nodes })
    }

    /// The outermost value.
    pub(crate) fn root(&self) -> Value<'_> {
        Value { text: self.text, nodes: &self.nodes, at: 0 }
    }
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
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(0x20..) => self.at += 1,
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
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.wanted("a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }
}

/// Payloads are far below 4 GiB: longer ones are refused before they are read.
fn small(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// One value of a text that was read.
#[derive(Clone, Copy)]
pub(crate) struct Value<'d> {
    text: &'d str,
    nodes: &'d [Node],
    at: usize,
}

impl<'d> Value<'d> {
    fn node(self) -> Node {
        self.nodes[self.at]
    }

    /// What it is.
    pub(crate) fn kind(self) -> Kind {
        self.node().kind
    }

    /// The value as it stands in the text; quotes of a text excluded.
    pub(crate) fn raw(self) -> &'d str {
        let node = self.node();
        self.text.get(node.start as usize..node.end as usize).unwrap_or("")
    }

    /// As [`Self::raw`], with the escapes of a text resolved.
    pub(crate) fn unescaped(self) -> Cow<'d, str> {
        match self.kind() {
            Kind::Text { escaped: true } => Cow::Owned(unescape(self.raw())),
            _ => Cow::Borrowed(self.raw()),
        }
    }

    /// The items of a list; none for anything else.
    pub(crate) fn items(self) -> impl Iterator<Item = Value<'d>> {
        let node = self.node();
        let (mut at, end) = if node.kind == Kind::List { (self.at + 1, node.next as usize) } else { (0, 0) };
        std::iter::from_fn(move || {
            let item = (at < end).then_some(Value { at, ..self })?;
            at = item.node().next as usize;
            Some(item)
        })
    }

    /// The members of an object; none for anything else.
    pub(crate) fn members(self) -> impl Iterator<Item = (Value<'d>, Value<'d>)> {
        let node = self.node();
        let (mut at, end) = if node.kind == Kind::Object { (self.at + 1, node.next as usize) } else { (0, 0) };
        std::iter::from_fn(move || {
            let key = (at < end).then_some(Value { at, ..self })?;
            let value = Value { at: at + 1, ..self };
            at = value.node().next as usize;
            Some((key, value))
        })
    }

    /// The member of an object with this name; `Err` when there are two.
    pub(crate) fn member(self, name: &str) -> Result<Option<Value<'d>>, ()> {
        let mut found = None;
        for (key, value) in self.members() {
            if key.is(name) && found.replace(value).is_some() {
                return Err(());
            }
        }
        Ok(found)
    }

    /// Whether a text reads like this.
    fn is(self, name: &str) -> bool {
        let node = self.node();
        match node.kind {
            Kind::Text { escaped: true } => unescape(self.raw()) == name,
            // The length tells most names apart.
            _ => {
                let (start, end) = (node.start as usize, node.end as usize);
                end - start == name.len() && self.text.as_bytes()[start..end] == *name.as_bytes()
            }
        }
    }

    /// What it is, for a message to a person.
    pub(crate) fn described(self) -> String {
        match self.kind() {
            Kind::Null => "null".to_owned(),
            Kind::True => "true".to_owned(),
            Kind::False => "false".to_owned(),
            Kind::Number => format!("the number {}", shortened(self.raw())),
            Kind::Text { .. } => format!("the text \"{}\"", shortened(self.raw())),
            Kind::List => "a list".to_owned(),
            Kind::Object => "an object".to_owned(),
        }
    }
}

/// The start of a text that came from outside.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// Resolves escapes that the reader has checked; a lone surrogate becomes the replacement character.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let mut after = rest[at + 1..].chars();
        match after.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let high = hex(after.as_str());
                after = skip(after.as_str(), 4);
                let pair = after.as_str().strip_prefix("\\u").map(hex);
                let (unit, taken) = match (high, pair) {
                    (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                        (0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), 6)
                    }
                    _ => (high, 0),
                };
                text.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
                after = skip(after.as_str(), taken);
            }
            Some(other) => text.push(other),
            None => {}
        }
        rest = after.as_str();
    }
    text.push_str(rest);
    text
}

fn hex(text: &str) -> u32 {
    text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0xfffd)
}

fn skip(text: &str, bytes: usize) -> std::str::Chars<'_> {
    text.get(bytes..).unwrap_or("").chars()
}

#[cfg(test)]
mod tests;
