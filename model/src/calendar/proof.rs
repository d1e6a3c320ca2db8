//! The proof that every minute of every kind of day has exactly one bucket, and what speaks against it.

use std::collections::BTreeMap;

use super::days::{DayKind, DayKinds, YEAR_DAYS, month_day};
use super::{Bucket, Calendar, CalendarPlan, CalendarRule, DAY_MINUTES, HolidayMeans, MAX_BUCKETS, Stretch};

/// Where a fault stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The plan as a whole.
    Plan,
    /// A rule by its place among the rules.
    Rule(usize),
    /// An event by its place among the events, in order of time.
    Event(usize),
}

/// Why a plan is no calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is to be mended.
    pub at: Place,
    /// What else it is about: the rule or event that it overlaps.
    pub with: Option<Place>,
    /// What is wrong: lower case, no final stop.
    pub text: String,
}

pub(super) fn prove(plan: CalendarPlan) -> Result<Calendar, Vec<Fault>> {
    let mut faults = Vec::new();
    of_buckets(&plan, &mut faults);
    of_rules(&plan, &mut faults);
    of_events(&plan, &mut faults);
    let mut patterns: Vec<Vec<Stretch>> = Vec::new();
    let mut numbers: BTreeMap<Vec<Stretch>, u16> = BTreeMap::new();
    let mut of_day: BTreeMap<DayKind, Vec<u16>> = BTreeMap::new();
    let mut gap = None;
    for kind in kinds(&plan) {
        let mut days = Vec::with_capacity(YEAR_DAYS);
        // Days of the year with the same rules are painted once.
        let mut painted: BTreeMap<Vec<usize>, Result<u16, u16>> = BTreeMap::new();
        for place in 0..YEAR_DAYS {
            let rules = plan.rules.iter().enumerate().filter(|(_, rule)| rule.dates.has(place));
            let mut rules: Vec<usize> = rules.map(|(at, _)| at).collect();
            rules.sort_by_key(|at| plan.rules[*at].priority);
            let number = *painted.entry(rules).or_insert_with_key(|rules| {
                let rules: Vec<_> = rules.iter().map(|at| &plan.rules[*at]).collect();
                let pattern = paint(&plan, &kind, &rules)?;
                let next = u16::try_from(patterns.len()).unwrap_or(u16::MAX);
                let number = *numbers.entry(pattern.clone()).or_insert(next);
                if number == next {
                    patterns.push(pattern);
                }
                Ok(number)
            });
            match number {
                Ok(number) => days.push(number),
                Err(minute) => drop(gap.get_or_insert_with(|| (kind.words(), place, minute))),
            }
        }
        of_day.insert(kind, days);
    }
    if let Some((kind, place, minute)) = gap {
        let text = format!(
            "has no bucket for {} from {:02}:{:02} on {kind}; name it in a rule, or give a `default`",
            month_day(place),
            minute / 60,
            minute % 60
        );
        faults.push(Fault { at: Place::Plan, with: None, text });
    }
    if faults.is_empty() { Ok(Calendar { plan, patterns, of_day }) } else { Err(faults) }
}

fn of_buckets(plan: &CalendarPlan, faults: &mut Vec<Fault>) {
    let mut note = |at, text: String| faults.push(Fault { at, with: None, text });
    if plan.buckets.is_empty() || plan.buckets.len() > MAX_BUCKETS {
        note(Place::Plan, format!("has {} buckets; 1 to {MAX_BUCKETS} are possible", plan.buckets.len()));
    }
    for (at, bucket) in plan.buckets.iter().enumerate() {
        if plan.buckets[..at].contains(bucket) {
            note(Place::Plan, format!("names bucket `{bucket}` twice"));
        }
    }
    let known = |bucket: Bucket| usize::from(bucket) < plan.buckets.len();
    let holiday = match plan.holiday {
        HolidayMeans::Bucket(bucket) => Some(bucket),
        HolidayMeans::ItsWeekday | HolidayMeans::Weekday(_) => None,
    };
    for bucket in plan.default.into_iter().chain(holiday).filter(|bucket| !known(*bucket)) {
        note(Place::Plan, format!("has no bucket number {bucket}"));
    }
    for (at, rule) in plan.rules.iter().enumerate().filter(|(_, rule)| !known(rule.bucket)) {
        note(Place::Rule(at), format!("has no bucket number {}", rule.bucket));
    }
    for (at, event) in plan.events.iter().enumerate().filter(|(_, event)| !known(event.bucket)) {
        note(Place::Event(at), format!("has no bucket number {}", event.bucket));
    }
}

fn of_rules(plan: &CalendarPlan, faults: &mut Vec<Fault>) {
    for (at, rule) in plan.rules.iter().enumerate() {
        let mut note = |with, text: &str| faults.push(Fault { at: Place::Rule(at), with, text: text.to_owned() });
        let (from, to) = rule.minutes;
        if from >= DAY_MINUTES || to == 0 || to > DAY_MINUTES || from == to {
            note(None, "is no stretch of a day: from 00:00 to 24:00 is possible");
        }
        if rule.dates.is_empty() {
            note(None, "is for no day of the year");
        }
        for name in rule.days.holidays.iter().filter(|name| !plan.holidays.values().any(|known| known == *name)) {
            note(None, &format!("names a holiday `{name}` that the calendar does not have"));
        }
        for (other_at, other) in plan.rules[..at].iter().enumerate() {
            let same = rule.priority == other.priority && rule.dates.meets(other.dates);
            if same && stretches_meet(rule, other) && rule.days.meets(&other.days, plan) {
                note(Some(Place::Rule(other_at)), "overlaps another rule of the same priority");
            }
        }
    }
}

fn stretches_meet(a: &CalendarRule, b: &CalendarRule) -> bool {
    a.stretches().iter().any(|a| b.stretches().iter().any(|b| a.0.max(b.0) < a.1.min(b.1)))
}

fn of_events(plan: &CalendarPlan, faults: &mut Vec<Fault>) {
    for (at, event) in plan.events.iter().enumerate() {
        let mut note = |with, text: &str| faults.push(Fault { at: Place::Event(at), with, text: text.to_owned() });
        if event.from >= event.to {
            note(None, "ends before it begins");
        }
        for (other_at, other) in plan.events[..at].iter().enumerate() {
            let shared = match (&event.points, &other.points) {
                (Some(a), Some(b)) => !a.is_disjoint(b),
                _ => true,
            };
            if shared && other.from < event.to && event.from < other.to {
                note(Some(Place::Event(other_at)), "overlaps another event of the same usage points");
            }
        }
    }
}

/// Every kind of day that the plan knows.
fn kinds(plan: &CalendarPlan) -> Vec<DayKind> {
    let mut kinds: Vec<_> = (0..7).map(DayKind::Weekday).collect();
    kinds.push(DayKind::MadeUp);
    let mut holidays: Vec<_> =
        plan.holidays.iter().map(|(d, name)| DayKind::Holiday(name.clone(), d.weekday())).collect();
    holidays.sort();
    holidays.dedup();
    kinds.extend(holidays);
    kinds
}

/// Lays the rules for some kinds of days over a day, in their order.
fn lay(minutes: &mut [Option<Bucket>], rules: &[&CalendarRule], is_for: impl Fn(&DayKinds) -> bool) {
    for rule in rules.iter().filter(|rule| is_for(&rule.days)) {
        for (from, to) in rule.stretches() {
            if let Some(stretch) = minutes.get_mut(usize::from(from)..usize::from(to.min(DAY_MINUTES))) {
                stretch.fill(Some(rule.bucket));
            }
        }
    }
}

/// The stretches of a day with these rules, in rising priority, or the first minute without a bucket.
fn paint(plan: &CalendarPlan, kind: &DayKind, rules: &[&CalendarRule]) -> Result<Vec<Stretch>, u16> {
    let mut minutes = vec![plan.default; usize::from(DAY_MINUTES)];
    match kind {
        DayKind::Weekday(weekday) => lay(&mut minutes, rules, |days| days.weekday(*weekday)),
        DayKind::MadeUp => lay(&mut minutes, rules, |days| days.made_up),
        DayKind::Holiday(name, weekday) => {
            match plan.holiday {
                HolidayMeans::ItsWeekday => lay(&mut minutes, rules, |days| days.weekday(*weekday)),
                HolidayMeans::Weekday(like) => lay(&mut minutes, rules, |days| days.weekday(like)),
                HolidayMeans::Bucket(bucket) => minutes.fill(Some(bucket)),
            }
            lay(&mut minutes, rules, |days| days.names(name));
        }
    }
    let mut pattern: Vec<Stretch> = Vec::new();
    for (end, bucket) in (1_u16..).zip(minutes) {
        let bucket = bucket.ok_or(end - 1)?;
        match pattern.last_mut() {
            Some(last) if last.1 == bucket => last.0 = end,
            _ => pattern.push((end, bucket)),
        }
    }
    Ok(pattern)
}
