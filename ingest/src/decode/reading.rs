//! One reading after the other: who speaks, when, and what.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use meterlake_config::payload_map::{Conversion, EventTest, Field, Format, JsonPath, PayloadMap, Step};
use meterlake_model::{
    Channel, Commodity, DeadReason, DecimalError, EventKind, MeterDirectory, MeterEntry, MeterEvent, MeterId,
    RawMessage, ReadingBatch, ReadingFlags, RowHeader, Timestamp,
};

use super::document::{Kind, Value, shortened};
use super::{Refusal, number, time};

/// The longest detail of an event, in characters; a status word is far shorter.
const MAX_EVENT_DETAIL: usize = 256;

static CHANNELS: LazyLock<HashMap<&'static str, Channel>> =
    LazyLock::new(|| Channel::all().map(|channel| (channel.name(), channel)).collect());

/// All that decides what a message means.
pub(super) struct Context<'a> {
    pub(super) map: &'a PayloadMap,
    pub(super) topic_meter: Option<&'a str>,
    pub(super) root: Value<'a>,
    pub(super) message: &'a RawMessage,
    pub(super) retained: bool,
    pub(super) directory: &'a MeterDirectory,
}

/// What a message said, held until all of it was read.
#[derive(Default)]
pub(super) struct Gathered {
    rows: Vec<(Commodity, RowHeader, usize)>,
    /// Of all rows, one behind the other; a row holds where its own end.
    values: Vec<(Channel, i64)>,
    events: Vec<MeterEvent>,
}

impl Gathered {
    pub(super) fn hand_over(self, out: &mut ReadingBatch) {
        let mut from = 0;
        for (commodity, header, to) in self.rows {
            out.rows_mut(commodity).push(header, &self.values[from..to]);
            from = to;
        }
        out.events.extend(self.events);
    }
}

/// Who speaks, as topic, payload and registry agree.
struct Speaker<'a> {
    id: MeterId,
    entry: Option<&'a MeterEntry>,
}

impl<'a> Context<'a> {
    /// Reads every reading of the message; `None` where it may say something else and does.
    pub(super) fn gather(&self) -> Result<Option<Gathered>, Refusal> {
        let mut gathered = Gathered::default();
        let samples = self.samples()?;
        if samples.kind() != Kind::List {
            self.sample(samples, &mut None, &mut gathered)?;
            return Ok(Some(gathered));
        }
        let mut speaker = None;
        let mut count = 0;
        for sample in samples.items() {
            count += 1;
            self.sample(sample, &mut speaker, &mut gathered)
                .map_err(|refusal| Refusal { detail: format!("reading {count}: {}", refusal.detail), ..refusal })?;
        }
        if count == 0 {
            return Err(Refusal::new(DeadReason::MissingField, "the list of readings is empty"));
        }
        if !(gathered.rows.is_empty() && gathered.events.is_empty()) {
            return Ok(Some(gathered));
        }
        match self.map.format {
            Format::SparkplugB => Ok(None),
            _ => self.without_values(false).map(|()| None),
        }
    }

    /// Whether a reading may say things of which the map reads none: an edge node sends what changed, and a telegram
    /// holds meters that nobody asked for.
    fn may_say_nothing(&self) -> bool {
        matches!(self.map.format, Format::SparkplugB | Format::DsmrP1(_))
    }

    /// Whether anything stands where the map looks for values and events.
    fn says_anything(&self, sample: Value<'a>) -> Result<bool, Refusal> {
        let fields = self.map.fields.iter().map(|field| &field.paths);
        for paths in fields.chain(self.map.events.iter().map(|rule| &rule.paths)) {
            if find_first(paths, sample, self.root)?.is_some() {
                return Ok(true);
            }
        }
        let listed = self.map.event_list.as_ref().map(|path| find(path, sample, self.root)).transpose()?.flatten();
        Ok(listed.is_some() || self.map.by_name)
    }

    fn samples(&self) -> Result<Value<'a>, Refusal> {
        for path in &self.map.samples {
            if let Some(found) = find(path, self.root, self.root)? {
                return Ok(found);
            }
        }
        let paths: Vec<_> = self.map.samples.iter().map(|path| format!("`{path}`")).collect();
        Err(Refusal::new(DeadReason::MissingField, format!("no reading stands at {}", paths.join(" or "))))
    }

    fn sample(
        &self,
        sample: Value<'a>,
        speaker: &mut Option<(Option<&'a str>, Speaker<'a>)>,
        gathered: &mut Gathered,
    ) -> Result<(), Refusal> {
        if sample.kind() != Kind::Object {
            let detail = format!("the reading is {}; an object is wanted", sample.described());
            return Err(Refusal::new(DeadReason::BadValue, detail));
        }
        if self.may_say_nothing() && !self.says_anything(sample)? {
            return Ok(());
        }
        let named = self.map.meter.path.as_ref().map(|path| find(path, sample, self.root)).transpose()?.flatten();
        let speaker = match speaker {
            // Most frames speak of one meter.
            Some((raw, speaker)) if *raw == named.map(Value::raw) => speaker,
            other => &mut other.insert((named.map(Value::raw), self.speaker(named, sample)?)).1,
        };
        let written = find_first(&self.map.time.paths, sample, self.root)?;
        let received_at_s = self.message.received_at_s;
        let (ts, mut flags) = time::read(&self.map.time, written, speaker.id.as_str(), speaker.entry, received_at_s)?;
        if self.retained {
            flags = flags.with(ReadingFlags::RETAINED);
        }
        if speaker.entry.is_none() {
            flags = flags.with(ReadingFlags::UNKNOWN_METER);
        }

        let (from, events_before) = (gathered.values.len(), gathered.events.len());
        self.values(sample, from, &mut gathered.values)?;
        self.events(sample, speaker, ts, &mut gathered.events)?;
        let values = &gathered.values[from..];
        let Some(commodity) = commodity(values)?.or(self.map.commodity) else {
            return self.without_values(gathered.events.len() > events_before);
        };
        if let Some(entry) = speaker.entry
            && entry.commodity != commodity
        {
            let detail = format!(
                "the message speaks of {commodity}, the registry knows meter `{}` as one of {}",
                speaker.id, entry.commodity
            );
            return Err(Refusal::new(DeadReason::Identity, detail));
        }
        if values.is_empty() {
            return self.without_values(gathered.events.len() > events_before);
        }
        let header = RowHeader {
            meter_id: speaker.id.clone(),
            ts,
            received_at_s,
            source: Arc::clone(&self.message.source),
            profile: Arc::clone(&self.map.label),
            flags,
        };
        gathered.rows.push((commodity, header, gathered.values.len()));
        Ok(())
    }

    fn without_values(&self, has_events: bool) -> Result<(), Refusal> {
        if has_events {
            return Ok(());
        }
        let detail = format!("the reading holds no value and no event that {} reads", self.map.label);
        Err(Refusal::new(DeadReason::MissingField, detail))
    }

    fn speaker(&self, named: Option<Value<'a>>, sample: Value<'a>) -> Result<Speaker<'a>, Refusal> {
        let rule = &self.map.meter;
        let named = named.map(name_of).transpose()?;
        let id = match (self.topic_meter, named) {
            (Some(topic), Some(named)) => {
                if topic != named && !self.topic_bears(topic, sample)? {
                    let detail = format!(
                        "the topic speaks of meter `{}`, the payload of `{}`",
                        shortened(topic),
                        shortened(&named)
                    );
                    return Err(Refusal::new(DeadReason::Identity, detail));
                }
                named
            }
            // Where the topic may bear something else, it alone does not say who speaks.
            (Some(topic), None) if rule.topic_may_be.is_empty() => Cow::Borrowed(topic),
            (None, Some(named)) => named,
            (_, None) => {
                let path = rule.path.as_ref().map(ToString::to_string).unwrap_or_default();
                return Err(Refusal::new(DeadReason::MissingField, format!("the meter's name `{path}` is missing")));
            }
        };
        let (id, entry) = match self.directory.get_key(&id) {
            Some((id, entry)) => (id.clone(), Some(entry)),
            None => {
                let id = MeterId::new(&id).map_err(|error| Refusal::new(DeadReason::BadMeterId, error.to_string()))?;
                (id, None)
            }
        };
        if let (Some(path), Some(registered)) = (&rule.serial, entry.and_then(|entry| entry.serial.as_deref()))
            && let Some(serial) = find(path, sample, self.root)?
            && *serial.unescaped() != *registered
        {
            let detail = format!(
                "the message bears serial number `{}`, the registry knows meter `{id}` as `{registered}`",
                shortened(&serial.unescaped())
            );
            return Err(Refusal::new(DeadReason::Identity, detail));
        }
        Ok(Speaker { id, entry })
    }

    fn topic_bears(&self, topic: &str, sample: Value<'a>) -> Result<bool, Refusal> {
        for path in &self.map.meter.topic_may_be {
            if find(path, sample, self.root)?.is_some_and(|value| value.unescaped() == topic) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds the values of one reading, which begin at `from`.
    fn values(&self, sample: Value<'a>, from: usize, values: &mut Vec<(Channel, i64)>) -> Result<(), Refusal> {
        for field in &self.map.fields {
            match self.field(field, sample)? {
                Some(value) => values.push((field.channel, value)),
                None if field.optional => {}
                None => {
                    let paths: Vec<_> = field.paths.iter().map(|path| format!("`{path}`")).collect();
                    return Err(Refusal::new(DeadReason::MissingField, format!("{} is missing", paths.join(" or "))));
                }
            }
        }
        if self.map.by_name {
            for (key, value) in sample.members() {
                let Some(&channel) = CHANNELS.get(&*key.unescaped()) else { continue };
                if value.kind() == Kind::Null || self.map.fields.iter().any(|field| field.channel == channel) {
                    continue;
                }
                if values[from..].iter().any(|(other, _)| *other == channel) {
                    return Err(twice(channel.name()));
                }
                values.push((channel, scaled(channel, &channel, value, &Conversion::identity(channel), false)?));
            }
        }
        Ok(())
    }

    fn field(&self, field: &Field, sample: Value<'a>) -> Result<Option<i64>, Refusal> {
        for path in &field.paths {
            match find(path, sample, self.root)? {
                Some(value) if field.scalar_only && matches!(value.kind(), Kind::List | Kind::Object) => {}
                Some(value) => return scaled(field.channel, path, value, &field.conversion, field.text).map(Some),
                None => {}
            }
        }
        Ok(None)
    }

    fn events(
        &self,
        sample: Value<'a>,
        speaker: &Speaker<'_>,
        ts: Timestamp,
        events: &mut Vec<MeterEvent>,
    ) -> Result<(), Refusal> {
        let from = events.len();
        let mut add = |kind, detail: &str| {
            // Two words of a status may say the same.
            if events[from..].iter().all(|event: &MeterEvent| event.kind != kind) {
                events.push(MeterEvent {
                    meter_id: speaker.id.clone(),
                    ts,
                    kind,
                    detail: detail.chars().take(MAX_EVENT_DETAIL).collect::<String>().into(),
                    received_at_s: self.message.received_at_s,
                    source: Arc::clone(&self.message.source),
                });
            }
        };
        for rule in &self.map.events {
            if let Some(value) = find_first(&rule.paths, sample, self.root)?
                && is_event(&rule.test, value)?
            {
                add(rule.kind, &value.unescaped());
            }
        }
        let Some(list) = self.map.event_list.as_ref().map(|path| find(path, sample, self.root)).transpose()?.flatten()
        else {
            return Ok(());
        };
        if list.kind() != Kind::List {
            let detail = format!("the list of events is {}", list.described());
            return Err(Refusal::new(DeadReason::BadValue, detail));
        }
        for item in list.items() {
            let kind = EventKind::parse(&item.unescaped()).ok_or_else(|| {
                Refusal::new(DeadReason::BadValue, format!("the event is {}, which is none", item.described()))
            })?;
            add(kind, "");
        }
        Ok(())
    }
}

/// What stands at a path. Null counts as absent; two members of one name are refused, since nobody knows which is meant.
pub(super) fn find<'a>(path: &JsonPath, sample: Value<'a>, root: Value<'a>) -> Result<Option<Value<'a>>, Refusal> {
    let mut value = if path.from_root { root } else { sample };
    for step in &path.steps {
        let next = match step {
            Step::Key(key) => value.member(key).map_err(|()| twice(key))?,
            Step::Index(index) => value.items().nth(*index),
        };
        match next {
            Some(next) => value = next,
            None => return Ok(None),
        }
    }
    Ok((value.kind() != Kind::Null).then_some(value))
}

fn find_first<'a>(paths: &[JsonPath], sample: Value<'a>, root: Value<'a>) -> Result<Option<Value<'a>>, Refusal> {
    for path in paths {
        if let Some(value) = find(path, sample, root)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn twice(name: &str) -> Refusal {
    Refusal::new(DeadReason::BadValue, format!("`{}` is there twice", shortened(name)))
}

/// The name of a meter: text, or a number as it is written.
fn name_of(value: Value<'_>) -> Result<Cow<'_, str>, Refusal> {
    match value.kind() {
        Kind::Text { .. } => Ok(value.unescaped()),
        Kind::Number if value.raw().bytes().all(|byte| byte.is_ascii_digit()) => Ok(Cow::Borrowed(value.raw())),
        _ => Err(Refusal::new(DeadReason::BadMeterId, format!("the meter's name is {}", value.described()))),
    }
}

/// The commodity that all values share; none where there is no value.
fn commodity(values: &[(Channel, i64)]) -> Result<Option<Commodity>, Refusal> {
    let Some((first, rest)) = values.split_first() else { return Ok(None) };
    let commodity = first.0.commodity();
    match rest.iter().find(|(channel, _)| channel.commodity() != commodity) {
        None => Ok(Some(commodity)),
        Some((other, _)) => {
            let detail = format!("`{}` and `{other}` in one reading are of two commodities", first.0);
            Err(Refusal::new(DeadReason::BadValue, detail))
        }
    }
}

fn scaled(
    channel: Channel,
    place: &dyn std::fmt::Display,
    value: Value<'_>,
    conversion: &Conversion,
    as_text: bool,
) -> Result<i64, Refusal> {
    let converted = match value.kind() {
        Kind::Number => number::convert(value.raw(), conversion),
        Kind::Text { .. } if as_text => number::convert(value.unescaped().trim(), conversion),
        _ => Err(DecimalError::Syntax),
    };
    match converted {
        Ok(value) if channel.fits(value) => Ok(value),
        Ok(_) | Err(DecimalError::Overflow) => {
            let detail = format!("`{place}` is {}, which is too large for `{channel}`", value.described());
            Err(Refusal::new(DeadReason::Overflow, detail))
        }
        Err(DecimalError::Inexact) => {
            let detail = format!(
                "`{place}` is {}, which has more decimals than the {} of `{channel}`",
                value.described(),
                channel.scale()
            );
            Err(Refusal::new(DeadReason::Overflow, detail))
        }
        Err(DecimalError::Syntax) => {
            let detail = format!("`{place}` is {}; a number is wanted", value.described());
            Err(Refusal::new(DeadReason::BadValue, detail))
        }
    }
}

fn is_event(test: &EventTest, value: Value<'_>) -> Result<bool, Refusal> {
    let scalar = !matches!(value.kind(), Kind::List | Kind::Object);
    let refused = |wanted: &str| {
        let detail = format!("a status is {}; {wanted} is wanted", value.described());
        Err(Refusal::new(DeadReason::BadValue, detail))
    };
    match test {
        EventTest::Word(word) if matches!(value.kind(), Kind::Text { .. }) => {
            Ok(value.unescaped().split_whitespace().any(|found| found == word))
        }
        EventTest::Word(_) => refused("text"),
        EventTest::Equals(text) if scalar => Ok(value.unescaped() == text.as_str()),
        EventTest::Equals(_) => refused("text or a number"),
        EventTest::Bit(bit) => match value.raw().parse::<i64>() {
            Ok(word) if value.kind() == Kind::Number => Ok(word >> bit & 1 == 1),
            _ => refused("a whole number"),
        },
        EventTest::Flag => match value.kind() {
            Kind::True => Ok(true),
            Kind::False => Ok(false),
            Kind::Number => Ok(value.raw().bytes().any(|byte| matches!(byte, b'1'..=b'9'))),
            _ => refused("true, false or a number"),
        },
    }
}
