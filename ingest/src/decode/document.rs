//! What a message holds, whatever its format: values by place, so that one set of paths reads them all.
//!
//! Nodes stand in a flat list in the order of the text. JSON is read into it without a copy; every other format builds one
//! with [`Builder`]. Numbers stay the decimal text that was sent: none becomes a float.

use std::borrow::Cow;

use meterlake_model::DeadReason;

use super::Refusal;

/// How deep and how long a message may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The deepest nesting.
    pub(crate) depth: usize,
    /// The most values, names of members not counted.
    pub(crate) values: usize,
}

impl Limits {
    /// Refuses what lies deeper than allowed.
    pub(crate) fn too_deep(self) -> Refusal {
        Refusal::new(DeadReason::TooLarge, format!("the payload is nested deeper than {} levels", self.depth))
    }

    /// Refuses what holds more than allowed.
    pub(crate) fn too_many(self) -> Refusal {
        Refusal::new(DeadReason::TooLarge, format!("the payload holds more than {} values", self.values))
    }
}

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
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) next: u32,
}

/// A message that was read.
pub(crate) struct Document<'p> {
    text: Cow<'p, str>,
    nodes: Vec<Node>,
}

impl<'p> Document<'p> {
    /// Of nodes whose places are those of `text`; the first is the outermost value.
    pub(super) fn new(text: Cow<'p, str>, nodes: Vec<Node>) -> Self {
        debug_assert!(!nodes.is_empty());
        Self { text, nodes }
    }

    /// Bytes of text that it holds.
    #[cfg(test)]
    pub(crate) fn text_len(&self) -> usize {
        self.text.len()
    }

    /// The outermost value.
    pub(crate) fn root(&self) -> Value<'_> {
        Value { text: &self.text, nodes: &self.nodes, at: 0 }
    }
}

/// Payloads are far below 4 GiB: longer ones are refused before they are read.
pub(super) fn small(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Where a text stands that a [`Builder`] keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    start: u32,
    end: u32,
}

/// Builds a document value by value, as a text would be written from its start to its end.
///
/// Whoever builds opens with [`Self::object`] or [`Self::list`] and closes with [`Self::end`]; within an object each value
/// follows its [`Self::key`]. Beyond the limits every call is refused.
pub(crate) struct Builder {
    limits: Limits,
    text: String,
    nodes: Vec<Node>,
    values: usize,
    /// Places of the lists and objects that are open.
    open: Vec<usize>,
    /// A member's name stands, its value does not yet.
    named: bool,
}

impl Builder {
    /// Nothing yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, text: String::new(), nodes: Vec::new(), values: 0, open: Vec::new(), named: false }
    }

    /// Opens an object.
    pub(crate) fn object(&mut self) -> Result<(), Refusal> {
        self.container(Kind::Object)
    }

    /// Opens a list.
    pub(crate) fn list(&mut self) -> Result<(), Refusal> {
        self.container(Kind::List)
    }

    /// Closes what was opened last.
    pub(crate) fn end(&mut self) -> Result<(), Refusal> {
        let next = small(self.nodes.len());
        if self.named {
            return Err(misbuilt("a name has no value"));
        }
        let Some(place) = self.open.pop() else { return Err(misbuilt("nothing is open")) };
        self.nodes[place].next = next;
        Ok(())
    }

    /// Names the next member of the object that is open.
    pub(crate) fn key(&mut self, name: &str) -> Result<(), Refusal> {
        let name = self.place(name);
        self.key_at(name)
    }

    /// Keeps a text that comes many times, such as a column's name, for [`Self::key_at`] and [`Self::scalar_at`].
    pub(crate) fn place(&mut self, text: &str) -> Place {
        let start = small(self.text.len());
        self.text.push_str(text);
        Place { start, end: small(self.text.len()) }
    }

    /// As [`Self::key`], by a text that is kept.
    pub(crate) fn key_at(&mut self, name: Place) -> Result<(), Refusal> {
        let in_object = self.open.last().is_some_and(|place| self.nodes[*place].kind == Kind::Object);
        if !in_object || self.named {
            return Err(misbuilt("a name stands where none belongs"));
        }
        self.node(Kind::Text { escaped: false }, name);
        self.named = true;
        Ok(())
    }

    /// Adds a scalar by a text that is kept.
    pub(crate) fn scalar_at(&mut self, kind: Kind, text: Place) -> Result<(), Refusal> {
        // What is kept is resolved already.
        let kind = if matches!(kind, Kind::Text { .. }) { Kind::Text { escaped: false } } else { kind };
        self.admit()?;
        self.node(kind, text);
        Ok(())
    }

    /// Adds a value of another document with all that is in it.
    pub(crate) fn copy(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        match value.kind() {
            Kind::List => {
                self.list()?;
                value.items().try_for_each(|item| self.copy(item))?;
                self.end()
            }
            Kind::Object => {
                self.object()?;
                for (name, member) in value.members() {
                    self.key(&name.unescaped())?;
                    self.copy(member)?;
                }
                self.end()
            }
            Kind::Text { .. } => self.text(&value.unescaped()),
            kind => self.scalar(kind, value.raw()),
        }
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Refusal> {
        self.scalar(Kind::Text { escaped: false }, text)
    }

    /// Adds a number by its decimal text, such as `-12.5` or `4e+05`.
    pub(crate) fn number(&mut self, decimal: &str) -> Result<(), Refusal> {
        self.scalar(Kind::Number, decimal)
    }

    /// Adds a truth value.
    pub(crate) fn boolean(&mut self, truth: bool) -> Result<(), Refusal> {
        if truth { self.scalar(Kind::True, "true") } else { self.scalar(Kind::False, "false") }
    }

    /// Adds null, which counts as absent.
    pub(crate) fn null(&mut self) -> Result<(), Refusal> {
        self.scalar(Kind::Null, "null")
    }

    /// The document, once all is closed.
    pub(crate) fn finish(self) -> Result<Document<'static>, Refusal> {
        if self.nodes.is_empty() || !self.open.is_empty() || self.named {
            return Err(misbuilt("it is not closed"));
        }
        Ok(Document::new(Cow::Owned(self.text), self.nodes))
    }

    fn container(&mut self, kind: Kind) -> Result<(), Refusal> {
        if self.open.len() >= self.limits.depth {
            return Err(self.limits.too_deep());
        }
        self.scalar(kind, "")?;
        self.open.push(self.nodes.len() - 1);
        Ok(())
    }

    fn scalar(&mut self, kind: Kind, text: &str) -> Result<(), Refusal> {
        self.admit()?;
        let text = self.place(text);
        self.node(kind, text);
        Ok(())
    }

    /// Whether one more value belongs here and is allowed.
    fn admit(&mut self) -> Result<(), Refusal> {
        let belongs = match self.open.last() {
            Some(place) => (self.nodes[*place].kind == Kind::Object) == self.named,
            None => self.nodes.is_empty(),
        };
        if !belongs {
            return Err(misbuilt("a value stands where none belongs"));
        }
        self.values += 1;
        if self.values > self.limits.values {
            return Err(self.limits.too_many());
        }
        self.named = false;
        Ok(())
    }

    fn node(&mut self, kind: Kind, text: Place) {
        let next = small(self.nodes.len() + 1);
        self.nodes.push(Node { kind, start: text.start, end: text.end, next });
    }
}

/// A decoder that builds what no text could hold is at fault; its message is kept all the same.
fn misbuilt(what: &str) -> Refusal {
    Refusal::new(DeadReason::Syntax, format!("the payload's structure cannot be followed: {what}"))
}

/// One value of a message that was read.
#[derive(Clone, Copy)]
pub(crate) struct Value<'d> {
    text: &'d str,
    nodes: &'d [Node],
    at: usize,
}

impl<'d> Value<'d> {
    /// A text by itself, such as a part of a topic.
    pub(crate) fn of_text(text: &'d str) -> Self {
        Self { text, nodes: &[], at: 0 }
    }

    fn node(self) -> Node {
        // A text by itself has no nodes.
        let alone = || Node { kind: Kind::Text { escaped: false }, start: 0, end: small(self.text.len()), next: 1 };
        self.nodes.get(self.at).copied().unwrap_or_else(alone)
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
