//! The configuration of all processes: one TOML file, read whole, checked whole.
//!
//! What a key is for, its unit and its default stand in `default.toml`, which [`Config::default_text`] gives and a test
//! holds against the code. Paths are relative to the folder of the file. Secrets come from files or the environment of
//! the process, never from this file. What the parts do with their settings is not known here.

mod alerts;
mod checks;
mod collect;
mod export;
mod fills;
mod lake;
mod modbus;
mod mqtt;
mod retention;
mod rules;
mod secret;
mod serve;
mod tariffs;

use std::path::{Path, PathBuf};

pub use alerts::{AlertsConfig, LeakConfig, LeakRule, UndervoltageConfig, VoltageLimits};
pub use checks::ChecksConfig;
pub use collect::CollectConfig;
pub use export::{EXPORT_COLUMNS, ExportConfig};
pub use fills::{LoadProfileConfig, ProfileWeights, StormConfig, Weather};
pub use lake::{LakeConfig, LakeRoot, S3Config, S3Credentials};
pub use modbus::{
    IdForm, ModbusDevice, ModbusFraming, ModbusLine, ModbusLink, ModbusListener, ModbusTransport, PacketPart,
    PacketPattern, Parity, SerialPort,
};
pub use mqtt::{DeviceRate, MqttBroker, MqttProtocol, MqttTls, ReceiptTopic, Takeover, TlsIdentity};
pub use retention::RetentionConfig;
pub use rules::{BillingConfig, CompletenessConfig, CycleConfig, HourRange, ProfilesConfig, UsageConfig};
pub use secret::Secret;
pub use serve::{JobsConfig, ServeConfig};

use meterlake_model::calendar::Calendars;
use meterlake_model::determinant::Determinant;

use crate::document::{Document, Section};
use crate::problem::Problem;

/// Everything that the file says, and the defaults for what it leaves out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Where the tables are.
    pub lake: LakeConfig,
    /// The collector: journal and commits.
    pub collect: CollectConfig,
    /// Brokers to subscribe at.
    pub mqtt: Vec<MqttBroker>,
    /// Modbus lines to poll.
    pub modbus: Vec<ModbusLine>,
    /// Ports that Modbus device servers connect to.
    pub modbus_listen: Vec<ModbusListener>,
    /// When jobs run.
    pub jobs: JobsConfig,
    /// Health and metrics.
    pub serve: ServeConfig,
    /// From readings to use.
    pub usage: UsageConfig,
    /// From use to billing reads.
    pub billing: BillingConfig,
    /// What files for billing systems look like.
    pub export: ExportConfig,
    /// Tariff calendars by name.
    pub calendars: Calendars,
    /// What bills need besides reads, in the order of the file and of the files that it names.
    pub determinants: Vec<Determinant>,
    /// Checks, and what follows from them.
    pub checks: ChecksConfig,
    /// Leak and voltage alerts.
    pub alerts: AlertsConfig,
    /// Key figures of a customer.
    pub profiles: ProfilesConfig,
    /// What is late or missing, and why.
    pub completeness: CompletenessConfig,
    /// How long rows stay.
    pub retention: RetentionConfig,
}

/// Why a configuration is refused: every problem of the file and of the files that it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", listed(.0))]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    /// The problems by file and line; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What a configuration may refer to outside its text.
pub(crate) struct Surroundings<'s> {
    /// Relative paths begin here.
    base_dir: &'s Path,
    /// The environment of the process.
    variable: &'s dyn Fn(&str) -> Option<String>,
}

impl Surroundings<'_> {
    fn path(&self, text: &str) -> PathBuf {
        self.base_dir.join(text)
    }

    fn path_of(&self, path: PathBuf) -> PathBuf {
        self.base_dir.join(path)
    }
}

impl Config {
    /// Reads a file; relative paths in it begin at its folder.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigErrors(vec![Problem::of_file(&*name, format!("cannot be read: {error}"))]))?;
        let base_dir = path.parent().unwrap_or(Path::new(""));
        Self::read(&name, &text, &Surroundings { base_dir, variable: &|name| std::env::var(name).ok() })
    }

    /// Reads text; relative paths in it begin at `base_dir`. Problems name it `configuration`.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, ConfigErrors> {
        Self::read("configuration", text, &Surroundings { base_dir, variable: &|name| std::env::var(name).ok() })
    }

    /// What is allowed and a person should know of, one sentence each.
    pub fn cautions(&self) -> Vec<String> {
        mqtt::cautions(&self.mqtt)
    }

    /// A file with every key, its meaning and its default, to start one's own from. It equals [`Config::default`].
    pub fn default_text() -> &'static str {
        include_str!("../default.toml")
    }

    /// Every Modbus line: those that we connect to, and those that connect to us.
    pub fn modbus_lines(&self) -> impl Iterator<Item = &ModbusLine> {
        let links = self.modbus_listen.iter().flat_map(|listener| &listener.links);
        self.modbus.iter().chain(links.map(|link| &link.line))
    }

    fn read(file: &str, text: &str, around: &Surroundings<'_>) -> Result<Self, ConfigErrors> {
        let (doc, table) = Document::parse(file, text);
        let config = {
            let mut root = Section::root(&doc, &table);
            let lake = LakeConfig::read(root.section("lake"), around);
            let collect = CollectConfig::read(root.section("collect"), around);
            let mqtt = mqtt::read_all(root.sections("mqtt"), &collect.name, around);
            let (lines, listeners) = (root.sections("modbus"), root.sections("modbus_listen"));
            let (modbus, modbus_listen) = modbus::read_all(lines, listeners, around);
            let mut billing = root.section("billing");
            let tariff_files = billing.texts("tariff_files").unwrap_or_default();
            let export = ExportConfig::read(billing.section("export"));
            let (calendars, determinants) = tariffs::read(&mut root, tariff_files, around);
            let checks = ChecksConfig::read(&mut root, around);
            Self {
                lake,
                mqtt,
                modbus,
                modbus_listen,
                collect,
                jobs: JobsConfig::read(root.section("jobs")),
                serve: ServeConfig::read(root.section("serve")),
                usage: UsageConfig::read(root.section("usage"), around),
                billing: BillingConfig::read(billing),
                export,
                calendars,
                determinants,
                checks,
                alerts: AlertsConfig::read(root.section("alerts")),
                profiles: ProfilesConfig::read(root.section("profiles")),
                completeness: CompletenessConfig::read(root.section("completeness")),
                retention: RetentionConfig::read(root.section("retention")),
            }
        };
        let problems = doc.into_problems();
        if problems.is_empty() { Ok(config) } else { Err(ConfigErrors(problems)) }
    }
}

/// A map or profile that a configuration names: one that comes with the program, or a file `NAME.toml`.
///
/// Notes what is wrong with the name or in the file, and gives what can be used.
pub(crate) fn named<T>(
    section: &Section<'_>,
    (key, line): (&str, usize),
    name: &str,
    around: &Surroundings<'_>,
    kind: &Named<T>,
) -> Option<T> {
    match named_by(key, name, around, kind) {
        Ok(found) => Some(found),
        Err(Unusable::Name(complaint)) => {
            section.document().note(line, complaint);
            None
        }
        Err(Unusable::File(problems)) => {
            section.document().note_all(problems);
            None
        }
    }
}

/// Why nothing can be used under a name.
enum Unusable {
    /// What is wrong with the name, with the key that gives it.
    Name(String),
    /// What is wrong in the file.
    File(Vec<Problem>),
}

/// What [`named`] finds, for whoever notes problems elsewhere.
fn named_by<T>(key: &str, name: &str, around: &Surroundings<'_>, kind: &Named<T>) -> Result<T, Unusable> {
    if !name.ends_with(".toml") {
        let known = (kind.names)();
        let found = known.contains(&name).then(|| (kind.shipped)(name)).flatten();
        return found.ok_or_else(|| {
            let hint = match crate::spelling::near_miss(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}, and files that end in .toml", known.join(", ")),
            };
            Unusable::Name(format!("`{key}`: no {} `{name}` comes with the program; {hint}", kind.word))
        });
    }
    let path = around.path(name);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Unusable::Name(format!("`{key}`: {} cannot be read: {error}", path.display())))?;
    (kind.parse)(&text, &path.display().to_string()).map_err(Unusable::File)
}

/// A kind of file that others write and a configuration names.
pub(crate) struct Named<T> {
    pub(crate) word: &'static str,
    pub(crate) names: fn() -> Vec<&'static str>,
    pub(crate) shipped: fn(&str) -> Option<T>,
    pub(crate) parse: fn(&str, &str) -> Result<T, Vec<Problem>>,
}

#[cfg(test)]
mod tests;
