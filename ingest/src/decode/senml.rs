//! Records of RFC 8428 in JSON: base fields resolved, relative times made absolute, records of one device and time in one
//! reading.
//!
//! A reading is `{"device": …, "bn": …, "t": seconds since 1970, "records": [{"n": …, "u": …, "v": …}, …]}`. The device is
//! the base name without the separator at its end, and `n` the rest of the name; where a pack has no base name, the name
//! is parted at its last `/` or `:`. Numbers are added as decimals, so that none becomes a float.

use std::borrow::Cow;
use std::collections::HashMap;

use meterlake_model::{DeadReason, parse_scaled_rounding};

use super::document::{Builder, Document, Kind, Place, Value};
use super::{LIMITS, Refusal, json, number, refused_json};

/// The version of RFC 8428.
const VERSION: &str = "10";
/// Times below are relative to the arrival, in seconds.
const RELATIVE_BELOW_S: i64 = 1 << 28;
const MICROS: i64 = 1_000_000;
const MICROS_SCALE: u8 = 6;
/// What parts a device's name from what it measures.
const SEPARATORS: [char; 2] = ['/', ':'];
/// What may stand between a base name and the name.
const TRAILING: [char; 5] = ['/', ':', '.', '_', '-'];

/// Base fields as they hold for a record.
#[derive(Default, Clone)]
struct Base<'v> {
    name: Cow<'v, str>,
    time: i64,
    unit: Option<Value<'v>>,
    value: Option<&'v str>,
    sum: Option<&'v str>,
}

/// One record with its base fields resolved.
struct Record<'v> {
    name: Cow<'v, str>,
    unit: Option<Value<'v>>,
    members: Vec<(&'static str, Kind, Cow<'v, str>)>,
}

/// Records of one device and time.
struct Reading<'v> {
    device: Cow<'v, str>,
    base: Cow<'v, str>,
    micros: i64,
    records: Vec<Record<'v>>,
}

/// Reads a pack that arrived at `received_at_s`.
pub(super) fn parse(payload: &[u8], received_at_s: i64) -> Result<Document<'static>, Refusal> {
    let pack = json::parse(payload, LIMITS).map_err(refused_json)?;
    let root = pack.root();
    if root.kind() != Kind::List {
        return Err(bad(format!("the pack is {}; a list of records is wanted", root.described())));
    }
    let mut base = Base::default();
    let mut readings: Vec<Reading<'_>> = Vec::new();
    let mut places: HashMap<(Cow<'_, str>, i64), usize> = HashMap::new();
    for (item, count) in root.items().zip(1..) {
        let resolved = record(item, &mut base, received_at_s)
            .map_err(|refusal| Refusal { detail: format!("record {count}: {}", refusal.detail), ..refusal })?;
        let Some((device, micros, record)) = resolved else { continue };
        let place = *places.entry((device.clone(), micros)).or_insert(readings.len());
        if place == readings.len() {
            readings.push(Reading { device, base: base.name.clone(), micros, records: Vec::new() });
        }
        readings[place].records.push(record);
    }
    build(&readings)
}

/// One record: who, when, what; `None` where it holds base fields alone.
fn record<'v>(
    item: Value<'v>,
    base: &mut Base<'v>,
    received_at_s: i64,
) -> Result<Option<(Cow<'v, str>, i64, Record<'v>)>, Refusal> {
    if item.kind() != Kind::Object {
        return Err(bad(format!("it is {}; an object is wanted", item.described())));
    }
    let (mut name, mut time, mut unit) = (Cow::Borrowed(""), 0, None);
    let mut members = Vec::new();
    let (mut value, mut sum) = (None, None);
    for (label, member) in item.members() {
        match &*label.unescaped() {
            "bver" if member.raw() == VERSION => {}
            "bver" => return Err(bad(format!("its version is {}, {VERSION} is read", member.described()))),
            "bn" => base.name = text(member, "bn")?,
            "bt" => base.time = seconds(member, "bt")?,
            "bu" => base.unit = Some(member),
            "bv" => base.value = Some(decimal(member, "bv")?),
            "bs" => base.sum = Some(decimal(member, "bs")?),
            "n" => name = text(member, "n")?,
            "t" => time = seconds(member, "t")?,
            "u" => unit = Some(member),
            "v" => value = Some(decimal(member, "v")?),
            "s" => sum = Some(decimal(member, "s")?),
            "vs" => members.push(("vs", Kind::Text { escaped: false }, text(member, "vs")?)),
            "vb" if matches!(member.kind(), Kind::True | Kind::False) => {
                members.push(("vb", member.kind(), member.unescaped()));
            }
            "vb" => return Err(bad(format!("`vb` is {}; true or false is wanted", member.described()))),
            // A reader that does not know such a label must not read the record.
            label if label.ends_with('_') => return Err(bad(format!("`{label}` is not understood"))),
            _ => {}
        }
    }
    for (label, own, base) in [("v", value, base.value), ("s", sum, base.sum)] {
        if let Some(own) = own {
            members.push((label, Kind::Number, added(own, base)?));
        }
    }
    if members.is_empty() {
        return Ok(None);
    }
    let micros = base.time.checked_add(time).ok_or_else(|| bad("its time is too large".to_owned()))?;
    let micros = if micros < RELATIVE_BELOW_S * MICROS {
        received_at_s.checked_mul(MICROS).and_then(|now| now.checked_add(micros))
    } else {
        Some(micros)
    };
    let micros = micros.ok_or_else(|| bad("its time is too large".to_owned()))?;
    let (device, name) = parted(&base.name, name);
    Ok(Some((device, micros, Record { name, unit: unit.or(base.unit), members })))
}

/// The device and what it measures.
fn parted<'v>(base: &Cow<'v, str>, name: Cow<'v, str>) -> (Cow<'v, str>, Cow<'v, str>) {
    if !base.is_empty() {
        let device = match base {
            Cow::Borrowed(base) => Cow::Borrowed(base.trim_end_matches(TRAILING)),
            Cow::Owned(base) => Cow::Owned(base.trim_end_matches(TRAILING).to_owned()),
        };
        return (device, name);
    }
    match name.rfind(SEPARATORS) {
        Some(at) => (Cow::Owned(name[..at].to_owned()), Cow::Owned(name[at + 1..].to_owned())),
        None => (Cow::Borrowed(""), name),
    }
}

fn build(readings: &[Reading<'_>]) -> Result<Document<'static>, Refusal> {
    let mut builder = Builder::new(LIMITS);
    let [device, bn, t, records, n, u] = ["device", "bn", "t", "records", "n", "u"].map(|name| builder.place(name));
    // Names come once for each record.
    let mut known: HashMap<&str, Place> = HashMap::new();
    builder.list()?;
    for reading in readings {
        builder.object()?;
        for (key, name) in [(device, &reading.device), (bn, &reading.base)] {
            builder.key_at(key)?;
            match &**name {
                "" => builder.null()?,
                name => kept(&mut builder, &mut known, name)?,
            }
        }
        builder.key_at(t)?;
        builder.number(&seconds_text(reading.micros))?;
        builder.key_at(records)?;
        builder.list()?;
        for record in &reading.records {
            builder.object()?;
            builder.key_at(n)?;
            kept(&mut builder, &mut known, &record.name)?;
            if let Some(unit) = record.unit {
                builder.key_at(u)?;
                match unit.kind() {
                    Kind::Text { escaped: false } => kept(&mut builder, &mut known, unit.raw())?,
                    _ => builder.copy(unit)?,
                }
            }
            for (label, kind, text) in &record.members {
                builder.key(label)?;
                let text = builder.place(text);
                builder.scalar_at(*kind, text)?;
            }
            builder.end()?;
        }
        builder.end()?;
        builder.end()?;
    }
    builder.end()?;
    builder.finish()
}

/// Adds a text that is written once, however often it comes.
fn kept<'n>(builder: &mut Builder, known: &mut HashMap<&'n str, Place>, text: &'n str) -> Result<(), Refusal> {
    let place = *known.entry(text).or_insert_with(|| builder.place(text));
    builder.scalar_at(Kind::Text { escaped: false }, place)
}

fn bad(detail: String) -> Refusal {
    Refusal::new(DeadReason::Syntax, detail)
}

fn text<'v>(value: Value<'v>, label: &str) -> Result<Cow<'v, str>, Refusal> {
    match value.kind() {
        Kind::Text { .. } => Ok(value.unescaped()),
        _ => Err(bad(format!("`{label}` is {}; text is wanted", value.described()))),
    }
}

fn decimal<'v>(value: Value<'v>, label: &str) -> Result<&'v str, Refusal> {
    match value.kind() {
        Kind::Number => Ok(value.raw()),
        _ => Err(bad(format!("`{label}` is {}; a number is wanted", value.described()))),
    }
}

/// In microseconds.
fn seconds(value: Value<'_>, label: &str) -> Result<i64, Refusal> {
    parse_scaled_rounding(decimal(value, label)?, MICROS_SCALE)
        .map_err(|_| bad(format!("`{label}` is {}; seconds are wanted", value.described())))
}

fn seconds_text(micros: i64) -> String {
    let (sign, micros, second) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs(), MICROS.unsigned_abs());
    format!("{sign}{}.{:06}", micros / second, micros % second)
}

fn added<'v>(own: &'v str, base: Option<&'v str>) -> Result<Cow<'v, str>, Refusal> {
    match base {
        None => Ok(Cow::Borrowed(own)),
        Some(base) => number::sum(own, base)
            .map(Cow::Owned)
            .ok_or_else(|| bad(format!("{base} and {own} have too many digits to be added"))),
    }
}

#[cfg(test)]
mod tests;
