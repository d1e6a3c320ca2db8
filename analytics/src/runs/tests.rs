//! States, gates and cycles.

use std::collections::BTreeSet;

use meterlake_model::registry::UsagePoint;
use meterlake_model::{CivilDay, Commodity, Timestamp, UsagePointId, Zone};
use proptest::prelude::*;

use super::*;

fn day(text: &str) -> CivilDay {
    CivilDay::parse(text).unwrap()
}

fn facts() -> Facts {
    Facts {
        end_day: day("2026-04-01"),
        today: day("2026-04-01"),
        start_off_s: Some(0),
        end_off_s: Some(0),
        estimated_ppm: Some(0),
        unscaled: false,
        last_actual: Some(day("2026-04-01")),
        estimated_before: 0,
        missing: vec![],
        stops: vec![],
    }
}

fn unmet(code: &str) -> Unmet {
    Unmet { code: code.to_owned(), subject: "x".to_owned(), detail: String::new() }
}

/// The gate's word and its codes.
fn asked(facts: &Facts) -> (&'static str, Vec<String>) {
    let codes = |unmet: Vec<Unmet>| unmet.into_iter().map(|u| u.code).collect();
    match gate(facts, &GateRules::default()) {
        Gate::Open { despite } => ("open", codes(despite)),
        Gate::Wait(unmet) => ("wait", codes(unmet)),
        Gate::Hold(unmet) => ("hold", codes(unmet)),
    }
}

#[test]
fn gates_open_wait_until_the_deadline_and_then_hold_or_let_estimates_go() {
    /// What is changed, the gate before the deadline with its reasons, and the gate after it with its own.
    type Case = (fn(&mut Facts), &'static str, &'static [&'static str], &'static str, &'static [&'static str]);
    let cases: [Case; 11] = [
        (|_| {}, "open", &[], "open", &[]),
        (|f| f.end_off_s = Some(2 * 86_400), "open", &[], "open", &[]),
        (|f| f.end_off_s = Some(2 * 86_400 + 1), "wait", &["end"], "open", &["end"]),
        (|f| f.start_off_s = None, "wait", &["start"], "open", &["start"]),
        (|f| f.estimated_ppm = Some(50_000), "open", &[], "open", &[]),
        (|f| f.estimated_ppm = Some(50_001), "wait", &["estimated"], "open", &["estimated"]),
        (|f| f.estimated_ppm = Some(500_001), "wait", &["estimated"], "hold", &["estimated"]),
        (|f| f.estimated_ppm = None, "wait", &["nothing"], "hold", &["nothing"]),
        (|f| f.unscaled = true, "wait", &["unscaled"], "open", &["unscaled"]),
        (|f| f.missing = vec![unmet("missing")], "wait", &["missing"], "hold", &["missing"]),
        (|f| f.stops = vec![unmet("backward"), unmet("backward")], "hold", &["backward"], "hold", &["backward"]),
    ];
    for (change, early, early_codes, late, late_codes) in cases {
        let mut facts = facts();
        change(&mut facts);
        assert_eq!(asked(&facts), (early, early_codes.iter().map(|c| (*c).to_owned()).collect()), "{facts:?}");
        facts.today = day("2026-04-03");
        assert_eq!(asked(&facts).0, early, "the deadline is the third day after");
        facts.today = day("2026-04-04");
        assert_eq!(asked(&facts), (late, late_codes.iter().map(|c| (*c).to_owned()).collect()), "{facts:?}");
    }
    let mut early = facts();
    (early.today, early.stops) = (day("2026-03-31"), vec![unmet("backward")]);
    assert_eq!(asked(&early), ("wait", vec!["not_over".to_owned()]));
}

#[test]
fn g04_a_last_actual_read_too_long_ago_holds() {
    let mut facts = facts();
    (facts.end_day, facts.today) = (day("2023-04-05"), day("2023-05-01"));
    (facts.end_off_s, facts.estimated_ppm) = (None, Some(300_000));
    for (last, before, holds) in [
        ("2023-01-01", 0, true),
        ("2023-01-04", 0, true),
        ("2023-01-05", 0, false),
        ("2023-03-05", 2, false),
        ("2023-03-05", 3, true),
    ] {
        (facts.last_actual, facts.estimated_before) = (Some(day(last)), before);
        let (word, codes) = asked(&facts);
        assert_eq!(word == "hold", holds, "{last}: {codes:?}");
        assert_eq!(codes.contains(&"long_estimate".to_owned()), holds);
    }
}

fn event(seq: i64, by: &str, step: Step) -> Event {
    Event { seq, at: Timestamp::from_unix_seconds(seq).unwrap(), by: by.to_owned(), step }
}

fn open() -> Gate {
    Gate::Open { despite: vec![] }
}

fn hold(reason: &str) -> Step {
    Step::Hold { reason: reason.to_owned() }
}

fn release(keys: &[&str]) -> Step {
    Step::Release { covers: keys.iter().map(|k| (*k).to_owned()).collect() }
}

fn reject(number: i64) -> Step {
    Step::Reject { number, reason: "unknown account".to_owned() }
}

#[test]
fn the_state_follows_from_gates_and_events() {
    let held_by_gate = Gate::Hold(vec![unmet("backward")]);
    let waits = Gate::Wait(vec![unmet("end")]);
    let cancel = || Step::Cancel { reason: "moved out".to_owned() };
    let issue = |number| Step::Issue { number };
    let ack = |number| Step::Ack { number };
    let cases: Vec<(&Gate, Vec<Step>, &str)> = vec![
        (&waits, vec![], "waiting"),
        (&held_by_gate, vec![], "held"),
        (&held_by_gate, vec![release(&["backward@x"])], "ready"),
        (&held_by_gate, vec![release(&["backward@other"])], "held"),
        (&held_by_gate, vec![hold("wait for ana"), release(&["backward@x"])], "held"),
        (&held_by_gate, vec![hold("wait for ana"), release(&["backward@x", "person#1"])], "ready"),
        (&waits, vec![hold("x")], "held"),
        (&waits, vec![hold("x"), release(&["person#1"])], "waiting"),
        (&waits, vec![issue(1)], "issued"),
        (&waits, vec![issue(1), ack(1)], "acked"),
        (&waits, vec![issue(1), ack(1), ack(1)], "acked"),
        (&waits, vec![issue(1), reject(1)], "rejected"),
        (&waits, vec![issue(1), reject(1), issue(2)], "issued"),
        (&waits, vec![issue(1), reject(1), issue(2), ack(1)], "issued"),
        (&waits, vec![issue(1), reject(1), issue(2), ack(2)], "acked"),
        (&waits, vec![issue(1), reject(1), hold("x")], "held"),
        (&waits, vec![cancel()], "cancelled"),
        (&waits, vec![issue(1), reject(1), cancel()], "cancelled"),
    ];
    let ready = open();
    assert_eq!(bill_state(&ready, &[]), BillState::Ready);
    for (gate, steps, expected) in cases {
        let events: Vec<Event> = steps.into_iter().zip(1..).map(|(step, seq)| event(seq, "ana", step)).collect();
        assert_eq!(bill_state(gate, &events).as_str(), expected, "{events:?}");
    }
}

#[test]
fn steps_are_somebodys_and_fit_the_state() {
    let reasons = vec![HoldReason { key: "backward".to_owned(), detail: String::new(), by: None }];
    let nothing = vec![HoldReason { key: "nothing".to_owned(), detail: String::new(), by: None }];
    let text = |t: &str| t.to_owned();
    for (state, by, step, expected) in [
        (BillState::Ready, "ana", Step::Issue { number: 1 }, Some(true)),
        (BillState::Ready, " ", Step::Issue { number: 1 }, None),
        (BillState::Waiting(vec![]), "ana", Step::Issue { number: 1 }, None),
        (BillState::Held(reasons.clone()), "ana", Step::Issue { number: 1 }, None),
        (BillState::Rejected(1), "ana", Step::Issue { number: 2 }, Some(true)),
        (BillState::Issued(1), "ana", Step::Issue { number: 2 }, None),
        (BillState::Held(reasons.clone()), "ana", release(&["backward"]), Some(true)),
        (BillState::Held(reasons), "ana", release(&["other"]), None),
        (BillState::Held(nothing), "ana", release(&["nothing"]), None),
        (BillState::Ready, "ana", release(&["backward"]), None),
        (BillState::Ready, "ana", hold("x"), Some(true)),
        (BillState::Ready, "ana", hold(" "), None),
        (BillState::Issued(1), "ana", hold("x"), None),
        (BillState::Issued(1), "sap", Step::Ack { number: 1 }, Some(true)),
        (BillState::Acked(1), "sap", Step::Ack { number: 1 }, Some(false)),
        (BillState::Issued(2), "sap", Step::Ack { number: 1 }, None),
        (BillState::Issued(1), "sap", reject(1), Some(true)),
        (BillState::Rejected(1), "sap", reject(1), Some(false)),
        (BillState::Acked(1), "sap", reject(1), None),
        (BillState::Acked(1), "ana", Step::Cancel { reason: text("x") }, None),
        (BillState::Ready, "ana", Step::Cancel { reason: text("x") }, Some(true)),
        (BillState::Cancelled, "ana", Step::Cancel { reason: text("x") }, Some(false)),
        (BillState::Cancelled, "ana", hold("x"), None),
    ] {
        assert_eq!(check_step(&state, by, &step).ok(), expected, "{state:?} {step:?}");
    }
}

proptest! {
    /// Whatever people do: what is held is held for a reason, and a release never lets go what it does not name.
    #[test]
    fn a_hold_ends_by_name_or_by_a_new_fact_only(
        steps in prop::collection::vec((0_u8..4, 0_usize..3), 0..12),
        gates in prop::collection::vec(0_usize..3, 0..3),
        seed in any::<u64>(),
    ) {
        let codes = ["a", "b", "c"];
        let standing: BTreeSet<String> = gates.iter().map(|g| format!("{}@x", codes[*g])).collect();
        let gate = if gates.is_empty() { open() } else { Gate::Hold(gates.iter().map(|g| unmet(codes[*g])).collect()) };
        let mut events = Vec::new();
        let mut expected = standing.clone();
        for (seq, (kind, which)) in (1_i64..).zip(steps) {
            if kind == 0 {
                events.push(event(seq, "ana", hold("x")));
                expected.insert(format!("person#{seq}"));
            } else {
                let key = expected.iter().nth(which).cloned().unwrap_or_else(|| "none".to_owned());
                events.push(event(seq, "bo", release(&[&key])));
                expected.remove(&key);
            }
        }
        if seed % 2 == 0 {
            events.reverse();
        }
        match bill_state(&gate, &events) {
            BillState::Held(reasons) => {
                let keys: BTreeSet<String> = reasons.into_iter().map(|r| r.key).collect();
                prop_assert_eq!(keys, expected);
            }
            BillState::Ready => prop_assert!(expected.is_empty()),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

fn point(commodity: Commodity, class: &str, billing_day: u8) -> UsagePoint {
    UsagePoint {
        id: UsagePointId::new("p").unwrap(),
        commodity,
        zone: Zone::utc(),
        customer_id: None,
        node_id: None,
        class: class.to_owned(),
        place: String::new(),
        billing_day,
        active: true,
        continuous_use: false,
        nominal_voltage_dv: None,
        customer_since: None,
        parent_id: None,
    }
}

#[test]
fn cycles_are_by_group_and_tile_the_time() {
    let rule = |name: &str, commodity, classes: &[&str], months, first_month, day| CycleRule {
        name: name.to_owned(),
        commodity,
        classes: classes.iter().map(|c| (*c).to_owned()).collect(),
        months,
        first_month,
        day,
    };
    let calendar = CycleCalendar {
        rules: vec![
            rule("large", Some(Commodity::Electricity), &["industrial"], 1, 1, Some(1)),
            rule("homes", Some(Commodity::Water), &["residential", "small"], 2, 2, None),
            rule("rest of water", Some(Commodity::Water), &[], 12, 7, Some(1)),
        ],
    };
    let ending = |month: &str, point: &UsagePoint| {
        let cycle = calendar.ending_in(day(month), point)?;
        Some((cycle.first_day.to_string(), cycle.end_day.to_string()))
    };
    let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    let home = point(Commodity::Water, "residential", 15);
    assert_eq!(ending("2026-02-01", &home), pair("2025-12-15", "2026-02-15"));
    assert_eq!(ending("2026-03-01", &home), None);
    assert_eq!(ending("2026-04-01", &home), pair("2026-02-15", "2026-04-15"));
    let farm = point(Commodity::Water, "agricultural", 9);
    assert_eq!(ending("2026-06-01", &farm), pair("2025-07-01", "2026-07-01"));
    assert_eq!(ending("2026-07-01", &farm), None);
    let factory = point(Commodity::Electricity, "industrial", 15);
    assert_eq!(ending("2026-06-01", &factory), pair("2026-06-01", "2026-07-01"));
    let flat = point(Commodity::Electricity, "residential", 28);
    assert_eq!(ending("2026-03-01", &flat), pair("2026-02-28", "2026-03-28"), "without a rule, by the registry");
    assert_eq!(calendar.longest_months(), 12);
    for point in [home, farm, factory, flat] {
        let mut before = None;
        let mut month = day("2024-01-01");
        while month < day("2028-01-01") {
            if let Some(cycle) = calendar.ending_in(month, &point) {
                assert!(before.is_none_or(|end| end == cycle.first_day), "no day twice, none left out: {cycle:?}");
                before = Some(cycle.end_day);
            }
            month = month.plus_months(1);
        }
    }
}
