use super::*;

const QUARTER_S: i64 = 900;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_790_726_400 + seconds).unwrap()
}

/// Readings of one phase in volts, `None` where the meter was silent.
fn one_phase(volts: &[Option<i64>], interval_s: i64) -> Vec<VoltageReading> {
    let mut readings = Vec::new();
    for (index, value) in volts.iter().enumerate() {
        if let Some(value) = value {
            let ts = at(i64::try_from(index).unwrap() * interval_s);
            readings.push(VoltageReading { ts, phases_dv: [Some(value * 10), None, None] });
        }
    }
    readings
}

/// (start, end) as indexes of readings, severity and the lowest voltage of each episode.
type Expected = (i64, Option<i64>, Severity, i64);

/// Name, volts by reading, expected episodes.
type Case<'a> = (&'a str, Vec<Option<i64>>, &'a [Expected]);

fn check(name: &str, volts_at: &[Option<i64>], interval_s: i64, rules: &VoltageRules, expected: &[Expected]) {
    let found: Vec<_> = find(one_phase(volts_at, interval_s), None, interval_s, rules)
        .into_iter()
        .map(|e| (e.rule, e.start, e.end, e.severity, e.measured))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(start, end, severity, lowest)| {
            (Rule::Undervoltage, at(start * interval_s), end.map(|e| at(e * interval_s)), *severity, volts(lowest * 10))
        })
        .collect();
    assert_eq!(found, expected, "{name}");
}

fn v(volts: &[i64]) -> Vec<Option<i64>> {
    volts.iter().map(|v| Some(*v)).collect()
}

#[test]
fn two_low_readings_open_and_two_good_ones_end() {
    use Severity::{Major, Minor};
    let en = VoltageRules::default();
    let table: [Case<'_>; 11] = [
        ("one dip is none", v(&[230, 200, 230, 230]), &[]),
        ("207 V is within the limit", v(&[207, 207, 207]), &[]),
        ("two low ones", v(&[230, 206, 205, 230, 230]), &[(1, Some(3), Minor, 205)]),
        ("one good reading does not end it", v(&[206, 205, 230, 200, 200]), &[(0, None, Minor, 200)]),
        ("211 V is not yet good", v(&[206, 205, 211, 211, 211]), &[(0, None, Minor, 205)]),
        ("212 V is", v(&[206, 205, 212, 212]), &[(0, Some(2), Minor, 205)]),
        ("between the two counts for neither", v(&[206, 209, 206, 209, 206]), &[]),
        ("below 85 % twice is major", v(&[206, 205, 190, 190]), &[(0, None, Major, 190)]),
        ("an interruption is not undervoltage", v(&[230, 0, 0, 5, 230]), &[]),
        ("silence breaks the row", vec![Some(206), None, Some(206), None, Some(206)], &[]),
        ("and does not end it", vec![Some(206), Some(206), None, None, Some(230)], &[(0, None, Minor, 206)]),
    ];
    for (name, readings, expected) in table {
        check(name, &readings, QUARTER_S, &en, expected);
    }
}

#[test]
fn readings_that_come_often_must_cover_ten_minutes() {
    let en = VoltageRules::default();
    check("nine minutes", &v(&[200; 9]), 60, &en, &[]);
    check("ten minutes", &v(&[200; 10]), 60, &en, &[(0, None, Severity::Minor, 200)]);
    let china = VoltageRules { open_minutes: 60, ..en };
    check("three quarters", &v(&[200; 3]), QUARTER_S, &china, &[]);
    check("an hour", &v(&[200; 4]), QUARTER_S, &china, &[(0, None, Severity::Minor, 200)]);
}

#[test]
fn each_country_has_its_limits() {
    let judge = |profile: VoltageProfile, phases_dv| {
        let rules = VoltageRules { profile, ..VoltageRules::default() };
        let judge = Judge { nominal_dv: profile.nominal_dv(), rules: &rules };
        judge.judge(&VoltageReading { ts: at(0), phases_dv }).0
    };
    let is_bad = |verdict| matches!(verdict, Verdict::Bad { .. });
    let one = |dv| [Some(dv), None, None];
    for (profile, good, bad) in [
        (VoltageProfile::En50160, one(2070), one(2069)),
        (VoltageProfile::Gb12325, one(1980), one(1979)),
        (VoltageProfile::Gb12325, [Some(2046), Some(2200), Some(2200)], [Some(2045), Some(2200), Some(2200)]),
        (VoltageProfile::AnsiC84, one(1140), one(1139)),
    ] {
        assert!(!is_bad(judge(profile, good)), "{profile:?} {good:?}");
        assert!(is_bad(judge(profile, bad)), "{profile:?} {bad:?}");
        assert_eq!(VoltageProfile::parse(profile.as_str()), Some(profile));
    }
    let severe = |dv| matches!(judge(VoltageProfile::AnsiC84, one(dv)), Verdict::Bad { severe: true, .. });
    assert!(!severe(1100));
    assert!(severe(1099));
}

#[test]
fn a_lost_phase_is_told_from_low_voltage() {
    let rules = VoltageRules::default();
    let of = |phases_dv: [Option<i64>; 3]| {
        let readings = (0..3).map(|i| VoltageReading { ts: at(i * QUARTER_S), phases_dv });
        find(readings, Some(2300), QUARTER_S, &rules).into_iter().map(|e| (e.rule, e.measured)).collect::<Vec<_>>()
    };
    assert_eq!(of([Some(1000), Some(2300), Some(2310)]), [(Rule::PhaseLoss, volts(1000))]);
    assert_eq!(of([Some(1000), Some(1100), Some(2310)]), [(Rule::PhaseLoss, volts(1000))]);
    assert_eq!(of([Some(2000), Some(2300), Some(2310)]), [(Rule::Undervoltage, volts(2000))]);
    assert_eq!(of([Some(2300), Some(0), Some(0)]), [], "phases that are not connected read zero");
    assert_eq!(of([None, None, None]), []);
}

#[test]
fn the_registry_names_the_nominal_voltage() {
    let readings = one_phase(&v(&[215, 215, 215]), QUARTER_S);
    let found = find(readings, Some(2400), QUARTER_S, &VoltageRules::default());
    assert_eq!(found.len(), 1, "216 V is the limit of 240 V");
    assert_eq!(found[0].limit, volts(2160));
    assert_eq!(found[0].evidence.len(), 3);
}
