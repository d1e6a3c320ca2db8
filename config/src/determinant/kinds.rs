//! What each kind of determinant says.

use std::collections::BTreeMap;

use meterlake_model::calendar::Calendars;
use meterlake_model::determinant::{
    CloseTo, Kind, Peak, PowerFactorStandard, Ratchet, TierPeriod, UnmeteredItem, UnmeteredLoad, Window, Within,
};
use meterlake_model::formula::Formula;
use meterlake_model::{Amount, Channel, ChannelKind};

use crate::calendar::point_ids;
use crate::document::{At, Section};
use crate::quantity::{DAY, MINUTE};
use crate::spelling::near_miss;

/// The words for [`Kind`].
const KINDS: [(&str, Word); 12] = [
    ("boundary", Word::Boundary),
    ("use", Word::Use),
    ("bucket", Word::Bucket),
    ("tariff_registers", Word::TariffRegisters),
    ("peak", Word::Peak),
    ("coincident", Word::Coincident),
    ("power_factor", Word::PowerFactor),
    ("tier", Word::Tier),
    ("curve", Word::Curve),
    ("formula", Word::Formula),
    ("evidence", Word::Evidence),
    ("unmetered", Word::Unmetered),
];

#[derive(Debug, Clone, Copy)]
enum Word {
    Boundary,
    Use,
    Bucket,
    TariffRegisters,
    Peak,
    Coincident,
    PowerFactor,
    Tier,
    Curve,
    Formula,
    Evidence,
    Unmetered,
}

pub(super) fn read(s: &mut Section<'_>, calendars: &Calendars) -> Option<Kind> {
    let word = s.choice("kind", &KINDS);
    Some(match s.required("kind", word)? {
        Word::Boundary => Kind::Boundary { channel: register(s)? },
        Word::Use => Kind::Use { channel: channel(s)? },
        Word::Bucket => {
            let (channel, within) = (channel(s), within(s, "buckets", calendars));
            if within.is_none() && !s.has("calendar") {
                s.refuse("calendar", "is missing");
            }
            let close_to = close_to(s, channel);
            Kind::Bucket { channel: channel?, within: within?, close_to }
        }
        Word::TariffRegisters => tariff_registers(s)?,
        Word::Peak => Kind::Peak(peak(s, calendars, true)?),
        Word::Coincident => Kind::Coincident(peak(s, calendars, false)?),
        Word::PowerFactor => {
            let (active, reactive) = (channels(s, "active", "_kwh"), channels(s, "reactive", "_kvarh"));
            let standards = [
                ("0.90", PowerFactorStandard::P90),
                ("0.85", PowerFactorStandard::P85),
                ("0.80", PowerFactorStandard::P80),
            ];
            let standard = s.choice("standard", &standards);
            Kind::PowerFactor { active: active?, reactive: reactive?, standard }
        }
        Word::Tier => tier(s)?,
        Word::Curve => {
            let (channel, interval_s) = (channel(s), seconds(s, "interval"));
            let interval_s = s.required("interval", interval_s);
            Kind::Curve { channel: channel?, interval_s: interval_s? }
        }
        Word::Formula => {
            let formula = s.parsed("formula", Formula::parse);
            let formula = s.required("formula", formula);
            let of = s.texts("of").map(|texts| point_ids(s, "determinant.of", texts)).unwrap_or_default();
            let unit = s.text("unit");
            let unit = s.required("unit", unit);
            Kind::Formula { formula: formula?, of: of.into_iter().collect(), unit: unit? }
        }
        Word::Evidence => Kind::Evidence { channel: channel(s)? },
        Word::Unmetered => unmetered(s, calendars)?,
    })
}

/// A register or interval channel by name.
fn channel_named(text: &str) -> Result<Channel, String> {
    let fits = |channel: &Channel| channel.kind() != ChannelKind::Physical;
    let names: Vec<_> = Channel::all().filter(fits).map(Channel::name).collect();
    Channel::by_name(text).filter(fits).ok_or_else(|| match near_miss(text, &names) {
        Some(near) => format!("is \"{text}\", which counts no use; did you mean `{near}`?"),
        None => format!("is \"{text}\", which counts no use; there are {}", names.join(", ")),
    })
}

fn channel(s: &mut Section<'_>) -> Option<Channel> {
    let channel = s.parsed("channel", channel_named);
    s.required("channel", channel)
}

fn register(s: &mut Section<'_>) -> Option<Channel> {
    let channel = channel(s)?;
    if channel.kind() != ChannelKind::Register {
        s.refuse(
            "channel",
            format_args!("is {channel}, which is no register and has no readings at the ends of a cycle"),
        );
        return None;
    }
    Some(channel)
}

fn channels(s: &mut Section<'_>, key: &'static str, unit: &str) -> Option<Vec<Channel>> {
    let texts = s.texts(key);
    let texts = s.required(key, texts)?;
    let mut channels = Vec::new();
    for At { value, line } in texts {
        match channel_named(&value) {
            Ok(channel) if channel.name().ends_with(unit) && !channels.contains(&channel) => channels.push(channel),
            Ok(channel) => {
                let complaint = format!("`determinant.{key}` names {channel}, which is not in {} or twice", &unit[1..]);
                s.document().note(line, complaint);
            }
            Err(complaint) => s.document().note(line, format!("`determinant.{key}` {complaint}")),
        }
    }
    if channels.is_empty() {
        s.refuse(key, "names no channel");
        return None;
    }
    Some(channels)
}

/// A calendar and buckets of it; `None` also where no calendar is named.
fn within(s: &mut Section<'_>, key: &'static str, calendars: &Calendars) -> Option<Within> {
    let name = s.text("calendar");
    let buckets = s.texts(key);
    let Some(name) = name else {
        if buckets.is_some() {
            s.refuse(key, "names buckets; say of which `calendar`");
        }
        return None;
    };
    let Some(calendar) = calendars.get(&name) else {
        let known: Vec<_> = calendars.keys().map(String::as_str).collect();
        let hint = match near_miss(&name, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "there is none".to_owned(),
            None => format!("there are {}", known.join(", ")),
        };
        s.refuse("calendar", format_args!("is \"{name}\", which is no sound calendar of this configuration; {hint}"));
        return None;
    };
    let mut names: Vec<String> = Vec::new();
    for At { value, line } in buckets.unwrap_or_default() {
        if calendar.bucket(&value).is_none() {
            let known = calendar.buckets().join(", ");
            let complaint =
                format!("`determinant.{key}` names `{value}`, which calendar `{name}` does not have; it has {known}");
            s.document().note(line, complaint);
        } else if names.contains(&value) {
            s.document().note(line, format!("`determinant.{key}` names `{value}` twice"));
        } else {
            names.push(value);
        }
    }
    Some(Within { calendar: name, buckets: names })
}

fn close_to(s: &mut Section<'_>, own: Option<Channel>) -> CloseTo {
    let close = s.parsed("close_to", |text| match (text, own) {
        ("use", Some(own)) => Ok(CloseTo::UseOf(own)),
        ("use", None) => Err("is \"use\", and there is no one channel; name one".to_owned()),
        (name, _) => channel_named(name).map(CloseTo::UseOf),
    });
    close.unwrap_or(CloseTo::Itself)
}

fn tariff_registers(s: &mut Section<'_>) -> Option<Kind> {
    let texts = s.texts_by_key("registers");
    let texts = s.required("registers", texts)?;
    let mut registers = BTreeMap::new();
    for (bucket, text) in texts {
        match channel_named(&text) {
            Ok(channel) if !registers.values().any(|known| *known == channel) => {
                registers.insert(bucket.value, channel);
            }
            Ok(channel) => s.document().note(bucket.line, format!("`determinant.registers` names {channel} twice")),
            Err(complaint) => {
                s.document().note(bucket.line, format!("`determinant.registers.{}` {complaint}", bucket.value));
            }
        }
    }
    let close_to = close_to(s, None);
    if registers.is_empty() {
        s.refuse("registers", "names no register");
        return None;
    }
    Some(Kind::TariffRegisters { registers, close_to })
}

fn seconds(s: &mut Section<'_>, key: &'static str) -> Option<i64> {
    let duration = s.duration(key, MINUTE..=DAY)?;
    if !duration.subsec_nanos().eq(&0) || !DAY.as_secs().is_multiple_of(duration.as_secs()) {
        s.refuse(key, "does not divide a day of 24 hours");
        return None;
    }
    i64::try_from(duration.as_secs()).ok()
}

fn peak(s: &mut Section<'_>, calendars: &Calendars, alone: bool) -> Option<Peak> {
    let channel = channel(s);
    let length_s = seconds(s, "window");
    let length_s = s.required("window", length_s);
    let step_s = seconds(s, "step").or(if s.has("step") { None } else { length_s });
    let within = within(s, "within", calendars);
    let words = [("exclude", false), ("include", true)];
    let estimated = s.choice("estimated", &words).unwrap_or(false);
    let restored = s.choice("restored", &words).unwrap_or(false);
    let (mut nth, mut by_day, mut ratchet) = (1, false, None);
    if alone {
        nth = s.integer("nth", 1..=100_u16).unwrap_or(1);
        by_day = s.choice("of_each", &[("window", false), ("day", true)]).unwrap_or(false);
        let mut section = s.section("ratchet");
        let permille = section.permille("percent", 1..=1000);
        let cycles = section.integer("cycles", 1..=36_u8);
        if section.is_there() {
            let (permille, cycles) = (section.required("percent", permille), section.required("cycles", cycles));
            ratchet = permille.zip(cycles).map(|(permille, cycles)| Ratchet { permille, cycles });
        }
    }
    let (length_s, step_s) = (length_s?, step_s?);
    if length_s % step_s != 0 {
        s.refuse("step", "does not divide the `window`");
        return None;
    }
    let window = Window { length_s, step_s };
    Some(Peak { channel: channel?, window, within, estimated, restored, nth, by_day, ratchet })
}

fn tier(s: &mut Section<'_>) -> Option<Kind> {
    let channel = channel(s);
    let texts = s.texts("limits");
    let mut limits: Vec<Amount> = Vec::new();
    for At { value, line } in s.required("limits", texts)? {
        match Amount::parse(&value) {
            Ok(limit) if limit > limits.last().copied().unwrap_or_default() => limits.push(limit),
            Ok(_) => s
                .document()
                .note(line, format!("`determinant.limits` has {value}, which does not rise above 0 and those before")),
            Err(error) => s.document().note(line, format!("`determinant.limits` has \"{value}\", which is {error}")),
        }
    }
    let period = s.choice("period", &[("cycle", false), ("year", true)]).unwrap_or(true);
    let start = s.parsed("year_start", |text| {
        let (month, day) = text.split_once('-').unwrap_or(("", ""));
        let parts = month.parse::<i8>().ok().zip(day.parse::<i8>().ok());
        parts
            .filter(|(month, day)| (1..=12).contains(month) && (1..=28).contains(day))
            .ok_or_else(|| format!("is \"{text}\"; a month and a day up to 28 such as \"01-01\" are wanted"))
    });
    let prorate = s.boolean("prorate").unwrap_or(false);
    if !period && (s.has("year_start") || prorate) {
        s.refuse("period", "is \"cycle\"; `year_start` and `prorate` are for a year");
    }
    if limits.is_empty() || limits.len() > 16 {
        s.refuse("limits", "wants 1 to 16 rising limits");
        return None;
    }
    let (month, day) = start.unwrap_or((1, 1));
    let period = if period { TierPeriod::Year(month, day) } else { TierPeriod::Cycle };
    Some(Kind::Tier { channel: channel?, limits, period, prorate })
}

fn unmetered(s: &mut Section<'_>, calendars: &Calendars) -> Option<Kind> {
    let within = within(s, "within", calendars);
    let unit = s.text("unit").unwrap_or_else(|| "kWh".to_owned());
    let mut items = Vec::new();
    for mut item in s.sections("items") {
        let name = item.text("name");
        let count = item.integer("count", 1..=10_000_000_u32);
        let most = 1_000_000_000_000;
        let daily = item.decimal("a_day", Amount::SCALE, 0..=most).and_then(Amount::from_micros);
        let hourly = item.decimal("an_hour", Amount::SCALE, 0..=most).and_then(Amount::from_micros);
        let (name, count) = (item.required("name", name), item.required("count", count));
        let load = match (daily, hourly) {
            (Some(daily), None) => UnmeteredLoad::Daily(daily),
            (None, Some(hourly)) => UnmeteredLoad::Hourly(hourly),
            _ => {
                item.refuse("a_day", "or `an_hour`, one of the two, says what one uses");
                continue;
            }
        };
        items.extend(name.zip(count).map(|(name, count)| UnmeteredItem { name, count, load }));
    }
    if items.is_empty() {
        s.refuse("items", "lists nothing");
        return None;
    }
    Some(Kind::Unmetered { items, within, unit })
}
