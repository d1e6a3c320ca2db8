use std::collections::{BTreeSet, HashSet};
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// A recording of these lines in a folder of its own.
fn recording(dataset: Dataset, lines: &str) -> (tempfile::TempDir, Recording) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(dataset.file());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
    file.write_all(lines.as_bytes()).unwrap();
    file.finish().unwrap();
    let recording = Recording::open(dataset, folder.path()).unwrap();
    (folder, recording)
}

fn payloads(recording: &Recording, per_message: usize) -> Vec<(String, String)> {
    let text = |m: Message| (m.topic.to_string(), String::from_utf8(m.payload.to_vec()).unwrap());
    recording.messages(per_message).unwrap().map(|m| text(m.unwrap())).collect()
}

#[test]
fn registers_keep_their_text_and_local_time() {
    let (_folder, daiad) = recording(
        Dataset::Daiad,
        "user key;datetime;meter reading;diff\na-1;30/10/2016 02:15:00;399990;0\na-1;30/10/2016 02:15:00;4e+05;10\nb-2;01/03/2016 00:00:01;7;0\n",
    );
    let topic = "litres/a-1/reading".to_owned();
    let singles = payloads(&daiad, 1);
    assert_eq!(singles.len(), 3);
    assert_eq!(singles[1], (topic.clone(), r#"{"datetime":"30/10/2016 02:15:00","litres":4e+05}"#.to_owned()));
    let frames = payloads(&daiad, 50);
    assert_eq!(frames.len(), 2);
    assert_eq!(
        frames[0],
        (
            topic,
            r#"{"readings":[{"datetime":"30/10/2016 02:15:00","litres":399990},{"datetime":"30/10/2016 02:15:00","litres":4e+05}]}"#
                .to_owned()
        )
    );
    let rows = daiad.messages(50).unwrap().next().unwrap().unwrap().rows;
    assert_eq!(rows.values, [399_990, 400_000]);
    assert_eq!(rows.times[0].to_string(), "2016-10-30T00:15:00Z", "the earlier of the two instants");
}

#[test]
fn use_bears_the_end_of_its_interval() {
    let (_folder, swiss) =
        recording(Dataset::Swiss, "household,iso_week,slot,kwh\n17,44,1,0.161\n17,44,672,0.123456\n17,45,1,1\n");
    assert_eq!(
        payloads(&swiss, 1),
        [
            r#"{"ts":"2015-10-25T23:15:00Z","energy_import_delta_kwh":0.161}"#,
            r#"{"ts":"2015-11-01T23:00:00Z","energy_import_delta_kwh":0.123456}"#,
            r#"{"ts":"2015-11-01T23:15:00Z","energy_import_delta_kwh":1}"#,
        ]
        .map(|json| ("meterlake/v1/swiss-17/readings".to_owned(), json.to_owned()))
    );
    let sums: Vec<_> =
        swiss.weekly_use().unwrap().into_iter().map(|((_, week), sum)| (week, sum.to_string())).collect();
    assert_eq!(sums, [(44, "0.284456".to_owned()), (45, "1.000000".to_owned())]);

    let (_folder, perth) = recording(Dataset::Perth, "household,hour,litres,leak\n3,0,11,1\n3,24,2,0\n");
    assert_eq!(
        payloads(&perth, 1).into_iter().map(|(_, json)| json).collect::<Vec<_>>(),
        [
            r#"{"ts":"2013-12-31T17:00:00Z","volume_delta_m3":0.011}"#,
            r#"{"ts":"2014-01-01T17:00:00Z","volume_delta_m3":0.002}"#,
        ]
    );
    let day = CivilDay::parse("2014-01-01").unwrap();
    assert_eq!(perth.leak_days().unwrap(), [(UsagePointId::new("UP-perth-3").unwrap(), day)]);
}

#[test]
fn the_registry_knows_every_meter_of_the_file() {
    let (_folder, daiad) = recording(
        Dataset::Daiad,
        "user key;datetime;meter reading;diff\nb;01/03/2016 00:00:01;7;0\na;01/03/2016 00:00:01;7;0\nb;01/03/2016 01:00:01;8;1\n",
    );
    let registry = daiad.registry().unwrap();
    assert_eq!(registry.meters.keys().map(MeterId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(registry.installations.len(), 2);
    let point = &registry.usage_points[&UsagePointId::new("UP-a").unwrap()];
    assert_eq!(point.zone.name(), "Europe/Madrid");
    assert_eq!(registry.installations[0].channels[0].resolution.to_string(), "0.001000");
}

#[test]
fn a_bad_line_is_named_and_ends_the_replay() {
    let (_folder, swiss) =
        recording(Dataset::Swiss, "household,iso_week,slot,kwh\n17,44,1,0.1\n17,44,673,0.1\n17,44,3,1\n");
    let mut messages = swiss.messages(1).unwrap();
    assert!(messages.next().unwrap().is_ok());
    let error = messages.next().unwrap().unwrap_err().to_string();
    assert!(error.ends_with("intervals.csv.gz:3: there is no slot 673 of week 44"), "{error}");
    assert!(messages.next().is_none());
}

#[test]
fn a_folder_without_the_file_says_what_to_set() {
    let error = Recording::open(Dataset::Perth, Path::new("nowhere")).unwrap_err().to_string();
    assert_eq!(
        error,
        "recorded file nowhere/perth-water/hourly.csv.gz is not there: set METERLAKE_DATA to the folder that holds perth"
    );
}

/// The recorded set, or nothing where it is not there.
fn recorded(dataset: Dataset) -> Option<Recording> {
    Recording::open(dataset, &data_folder()).ok()
}

#[test]
fn the_recorded_sets_have_the_counts_that_their_authors_state() {
    for (dataset, readings, meters) in
        [(Dataset::Daiad, 674_019, 92), (Dataset::Swiss, 705_600, 150), (Dataset::Perth, 215_040, 80)]
    {
        let Some(recording) = recorded(dataset) else { continue };
        let (mut count, mut rows) = (0, 0);
        let mut seen = BTreeSet::new();
        for message in recording.messages(200).unwrap() {
            let message = message.unwrap();
            count += 1;
            rows += message.rows.len();
            seen.insert(message.rows.meter_id);
        }
        assert_eq!((rows, seen.len()), (readings, meters), "{dataset:?}");
        assert!(count < readings / 100);
        assert_eq!(recording.registry().unwrap().meters.len(), meters);
        assert_eq!(recording.messages(1).unwrap().count(), readings);
    }
}

#[test]
fn the_spanish_set_has_its_repeats_and_exponents() {
    let Some(recording) = recorded(Dataset::Daiad) else { return };
    let (mut distinct, mut exponents) = (HashSet::new(), 0);
    for message in recording.messages(1).unwrap() {
        let message = message.unwrap();
        exponents += usize::from(message.payload.windows(2).any(|w| w == b"e+"));
        distinct.insert((message.rows.meter_id, message.rows.times[0], message.rows.values[0]));
    }
    assert_eq!((distinct.len(), exponents), (673_949, 5));
}

#[test]
fn the_australian_set_has_its_leak_days() {
    let Some(recording) = recorded(Dataset::Perth) else { return };
    assert_eq!(recording.leak_days().unwrap().len(), 1051);
}
