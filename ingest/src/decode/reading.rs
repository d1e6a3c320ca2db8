//! One reading after the other: who speaks, when, and what.

use std::sync::Arc;

use meterlake_config::payload_map::{Format, PayloadMap, Shape, Source};
use meterlake_model::{
    Channel, Commodity, DeadReason, MeterDirectory, MeterEvent, RawMessage, ReadingBatch, ReadingFlags, RowHeader,
};

use super::document::{Kind, Value};
use super::event::Events;
use super::find::Places;
use super::speaker::{self, Claims, Speaker};
use super::time::When;
use super::{Refusal, field, multiplier, shape, time};

/// All that decides what a message means.
pub(super) struct Context<'a> {
    pub(super) map: &'a PayloadMap,
    pub(super) message: &'a RawMessage,
    pub(super) retained: bool,
    pub(super) directory: &'a MeterDirectory,
}

/// What a message said, held until all of it was read.
#[derive(Default)]
pub(super) struct Gathered {
    rows: Vec<(Commodity, RowHeader, usize)>,
    /// Of all rows, one behind the other; a row holds where its own end.
    pub(super) values: Vec<(Channel, i64)>,
    pub(super) events: Vec<MeterEvent>,
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.events.is_empty()
    }

    pub(super) fn hand_over(self, out: &mut ReadingBatch) {
        let mut from = 0;
        for (commodity, header, to) in self.rows {
            out.rows_mut(commodity).push(header, &self.values[from..to]);
            from = to;
        }
        out.events.extend(self.events);
    }
}

/// Where the values and events of one reading begin.
pub(super) struct Before {
    pub(super) values: usize,
    pub(super) events: usize,
}

impl Gathered {
    pub(super) fn before(&self) -> Before {
        Before { values: self.values.len(), events: self.events.len() }
    }
}

/// What the reading before tells of the next one.
#[derive(Default)]
struct Last<'s> {
    /// Who spoke, and by which name.
    speaker: Option<(Option<&'s str>, Speaker<'s>)>,
    columns: field::Columns<'s>,
}

impl<'a> Context<'a> {
    /// Reads every reading of the message.
    pub(super) fn gather(&self, places: &Places<'_>) -> Result<Gathered, Refusal> {
        let mut gathered = Gathered::default();
        let samples = self.samples(places)?;
        let alone = samples.len() == 1;
        let mut count = 0;
        for (sample, parent) in samples {
            let places = Places { reading: sample, parent, ..*places };
            if self.map.shape == Shape::Plain {
                self.found(&places, alone, &mut count, &mut gathered)?;
            } else if let Some(document) =
                shape::reshaped(&self.map.shape, sample, &Places { reading: parent, ..places })?
            {
                let places = Places { reading: document.root(), ..places };
                self.found(&places, false, &mut count, &mut gathered)?;
            }
        }
        if count == 0 && !self.map.may_be_empty {
            return Err(Refusal::new(DeadReason::MissingField, "the list of readings is empty"));
        }
        // Of all that a meter's own port tells, something is wanted.
        if gathered.is_empty() && matches!(self.map.format, Format::DsmrP1(_)) {
            return Err(self.nothing());
        }
        Ok(gathered)
    }

    fn nothing(&self) -> Refusal {
        let detail = format!("the reading holds no value and no event that {} reads", self.map.label);
        Refusal::new(DeadReason::MissingField, detail)
    }

    /// Whether anything stands where the map looks for values and events.
    fn says_anything(&self, places: &Places<'_>) -> Result<bool, Refusal> {
        for field in &self.map.fields {
            let (Source::First(paths) | Source::Sum(paths)) = &field.source else { continue };
            if places.find_first(paths)?.is_some() && places.meet_all(&field.when)? {
                return Ok(true);
            }
        }
        for rule in &self.map.events {
            if places.find_first(&rule.paths)?.is_some() && places.meet_all(&rule.when)? {
                return Ok(true);
            }
        }
        let listed = self.map.event_list.as_ref().map(|path| places.find(path)).transpose()?.flatten();
        Ok(listed.is_some() || self.map.by_name)
    }

    /// Where the readings are, each with its parent.
    fn samples<'s>(&self, places: &Places<'s>) -> Result<Vec<(Value<'s>, Value<'s>)>, Refusal> {
        for path in &self.map.samples {
            let found = places.find_each(path)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let paths: Vec<_> = self.map.samples.iter().map(|path| format!("`{path}`")).collect();
        Err(Refusal::new(DeadReason::MissingField, format!("no reading stands at {}", paths.join(" or "))))
    }

    /// Reads what stands at one place: an object is one reading, a list is many.
    fn found<'s>(
        &self,
        places: &Places<'s>,
        alone: bool,
        count: &mut usize,
        gathered: &mut Gathered,
    ) -> Result<(), Refusal>
    where
        'a: 's,
    {
        let mut last = Last::default();
        if places.reading.kind() != Kind::List && alone {
            *count += 1;
            return self.sample(places, &mut last, gathered);
        }
        let mut read = |reading| {
            *count += 1;
            self.sample(&Places { reading, ..*places }, &mut last, gathered)
                .map_err(|refusal| Refusal { detail: format!("reading {count}: {}", refusal.detail), ..refusal })
        };
        match places.reading.kind() {
            Kind::List => places.reading.items().try_for_each(read),
            _ => read(places.reading),
        }
    }

    fn sample<'s>(&self, places: &Places<'s>, last: &mut Last<'s>, gathered: &mut Gathered) -> Result<(), Refusal>
    where
        'a: 's,
    {
        if !matches!(places.reading.kind(), Kind::Object | Kind::List) {
            let detail = format!("the reading is {}; an object is wanted", places.reading.described());
            return Err(Refusal::new(DeadReason::BadValue, detail));
        }
        if self.map.may_be_empty && !self.says_anything(places)? {
            return Ok(());
        }
        let named = self.map.meter.path.as_ref().map(|path| places.find(path)).transpose()?.flatten();
        let raw = named.map(Value::raw);
        let speaker = match &mut last.speaker {
            // Most frames speak of one meter.
            Some((before, speaker)) if *before == raw && !speaker::varies(self.map) => speaker,
            other => {
                let claims = Claims::of_reading(self.map, places, named)?;
                &mut other.insert((raw, claims.agreed(self.map, self.directory)?)).1
            }
        };
        let received_at_s = self.message.received_at_s;
        let when = time::read(&self.map.time, places, speaker.id.as_str(), speaker.entry, received_at_s)?;
        let before = gathered.before();
        field::values(self.map, places, before.values, &mut last.columns, &mut gathered.values)?;
        let (meter_id, ts, message) = (&speaker.id, when.ts, self.message);
        let mut events = Events { meter_id, ts, message, events: &mut gathered.events, from: before.events };
        let marks = events.read(self.map, places)?;
        if let Some(path) = &self.map.meter.multiplier
            && let Some(stated) = places.find(path)?
        {
            multiplier::agreed(stated, speaker, when.ts)?;
        }
        let when = When { flags: when.flags.with(marks), ..when };
        self.take(speaker, when, &before, gathered)
    }

    /// Makes a row of the values that came since `before`, all of `speaker` at one time.
    pub(super) fn take(
        &self,
        speaker: &Speaker<'_>,
        when: When,
        before: &Before,
        gathered: &mut Gathered,
    ) -> Result<(), Refusal> {
        let values = &gathered.values[before.values..];
        let has_events = gathered.events.len() > before.events;
        if values.is_empty() && !has_events {
            return Err(self.nothing());
        }
        // Nobody knows when the broker got it: what bears no time of its own says nothing of the present.
        if self.retained && when.flags.contains(ReadingFlags::COLLECTOR_TIME) {
            gathered.values.truncate(before.values);
            gathered.events.truncate(before.events);
            return Ok(());
        }
        let Some(commodity) = field::commodity(values)?.or(self.map.commodity) else { return Ok(()) };
        if let Some(entry) = speaker.entry
            && entry.commodity != commodity
        {
            let detail = format!(
                "the message speaks of {commodity}, the registry knows meter `{}` as one of {}",
                speaker.id, entry.commodity
            );
            return Err(Refusal::new(DeadReason::Identity, detail));
        }
        let mut flags = when.flags;
        if self.retained {
            flags = flags.with(ReadingFlags::RETAINED);
        }
        if values.is_empty() {
            return Ok(());
        }
        if speaker.entry.is_none() {
            flags = flags.with(ReadingFlags::UNKNOWN_METER);
        }
        let header = RowHeader {
            meter_id: speaker.id.clone(),
            ts: when.ts,
            received_at_s: self.message.received_at_s,
            source: Arc::clone(&self.message.source),
            profile: Arc::clone(&self.map.label),
            flags,
        };
        gathered.rows.push((commodity, header, gathered.values.len()));
        Ok(())
    }
}
