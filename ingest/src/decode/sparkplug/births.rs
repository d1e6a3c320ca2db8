//! What Sparkplug's births said, by edge node and device: needed to read the data that follows them.
//!
//! Data name their metrics by alias. An alias means what the last birth said, and only in the session that the birth
//! began, so every table of aliases knows since when it holds and until when. An edge node counts its messages from its
//! birth on; a number that is missing is a message that was lost, and may have been a birth.

use std::collections::HashMap;
use std::sync::Arc;

use super::payload::Metric;

/// The most edge nodes of one broker that are remembered; beyond it the one that was silent longest is forgotten.
pub const MAX_NODES: usize = 4_096;
/// The most devices and names of one broker that are remembered, each counted as one.
pub const MAX_NAMES: usize = 500_000;

/// What is known of the edge nodes that were born.
///
/// Shared by the decoders of one broker; it can be written to bytes and read back, so that a restart knows the names that
/// data messages leave out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Births {
    pub(super) nodes: HashMap<Box<str>, Node>,
    /// Of all nodes: tables and names.
    pub(super) names: usize,
    pub(super) counts: Counts,
    /// Rises with every change of what data mean.
    pub(super) revision: u64,
    pub(super) messages: u64,
}

/// What was seen of the edge nodes of one broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Births of edge nodes and devices.
    pub births: u64,
    /// Deaths of edge nodes and devices.
    pub deaths: u64,
    /// Deaths of a session that was over already.
    pub stale_deaths: u64,
    /// Messages whose number did not follow the one before.
    pub gaps: u64,
    /// Messages that could not be read, since no birth explains them.
    pub without_birth: u64,
    /// Requests to be born again that were due and not held back.
    pub rebirths: u64,
    /// Metrics that were passed over: of doubtful quality, transient, or of a kind that holds no reading.
    pub skipped: u64,
    /// Edge nodes that were forgotten to make room.
    pub forgotten: u64,
}

/// One edge node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Its own metrics.
    pub(super) own: Table,
    pub(super) devices: HashMap<Box<str>, Table>,
    /// Names the session from birth to death.
    pub(super) bd_seq: Option<u64>,
    /// The number that the next message must bear; unknown before a birth.
    pub(super) next_seq: Option<u8>,
    /// Messages may have been lost: only the right number shows that none was.
    pub(super) unproven: bool,
    pub(super) heard_s: i64,
    pub(super) asked_s: Option<i64>,
}

/// The names of one edge node or device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) by_alias: HashMap<u64, Named>,
    pub(super) types: HashMap<Arc<str>, u8>,
    /// When it was born.
    pub(super) alive: bool,
    /// The names hold for what was received from then on, in seconds since 1970.
    pub(super) from_s: i64,
    /// And until then, once it is over.
    pub(super) until_s: Option<i64>,
    /// Since when data came that no birth explains.
    pub(super) missing_s: Option<i64>,
}

/// A metric by its birth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: Arc<str>,
    pub(super) datatype: u8,
}

impl Table {
    /// What it takes of the limit.
    fn size(&self) -> usize {
        1 + self.by_alias.len() + self.types.len()
    }

    /// The names of a birth.
    fn of(metrics: &[Metric<'_>]) -> Self {
        let mut table = Self::default();
        for metric in metrics {
            let Some(name) = metric.name else { continue };
            // The format has far fewer than 256 types.
            let datatype = u8::try_from(metric.datatype).unwrap_or(u8::MAX);
            let name: Arc<str> = name.into();
            if let Some(alias) = metric.alias {
                table.by_alias.insert(alias, Named { name: Arc::clone(&name), datatype });
            }
            table.types.insert(name, datatype);
        }
        table
    }

    /// Whether every name that `old` explained means the same here.
    fn explains_all_of(&self, old: &Self) -> bool {
        let types = old.types.iter().all(|(name, datatype)| self.types.get(name) == Some(datatype));
        types && old.by_alias.iter().all(|(alias, named)| self.by_alias.get(alias) == Some(named))
    }

    /// Takes the place of `old` at a birth. Its names hold longer back where the old ones meant the same, and where data
    /// came that asked for this birth.
    fn succeed(&mut self, old: &Self, at_s: i64) {
        let same = !old.types.is_empty() && self.explains_all_of(old);
        let kept = same.then_some(old.from_s);
        self.from_s = [kept, old.missing_s].into_iter().flatten().fold(at_s, i64::min);
        self.alive = true;
    }

    fn die(&mut self, at_s: i64) {
        if self.alive {
            self.alive = false;
            self.until_s = Some(at_s);
        }
    }

    /// Whether its names hold for what was received then.
    pub(super) fn covers(&self, at_s: i64) -> bool {
        (self.alive || self.until_s.is_some_and(|until| at_s <= until)) && self.from_s <= at_s
    }

    pub(super) fn datatype(&self, name: &str) -> Option<u8> {
        self.types.get(name).copied()
    }
}

impl Node {
    pub(super) fn size(&self) -> usize {
        self.own.size() + self.devices.values().map(Table::size).sum::<usize>()
    }

    /// The table of the node itself or of a device.
    pub(super) fn table(&self, device: Option<&str>) -> Option<&Table> {
        match device {
            None => Some(&self.own),
            Some(device) => self.devices.get(device),
        }
    }

    /// The session is over.
    fn die(&mut self, at_s: i64) {
        self.own.die(at_s);
        self.devices.values_mut().for_each(|table| table.die(at_s));
        self.next_seq = None;
    }
}

/// Whether a message follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As far as can be known.
    Follows,
    /// At least one message was lost.
    Gap,
}

impl Births {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was seen.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Rises whenever names change or become invalid: to be kept before long, so that a restart knows them.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Rises with every message: what is kept at a stop lets the count of messages go on.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Messages may have been lost, as the connection was. Names are used again only where a message follows the last one
    /// by its number, or after a birth.
    pub fn interrupted(&mut self) {
        self.nodes.values_mut().for_each(|node| node.unproven = true);
    }

    /// The node that a message comes from, remembered from now on.
    pub(super) fn hear(&mut self, key: &str, at_s: i64) -> &mut Node {
        self.messages += 1;
        if !self.nodes.contains_key(key) {
            if self.nodes.len() >= MAX_NODES {
                self.forget_oldest(key);
            }
            self.names += 1;
        }
        let node = self.nodes.entry(key.into()).or_default();
        node.heard_s = at_s;
        node
    }

    /// Checks the number of a message of a live session and expects the next one.
    pub(super) fn check(&mut self, key: &str, seq: Option<u64>, at_s: i64) -> Order {
        let node = self.hear(key, at_s);
        if !node.own.alive {
            return Order::Follows;
        }
        let seq = seq.and_then(|seq| u8::try_from(seq).ok());
        let expected = node.next_seq;
        let proven = expected.is_some() && seq == expected;
        let doubtful = node.unproven && !proven;
        node.unproven = false;
        node.next_seq = seq.map(|seq| seq.wrapping_add(1));
        if doubtful {
            // A birth may be among what was lost: the old names mean nothing any more.
            node.die(at_s);
            self.revision += 1;
        } else if proven || expected.is_none() {
            return Order::Follows;
        }
        self.counts.gaps += 1;
        Order::Gap
    }

    /// An edge node begins a session. `false`: there is no room for its names.
    pub(super) fn node_born(&mut self, key: &str, metrics: &[Metric<'_>], seq: Option<u64>, at_s: i64) -> bool {
        let bd_seq = metrics.iter().find(|metric| metric.name == Some("bdSeq")).and_then(bd_seq);
        let node = self.hear(key, at_s);
        if node.bd_seq.is_some() && node.bd_seq != bd_seq {
            // Another session: what came before it asked for another birth.
            node.own.missing_s = None;
            node.devices.values_mut().for_each(|table| table.missing_s = None);
        }
        // Its devices are born after it.
        node.die(at_s);
        node.bd_seq = bd_seq;
        node.next_seq = seq.and_then(|seq| u8::try_from(seq).ok()).map(|seq| seq.wrapping_add(1));
        node.unproven = false;
        self.born(key, None, metrics, at_s)
    }

    /// A device begins to speak. `false`: there is no room for its names.
    pub(super) fn device_born(&mut self, key: &str, device: &str, metrics: &[Metric<'_>], at_s: i64) -> bool {
        self.born(key, Some(device), metrics, at_s)
    }

    fn born(&mut self, key: &str, device: Option<&str>, metrics: &[Metric<'_>], at_s: i64) -> bool {
        self.counts.births += 1;
        self.revision += 1;
        let mut table = Table::of(metrics);
        let old = self.nodes.get(key).and_then(|node| node.table(device));
        table.succeed(old.unwrap_or(&Table::default()), at_s);
        self.names -= old.map_or(0, Table::size);
        let size = table.size();
        while self.names + size > MAX_NAMES && self.nodes.len() > 1 {
            self.forget_oldest(key);
        }
        let fits = self.names + size <= MAX_NAMES;
        let table = if fits { table } else { Table::default() };
        self.names += table.size();
        let node = self.nodes.entry(key.into()).or_default();
        match device {
            None => node.own = table,
            Some(device) => {
                node.devices.insert(device.into(), table);
            }
        }
        fits
    }

    /// An edge node's session is over, if the death is of that session.
    pub(super) fn node_died(&mut self, key: &str, metrics: &[Metric<'_>], at_s: i64) {
        let stated = metrics.iter().find(|metric| metric.name == Some("bdSeq")).and_then(bd_seq);
        let Some(node) = self.nodes.get_mut(key) else { return };
        self.messages += 1;
        if stated.is_some() && node.bd_seq.is_some() && stated != node.bd_seq {
            self.counts.stale_deaths += 1;
            return;
        }
        node.die(at_s);
        node.own.missing_s = None;
        node.devices.values_mut().for_each(|table| table.missing_s = None);
        self.counts.deaths += 1;
        self.revision += 1;
    }

    /// A device no longer speaks.
    pub(super) fn device_died(&mut self, key: &str, device: &str, at_s: i64) {
        self.counts.deaths += 1;
        self.revision += 1;
        if let Some(table) = self.nodes.get_mut(key).and_then(|node| node.devices.get_mut(device)) {
            table.die(at_s);
            table.missing_s = None;
        }
    }

    /// Data came that no birth explains: the next birth explains them.
    pub(super) fn missing(&mut self, key: &str, device: Option<&str>, at_s: i64) {
        let Some(node) = self.nodes.get_mut(key) else { return };
        let table = match device {
            None => &mut node.own,
            Some(device) if node.devices.contains_key(device) => node.devices.entry(device.into()).or_default(),
            Some(device) if self.names < MAX_NAMES => {
                self.names += 1;
                node.devices.entry(device.into()).or_default()
            }
            Some(_) => return,
        };
        if table.missing_s.is_none() {
            table.missing_s = Some(at_s);
            self.revision += 1;
        }
    }

    fn forget_oldest(&mut self, but: &str) {
        let others = self.nodes.iter().filter(|(key, _)| ***key != *but);
        let Some(oldest) = others.min_by_key(|(_, node)| node.heard_s).map(|(key, _)| key.clone()) else { return };
        if let Some(node) = self.nodes.remove(&oldest) {
            self.names -= node.size();
            self.counts.forgotten += 1;
        }
    }
}

fn bd_seq(metric: &Metric<'_>) -> Option<u64> {
    match metric.value {
        super::payload::Raw::Int(value) => Some(u64::from(value)),
        super::payload::Raw::Long(value) => Some(value),
        _ => None,
    }
}
