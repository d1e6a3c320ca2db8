//! Where a value stands in a JSON document: `ENERGY.Voltage[0]`, `$.meter`.

use std::fmt;

/// A path from the reading, or from the root of the message where it begins with `$`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath {
    /// Whether it starts at the root of the message.
    pub from_root: bool,
    /// Steps down; none for the start itself.
    pub steps: Vec<Step>,
}

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into the member of an object.
    Key(String),
    /// Into the item of a list, counted from 0.
    Index(usize),
}

impl JsonPath {
    /// Reads `a.b[0].c`, `["a key with. dots"].b`, `$` or `$.a`.
    ///
    /// # Errors
    /// What is wrong, to follow the key's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("is \"{text}\"; a path such as \"ENERGY.Voltage[0]\" or \"$.meter\" is wanted");
        let (from_root, mut rest) = match text.strip_prefix('$') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut steps = Vec::new();
        let mut first = !from_root;
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
        if steps.is_empty() && !from_root {
            return Err(malformed());
        }
        Ok(Self { from_root, steps })
    }

    /// The path of a member of the reading itself.
    pub fn member(name: &str) -> Self {
        Self { from_root: false, steps: vec![Step::Key(name.to_owned())] }
    }
}

fn plain(text: &str) -> Option<(Step, &str)> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    (!key.is_empty() && !key.contains(']')).then(|| (Step::Key(key.to_owned()), rest))
}

fn bracketed(inside: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = inside.strip_prefix('"') {
        let (key, rest) = quoted.split_once("\"]")?;
        return Some((Step::Key(key.to_owned()), rest));
    }
    let (index, rest) = inside.split_once(']')?;
    Some((Step::Index(index.parse().ok()?), rest))
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from_root {
            f.write_str("$")?;
        }
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if key.is_empty() || key.contains(['.', '[', ']', '$']) => write!(f, "[\"{key}\"]")?,
                Step::Key(key) if at == 0 && !self.from_root => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_written_back() {
        for text in ["a", "a.b.c", "ENERGY.Voltage[0]", "$", "$.meter", "$[1].x", "[\"a.b\"].c", "[0]", "a[2][3]"] {
            assert_eq!(JsonPath::parse(text).unwrap().to_string(), text, "{text}");
        }
        assert_eq!(JsonPath::parse("$.a[1]").unwrap().steps, [Step::Key("a".to_owned()), Step::Index(1)]);
        assert_eq!(JsonPath::member("a.b").to_string(), "[\"a.b\"]");
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[1", "$a", "a]b", "[\"a]", "a[-1]"] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
    }
}
