//! The cases under their ids.

use std::collections::BTreeSet;

use meterlake_model::{Channel, Quality, Timestamp};

use super::*;
use crate::runs::{BillState, Event, Step, bill_state};
use crate::usage::tests::{at, hourly, reading};

const MARCH: (&str, &str) = ("2026-03-01", "2026-04-01");
const APRIL: (&str, &str) = ("2026-04-01", "2026-05-01");

fn of((from, to): (&str, &str)) -> Cycle {
    cycle(from, to)
}

fn rows(rows: &[(&str, Cause, &str)]) -> Vec<(String, Cause, String)> {
    rows.iter().map(|(what, cause, delta)| ((*what).to_owned(), *cause, (*delta).to_owned())).collect()
}

/// A meter that is read by hand on the first of a month: 10 a day in February, and then silence.
fn silent_from_march(zone: &str) -> Case {
    let mut case = in_zone(Case::electricity().meter(&[]), zone);
    case.meters[0].0.installed_at = Some(case.point.zone.start_of_day(day("2026-02-01")));
    case.meters[0].1.start_register = Some(amount("720"));
    at_midnight(&mut case, "2026-02-01", "720");
    at_midnight(&mut case, "2026-03-01", "1000");
    case
}

/// March is billed at the customer's own average after a person let it go; then nothing more is known.
fn march_billed(zone: &str) -> (Case, Book) {
    let case = silent_from_march(zone);
    let mut book = Book::default();
    let (early, _) = book.bill(&case, of(MARCH), "2026-04-02");
    assert!(matches!(gate(&early.facts, &GateRules::default()), Gate::Wait(_)), "it waits for the deadline");
    let (bill, _) = book.bill(&case, of(MARCH), "2026-04-04");
    assert_eq!(bill.read.use_amount, Some(amount("310")), "{:?}", bill.days);
    let end = bill.read.end_read.unwrap();
    assert_eq!((end.register, end.quality), (Some(amount("1310")), Quality::Estimated));
    let held = gate(&bill.facts, &GateRules::default());
    let Gate::Hold(reasons) = &held else { panic!("more than half of it is an estimate: {held:?}") };
    let covers: BTreeSet<String> = reasons.iter().map(|r| r.key()).collect();
    let event = Event { seq: 1, at: at("2026-04-04"), by: "ana".to_owned(), step: Step::Release { covers } };
    assert_eq!(bill_state(&held, &[event]), BillState::Ready, "a named person lets it go");
    let posted = book.post(&case, of(MARCH), "2026-04-04");
    assert_eq!(posted.len(), 3, "{posted:?}");
    (case, book)
}

#[test]
fn f01_the_next_bill_begins_where_the_estimate_ended() {
    let (mut case, mut book) = march_billed("Europe/Madrid");
    at_midnight(&mut case, "2026-05-01", "1580");
    assert_eq!(book.post(&case, of(MARCH), "2026-05-01"), [], "the issued estimate is pinned");
    let (april, _) = book.bill(&case, of(APRIL), "2026-05-01");
    assert_eq!(april.read.use_amount, Some(amount("270")));
    assert_eq!(gate(&april.facts, &GateRules::default()), Gate::Open { despite: vec![] }, "{:?}", april.facts);
    book.post(&case, of(APRIL), "2026-05-01");
    assert_eq!([book.current(USE, of(MARCH)), book.current(USE, of(APRIL))], ["310", "270"]);
    assert_eq!(book.current(END_READ, of(MARCH)), book.current(START_READ, of(APRIL)));
}

#[test]
fn f02_an_actual_read_at_the_boundary_corrects_both_bills() {
    let (mut case, mut book) = march_billed("Europe/Madrid");
    at_midnight(&mut case, "2026-05-01", "1580");
    book.post(&case, of(APRIL), "2026-05-01");
    at_midnight(&mut case, "2026-04-01", "1295");
    let march = book.post(&case, of(MARCH), "2026-05-03");
    assert_eq!(march, rows(&[(END_READ, Cause::LateRead, "-15"), (USE, Cause::LateRead, "-15")]));
    let april = book.post(&case, of(APRIL), "2026-05-03");
    assert_eq!(april, rows(&[(START_READ, Cause::LateRead, "-15"), (USE, Cause::LateRead, "15")]));
    let total = [MARCH, APRIL].map(|c| book.account(USE, of(c)).current().unwrap());
    assert_eq!(Amount::sum(total), Some(amount("580")), "billed and corrected, it is what the register moved");
}

#[test]
fn f03_a_later_actual_below_the_estimate_is_shared_by_time_and_nothing_is_negative() {
    for (zone, march, delta, april) in
        [("Asia/Shanghai", "152.459", "-157.541", "147.541"), ("Europe/Madrid", "152.358", "-157.642", "147.642")]
    {
        let (mut case, mut book) = march_billed(zone);
        at_midnight(&mut case, "2026-05-01", "1300");
        let posted = book.post(&case, of(MARCH), "2026-05-01");
        let wanted = rows(&[(END_READ, Cause::LateRead, delta), (USE, Cause::LateRead, delta)]);
        assert_eq!(posted, wanted, "{zone}");
        assert_eq!(book.current(USE, of(MARCH)), march);
        book.post(&case, of(APRIL), "2026-05-01");
        assert_eq!(book.current(USE, of(APRIL)), april);
        let total = [MARCH, APRIL].map(|c| book.account(USE, of(c)).current().unwrap());
        assert_eq!(Amount::sum(total), Some(amount("300")));
    }
}

/// Hourly reads of 1 an hour in April, without those between two times.
fn april_with_a_hole(from: &str, to: &str) -> Case {
    let start = at("2026-04-01");
    let mut case = Case::electricity().meter(&[]).readings(hourly(start, "1000", &vec!["1"; 30 * 24]));
    case.meters[0].0.installed_at = Some(start);
    case.meters[0].1.start_register = Some(amount("1000"));
    case.meters[0].2.retain(|r| r.ts <= at(from) || r.ts >= at(to));
    case
}

#[test]
fn f04_a_late_reading_inside_the_cycle_changes_no_boundary_and_no_use() {
    let mut case = april_with_a_hole("2026-04-14", "2026-04-16");
    let mut book = Book::default();
    assert_eq!(book.post(&case, of(APRIL), "2026-05-01").len(), 3);
    case.meters[0].2.push(reading(at("2026-04-15"), "1340", 9));
    assert_eq!(book.post(&case, of(APRIL), "2026-05-02"), [], "a middle reading corrects nothing of D1 and D2");
}

/// An item of any determinant with a fingerprint of what it rests on.
fn bucket(part: &str, value: &str, basis: &str, quality: Quality) -> Item {
    Item {
        key: ItemKey {
            usage_point_id: "point".to_owned(),
            determinant: "tou".to_owned(),
            part: part.to_owned(),
            first_day: day(APRIL.0),
            end_day: day(APRIL.1),
        },
        value: amount(value),
        unit: "kWh".to_owned(),
        is_register: false,
        quality,
        estimated: Amount::ZERO,
        basis: basis.to_owned(),
    }
}

fn post_item(account: &mut Account, item: &Item, context: &Context, run_id: &str) -> Option<(Cause, String)> {
    let row = account.post(&Posting { item, context, run_id })?;
    Some((row.cause, short(&row.delta.to_string())))
}

#[test]
fn f05_buckets_move_and_their_total_stays() {
    // The fingerprint of the cycle tells that the late reading is evidence of its own.
    let before = april_with_a_hole("2026-04-14", "2026-04-16");
    let mut after = before.clone();
    after.meters[0].2.push(reading(at("2026-04-15"), "1340", 9));
    let book = Book::default();
    let [was, is] = [&before, &after].map(|case| book.bill(case, of(APRIL), "2026-05-01").0.basis);
    assert_ne!(was, is);
    let context = Context::default();
    let (mut peak, mut valley) = (Account::default(), Account::default());
    let scaled = Quality::EstimatedScaled;
    assert!(post_item(&mut peak, &bucket("peak", "100", &was, scaled), &context, "r1").is_some());
    assert!(post_item(&mut valley, &bucket("valley", "200", &was, scaled), &context, "r1").is_some());
    let moved = [
        post_item(&mut peak, &bucket("peak", "97", &is, scaled), &context, "r2"),
        post_item(&mut valley, &bucket("valley", "203", &is, scaled), &context, "r2"),
    ];
    assert_eq!(moved, [Some((Cause::LateRead, "-3".to_owned())), Some((Cause::LateRead, "3".to_owned()))]);
    let total = Amount::sum([peak.current().unwrap(), valley.current().unwrap()]);
    assert_eq!(total, Some(amount("300")), "the total is what it was");
}

const NOBODY: (&BTreeSet<i64>, &BTreeSet<i64>) = (&BTreeSet::new(), &BTreeSet::new());

#[test]
fn f06_what_is_little_is_told_once_enough_has_gathered() {
    let context = Context::default();
    let mut account = Account::default();
    let mut item = bucket("all", "100", "", Quality::Valid);
    post_item(&mut account, &item, &context, "r0");
    let sent = [Sent { number: 1, first_seq: 0, last_seq: 0 }];
    let acked = BTreeSet::from([1]);
    let limit = Materiality::default().limit("kWh", amount("100"), false);
    assert_eq!(limit, amount("1"));
    for (value, told) in [("100.4", false), ("100.8", false), ("101.2", true)] {
        item.value = amount(value);
        assert!(post_item(&mut account, &item, &context, value).is_some());
        let standing = standing(&account, &sent, (&acked, &BTreeSet::new()), limit, false);
        let state = if told { NoticeState::None } else { NoticeState::BelowLimit };
        assert!(standing.rows[1..].iter().all(|s| *s == state), "{value}: {:?}", standing.rows);
        assert_eq!(standing.due.len(), usize::from(told));
        assert_eq!(standing.acked, Some(amount("100")));
        if told {
            assert_eq!(standing.due[0], Due { first_seq: 1, last_seq: 3, delta: amount("1.2") });
        }
    }
    let barred = standing(&account, &sent, (&acked, &BTreeSet::new()), limit, true);
    assert_eq!((barred.due.len(), barred.rows[3]), (0, NoticeState::TimeBarred));
}

#[test]
fn the_limit_of_a_notice_is_the_larger_of_an_amount_and_a_share() {
    let rules = Materiality::default();
    for (unit, value, is_register, limit) in [
        ("kWh", "100", false, "1"),
        ("kWh", "1000", false, "5"),
        ("kWh", "-1000", false, "5"),
        ("kWh", "123456.789", true, "1"),
        ("m3", "10", false, "0.1"),
        ("m3", "40", false, "0.2"),
        ("", "0.9", false, "0"),
    ] {
        assert_eq!(rules.limit(unit, amount(value), is_register), amount(limit), "{value} {unit}");
    }
}

#[test]
fn f07_the_same_versions_twice_add_no_row() {
    let case = april_with_a_hole("2026-04-14", "2026-04-16");
    let mut book = Book::default();
    book.post(&case, of(APRIL), "2026-05-01");
    let before = book.accounts.clone();
    let mut shuffled = case.clone();
    shuffled.meters[0].2.reverse();
    assert_eq!(book.post(&case, of(APRIL), "2026-05-01"), []);
    assert_eq!(book.post(&shuffled, of(APRIL), "2026-05-01"), []);
    assert_eq!(book.accounts, before);
    let [a, b] = [&case, &shuffled].map(|case| format!("{:?}", book.bill(case, of(APRIL), "2026-05-01")));
    assert_eq!(a, b, "byte for byte");
}

#[test]
fn f08_an_edit_stands_and_a_contrary_reading_is_shown() {
    let mut case = Case::electricity().meter(&[]);
    case.meters[0].0.installed_at = Some(at("2026-04-01"));
    case.meters[0].1.start_register = Some(amount("1000"));
    at_midnight(&mut case, "2026-04-10", "1090");
    at_midnight(&mut case, "2026-05-01", "1300");
    let target = EditTarget {
        usage_point_id: "point".to_owned(),
        channel: case.channel,
        first_day: day("2026-04-10"),
        end_day: day("2026-04-11"),
    };
    let mut book = Book::default();
    let propose = EditStep::Propose { target, value: amount("5"), reason: "read off the display".to_owned() };
    book.edits.check(7, "Ana", &propose).unwrap();
    book.edits.take(7, "Ana", at("2026-05-02"), &propose);
    let same = book.edits.check(7, " ana ", &EditStep::Approve).unwrap_err();
    assert!(matches!(same, EditError::SamePerson { .. }), "{same}");
    let use_of_day = |book: &Book, case: &Case| {
        let (bill, _) = book.bill(case, of(APRIL), "2026-05-05");
        let day = bill.days.iter().find(|d| d.start == at("2026-04-10")).unwrap().clone();
        (day.value.unwrap(), day.quality, bill.contested)
    };
    let (value, ..) = use_of_day(&book, &case);
    assert_eq!(value, amount("10"), "what one person says changes nothing");
    book.edits.check(7, "Bo", &EditStep::Approve).unwrap();
    book.edits.take(7, "Bo", at("2026-05-02"), &EditStep::Approve);
    assert_eq!(use_of_day(&book, &case), (amount("5"), Quality::Edited, vec![]));

    // 4.9 is within half a kilowatt hour, 7.0 is not.
    at_midnight(&mut case, "2026-04-11", "1094.9");
    assert_eq!(use_of_day(&book, &case), (amount("5"), Quality::Edited, vec![]));
    case.meters[0].2.pop();
    at_midnight(&mut case, "2026-04-11", "1097");
    let (value, quality, contested) = use_of_day(&book, &case);
    assert_eq!((value, quality), (amount("5"), Quality::Edited), "it stands until it is released");
    assert_eq!((contested[0].id, contested[0].edited, contested[0].read), (7, amount("5"), amount("7")));

    let release = EditStep::Release { reason: "the reading is right".to_owned() };
    book.edits.check(7, "Ana", &release).unwrap();
    book.edits.take(7, "Ana", at("2026-05-06"), &release);
    assert_eq!(use_of_day(&book, &case), (amount("7"), Quality::Valid, vec![]));
}

#[test]
fn an_edit_of_an_issued_cycle_is_a_correction_that_is_always_told() {
    let case = april_with_a_hole("2026-04-14", "2026-04-16");
    let mut book = Book::default();
    book.post(&case, of(APRIL), "2026-05-01");
    let target = EditTarget {
        usage_point_id: "point".to_owned(),
        channel: case.channel,
        first_day: day("2026-04-14"),
        end_day: day("2026-04-15"),
    };
    let propose = EditStep::Propose { target: target.clone(), value: amount("23.9"), reason: "agreed".to_owned() };
    book.edits.take(1, "ana", at("2026-05-02"), &propose);
    book.edits.take(1, "bo", at("2026-05-02"), &EditStep::Approve);
    assert_eq!(book.post(&case, of(APRIL), "2026-05-03"), rows(&[(USE, Cause::Edit, "-0.1")]));
    let sent = [Sent { number: 1, first_seq: 0, last_seq: 0 }];
    let told = standing(book.account(USE, of(APRIL)), &sent, NOBODY, amount("1"), false);
    assert_eq!(told.due, [Due { first_seq: 1, last_seq: 1, delta: amount("-0.1") }]);
    let again = book.edits.check(2, "cy", &propose).unwrap_err();
    assert!(matches!(again, EditError::Overlaps(1)), "{again}");
    for (value, reason) in [("-1", "x"), ("1", " ")] {
        let step = EditStep::Propose { target: target.clone(), value: amount(value), reason: reason.to_owned() };
        assert!(Edits::default().check(2, "cy", &step).is_err());
    }
}

#[test]
fn f09_a_notice_that_is_sent_and_answered_twice_has_one_effect() {
    let context = Context::default();
    let mut account = Account::default();
    post_item(&mut account, &bucket("all", "100", "", Quality::Valid), &context, "r0");
    post_item(&mut account, &bucket("all", "110", "", Quality::Valid), &context, "r1");
    let first = Sent { number: 1, first_seq: 0, last_seq: 0 };
    let second = Sent { number: 2, first_seq: 1, last_seq: 1 };
    let (none, one, both) = (BTreeSet::new(), BTreeSet::from([1]), BTreeSet::from([1, 2]));
    let has = |sent: &[Sent], acked: &BTreeSet<i64>, rejected: &BTreeSet<i64>| {
        let standing = standing(&account, sent, (acked, rejected), amount("1"), false);
        (standing.acked, standing.due.len())
    };
    let out = [first.clone(), second.clone()];
    assert_eq!(has(&out, &one, &none), (Some(amount("100")), 0), "lost on its way: it is out and not due again");
    let twice = [first.clone(), second.clone(), second.clone()];
    assert_eq!(has(&twice, &both, &none), (Some(amount("110")), 0));
    assert_eq!(has(&twice, &both, &none), has(&out, &both, &none), "an answer that comes twice is one");
    let rejected = BTreeSet::from([2]);
    assert_eq!(has(&out, &one, &rejected), (Some(amount("100")), 1), "what was rejected is due again");
    let third = Sent { number: 3, first_seq: 1, last_seq: 1 };
    let again = [first, second, third];
    assert_eq!(has(&again, &BTreeSet::from([1, 3]), &rejected), (Some(amount("110")), 0));
}

/// Hourly reads up to a gap over a month's end, whose shape like days give.
fn gap_over_the_end(thursday: &str) -> Case {
    let mut case = Case::electricity().meter(&[]).readings(hourly(at("2026-04-01"), "0", &["1"; 29 * 24 + 6]));
    case.meters[0].0.installed_at = Some(at("2026-04-01"));
    case.meters[0].1.start_register = Some(amount("0"));
    let last = case.meters[0].2.last().unwrap().value;
    let mut next = reading(at("2026-05-02 18:00"), "0", 0);
    next.value = last.checked_add(amount("60")).unwrap();
    case.meters[0].2.push(next);
    // A like day of 30 April: its six o'clock reading, later revised.
    let six = case.meters[0].2.iter_mut().find(|r| r.ts == at("2026-04-23 06:00")).unwrap();
    six.value = amount(thursday);
    case
}

#[test]
fn f12_an_estimate_follows_its_like_days_until_it_is_issued() {
    let (case, revised) = (gap_over_the_end("534"), gap_over_the_end("534.9"));
    let gates = GateRules { late_estimated_ppm: 1_000_000, ..GateRules::default() };
    let mut book = Book::default();
    let [was, is] = [&case, &revised].map(|case| book.bill(case, of(APRIL), "2026-05-05").0);
    assert_eq!(was.read.end_read.unwrap().quality, Quality::EstimatedScaled);
    assert!(matches!(gate(&was.facts, &gates), Gate::Open { .. }));
    assert_ne!(was.read.use_amount, is.read.use_amount, "not issued: the estimate follows");
    assert_eq!((&was.basis, &was.end_evidence), (&is.basis, &is.end_evidence), "it rests on the same readings");

    book.post(&case, of(APRIL), "2026-05-05");
    assert_eq!(book.post(&revised, of(APRIL), "2026-05-06"), [], "issued: the estimate is pinned");

    // Any other determinant of the cycle: pinned while the fingerprint of its readings is the same.
    let mut account = Account::default();
    let context = Context::default();
    let scaled = Quality::EstimatedScaled;
    post_item(&mut account, &bucket("peak", "40", "same", scaled), &context, "r1");
    assert_eq!(post_item(&mut account, &bucket("peak", "41", "same", scaled), &context, "r2"), None);
    assert!(post_item(&mut account, &bucket("peak", "41", "other", scaled), &context, "r2").is_some());
    let edited = Context { edits: "[1]".to_owned(), ..Context::default() };
    assert!(post_item(&mut account, &bucket("peak", "42", "other", scaled), &edited, "r3").is_some());
}

#[test]
fn b05_a_ratio_that_changes_on_file_after_billing_is_a_correction_that_is_always_told() {
    let mut case = Case::electricity().meter(&[("2026-03-01", "100"), ("2026-03-10", "110"), ("2026-04-01", "118")]);
    case.meters[0].0.installed_at = Some(at("2026-03-01"));
    case.meters[0].1.multiplier_micros = 20_000_000;
    case.meters[0].1.capacity_per_hour = None;
    let mut book = Book::default();
    book.post(&case, of(MARCH), "2026-04-04");
    assert_eq!(book.current(USE, of(MARCH)), "360");

    let mut mended = case.clone();
    let (mut installation, mut channel, readings) = mended.meters[0].clone();
    mended.meters[0].0.removed_at = Some(at("2026-03-10"));
    installation.installed_at = Some(at("2026-03-10"));
    channel.multiplier_micros = 30_000_000;
    mended.meters.push((installation, channel, readings));
    assert_eq!(book.post(&mended, of(MARCH), "2026-04-10"), rows(&[(USE, Cause::Multiplier, "80")]));
    assert_eq!(book.current(USE, of(MARCH)), "440");
    let sent = [Sent { number: 1, first_seq: 0, last_seq: 0 }];
    let told = standing(book.account(USE, of(MARCH)), &sent, NOBODY, amount("1000"), false);
    assert_eq!(told.due.len(), 1, "however little it is");
}

#[test]
fn causes_are_told_apart_by_what_changed() {
    let context = |f: fn(&mut Context)| {
        let mut context = Context { meters: "a".to_owned(), multipliers: "1".to_owned(), ..Context::default() };
        (context.tariffs, context.determinants) = ("t".to_owned(), "d".to_owned());
        f(&mut context);
        context
    };
    let old = context(|_| {});
    for (new, cause) in [
        (context(|_| {}), Cause::LateRead),
        (context(|c| c.meters = "b".to_owned()), Cause::Exchange),
        (context(|c| c.multipliers = "2".to_owned()), Cause::Multiplier),
        (context(|c| (c.meters, c.multipliers) = ("b".to_owned(), "2".to_owned())), Cause::Exchange),
        (context(|c| (c.edits, c.meters) = ("1".to_owned(), "b".to_owned())), Cause::Edit),
        (context(|c| c.decoded = "1".to_owned()), Cause::ReDecode),
        (context(|c| c.calendar = "x".to_owned()), Cause::CalendarChange),
        (context(|c| c.rules = "x".to_owned()), Cause::RuleChange),
        (context(|c| c.tariffs = "x".to_owned()), Cause::CalendarChange),
        (context(|c| c.determinants = "x".to_owned()), Cause::RuleChange),
        // Not taken down, as in rows of before.
        (context(|c| (c.tariffs, c.determinants) = (String::new(), String::new())), Cause::LateRead),
    ] {
        assert_eq!(cause_of(&old, &new), cause, "{new:?}");
        assert_eq!(Context::parse(&new.to_line()), new);
    }
    assert_eq!(Context::parse("a|1||||"), old.without_tariffs(), "a line of before there were tariffs in it");
    for cause in Cause::ALL {
        assert_eq!(Cause::parse(cause.as_str()), Some(cause));
    }
}

#[test]
fn e08_days_are_the_same_in_whatever_order_they_are_tried() {
    let mut case = Case::electricity().meter(&[]);
    at_midnight(&mut case, "2026-01-01", "10");
    at_midnight(&mut case, "2026-01-06", "60");
    let days = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05", "2026-01-06"];
    let borders: [usize; 4] = [1, 2, 3, 4];
    for order in 0..24 {
        // Every permutation of the four days between, each one issued before the next is tried.
        let (mut left, mut order, mut tried) = (borders.to_vec(), order, Vec::new());
        while !left.is_empty() {
            tried.push(left.remove(order % left.len()));
            order /= left.len() + 1;
        }
        let mut book = Book::default();
        for i in &tried {
            book.post(&case, cycle(days[i - 1], days[*i]), "2026-01-10");
        }
        let ends: Vec<String> = borders.iter().map(|i| book.current(END_READ, cycle(days[i - 1], days[*i]))).collect();
        assert_eq!(ends, ["20", "30", "40", "50"], "{tried:?}");
    }
}

#[test]
fn e16_a_projection_is_the_average_exactly() {
    let start = at("2026-01-05");
    let mut case = Case::electricity().meter(&[]).readings(hourly(start, "0", &vec!["1"; 28 * 24]));
    case.meters[0].0.installed_at = Some(start);
    let end = day("2026-02-02").plus_days(100);
    let cycle = Cycle { first_day: day("2026-02-02"), end_day: end };
    let (bill, _) = Book::default().bill(&case, cycle, "2027-01-01");
    assert_eq!(bill.read.use_amount, Some(amount("2400")), "24 a day, a hundred days, two of them of odd length");
    assert!(bill.facts.unscaled);
    let Gate::Hold(reasons) = gate(&bill.facts, &GateRules::default()) else { panic!("held") };
    let codes: Vec<_> = reasons.iter().map(|r| r.code.as_str()).collect();
    assert_eq!(codes, ["estimated", "long_estimate"]);
}

#[test]
fn e12_a_projection_goes_by_what_the_same_customer_used() {
    let start = at("2026-01-05");
    let uses: Vec<&str> = (0..28 * 24).map(|hour| if hour < 18 * 24 { "5" } else { "1" }).collect();
    let mut case = Case::electricity().meter(&[]).readings(hourly(start, "0", &uses));
    case.meters[0].0.installed_at = Some(start);
    let cycle = Cycle { first_day: day("2026-02-02"), end_day: day("2026-02-12") };
    let used = |case: &Case| Book::default().bill(case, cycle, "2027-01-01").0.read.use_amount;
    assert_eq!(used(&case), Some(amount("857.143")), "ten days at the mean of all");
    case.point.customer_since = Some(at("2026-01-23"));
    assert_eq!(used(&case), Some(amount("240")), "24 a day since the customer moved in ten days ago");
    case.point.customer_since = Some(at("2026-02-02"));
    assert_eq!(
        used(&case),
        Some(amount("857.143")),
        "of the one who moves in then nothing is known, and of the one before"
    );
}

#[test]
fn b06_without_a_meter_the_bill_is_held_at_once() {
    let mut case = april_with_a_hole("2026-04-14", "2026-04-15");
    case.meters[0].0.removed_at = Some(at("2026-04-20"));
    let (bill, _) = Book::default().bill(&case, of(APRIL), "2026-05-01");
    let Gate::Hold(reasons) = gate(&bill.facts, &GateRules::default()) else { panic!("held") };
    assert_eq!(reasons.iter().map(|r| r.code.as_str()).collect::<Vec<_>>(), ["no_meter"]);
}

#[test]
fn a_cycle_whose_end_was_silent_is_billed_after_the_deadline_and_says_so() {
    let mut case = april_with_a_hole("2026-04-25", "2026-06-01");
    case.meters[0].0.removed_at = None;
    let book = Book::default();
    let (bill, _) = book.bill(&case, of(APRIL), "2026-05-03");
    let Gate::Wait(unmet) = gate(&bill.facts, &GateRules::default()) else { panic!("it waits") };
    assert!(unmet.iter().any(|u| u.code == "missing"), "{unmet:?}");
    let (bill, _) = book.bill(&case, of(APRIL), "2026-05-04");
    assert_eq!(bill.read.use_amount, Some(amount("720")), "six of thirty days at the average");
    let Gate::Open { despite } = gate(&bill.facts, &GateRules::default()) else { panic!("{:?}", bill.facts) };
    assert_eq!(despite.iter().map(|u| u.code.as_str()).collect::<Vec<_>>(), ["end", "estimated", "unscaled"]);
}

#[test]
fn evidence_is_read_back() {
    let ts = Timestamp::parse_rfc3339("2026-04-01T00:00:00Z").unwrap();
    for until in [None, Some((ts.plus_seconds(5), amount("1580")))] {
        let evidence = Evidence { from: ts, low: amount("-0.5"), until };
        assert_eq!(Evidence::parse(&evidence.to_line()), Some(evidence));
    }
    assert_eq!(Evidence::parse("x"), None);
    assert!(Channel::by_name("energy_import_kwh").is_some());
}
