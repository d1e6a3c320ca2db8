//! Items: the numbers of a bill.

use std::fmt;

use meterlake_model::{Amount, Channel, CivilDay, Quality};

use crate::billing::{BillingRead, BoundaryRead};

/// The determinant of use; its parts are channels.
pub const USE: &str = "use";
/// The determinant of a register at the start of a cycle, as read.
pub const START_READ: &str = "start_read";
/// The determinant of a register at the end of a cycle, as read.
pub const END_READ: &str = "end_read";

/// What an item is: one number of one usage point and cycle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// The place of supply.
    pub usage_point_id: String,
    /// Which determinant: [`START_READ`], [`END_READ`], [`USE`], or the id of a configured one.
    pub determinant: String,
    /// Which of its numbers: a bucket, a tier, a channel.
    pub part: String,
    /// First day of the cycle.
    pub first_day: CivilDay,
    /// The day after its last.
    pub end_day: CivilDay,
}

impl fmt::Display for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.end_day.plus_days(-1);
        write!(f, "{} {}/{} {}..{last}", self.usage_point_id, self.determinant, self.part, self.first_day)
    }
}

/// An item with what it is worth now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub key: ItemKey,
    /// Its value.
    pub value: Amount,
    /// The unit of the value: `kWh`, `kvarh`, `m3`, `kW`.
    pub unit: String,
    /// Whether it is a register as read: then only the absolute limit of notices applies to it, since a share of a register
    /// means nothing.
    pub is_register: bool,
    /// How sure it is.
    pub quality: Quality,
    /// What of it is estimated.
    pub estimated: Amount,
    /// Fingerprint of the readings that it rests on, without those that only shape an estimate. While it stays the same, an
    /// issued estimate stays as it is. Empty: every change counts.
    pub basis: String,
}

impl Item {
    /// Whether it is a boundary read or a use, which no tariff changes.
    pub fn is_of_read(&self) -> bool {
        [START_READ, END_READ, USE].contains(&self.key.determinant.as_str())
    }
}

/// Boundary reads and use of one channel as items: `start_read`, `end_read` and `use` of that channel. Nothing where the
/// use is not known.
pub fn items_of_read(
    usage_point_id: &str,
    channel: Channel,
    days: (CivilDay, CivilDay),
    read: &BillingRead,
) -> Vec<Item> {
    let used = read.use_amount.map(|used| (used, read.estimated));
    items_of_boundaries(usage_point_id, channel, days, (read.start_read, read.end_read), used)
}

/// As [`items_of_read`], of boundaries and the use with what of it is estimated.
pub(crate) fn items_of_boundaries(
    usage_point_id: &str,
    channel: Channel,
    (first_day, end_day): (CivilDay, CivilDay),
    (start_read, end_read): (Option<BoundaryRead>, Option<BoundaryRead>),
    used: Option<(Amount, Amount)>,
) -> Vec<Item> {
    let Some((use_amount, of_it_estimated)) = used else { return Vec::new() };
    let unit = unit_of(channel);
    let item = |what: &str, value, quality, estimated, is_register| Item {
        key: ItemKey {
            usage_point_id: usage_point_id.to_owned(),
            determinant: what.to_owned(),
            part: channel.name().to_owned(),
            first_day,
            end_day,
        },
        value,
        unit: unit.to_owned(),
        is_register,
        quality,
        estimated,
        basis: String::new(),
    };
    let mut items = Vec::with_capacity(3);
    let mut quality = Quality::Edited;
    for (what, boundary) in [(START_READ, start_read), (END_READ, end_read)] {
        let Some(boundary) = boundary else { continue };
        quality = quality.min(boundary.quality);
        let Some(register) = boundary.register else { continue };
        let estimated = if boundary.quality.is_estimate() { register } else { Amount::ZERO };
        items.push(item(what, register, boundary.quality, estimated, true));
    }
    items.push(item(USE, use_amount, quality, of_it_estimated, false));
    items
}

/// The unit that closes a channel's name, as bills write it.
fn unit_of(channel: Channel) -> &'static str {
    let name = channel.name();
    [("_kwh", "kWh"), ("_kvarh", "kvarh"), ("_kvah", "kVAh"), ("_m3", "m3"), ("_kw", "kW")]
        .into_iter()
        .find(|(suffix, _)| name.ends_with(suffix))
        .map_or("", |(_, unit)| unit)
}
