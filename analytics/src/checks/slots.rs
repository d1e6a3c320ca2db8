//! Checks that look at slots in their order: spikes, rows of slots alike, steps. Pure; one place and channel at a time.

use meterlake_model::check::{Operator, Params, Value};
use meterlake_model::{Amount, Quality, Timestamp, Zone};

use super::Month;

/// One slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) value: Option<Amount>,
    pub(super) quality: Quality,
}

impl Slot {
    /// What was read, or surely follows from it.
    fn known(&self) -> Option<i64> {
        self.value.filter(|_| self.quality >= Quality::Derived).map(Amount::micros)
    }
}

/// What an operator finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotFinding {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) measured: Option<Amount>,
    pub(super) reference: Option<Amount>,
    pub(super) limit: Option<Amount>,
    pub(super) estimated: bool,
    pub(super) evidence: String,
}

/// A row of slots is followed back so far before the month, at most.
const FURTHEST_S: i64 = 62 * 86_400;

/// How far before the month an operator looks, in seconds.
pub(super) fn look_back_s(operator: Operator, params: &Params) -> i64 {
    match operator {
        // A slot is an hour at most.
        Operator::Run => integer(params, "slots").saturating_mul(3600).clamp(86_400, FURTHEST_S),
        _ => 86_400,
    }
}

/// What an operator finds in the slots of one place and channel, in order of time.
pub(super) fn find(
    operator: Operator,
    params: &Params,
    zone: &Zone,
    month: &Month,
    slots: &[Slot],
) -> Vec<SlotFinding> {
    match operator {
        Operator::Spike => spikes(params, zone, month, slots),
        Operator::Run => runs(params, month, slots),
        Operator::Step => steps(params, month, slots),
        Operator::Collector | Operator::Walk | Operator::Gate => Vec::new(),
    }
}

/// V21: the highest slot of a civil day above the third highest by more than `percent` of that.
fn spikes(params: &Params, zone: &Zone, month: &Month, slots: &[Slot]) -> Vec<SlotFinding> {
    let (percent, floor) = (i128::from(integer(params, "percent")), micros(params, "floor"));
    let least = integer(params, "min_slots");
    let mut found = Vec::new();
    let mut rest = slots;
    while let Some(first) = rest.first() {
        let (start, end) = zone.span_of_day(zone.day_of(first.start));
        let count = rest.partition_point(|slot| slot.start < end).max(1);
        let (day, behind) = rest.split_at(count);
        rest = behind;
        if start < month.from || start >= month.to {
            continue;
        }
        let (mut tops, mut known): ([Option<&Slot>; 3], i64) = ([None; 3], 0);
        for slot in day.iter().filter(|slot| slot.value.is_some()) {
            known += 1;
            let above = |other: Option<&Slot>| other.is_none_or(|other| slot.value > other.value);
            if let Some(at) = tops.iter().position(|top| above(*top)) {
                tops[at..].rotate_right(1);
                tops[at] = Some(slot);
            }
        }
        let [Some(top), _, Some(third)] = tops else { continue };
        let (Some(h1), Some(h3)) = (top.value, third.value) else { continue };
        let rise = i128::from(h1.micros()) - i128::from(h3.micros());
        if known >= least && h1.micros() > floor && rise * 100 > percent * i128::from(h3.micros()) {
            found.push(SlotFinding {
                start: top.start,
                end: top.end,
                measured: Some(h1),
                reference: Some(h3),
                limit: None,
                estimated: top.quality.is_estimate(),
                evidence: format!("{h1} where the day's third highest slot is {h3}"),
            });
        }
    }
    found
}

/// V22: slots alike, one behind the other, whatever midnight is between them.
fn runs(params: &Params, month: &Month, slots: &[Slot]) -> Vec<SlotFinding> {
    let (of, least) = (text(params, "of"), integer(params, "slots").max(1));
    let border = micros(params, "value");
    let alike = |slot: &Slot, first: &Slot| match (of, slot.value.map(Amount::micros)) {
        ("estimated", _) => slot.quality.is_estimate(),
        (_, None) => false,
        ("zero", Some(value)) => value == 0,
        ("above", Some(value)) => value > border,
        ("below", Some(value)) => value < border,
        // Zero again and again is a run of zeros.
        (_, Some(value)) => value != 0 && slot.value == first.value,
    };
    let mut found = Vec::new();
    let mut begin = 0;
    let end = slots.partition_point(|slot| slot.start < month.to);
    while begin < end {
        let first = &slots[begin];
        let mut after = begin;
        while after < end
            && alike(&slots[after], first)
            && (after == begin || slots[after - 1].end == slots[after].start)
        {
            after += 1;
        }
        let run = &slots[begin..after];
        begin = after.max(begin + 1);
        let Some(last) = run.last().filter(|last| last.end > month.from) else { continue };
        let count = i64::try_from(run.len()).unwrap_or(i64::MAX);
        if count >= least {
            found.push(SlotFinding {
                start: first.start,
                end: last.end,
                measured: Amount::from_scaled(count, 0).ok(),
                reference: first.value.filter(|_| of == "equal"),
                limit: Amount::from_scaled(least, 0).ok(),
                estimated: of != "estimated" && run.iter().any(|slot| slot.quality.is_estimate()),
                evidence: format!("{count} slots {of}"),
            });
        }
    }
    found
}

/// V23: a slot far from the valid one before it.
fn steps(params: &Params, month: &Month, slots: &[Slot]) -> Vec<SlotFinding> {
    let (percent, floor) = (i128::from(integer(params, "percent")), i128::from(micros(params, "floor")));
    let mut found = Vec::new();
    let mut before: Option<i64> = None;
    for slot in slots {
        let Some(value) = slot.known() else { continue };
        let last = before.replace(value);
        let Some(last) = last.filter(|_| slot.start >= month.from && slot.start < month.to) else { continue };
        let step = (i128::from(value) - i128::from(last)).abs();
        if step > floor && step * 100 > percent * i128::from(last.abs()) {
            let reference = Amount::from_micros(last);
            found.push(SlotFinding {
                start: slot.start,
                end: slot.end,
                measured: slot.value,
                reference,
                limit: None,
                estimated: false,
                evidence: format!("{} after {}", slot.value.unwrap_or_default(), reference.unwrap_or_default()),
            });
        }
    }
    found
}

fn integer(params: &Params, name: &str) -> i64 {
    match params.get(name) {
        Some(Value::Integer(n)) => *n,
        _ => 0,
    }
}

fn micros(params: &Params, name: &str) -> i64 {
    match params.get(name) {
        Some(Value::Decimal(amount)) => amount.micros(),
        _ => 0,
    }
}

fn text<'a>(params: &'a Params, name: &str) -> &'a str {
    match params.get(name) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}
