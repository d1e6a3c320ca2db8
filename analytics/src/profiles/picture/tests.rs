use std::collections::BTreeSet;

use meterlake_model::{Amount, CivilDay, Zone};

use super::*;
use crate::profiles::{ProfileRules, SlotUse, profile, terminal};

/// An evening household with one day that was not read.
fn october() -> (Profile, Vec<DayType>) {
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let first = CivilDay::parse("2026-10-01").unwrap();
    let holidays = BTreeSet::from([CivilDay::parse("2026-10-12").unwrap()]);
    let end = zone.start_of_day(first.plus_months(1));
    let mut at = zone.start_of_day(first);
    let mut slots = Vec::new();
    while at < end {
        let (day, hour) = (zone.day_of(at), zone.hour_of(at));
        let weekend = DayType::of(day, &holidays) != DayType::Workday;
        let watts = match hour {
            0..6 => 120,
            6..9 => 540,
            13..15 if weekend => 1400,
            17..22 => 980,
            _ => 310,
        } + i64::from(day.day()) * 7;
        let value = Amount::from_scaled(watts, 3).unwrap();
        slots.push(SlotUse { start: at, end: at.plus_seconds(3600), value, actual: day.day() != 17 || hour != 4 });
        at = at.plus_seconds(3600);
    }
    let found = profile(slots, &zone, first, 31, &holidays, &ProfileRules::default());
    let types = (0..31).map(|i| DayType::of(first.plus_days(i), &holidays)).collect();
    (found, types)
}

fn sheet<'a>(profile: &'a Profile, day_types: &'a [DayType]) -> Sheet<'a> {
    Sheet {
        title: "Usage point <P-7> & sons",
        subtitle: "energy_import_kwh, 2026-10, residential",
        unit: "kWh",
        profile,
        day_types,
    }
}

#[test]
fn the_picture_is_whole_labelled_and_escaped() {
    let (profile, types) = october();
    let text = svg(&sheet(&profile, &types));
    assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"));
    assert!(text.contains("Usage point &lt;P-7&gt; &amp; sons") && !text.contains("<P-7>"));
    for label in ["kWh per hour", "hour of the day", "workdays", "Saturdays", "Sundays, holidays", "2026-10-31"] {
        assert!(text.contains(label), "{label} is not in the picture");
    }
    assert!(text.contains("prefers-color-scheme:dark"));
    assert_eq!(text.matches("rx=\"1.5\"").count(), 30, "a bar for each complete day");
    assert_eq!(text.matches("<path class=\"l l").count(), 6, "three lines and their legend");
    assert!(!text.contains("NaN") && !text.contains("inf"));
    assert_eq!(text, svg(&sheet(&profile, &types)), "same profile, same bytes");
    if let Some(path) = std::env::var_os("METERLAKE_PICTURE") {
        std::fs::write(path, &text).unwrap();
    }
}

#[test]
fn an_empty_profile_is_drawn_without_figures() {
    let zone = Zone::utc();
    let first = CivilDay::parse("2026-10-01").unwrap();
    let empty = profile([], &zone, first, 31, &BTreeSet::new(), &ProfileRules::default());
    let text = svg(&sheet(&empty, &[]));
    assert!(text.contains("no key figures: 0 complete days are too few"));
    assert!(!text.contains("NaN"));
    assert!(terminal::draw(&sheet(&empty, &[])).contains("no key figures"));
}

#[test]
fn the_terminal_picture_fits_a_terminal() {
    let (profile, types) = october();
    let text = terminal::draw(&sheet(&profile, &types));
    assert!(text.lines().all(|l| l.chars().count() <= 78), "{text}");
    assert!(text.contains("kWh per hour") && text.contains('█') && text.contains("saturday"), "{text}");
    assert!(text.contains("load factor"), "{text}");
    println!("{text}");
}
