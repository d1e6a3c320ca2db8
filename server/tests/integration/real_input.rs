//! Real input through the real path: recorded files of three utilities, replayed through mosquitto into the binary, and
//! what the jobs make of them. What is expected is computed here from the files, without the product's code.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use meterlake_device_sim::replay::data_folder;
use meterlake_model::{CivilDay, Timestamp, Zone};

use crate::mosquitto::{Mosquitto, broker_table};
use crate::peers;
use crate::site::Site;

/// The text of a recorded file; `None`, with a word, where recorded data is absent.
fn recorded(file: &str) -> Option<String> {
    let path = data_folder().join(file);
    if !path.is_file() {
        println!("skipped: {} is absent; set METERLAKE_DATA to the folder of recorded data", path.display());
        return None;
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    Some(text)
}

/// Imports the registry of a set, replays it through mosquitto and returns when all of it is committed.
fn replay(site: &Site, mosquitto: &Mosquitto, set: &str, frames: &str) {
    replay_from(&data_folder(), site, mosquitto, set, frames);
}

/// As `replay`, from another folder of recorded data.
pub(crate) fn replay_from(folder: &Path, site: &Site, mosquitto: &Mosquitto, set: &str, frames: &str) {
    let started = Instant::now();
    let registry = site.path("registry");
    let folder: PathBuf = std::path::absolute(folder).unwrap();
    let (registry, folder) = (registry.to_str().unwrap(), folder.to_str().unwrap());
    let broker = mosquitto.address.to_string();
    let words = ["simulate", "replay", set, "--data", folder, "--broker", &broker, "--registry", registry];
    site.tell(&[&words[..], &["--registry-only"]].concat());
    site.tell(&["registry", "import", registry]);
    let collector = site.collect();
    let sent = site.ask(&[&words[..], &["--frames", frames]].concat());
    assert!(sent.good, "{}", sent.err);
    let messages: u64 = sent.err.lines().find_map(|line| line.split_once(" messages with ")?.0.parse().ok()).unwrap();
    crate::process::until("all messages durable", crate::site::PATIENCE * 3, || {
        let report = site.report(&collector)?;
        let acknowledged = report.brokers[0].1.iter().find(|(name, _)| name == "acknowledged")?.1;
        (acknowledged >= messages).then_some(())
    });
    site.stop(collector);
    println!("{set}: {} replayed and committed in {:.1} s", sent.err.trim_end(), started.elapsed().as_secs_f64());
}

fn site(mosquitto: &Mosquitto, topic: &str, map: &str, more: &str) -> Site {
    Site::new(&format!("{}{more}", broker_table(mosquitto.address, topic, map)))
}

fn job(site: &Site, name: &str, from: &str, to: &str) {
    print!("{}", site.tell(&["job", "run", name, "--from", from, "--to", to]));
}

/// A decimal's digits as an integer of 10^-6.
fn micros(text: &str) -> i128 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    assert!(decimals.len() <= 6, "{text}");
    sign * format!("{whole}{decimals:0<6}").parse::<i128>().unwrap()
}

/// What the DAIAD file says of one meter: distinct readings by local text, first and last register in litres.
#[derive(Default)]
struct Meter {
    readings: BTreeSet<(String, i64)>,
    first: Option<(String, i64)>,
    last: Option<(String, i64)>,
}

/// `30/10/2016 02:15:00` so that texts sort by time.
fn sortable(local: &str) -> String {
    format!("{}-{}-{} {}", &local[6..10], &local[3..5], &local[..2], &local[11..])
}

fn daiad_meters(text: &str) -> BTreeMap<String, Meter> {
    let mut meters: BTreeMap<String, Meter> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let mut cells = line.split(';');
        let (key, time, litres) = (cells.next().unwrap(), cells.next().unwrap(), cells.next().unwrap());
        // Exact: litres are below 2^53, with and without an exponent.
        let litres: f64 = litres.parse().unwrap();
        #[expect(clippy::cast_possible_truncation, reason = "whole litres")]
        let reading = (sortable(time), litres as i64);
        let meter = meters.entry(key.to_owned()).or_default();
        if meter.first.as_ref().is_none_or(|first| reading.0 < first.0) {
            meter.first = Some(reading.clone());
        }
        if meter.last.as_ref().is_none_or(|last| reading.0 >= last.0) {
            meter.last = Some(reading.clone());
        }
        meter.readings.insert(reading);
    }
    meters
}

/// Rows of two columns as a map from text to integer.
fn by_name(rows: &[Vec<String>]) -> BTreeMap<String, i64> {
    rows.iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_92_water_meters_is_stored_whole_and_billed_to_the_litre() {
    if !peers::asked_for() {
        return;
    }
    let Some(text) = recorded("daiad-water/readings.csv.gz") else { return };
    let _machine = peers::whole_machine().await;
    let meters = daiad_meters(&text);
    let mosquitto = Mosquitto::start();
    let site = site(&mosquitto, "litres/+/reading", "litres-local-json", "");
    replay(&site, &mosquitto, "daiad", "1");

    // Stored: each distinct reading once, none lost, contradictions beside each other.
    assert_eq!((meters.len(), text.lines().count() - 1), (92, 674_019));
    assert_eq!(site.number("SELECT count(*) FROM water_readings"), 673_949);
    assert_eq!(site.number("SELECT count(*) FROM dead_letters"), 0);
    let stored = site.query(
        "SELECT meter_id, count(*), CAST(sum(volume_m3) * 1000 AS BIGINT) FROM water_readings GROUP BY 1 ORDER BY 1",
    );
    let expected: Vec<_> = meters
        .iter()
        .map(|(key, meter)| {
            let litres: i64 = meter.readings.iter().map(|(_, litres)| litres).sum();
            vec![key.clone(), meter.readings.len().to_string(), litres.to_string()]
        })
        .collect();
    assert_eq!(stored, expected, "readings and litres by meter");
    let conflicts = "SELECT count(*) FROM (SELECT DISTINCT meter_id, ts FROM water_readings WHERE (flags & 2) <> 0)";
    assert_eq!(site.number(conflicts), 8);
    let exponent = text.lines().find(|line| line.contains("e+05")).unwrap();
    let cells: Vec<_> = exponent.split(';').collect();
    let litres = cells[2].replace("e+05", "00000");
    let found =
        format!("SELECT count(*) FROM water_readings WHERE meter_id = '{}' AND volume_m3 * 1000 = {litres}", cells[0]);
    assert!(site.number(&found) > 0, "{exponent}");

    // Used: civil days of 23, 24 and 25 hours.
    job(&site, "usage", "2016-03-01", "2017-03-01");
    let zone = Zone::parse("Europe/Madrid").unwrap();
    for (day, hours) in [("2016-03-26", 24), ("2016-03-27", 23), ("2016-10-29", 24), ("2016-10-30", 25)] {
        let (from, to) = zone.span_of_day(CivilDay::parse(day).unwrap());
        let slots = by_name(&site.query(&format!(
            "SELECT usage_point_id, count(*) FROM usage_spans WHERE level = 'slot'
             AND CAST(start AS BIGINT) >= {} AND CAST(start AS BIGINT) < {} GROUP BY 1",
            from.micros(),
            to.micros()
        )));
        assert!(slots.len() > 80, "{day}: {} meters", slots.len());
        assert!(slots.values().all(|count| *count == hours), "{day}: {slots:?}");
    }

    // Billed: never negative, adding up to last minus first register, the foreign reads left out.
    job(&site, "billing", "2016-03-01", "2017-03-02");
    let reads = site.query(
        "SELECT usage_point_id, use_amount, state, reasons, first_day, last_day FROM billing_reads
         ORDER BY usage_point_id, first_day",
    );
    let mut billed: BTreeMap<&str, i128> = BTreeMap::new();
    for read in &reads {
        let used = micros(&read[1]);
        assert!(used >= 0, "{read:?}");
        *billed.entry(read[0].strip_prefix("UP-").unwrap()).or_default() += used;
        for sign_of_a_fall in ["backward", "wrap", "digits", "closure", "failed", "capacity"] {
            assert!(read[2] != "held" || !read[3].contains(sign_of_a_fall), "{read:?}");
        }
    }
    assert_eq!(billed.len(), 92);
    for (key, meter) in &meters {
        let litres = meter.last.as_ref().unwrap().1 - meter.first.as_ref().unwrap().1;
        assert_eq!(billed[key.as_str()], i128::from(litres) * 1000, "{key}: {litres} L by its first and last register");
    }
    let (key, _) = meters.iter().find(|(key, _)| key.starts_with("9348c9bb")).unwrap();
    assert_eq!(billed[key.as_str()], 81_416_000, "81,416 L and no other meter's 248,000");

    // A meter that stays low for hours or weeks is billed like any other.
    let low = low_for(&meters, 12 * 3600);
    assert!(low.iter().any(|low| low.seconds > 14 * 86_400), "one is low for weeks: {low:?}");
    assert!(low.len() > 1, "others for hours: {low:?}");
    for low in &low {
        let touched = reads.iter().filter(|read| read[0].ends_with(low.key));
        let touched: Vec<_> = touched.filter(|read| read[4] <= low.to && low.from <= read[5]).collect();
        assert!(!touched.is_empty() && touched.iter().all(|read| read[2] == "ready"), "{low:?}: {touched:?}");
    }
}

/// A time during which a register stays 1 to 20 litres below what it was, by civil days.
#[derive(Debug)]
struct Low<'m> {
    key: &'m str,
    from: String,
    to: String,
    seconds: i64,
}

/// The times of so many seconds or more.
fn low_for(meters: &BTreeMap<String, Meter>, seconds: i64) -> Vec<Low<'_>> {
    let second = |text: &str| Timestamp::parse_rfc3339(&format!("{}Z", text.replace(' ', "T"))).unwrap().unix_seconds();
    let mut found: Vec<Low<'_>> = Vec::new();
    for (key, meter) in meters {
        let (mut highest, mut since) = (meter.readings.first().unwrap().1, None::<&str>);
        for (time, litres) in &meter.readings {
            match litres - highest {
                -20..0 => {
                    let began = *since.get_or_insert(time);
                    let low = Low {
                        key,
                        from: began[..10].to_owned(),
                        to: time[..10].to_owned(),
                        seconds: second(time) - second(began),
                    };
                    if low.seconds >= seconds {
                        // The same time, longer.
                        found.pop_if(|known| known.key == low.key && known.from == low.from);
                        found.push(low);
                    }
                }
                0..50_000 => (highest, since) = (*litres, None),
                // Far off is another meter's: it neither ends nor begins anything.
                _ => {}
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn interval_use_of_150_homes_adds_up_by_week_to_the_last_digit() {
    if !peers::asked_for() {
        return;
    }
    let Some(text) = recorded("swiss-electricity/intervals.csv.gz") else { return };
    let _machine = peers::whole_machine().await;
    let mut weeks: BTreeMap<(String, i64), i128> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        *weeks.entry((cells[0].to_owned(), cells[1].parse().unwrap())).or_default() += micros(cells[3]);
    }
    assert_eq!(weeks.len(), 150 * 7);
    let mosquitto = Mosquitto::start();
    let site = site(&mosquitto, "meterlake/v1/+/readings", "meterlake-json", "");
    replay(&site, &mosquitto, "swiss", "96");
    assert_eq!(site.number("SELECT count(*) FROM electricity_readings"), 705_600);

    // The set is placed in 2015, whose week 44 begins on 26 October, the day after the clocks change.
    job(&site, "usage", "2015-10-26", "2015-12-14");
    let zone = Zone::parse("Europe/Zurich").unwrap();
    let monday = zone.start_of_day(CivilDay::parse("2015-10-26").unwrap()).micros();
    for level in ["slot", "day"] {
        let rows = site.query(&format!(
            "SELECT usage_point_id, 44 + (CAST(start AS BIGINT) - {monday}) / 604800000000 AS week, sum(value), count(*)
             FROM usage_spans WHERE level = '{level}' GROUP BY 1, 2"
        ));
        let sums: BTreeMap<_, _> = rows
            .iter()
            .map(|row| {
                let household = row[0].trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned();
                assert_eq!(row[3], if level == "slot" { "672" } else { "7" }, "{row:?}");
                ((household, row[1].parse::<i64>().unwrap()), micros(&row[2]))
            })
            .collect();
        assert_eq!(sums, weeks, "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calendar_day_rule_finds_the_1051_leaking_meter_days_of_80_homes() {
    if !peers::asked_for() {
        return;
    }
    let Some(text) = recorded("perth-water/hourly.csv.gz") else { return };
    let _machine = peers::whole_machine().await;
    let mut days: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        if cells[3] == "1" {
            days.entry(cells[0].to_owned()).or_default().insert(cells[1].parse::<i64>().unwrap() / 24);
        }
    }
    let expected: BTreeMap<String, i64> =
        days.into_iter().map(|(home, days)| (home, i64::try_from(days.len()).unwrap())).collect();
    assert_eq!(expected.values().sum::<i64>(), 1_051);
    let mosquitto = Mosquitto::start();
    let rule = "[alerts.leak]\nrule = \"calendar_day\"\nabove_l_per_h = 2\n";
    let site = site(&mosquitto, "meterlake/v1/+/readings", "meterlake-json", rule);
    replay(&site, &mosquitto, "perth", "96");
    assert_eq!(site.number("SELECT count(*) FROM water_readings"), 215_040);

    // 112 days from where the set is placed.
    job(&site, "usage", "2014-01-01", "2014-04-24");
    job(&site, "alerts", "2014-01-01", "2014-04-24");
    let rows = site.query(
        "SELECT usage_point_id, sum(occurrences) FROM alerts WHERE rule = 'leak_calendar_day' GROUP BY usage_point_id",
    );
    let found: BTreeMap<String, i64> = rows
        .iter()
        .map(|row| {
            let home = row[0].trim_start_matches(|c: char| !c.is_ascii_digit()).trim_start_matches('0').to_owned();
            (home, row[1].parse().unwrap())
        })
        .collect();
    assert_eq!(found, expected, "leaking days by home");
}
