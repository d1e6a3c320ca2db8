//! Two days of two usage points, across the end of summer time in Sydney.

use std::sync::Arc;

use meterlake_model::{Amount, Channel, CivilDay, Commodity, Method, Quality, Timestamp, Zone};

use crate::exports::{Curve, END_READ, ExportOptions, Format, Head, Item, Kind, Pins, Point, Read, START_READ, Slot};

pub(super) fn amount(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}

pub(super) fn day(text: &str) -> CivilDay {
    CivilDay::parse(text).unwrap()
}

pub(super) fn head(list: Option<i64>) -> Head {
    Head {
        run: "2026-04".into(),
        list,
        only: None,
        as_of: Timestamp::parse_rfc3339("2026-04-08T01:30:00Z").unwrap(),
        pins: Pins {
            commit_seq: 4711,
            registry_revision: 3,
            rules_hash: "5f2b".into(),
            program: "meterlake 0.1.0".into(),
        },
    }
}

pub(super) fn options() -> ExportOptions {
    ExportOptions { nem12_from: "MDP1".into(), nem12_to: "RETAILER1".into(), ..ExportOptions::default() }
}

pub(super) fn item(determinant: &str, part: &str, unit: &str, value: &str) -> Item {
    let read = |register: &str, quality| Some(Read { register: amount(register), quality });
    let is_use = determinant == "use";
    Item {
        kind: Kind::Bill,
        seq: 0,
        determinant: determinant.into(),
        part: part.into(),
        unit: unit.into(),
        first_day: day("2026-04-04"),
        end_day: day("2026-04-06"),
        value: amount(value),
        old: None,
        delta: amount(value),
        quality: if is_use { Quality::Derived } else { Quality::Valid },
        estimated: Amount::ZERO,
        cause: "issue".into(),
        start_read: read("1000.5", Quality::Derived).filter(|_| is_use),
        end_read: read("1061.000001", Quality::Valid).filter(|_| is_use),
    }
}

/// Slots from `start` on: what they say by their number.
pub(super) fn curve(
    channel: &str,
    interval_s: i64,
    (start, end): (Timestamp, Timestamp),
    say: impl Fn(i64) -> (Option<&'static str>, Quality, Option<Method>, &'static str),
) -> Curve {
    let mut slots = Vec::new();
    let mut at = start;
    while at < end {
        let (value, quality, method, meter) = say(i64::try_from(slots.len()).unwrap());
        slots.push(Slot {
            start: at,
            end: at.plus_seconds(interval_s),
            value: value.map(amount),
            quality,
            method,
            meter_id: Arc::from(meter),
        });
        at = at.plus_seconds(interval_s);
    }
    Curve { channel: Channel::by_name(channel).unwrap(), interval_s, slots }
}

/// Half hours: mostly read, two estimated, one unknown, and another meter from the 60th on.
pub(super) fn electricity(format: Format) -> Point {
    let zone = Zone::parse("Australia/Sydney").unwrap();
    let span = format.curve_span(&zone, day("2026-04-04"), day("2026-04-06"));
    let import = span.map(|span| {
        curve("energy_import_kwh", 1800, span, |n| match n {
            3 => (Some("0.4005"), Quality::EstimatedScaled, Some(Method::Linear), "M1"),
            4 => (Some("0.4005"), Quality::EstimatedScaled, Some(Method::LikeDay), "M1"),
            10 => (None, Quality::Missing, None, "M1"),
            0..60 => (Some("0.125"), Quality::Valid, None, "M1"),
            _ => (Some("0.1"), Quality::Valid, None, "M2-and-long-name"),
        })
    });
    let export =
        span.map(|span| curve("energy_export_kwh", 1800, span, |_| (Some("0.002"), Quality::Valid, None, "M1")));
    Point {
        usage_point_id: "NMI0000001".into(),
        customer_id: Some("C & <Sons>".into()),
        commodity: Commodity::Electricity,
        zone,
        items: vec![
            item(START_READ, "energy_import_kwh", "kWh", "1000.5"),
            item(END_READ, "energy_import_kwh", "kWh", "1061.000001"),
            Item {
                estimated: amount("0.801"),
                quality: Quality::EstimatedScaled,
                ..item("use", "energy_import_kwh", "kWh", "60.500001")
            },
            item("max_kw", "all", "kW", "0.801"),
        ],
        curves: import.into_iter().chain(export).collect(),
    }
}

/// Hours of water, and a correction.
pub(super) fn water(format: Format) -> Point {
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let span = format.curve_span(&zone, day("2026-04-04"), day("2026-04-06"));
    let hours = span.map(|span| {
        curve("volume_m3", 3600, span, |n| match n {
            0..30 => (Some("0.012345"), Quality::Valid, None, "W1"),
            _ => (Some("0"), Quality::Estimated, Some(Method::Project), "W1"),
        })
    });
    Point {
        usage_point_id: "W, \"1\"".into(),
        customer_id: None,
        commodity: Commodity::Water,
        zone,
        items: vec![Item {
            kind: Kind::Correction,
            seq: 2,
            old: Some(amount("0.380000")),
            delta: amount("-0.009650"),
            cause: "late_read+edit".into(),
            start_read: None,
            end_read: None,
            ..item("use", "volume_m3", "m3", "0.37035")
        }],
        curves: hours.into_iter().collect(),
    }
}

/// The sample as bytes, and what was left out.
pub(super) fn written(format: Format) -> (Vec<u8>, Vec<String>) {
    written_of(format, |_| true)
}

/// As [`written`], of some of the slots: by their number in their curve.
pub(super) fn written_of(format: Format, keep: impl Fn(usize) -> bool) -> (Vec<u8>, Vec<String>) {
    let (head, options) = (head(Some(7)), options());
    let mut writer = format.begin(&head, &options, Vec::new()).unwrap();
    let mut left = Vec::new();
    for mut point in [electricity(format), water(format)] {
        for curve in &mut point.curves {
            let mut at = 0;
            curve.slots.retain(|_| {
                at += 1;
                keep(at - 1)
            });
        }
        left.extend(writer.point(&point).unwrap().into_iter().map(|l| format!("{}: {}", l.what, l.why)));
    }
    (writer.finish().unwrap(), left)
}
