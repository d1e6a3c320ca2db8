//! Files of holidays: those that come with the program, and one's own.

use std::collections::{BTreeMap, BTreeSet};

use meterlake_model::CivilDay;

use crate::document::{At, Document, Section};
use crate::problem::Problem;

/// Holidays of some years.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holidays {
    /// Name by which a calendar asks for them.
    pub name: String,
    /// Where they are announced.
    pub source: String,
    /// The years that are covered.
    pub years: BTreeSet<i16>,
    /// Each day with the name of its holiday. Days outside the years belong to a holiday of a covered one.
    pub days: BTreeMap<CivilDay, String>,
    /// Days that are worked though they fall on a weekend.
    pub working_days: BTreeSet<CivilDay>,
}

/// By name. A test compares the list with the folder.
const SHIPPED: [(&str, &str); 4] = [
    ("au", include_str!("../../holidays/au.toml")),
    ("ch", include_str!("../../holidays/ch.toml")),
    ("cn", include_str!("../../holidays/cn.toml")),
    ("es", include_str!("../../holidays/es.toml")),
];

/// The longest holiday, in days: a mistyped year is found out.
const LONGEST: i32 = 31;

impl Holidays {
    /// Reads and checks a file. `file` names it in problems.
    ///
    /// # Errors
    /// Everything that is wrong with it, with lines.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        let (doc, table) = Document::parse(file, text);
        let holidays = read(Section::root(&doc, &table));
        let problems = doc.into_problems();
        match holidays {
            Some(holidays) if problems.is_empty() => Ok(holidays),
            _ => Err(problems),
        }
    }

    /// Holidays that come with the program.
    pub fn shipped(name: &str) -> Option<Self> {
        // A test parses all of them, so that none is missing for its mistakes.
        Self::parse(Self::shipped_text(name)?, name).ok()
    }

    /// The file of holidays that come with the program: a start for one's own.
    pub fn shipped_text(name: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| *text)
    }

    /// The names that [`Self::shipped`] knows, in alphabetical order.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }
}

fn read(mut s: Section<'_>) -> Option<Holidays> {
    let s = &mut s;
    let (name, source) = (s.text("name"), s.text("source"));
    let (name, source) = (s.required("name", name), s.required("source", source));
    let years = s.numbers("years", 1900..=2200_i16);
    let years: BTreeSet<i16> = s.required("years", years)?.into_iter().collect();
    let mut working_days = BTreeSet::new();
    for text in s.texts("working_days").unwrap_or_default() {
        for day in days(s, &text) {
            match day.is_weekend() {
                _ if !years.contains(&day.year()) => outside(s, text.line, day),
                false => s.document().note(text.line, format!("`working_days`: {day} is no weekend day")),
                true if !working_days.insert(day) => {
                    s.document().note(text.line, format!("`working_days` names {day} twice"));
                }
                true => {}
            }
        }
    }
    let mut by_day: BTreeMap<CivilDay, String> = BTreeMap::new();
    for mut holiday in s.sections("holiday") {
        let (name, texts) = (holiday.text("name"), holiday.texts("days"));
        let (Some(name), Some(texts)) = (holiday.required("name", name), holiday.required("days", texts)) else {
            continue;
        };
        for text in texts {
            for day in days(s, &text) {
                if !years.contains(&day.year()) {
                    outside(s, text.line, day);
                } else if working_days.contains(&day) {
                    s.document().note(text.line, format!("{day} is a working day, too"));
                } else if let Some(other) = by_day.insert(day, name.clone()) {
                    s.document().note(text.line, format!("{day} is `{other}` already"));
                }
            }
        }
    }
    Some(Holidays { name: name?, source: source?, years, days: by_day, working_days })
}

fn outside(s: &Section<'_>, line: usize, day: CivilDay) {
    s.document().note(line, format!("{day} lies outside the `years`"));
}

/// The days of a text such as `2026-02-15` or `2026-02-15..2026-02-23`, both included.
fn days(s: &Section<'_>, text: &At<String>) -> Vec<CivilDay> {
    let (first, last) = text.value.split_once("..").unwrap_or((&text.value, &text.value));
    match (CivilDay::parse(first), CivilDay::parse(last)) {
        (Ok(first), Ok(last)) if (0..LONGEST).contains(&last.days_since(first)) => {
            (0..=last.days_since(first)).map(|by| first.plus_days(by)).collect()
        }
        (Ok(_), Ok(_)) => {
            let complaint = format!("\"{}\" ends before it begins, or is longer than {LONGEST} days", text.value);
            s.document().note(text.line, complaint);
            Vec::new()
        }
        _ => {
            let complaint = format!("\"{}\" is no day such as 2026-05-01 or 2026-02-15..2026-02-23", text.value);
            s.document().note(text.line, complaint);
            Vec::new()
        }
    }
}
