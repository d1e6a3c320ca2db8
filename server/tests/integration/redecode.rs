//! A map found wrong after three months: history decoded again from the messages as they came, previewed, agreed on by two
//! people, written like all readings, and posted as corrections.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meterlake_config::payload_map::PayloadMap;
use meterlake_ingest::decode;
use meterlake_model::registry::{Installation, InstallationChannel, Meter, Registry, UsagePoint};
use meterlake_model::{
    Amount, Channel, CivilDay, Commodity, MeterId, RawMessage, ReadingBatch, Timestamp, UsagePointId, Zone,
};
use meterlake_store::journal::{JournalOptions, JournalWriter};
use meterlake_store::{Committer, Lake};

use crate::site::{Answer, Site, rows};

const ENERGY: &str = "energy_import_kwh";

/// A map whose sender counts steps of a tenth of a kilowatt-hour; `factor` is what the map makes of one.
fn map(version: u32, factor: &str, more: &str) -> String {
    format!(
        "name = \"steps\"\nversion = {version}\ntopic = \"steps/{{meter}}\"\nformat = \"json\"\nkeep_raw = true\n\n\
         [time]\npath = \"ts\"\nformat = \"rfc3339\"\n\n\
         [fields.{ENERGY}]\npath = \"n\"\nfactor = \"{factor}\"\nunit = \"kWh\"\n{more}"
    )
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    for (point, meter) in [("UP-1", "s1"), ("UP-2", "s2"), ("UP-3", "s3")] {
        let (id, meter_id) = (UsagePointId::new(point).unwrap(), MeterId::new(meter).unwrap());
        let commodity = Commodity::Electricity;
        let usage_point = UsagePoint {
            id: id.clone(),
            commodity,
            zone: Zone::parse("Europe/Madrid").unwrap(),
            customer_id: None,
            node_id: None,
            class: "residential".to_owned(),
            place: point.to_owned(),
            billing_day: 1,
            active: true,
            continuous_use: false,
            nominal_voltage_dv: None,
            customer_since: None,
            parent_id: None,
        };
        registry.usage_points.insert(id.clone(), usage_point);
        let of = Meter { id: meter_id.clone(), commodity, serial: None, model: "steps".to_owned(), gateway_id: None };
        registry.meters.insert(meter_id.clone(), of);
        registry.installations.push(Installation {
            meter_id,
            usage_point_id: id,
            installed_at: None,
            removed_at: None,
            is_check: false,
            channels: vec![InstallationChannel {
                channel: Channel::by_name(ENERGY).unwrap(),
                multiplier_micros: 1_000_000,
                digits: None,
                resolution: Amount::parse("0.001").unwrap(),
                interval_s: 3600,
                interval_assumed: false,
                capacity_per_hour: None,
                start_register: None,
                end_register: None,
            }],
        });
    }
    registry
}

/// The first days of the month after the third one, and of the three before it, all within the last year.
fn months() -> [CivilDay; 4] {
    let now = Zone::utc().day_of(Timestamp::now()).first_of_month();
    [-4, -3, -2, -1].map(|n| now.plus_months(n))
}

/// Hourly messages of three meters; each says its register in steps, and which pulse it is.
fn messages() -> Vec<RawMessage> {
    let (first, last) = (months()[0], months()[3]);
    let zone = Zone::parse("Europe/Madrid").unwrap();
    let (mut at, end) = (zone.start_of_day(first), zone.start_of_day(last).plus_seconds(3600));
    let (mut messages, mut n) = (Vec::new(), 0);
    while at <= end {
        for (meter, start) in [("s1", 10_000), ("s2", 20_000), ("s3", 500)] {
            let register = start + n * 7 + (n * n) % 5;
            messages.push(RawMessage {
                source: "yard".into(),
                topic: format!("steps/{meter}").into(),
                payload: format!("{{\"ts\":\"{at}\",\"n\":{register},\"v\":2301}}").into_bytes(),
                received_at_s: at.unix_seconds() + 5,
            });
        }
        (at, n) = (at.plus_seconds(3600), n + 1);
    }
    messages
}

/// A site that has collected with a wrong map.
fn collected(wrong: &str) -> Site {
    let site = Site::new("");
    std::fs::write(site.path("steps.toml"), wrong).unwrap();
    let broker =
        "[[mqtt]]\nname = \"yard\"\nhost = \"127.0.0.1\"\nport = 1\ntopics = [\"steps/+\"]\nmaps = [\"steps.toml\"]\n";
    site.configure(broker);
    let registry = registry();
    site.import(&registry);
    let maps = vec![PayloadMap::parse(wrong, "steps.toml").unwrap()];
    let mut batches = vec![ReadingBatch::default()];
    for message in messages() {
        if batches.last().unwrap().raw.len() == 5_000 {
            batches.push(ReadingBatch::default());
        }
        decode::decode(&maps, &message, false, &registry.directory(), batches.last_mut().unwrap());
    }
    assert!(batches.iter().all(|batch| batch.dead_letters.is_empty()), "{:?}", batches[0].dead_letters.first());
    commit(&site.path("journal"), &site.path("lake"), batches);
    site
}

/// As a collector leaves it: in the journal and in the tables.
fn commit(journal: &Path, lake: &Path, batches: Vec<ReadingBatch>) {
    let options = JournalOptions {
        dir: journal.to_owned(),
        segment_bytes: 64 << 20,
        keep: Duration::from_secs(86_400),
        keep_bytes: 8 << 30,
    };
    let (mut writer, _) = JournalWriter::open(options).unwrap();
    let lake = Lake::open(lake).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut committer = Committer::open(&lake).await.unwrap();
        for batch in batches {
            let position = writer.append(&batch).unwrap();
            writer.sync().unwrap();
            committer.push(position, Arc::new(batch));
        }
        committer.flush().await.unwrap();
    });
}

fn month(day: CivilDay) -> String {
    format!("{:04}-{:02}", day.year(), day.month())
}

fn period() -> [String; 4] {
    let [first, .., last] = months();
    ["--from".to_owned(), first.plus_days(-1).to_string(), "--to".to_owned(), last.plus_days(1).to_string()]
}

fn redecode(site: &Site, words: &[&str], more: &[&str]) -> Answer {
    let period = period();
    let words: Vec<&str> =
        words.iter().copied().chain(period.iter().map(String::as_str)).chain(more.iter().copied()).collect();
    site.ask(&[&["redecode"][..], words.as_slice()].concat())
}

/// The name that a preview ends with.
fn name(preview: &Answer) -> String {
    assert!(preview.good, "{}{}", preview.out, preview.err);
    preview
        .err
        .trim()
        .rsplit_once("preview ")
        .map(|(_, name)| name.to_owned())
        .unwrap_or_else(|| panic!("{}", preview.err))
}

fn bill(site: &Site) {
    for first in &months()[..3] {
        site.tell(&["billing", "run", "--month", &month(*first)]);
    }
}

/// Changes of issued numbers, as item → delta, and their causes.
fn corrections(site: &Site) -> (BTreeMap<Vec<String>, String>, Vec<String>) {
    let ledger = rows(&site.tell(&["billing", "ledger", "--format", "csv"]));
    let deltas = ledger.iter().map(|row| (row[..5].to_vec(), row[9].clone())).collect();
    let mut causes: Vec<String> = ledger.iter().map(|row| row[6].clone()).collect();
    causes.sort();
    causes.dedup();
    (deltas, causes)
}

#[test]
fn f10_three_months_of_a_wrong_scale_are_previewed_approved_written_once_and_posted() {
    let site = collected(&map(1, "1", ""));
    bill(&site);
    for first in &months()[..3] {
        let issued = site.tell(&["billing", "issue", "--month", &month(*first), "--by", "ana"]);
        assert_eq!(rows(&issued).len(), 3 * 3, "{issued}");
    }
    // With the map as it was nothing changes.
    let same = redecode(&site, &["preview"], &[]);
    assert!(same.good && same.err.contains("nothing is to be written"), "{}{}", same.out, same.err);
    assert_eq!(rows(&same.out), Vec::<Vec<String>>::new());

    std::fs::write(site.path("steps.toml"), map(2, "0.1", "")).unwrap();
    let preview = redecode(&site, &["preview"], &["--topic", "steps/s1"]);
    let id = name(&preview);
    let readings = rows(&preview.out);
    let count = messages().len() / 3;
    assert_eq!(readings.len(), 1, "{}", preview.out);
    assert_eq!(
        readings[0][..6],
        ["s1", ENERGY, "0", &count.to_string(), "0", "0"].map(str::to_owned),
        "{}",
        preview.out
    );
    assert_eq!(
        (readings[0][7].as_str(), readings[0][8].as_str(), readings[0][12].as_str()),
        ("10000.000", "1000.000", "0.1")
    );
    let expected = redecode(&site, &["preview"], &["--topic", "steps/s1", "--show", "bills"]);
    assert_eq!(name(&expected), id, "the same again is the same preview");
    let expected: BTreeMap<Vec<String>, String> =
        rows(&expected.out).iter().map(|row| (row[..5].to_vec(), row[7].clone())).collect();
    assert_eq!(expected.len(), 3 * 3, "three months of two reads and a use: {expected:?}");
    let usage = redecode(&site, &["preview"], &["--topic", "steps/s1", "--show", "usage", "--format", "json"]);
    assert!(usage.out.lines().count() >= 3, "{}", usage.out);
    assert_eq!(corrections(&site).0.len(), 0, "a preview changes nothing");
    let written = "SELECT count(*) FROM electricity_readings WHERE revision > 0";
    assert_eq!(site.number(written), 0);

    // Two people; nobody agrees with themselves; what is written is what was seen.
    let by = ["--topic", "steps/s1", "--reason", "factor of the map", "--by", "ana"];
    let other = redecode(&site, &["apply", &id], &["--topic", "steps/s2", "--reason", "x", "--by", "ana"]);
    assert!(!other.good && other.err.contains("is not what preview"), "{}", other.err);
    let proposed = redecode(&site, &["apply", &id], &by);
    assert!(proposed.good && proposed.out.contains("is proposed"), "{}{}", proposed.out, proposed.err);
    assert_eq!(site.number(written), 0);
    let alone = site.ask(&["redecode", "approve", &id, "--by", "Ana"]);
    assert!(!alone.good && alone.err.contains("somebody else has to approve"), "{}", alone.err);
    let done = site.tell(&["redecode", "approve", &id, "--by", "bo"]);
    assert!(done.contains(&format!("{count} rows are durable")), "{done}");
    assert_eq!(site.number(written), i64::try_from(count).unwrap());
    assert_eq!(site.number("SELECT count(*) FROM electricity WHERE meter_id = 's1'"), i64::try_from(count).unwrap());
    let then = "SELECT CAST(max(energy_import_kwh) AS BIGINT) FROM electricity_readings WHERE meter_id = 's1' AND revision = 0";
    assert!(site.number(then) > 10_000, "what was read before stays as an earlier revision");

    // Again, by whatever command, is nothing.
    let again = site.tell(&["redecode", "approve", &id, "--by", "bo"]);
    assert!(again.contains("nothing is to be written"), "{again}");
    let again = redecode(&site, &["apply", &id], &by);
    assert!(again.out.contains("nothing is to be written"), "{}{}", again.out, again.err);
    let fresh = redecode(&site, &["preview"], &["--topic", "steps/s1"]);
    assert!(fresh.err.contains("nothing is to be written"), "{}", fresh.err);
    assert_eq!(site.number(written), i64::try_from(count).unwrap());
    let steps: Vec<String> = rows(&site.tell(&["redecode", "list"])).into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(steps, ["proposed", "approved", "applied"]);

    bill(&site);
    let (deltas, causes) = corrections(&site);
    assert_eq!(causes, ["re_decode"]);
    assert_eq!(deltas, expected, "the result is what the preview said");
    let unequal = site.query(
        "SELECT usage_point_id, run FROM billing_reads JOIN
           (SELECT usage_point_id, part, run, sum(delta) AS total FROM billing_corrections
            WHERE determinant = 'use' GROUP BY 1, 2, 3) l USING (usage_point_id, run)
         WHERE channel = part AND total <> use_amount",
    );
    assert_eq!(unequal, Vec::<Vec<String>>::new(), "the sum of all deltas is the present value");
}

#[test]
fn a_re_decode_that_is_killed_anywhere_is_applied_by_the_same_command_without_doubles() {
    let wrong = map(1, "1", "\n[fields.voltage_l1_v]\npath = \"v\"\nunit = \"V\"\nfactor = \"0.1\"\n");
    let site = collected(&wrong);
    // The mended map reads no voltage any more, and nothing of a third meter.
    let mended = map(2, "0.1", "\n[[ignore]]\npath = \"n\"\nany = [\"500\"]\n");
    std::fs::write(site.path("steps.toml"), mended).unwrap();
    let preview = redecode(&site, &["preview"], &[]);
    let id = name(&preview);
    let gone =
        rows(&preview.out).iter().filter(|row| row[1] == "voltage_l1_v").map(|row| row[5].clone()).collect::<Vec<_>>();
    let count = messages().len() / 3;
    assert_eq!(gone, vec![count.to_string(); 3], "{}", preview.out);

    let period = period();
    let mut words = vec!["redecode", "apply", &id, "--reason", "scale", "--by", "ana"];
    words.extend(period.iter().map(String::as_str));
    for wait_ms in [400, 900, 1500] {
        let mut child = site
            .command(&words)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let spool = site.path("journal").join("replay");
        let mut waited = 0;
        // As soon as something lies there, or somewhat later.
        while child.try_wait().unwrap().is_none() && waited < 60_000 {
            let lies = std::fs::read_dir(&spool).is_ok_and(|mut entries| entries.next().is_some());
            if lies {
                std::thread::sleep(Duration::from_millis(wait_ms));
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            waited += 20;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let answer = site.ask(&words);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let answer = site.ask(&words);
    assert!(answer.out.contains("nothing is to be written"), "{}{}", answer.out, answer.err);

    let all = i64::try_from(messages().len()).unwrap();
    assert_eq!(site.number("SELECT count(*) FROM electricity_readings WHERE revision > 0"), all, "each once");
    assert_eq!(site.number("SELECT count(voltage_l1_v) FROM electricity"), 0);
    assert_eq!(site.number("SELECT count(voltage_l1_v) FROM electricity_readings"), all, "and kept");
    // The first message of the third meter says nothing any more.
    assert_eq!(site.number("SELECT count(*) FROM electricity"), all - 1);
    assert_eq!(site.number("SELECT count(*) FROM electricity WHERE energy_import_kwh > 9000"), 0);
}

#[test]
fn what_selects_nothing_is_refused_with_the_reason() {
    let site = collected(&map(1, "1", ""));
    for (words, reason) in [
        (&["--topic", "steps/none"][..], "none of the"),
        (&["--source", "field"][..], "no broker or Modbus line `field` is configured; there are yard"),
        (&["--map", "other"][..], "no map or profile `other` is configured; there are steps"),
        (&["--topic", "a#"][..], "fill a whole level"),
        (&["--unit", "7"][..], "--source"),
    ] {
        let answer = redecode(&site, &["preview"], words);
        assert!(!answer.good && answer.err.contains(reason), "{words:?}: {}", answer.err);
    }
    let early = site.ask(&["redecode", "preview", "--from", "2019-01-01", "--to", "2019-02-01"]);
    assert!(!early.good && early.err.contains("are gone"), "{}", early.err);
    let unknown = redecode(&site, &["apply", "7-abc"], &["--reason", "x", "--by", "ana"]);
    assert!(!unknown.good, "{}", unknown.out);
}
