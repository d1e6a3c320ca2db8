//! Codes of units, flows and qualities, by format.
//!
//! ESPI's and NEM12's are those of the published documents (NAESB REQ.21 schema 4.0, AEMO MDFF 2.6); IEC 61968-9's reading
//! type and quality codes are from annexes C and D of its second edition.

use meterlake_model::{Amount, Channel, Commodity, Method, Quality};

/// What a unit of ours is in codes of ESPI and IEC 61968-9, which share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    /// Code of the base unit: watt-hours, cubic metres.
    pub uom: u16,
    /// Code of what is measured: energy, volume, power.
    pub kind: u16,
    /// The power of ten from the base unit to ours: 3 for kWh.
    pub power: i8,
}

impl Unit {
    /// By the unit's name in tables.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let (uom, kind, power) = match name {
            "kWh" => (72, 12, 3),
            "kvarh" => (73, 12, 3),
            "kVAh" => (71, 12, 3),
            "kW" => (38, 8, 3),
            "m3" => (42, 58, 0),
            _ => return None,
        };
        Some(Self { uom, kind, power })
    }

    /// Of a channel whose use or register is exported.
    pub(super) fn of(channel: Channel) -> Option<Self> {
        Self::by_name(unit_name(channel))
    }

    /// Whether it is a use over time, as opposed to a demand.
    pub(super) const fn is_use(self) -> bool {
        self.kind != 8
    }
}

/// The unit that closes a channel's name, as bills write it; empty where no bill has it.
pub fn unit_name(channel: Channel) -> &'static str {
    let name = channel.name();
    [("_kwh", "kWh"), ("_kvarh", "kvarh"), ("_kvah", "kVAh"), ("_m3", "m3"), ("_kw", "kW")]
        .into_iter()
        .find(|(suffix, _)| name.ends_with(suffix))
        .map_or("", |(_, unit)| unit)
}

/// 1 for what the customer takes, 19 for what the customer gives.
pub(super) fn flow(part: &str) -> u8 {
    if part.contains("export") || part.contains("reverse") { 19 } else { 1 }
}

/// Number of the meter's own tariff register; 0: none.
pub(super) fn tariff(part: &str) -> u8 {
    (1..=4).find(|n| part.contains(&format!("_t{n}_"))).unwrap_or(0)
}

/// Code of the commodity in ESPI and IEC 61968-9.
pub(super) const fn commodity(of: Commodity) -> u8 {
    match of {
        Commodity::Electricity => 1,
        Commodity::Water => 9,
    }
}

/// `system.category.index` of IEC 61968-9, system 3: meter data management. The indexes of estimates tell the method apart
/// and are our own.
pub(super) const fn cim_quality(quality: Quality, method: Option<Method>) -> &'static str {
    match quality {
        Quality::Missing => "3.5.259",
        Quality::Failed => "3.6.0",
        Quality::Estimated | Quality::EstimatedScaled => match method {
            Some(Method::Linear) => "3.8.3",
            Some(Method::LikeDay) => "3.8.4",
            Some(Method::DayType) => "3.8.5",
            Some(Method::ProxyDay) => "3.8.6",
            Some(Method::Profile) => "3.8.7",
            Some(Method::Project) => "3.8.8",
            _ => "3.8.0",
        },
        Quality::Derived => "3.11.0",
        Quality::Valid => "3.0.1",
        Quality::Verified => "3.0.0",
        Quality::Edited => "3.7.0",
    }
}

/// Quality method of NEM12: the flag, and the method where the flag needs one.
pub(super) const fn nem12_quality(quality: Quality, method: Option<Method>) -> &'static str {
    match quality {
        Quality::Missing | Quality::Failed => "N",
        Quality::Estimated | Quality::EstimatedScaled | Quality::Derived => match method {
            Some(Method::Project) => "E52",
            Some(Method::Twin) => "S11",
            Some(Method::Closure | Method::Boundary) => "S12",
            Some(Method::LikeDay) => "S14",
            Some(Method::DayType) => "S15",
            Some(Method::Linear | Method::Even) => "S17",
            Some(Method::NoSupply) => "S19",
            // Days of like weather have no method of their own there.
            Some(Method::ProxyDay | Method::Profile) => "S18",
            None => match quality {
                Quality::Derived => "S12",
                _ => "S18",
            },
        },
        Quality::Valid | Quality::Verified => "A",
        Quality::Edited => "F16",
    }
}

/// Data stream of NEM12: `E` what the network gives, `B` what it takes, `Q` and `K` the same of reactive energy.
pub(super) fn nem12_stream(channel: Channel) -> Option<char> {
    match channel.name() {
        "energy_import_kwh" | "energy_import_delta_kwh" => Some('E'),
        "energy_export_kwh" | "energy_export_delta_kwh" => Some('B'),
        "reactive_import_kvarh" => Some('Q'),
        "reactive_export_kvarh" => Some('K'),
        _ => None,
    }
}

/// An amount with as few decimals as say it exactly.
pub(super) fn shortest(amount: Amount) -> String {
    let text = amount.to_string();
    match text.split_once('.') {
        Some((whole, decimals)) => {
            let decimals = decimals.trim_end_matches('0');
            if decimals.is_empty() { whole.to_owned() } else { format!("{whole}.{decimals}") }
        }
        None => text,
    }
}
