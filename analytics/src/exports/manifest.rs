//! The manifest beside each file: what it holds, what it rests on, and what is not in it.

use std::collections::BTreeMap;

use meterlake_model::Timestamp;
use serde::Serialize;

use super::item::{Head, Item, LeftOut, Pins, Point};
use super::writer::Format;

/// What a manifest says. It follows from the export alone: no clock, no place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Version of this form.
    pub manifest: u32,
    /// The run, such as `2026-03`.
    pub run: String,
    /// The list that went out; `null`: what is ready or out now.
    pub list: Option<i64>,
    /// The time that the formats state as theirs.
    pub as_of: String,
    /// How the file is written.
    pub format: &'static str,
    /// What the numbers rest on.
    pub pins: Pins,
    /// The file.
    pub file: FileSum,
    /// Items by determinant, part and unit.
    pub totals: Vec<Total>,
    /// Bills of the run that are not in the file, with why.
    pub held: Vec<Held>,
    /// What the format has no place for.
    pub left_out: Vec<LeftOutTotal>,
}

/// A file as it must be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSum {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Usage points in the export.
    pub usage_points: u64,
    /// Items in the export, those left out among them.
    pub items: u64,
    /// Slots of curves.
    pub slots: u64,
}

/// A sum over all usage points. Registers as read are counted and not added up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Total {
    /// The determinant.
    pub determinant: String,
    /// Its part.
    pub part: String,
    /// The unit.
    pub unit: String,
    /// How many items.
    pub items: u64,
    /// The sum of their values, exact.
    pub value: Option<String>,
    /// The sum of what of them is estimated, exact.
    pub estimated: Option<String>,
}

/// A bill that did not go out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Whose.
    pub usage_point_id: String,
    /// Which channel of it, or which determinant and part.
    pub channel: String,
    /// First day of its cycle.
    pub first_day: String,
    /// Last day of its cycle.
    pub last_day: String,
    /// Where it stands: `held`, `waiting`, `cancelled`.
    pub state: String,
    /// Why.
    pub reasons: Vec<String>,
}

/// What was left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutTotal {
    /// The reason.
    pub why: String,
    /// How many items, curves or usage points.
    pub count: u64,
    /// The first of them.
    pub first: String,
}

/// Sums that are taken while a file is written.
#[derive(Debug, Default)]
pub(super) struct Sums {
    usage_points: u64,
    items: u64,
    slots: u64,
    totals: BTreeMap<(String, String, String), Sum>,
    left_out: BTreeMap<&'static str, (u64, String)>,
}

#[derive(Debug, Default)]
struct Sum {
    items: u64,
    is_register: bool,
    /// In millionths: more digits than one amount has.
    value: i128,
    estimated: i128,
}

impl Sums {
    pub(super) fn add(&mut self, point: &Point, left_out: Vec<LeftOut>) {
        self.usage_points += 1;
        self.slots += point.curves.iter().map(|c| c.slots.len() as u64).sum::<u64>();
        for item in &point.items {
            self.items += 1;
            let Item { determinant, part, unit, .. } = item;
            let sum = self.totals.entry((determinant.clone(), part.clone(), unit.clone())).or_default();
            sum.items += 1;
            sum.is_register = item.is_register();
            sum.value += i128::from(item.value.micros());
            sum.estimated += i128::from(item.estimated.micros());
        }
        for left in left_out {
            let entry = self.left_out.entry(left.why).or_insert_with(|| (0, left.what));
            entry.0 += 1;
        }
    }

    pub(super) fn manifest(
        self,
        head: &Head,
        format: Format,
        (name, bytes, sha256): (String, u64, String),
        held: Vec<Held>,
    ) -> Manifest {
        let total = |((determinant, part, unit), sum): ((String, String, String), Sum)| Total {
            determinant,
            part,
            unit,
            items: sum.items,
            value: (!sum.is_register).then(|| decimal(sum.value)),
            estimated: (!sum.is_register).then(|| decimal(sum.estimated)),
        };
        let left = |(why, (count, first)): (&str, (u64, String))| LeftOutTotal { why: why.to_owned(), count, first };
        Manifest {
            manifest: 1,
            run: head.run.clone(),
            list: head.list,
            as_of: Timestamp::to_string(&head.as_of),
            format: format.as_str(),
            pins: head.pins.clone(),
            file: FileSum {
                name,
                bytes,
                sha256,
                usage_points: self.usage_points,
                items: self.items,
                slots: self.slots,
            },
            totals: self.totals.into_iter().map(total).collect(),
            held,
            left_out: self.left_out.into_iter().map(left).collect(),
        }
    }
}

/// Millionths as a decimal of six places.
fn decimal(micros: i128) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let magnitude = micros.unsigned_abs();
    format!("{sign}{}.{:06}", magnitude / 1_000_000, magnitude % 1_000_000)
}
