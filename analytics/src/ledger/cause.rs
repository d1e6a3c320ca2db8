//! Why an issued number changed: found by comparing what both computations went by.

use std::fmt::{self, Write as _};

use meterlake_model::registry::Installation;
use meterlake_model::{Channel, Timestamp};

/// Cause of a ledger row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The first row: what was issued.
    Issue,
    /// A reading came, or a better one.
    LateRead,
    /// History was decoded again.
    ReDecode,
    /// Which meter hung there, or from when to when.
    Exchange,
    /// The multiplier of an installation.
    Multiplier,
    /// People set a value, or released it.
    Edit,
    /// Limits and rules.
    RuleChange,
    /// Cycles, zones, holidays, tariff calendars.
    CalendarChange,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 8] = [
        Self::Issue,
        Self::LateRead,
        Self::ReDecode,
        Self::Exchange,
        Self::Multiplier,
        Self::Edit,
        Self::RuleChange,
        Self::CalendarChange,
    ];

    /// The name in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::LateRead => "late_read",
            Self::ReDecode => "re_decode",
            Self::Exchange => "exchange",
            Self::Multiplier => "multiplier",
            Self::Edit => "edit",
            Self::RuleChange => "rule_change",
            Self::CalendarChange => "calendar_change",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == text)
    }

    /// Whether the billing system is told however little it is.
    pub const fn is_always_told(self) -> bool {
        matches!(self, Self::Issue | Self::Exchange | Self::Multiplier | Self::Edit)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one computation of an item went by, beside the readings: texts that are equal where nothing changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Which meters, from when to when, with their start and end registers.
    pub meters: String,
    /// Their multipliers.
    pub multipliers: String,
    /// Standing edits that touch the cycle.
    pub edits: String,
    /// Zone, cycle and tariff calendar.
    pub calendar: String,
    /// Hash of the rules, with the program.
    pub rules: String,
    /// The newest commit that decoded readings of these meters and this time again; empty: none did.
    pub decoded: String,
    /// Tariff calendars, where there are determinants; empty: not taken down.
    pub tariffs: String,
    /// Configured determinants; empty: there are none, or not taken down.
    pub determinants: String,
}

impl Context {
    const FIELDS: usize = 8;

    /// What the registry says of a channel between two instants. What it says of other times is left out, so that a removal
    /// after the cycle changes nothing.
    pub fn of_installations(
        installations: &[&Installation],
        channel: Channel,
        (start, end): (Timestamp, Timestamp),
    ) -> Self {
        let mut context = Self::default();
        let mut before: Option<(&str, Option<Timestamp>)> = None;
        for installation in installations {
            let (from, to) = (installation.installed_at, installation.removed_at);
            let Some(of) = installation.channels.iter().find(|c| c.channel == channel) else { continue };
            if from.is_some_and(|from| from >= end) || to.is_some_and(|to| to <= start) {
                continue;
            }
            let id = installation.meter_id.as_str();
            let shown =
                |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.clamp(start, end).to_string());
            let register = |r: Option<meterlake_model::Amount>| r.map_or_else(|| "-".to_owned(), |r| r.to_string());
            // Writing to a string cannot fail. The same meter under another ratio goes on.
            if before == Some((id, from)) {
                let _ = write!(context.multipliers, ",{}x{}", shown(from), of.multiplier_micros);
            } else {
                let _ = write!(
                    context.meters,
                    "{id}@{}+{};",
                    shown(from),
                    register(of.start_register.filter(|_| from >= Some(start)))
                );
                let _ = write!(context.multipliers, ";{}", of.multiplier_micros);
            }
            let removal = to.filter(|to| *to < end);
            let _ = write!(
                context.rules,
                "{:?}/{}/{}/{:?};",
                of.digits, of.resolution, of.interval_s, of.capacity_per_hour
            );
            before = Some((id, to));
            if let Some(to) = removal
                && !installations.iter().any(|i| i.meter_id.as_str() == id && i.installed_at == Some(to))
            {
                let _ = write!(context.meters, "-{to}-{};", register(of.end_register));
            }
        }
        context
    }

    /// One line, for tables.
    pub fn to_line(&self) -> String {
        let fields: [&str; Self::FIELDS] = [
            &self.meters,
            &self.multipliers,
            &self.edits,
            &self.calendar,
            &self.rules,
            &self.decoded,
            &self.tariffs,
            &self.determinants,
        ];
        fields.map(|f| f.replace('|', "/")).join("|")
    }

    /// Reads [`Self::to_line`] back.
    pub fn parse(line: &str) -> Self {
        let mut fields = line.split('|').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        Self {
            meters: next(),
            multipliers: next(),
            edits: next(),
            calendar: next(),
            rules: next(),
            decoded: next(),
            tariffs: next(),
            determinants: next(),
        }
    }

    /// What reads and use go by: no tariff.
    #[must_use]
    pub fn without_tariffs(&self) -> Self {
        Self { tariffs: String::new(), determinants: String::new(), ..self.clone() }
    }
}

/// The cause of a change: what people did first, then the registry, then rules; what is left is readings.
pub fn cause_of(old: &Context, new: &Context) -> Cause {
    // What was not taken down then cannot be compared.
    let known = |old: &str, new: &str| !old.is_empty() && !new.is_empty() && old != new;
    let differs: [(bool, Cause); 6] = [
        (old.edits != new.edits, Cause::Edit),
        (old.multipliers != new.multipliers && old.meters == new.meters, Cause::Multiplier),
        (old.meters != new.meters, Cause::Exchange),
        (old.decoded != new.decoded, Cause::ReDecode),
        (old.calendar != new.calendar || known(&old.tariffs, &new.tariffs), Cause::CalendarChange),
        (old.rules != new.rules || known(&old.determinants, &new.determinants), Cause::RuleChange),
    ];
    differs.into_iter().find(|(differs, _)| *differs).map_or(Cause::LateRead, |(_, cause)| cause)
}
