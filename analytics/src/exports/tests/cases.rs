//! What each format says, and how files appear.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use meterlake_model::{Amount, Method, Quality};
use meterlake_store::durable::{DiskSync, SystemSync};
use proptest::prelude::*;

use super::sample::{amount, curve, day, electricity, head, item, options, water, written, written_of};
use crate::exports::{Column, ExportError, ExportOptions, Exported, Exporter, Folder, Format, Held, Item, Point};

/// The formats that are texts and have a file of ours to be compared with.
const GOLDEN: [(Format, &str, &str); 5] = [
    (Format::Csv, "items.csv", include_str!("golden/items.csv")),
    (Format::Json, "items.json", include_str!("golden/items.json")),
    (Format::Espi, "feed.espi.xml", include_str!("golden/feed.espi.xml")),
    (Format::Nem12, "curves.nem12.csv", include_str!("golden/curves.nem12.csv")),
    (Format::Iec61968, "readings.iec61968.xml", include_str!("golden/readings.iec61968.xml")),
];

#[test]
fn files_are_those_beside_this_test_byte_for_byte() {
    // METERLAKE_GOLDEN=DIR writes them there, to be read and then put in place.
    let to = std::env::var("METERLAKE_GOLDEN").ok();
    for (format, name, golden) in GOLDEN {
        // Of the curves in XML what a person reads: some of each kind.
        let keep = |at| format == Format::Nem12 || [2, 3, 4, 10, 59, 60].contains(&at);
        let text = String::from_utf8(written_of(format, keep).0).unwrap();
        if let Some(to) = &to {
            std::fs::write(Path::new(to).join(name), &text).unwrap();
        }
        assert!(text == golden || to.is_some(), "{name} differs:\n{text}");
    }
}

#[test]
fn what_a_format_has_no_place_for_is_named() {
    for format in [Format::Csv, Format::Json, Format::Parquet, Format::Iec61968] {
        assert_eq!(written(format).1, Vec::<String>::new(), "{format:?}");
    }
    assert_eq!(
        written(Format::Espi).1,
        [
            "NMI0000001/start_read/energy_import_kwh/2026-04-04: a register as read has no place in ESPI",
            "NMI0000001/end_read/energy_import_kwh/2026-04-04: a register as read has no place in ESPI",
        ]
    );
    assert_eq!(written(Format::Nem12).1, ["W, \"1\": NEM12 is for electricity"]);
    let left = |change: &dyn Fn(&mut Point)| {
        let mut point = electricity(Format::Nem12);
        change(&mut point);
        let (head, options) = (head(None), options());
        let mut writer = Format::Nem12.begin(&head, &options, Vec::new()).unwrap();
        writer.point(&point).unwrap().into_iter().map(|l| l.why).collect::<Vec<_>>()
    };
    let span =
        Format::Nem12.curve_span(&electricity(Format::Nem12).zone, day("2026-04-04"), day("2026-04-06")).unwrap();
    let other =
        |channel, interval_s, span| curve(channel, interval_s, span, |_| (Some("1"), Quality::Valid, None, "M1"));
    let shifted = (span.0.plus_seconds(60), span.1);
    for (change, why) in [
        (
            &(|p: &mut Point| p.usage_point_id = "E1".into()) as &dyn Fn(&mut Point),
            "the id is no NMI of 10 capital letters and digits",
        ),
        (&|p| p.curves.clear(), "there is no curve of it"),
        (&|p| p.curves[1] = other("energy_export_kwh", 3600, span), "intervals of NEM12 have 5, 15 or 30 minutes"),
        (
            &|p| p.curves[1] = other("energy_export_kwh", 900, shifted),
            "its slots do not lie on the grid of market time",
        ),
        (&|p| p.curves[1] = other("energy_import_delta_kwh", 900, span), "another channel has its data stream"),
        (&|p| p.curves[1] = other("energy_import_t1_kwh", 900, span), "NEM12 has no data stream for it"),
    ] {
        assert_eq!(left(change), [why]);
    }
}

#[test]
fn an_item_has_one_id_in_every_format_that_names_items() {
    let ids = ["NMI0000001/use/energy_import_kwh/2026-04-04", "NMI0000001/max_kw/all/2026-04-04"];
    for format in [Format::Csv, Format::Json, Format::Espi, Format::Iec61968] {
        let text = String::from_utf8(written(format).0).unwrap();
        for id in ids {
            assert_eq!(text.matches(id).count(), 1, "{format:?} {id}");
        }
        assert!(text.contains("/use/volume_m3/2026-04-04#2"), "{format:?}: a correction is another item than its bill");
    }
}

#[test]
fn csv_has_the_columns_of_the_configuration() {
    let columns = ["value", "usage_point_id"].map(|name| Column::by_name(name).unwrap()).to_vec();
    let (head, options) = (head(None), ExportOptions { columns, ..options() });
    let mut writer = Format::Csv.begin(&head, &options, Vec::new()).unwrap();
    writer.point(&water(Format::Csv)).unwrap();
    assert_eq!(writer.finish().unwrap(), b"value,usage_point_id\n0.370350,\"W, \"\"1\"\"\"\n");
    for column in Column::ALL {
        assert_eq!(Column::by_name(column.name()), Some(column));
    }
}

#[test]
fn the_estimated_share_is_exact_to_a_millionth() {
    for (value, estimated, share) in
        [("3", "1", "0.333333"), ("0", "0", "0"), ("-2", "-1", "0.5"), ("474", "34", "0.071730"), ("5", "5", "1")]
    {
        let item = Item { estimated: amount(estimated), ..item("use", "volume_m3", "m3", value) };
        assert_eq!(item.estimated_share(), amount(share), "{estimated} of {value}");
    }
}

#[test]
fn a_market_day_is_twenty_four_hours_whatever_summer_time_does() {
    let text = String::from_utf8(written(Format::Nem12).0).unwrap();
    let days: Vec<&str> = text.lines().filter(|l| l.starts_with("300,")).collect();
    assert_eq!(days.len(), 4, "two days of two data streams");
    for line in days {
        assert_eq!(line.split(',').count(), 2 + 48 + 5, "{line}");
    }
    // By civil time the second day has 25 hours.
    let blocks = String::from_utf8(written(Format::Espi).0).unwrap();
    assert!(blocks.contains("<espi:duration>90000</espi:duration>"), "{blocks}");
}

#[test]
fn a_number_that_a_format_cannot_say_is_refused() {
    let (head, options) = (head(None), options());
    let refused = |format: Format, point: &Point| {
        let mut writer = format.begin(&head, &options, Vec::new()).unwrap();
        writer.point(point).map_err(|e| e.to_string())
    };
    let mut point = electricity(Format::Nem12);
    point.curves[0].slots[1].value = Some(amount("-0.001"));
    let error = refused(Format::Nem12, &point).unwrap_err();
    assert!(
        error.starts_with("NMI0000001 energy_import_kwh 2026-04-03T14:30:00Z: -0.001 has no place in NEM12"),
        "{error}"
    );
    let mut point = electricity(Format::Espi);
    point.items[2].value = amount("140737488.355327");
    refused(Format::Espi, &point).unwrap();
    point.items[2].value = amount("140737488.355328");
    assert!(refused(Format::Espi, &point).unwrap_err().contains("has no place in ESPI: values have at most 48 bits"));
}

proptest! {
    /// Largest where it hurts: thousands of slots of any size.
    #[test]
    fn rounding_of_nem12_never_adds_up(micros in proptest::collection::vec(0_i64..5_000_000, 96)) {
        let mut point = electricity(Format::Nem12);
        point.curves.truncate(1);
        for (slot, micros) in point.curves[0].slots.iter_mut().zip(&micros) {
            slot.value = Amount::from_micros(*micros);
            slot.quality = Quality::Valid;
        }
        let (head, options) = (head(None), options());
        let mut writer = Format::Nem12.begin(&head, &options, Vec::new()).unwrap();
        writer.point(&point).unwrap();
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        let said: Vec<Amount> = text
            .lines()
            .filter(|l| l.starts_with("300,"))
            .flat_map(|l| l.split(',').skip(2).take(48).map(amount))
            .collect();
        prop_assert_eq!(said.len(), 96);
        let (mut exact, mut sum) = (0, 0);
        for (micros, said) in micros.iter().zip(said) {
            exact += micros;
            sum += said.micros();
            prop_assert!((exact - sum).abs() <= 500, "{} is said as {}", exact, sum);
        }
    }

    #[test]
    fn every_quality_has_its_codes(quality in 0..Quality::ALL.len(), method in 0_usize..12) {
        let methods = ["no_supply", "twin", "closure", "linear", "like_day", "day_type", "proxy_day", "profile", "project", "boundary", "even"];
        let (quality, method) = (Quality::ALL[quality], methods.get(method).and_then(|m| Method::parse(m)));
        let nem12 = crate::exports::codes::nem12_quality(quality, method);
        // AEMO: actual and null alone, the others with a method of two digits.
        let flag = nem12.as_bytes()[0];
        prop_assert_eq!(nem12.len(), if b"AN".contains(&flag) { 1 } else { 3 });
        prop_assert!(b"AENSF".contains(&flag));
        prop_assert_eq!(flag == b'A', matches!(quality, Quality::Valid | Quality::Verified));
        let cim = crate::exports::codes::cim_quality(quality, method);
        prop_assert!(cim.starts_with("3.") && cim.split('.').count() == 3);
        prop_assert_eq!(cim.starts_with("3.8."), quality.is_estimate());
    }
}

fn folder(path: &Path, sync: Arc<dyn DiskSync>) -> Folder {
    Folder { path: path.to_owned(), sync }
}

fn export(folder: &Folder, format: Format, change: impl Fn(&mut Point)) -> Result<Exported, ExportError> {
    let (head, options) = (head(Some(7)), options());
    let mut exporter = Exporter::begin(folder, &head, format, &options)?;
    for mut point in [electricity(format), water(format)] {
        change(&mut point);
        exporter.point(&point)?;
    }
    exporter.finish(vec![Held {
        usage_point_id: "E9".into(),
        channel: "energy_import_kwh".into(),
        first_day: "2026-04-04".into(),
        last_day: "2026-04-05".into(),
        state: "held".into(),
        reasons: vec!["backward".into()],
    }])
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn rule_6_the_same_export_again_is_the_same_bytes_and_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(&dir.path().join("out"), Arc::new(SystemSync));
    for format in Format::ALL {
        let first = export(&folder, format, |_| {}).unwrap();
        assert!(!first.was_there);
        let bytes = std::fs::read(&first.path).unwrap();
        let manifest = std::fs::read(&first.manifest_path).unwrap();
        let again = export(&folder, format, |_| {}).unwrap();
        assert!(again.was_there && again.manifest == first.manifest, "{format:?}");
        assert_eq!(std::fs::read(&first.path).unwrap(), bytes);
        let other = export(&folder, format, |p| {
            p.items.iter_mut().for_each(|i| i.value = amount("9"));
            p.curves.iter_mut().flat_map(|c| &mut c.slots).for_each(|s| s.value = Some(amount("9")));
        });
        let error = other.unwrap_err();
        assert!(matches!(error, ExportError::Differs { .. }), "{error}");
        assert_eq!(std::fs::read(&first.path).unwrap(), bytes, "nothing was overwritten");
        assert_eq!(std::fs::read(&first.manifest_path).unwrap(), manifest);
        assert_eq!(first.manifest.file.sha256.len(), 64);
        assert_eq!(first.manifest.file.bytes, bytes.len() as u64);
    }
    let all = names(&folder.path);
    assert_eq!(all.len(), 2 * Format::ALL.len(), "{all:?}");
    assert!(all.contains(&"billing-2026-04-list-7.nem12.csv.manifest.json".to_owned()), "{all:?}");
}

#[test]
fn the_manifest_says_what_is_in_the_file_what_it_rests_on_and_what_is_not_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path(), Arc::new(SystemSync));
    let exported = export(&folder, Format::Espi, |_| {}).unwrap();
    let text = std::fs::read_to_string(&exported.manifest_path).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(manifest["pins"]["commit_seq"], 4711);
    assert_eq!(manifest["pins"]["program"], "meterlake 0.1.0");
    assert_eq!(manifest["file"]["items"], 5);
    assert_eq!(manifest["held"][0]["reasons"][0], "backward");
    assert_eq!(manifest["left_out"][0]["count"], 2);
    let total = |determinant: &str| {
        let totals = manifest["totals"].as_array().unwrap();
        totals.iter().find(|t| t["determinant"] == determinant && t["part"] != "volume_m3").unwrap().clone()
    };
    assert_eq!(total("use")["value"], "60.500001");
    assert_eq!(total("use")["estimated"], "0.801000");
    assert_eq!(total("start_read")["value"], serde_json::Value::Null, "registers are not added up");
}

/// Notes every sync, and fails the n-th.
#[derive(Debug, Default)]
struct Noted {
    calls: Mutex<Vec<String>>,
    fail_at: usize,
}

impl Noted {
    fn note(&self, what: String) -> io::Result<()> {
        let mut calls = self.calls.lock().unwrap();
        calls.push(what);
        if calls.len() == self.fail_at { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }
}

impl DiskSync for Noted {
    fn file(&self, file: &File) -> io::Result<()> {
        self.note(format!("file of {} bytes", file.metadata()?.len()))
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        self.note(format!("folder of {:?}", names(path)))
    }
}

#[test]
fn bytes_are_synced_before_their_name_and_the_manifest_comes_last() {
    let dir = tempfile::tempdir().unwrap();
    let noted = Arc::new(Noted::default());
    let folder = folder(&dir.path().join("out"), noted.clone());
    let exported = export(&folder, Format::Csv, |_| {}).unwrap();
    let calls = noted.calls.lock().unwrap().clone();
    let bytes = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert_eq!(calls[0], "folder of [\"out\"]", "the folder itself");
    assert_eq!(calls[1], format!("file of {} bytes", bytes(&exported.path)));
    assert_eq!(calls[2], "folder of [\".billing-2026-04-list-7.csv.part-1\", \"billing-2026-04-list-7.csv\"]");
    assert_eq!(calls[3], format!("file of {} bytes", bytes(&exported.manifest_path)));
    assert!(calls[4].contains("\"billing-2026-04-list-7.csv.manifest.json\""), "{calls:?}");
    assert_eq!(calls.len(), 5);
    assert_eq!(names(&folder.path).len(), 2, "no staging file stays");
}

#[test]
fn rule_11_after_a_failed_sync_there_is_an_error_and_the_next_export_completes() {
    for fail_at in 1..=5 {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let failing = folder(&out, Arc::new(Noted { fail_at, ..Noted::default() }));
        let error = export(&failing, Format::Csv, |_| {}).unwrap_err();
        assert!(error.to_string().contains("the disk is gone"), "{error}");
        let whole = export(&folder(&out, Arc::new(SystemSync)), Format::Csv, |_| {}).unwrap();
        assert_eq!(std::fs::read(&whole.path).unwrap(), written(Format::Csv).0, "{fail_at}");
        assert_eq!(names(&out).len(), 2, "{fail_at}");
    }
}
