//! Status fields that become events, or marks of their reading.

use super::super::{EventRule, EventTest, Said};
use super::{path_or_paths, when};
use crate::document::Section;

/// The keys of which one says when a status is an event.
const TESTS: [&str; 9] = ["word", "equals", "bit", "flag", "below", "above", "words", "values", "bits"];
/// Those that say of which kind, too.
const TABLES: [&str; 3] = ["words", "values", "bits"];
/// Decimals of a limit.
const LIMIT_SCALE: u8 = 6;

pub(super) fn event(section: &mut Section<'_>) -> Option<EventRule> {
    let paths = path_or_paths(section);
    let when = when(section);
    let kind = section.parsed("kind", kind);
    let word = section.parsed("word", |text| one_word(text).map(EventTest::Word));
    let equals = section.text("equals").map(EventTest::Equals);
    let bit = section.integer("bit", 0..=62_u8).map(EventTest::Bit);
    let flag = section.boolean("flag").map(|_| EventTest::Flag);
    let below = section.parsed("below", limit).map(EventTest::Below);
    let above = section.parsed("above", limit).map(EventTest::Above);
    let mut tests = table(section, "words", |text| one_word(text).map(EventTest::Word));
    tests.extend(table(section, "values", |text| Ok(EventTest::Equals(text.to_owned()))));
    tests.extend(table(section, "bits", |text| match text.parse() {
        Ok(bit) if bit <= 62 => Ok(EventTest::Bit(bit)),
        _ => Err("0 to 62 is wanted".to_owned()),
    }));
    let given: Vec<_> = TESTS.into_iter().filter(|key| section.has(key)).collect();
    let [test] = given[..] else {
        section.refuse("path", format_args!("needs exactly one of `{}`", TESTS.join("`, `")));
        return None;
    };
    if TABLES.contains(&test) {
        if section.has("kind") {
            section.refuse("kind", format_args!("stands beside `{test}`, which says the kinds"));
        }
    } else {
        let kind = section.required("kind", kind);
        let test = [word, equals, bit, flag, below, above].into_iter().flatten().next();
        tests.extend(test.zip(kind));
    }
    (!tests.is_empty()).then_some(EventRule { paths, tests, when })
}

fn kind(text: &str) -> Result<Said, String> {
    Said::parse(text).ok_or_else(|| {
        format!("is \"{text}\"; it is no event such as \"leak\" or \"tamper\" and no mark such as \"test_mode\"")
    })
}

fn one_word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains([' ', '\t', ',', ';', '|']) {
        return Err(format!("is \"{text}\"; one word is wanted, without blanks, commas, semicolons and bars"));
    }
    Ok(text.to_owned())
}

fn limit(text: &str) -> Result<i64, String> {
    meterlake_model::parse_scaled(text, LIMIT_SCALE)
        .map_err(|_| format!("is \"{text}\"; a number of at most {LIMIT_SCALE} decimals is wanted"))
}

/// What the sender writes, by kind of event.
fn table(
    section: &mut Section<'_>,
    key: &'static str,
    read: impl Fn(&str) -> Result<EventTest, String>,
) -> Vec<(EventTest, Said)> {
    let mut tests = Vec::new();
    for (name, text) in section.texts_by_key(key).unwrap_or_default() {
        match (read(&name.value), kind(&text)) {
            (Ok(test), Ok(kind)) => tests.push((test, kind)),
            (test, kind) => {
                let complaint = test.err().or(kind.err()).unwrap_or_default();
                section.document().note(name.line, format!("`{key}` for \"{}\" {complaint}", name.value));
            }
        }
    }
    tests
}
