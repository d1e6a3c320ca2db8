//! Cases of a check: rows that are given and findings that are expected, as a file beside it, `V20_high_low.cases.toml`.
//!
//! ```toml
//! [[case]]
//! name = "a month of 630 after days of 10 is high"
//! month = "2026-04"
//! params = { low = 0.5 }                # left out: as the check has them
//! [case.rows]
//! points = "usage_point_id,class\nE-1,home"
//! usage_days = """
//! repeat, usage_point_id, channel, day, start, end, value, quality
//! 28, E-1, energy_import_kwh, 2026-03-04, 2026-03-04T00:00:00Z, 2026-03-05T00:00:00Z, 10, valid
//! """
//! [[case.expect]] …
//! ```
//!
//! What is expected is a table like those that are given, `expect = "usage_point_id, measured\nE-1, 21"`: as many rows as there
//! are findings, compared in the columns that it names. Without it nothing may be found. `repeat` stands for so many rows, each
//! later than the one before by its own length (`every` says otherwise, in seconds).

use meterlake_model::check::Params;

use crate::document::{Document, Section};
use crate::problem::Problem;

/// The largest file.
const MAX_BYTES: usize = 1 << 20;

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The line that it begins on.
    pub line: usize,
    /// The month that is checked, such as `2026-04`.
    pub month: String,
    /// Parameters that are not as the check has them.
    pub params: Params,
    /// CSV by table: given rows.
    pub rows: Vec<(String, String)>,
    /// CSV of the findings, by those columns that matter.
    pub expect: String,
}

/// All cases of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cases {
    /// In the order of the file.
    pub cases: Vec<Case>,
}

impl Cases {
    /// Reads a file of cases. `file` names it in problems.
    ///
    /// # Errors
    /// Everything that is wrong with its form, with lines.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        if text.len() > MAX_BYTES {
            return Err(vec![Problem::of_file(file, format!("is larger than {} KiB", MAX_BYTES >> 10))]);
        }
        let (doc, table) = Document::parse(file, text);
        let cases: Vec<Case> = {
            let mut root = Section::root(&doc, &table);
            root.sections("case").into_iter().filter_map(case).collect()
        };
        if cases.is_empty() {
            doc.note(1, "has no [[case]]");
        }
        let problems = doc.into_problems();
        if problems.is_empty() { Ok(Self { cases }) } else { Err(problems) }
    }
}

fn case(mut section: Section<'_>) -> Option<Case> {
    let s = &mut section;
    let line = s.line();
    let name = s.text("name");
    let name = s.required("name", name);
    let month = s.parsed("month", |text| {
        let day = meterlake_model::CivilDay::parse(&format!("{text}-01"));
        day.map(|_| text.to_owned()).map_err(|_| format!("is \"{text}\"; a month such as \"2026-04\" is wanted"))
    });
    let month = s.required("month", month);
    let params = s.values_by_key("params").unwrap_or_default();
    let rows = s.texts_by_key("rows").unwrap_or_default();
    let expect = s.parsed("expect", |text| Ok(text.to_owned())).unwrap_or_default();
    Some(Case {
        name: name?,
        line,
        month: month?,
        params: params.into_iter().map(|(name, value)| (name.value, value)).collect(),
        rows: rows.into_iter().map(|(table, text)| (table.value, text)).collect(),
        expect,
    })
}
