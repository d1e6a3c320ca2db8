//! The columns of an item as a row: for CSV by configuration, for JSON and Parquet all of them.

use std::borrow::Cow;

use meterlake_model::{Amount, CivilDay, Timestamp};

use super::item::{Head, Item, Point};

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    name: &'static str,
    holds: Holds,
    cell: for<'a> fn(&'a Head, &'a Point, &'a Item) -> Cell<'a>,
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Column {}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Text.
    Text,
    /// Integers.
    Number,
    /// Civil days.
    Day,
    /// Instants in UTC.
    Time,
    /// Decimals of six places.
    Amount,
}

/// What stands in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    /// Nothing.
    Nothing,
    /// Text.
    Text(Cow<'a, str>),
    /// An integer.
    Number(i64),
    /// A civil day.
    Day(CivilDay),
    /// An instant.
    Time(Timestamp),
    /// A decimal.
    Amount(Amount),
}

impl Cell<'_> {
    /// As text; empty for nothing.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Nothing => Cow::Borrowed(""),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => number.to_string().into(),
            Self::Day(day) => day.to_string().into(),
            Self::Time(time) => time.to_string().into(),
            Self::Amount(amount) => amount.to_string().into(),
        }
    }
}

fn text(text: &str) -> Cell<'_> {
    Cell::Text(Cow::Borrowed(text))
}

fn amount<'a>(amount: Option<Amount>) -> Cell<'a> {
    amount.map_or(Cell::Nothing, Cell::Amount)
}

const fn column(
    name: &'static str,
    holds: Holds,
    cell: for<'a> fn(&'a Head, &'a Point, &'a Item) -> Cell<'a>,
) -> Column {
    Column { name, holds, cell }
}

impl Column {
    /// All, in the order in which they are written by default.
    pub const ALL: [Self; 25] = [
        column("item", Holds::Text, |_, p, i| Cell::Text(i.id(&p.usage_point_id).into())),
        column("run", Holds::Text, |h, _, _| text(&h.run)),
        column("list", Holds::Number, |h, _, _| h.list.map_or(Cell::Nothing, Cell::Number)),
        column("kind", Holds::Text, |_, _, i| text(i.kind.as_str())),
        column("usage_point_id", Holds::Text, |_, p, _| text(&p.usage_point_id)),
        column("customer_id", Holds::Text, |_, p, _| p.customer_id.as_deref().map_or(Cell::Nothing, text)),
        column("commodity", Holds::Text, |_, p, _| text(p.commodity.as_str())),
        column("determinant", Holds::Text, |_, _, i| text(&i.determinant)),
        column("part", Holds::Text, |_, _, i| text(&i.part)),
        column("unit", Holds::Text, |_, _, i| text(&i.unit)),
        column("first_day", Holds::Day, |_, _, i| Cell::Day(i.first_day)),
        column("last_day", Holds::Day, |_, _, i| Cell::Day(i.end_day.plus_days(-1))),
        column("start", Holds::Time, |_, p, i| Cell::Time(i.span(&p.zone).0)),
        column("end", Holds::Time, |_, p, i| Cell::Time(i.span(&p.zone).1)),
        column("value", Holds::Amount, |_, _, i| Cell::Amount(i.value)),
        column("old", Holds::Amount, |_, _, i| amount(i.old)),
        column("delta", Holds::Amount, |_, _, i| Cell::Amount(i.delta)),
        column("quality", Holds::Text, |_, _, i| text(i.quality.as_str())),
        column("estimated", Holds::Amount, |_, _, i| Cell::Amount(i.estimated)),
        column("estimated_share", Holds::Amount, |_, _, i| Cell::Amount(i.estimated_share())),
        column("start_register", Holds::Amount, |_, _, i| amount(i.start_read.map(|r| r.register))),
        column("start_quality", Holds::Text, |_, _, i| {
            i.start_read.map_or(Cell::Nothing, |r| text(r.quality.as_str()))
        }),
        column("end_register", Holds::Amount, |_, _, i| amount(i.end_read.map(|r| r.register))),
        column("end_quality", Holds::Text, |_, _, i| i.end_read.map_or(Cell::Nothing, |r| text(r.quality.as_str()))),
        column("cause", Holds::Text, |_, _, i| text(&i.cause)),
    ];

    /// The name in files and in the configuration.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The column of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name == name)
    }

    /// What it holds.
    pub(super) const fn holds(self) -> Holds {
        self.holds
    }

    /// What stands in it.
    pub(super) fn cell<'a>(self, head: &'a Head, point: &'a Point, item: &'a Item) -> Cell<'a> {
        (self.cell)(head, point, item)
    }
}
