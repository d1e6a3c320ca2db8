//! What every command begins with: the runtime, the configuration, the lake, the rules.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use meterlake_analytics::alerts::leak::{LeakRules, LeakVariant};
use meterlake_analytics::alerts::undervoltage::{VoltageProfile, VoltageRules};
use meterlake_analytics::billing::BillingRules;
use meterlake_analytics::completeness::CompletenessRules;
use meterlake_analytics::ledger::Materiality;
use meterlake_analytics::profiles::ProfileRules;
use meterlake_analytics::runs::{CycleCalendar, CycleRule, GateRules};
use meterlake_analytics::usage::storm::StormRules;
use meterlake_analytics::usage::{LoadProfile, Shape, Temperatures, UsageRules};
use meterlake_analytics::{FillRules, Rules};
use meterlake_config::{
    Config, CycleConfig, HourRange, LakeConfig, LakeRoot, LeakConfig, LeakRule, LoadProfileConfig, S3Credentials,
    UndervoltageConfig, UsageConfig, VoltageLimits,
};
use meterlake_model::{Amount, CivilDay};
use meterlake_store::{Credentials, Lake, Location, S3Location};
use tokio::runtime::{Builder, Runtime};

use crate::cli::Global;

/// Plans of long SQL texts recurse deeply.
const STACK_BYTES: usize = 8 << 20;

/// The runtime of the process.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()
}

/// The configuration named on the command line, or the embedded defaults below the present folder.
///
/// # Errors
/// Every problem of the file at once.
pub fn load_config(global: &Global) -> anyhow::Result<Config> {
    match &global.config {
        Some(path) => Config::load(path).with_context(|| format!("{} is refused", path.display())),
        None => Config::parse("", Path::new("")).context("the embedded defaults are refused"),
    }
}

/// Where the configuration says that the lake is.
pub fn location(config: &LakeConfig) -> Location {
    match &config.root {
        LakeRoot::Folder(path) => Location::Local(path.clone()),
        LakeRoot::S3(s3) => Location::S3(Box::new(S3Location {
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone(),
            allow_http: s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")),
            endpoint: s3.endpoint.clone(),
            region: s3.region.clone(),
            credentials: match &s3.credentials {
                S3Credentials::Keys { access_key_id, secret_access_key } => Credentials::Keys {
                    access_key_id: access_key_id.clone(),
                    secret_access_key: secret_access_key.expose().to_owned(),
                },
                S3Credentials::Machine => Credentials::Machine,
            },
            bucket_in_host: s3.bucket_in_host,
            authorities: s3.authorities.iter().map(|authority| authority.to_vec()).collect(),
            connect_timeout: s3.connect_timeout,
            request_timeout: s3.request_timeout,
            retry_for: s3.retry_for,
            lease: s3.lease,
        })),
    }
}

/// Opens the lake that the configuration names; a folder is made when it is not there.
///
/// # Errors
/// When it cannot be opened.
pub fn connect(config: &Config) -> anyhow::Result<Lake> {
    Lake::connect(&location(&config.lake)).with_context(|| format!("cannot open the lake at {}", config.lake.root))
}

/// Opens the lake that the configuration names, which must be there.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn open_lake(config: &Config) -> anyhow::Result<Lake> {
    if let LakeRoot::Folder(root) = &config.lake.root {
        anyhow::ensure!(
            root.is_dir(),
            "there is no lake at {}: import a registry or start `meterlake collect` first, or name another --config",
            root.display()
        );
    }
    connect(config)
}

/// The rules of the jobs as plain values.
pub fn rules(config: &Config) -> Rules {
    Rules {
        usage: usage_rules(&config.usage),
        fills: fill_rules(&config.usage),
        billing: BillingRules { estimated_limit_permille: i64::from(config.billing.estimated_limit_permille) },
        gates: GateRules {
            boundary_days: i64::from(config.billing.boundary_days),
            estimated_ppm: i64::from(config.billing.estimated_limit_permille) * 1000,
            late_estimated_ppm: i64::from(config.billing.late_estimated_permille) * 1000,
            deadline_days: i32::from(config.billing.deadline_days),
            last_actual_days: i32::from(config.billing.last_actual_days),
            estimated_cycles: i32::from(config.billing.estimated_cycles),
        },
        cycles: CycleCalendar { rules: config.billing.cycles.iter().map(cycle_rule).collect() },
        notices: Materiality {
            energy: Amount::from_micros(config.billing.notice_kwh_micros).unwrap_or_default(),
            water: Amount::from_micros(config.billing.notice_m3_micros).unwrap_or_default(),
            permille: i64::from(config.billing.notice_permille),
        },
        leak: leak_rules(&config.alerts.leak),
        voltage: voltage_rules(&config.alerts.undervoltage),
        profile: ProfileRules {
            min_days: config.profiles.min_days,
            night: hours(config.profiles.night),
            evening: hours(config.profiles.evening),
            midday: hours(config.profiles.midday),
        },
        completeness: CompletenessRules {
            late_after_s: i64::try_from(config.completeness.late_after.as_secs()).unwrap_or(i64::MAX),
            common_percent: u32::from(config.completeness.common_cause_percent),
            common_min_meters: u32::from(config.completeness.common_cause_min_meters),
        },
        holidays: config.jobs.holidays.clone(),
        calendars: config.calendars.clone(),
        determinants: config.determinants.clone(),
        checks: config.checks.catalogue.clone(),
    }
}

fn cycle_rule(config: &CycleConfig) -> CycleRule {
    CycleRule {
        name: config.name.clone(),
        commodity: config.commodity,
        classes: config.classes.clone(),
        months: i32::from(config.months),
        first_month: i8::try_from(config.first_month).unwrap_or(1),
        day: config.day,
    }
}

fn hours(range: HourRange) -> (u8, u8) {
    (range.from, range.to)
}

fn usage_rules(config: &UsageConfig) -> UsageRules {
    let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    UsageRules {
        jitter_steps: i64::from(config.jitter_steps),
        settle_s: seconds(config.settle),
        capacity_percent: i64::from(config.capacity_percent),
        actual_gap_water_s: seconds(config.actual_gap_water),
        linear_gap_s: seconds(config.linear_gap),
        boundary_gap_s: seconds(config.boundary_gap),
        history_days: i32::from(config.lookback_days),
        average_days: i32::from(config.average_days),
        project_s: seconds(config.project),
        shapes: config.shapes.iter().filter_map(|method| Shape::parse(method.as_str())).collect(),
    }
}

fn fill_rules(config: &UsageConfig) -> FillRules {
    let days = |days: &BTreeMap<CivilDay, i32>| Temperatures::new(days.iter().map(|(day, mean)| (*day, *mean)));
    let profile = |of: &LoadProfileConfig| {
        // The configuration refuses what is no profile.
        let profile = LoadProfile::new(of.name.clone(), of.commodity, of.classes.clone(), of.weights.clone());
        profile.map(|profile| profile.with_daily_use(of.daily_use))
    };
    FillRules {
        weather: config.weather.iter().map(|(region, of)| (region.clone(), days(of))).collect(),
        profiles: config.profiles.iter().filter_map(profile).collect(),
        storm: StormRules {
            enabled: config.storm.enabled,
            drop_permille: i64::from(config.storm.drop_permille),
            resume_permille: i64::from(config.storm.resume_permille),
            min_meters: config.storm.min_meters,
            release_hours: usize::from(config.storm.release_days) * 24,
            usual_hours: usize::from(config.storm.usual_days) * 24,
        },
    }
}

fn leak_rules(config: &LeakConfig) -> LeakRules {
    LeakRules {
        variant: match config.rule {
            LeakRule::Continuous => LeakVariant::SlidingDay,
            LeakRule::CalendarDay => LeakVariant::CalendarDay,
        },
        floor_m3h: config.above_m3_per_h,
        window_hours: config.window_hours,
        min_actual_hours: config.min_actual_hours,
        minor_after_hours: config.minor_after_hours,
        major_after_hours: config.major_after_hours,
        major_m3h: config.major_m3_per_h,
    }
}

fn voltage_rules(config: &UndervoltageConfig) -> VoltageRules {
    VoltageRules {
        profile: match config.limits {
            VoltageLimits::En50160 => VoltageProfile::En50160,
            VoltageLimits::Gbt12325 => VoltageProfile::Gb12325,
            VoltageLimits::AnsiC84 => VoltageProfile::AnsiC84,
            VoltageLimits::Own { nominal_dv, low_permille, severe_permille } => {
                VoltageProfile::Own { nominal_dv, low_permille, severe_permille }
            }
        },
        open_readings: config.open_readings,
        open_minutes: config.open_minutes,
        close_readings: config.close_readings,
        hysteresis_permille: config.hysteresis_permille,
        interruption_permille: config.interruption_permille,
        lost_phase_permille: config.lost_phase_permille,
        standing_phase_permille: config.standing_phase_permille,
        incident_percent: config.incident_percent,
        incident_min_meters: config.incident_min_meters,
    }
}
