//! The registry as CSV files: which meter served which usage point and customer, from when to when.
//!
//! [`read_dir`] reads a folder and refuses it with every problem at once, each with file and line; [`write_dir`] writes
//! the same form. Importing into tables, and asking whether anything changed, is not done here.
//!
//! # Form
//! UTF-8, commas, a header line with the names below in any order. Columns marked * must be there and filled; the others
//! may be left out, or their cells empty: then the default holds. Blanks around a cell do not count. Numbers have a
//! decimal point. `yes`, `no`, `true`, `false` are understood.
//!
//! A time is `2026-03-15T10:00:00Z` or another text with offset, or a local time `2026-03-15 10:00`, or a day
//! `2026-03-15` (its first instant); local times and days are those of the usage point's zone. A local time that the
//! clock skipped or showed twice is refused: write its offset.
//!
//! | `usage_points.csv` | is |
//! |---|---|
//! | `usage_point_id` * | 1 to 64 bytes, unique |
//! | `commodity` * | `electricity` or `water` |
//! | `zone` * | IANA name of the civil time of its days and billing cycles, such as `Europe/Madrid` |
//! | `customer_id` | who is billed; default: nobody |
//! | `node_id` | the transformer, feeder or district metered area that feeds it; default: unknown |
//! | `class` | customer class such as `residential`; default: empty |
//! | `place` | address or coordinates for the field team; default: empty |
//! | `billing_day` | day of the month on which the cycle begins, 1 to 28; default: 1 |
//! | `active` | whether the account is active; default: yes |
//! | `continuous_use` | known to use water at all hours, so excepted from the leak rule; default: no |
//! | `nominal_voltage_v` | between phase and neutral, electricity only; default: that of the voltage profile |
//! | `customer_since` | when the customer moved in: estimates learn from no use before; default: always |
//! | `parent_id` | the usage point whose meter counts before what flows here, such as a transformer's; default: none |
//!
//! | `meters.csv` | is |
//! |---|---|
//! | `meter_id` * | as the meter names itself in its messages, unique |
//! | `commodity` * | `electricity` or `water` |
//! | `serial` | where it differs from the id; default: the id |
//! | `model` | maker and type; default: empty |
//! | `gateway_id` | the gateway or concentrator that carries its messages, 1 to 64 bytes; default: none |
//!
//! | `installations.csv` | is |
//! |---|---|
//! | `meter_id` *, `usage_point_id` * | which meter hung where |
//! | `installed_at` | default: from its first reading |
//! | `removed_at` | the first instant at which it is gone; default: still there |
//! | `role` | `main`, or `check` for a meter beside another one of the same channels, whose use is not counted and stands in where the other's is missing; default: `main` |
//!
//! A meter exchange is one installation that ends and another that begins. So is a changed transformer ratio, with the
//! same meter.
//!
//! | `installation_channels.csv` | is |
//! |---|---|
//! | `meter_id` * | the meter |
//! | `installed_at` | as in `installations.csv`; needed only where the meter was installed more than once |
//! | `channel` * | register or interval channel such as `energy_import_kwh`; it states the unit of the columns below |
//! | `multiplier` | reading to use, such as the transformer ratio; default: 1 |
//! | `digits` | digits before the decimal point: the register wraps at 10^digits units; default: it does not wrap |
//! | `resolution` | the smallest step of the register as read; a reading with more decimals is set aside (V15); default: 0.001 |
//! | `interval_s` | seconds between readings when nothing is missing; default: 900 electricity, 3600 water |
//! | `capacity_per_hour` | the most that can flow in an hour, after the multiplier (kW, m³/h); default: no check |
//! | `start_register`, `end_register` | as read at installation and removal; default: unknown |
//!
//! | `customers.csv` (may be absent) | is |
//! |---|---|
//! | `customer_id` * | unique |
//! | `name` | for people; default: empty |
//!
//! | `network.csv` (may be absent) | is |
//! |---|---|
//! | `node_id` * | unique |
//! | `kind` * | `substation`, `feeder`, `transformer` or `dma` |
//! | `parent_id` | what feeds it; default: nothing |
//! | `name` | for people; default: empty |
//!
//! Where one of the last two is absent or has no rows, the ids that usage points give are taken as they are; else each
//! must be in it.

mod cells;
mod channels;
mod check;
mod read;
mod rows;
pub(crate) mod table;
mod write;

pub use read::read_dir;
pub use write::{WriteError, write_dir};

use table::FileSpec;

const USAGE_POINTS: FileSpec = FileSpec {
    name: "usage_points.csv",
    required: &["usage_point_id", "commodity", "zone"],
    optional: &[
        "customer_id",
        "node_id",
        "class",
        "place",
        "billing_day",
        "active",
        "continuous_use",
        "nominal_voltage_v",
        "customer_since",
        "parent_id",
    ],
    may_be_absent: false,
};

const METERS: FileSpec = FileSpec {
    name: "meters.csv",
    required: &["meter_id", "commodity"],
    optional: &["serial", "model", "gateway_id"],
    may_be_absent: false,
};

const INSTALLATIONS: FileSpec = FileSpec {
    name: "installations.csv",
    required: &["meter_id", "usage_point_id"],
    optional: &["installed_at", "removed_at", "role"],
    may_be_absent: false,
};

const INSTALLATION_CHANNELS: FileSpec = FileSpec {
    name: "installation_channels.csv",
    required: &["meter_id", "channel"],
    optional: &[
        "installed_at",
        "multiplier",
        "digits",
        "resolution",
        "interval_s",
        "capacity_per_hour",
        "start_register",
        "end_register",
    ],
    may_be_absent: false,
};

const CUSTOMERS: FileSpec =
    FileSpec { name: "customers.csv", required: &["customer_id"], optional: &["name"], may_be_absent: true };

const NETWORK: FileSpec = FileSpec {
    name: "network.csv",
    required: &["node_id", "kind"],
    optional: &["parent_id", "name"],
    may_be_absent: true,
};

#[cfg(test)]
mod tests;
