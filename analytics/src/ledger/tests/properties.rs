//! What holds of any readings in any order.

use std::collections::BTreeSet;

use meterlake_model::Quality;
use proptest::prelude::*;

use super::*;
use crate::usage::Reading;
use crate::usage::tests::{at, reading};

const CYCLES: [(&str, &str); 3] =
    [("2026-01-01", "2026-02-01"), ("2026-02-01", "2026-03-01"), ("2026-03-01", "2026-04-01")];

/// A meter that is read now and then, at most every six hours, over a quarter of a year: (hours since the last, rise).
fn readings(steps: &[(u16, u32)]) -> Vec<Reading> {
    let (mut ts, mut value) = (at("2026-01-01"), 1_000_000_i64);
    let mut out = vec![reading(ts, "1000", 0)];
    for (hours, rise) in steps {
        ts = ts.plus_seconds(i64::from(*hours) * 3600);
        value += i64::from(*rise).min(i64::from(*hours) * 40_000);
        let mut next = reading(ts, "0", 0);
        next.value = Amount::from_scaled(value, 3).unwrap();
        out.push(next);
    }
    out.retain(|r| r.ts <= at("2026-04-02"));
    out
}

fn case(readings: Vec<Reading>) -> Case {
    let mut case = Case::electricity().meter(&[]).readings(readings);
    case.meters[0].0.installed_at = Some(at("2026-01-01"));
    case.meters[0].1.start_register = Some(amount("1000"));
    // Days are enough, and quicker than hours.
    case.meters[0].1.interval_s = 86_400;
    (case.from, case.to) = (at("2026-01-01"), at("2026-04-01"));
    case
}

fn steps() -> impl Strategy<Value = Vec<(u16, u32)>> {
    prop::collection::vec((6_u16..400, 0_u32..500_000), 5..25)
}

/// `METERLAKE_LEDGER_CASES=n` tries so many; `.ci/long` does.
fn long() -> u32 {
    std::env::var("METERLAKE_LEDGER_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: long(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Readings come late in any order, bills go out in between: every account adds up to what is known in the end, bills
    /// add up to the register, no use is negative, and the same again adds nothing.
    #[test]
    fn the_ledger_adds_up_to_what_is_computed_anew(
        steps in steps(),
        late in prop::collection::vec(any::<bool>(), 40),
        order in any::<u64>(),
    ) {
        let all = readings(&steps);
        let (now, mut later): (Vec<_>, Vec<_>) =
            all.iter().enumerate().partition(|(i, _)| *i == 0 || !late[i % late.len()]);
        let mut known: Vec<Reading> = now.into_iter().map(|(_, r)| *r).collect();
        let mut book = Book::default();
        for (from, to) in CYCLES {
            book.post(&case(known.clone()), cycle(from, to), "2026-05-01");
        }
        let mut seed = order;
        while !later.is_empty() {
            let next = usize::try_from(seed % later.len() as u64).unwrap();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1) >> 3;
            known.push(*later.swap_remove(next).1);
            for (from, to) in CYCLES {
                book.post(&case(known.clone()), cycle(from, to), "2026-05-01");
            }
        }
        // What one cycle's correction pins, the next one sees: twice is enough for all to stand.
        for (from, to) in CYCLES {
            book.post(&case(known.clone()), cycle(from, to), "2026-05-01");
        }
        let mut uses = Vec::new();
        for (from, to) in CYCLES {
            let cycle = cycle(from, to);
            prop_assert_eq!(book.post(&case(known.clone()), cycle, "2026-05-01"), vec![], "nothing twice");
            let (bill, _) = book.bill(&case(known.clone()), cycle, "2026-05-01");
            for item in bill.items("point", case(vec![]).channel, cycle) {
                let account = &book.accounts[&item.key];
                prop_assert_eq!(account.current(), Some(item.value), "{}", item.key);
                prop_assert_eq!(account.current(), account.last().map(|row| row.new));
                prop_assert!(item.value >= Amount::ZERO);
            }
            uses.push((bill.read.start_read, bill.read.end_read, bill.read.use_amount));
        }
        for pair in uses.windows(2) {
            if let [(_, Some(end), Some(_)), (Some(start), ..)] = pair {
                prop_assert_eq!(end.register, start.register, "one bill ends where the next one begins");
            }
        }
        for (start, end, used) in uses {
            if let (Some(start), Some(end), Some(used)) = (start, end, used) {
                let moved = end.register.unwrap().checked_sub(start.register.unwrap());
                prop_assert_eq!(moved, Some(used));
            }
        }
    }

    #[test]
    fn the_order_of_arrival_changes_nothing_that_is_not_issued(steps in steps(), swaps in prop::collection::vec((0_usize..40, 0_usize..40), 20)) {
        let all = readings(&steps);
        let mut shuffled = all.clone();
        for (a, b) in swaps {
            let n = shuffled.len();
            shuffled.swap(a % n, b % n);
        }
        for (from, to) in CYCLES {
            let book = Book::default();
            prop_assert_eq!(
                book.bill(&case(all.clone()), cycle(from, to), "2026-05-01"),
                book.bill(&case(shuffled.clone()), cycle(from, to), "2026-05-01")
            );
        }
    }

    /// A neighbour's reading, or a flipped bit, comes beside the meter's own.
    #[test]
    fn a_worse_reading_changes_no_value(steps in steps(), which in 1_usize..39, high in any::<bool>()) {
        let all = readings(&steps);
        let which = which % all.len();
        // One that both neighbours disown.
        prop_assume!(which > 0 && which + 3 < all.len());
        let ts = all[which].ts.plus_seconds(3600);
        let mut foreign = reading(ts, "0", 9);
        foreign.value = if high { amount("9000000") } else { amount("3") };
        let mut worse = all.clone();
        worse.push(foreign);
        for (from, to) in CYCLES {
            let mut book = Book::default();
            book.post(&case(all.clone()), cycle(from, to), "2026-05-01");
            prop_assert_eq!(book.post(&case(worse.clone()), cycle(from, to), "2026-05-02"), vec![]);
        }
    }

    /// Lists go out, are lost, sent again, answered twice or refused, in any order.
    #[test]
    fn what_is_acknowledged_is_what_the_billing_system_has(
        values in prop::collection::vec(0_i64..1_000_000, 1..12),
        answers in prop::collection::vec(0_u8..3, 30),
    ) {
        let (none, context) = (BTreeSet::new(), Context::default());
        let (mut account, mut sent) = (Account::default(), Vec::<Sent>::new());
        let (mut acked, mut rejected) = (none.clone(), none.clone());
        let mut has = 0_i64;
        let mut answers = answers.into_iter().cycle();
        let key = ItemKey {
            usage_point_id: "point".to_owned(),
            determinant: USE.to_owned(),
            part: String::new(),
            first_day: day("2026-01-01"),
            end_day: day("2026-02-01"),
        };
        for value in &values {
            let item = Item {
                key: key.clone(),
                value: Amount::from_scaled(*value, 3).unwrap(),
                unit: "kWh".to_owned(),
                is_register: false,
                quality: Quality::Valid,
                estimated: Amount::ZERO,
                basis: String::new(),
            };
            account.post(&Posting { item: &item, context: &context, run_id: "" });
            let now = standing(&account, &sent, (&acked, &rejected), amount("1"), false);
            for due in &now.due {
                let number = i64::try_from(sent.len()).unwrap() + 1;
                sent.push(Sent { number, first_seq: due.first_seq, last_seq: due.last_seq });
                match answers.next() {
                    Some(0) => {
                        rejected.insert(number);
                    }
                    Some(1) => {
                        has += due.delta.micros();
                        acked.insert(number);
                        acked.insert(number);
                    }
                    _ => {}
                }
            }
            let after = standing(&account, &sent, (&acked, &rejected), amount("1"), false);
            prop_assert_eq!(after.acked.map_or(0, Amount::micros), has);
            let told: i64 = account.rows().iter().zip(&after.rows)
                .filter(|(_, state)| **state == NoticeState::Acked).map(|(row, _)| row.delta.micros()).sum();
            prop_assert_eq!(told, has, "the sum of acknowledged deltas");
            prop_assert_eq!(account.current(), Some(item.value), "the sum of all deltas");
        }
    }
}
