//! What is set aside before anything is decided by it: V04, V07 and V15.

use super::super::Severity;
use super::cases::{amounts, values};
use super::*;

#[test]
fn what_the_register_cannot_show_is_set_aside_and_told_of() {
    // Digits, resolution, the readings of the hours, which of them are set aside, and the use of the rest.
    type Row = (Option<u8>, &'static str, &'static [&'static str], &'static [usize], &'static str);
    let cases: [Row; 9] = [
        (Some(5), "0.001", &["99990", "100000", "99995"], &[1], "5"),
        (Some(5), "0.001", &["99990", "99999.999"], &[], "9.999"),
        (Some(5), "0.001", &["100000", "10", "12"], &[0], "2"),
        // Behind a wrap it does not pass for the old register that goes on.
        (Some(5), "0.001", &["99990", "5", "100020", "10", "20"], &[2], "30"),
        (None, "0.001", &["99990", "100000", "100005"], &[], "15"),
        (None, "0.001", &["10", "-5", "12"], &[1], "2"),
        (None, "0.1", &["10.1", "10.25", "10.4"], &[1], "0.3"),
        (None, "0.05", &["10.1", "10.25", "10.301", "10.4"], &[2], "0.3"),
        (None, "10", &["10", "20.5", "30"], &[1], "20"),
    ];
    for (digits, resolution, values, aside, used) in cases {
        let hour = |n: usize| format!("2026-03-01 {n:02}:00");
        let texts: Vec<(String, &str)> = values.iter().enumerate().map(|(n, v)| (hour(n), *v)).collect();
        let reads: Vec<(&str, &str)> = texts.iter().map(|(ts, value)| (ts.as_str(), *value)).collect();
        let usage = Case::electricity().meter(&reads).with(|_, c| {
            (c.digits, c.resolution) = (digits, amount(resolution));
        });
        let usage = usage.run();
        let found: Vec<_> =
            usage.findings.iter().filter(|f| f.rule == Rule::V15).map(|f| (f.start, f.measured)).collect();
        let expected: Vec<_> = aside.iter().map(|n| (at(&hour(*n)), Some(amount(values[*n])))).collect();
        assert_eq!(found, expected, "{values:?}");
        assert_eq!(total(&usage), amount(used), "{values:?}");
        let (given, foreign) = (u64::try_from(values.len()).unwrap(), u64::try_from(aside.len()).unwrap());
        assert_eq!((usage.counts.readings, usage.counts.foreign), (given, foreign), "{values:?}");
        check_closure(&usage);
    }
}

#[test]
fn of_two_values_of_one_time_the_one_that_the_register_can_show_stands() {
    // The other came later and keeps the order as well.
    let usage = Case::electricity()
        .meter(&[("2026-03-01 00:00", "99990"), ("2026-03-01 02:00", "99994")])
        .readings([reading(at("2026-03-01 01:00"), "99993", 3), reading(at("2026-03-01 01:00"), "199993", 9)])
        .with(|_, c| c.digits = Some(5))
        .run();
    assert_eq!(values(&usage), amounts(&["3", "1"]));
    assert_eq!(rules(&usage), [Rule::V15]);
    assert_eq!(usage.findings[0].evidence, "reading 199993.000000 has more digits than the register");
}

fn marked(mark: ReadingFlags, row: Reading) -> Reading {
    Reading { flags: row.flags.with(mark), ..row }
}

#[test]
fn v07_a_reading_that_its_meter_marks_makes_no_slot() {
    // What the collector remarks is no complaint of the meter.
    let own = ReadingFlags::CLOCK_SUSPECT.with(ReadingFlags::CONFLICT).with(ReadingFlags::COLLECTOR_TIME);
    for (mark, name) in [
        (ReadingFlags::OVERFLOW, "overflow"),
        (ReadingFlags::TEST_MODE, "test_mode"),
        (ReadingFlags::MEMORY_FAULT, "memory_fault"),
        (ReadingFlags::CLOCK_INVALID, "clock_invalid"),
        (own, ""),
    ] {
        let ts = at("2026-03-01 02:00");
        let usage = Case::electricity()
            .meter(&[("2026-03-01 00:00", "100"), ("2026-03-01 01:00", "101"), ("2026-03-01 03:00", "105")])
            .readings([marked(mark, reading(ts, "104", 0))])
            .run();
        let interval = Case::new(Commodity::Electricity, "energy_import_delta_kwh")
            .meter(&[("2026-03-01 01:00", "1"), ("2026-03-01 03:00", "3")])
            .readings([marked(mark, reading(ts, "7", 0))])
            .run();
        check_closure(&usage);
        check_closure(&interval);
        assert_eq!(total(&usage), amount("5"), "{name}");
        if name.is_empty() {
            assert_eq!((values(&usage), values(&interval)), (amounts(&["1", "3", "1"]), amounts(&["1", "7", "3"])));
            continue;
        }
        assert_eq!(
            (values(&usage), values(&interval)),
            (amounts(&["1", "2", "2"]), amounts(&["1", "2", "3"])),
            "{name}"
        );
        for (usage, quality, value) in [(&usage, Quality::EstimatedScaled, "104"), (&interval, Quality::Estimated, "7")]
        {
            assert_eq!(level(usage, Level::Slot)[1].quality, quality, "{name}");
            let found: Vec<_> = usage.findings.iter().filter(|f| f.rule == Rule::V07).collect();
            assert_eq!((found.len(), found[0].start, found[0].severity), (1, ts, Severity::Issue), "{name}");
            assert_eq!(found[0].evidence, format!("the meter marks reading {} with {name}", amount(value)));
        }
    }
}

#[test]
fn v07_a_marked_reading_is_no_boundary_and_one_beside_it_stands() {
    let midnight = at("2026-04-01");
    let test = |value| marked(ReadingFlags::TEST_MODE, reading(midnight, value, 9));
    let reads = [("2026-03-31 23:00", "1000"), ("2026-04-01 01:00", "1002")];
    let border = |case: Case| level(&case.run(), Level::Day)[0].end_register.unwrap();
    let derived = border(Case::electricity().meter(&reads).readings([test("1001.9")]));
    assert_eq!((derived.register, derived.quality), (amount("1001"), Quality::Derived));
    let read = border(Case::electricity().meter(&reads).readings([reading(midnight, "1000.5", 3), test("1001.9")]));
    assert_eq!((read.register, read.quality), (amount("1000.5"), Quality::Valid));
}

#[test]
fn v04_an_interval_off_the_grid_is_no_slot_s_use() {
    // Minutes behind the slot's end: a tenth of the interval is let pass.
    for (minutes, on_grid) in [(0, true), (6, true), (-6, true), (7, false), (-7, false), (30, false)] {
        let ts = at("2026-03-01 02:00").plus_seconds(60 * minutes);
        let usage = Case::new(Commodity::Electricity, "energy_import_delta_kwh")
            .meter(&[("2026-03-01 01:00", "1"), ("2026-03-01 03:00", "3")])
            .readings([reading(ts, "7", 0)])
            .run();
        check_closure(&usage);
        let slot = level(&usage, Level::Slot)[1];
        if on_grid {
            assert_eq!((slot.value, slot.quality, rules(&usage)), (Some(amount("7")), Quality::Valid, vec![]));
            continue;
        }
        assert_eq!((slot.value, slot.quality), (Some(amount("2")), Quality::Estimated), "{minutes} minutes");
        let off = usage.findings.iter().find(|f| f.rule == Rule::V04).unwrap();
        assert_eq!(
            (off.start, off.measured, off.severity),
            (ts, Some(amount("7")), Severity::Issue),
            "{minutes} minutes"
        );
        assert_eq!(rules(&usage).iter().filter(|rule| **rule == Rule::V09).count(), 1, "the slot is a gap");
        assert_eq!(usage.counts.foreign, 1);
    }
    // A register may be read at any time: what lies off the grid is straight between its readings.
    let usage = Case::electricity()
        .meter(&[("2026-03-01 00:30", "10"), ("2026-03-01 01:30", "12"), ("2026-03-01 02:30", "16")])
        .run();
    assert_eq!(values(&usage), amounts(&["1", "3", "2"]));
    assert_eq!(rules(&usage), []);
}
