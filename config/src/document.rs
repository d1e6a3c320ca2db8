//! Reads a TOML file by hand, so that all of its problems are told at once and each with its line.
//!
//! A [`Section`] is asked for its keys one by one; what is absent or wrong is `None`, and what is wrong is noted in the
//! [`Document`]. Whatever was never asked for is an unknown key: it is noted when the section goes out of scope, so no
//! reader can forget it. This module knows no key of any file.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use meterlake_model::check::Value;
use meterlake_model::parse_scaled;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Problem, line_of};
use crate::quantity;
use crate::spelling::near_miss;

/// The file's name, its text, and what was found wrong so far.
pub(crate) struct Document<'d> {
    file: &'d str,
    text: &'d str,
    /// Where each line begins.
    starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    /// Lines with syntax errors. They may hide keys, and what seems to stand on them is not told.
    torn: BTreeSet<usize>,
}

impl<'d> Document<'d> {
    /// Parses the text as far as it goes; syntax errors become problems.
    pub(crate) fn parse(file: &'d str, text: &'d str) -> (Self, Spanned<DeTable<'d>>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let problems: Vec<_> = errors
            .iter()
            .map(|error| {
                let line = error.span().map(|span| line_of(text, span.start));
                let message = syntax_error(error.message(), error.span().and_then(|span| text.get(span)));
                Problem { file: file.to_owned(), line, message }
            })
            .collect();
        let torn: BTreeSet<usize> = problems.iter().filter_map(|problem| problem.line).collect();
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        (Self { file, text, starts, problems: RefCell::new(problems), torn }, root)
    }

    /// Notes a problem of one line.
    pub(crate) fn note(&self, line: usize, message: impl Into<String>) {
        if !self.is_torn(line) {
            self.problems.borrow_mut().push(Problem::at(self.file, line, message));
        }
    }

    /// Whether a line, or the header that it stands under, has a syntax error.
    fn is_torn(&self, line: usize) -> bool {
        if self.torn.is_empty() {
            return false;
        }
        let above = self.text.lines().take(line).enumerate();
        let header = above.filter(|(_, text)| text.trim_start().starts_with('[')).last();
        self.torn.contains(&line) || header.is_some_and(|(at, _)| self.torn.contains(&(at + 1)))
    }

    /// Notes problems of other files that this one names.
    pub(crate) fn note_all(&self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.borrow_mut().extend(problems);
    }

    /// All problems, by file and line.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by(|a, b| (a.file != self.file, &a.file, a.line).cmp(&(b.file != self.file, &b.file, b.line)));
        problems.dedup();
        problems
    }

    fn line(&self, span: std::ops::Range<usize>) -> usize {
        self.starts.partition_point(|start| *start <= span.start)
    }
}

/// A value and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) line: usize,
}

/// A table of the file, or its absence: then every key is absent.
pub(crate) struct Section<'d> {
    doc: &'d Document<'d>,
    path: String,
    table: Option<&'d DeTable<'d>>,
    line: usize,
    asked: Vec<&'static str>,
    forbidden: Vec<&'static str>,
}

impl<'d> Section<'d> {
    /// The whole file.
    pub(crate) fn root(doc: &'d Document<'d>, root: &'d Spanned<DeTable<'d>>) -> Self {
        Self {
            doc,
            path: String::new(),
            table: Some(root.get_ref()),
            line: 1,
            asked: Vec::new(),
            forbidden: Vec::new(),
        }
    }

    /// The line of its header.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The document that collects the problems.
    pub(crate) fn document(&self) -> &'d Document<'d> {
        self.doc
    }

    /// Notes a problem at a key's line, or at the header's where the key is absent. The message names the key.
    pub(crate) fn refuse(&self, key: &str, message: impl fmt::Display) {
        self.doc.note(self.line_of(key), format!("`{}` {message}", self.path_of(key)));
    }

    /// Notes why a key that people may look for is not to be used, if the file gives it. Its value is never shown.
    pub(crate) fn forbid(&mut self, key: &'static str, why: &str) {
        self.forbidden.push(key);
        if self.has(key) {
            self.refuse(key, why);
        }
    }

    /// The line of a key, or of the header where the key is absent.
    pub(crate) fn line_of(&self, key: &str) -> usize {
        self.find(key).map_or(self.line, |(line, _)| line)
    }

    /// Whether the file has this section.
    pub(crate) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the file gives this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Takes a value, or notes that a required key is missing.
    pub(crate) fn required<T>(&self, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.has(key) && self.doc.torn.is_empty() {
            self.refuse(key, "is missing");
        }
        value
    }

    /// Text that is not empty.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        self.parsed(key, |text| if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) })
    }

    /// Text that `read` understands; its error says what is wrong, as in "`key` …".
    pub(crate) fn parsed<T>(&mut self, key: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.take(key, |value| match value {
            DeValue::String(text) => read(text),
            other => Err(wanted("text in quotes", other)),
        })
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let one_of = || choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        self.take(key, |value| {
            let found = value.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
            found.map(|(_, choice)| *choice).ok_or_else(|| match value.as_str() {
                Some(text) => format!("is \"{text}\"; it is one of {}", one_of()),
                None => wanted(&format!("one of {}", one_of()), value),
            })
        })
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.take(key, |value| value.as_bool().ok_or_else(|| wanted("true or false", value)))
    }

    /// A whole number within limits.
    pub(crate) fn integer<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        self.take(key, |value| {
            let DeValue::Integer(integer) = value else { return Err(wanted("a whole number", value)) };
            let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
            number
                .and_then(|number| T::try_from(number).ok())
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("is {integer}; {} to {} is allowed", range.start(), range.end()))
        })
    }

    /// A time span such as `"15m"`, within limits.
    pub(crate) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        const WANTED: &str = "a duration such as \"15m\"";
        self.take(key, |value| {
            let text = value.as_str().ok_or_else(|| wanted(WANTED, value))?;
            let duration = quantity::parse_duration(text).ok_or_else(|| wanted(WANTED, value))?;
            let limits = || (quantity::duration_text(*range.start()), quantity::duration_text(*range.end()));
            if range.contains(&duration) {
                return Ok(duration);
            }
            let (least, most) = limits();
            Err(format!("is \"{text}\"; \"{least}\" to \"{most}\" is allowed"))
        })
    }

    /// A time span that is a whole number of `unit`s, within limits in units.
    pub(crate) fn multiple(&mut self, key: &'static str, unit: Duration, range: RangeInclusive<u16>) -> Option<u16> {
        let limits = unit * u32::from(*range.start())..=unit * u32::from(*range.end());
        let duration = self.duration(key, limits)?;
        if !duration.as_millis().is_multiple_of(unit.as_millis()) {
            self.refuse(key, format_args!("is not a multiple of \"{}\"", quantity::duration_text(unit)));
            return None;
        }
        u16::try_from(duration.as_millis() / unit.as_millis()).ok()
    }

    /// A number of bytes such as `"64MiB"`, within limits.
    pub(crate) fn bytes(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        const WANTED: &str = "a size such as \"64MiB\"";
        self.take(key, |value| {
            let text = value.as_str().ok_or_else(|| wanted(WANTED, value))?;
            let bytes = quantity::parse_bytes(text).ok_or_else(|| wanted(WANTED, value))?;
            if range.contains(&bytes) {
                return Ok(bytes);
            }
            let (least, most) = (quantity::bytes_text(*range.start()), quantity::bytes_text(*range.end()));
            Err(format!("is \"{text}\"; \"{least}\" to \"{most}\" is allowed"))
        })
    }

    /// A decimal number as an integer of 10^-`scale`, within limits of the same scale. It never passes through a float.
    pub(crate) fn decimal(&mut self, key: &'static str, scale: u8, range: RangeInclusive<i64>) -> Option<i64> {
        self.take(key, |value| {
            let text = match value {
                DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
                DeValue::Float(float) => float.as_str(),
                other => return Err(wanted("a number", other)),
            };
            let number = parse_scaled(text, scale)
                .map_err(|_| format!("is {text}; a number of at most {scale} decimals is wanted"))?;
            if range.contains(&number) {
                return Ok(number);
            }
            let (least, most) =
                (quantity::decimal_text(*range.start(), scale), quantity::decimal_text(*range.end(), scale));
            Err(format!("is {text}; {least} to {most} is allowed"))
        })
    }

    /// A percentage of at most one decimal, in ‰, within limits in ‰.
    pub(crate) fn permille(&mut self, key: &'static str, range: RangeInclusive<u16>) -> Option<u16> {
        let range = i64::from(*range.start())..=i64::from(*range.end());
        self.decimal(key, 1, range).and_then(|permille| u16::try_from(permille).ok())
    }

    /// A list of texts, each with its line. What is no text is noted and left out.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<At<String>>> {
        let doc = self.doc;
        let path = self.path_of(key);
        self.take(key, |value| {
            let DeValue::Array(items) = value else { return Err(wanted("a list such as [\"a\", \"b\"]", value)) };
            let mut texts = Vec::new();
            for item in items.iter() {
                let line = doc.line(item.span());
                match item.get_ref().as_str() {
                    Some(text) => texts.push(At { value: text.to_owned(), line }),
                    None => doc.note(line, format!("`{path}` {}", wanted("text in quotes", item.get_ref()))),
                }
            }
            Ok(texts)
        })
    }

    /// A table whose keys are free, such as the words of a sender: texts by key, each with its key's line, in the
    /// order of the file. What is no
    /// text is noted and left out.
    pub(crate) fn texts_by_key(&mut self, key: &'static str) -> Option<Vec<(At<String>, String)>> {
        let doc = self.doc;
        let path = self.path_of(key);
        self.take(key, |value| {
            let DeValue::Table(table) = value else { return Err(wanted("a table such as { WORD = \"leak\" }", value)) };
            let mut texts = Vec::new();
            let mut items: Vec<_> = table.iter().collect();
            items.sort_by_key(|(name, _)| name.span().start);
            for (name, item) in items {
                let line = doc.line(name.span());
                match item.get_ref().as_str() {
                    Some(text) => texts.push((At { value: name.get_ref().to_string(), line }, text.to_owned())),
                    None => doc.note(line, format!("`{path}` {}", wanted("text in quotes", item.get_ref()))),
                }
            }
            Ok(texts)
        })
    }

    /// A table whose keys are free, of numbers, flags and texts, each with its key's line, in the order of the file. What is
    /// none of these is noted and left out.
    pub(crate) fn values_by_key(&mut self, key: &'static str) -> Option<Vec<(At<String>, Value)>> {
        let (doc, path) = (self.doc, self.path_of(key));
        let table =
            self.take(key, |value| value.as_table().ok_or_else(|| wanted("a table such as { days = 28 }", value)))?;
        let mut items: Vec<_> = table.iter().collect();
        items.sort_by_key(|(name, _)| name.span().start);
        let mut values = Vec::new();
        for (name, item) in items {
            let line = doc.line(name.span());
            let value = match item.get_ref() {
                DeValue::String(text) => Ok(Value::Text(text.to_string())),
                DeValue::Boolean(flag) => Ok(Value::Flag(*flag)),
                DeValue::Integer(integer) if integer.radix() == 10 => Value::parse(integer.as_str()),
                DeValue::Float(float) => Value::parse(float.as_str()),
                other => Err(wanted("a number, true, false or text in quotes", other)),
            };
            match value {
                Ok(value) => values.push((At { value: name.get_ref().to_string(), line }, value)),
                Err(complaint) => doc.note(line, format!("`{path}.{}` {complaint}", name.get_ref())),
            }
        }
        Some(values)
    }

    /// A list of whole numbers of a given length, within limits.
    pub(crate) fn integers<const N: usize>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<[i64; N]> {
        self.take(key, |value| {
            let complaint = || {
                let (least, most) = (range.start(), range.end());
                format!("is not a list of {N} whole numbers from {least} to {most}")
            };
            let items = value.as_array().ok_or_else(complaint)?;
            let numbers: Vec<i64> = items
                .iter()
                .filter_map(|item| item.get_ref().as_integer())
                .filter_map(|integer| i64::from_str_radix(integer.as_str(), integer.radix()).ok())
                .filter(|number| range.contains(number))
                .collect();
            if numbers.len() != items.len() {
                return Err(complaint());
            }
            numbers.try_into().map_err(|_| complaint())
        })
    }

    /// A list of whole numbers, each within limits.
    pub(crate) fn numbers<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<Vec<T>>
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        self.take(key, |value| {
            let (least, most) = (range.start(), range.end());
            let complaint = || format!("is not a list of whole numbers from {least} to {most}");
            let number = |item: &toml::Spanned<DeValue<'_>>| {
                let integer = item.get_ref().as_integer()?;
                let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
                T::try_from(number).ok().filter(|number| range.contains(number))
            };
            let items = value.as_array().ok_or_else(complaint)?;
            items.iter().map(number).collect::<Option<Vec<_>>>().ok_or_else(complaint)
        })
    }

    /// A table below this one; where it is absent, one in which every key is absent.
    pub(crate) fn section(&mut self, key: &'static str) -> Self {
        let table = self.take(key, |value| value.as_table().ok_or_else(|| wanted("a table", value)));
        let line = self.line_of(key);
        Self { doc: self.doc, path: self.path_of(key), table, line, asked: Vec::new(), forbidden: Vec::new() }
    }

    /// The tables below a table whose keys are free names, such as `[calendar.NAME]`, each with its name's line, in the
    /// order of the file. What is no table is noted and left out.
    pub(crate) fn sections_by_key(&mut self, key: &'static str) -> Vec<(At<String>, Self)> {
        let (doc, path) = (self.doc, self.path_of(key));
        let tables = self.take(key, |value| value.as_table().ok_or_else(|| wanted("a table", value)));
        let mut items: Vec<_> = tables.into_iter().flat_map(|table| table.iter()).collect();
        items.sort_by_key(|(name, _)| name.span().start);
        let mut sections = Vec::new();
        for (name, item) in items {
            let (line, path) = (doc.line(name.span()), format!("{path}.{}", name.get_ref()));
            let Some(table) = item.get_ref().as_table() else {
                doc.note(line, format!("`{path}` {}", wanted("a table", item.get_ref())));
                continue;
            };
            let name = At { value: name.get_ref().to_string(), line };
            let section = Self { doc, path, table: Some(table), line, asked: Vec::new(), forbidden: Vec::new() };
            sections.push((name, section));
        }
        sections
    }

    /// The tables of a list such as `[[mqtt]]`, in the order of the file.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let path = self.path_of(key);
        let items = self.take(key, |value| {
            value
                .as_array()
                .filter(|items| items.iter().all(|item| item.get_ref().is_table()))
                .ok_or_else(|| format!("is {}; write each as a table under [[{path}]]", found(value)))
        });
        let items = items.into_iter().flat_map(|items| items.iter());
        items
            .filter_map(|item| {
                let table = item.get_ref().as_table()?;
                let line = self.doc.line(item.span());
                Some(Self {
                    doc: self.doc,
                    path: path.clone(),
                    table: Some(table),
                    line,
                    asked: Vec::new(),
                    forbidden: Vec::new(),
                })
            })
            .collect()
    }

    fn take<T>(&mut self, key: &'static str, read: impl FnOnce(&'d DeValue<'d>) -> Result<T, String>) -> Option<T> {
        self.asked.push(key);
        let (_, value) = self.find(key)?;
        read(value).map_err(|complaint| self.refuse(key, complaint)).ok()
    }

    fn find(&self, key: &str) -> Option<(usize, &'d DeValue<'d>)> {
        let (name, value) = self.table?.get_key_value(key)?;
        Some((self.doc.line(name.span()), value.get_ref()))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        for (name, _) in self.table.into_iter().flatten() {
            let key: &str = name.get_ref();
            if self.asked.contains(&key) || self.forbidden.contains(&key) {
                continue;
            }
            let hint = match near_miss(key, &self.asked) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.asked.join(", ")),
            };
            let line = self.doc.line(name.span());
            self.doc.note(line, format!("unknown key `{}`; {hint}", self.path_of(key)));
        }
    }
}

/// What the parser says, in words for people.
fn syntax_error(message: &str, found: Option<&str>) -> String {
    let message = message.trim().replace('\n', "; ");
    let found = found.filter(|found| !found.is_empty() && found.len() <= 40 && !found.contains('\n'));
    match (message.as_str(), found) {
        ("duplicate key", Some(key)) => format!("`{key}` is given twice"),
        // The parser takes a bare word by its first letter for `nan` or `inf`.
        (guess, _) if guess.starts_with("invalid float, expected") => {
            "the value is neither a number nor text in quotes".to_owned()
        }
        _ => message,
    }
}

/// What was wanted and what was found.
fn wanted(what: &str, value: &DeValue<'_>) -> String {
    format!("is {}; {what} is wanted", found(value))
}

fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{}\"", text.chars().take(40).collect::<String>()),
        DeValue::Integer(integer) => format!("the number {integer}"),
        DeValue::Float(float) => format!("the number {float}"),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests;
