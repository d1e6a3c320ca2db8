//! Recorded files of real meters as MQTT messages, with the registry made from each file.
//!
//! Numbers keep their text (`4e+05` stays `4e+05`), local times their form: what the collector must cope with is what
//! was recorded. The files state no year (Swiss) or date (Perth): one is chosen here, and so is the size of the Spanish
//! meters, which the file does not state either.
//!
//! | set | payload | chosen |
//! |---|---|---|
//! | `daiad` | `litres/{meter}/reading`, `{"datetime":"01/03/2016 00:28:55","litres":68321}` | Q4 = 3.125 m³/h |
//! | `swiss` | `meterlake/v1/{meter}/readings`, `energy_import_delta_kwh` at the interval's end | ISO weeks of 2015 |
//! | `perth` | `meterlake/v1/{meter}/readings`, `volume_delta_m3` at the hour's end | from 2014-01-01 |

mod format;
mod lines;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use meterlake_model::registry::{Customer, Installation, InstallationChannel, Meter, Registry, UsagePoint};
use meterlake_model::{Amount, Channel, CivilDay, CustomerId, IdError, MeterId, UsagePointId};

use crate::error::SimError;
use crate::history::topic;
use crate::message::{Message, MessageKind, Rows};
use format::{Format, Record};
use lines::Lines;

/// A recorded set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dataset {
    /// Registers of 92 water meters in Alicante, 2016-03 to 2017-02, local time without offset.
    Daiad,
    /// 15-minute use of 150 Swiss households in ISO weeks 44 to 50.
    Swiss,
    /// Hourly use of 80 households in Western Australia over 112 days.
    Perth,
}

impl Dataset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Daiad, Self::Swiss, Self::Perth];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daiad => "daiad",
            Self::Swiss => "swiss",
            Self::Perth => "perth",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.as_str() == text)
    }

    /// The payload map that reads its messages.
    pub const fn payload_map(self) -> &'static str {
        match self {
            Self::Daiad => "litres-local-json",
            Self::Swiss | Self::Perth => "meterlake-json",
        }
    }

    /// Where its file lies below the folder of recorded data.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Daiad => "daiad-water/readings.csv.gz",
            Self::Swiss => "swiss-electricity/intervals.csv.gz",
            Self::Perth => "perth-water/hourly.csv.gz",
        }
    }
}

/// The folder of recorded data: what `METERLAKE_DATA` names, else `../shared/data` beside the workspace, seen from its
/// root or from one of its packages.
pub fn data_folder() -> PathBuf {
    if let Some(named) = std::env::var_os("METERLAKE_DATA") {
        return named.into();
    }
    let beside = ["../shared/data", "../../shared/data"].map(PathBuf::from);
    let [near, _] = beside.clone();
    beside.into_iter().find(|folder| folder.is_dir()).unwrap_or(near)
}

/// A recorded file.
#[derive(Debug)]
pub struct Recording {
    dataset: Dataset,
    path: PathBuf,
    format: Arc<Format>,
}

impl Recording {
    /// Finds the file of a set in the folder of recorded data.
    ///
    /// # Errors
    /// When it is not there; the message says how to name the folder.
    pub fn open(dataset: Dataset, folder: &Path) -> Result<Self, SimError> {
        let path = folder.join(dataset.file());
        if !path.is_file() {
            return Err(SimError::NoData { path, set: dataset.as_str() });
        }
        Ok(Self { dataset, path, format: Arc::new(Format::of(dataset)?) })
    }

    /// Which set it is.
    pub fn dataset(&self) -> Dataset {
        self.dataset
    }

    /// The readings as messages in the order of the file, up to `per_message` consecutive ones of a meter in each; one
    /// makes singles.
    ///
    /// # Errors
    /// When the file cannot be opened. An item is an error when its line cannot be read; the iterator ends there.
    pub fn messages(&self, per_message: usize) -> Result<Messages, SimError> {
        Ok(Messages {
            dataset: self.dataset,
            format: Arc::clone(&self.format),
            lines: Lines::open(&self.path)?,
            channels: [self.format.channel()].into(),
            per_message: per_message.max(1),
            frame: None,
            ended: false,
        })
    }

    /// The registry: a usage point, a meter and a customer for each meter of the file, installed before its first
    /// reading.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn registry(&self) -> Result<Registry, SimError> {
        let mut registry = Registry::default();
        self.each(|meter_id, _| {
            if !registry.meters.contains_key(meter_id) {
                self.add(&mut registry, meter_id).map_err(|e| e.to_string())?;
            }
            Ok(())
        })?;
        registry.installations.sort_by(|a, b| a.meter_id.cmp(&b.meter_id));
        Ok(registry)
    }

    /// The sum of all use of each usage point and ISO week, for interval sets: what weekly reads must add up to, exactly.
    ///
    /// # Errors
    /// When the file cannot be read, or is one of registers.
    pub fn weekly_use(&self) -> Result<BTreeMap<(UsagePointId, u8), Amount>, SimError> {
        let mut sums: BTreeMap<(UsagePointId, u8), Amount> = BTreeMap::new();
        self.each(|meter_id, record| {
            let week = record.week.ok_or("the set has no weeks")?;
            let used = Amount::from_scaled(record.value, self.format.channel().scale()).map_err(|e| e.to_string())?;
            let point = usage_point_id(meter_id).map_err(|e| e.to_string())?;
            let sum = sums.entry((point, week)).or_insert(Amount::ZERO);
            *sum = sum.checked_add(used).ok_or("the sum is too large")?;
            Ok(())
        })?;
        Ok(sums)
    }

    /// Each usage point and local day of which the file's authors say that it leaked at every hour.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn leak_days(&self) -> Result<Vec<(UsagePointId, CivilDay)>, SimError> {
        let mut days = Vec::new();
        self.each(|meter_id, record| {
            if record.leak {
                let point = usage_point_id(meter_id).map_err(|e| e.to_string())?;
                // The record bears the hour's end.
                days.push((point, self.format.zone().day_of(record.ts.plus_micros(-1))));
            }
            Ok(())
        })?;
        days.sort();
        days.dedup();
        Ok(days)
    }

    /// Calls `take` with each record of the file.
    fn each(&self, mut take: impl FnMut(&MeterId, &Record<'_>) -> Result<(), String>) -> Result<(), SimError> {
        let mut lines = Lines::open(&self.path)?;
        let mut json = Vec::new();
        let mut meter: Option<MeterId> = None;
        while lines.advance()? {
            json.clear();
            let taken = self.format.read(lines.text(), &mut json).and_then(|record| {
                let meter_id = match meter.take() {
                    Some(known) if self.format.is_meter(&known, &record) => known,
                    _ => self.format.meter_id(&record)?,
                };
                take(&meter_id, &record)?;
                meter = Some(meter_id);
                Ok(())
            });
            taken.map_err(|message| lines.bad(message))?;
        }
        Ok(())
    }

    fn add(&self, registry: &mut Registry, meter_id: &MeterId) -> Result<(), IdError> {
        let channel = self.format.channel();
        let customer_id = CustomerId::new(&format!("C-{meter_id}"))?;
        let id = usage_point_id(meter_id)?;
        registry
            .customers
            .insert(customer_id.clone(), Customer { id: customer_id.clone(), name: format!("Household {meter_id}") });
        registry.meters.insert(
            meter_id.clone(),
            Meter {
                id: meter_id.clone(),
                commodity: channel.commodity(),
                serial: None,
                model: format!("recorded, {}", self.dataset.as_str()),
                gateway_id: None,
            },
        );
        registry.usage_points.insert(
            id.clone(),
            UsagePoint {
                id: id.clone(),
                commodity: channel.commodity(),
                zone: self.format.zone().clone(),
                customer_id: Some(customer_id),
                node_id: None,
                class: "residential".to_owned(),
                place: String::new(),
                billing_day: 1,
                active: true,
                continuous_use: false,
                nominal_voltage_dv: None,
                customer_since: None,
                parent_id: None,
            },
        );
        registry.installations.push(Installation {
            meter_id: meter_id.clone(),
            usage_point_id: id,
            installed_at: None,
            removed_at: None,
            is_check: false,
            channels: vec![InstallationChannel {
                channel,
                multiplier_micros: 1_000_000,
                digits: None,
                resolution: self.format.resolution(),
                interval_s: self.format.interval_s(),
                interval_assumed: false,
                capacity_per_hour: self.format.capacity_per_hour(),
                start_register: None,
                end_register: None,
            }],
        });
        Ok(())
    }
}

fn usage_point_id(meter_id: &MeterId) -> Result<UsagePointId, IdError> {
    UsagePointId::new(&format!("UP-{meter_id}"))
}

/// Messages of a recorded file.
#[derive(Debug)]
pub struct Messages {
    dataset: Dataset,
    format: Arc<Format>,
    lines: Lines,
    channels: Arc<[Channel]>,
    per_message: usize,
    /// The message that is being filled: its readings as JSON with commas between them, and as rows.
    frame: Option<(Vec<u8>, Rows)>,
    ended: bool,
}

impl Messages {
    fn next_message(&mut self) -> Result<Option<Message>, SimError> {
        while self.lines.advance()? {
            let mut json = Vec::with_capacity(64);
            let record = self.format.read(self.lines.text(), &mut json).map_err(|m| self.lines.bad(m))?;
            let (ts, value) = (record.ts, record.value);
            let mut full = None;
            match &mut self.frame {
                Some((readings, rows)) if self.format.is_meter(&rows.meter_id, &record) => {
                    readings.push(b',');
                    readings.extend_from_slice(&json);
                    rows.push(ts, &[value]);
                }
                frame => {
                    let meter_id = self.format.meter_id(&record).map_err(|m| self.lines.bad(m))?;
                    let mut rows = Rows::new(meter_id, Arc::clone(&self.channels));
                    rows.push(ts, &[value]);
                    full = frame.replace((json, rows));
                }
            }
            // Either the meter has changed, or the message is full; with one reading a message both at once.
            if full.is_none() && self.frame.as_ref().is_some_and(|(_, rows)| rows.len() >= self.per_message) {
                full = self.frame.take();
            }
            if let Some((readings, rows)) = full {
                return Ok(Some(self.message(readings, rows)));
            }
        }
        Ok(self.frame.take().map(|(readings, rows)| self.message(readings, rows)))
    }

    fn message(&self, readings: Vec<u8>, rows: Rows) -> Message {
        let topic = match self.dataset {
            Dataset::Daiad => format!("litres/{}/reading", rows.meter_id).into(),
            Dataset::Swiss | Dataset::Perth => topic(rows.meter_id.as_str()),
        };
        let payload =
            if self.per_message == 1 { readings } else { [&b"{\"readings\":["[..], &readings, b"]}"].concat() };
        Message { topic, payload: Bytes::from(payload), kind: MessageKind::Fresh, rows }
    }
}

impl Iterator for Messages {
    type Item = Result<Message, SimError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_message().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests;
