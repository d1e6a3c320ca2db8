use std::sync::Arc;

use meterlake_model::ledger::TableValue;
use meterlake_model::{Channel, MeterId, Timestamp};

use super::*;
use crate::history::message;
use crate::message::{Malformed, MessageForm, Rows};

fn channels() -> Arc<[Channel]> {
    ["energy_import_kwh", "voltage_l1_v"].into_iter().filter_map(Channel::by_name).collect()
}

fn reading(meter: &str, second: i64, values: [i64; 2]) -> Message {
    let mut rows = Rows::new(MeterId::new(meter).unwrap(), channels());
    rows.push(Timestamp::from_unix_seconds(second).unwrap(), &values);
    message(MessageKind::Fresh, MessageForm::Singles, rows)
}

fn table(meter: &str, second: i64, values: [i64; 2]) -> impl Iterator<Item = TableValue> {
    let (meter_id, ts) = (MeterId::new(meter).unwrap(), Timestamp::from_unix_seconds(second).unwrap());
    let channels = channels();
    (0..2).map(move |i| TableValue { meter_id: meter_id.clone(), ts, channel: channels[i], value: values[i] })
}

/// A ledger of three acknowledged readings and one that was not.
fn ledger() -> (tempfile::TempDir, LedgerContents) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.tsv");
    let mut ledger = Ledger::create(&path).unwrap();
    for (meter, second) in [("a", 100), ("a", 200), ("b", 100), ("b", 200)] {
        let number = ledger.sent(&reading(meter, second, [second, 2300])).unwrap();
        if (meter, second) != ("b", 200) {
            ledger.acknowledged(&[number]).unwrap();
        }
    }
    ledger.sync().unwrap();
    let contents = LedgerContents::read(&path).unwrap();
    (folder, contents)
}

#[test]
fn a_table_with_all_that_was_acknowledged_is_good_with_or_without_the_rest() {
    let (_folder, ledger) = ledger();
    assert_eq!((ledger.messages(), ledger.acknowledged(), ledger.values()), (4, 3, 8));
    let good = || table("a", 100, [100, 2300]).chain(table("a", 200, [200, 2300])).chain(table("b", 100, [100, 2300]));
    assert!(ledger.check(good()).is_good());
    let all = ledger.check(good().chain(table("b", 200, [200, 2300])));
    assert!(all.is_good());
    assert_eq!((all.acknowledged, all.in_table), (6, 8));
}

#[test]
fn each_planted_fault_is_found_as_what_it_is() {
    let (_folder, ledger) = ledger();
    let rows = table("a", 100, [100, 2300])
        .chain(table("a", 100, [100, 2300]))
        .chain(table("a", 200, [200, 2299]))
        .chain(table("c", 100, [1, 2300]))
        .chain(table("b", 300, [1, 2300]));
    let checked = ledger.check(rows);
    assert_eq!(checked.doubled.count, 2);
    assert_eq!(checked.differing.count, 1);
    assert_eq!(checked.differing.examples[0].value, 2299);
    assert_eq!(checked.invented.count, 4, "an unknown meter and an unknown time, two values each");
    assert_eq!(checked.lost.count, 3, "the voltage that differs and both values of b");
    assert!(!checked.is_good());
    assert!(checked.to_string().contains("3 lost (first: a 1970-01-01T00:03:20Z voltage_l1_v 2300 of 10^-1)"));
}

#[test]
fn a_contradicting_value_is_expected_beside_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.tsv");
    let mut ledger = Ledger::create(&path).unwrap();
    for values in [[100, 2300], [107, 2300], [100, 2300]] {
        let number = ledger.sent(&reading("a", 100, values)).unwrap();
        ledger.acknowledged(&[number]).unwrap();
    }
    let ledger = LedgerContents::read(&path).unwrap();
    let both = || table("a", 100, [100, 2300]).chain(table("a", 100, [107, 2300]));
    let checked = ledger.check(both());
    assert!(checked.is_good(), "{checked}");
    let one = ledger.check(both().take(2));
    assert_eq!((one.lost.count, one.lost.examples[0].value), (1, 107));
    let three = ledger.check(both().chain(table("a", 100, [107, 2300])));
    assert_eq!(three.doubled.count, 2);
}

#[test]
fn a_torn_last_line_does_not_count_and_damage_elsewhere_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.tsv");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write("meterlake-ledger\t1\nsent\t0\ta\t100\tvolume_m3=5\nacked\t0\nsent\t1\ta\t200\tvol");
    let contents = LedgerContents::read(&path).unwrap();
    assert_eq!((contents.messages(), contents.acknowledged()), (1, 1));

    for (text, expected) in [
        ("", "ledger.tsv:1: the file is empty"),
        ("hello\n", "ledger.tsv:1: `hello` does not begin a ledger of version 1"),
        ("meterlake-ledger\t1\nsent\t0\ta\t100\tvolume=5\n", "ledger.tsv:2: `volume` is no channel"),
        ("meterlake-ledger\t1\nacked\tx\n", "ledger.tsv:2: `x` is no number of a message"),
    ] {
        write(text);
        let error = LedgerContents::read(&path).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn what_nobody_can_read_is_not_expected_in_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.tsv");
    let mut ledger = Ledger::create(&path).unwrap();
    let broken = crate::malformed::message(Malformed::NoTime, &reading("a", 100, [1, 2]).rows);
    let number = ledger.sent(&broken).unwrap();
    ledger.acknowledged(&[number]).unwrap();
    let contents = LedgerContents::read(&path).unwrap();
    assert_eq!((contents.messages(), contents.values()), (0, 0));
}
