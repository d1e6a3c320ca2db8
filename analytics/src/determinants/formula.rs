//! D9: arithmetic over uses and other determinants: net, virtual meters, losses, conversion.

use meterlake_model::Quality;
use meterlake_model::determinant::Rounding;
use meterlake_model::formula::{Formula, Name};

use super::{Figure, Note};

/// The figure of a formula. `value` gives the figure that a name stands for.
///
/// The estimated share is the highest of those that it rests on: a difference of two numbers can be more estimated than
/// either, and this is not told here.
pub fn of_formula(
    formula: &Formula,
    unit: &str,
    rounding: Rounding,
    mut value: impl FnMut(&Name) -> Option<Figure>,
) -> Figure {
    let (mut quality, mut estimated_ppm) = (Quality::Edited, 0);
    let mut unknown = Vec::new();
    let mut held = false;
    let found = formula.evaluate(|name| {
        let figure = value(name);
        let amount = figure.as_ref().and_then(|figure| figure.value);
        if let Some(figure) = figure.filter(|_| amount.is_some()) {
            quality = quality.min(figure.quality);
            estimated_ppm = estimated_ppm.max(figure.estimated_ppm);
            held |= figure.notes.iter().any(|note| note.holds);
        } else {
            unknown.push(words(name));
        }
        amount
    });
    let rounded = found.map(|ratio| ratio.round(rounding));
    let note = match &rounded {
        Ok(Some(_)) => None,
        Ok(None) => Some("the result has more than 18 digits".to_owned()),
        Err(_) if !unknown.is_empty() => Some(format!("not known: {}", unknown.join(", "))),
        Err(fault) => Some(fault.to_string()),
    };
    if let Some(detail) = note {
        return Figure::unknown("", unit, Note::new("formula", true, detail));
    }
    let notes = match held {
        true => vec![Note::new("held", true, "a figure that it rests on is held")],
        false => Vec::new(),
    };
    let value = rounded.ok().flatten();
    Figure { part: String::new(), value, unit: unit.to_owned(), quality, estimated_ppm, at: None, notes }
}

fn words(name: &Name) -> String {
    match name {
        Name::Use(channel, None) => channel.to_string(),
        Name::Use(channel, Some(point)) => format!("{channel} of {point}"),
        Name::Sum(channel) => format!("the sum of {channel}"),
        Name::Determinant(id, part) if part.is_empty() => id.clone(),
        Name::Determinant(id, part) => format!("{id}[{part}]"),
    }
}
