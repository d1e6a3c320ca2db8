//! `[retention]`: how long the rows of each table stay.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::document::Section;
use crate::quantity::{DAY, parse_duration};

/// So long unless the file says otherwise: ten years for what bills stand on, 400 days for messages as they came.
const DEFAULTS: [(&str, Duration); 22] = [
    ("electricity_readings", TEN_YEARS),
    ("water_readings", TEN_YEARS),
    ("meter_events", TEN_YEARS),
    ("raw_messages", MESSAGES),
    ("dead_letters", MESSAGES),
    ("dead_letter_replays", MESSAGES),
    ("usage_spans", TEN_YEARS),
    ("usage_days", TEN_YEARS),
    ("findings", TEN_YEARS),
    ("check_findings", TEN_YEARS),
    ("billing_runs", TEN_YEARS),
    ("billing_reads", TEN_YEARS),
    ("billing_determinants", TEN_YEARS),
    ("billing_events", TEN_YEARS),
    ("billing_items", TEN_YEARS),
    ("billing_corrections", TEN_YEARS),
    ("alerts", TEN_YEARS),
    ("alert_events", TEN_YEARS),
    ("profiles", THREE_YEARS),
    ("completeness", THREE_YEARS),
    ("job_runs", TEN_YEARS),
    ("redecodes", TEN_YEARS),
];
const TEN_YEARS: Duration = Duration::from_secs(3653 * 86_400);
const THREE_YEARS: Duration = Duration::from_secs(1096 * 86_400);
const MESSAGES: Duration = Duration::from_secs(400 * 86_400);
/// Tables whose rows are of several commodities.
const MIXED: [&str; 7] =
    ["usage_spans", "usage_days", "findings", "billing_reads", "alerts", "profiles", "completeness"];
/// Less would take away what is not even compacted yet.
const LEAST: Duration = Duration::from_secs(31 * 86_400);
/// The word for no limit.
const FOREVER: &str = "forever";

/// How long rows stay, by table; `None`: for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Rows of every commodity.
    pub tables: BTreeMap<&'static str, Option<Duration>>,
    /// Rows of electricity, where they stay otherwise than the table's others.
    pub electricity: BTreeMap<&'static str, Option<Duration>>,
    /// As for electricity.
    pub water: BTreeMap<&'static str, Option<Duration>>,
    /// Whether readings and use that no bill is ready for stay, however old they are.
    pub keep_unbilled: bool,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            tables: DEFAULTS.into_iter().map(|(table, keep)| (table, Some(keep))).collect(),
            electricity: BTreeMap::new(),
            water: BTreeMap::new(),
            keep_unbilled: true,
        }
    }
}

impl RetentionConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let mut config = Self::default();
        config.keep_unbilled = section.boolean("keep_unbilled").unwrap_or(config.keep_unbilled);
        for (table, keep) in &mut config.tables {
            *keep = read_keep(&mut section, table).unwrap_or(*keep);
        }
        for (name, of) in [("electricity", &mut config.electricity), ("water", &mut config.water)] {
            let mut section = section.section(name);
            of.extend(MIXED.into_iter().filter_map(|table| Some((table, read_keep(&mut section, table)?))));
        }
        config
    }
}

fn read_keep(section: &mut Section<'_>, table: &'static str) -> Option<Option<Duration>> {
    section.parsed(table, |text| {
        if text == FOREVER {
            return Ok(None);
        }
        match parse_duration(text) {
            Some(keep) if keep >= LEAST => Ok(Some(keep)),
            Some(_) => Err(format!("is \"{text}\"; at least \"{}d\" is wanted", LEAST.as_secs() / DAY.as_secs())),
            None => Err(format!("is \"{text}\"; a time such as \"3653d\", or \"{FOREVER}\", is wanted")),
        }
    })
}
