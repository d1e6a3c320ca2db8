//! Holidays that come with the program, and calendars as people write them.

use std::collections::BTreeSet;
use std::path::Path;

use meterlake_model::{CivilDay, Timestamp, UsagePointId};

use super::*;
use crate::Config;

fn day(text: &str) -> CivilDay {
    CivilDay::parse(text).unwrap()
}

#[test]
fn the_holidays_that_come_with_the_program_are_sound_and_all_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("holidays");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<_> = files.filter_map(|name| name.strip_suffix(".toml").map(str::to_owned)).collect();
    assert_eq!(files, Holidays::shipped_names().map(str::to_owned).collect());
    for name in Holidays::shipped_names() {
        let holidays = Holidays::parse(Holidays::shipped_text(name).unwrap(), name).unwrap();
        assert_eq!(holidays.name, name);
        assert!(holidays.years.contains(&2026) && holidays.days.keys().any(|day| day.year() == 2026), "{name}");
    }
}

/// Easter Sunday of the Gregorian calendar, by Butcher's rule.
fn easter(year: i16) -> CivilDay {
    let y = i32::from(year);
    let (a, b, c) = (y % 19, y / 100, y % 100);
    let g = (8 * b + 13) / 25;
    let h = (19 * a + b - b / 4 - g + 15) % 30;
    let l = (32 + 2 * (b % 4) + 2 * (c / 4) - h - c % 4) % 7;
    let m = (a + 11 * h + 19 * l) / 433;
    let month = (h + l - 7 * m + 90) / 25;
    let day = (h + l - 7 * m + 33 * month + 19) % 32;
    CivilDay::new(year, i8::try_from(month).unwrap(), i8::try_from(day).unwrap()).unwrap()
}

#[test]
fn movable_holidays_follow_easter_in_every_year() {
    for (file, name, by) in
        [("es", "good_friday", -2), ("au", "good_friday", -2), ("au", "easter_monday", 1), ("ch", "ascension", 39)]
    {
        let holidays = Holidays::shipped(file).unwrap();
        let found: Vec<_> = holidays.days.iter().filter(|(_, of)| *of == name).map(|(day, _)| *day).collect();
        let expected: Vec<_> = holidays.years.iter().map(|year| easter(*year).plus_days(by)).collect();
        assert_eq!(found, expected, "{file} {name}");
    }
    assert_eq!(easter(2026), day("2026-04-05"));
}

#[test]
fn china_in_2026_is_as_the_state_council_announced_it() {
    let china = Holidays::shipped("cn").unwrap();
    // The notice of 4 November 2025: first and last day off, then the weekend days that are worked.
    let off = [
        ("2026-01-01", "2026-01-03"),
        ("2026-02-15", "2026-02-23"),
        ("2026-04-04", "2026-04-06"),
        ("2026-05-01", "2026-05-05"),
        ("2026-06-19", "2026-06-21"),
        ("2026-09-25", "2026-09-27"),
        ("2026-10-01", "2026-10-07"),
    ];
    let worked = ["2026-01-04", "2026-02-14", "2026-02-28", "2026-05-09", "2026-09-20", "2026-10-10"];
    let expected: BTreeSet<_> = off
        .into_iter()
        .flat_map(|(first, last)| (0..=day(last).days_since(day(first))).map(move |by| day(first).plus_days(by)))
        .collect();
    let in_2026 = |day: &&CivilDay| day.year() == 2026;
    assert_eq!(china.days.keys().filter(in_2026).copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(china.working_days.iter().filter(in_2026).copied().collect::<Vec<_>>(), worked.map(day));
}

const CHINA: &str = r#"
[calendar.cn]
zone = "Asia/Shanghai"
default = "flat"
years = [2026]
holidays = "cn"
holiday_as = "valley"
seasons = { hot = "07-01..08-31", cold = "12-01..01-31" }
rules = [
  { from = "23:00", to = "07:00", bucket = "valley" },
  { days = ["workday"], from = "08:00", to = "11:00", bucket = "peak" },
  { days = ["workday"], from = "17:00", to = "22:00", bucket = "peak" },
  { days = ["workday"], season = "hot", from = "18:00", to = "20:00", bucket = "sharp", priority = 1 },
]
events = [
  { from = "2026-07-15T14:00:00+08:00", to = "2026-07-15T15:00:00+08:00", bucket = "critical", points = ["E1"] },
]
"#;

#[test]
fn a_calendar_means_what_it_says() {
    let config = Config::parse(CHINA, Path::new("")).unwrap();
    let calendar = &config.calendars["cn"];
    assert_eq!(calendar.buckets(), ["flat", "valley", "peak", "sharp", "critical"], "as they come");
    let point = UsagePointId::new("E1").unwrap();
    for (at, expected) in [
        ("2026-07-15T18:30", "sharp"),
        ("2026-07-15T17:59", "peak"),
        ("2026-07-15T14:30", "critical"),
        ("2026-07-18T18:30", "flat"),
        ("2026-04-15T18:30", "peak"),
        ("2026-05-01T18:30", "valley"),
        ("2026-05-09T18:30", "peak"),
        ("2026-05-09T23:30", "valley"),
    ] {
        let ts = Timestamp::parse_rfc3339(&format!("{at}:00+08:00")).unwrap();
        let bucket = calendar.bucket_at(ts, Some(&point)).map(|bucket| calendar.bucket_name(bucket));
        assert_eq!(bucket, Some(expected), "{at}");
    }
}

#[test]
fn calendars_and_determinants_may_stand_in_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("cn.toml"), CHINA).unwrap();
    let more = "[[determinant]]\nid = 'tou'\nkind = 'bucket'\nchannel = 'energy_import_kwh'\ncalendar = 'cn'\n";
    std::fs::write(dir.path().join("own.toml"), more).unwrap();
    let config = Config::parse("[billing]\ntariff_files = ['cn.toml', 'own.toml']\n", dir.path()).unwrap();
    assert_eq!((config.calendars.len(), config.determinants.len()), (1, 1));

    std::fs::write(dir.path().join("own.toml"), more.replace("'cn'", "'cm'")).unwrap();
    let text = format!("billing.tariff_files = ['cn.toml', 'own.toml', 'none.toml']\n{CHINA}");
    let errors = Config::parse(&text, dir.path()).unwrap_err();
    let base = format!("{}/", dir.path().display());
    let told: Vec<_> = errors.problems().iter().map(|problem| problem.to_string().replace(&base, "")).collect();
    assert_eq!(
        told,
        [
            "configuration:1: `billing.tariff_files`: none.toml cannot be read: No such file or directory (os error 2)",
            "cn.toml:2: there are two calendars of the name `cn`",
            "own.toml:5: `determinant.calendar` is \"cm\", which is no sound calendar of this configuration; did you mean `cn`?",
        ]
    );
}
