//! Reads `[calendar.NAME]` and has it proved.

use std::collections::{BTreeMap, BTreeSet};

use meterlake_model::calendar::{
    Bucket, Calendar, CalendarEvent, CalendarPlan, CalendarRule, Calendars, DAY_MINUTES, DayKinds, HolidayMeans,
    MonthDays, Place,
};
use meterlake_model::{Timestamp, UsagePointId, Zone};

use super::Holidays;
use crate::document::{At, Section};
use crate::settings::{Named, Surroundings, named};
use crate::spelling::near_miss;

const HOLIDAYS: Named<Holidays> = Named {
    word: "holidays",
    names: || Holidays::shipped_names().collect(),
    shipped: Holidays::shipped,
    parse: Holidays::parse,
};

/// Weekdays as they are written, from Monday.
const WEEKDAYS: [(&str, u8); 7] = [("mon", 0), ("tue", 1), ("wed", 2), ("thu", 3), ("fri", 4), ("sat", 5), ("sun", 6)];

/// Reads `[calendar.NAME]`, all of them, into those that are known already.
pub(crate) fn calendars(root: &mut Section<'_>, around: &Surroundings<'_>, known: &mut Calendars) {
    for (name, mut section) in root.sections_by_key("calendar") {
        let ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.value.is_empty() || name.value.len() > 64 || !name.value.chars().all(ok) {
            let text = "a calendar's name is 1 to 64 letters, digits, `-`, `_` or `.`";
            section.document().note(name.line, text);
        }
        if known.contains_key(&name.value) {
            section.document().note(name.line, format!("there are two calendars of the name `{}`", name.value));
        }
        if let Some(calendar) = calendar(&mut section, &name.value, around) {
            known.insert(name.value, calendar);
        }
    }
}

/// The buckets of a calendar, whether they are listed first or named as they come.
struct Buckets {
    names: Vec<String>,
    listed: bool,
}

impl Buckets {
    fn number(&mut self, name: &str) -> Result<Bucket, String> {
        let at = match self.names.iter().position(|known| known == name) {
            Some(at) => at,
            None if self.listed => return Err(unknown("bucket", name, self.names.iter().map(String::as_str))),
            None => {
                self.names.push(name.to_owned());
                self.names.len() - 1
            }
        };
        u16::try_from(at).map_err(|_| "has too many buckets".to_owned())
    }
}

fn unknown<'k>(what: &str, name: &str, known: impl Iterator<Item = &'k str>) -> String {
    let known: Vec<_> = known.collect();
    match near_miss(name, &known) {
        Some(near) => format!("names {what} `{name}`, which the calendar does not have; did you mean `{near}`?"),
        None if known.is_empty() => format!("names {what} `{name}`; the calendar has none"),
        None => format!("names {what} `{name}`, which the calendar does not have; it has {}", known.join(", ")),
    }
}

fn calendar(s: &mut Section<'_>, name: &str, around: &Surroundings<'_>) -> Option<Calendar> {
    let zone = s.parsed("zone", |text| Zone::parse(text).map_err(|error| format!("is wrong: {error}")));
    let zone = s.required("zone", zone);
    let listed = s.texts("buckets");
    let mut buckets = Buckets {
        listed: listed.is_some(),
        names: listed.unwrap_or_default().into_iter().map(|text| text.value).collect(),
    };
    let default = s.parsed("default", |text| buckets.number(text));
    let years: Option<BTreeSet<i16>> = s.numbers("years", 1900..=2200_i16).map(|years| years.into_iter().collect());
    let (holidays, holiday) = holidays(s, around, years.as_ref(), &mut buckets);
    let seasons = seasons(s);
    let (mut rules, mut all) = (Vec::new(), true);
    for mut section in s.sections("rules") {
        let read = rule(&mut section, &seasons, &holidays.names, &mut buckets);
        all &= read.is_some();
        rules.extend(read.map(|rule| (rule, section.line())));
    }
    let mut events = Vec::new();
    for mut section in s.sections("events") {
        events.extend(event(&mut section, &mut buckets).map(|event| (event, section.line())));
    }
    events.sort_by_key(|(event, _)| (event.from, event.to));
    let (rules, rule_lines): (Vec<_>, Vec<_>) = rules.into_iter().unzip();
    let (events, event_lines): (Vec<_>, Vec<_>) = events.into_iter().unzip();
    let plan = CalendarPlan {
        name: name.to_owned(),
        zone: zone?,
        buckets: buckets.names,
        // Where a rule is wrong in itself, what it leaves open is not told besides.
        default: default.or(if all && !s.has("default") { None } else { Some(0) }),
        years,
        holidays: holidays.days,
        working_days: holidays.working_days,
        holiday,
        rules,
        events,
    };
    let line = |place: Place| match place {
        Place::Plan => s.line(),
        Place::Rule(at) => rule_lines.get(at).copied().unwrap_or(s.line()),
        Place::Event(at) => event_lines.get(at).copied().unwrap_or(s.line()),
    };
    match Calendar::prove(plan) {
        Ok(calendar) => Some(calendar),
        Err(faults) => {
            for fault in faults {
                let what = match fault.at {
                    Place::Plan => format!("calendar `{name}`"),
                    Place::Rule(_) => format!("this rule of calendar `{name}`"),
                    Place::Event(_) => format!("this event of calendar `{name}`"),
                };
                let with = fault.with.map_or(String::new(), |with| format!(": the one of line {}", line(with)));
                s.document().note(line(fault.at), format!("{what} {}{with}", fault.text));
            }
            None
        }
    }
}

/// The holidays of a calendar's years.
#[derive(Default)]
struct Known {
    days: BTreeMap<meterlake_model::CivilDay, String>,
    working_days: BTreeSet<meterlake_model::CivilDay>,
    names: BTreeSet<String>,
}

fn holidays(
    s: &mut Section<'_>,
    around: &Surroundings<'_>,
    years: Option<&BTreeSet<i16>>,
    buckets: &mut Buckets,
) -> (Known, HolidayMeans) {
    let file = s.text("holidays");
    let except = s.texts("holidays_except").unwrap_or_default();
    let means = s.parsed("holiday_as", |text| buckets.number(text)).map(HolidayMeans::Bucket);
    let choices: Vec<(&str, HolidayMeans)> = WEEKDAYS
        .map(|(word, weekday)| (word, HolidayMeans::Weekday(weekday)))
        .into_iter()
        .chain([("its_weekday", HolidayMeans::ItsWeekday)])
        .collect();
    let like = s.choice("holiday_like", &choices);
    let nothing = (Known::default(), HolidayMeans::ItsWeekday);
    let Some(file) = file else {
        for key in ["holidays_except", "holiday_as", "holiday_like"] {
            if s.has(key) {
                s.refuse(key, "says what holidays are; name them in `holidays`, such as \"es\"");
            }
        }
        return nothing;
    };
    match (means, like) {
        (Some(_), Some(_)) => s.refuse("holiday_like", "and `holiday_as` say both what holidays are; one will do"),
        (None, None) if !s.has("holiday_as") && !s.has("holiday_like") => {
            s.refuse("holidays", "wants `holiday_as`, a bucket, or `holiday_like`, a weekday or \"its_weekday\"");
        }
        _ => {}
    }
    let Some(years) = years else {
        s.refuse("years", "is missing: `holidays` are announced by year, so say for which the calendar holds");
        return nothing;
    };
    let line = s.line_of("holidays");
    let Some(found) = named(s, ("calendar.holidays", line), &file, around, &HOLIDAYS) else { return nothing };
    let missing: Vec<_> = years.difference(&found.years).map(ToString::to_string).collect();
    if !missing.is_empty() {
        let covered: Vec<_> = found.years.iter().map(ToString::to_string).collect();
        let complaint = format!(
            "names {}, which holidays `{file}` do not cover; they cover {}",
            missing.join(", "),
            covered.join(", ")
        );
        s.refuse("years", complaint);
    }
    let names: BTreeSet<String> = found.days.values().cloned().collect();
    let mut known = Known { days: found.days, working_days: found.working_days, names };
    for text in except {
        if known.names.remove(&text.value) {
            known.days.retain(|_, name| *name != text.value);
        } else {
            let complaint = unknown("holiday", &text.value, known.names.iter().map(String::as_str));
            s.document().note(text.line, format!("`calendar.holidays_except` {complaint}"));
        }
    }
    known.days.retain(|day, _| years.contains(&day.year()));
    known.working_days.retain(|day| years.contains(&day.year()));
    (known, means.or(like).unwrap_or(HolidayMeans::ItsWeekday))
}

type Seasons = BTreeMap<String, MonthDays>;

fn seasons(s: &mut Section<'_>) -> Seasons {
    let mut seasons = Seasons::new();
    for (name, text) in s.texts_by_key("seasons").unwrap_or_default() {
        match dates(&text) {
            Ok(days) => drop(seasons.insert(name.value, days)),
            Err(complaint) => s.document().note(name.line, format!("`calendar.seasons.{}` {complaint}", name.value)),
        }
    }
    seasons
}

/// Days of the year such as `06-15..09-15, 12-24`, both ends included.
fn dates(text: &str) -> Result<MonthDays, String> {
    let mut days = MonthDays::none();
    for range in text.split(',').map(str::trim) {
        let (first, last) = range.split_once("..").unwrap_or((range, range));
        let part = |text: &str| -> Option<(i8, i8)> {
            let (month, day) = text.trim().split_once('-')?;
            Some((month.parse().ok()?, day.parse().ok()?))
        };
        let added = part(first).zip(part(last)).is_some_and(|(first, last)| days.add(first, last));
        if !added {
            return Err(format!("has \"{range}\"; days of the year such as \"06-15..09-15\" are wanted"));
        }
    }
    Ok(days)
}

fn rule(
    s: &mut Section<'_>,
    seasons: &Seasons,
    holidays: &BTreeSet<String>,
    buckets: &mut Buckets,
) -> Option<CalendarRule> {
    let days = match s.texts("days") {
        Some(words) => words.iter().fold(DayKinds::default(), |days, word| days.union(day_kinds(s, word, holidays))),
        None => DayKinds::all(),
    };
    let months = s.numbers("months", 1..=12_i8).map(MonthDays::months);
    let season = s.parsed("season", |name| match seasons.get(name) {
        Some(days) => Ok(*days),
        None => Err(unknown("season", name, seasons.keys().map(String::as_str))),
    });
    if months.is_some() && season.is_some() {
        s.refuse("season", "and `months` say both when; one will do");
    }
    let (from, to) = (s.parsed("from", minute), s.parsed("to", minute));
    let bucket = s.parsed("bucket", |name| buckets.number(name));
    let bucket = s.required("bucket", bucket);
    let priority = s.integer("priority", 0..=9_u8).unwrap_or(0);
    let wrong = |key: &str, is_read: bool| s.has(key) && !is_read;
    if wrong("season", season.is_some()) || wrong("months", months.is_some()) {
        return None;
    }
    if wrong("from", from.is_some()) || wrong("to", to.is_some()) {
        return None;
    }
    let dates = months.or(season).unwrap_or_else(MonthDays::all);
    let minutes = (from.unwrap_or(0), to.unwrap_or(DAY_MINUTES));
    Some(CalendarRule { days, dates, minutes, bucket: bucket?, priority })
}

fn day_kinds(s: &Section<'_>, word: &At<String>, holidays: &BTreeSet<String>) -> DayKinds {
    match word.value.as_str() {
        "workday" => DayKinds::workdays(),
        "weekend" => DayKinds::weekends(),
        "holiday" if holidays.is_empty() => {
            s.document()
                .note(word.line, "`calendar.rules.days` names holidays; say which in `holidays`, such as \"es\"");
            DayKinds::default()
        }
        "holiday" => DayKinds::holidays(),
        name => {
            let mut kinds = DayKinds::default();
            if let Some((_, weekday)) = WEEKDAYS.iter().find(|(word, _)| *word == name) {
                kinds.weekdays[usize::from(*weekday)] = true;
            } else if holidays.contains(name) {
                kinds.holidays.insert(name.to_owned());
            } else {
                let known = WEEKDAYS.iter().map(|(word, _)| *word).chain(["workday", "weekend", "holiday"]);
                let complaint = unknown("day", name, known.chain(holidays.iter().map(String::as_str)));
                s.document().note(word.line, format!("`calendar.rules.days` {complaint}"));
            }
            kinds
        }
    }
}

/// Minutes since midnight of a text such as `18:30`, up to `24:00`.
fn minute(text: &str) -> Result<u16, String> {
    let part = |text: &str| (text.len() == 2).then(|| text.parse::<u16>().ok()).flatten();
    let (hours, minutes) = text.split_once(':').unwrap_or(("", ""));
    match part(hours).zip(part(minutes)) {
        Some((hours, minutes)) if minutes < 60 && hours * 60 + minutes <= 1440 => Ok(hours * 60 + minutes),
        _ => Err(format!("is \"{text}\"; a time of the wall clock from \"00:00\" to \"24:00\" is wanted")),
    }
}

fn event(s: &mut Section<'_>, buckets: &mut Buckets) -> Option<CalendarEvent> {
    let instant = |text: &str| Timestamp::parse_rfc3339(text).map_err(|error| format!("is wrong: {error}"));
    let (from, to) = (s.parsed("from", instant), s.parsed("to", instant));
    let (from, to) = (s.required("from", from), s.required("to", to));
    let bucket = s.parsed("bucket", |name| buckets.number(name));
    let bucket = s.required("bucket", bucket);
    let points = s.texts("points").map(|texts| point_ids(s, "calendar.events.points", texts));
    Some(CalendarEvent { from: from?, to: to?, bucket: bucket?, points })
}

/// Usage points by name.
pub(crate) fn point_ids(s: &Section<'_>, key: &str, texts: Vec<At<String>>) -> BTreeSet<UsagePointId> {
    let mut points = BTreeSet::new();
    for text in texts {
        match UsagePointId::new(&text.value) {
            Ok(point) if points.insert(point.clone()) => {}
            Ok(point) => s.document().note(text.line, format!("`{key}` names `{point}` twice")),
            Err(error) => s.document().note(text.line, format!("`{key}`: {error}")),
        }
    }
    points
}
