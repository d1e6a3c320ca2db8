//! Where a value stands in a message: `ENERGY.Voltage[0]`, `$.meter`, `data[obis=1-0:1.8.0].value`, `{gateway}`.

use std::fmt;

/// A path to a value of a message, or to a part of its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuePath {
    /// Where it begins.
    pub start: Start,
    /// Steps down; none for the start itself.
    pub steps: Vec<Step>,
}

/// Where a path begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the reading.
    Reading,
    /// `$`: at the root of the message.
    Message,
    /// `^`: at the item of the last `[*]` on the way to the reading.
    Parent,
    /// `{name}`: a part of the topic, which has nothing below it.
    Topic(String),
}

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into the member of an object.
    Key(String),
    /// Into the item of a list, counted from 0.
    Index(usize),
    /// Into the only item of a list whose member reads so.
    Where {
        /// The member's name.
        key: String,
        /// What it reads.
        text: String,
    },
    /// Into every item of a list or member of an object: only on the way to readings.
    Each,
}

impl ValuePath {
    /// Reads `a.b[0].c`, `["a key with. dots"].b`, `list[name=text].c`, `$` or `$.a`, `^.a`, `{part}`.
    ///
    /// # Errors
    /// What is wrong, to follow the key's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = Self::parse_many(text)?;
        if path.steps.contains(&Step::Each) {
            return Err(format!("is \"{text}\"; `[*]` belongs only into `samples`"));
        }
        Ok(path)
    }

    /// As [`Self::parse`], with `[*]` for each item.
    ///
    /// # Errors
    /// What is wrong, to follow the key's name.
    pub fn parse_many(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!(
                "is \"{text}\"; a path such as \"ENERGY.Voltage[0]\", \"$.meter\", \"data[obis=1.8.0].value\" or \
                 \"{{gateway}}\" is wanted"
            )
        };
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return match is_name(name) {
                true => Ok(Self { start: Start::Topic(name.to_owned()), steps: Vec::new() }),
                false => Err(malformed()),
            };
        }
        let (start, mut rest) = match text.chars().next() {
            Some('$') => (Start::Message, &text[1..]),
            Some('^') => (Start::Parent, &text[1..]),
            _ => (Start::Reading, text),
        };
        let mut steps = Vec::new();
        let mut first = start == Start::Reading;
        while !rest.is_empty() {
            let (step, after) = match rest.strip_prefix('[') {
                Some(inside) => bracketed(inside),
                None if first => plain(rest),
                None => rest.strip_prefix('.').and_then(plain),
            }
            .ok_or_else(malformed)?;
            steps.push(step);
            rest = after;
            first = false;
        }
        if steps.is_empty() && start == Start::Reading {
            return Err(malformed());
        }
        Ok(Self { start, steps })
    }

    /// The root of the message.
    pub fn message() -> Self {
        Self { start: Start::Message, steps: Vec::new() }
    }
}

/// Whether a part of a topic can be called so.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn plain(text: &str) -> Option<(Step, &str)> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    (!key.is_empty() && !key.contains([']', '{', '}'])).then(|| (Step::Key(key.to_owned()), rest))
}

fn bracketed(inside: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = inside.strip_prefix('"') {
        let (key, rest) = quoted.split_once("\"]")?;
        return Some((Step::Key(key.to_owned()), rest));
    }
    let (inside, rest) = inside.split_once(']')?;
    if inside == "*" {
        return Some((Step::Each, rest));
    }
    if let Some((key, text)) = inside.split_once('=') {
        return (!key.is_empty()).then(|| (Step::Where { key: key.to_owned(), text: text.to_owned() }, rest));
    }
    Some((Step::Index(inside.parse().ok()?), rest))
}

impl fmt::Display for ValuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            Start::Reading => {}
            Start::Message => f.write_str("$")?,
            Start::Parent => f.write_str("^")?,
            Start::Topic(name) => write!(f, "{{{name}}}")?,
        }
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Each => f.write_str("[*]")?,
                Step::Where { key, text } => write!(f, "[{key}={text}]")?,
                Step::Key(key) if key.is_empty() || key.contains(['.', '[', ']', '$', '^', '{', '}']) => {
                    write!(f, "[\"{key}\"]")?;
                }
                Step::Key(key) if at == 0 && self.start == Start::Reading => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_read_and_written_back() {
        for text in [
            "a",
            "a.b.c",
            "ENERGY.Voltage[0]",
            "$",
            "$.meter",
            "$[1].x",
            "[\"a.b\"].c",
            "[0]",
            "a[2][3]",
            "data[obis=1-0:1.8.0].value",
            "[n=a.b].v",
            "^",
            "^.id",
            "{gateway}",
            "params[\"em:0\"].a_voltage",
        ] {
            let path = ValuePath::parse(text).unwrap_or_else(|error| panic!("{text} {error}"));
            assert_eq!(ValuePath::parse(&path.to_string()), Ok(path), "{text}");
        }
        assert_eq!(
            ValuePath::parse("$.a[1]").unwrap(),
            ValuePath { start: Start::Message, steps: vec![Step::Key("a".to_owned()), Step::Index(1)] }
        );
        assert_eq!(ValuePath::parse_many("meters[*].readings").unwrap().steps[1], Step::Each);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[1", "$a", "^a", "a]b", "[\"a]", "a[-1]", "a[*]", "a[=x]",
            "{}", "{A}", "{a}.b", "{a", "a{b}",
        ] {
            assert!(ValuePath::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_read_is_written_back(text in "[a-c{}.$^*=\"0-1\\[\\]]{0,12}") {
            if let Ok(path) = ValuePath::parse_many(&text) {
                prop_assert_eq!(ValuePath::parse_many(&path.to_string()), Ok(path));
            }
        }
    }
}
