//! Eclipse Sparkplug B: births name the metrics, data follow by alias, deaths end the session.
//!
//! A message becomes a document of readings, one for each time that its metrics bear:
//!
//! ```text
//! {"group": "G", "type": "DDATA", "edge": "E", "device": "D", "timestamp": 1700000000000, "seq": 7,
//!  "readings": [{"timestamp": 1700000000000, "metrics": {"Energy/Total": 12345.678, "Voltage/L1": 230.1}}]}
//! ```
//!
//! What births say is kept in [`Births`]. Data that no birth explains are dead letters, and the edge node is asked to be
//! born again, at most once a minute; so is one whose messages have a gap. Metrics that bear their own name and type need
//! no birth. The state of host applications and commands to nodes are not for us and hold nothing to store.

mod births;
mod bytes;
mod payload;
mod value;

use std::collections::BTreeMap;
use std::fmt;

use meterlake_model::{DeadReason, RawMessage};

pub use births::{Births, Counts as BirthCounts, MAX_NAMES, MAX_NODES};
pub use bytes::BirthsError;

use super::document::{Builder, Document, shortened};
use super::protobuf::wire::{write_bytes, write_number};
use super::{LIMITS, MAX_VALUES, Rebirth, Refusal};
use births::{Order, Table};
use payload::{Metric, Payload, PayloadError};
use value::Plain;

/// Between two requests to the same edge node, in seconds.
const ASK_EVERY_S: i64 = 60;
/// The first level of every topic.
const NAMESPACE: &str = "spBv1.0";

/// What a message is, by its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    NodeBirth,
    NodeDeath,
    NodeData,
    DeviceBirth,
    DeviceDeath,
    DeviceData,
    /// Of a host application, or to a node: nothing for us.
    Other,
}

/// A topic: `spBv1.0/group/type/edge[/device]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Topic<'t> {
    group: &'t str,
    name: &'t str,
    kind: Type,
    edge: &'t str,
    device: Option<&'t str>,
}

impl<'t> Topic<'t> {
    fn parse(topic: &'t str) -> Option<Self> {
        let rest = topic.strip_prefix(NAMESPACE)?.strip_prefix('/')?;
        let mut levels = rest.split('/');
        let (group, name) = (levels.next()?, levels.next()?);
        if group == "STATE" {
            return Some(Self { group, name, kind: Type::Other, edge: "", device: None });
        }
        let (edge, device) = (levels.next()?, levels.next());
        let kind = match (name, device) {
            ("NBIRTH", None) => Type::NodeBirth,
            ("NDEATH", None) => Type::NodeDeath,
            ("NDATA", None) => Type::NodeData,
            ("DBIRTH", Some(_)) => Type::DeviceBirth,
            ("DDEATH", Some(_)) => Type::DeviceDeath,
            ("DDATA", Some(_)) => Type::DeviceData,
            ("NCMD", None) | ("DCMD", Some(_)) => Type::Other,
            _ => return None,
        };
        let named = !edge.is_empty() && device != Some("") && levels.next().is_none();
        named.then_some(Self { group, name, kind, edge, device })
    }

    /// Names the edge node among those of the broker.
    fn key(&self) -> String {
        format!("{}/{}", self.group, self.edge)
    }
}

/// Whether a topic is of Sparkplug's namespace.
pub(super) fn speaks(topic: &str) -> bool {
    topic.split('/').next() == Some(NAMESPACE)
}

/// Whether a topic is that of a device.
pub(super) fn is_of_device(topic: &str) -> bool {
    Topic::parse(topic).is_some_and(|topic| topic.device.is_some())
}

/// How much of what is heard may change what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// As it comes from the broker: everything.
    Live,
    /// It is old, kept by the broker or as a dead letter: nothing.
    Old,
}

/// Reads one message, with its topic. `None` is a message that is understood and holds no reading.
pub(super) fn parse(
    message: &RawMessage,
    payload: &[u8],
    births: &mut Births,
    hearing: Hearing,
    rebirth: &mut Option<Rebirth>,
) -> Result<Option<Document<'static>>, Refusal> {
    let topic = Topic::parse(&message.topic).ok_or_else(|| {
        let detail = format!("`{}` is no topic of Sparkplug B", shortened(&message.topic));
        Refusal::new(DeadReason::Syntax, detail)
    })?;
    if topic.kind == Type::Other {
        return Ok(None);
    }
    let payload = payload::parse(payload, MAX_VALUES).map_err(|error| {
        let reason = match error {
            PayloadError::TooMany(_) => DeadReason::TooLarge,
            PayloadError::Wire(_) | PayloadError::Kind(_) | PayloadError::NotUtf8 => DeadReason::Syntax,
        };
        Refusal::new(reason, error.to_string())
    })?;
    let at_s = message.received_at_s;
    let mut session = Session { topic, key: topic.key(), at_s, births, hearing };
    let heard = session.hear(&payload);
    let ask = match &heard {
        Ok(Order::Follows) => session.lacks_birth(),
        Ok(Order::Gap) => true,
        Err(_) => false,
    };
    let document = heard.and_then(|_| session.document(&payload));
    let unexplained = matches!(&document, Err(refusal) if refusal.reason == DeadReason::NoBirth);
    if unexplained {
        session.unexplained();
    }
    if ask || unexplained {
        *rebirth = session.ask();
    }
    document
}

/// One message against what is known.
struct Session<'a> {
    topic: Topic<'a>,
    key: String,
    at_s: i64,
    births: &'a mut Births,
    hearing: Hearing,
}

impl Session<'_> {
    /// Lets the message change what is known.
    fn hear(&mut self, payload: &Payload<'_>) -> Result<Order, Refusal> {
        if self.hearing == Hearing::Old {
            return Ok(Order::Follows);
        }
        let (key, at_s, metrics, seq) = (self.key.as_str(), self.at_s, payload.metrics.as_slice(), payload.seq);
        let fits = match (self.topic.kind, self.topic.device) {
            (Type::NodeBirth, _) => self.births.node_born(key, metrics, seq, at_s),
            (Type::NodeDeath, _) => {
                self.births.node_died(key, metrics, at_s);
                true
            }
            (Type::DeviceBirth, Some(device)) => {
                let order = self.births.check(key, seq, at_s);
                if self.births.device_born(key, device, metrics, at_s) {
                    return Ok(order);
                }
                false
            }
            (Type::DeviceDeath, Some(device)) => {
                let order = self.births.check(key, seq, at_s);
                self.births.device_died(key, device, at_s);
                return Ok(order);
            }
            _ => return Ok(self.births.check(key, seq, at_s)),
        };
        if fits {
            return Ok(Order::Follows);
        }
        let detail = format!("more than {MAX_NAMES} names of metrics were born on this broker");
        Err(Refusal::new(DeadReason::TooLarge, detail))
    }

    /// Whether the message should have followed a birth of its edge node and did not.
    fn lacks_birth(&self) -> bool {
        let begun = self.births.nodes.get(&*self.key).is_some_and(|node| node.own.alive);
        let needs = !matches!(self.topic.kind, Type::NodeBirth | Type::NodeDeath);
        let device = match (self.topic.kind, self.topic.device) {
            (Type::DeviceData, Some(device)) => self.table(Some(device)).is_some_and(|table| table.alive),
            _ => true,
        };
        self.hearing == Hearing::Live && needs && !(begun && device)
    }

    fn table(&self, device: Option<&str>) -> Option<&Table> {
        self.births.nodes.get(&*self.key)?.table(device)
    }

    /// The names that hold for the message.
    fn names(&self) -> Option<&Table> {
        self.table(self.topic.device).filter(|table| match self.hearing {
            Hearing::Live => table.alive,
            Hearing::Old => table.covers(self.at_s),
        })
    }

    fn unexplained(&mut self) {
        if self.hearing == Hearing::Live {
            self.births.counts.without_birth += 1;
            self.births.missing(&self.key, self.topic.device, self.at_s);
        }
    }

    /// Asks the edge node to be born again, unless it was asked a moment ago.
    fn ask(&mut self) -> Option<Rebirth> {
        let node = self.births.nodes.get_mut(&*self.key)?;
        let due = node.asked_s.is_none_or(|asked| !(asked..asked + ASK_EVERY_S).contains(&self.at_s));
        if self.hearing == Hearing::Old || !due {
            return None;
        }
        node.asked_s = Some(self.at_s);
        self.births.counts.rebirths += 1;
        Some(request(self.topic.group, self.topic.edge, self.at_s))
    }

    /// The readings of a birth or of data.
    fn document(&mut self, payload: &Payload<'_>) -> Result<Option<Document<'static>>, Refusal> {
        let birth = match self.topic.kind {
            Type::NodeBirth | Type::DeviceBirth => true,
            Type::NodeData | Type::DeviceData => false,
            Type::NodeDeath | Type::DeviceDeath | Type::Other => return Ok(None),
        };
        let mut readings: Readings<'_> = BTreeMap::new();
        let mut skipped = 0;
        let names = self.names();
        for metric in &payload.metrics {
            let (name, datatype) = if birth { by_itself(metric)? } else { by_birth(metric, names)? };
            // A birth tells the present; what is past in it came before.
            if metric.transient || metric.doubtful || birth && metric.historical {
                skipped += 1;
                continue;
            }
            let value = if metric.null { Ok(None) } else { value::plain(datatype, metric.value) };
            let value = value.map_err(|problem| {
                Refusal::new(DeadReason::BadValue, format!("the metric `{}` {problem}", shortened(name)))
            })?;
            match value {
                Some(value) => readings.entry(metric.timestamp.or(payload.timestamp)).or_default().push((name, value)),
                None => skipped += u64::from(!metric.null),
            }
        }
        let document = (!readings.is_empty()).then(|| build(&self.topic, payload, &readings)).transpose()?;
        drop(readings);
        if self.hearing == Hearing::Live {
            self.births.counts.skipped += skipped;
        }
        Ok(document)
    }
}

/// Name and type of a metric of a birth.
fn by_itself<'p>(metric: &Metric<'p>) -> Result<(&'p str, u32), Refusal> {
    let nameless = || Refusal::new(DeadReason::MissingField, "a metric of a birth has no name");
    Ok((metric.name.ok_or_else(nameless)?, metric.datatype))
}

/// Name and type of a metric of data.
fn by_birth<'p>(metric: &Metric<'p>, names: Option<&'p Table>) -> Result<(&'p str, u32), Refusal> {
    if let Some(name) = metric.name {
        let datatype = match (metric.datatype, names) {
            (0, Some(names)) => names.datatype(name).map_or(0, u32::from),
            (stated, _) => stated,
        };
        if metric.null || value::speaks_for_itself(datatype, metric.value) {
            return Ok((name, datatype));
        }
        return Err(unborn(&format!("the type of the metric `{}`", shortened(name)), names));
    }
    let Some(alias) = metric.alias else {
        return Err(Refusal::new(DeadReason::MissingField, "a metric has neither name nor alias"));
    };
    let named = names.and_then(|names| names.by_alias.get(&alias));
    let named = named.ok_or_else(|| unborn(&format!("the name of the metric with alias {alias}"), names))?;
    let datatype = if metric.datatype == 0 { u32::from(named.datatype) } else { metric.datatype };
    Ok((&named.name, datatype))
}

fn unborn(what: &dyn fmt::Display, names: Option<&Table>) -> Refusal {
    let why = if names.is_some() { "the birth does not state it" } else { "no birth of this session is known" };
    Refusal::new(DeadReason::NoBirth, format!("{what} is not known: {why}"))
}

/// Names and values by the time that they bear.
type Readings<'p> = BTreeMap<Option<u64>, Vec<(&'p str, Plain<'p>)>>;

fn build(topic: &Topic<'_>, payload: &Payload<'_>, readings: &Readings<'_>) -> Result<Document<'static>, Refusal> {
    let mut builder = Builder::new(LIMITS);
    builder.object()?;
    for (key, text) in [("group", topic.group), ("type", topic.name), ("edge", topic.edge)] {
        builder.key(key)?;
        builder.text(text)?;
    }
    if let Some(device) = topic.device {
        builder.key("device")?;
        builder.text(device)?;
    }
    for (key, number) in [("timestamp", payload.timestamp), ("seq", payload.seq)] {
        if let Some(number) = number {
            builder.key(key)?;
            builder.number(&number.to_string())?;
        }
    }
    builder.key("readings")?;
    builder.list()?;
    for (timestamp, metrics) in readings {
        builder.object()?;
        if let Some(timestamp) = timestamp {
            builder.key("timestamp")?;
            builder.number(&timestamp.to_string())?;
        }
        builder.key("metrics")?;
        builder.object()?;
        for (name, value) in metrics {
            builder.key(name)?;
            match value {
                Plain::Number(text) => builder.number(text)?,
                Plain::Text(text) => builder.text(text)?,
                Plain::Boolean(value) => builder.boolean(*value)?,
            }
        }
        builder.end()?;
        builder.end()?;
    }
    builder.end()?;
    builder.end()?;
    builder.finish()
}

/// The command by which an edge node is born again.
fn request(group: &str, edge: &str, at_s: i64) -> Rebirth {
    let now_ms = u64::try_from(at_s).unwrap_or(0).saturating_mul(1_000);
    let mut metric = Vec::new();
    write_bytes(1, b"Node Control/Rebirth", &mut metric);
    write_number(3, now_ms, &mut metric);
    write_number(4, u64::from(value::BOOLEAN), &mut metric);
    write_number(14, 1, &mut metric);
    let mut payload = Vec::new();
    write_number(1, now_ms, &mut payload);
    write_bytes(2, &metric, &mut payload);
    Rebirth { topic: format!("{NAMESPACE}/{group}/NCMD/{edge}"), payload }
}

#[cfg(test)]
mod tests;
