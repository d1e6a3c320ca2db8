//! What fills go by beside readings: `[usage.weather]`, `[[usage.profile]]`, `[usage.storm]`, and the order of the rungs.

use std::collections::BTreeMap;

use meterlake_model::{Amount, CivilDay, Commodity, Method, parse_scaled};

use super::Surroundings;
use crate::document::Section;
use crate::quantity::DAY;
use crate::registry::table::{FileSpec, Problems, Row, Table};

/// Daily temperatures: some regions for some decades.
const WEATHER: FileSpec =
    FileSpec { name: "weather.csv", required: &["region", "day", "mean_c"], optional: &[], may_be_absent: false };
/// Weights of a load profile.
const PROFILE: FileSpec = FileSpec {
    name: "profile.csv",
    required: &["day_type", "time", "weight"],
    optional: &["months"],
    may_be_absent: false,
};
/// So many rows of weather are read: thirty regions for ninety years.
const MOST_DAYS: usize = 1_000_000;
/// Weights are below this, in millionths.
const HEAVIEST: i64 = 1 << 36;
/// The coldest and warmest that a day is, in thousandths of a degree.
const WEATHER_RANGE: std::ops::RangeInclusive<i64> = -90_000..=65_000;

/// The rungs that go by what was used before, in the order in which they are tried unless the file says otherwise.
pub(super) const SHAPES: [Method; 4] = [Method::LikeDay, Method::DayType, Method::ProxyDay, Method::Profile];

/// Mean temperatures in thousandths of a degree Celsius, by region and day.
pub type Weather = BTreeMap<String, BTreeMap<CivilDay, i32>>;

/// Weights of equal steps from midnight on, in millionths: by month, then for workdays, Saturdays and Sundays.
pub type ProfileWeights = [[Vec<i64>; 3]; 12];

/// A standard load profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadProfileConfig {
    /// Its name.
    pub name: String,
    /// Of what.
    pub commodity: Commodity,
    /// Only points of these classes; empty: of any.
    pub classes: Vec<String>,
    /// Use of a mean day of the class, in kWh or m³.
    pub daily_use: Option<Amount>,
    /// How it is spread over the day.
    pub weights: ProfileWeights,
}

/// When estimates of an area wait (E15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StormConfig {
    /// Whether they ever do.
    pub enabled: bool,
    /// A drop of more than so many ‰ of the area's meters below what is usual there.
    pub drop_permille: u16,
    /// It is over when less than so many ‰ are missing.
    pub resume_permille: u16,
    /// Areas of fewer meters are never suspended.
    pub min_meters: u32,
    /// After so long there are estimates again.
    pub release_days: u16,
    /// What is usual is the mean of so long before.
    pub usual_days: u16,
}

impl Default for StormConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            drop_permille: 300,
            resume_permille: 50,
            min_meters: 100,
            release_days: 3,
            usual_days: 7,
        }
    }
}

impl StormConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let s = &mut section;
        let config = Self {
            enabled: s.boolean("enabled").unwrap_or(default.enabled),
            drop_permille: s.permille("drop_percent", 10..=1000).unwrap_or(default.drop_permille),
            resume_permille: s.permille("resume_percent", 1..=1000).unwrap_or(default.resume_permille),
            min_meters: s.integer("min_meters", 2..=1_000_000_u32).unwrap_or(default.min_meters),
            release_days: s.multiple("release", DAY, 1..=14).unwrap_or(default.release_days),
            usual_days: s.multiple("usual", DAY, 1..=31).unwrap_or(default.usual_days),
        };
        if config.resume_permille > config.drop_permille {
            s.refuse("resume_percent", "is more than `drop_percent`: what has just been suspended would go on at once");
        }
        config
    }
}

/// The order of the rungs.
pub(super) fn shapes(s: &mut Section<'_>) -> Vec<Method> {
    let Some(texts) = s.texts("shapes") else { return SHAPES.to_vec() };
    let mut shapes: Vec<Method> = Vec::new();
    for text in texts {
        match Method::parse(&text.value).filter(|method| SHAPES.contains(method)) {
            Some(method) if shapes.contains(&method) => {
                s.document().note(text.line, format!("`usage.shapes` names {method} twice"));
            }
            Some(method) => shapes.push(method),
            None => {
                let known = SHAPES.map(Method::as_str).join(", ");
                s.document().note(text.line, format!("`usage.shapes`: `{}` is none of {known}", text.value));
            }
        }
    }
    shapes
}

/// The file of temperatures.
pub(super) fn weather(mut section: Section<'_>, around: &Surroundings<'_>) -> Weather {
    let mut weather = Weather::new();
    let Some(name) = section.text("file") else { return weather };
    let problems = Problems::default();
    let path = around.path(&name);
    let table = Table::of_file(&WEATHER, &path, &problems);
    let mut count = 0;
    table.each_row(|row| {
        let region = row.require("region", |text| Ok::<_, String>(text.to_owned()));
        let day = row.require("day", CivilDay::parse);
        let mean = row.require("mean_c", temperature);
        let (Some(region), Some(day), Some(mean)) = (region, day, mean) else { return };
        count += 1;
        if count == MOST_DAYS + 1 {
            row.refuse(format_args!("a file has at most {MOST_DAYS} days"));
        }
        if count <= MOST_DAYS && weather.entry(region).or_default().insert(day, mean).is_some() {
            row.refuse(format_args!("{day} stands there already for this region"));
        }
    });
    if let Err(found) = problems.settle(path.parent().unwrap_or(&path)) {
        section.document().note_all(found);
    }
    weather
}

fn temperature(text: &str) -> Result<i32, String> {
    let milli = parse_scaled(text, 3).map_err(|error| format!("`{text}` is {error}"))?;
    let milli = Some(milli).filter(|milli| WEATHER_RANGE.contains(milli)).and_then(|milli| i32::try_from(milli).ok());
    milli.ok_or_else(|| format!("`{text}` is not from -90 to 65 °C"))
}

/// The load profiles, in the order of the file.
pub(super) fn profiles(sections: Vec<Section<'_>>, around: &Surroundings<'_>) -> Vec<LoadProfileConfig> {
    let mut profiles: Vec<LoadProfileConfig> = Vec::new();
    for mut section in sections {
        let s = &mut section;
        let name = s.text("name");
        let commodity = s.choice("commodity", &Commodity::ALL.map(|c| (c.as_str(), c)));
        let classes = s.texts("classes").unwrap_or_default().into_iter().map(|class| class.value).collect();
        let daily_use = s.decimal("daily_use", 6, 0..=1_000_000_000_000).and_then(Amount::from_micros);
        let file = s.text("file");
        let (name, commodity) = (s.required("name", name), s.required("commodity", commodity));
        let Some(file) = s.required("file", file) else { continue };
        let weights = weights(s, &file, around);
        let (Some(name), Some(commodity), Some(weights)) = (name, commodity, weights) else { continue };
        if profiles.iter().any(|known| known.name == name) {
            s.refuse("name", format_args!("is \"{name}\", as another profile's"));
        }
        profiles.push(LoadProfileConfig { name, commodity, classes, daily_use, weights });
    }
    profiles
}

const DAY_TYPES: [&str; 3] = ["workday", "saturday", "sunday"];

/// One row: the months and the type of day that it is for, the minute that its step begins with, and its weight.
struct Step {
    months: (usize, usize),
    day_type: usize,
    minute: usize,
    weight: i64,
}

/// Reads the weights of a profile: each month and type of day must have the same equal steps.
fn weights(section: &Section<'_>, file: &str, around: &Surroundings<'_>) -> Option<ProfileWeights> {
    let problems = Problems::default();
    let path = around.path(file);
    let table = Table::of_file(&PROFILE, &path, &problems);
    let mut found: [[BTreeMap<usize, i64>; 3]; 12] = Default::default();
    let readable = table.each_row(|row| {
        let Some(Step { months: (from, to), day_type, minute, weight }) = step(row) else { return };
        // From November to February is four months.
        let count = (to + 12 - from) % 12 + 1;
        let twice = (from..from + count).any(|m| found[m % 12][day_type].insert(minute, weight).is_some());
        if twice {
            row.refuse("this step stands there already");
        }
    });
    if let Err(found) = problems.settle(path.parent().unwrap_or(&path)) {
        section.document().note_all(found);
        return None;
    }
    if !readable {
        return None;
    }
    let complaint = |of: &[[BTreeMap<usize, i64>; 3]; 12]| -> Option<String> {
        let steps = of[0][0].len();
        if steps == 0 || 1_440 % steps != 0 {
            return Some(format!("workdays in January have {steps} steps, which do not divide a day evenly"));
        }
        for (month, kinds) in of.iter().enumerate() {
            for (kind, found) in kinds.iter().enumerate() {
                let missing = (0..steps).map(|n| n * (1_440 / steps)).find(|minute| !found.contains_key(minute));
                let (of, month) = (DAY_TYPES[kind], month + 1);
                if let Some(minute) = missing {
                    return Some(format!("month {month}, {of}: no step begins at {}", clock(minute)));
                }
                if found.len() != steps {
                    return Some(format!("month {month}, {of}: has {} steps, January's workdays {steps}", found.len()));
                }
            }
            if kinds.iter().all(|steps| steps.values().all(|weight| *weight == 0)) {
                return Some(format!("month {} weighs nothing", month + 1));
            }
        }
        None
    };
    if let Some(complaint) = complaint(&found) {
        section.refuse("file", format_args!(": {}: {complaint}", path.display()));
        return None;
    }
    Some(found.map(|kinds| kinds.map(|steps| steps.into_values().collect())))
}

fn clock(minute: usize) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn step(row: &Row<'_>) -> Option<Step> {
    let day_type = row.require("day_type", |text| {
        let found = DAY_TYPES.iter().position(|kind| *kind == text);
        found.ok_or_else(|| format!("`{text}` is none of {}", DAY_TYPES.join(", ")))
    });
    let minute =
        row.require("time", |text| minute(text).ok_or_else(|| format!("`{text}` is not a time such as 07:15")));
    let weight = row.require("weight", |text| {
        let weight = parse_scaled(text, 6).map_err(|error| format!("`{text}` is {error}"))?;
        let fits = (0..HEAVIEST).contains(&weight);
        if fits { Ok(weight) } else { Err(format!("`{text}` is not from 0 to {}", (HEAVIEST - 1) / 1_000_000)) }
    });
    let months = match row.cell("months") {
        "" => Some((0, 11)),
        _ => row.read("months", |text| {
            months(text).ok_or_else(|| format!("`{text}` is neither a month 1 to 12 nor two of them such as 11-2"))
        }),
    };
    Some(Step { months: months?, day_type: day_type?, minute: minute?, weight: weight? })
}

fn minute(text: &str) -> Option<usize> {
    let (hour, minute) = text.split_once(':')?;
    let part = |text: &str, below: usize| text.parse().ok().filter(|n: &usize| text.len() == 2 && *n < below);
    Some(part(hour, 24)? * 60 + part(minute, 60)?)
}

fn months(text: &str) -> Option<(usize, usize)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let month = |text: &str| text.trim().parse().ok().filter(|n| (1..=12_usize).contains(n)).map(|n| n - 1);
    Some((month(from)?, month(to)?))
}
