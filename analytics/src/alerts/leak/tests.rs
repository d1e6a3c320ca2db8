use std::io::{BufRead, BufReader};

use proptest::prelude::*;

use super::*;

const START: i64 = 1_790_726_400; // a midnight in UTC

fn hour(index: i64) -> Timestamp {
    Timestamp::from_unix_seconds(START + index * HOUR_S).unwrap()
}

/// Litres by hour: a number is an actual hour, `None` a missing one, and a negative number an estimate of so much.
fn hours(litres_by_hour: &[Option<i64>]) -> Vec<HourUse> {
    let mut hours = Vec::new();
    for (index, value) in litres_by_hour.iter().enumerate() {
        if let Some(value) = value {
            let index = i64::try_from(index).unwrap();
            hours.push(HourUse { start: hour(index), volume: litres(value.abs()), actual: *value >= 0 });
        }
    }
    hours
}

fn run(value: i64, count: usize) -> Vec<Option<i64>> {
    vec![Some(value); count]
}

/// (start hour, end hour, severity, rate in L/h) of each episode.
type Expected = (i64, Option<i64>, Severity, i64);

fn check(name: &str, litres_by_hour: &[Vec<Option<i64>>], expected: &[Expected]) {
    let found: Vec<_> = find(hours(&litres_by_hour.concat()), &LeakRules::default())
        .into_iter()
        .map(|e| (e.start, e.end, e.severity, e.measured))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(start, end, severity, rate)| {
            (hour(*start), end.map(hour), *severity, Amount::from_scaled(*rate, 0).unwrap())
        })
        .collect();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn the_smallest_of_24_hours_above_the_floor_is_a_leak() {
    use Severity::{Major, Minor, Suspect};
    check("23 hours are too few", &[run(0, 1), run(5, 23), run(0, 1)], &[]);
    check("24 hours", &[run(0, 1), run(5, 24), run(0, 1)], &[(1, Some(25), Suspect, 5)]);
    check("2 litres are not above the floor", &[run(2, 100)], &[]);
    check("3 litres are", &[run(3, 30)], &[(0, None, Suspect, 3)]);
    check("the rate is the smallest hour", &[run(9, 20), run(4, 1), run(30, 10)], &[(0, None, Suspect, 4)]);
    check("71 hours are not yet minor", &[run(0, 1), run(5, 71)], &[(1, None, Suspect, 5)]);
    check("72 hours are minor", &[run(0, 1), run(5, 72)], &[(1, None, Minor, 5)]);
    check("24 hours at 10 litres are major", &[run(0, 1), run(10, 24)], &[(1, None, Major, 10)]);
    check("a leak that grows becomes major", &[run(5, 30), run(12, 24)], &[(0, None, Major, 5)]);
    check("any quiet hour clears", &[run(5, 30), run(1, 1), run(5, 23)], &[(0, Some(30), Suspect, 5)]);
    check(
        "and a new leak is a new alert",
        &[run(5, 30), run(1, 1), run(5, 24)],
        &[(0, Some(30), Suspect, 5), (31, None, Suspect, 5)],
    );
}

#[test]
fn an_estimate_or_silence_neither_raises_nor_clears() {
    use Severity::Suspect;
    check("two of 24 may be missing", &[run(5, 10), vec![None; 2], run(5, 12)], &[(0, None, Suspect, 5)]);
    check("three may not", &[run(0, 1), run(5, 10), vec![None; 3], run(5, 11), run(0, 1)], &[]);
    check("estimates do not raise", &[run(0, 1), run(5, 10), run(-9, 20), run(5, 5)], &[]);
    check("an estimate of nothing does not clear", &[run(5, 24), run(-1, 3), run(5, 1)], &[(0, None, Suspect, 5)]);
    check("silence does not clear", &[run(5, 24), vec![None; 40]], &[(0, None, Suspect, 5)]);
}

#[test]
fn the_loss_is_the_rate_times_the_hours() {
    let found = find(hours(&run(14, 96)), &LeakRules::default());
    assert_eq!(found[0].loss_m3, Amount::parse("1.344").ok());
    assert_eq!(found[0].occurrences, 96);
    assert_eq!(found[0].evidence.len(), 22, "the hours that opened it");
    let kinds: Vec<_> = found[0].steps.iter().map(|s| (s.kind, s.severity)).collect();
    assert_eq!(kinds, [(MachineStepKind::Opened, Severity::Suspect), (MachineStepKind::Escalated, Severity::Major)]);
}

#[test]
fn every_hour_of_a_calendar_day_is_asked_for_by_the_variant() {
    let madrid = Zone::parse("Europe/Madrid").unwrap();
    let day = CivilDay::parse("2016-10-30").unwrap();
    let (from, to) = madrid.span_of_day(day);
    let count = to.micros_since(from) / HOUR_US;
    assert_eq!(count, 25, "the long day of autumn");
    let all = |skip: i64| {
        (0..count).filter(move |h| *h != skip).map(move |h| HourUse {
            start: from.plus_seconds(h * HOUR_S),
            volume: litres(3),
            actual: true,
        })
    };
    let rules = LeakRules { variant: LeakVariant::CalendarDay, ..LeakRules::default() };
    assert_eq!(leaking_days(all(-1), &madrid, &rules), [(day, litres(3))]);
    assert_eq!(leaking_days(all(7), &madrid, &rules), [], "24 of 25 hours are not all");
    let episodes = find_days(all(-1), &madrid, &rules);
    assert_eq!((episodes[0].start, episodes[0].last_seen, episodes[0].occurrences), (from, to, 1));
    assert_eq!(episodes[0].loss_m3, Amount::parse("0.075").ok());
}

#[test]
fn days_in_a_row_are_one_episode() {
    let utc = Zone::utc();
    let days = [run(4, 72), run(1, 24), run(4, 24), vec![None; 24], run(4, 24)].concat();
    let rules = LeakRules::default();
    let found: Vec<_> = find_days(hours(&days), &utc, &rules)
        .into_iter()
        .map(|e| (e.start, e.end, e.occurrences, e.severity))
        .collect();
    assert_eq!(
        found,
        [(hour(0), Some(hour(72)), 3, Severity::Minor), (hour(96), None, 2, Severity::Minor)],
        "a silent day neither ends nor counts"
    );
}

proptest! {
    #[test]
    fn worse_data_never_raises_an_alert(values in proptest::collection::vec(0_i64..20, 48..200), drop in any::<u64>()) {
        let all: Vec<_> = values.iter().map(|v| Some(*v)).collect();
        let full = find(hours(&all), &LeakRules::default());
        prop_assert!(full.iter().all(|e| e.measured > e.limit));
        // An estimate in the place of any one hour opens nothing where nothing was.
        let mut worse = all.clone();
        let at = usize::try_from(drop % u64::try_from(values.len()).unwrap()).unwrap();
        worse[at] = Some(-9);
        let found = find(hours(&worse), &LeakRules::default());
        prop_assert!(found.len() <= full.len() + 1);
        prop_assert!(found.iter().all(|e| e.measured > e.limit));
    }
}

/// The real set: its authors call 1,051 meter-days leaking.
#[test]
fn the_calendar_variant_finds_the_perth_days() {
    let root = std::env::var_os("METERLAKE_DATA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        std::path::PathBuf::from,
    );
    let path = root.join("perth-water/hourly.csv.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("skipped: {} is not there (set METERLAKE_DATA)", path.display());
        return;
    };
    let rules = LeakRules { variant: LeakVariant::CalendarDay, ..LeakRules::default() };
    let perth = Zone::parse("Australia/Perth").unwrap();
    let midnight = perth.start_of_day(CivilDay::parse("2019-01-01").unwrap());
    let mut by_household: std::collections::BTreeMap<u32, Vec<HourUse>> = std::collections::BTreeMap::new();
    let mut marked = std::collections::BTreeSet::new();
    for line in BufReader::new(flate2::read::GzDecoder::new(file)).lines().skip(1) {
        let line = line.unwrap();
        let mut fields = line.split(',').map(|f| f.parse::<i64>().unwrap());
        let mut next = || fields.next().unwrap();
        let (household, index, used, leak) = (u32::try_from(next()).unwrap(), next(), next(), next());
        let start = midnight.plus_seconds(index * HOUR_S);
        by_household.entry(household).or_default().push(HourUse { start, volume: litres(used), actual: true });
        if leak == 1 {
            marked.insert((household, perth.day_of(start)));
        }
    }
    let mut found = std::collections::BTreeSet::new();
    let mut in_episodes = 0;
    for (household, hours) in &by_household {
        found.extend(leaking_days(hours.iter().copied(), &perth, &rules).into_iter().map(|(day, _)| (*household, day)));
        in_episodes += find_days(hours.iter().copied(), &perth, &rules)
            .iter()
            .map(|e| usize::try_from(e.occurrences).unwrap())
            .sum::<usize>();
    }
    assert_eq!(marked.len(), 1051);
    assert_eq!(found, marked);
    assert_eq!(in_episodes, 1051);
}
