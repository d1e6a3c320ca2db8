//! `[[determinant]]`: which figures a bill needs, as people write them. What is computed from them is not known here.

mod kinds;

use std::collections::BTreeSet;

use meterlake_model::calendar::Calendars;
use meterlake_model::determinant::{Determinant, Kind, RoundMode, Rounding, Scope};
use meterlake_model::formula::Name;

use crate::calendar::point_ids;
use crate::document::Section;
use crate::spelling::near_miss;

/// The most determinants of a configuration.
const MOST: usize = 200;

/// Reads `[[determinant]]`, all of them, behind those that are known already, each with its line.
pub(crate) fn determinants(root: &mut Section<'_>, calendars: &Calendars, known: &mut Vec<Determinant>) {
    for mut section in root.sections("determinant") {
        let Some(read) = determinant(&mut section, calendars) else { continue };
        if known.iter().any(|other| other.id == read.id) {
            section.refuse("id", format_args!("is `{}`, as another's", read.id));
        }
        of_formula(&section, &read, known);
        if known.len() == MOST {
            section.refuse("id", format_args!("is one of more than {MOST}"));
        }
        known.push(read);
    }
}

fn determinant(s: &mut Section<'_>, calendars: &Calendars) -> Option<Determinant> {
    let id = s.parsed("id", |text| {
        let ok = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
        let taken = ["min", "max", "abs", "sum"].contains(&text) || meterlake_model::Channel::by_name(text).is_some();
        match begins && !taken && text.len() <= 64 && text.chars().all(ok) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "is \"{text}\"; a letter and up to 63 letters, digits or `_` are wanted, and neither a channel nor a function"
            )),
        }
    });
    let id = s.required("id", id);
    let points = s.texts("points").map(|texts| point_ids(s, "determinant.points", texts)).unwrap_or_default();
    let classes: BTreeSet<String> = s.texts("classes").unwrap_or_default().into_iter().map(|text| text.value).collect();
    let mut round = s.section("round");
    let digits = round.integer("digits", 0..=6_u8).unwrap_or(Rounding::default().digits);
    let modes = [
        ("half_even", RoundMode::HalfEven),
        ("half_up", RoundMode::HalfUp),
        ("down", RoundMode::Down),
        ("up", RoundMode::Up),
    ];
    let mode = round.choice("mode", &modes).unwrap_or(RoundMode::HalfEven);
    let kind = kinds::read(s, calendars);
    let (id, kind) = (id?, kind?);
    if matches!(kind, Kind::Unmetered { .. }) && points.is_empty() && classes.is_empty() {
        s.refuse("points", "is missing: say whose it is, by `points` or `classes`");
    }
    Some(Determinant { id, scope: Scope { points, classes }, kind, round: Rounding { digits, mode } })
}

/// A formula may name what stands before it, so that nothing goes round in circles.
fn of_formula(s: &Section<'_>, read: &Determinant, before: &[Determinant]) {
    let Kind::Formula { formula, of, .. } = &read.kind else { return };
    for name in formula.names() {
        match name {
            Name::Determinant(id, _) if !before.iter().any(|known| known.id == *id) => {
                let known: Vec<_> = before.iter().map(|known| known.id.as_str()).collect();
                let hint = near_miss(id, &known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                s.refuse("formula", format_args!("names `{id}`, which is no channel and no determinant above{hint}"));
            }
            Name::Sum(_) if of.is_empty() => {
                s.refuse("formula", "has sum(...); list the usage points that it adds up in `of`");
            }
            _ => {}
        }
    }
}
