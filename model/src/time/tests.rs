use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600 * MICROS;

fn hours_of(zone: &str, day: &str) -> i64 {
    let (start, end) = Zone::parse(zone).unwrap().span_of_day(CivilDay::parse(day).unwrap());
    end.micros_since(start) / HOUR
}

#[test]
fn civil_days_have_the_hours_of_their_zone() {
    for (zone, day, hours) in [
        ("Europe/Madrid", "2016-03-27", 23),
        ("Europe/Madrid", "2016-10-30", 25),
        ("Europe/Madrid", "2016-06-01", 24),
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("Pacific/Apia", "2011-12-30", 0),
        ("UTC", "1969-12-31", 24),
    ] {
        assert_eq!(hours_of(zone, day), hours, "{zone} {day}");
    }
}

#[test]
fn lord_howe_moves_by_half_an_hour() {
    let zone = Zone::parse("Australia/Lord_Howe").unwrap();
    for (day, quarters) in [("2024-04-07", 98), ("2024-10-06", 94)] {
        let (start, end) = zone.span_of_day(CivilDay::parse(day).unwrap());
        assert_eq!(end.micros_since(start) / (HOUR / 4), quarters, "{day}");
    }
}

#[test]
fn a_day_without_midnight_starts_after_the_gap() {
    let zone = Zone::parse("America/Sao_Paulo").unwrap();
    let start = zone.start_of_day(CivilDay::parse("2018-11-04").unwrap());
    assert_eq!(zone.local_text(start), "2018-11-04T01:00:00");
}

#[test]
fn the_repeated_hour_is_two_instants_and_the_skipped_one_none() {
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let twice = zone.resolve_local_as("30/10/2016 02:15:00", "%d/%m/%Y %H:%M:%S").unwrap();
    assert_eq!(
        twice,
        LocalResolution::Ambiguous {
            earlier: Timestamp::parse_rfc3339("2016-10-30T00:15:00Z").unwrap(),
            later: Timestamp::parse_rfc3339("2016-10-30T01:15:00Z").unwrap(),
        }
    );
    let never = zone.resolve_local("2016-03-27 02:15:00").unwrap();
    assert_eq!(never, LocalResolution::Skipped(Timestamp::parse_rfc3339("2016-03-27T01:15:00Z").unwrap()));
    let once = zone.resolve_local("2016-07-01T12:00:00").unwrap();
    assert_eq!(once, LocalResolution::Unique(Timestamp::parse_rfc3339("2016-07-01T10:00:00Z").unwrap()));
}

#[test]
fn months_and_days_count_as_the_calendar_does() {
    let day = CivilDay::parse("2024-01-31").unwrap();
    assert_eq!(day.plus_months(1).to_string(), "2024-02-29");
    assert_eq!(day.plus_days(-31).to_string(), "2023-12-31");
    assert_eq!(day.weekday(), 2);
    assert_eq!(CivilDay::parse("2024-03-01").unwrap().days_since(day), 30);
    assert_eq!(month_key(Timestamp::parse_rfc3339("2024-02-01T00:30:00+01:00").unwrap()), "2024-01");
    assert!(CivilDay::parse("2023-02-29").is_err());
}

#[test]
fn zones_are_named_by_the_database() {
    assert!(matches!(Zone::parse("Mars/Olympus"), Err(TimeError::UnknownZone(_))));
    assert_eq!(Zone::parse("Asia/Shanghai").unwrap().name(), "Asia/Shanghai");
}

proptest! {
    /// Every civil day of every zone begins where the one before it ends.
    #[test]
    fn days_tile_time(zone in prop::sample::select(all_zones()), offset in -25_000_i32..25_000) {
        let zone = Zone::parse(&zone).unwrap();
        let day = CivilDay::new(1990, 1, 1).unwrap().plus_days(offset);
        let (start, end) = zone.span_of_day(day);
        prop_assert!(start <= end);
        prop_assert_eq!(zone.start_of_day(day.plus_days(1)), end);
        if start < end {
            prop_assert_eq!(zone.day_of(start), day);
            prop_assert_eq!(zone.day_of(end.plus_micros(-1)), day);
        }
    }
}

fn all_zones() -> Vec<String> {
    jiff::tz::TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect()
}

proptest! {
    #[test]
    fn plain_times_in_utc_read_as_the_calendar_reads_them(
        year in 1_u16..=9_999, month in 0_u8..=13, day in 0_u8..=32, hour in 0_u8..=24, minute in 0_u8..=60, second in 0_u8..=61
    ) {
        let local = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        let plain = Timestamp::parse_rfc3339(&format!("{local}Z"));
        // The same by another way.
        let offset = Timestamp::parse_rfc3339(&format!("{local}+00:00"));
        prop_assert_eq!(plain.ok(), offset.ok(), "{}", local);
    }

    #[test]
    fn no_text_of_the_length_of_a_time_makes_it_panic(text in "[0-9TZ:. +-]{20}", other in "\\PC{20}") {
        let _ = (Timestamp::parse_rfc3339(&text), Timestamp::parse_rfc3339(&other));
    }
}
