//! The rules of every job as plain values: what `server` fills from the configuration and hands over.

use std::collections::{BTreeMap, BTreeSet};

use meterlake_model::CivilDay;
use meterlake_model::calendar::Calendars;
use meterlake_model::check::Catalogue;
use meterlake_model::determinant::Determinant;
use sha2::{Digest, Sha256};

use crate::alerts::hex;
use crate::alerts::leak::LeakRules;
use crate::alerts::undervoltage::VoltageRules;
use crate::billing::BillingRules;
use crate::completeness::CompletenessRules;
use crate::ledger::Materiality;
use crate::profiles::ProfileRules;
use crate::runs::{CycleCalendar, GateRules};
use crate::usage::storm::StormRules;
use crate::usage::{LoadProfile, Rule, Temperatures, UsageRules};

/// What fills go by beside readings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FillRules {
    /// The weather by region: a node of the network, for all that hangs below it, or `*` for all.
    pub weather: BTreeMap<String, Temperatures>,
    /// Load profiles; of several for a usage point the first.
    pub profiles: Vec<LoadProfile>,
    /// When the estimates of an area wait.
    pub storm: StormRules,
}

/// Everything that decides what a job makes of the same readings.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Checks and fills of usage spans.
    pub usage: UsageRules,
    /// What fills of usage go by beside readings.
    pub fills: FillRules,
    /// When an estimate is too much of a bill.
    pub billing: BillingRules,
    /// When a bill goes out, waits or is held.
    pub gates: GateRules,
    /// Which usage points are billed when.
    pub cycles: CycleCalendar,
    /// From which change on the billing system is told.
    pub notices: Materiality,
    /// Customer leaks.
    pub leak: LeakRules,
    /// Undervoltage and phase loss.
    pub voltage: VoltageRules,
    /// Key figures and shapes.
    pub profile: ProfileRules,
    /// What is late, and what is one cause for many meters.
    pub completeness: CompletenessRules,
    /// Days that count as a Sunday.
    pub holidays: BTreeSet<CivilDay>,
    /// Tariff calendars by name.
    pub calendars: Calendars,
    /// What bills need besides reads.
    pub determinants: Vec<Determinant>,
    /// Checks and what follows from them.
    pub checks: Catalogue,
}

impl Rules {
    /// Hash of all rules that values and bills follow from, as 16 hex digits: two runs with the same hash went by the same
    /// rules. Of checks, which change no value, only the policy of the walk's own rules is among them.
    pub fn hash(&self) -> String {
        let settings = self.checks.settings.iter().filter(|setting| Rule::answers(&setting.check)).cloned().collect();
        let rules = Self { checks: Catalogue { settings, ..Catalogue::default() }, ..self.clone() };
        // The derived text names every field with its value, in a fixed order.
        hex(&Sha256::digest(format!("{rules:?}"))[..8])
    }

    /// As [`Self::hash`], of the checks and their settings, too: what findings follow from.
    pub fn checks_hash(&self) -> String {
        hex(&Sha256::digest(format!("{self:?}"))[..8])
    }

    /// As [`Self::hash`], of what usage follows from: a new tariff or alert limit is none of it.
    pub fn usage_hash(&self) -> String {
        hex(&Sha256::digest(format!("{:?} {:?} {:?}", self.usage, self.fills, self.holidays))[..8])
    }
}
