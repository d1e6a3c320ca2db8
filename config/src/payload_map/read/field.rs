//! The values of a reading, by column.

use meterlake_model::{Channel, Commodity};

use super::super::conversion::{Conversion, Fraction, units_of};
use super::super::path::ValuePath;
use super::super::{Field, Format, Source, UnitRule};
use super::{path_or_paths, paths_of, when};
use crate::document::Section;

pub(super) fn fields(root: &mut Section<'_>, commodity: Option<Commodity>, format: Option<&Format>) -> Vec<Field> {
    let mut section = root.section("fields");
    let mut fields = Vec::new();
    for channel in Channel::all() {
        let mut one = section.section(channel.name());
        if !section.has(channel.name()) {
            continue;
        }
        if commodity.is_some_and(|commodity| commodity != channel.commodity()) {
            section
                .refuse(channel.name(), format!("is a column of {}, not of the map's commodity", channel.commodity()));
        }
        fields.extend(field(&mut one, channel, format));
    }
    fields
}

fn field(section: &mut Section<'_>, channel: Channel, format: Option<&Format>) -> Option<Field> {
    let source = source(section, channel);
    let unit = section.text("unit");
    let factor = section.parsed("factor", fraction);
    let resolution = section.parsed("resolution", fraction);
    let unit_rule = unit_rule(section, channel, factor, resolution);
    let text = section.boolean("text").unwrap_or(format.is_some_and(Format::has_texts_only));
    let of_format = matches!(format, Some(Format::Csv(csv)) if csv.decimal_comma);
    let decimal_comma = section.choice("decimal", &[("point", false), ("comma", true)]).unwrap_or(of_format);
    if section.has("decimal") && !text {
        section.refuse("decimal", "has a meaning only where the number is written as text: add `text = true`");
    }
    let optional = section.boolean("optional").unwrap_or(false);
    let scalar_only = section.boolean("scalar_only").unwrap_or(false);
    let when = when(section);
    let conversion = Conversion::new(channel, unit.as_deref(), factor, resolution)
        .map_err(|(key, complaint)| section.refuse(key, complaint))
        .ok()?;
    Some(Field {
        channel,
        source: source?,
        conversion,
        unit: unit_rule,
        text,
        decimal_comma,
        optional,
        scalar_only,
        when,
    })
}

fn source(section: &mut Section<'_>, channel: Channel) -> Option<Source> {
    let constant = section.parsed("constant", |text| match meterlake_model::parse_scaled(text, channel.scale()) {
        Ok(value) if channel.fits(value) => Ok(value),
        _ => Err(format!("is \"{text}\"; a number that `{channel}` holds is wanted")),
    });
    let sum = paths_of(section, "sum");
    let given: Vec<_> = ["path", "paths", "sum", "constant"].into_iter().filter(|key| section.has(key)).collect();
    if given == ["constant"] {
        return constant.map(Source::Constant);
    }
    if given == ["sum"] {
        return sum.map(Source::Sum);
    }
    if section.has("sum") || section.has("constant") {
        // `path` and `paths` are known keys all the same.
        let _ = (section.parsed("path", ValuePath::parse), paths_of(section, "paths"));
        section.refuse(
            given[given.len() - 1],
            format_args!("stands beside `{}`; only one of them can be given", given[0]),
        );
        return None;
    }
    Some(Source::First(path_or_paths(section)))
}

/// `unit_path`, with the sender's own names of units in `units`.
fn unit_rule(
    section: &mut Section<'_>,
    channel: Channel,
    factor: Option<Fraction>,
    resolution: Option<Fraction>,
) -> Option<UnitRule> {
    let path = section.parsed("unit_path", ValuePath::parse);
    let names = section.texts_by_key("units").unwrap_or_default();
    if section.has("units") && !section.has("unit_path") {
        section.refuse("units", "needs a `unit_path`");
    }
    let path = path?;
    let mut conversions = Vec::new();
    for unit in units_of(channel) {
        // A unit that gives no whole steps of the column is not understood without a resolution.
        if let Ok(conversion) = Conversion::new(channel, Some(unit), factor, resolution) {
            conversions.push((unit.to_owned(), conversion));
        }
    }
    for (name, unit) in names {
        match Conversion::new(channel, Some(&unit), factor, resolution) {
            Ok(conversion) => {
                conversions.retain(|(known, _)| *known != name.value);
                conversions.push((name.value, conversion));
            }
            Err((_, complaint)) => {
                section.document().note(name.line, format!("`units` for \"{}\" {complaint}", name.value));
            }
        }
    }
    Some(UnitRule { path, conversions, required: !section.has("unit") })
}

/// A positive decimal constant, in quotes so that it never was a float.
fn fraction(text: &str) -> Result<Fraction, String> {
    const DECIMALS: u8 = 9;
    match meterlake_model::parse_scaled(text, DECIMALS) {
        Ok(over) if over > 0 => Ok(Fraction { over, under: 10_i64.pow(u32::from(DECIMALS)) }),
        _ => Err(format!("is \"{text}\"; a positive number of at most {DECIMALS} decimals is wanted")),
    }
}
