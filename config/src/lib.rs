//! What people write in files, typed and checked: the configuration, payload maps, device profiles and the registry.
//!
//! Every file is read whole and refused with all of its problems at once, each a [`Problem`] with file and line, so that
//! it is mended in one go. What the files ask for is not done here: this crate opens no connection and no table, and
//! nothing else reads the environment or files of secrets.
//!
//! ```
//! use std::path::Path;
//! use meterlake_config::Config;
//!
//! let config = Config::parse("[collect]\ncommit_interval = \"30s\"", Path::new("")).expect("is right");
//! assert_eq!(config.collect.commit_interval.as_secs(), 30);
//!
//! let errors = Config::parse("[collect]\ncomit_interval = \"30s\"\nqueue = 0", Path::new("")).expect_err("is wrong");
//! assert_eq!(errors.problems().len(), 2);
//! assert_eq!(
//!     errors.problems()[0].to_string(),
//!     "configuration:2: unknown key `collect.comit_interval`; did you mean `commit_interval`?"
//! );
//! ```

pub mod calendar;
pub mod check;
mod determinant;
pub mod device_profile;
mod document;
pub mod payload_map;
mod problem;
mod quantity;
pub mod registry;
mod settings;
mod spelling;

pub use problem::{Problem, line_of};
pub use quantity::{bytes_text, duration_text, parse_bytes, parse_duration};
pub use settings::{
    AlertsConfig, BillingConfig, ChecksConfig, CollectConfig, Config, ConfigErrors, CycleConfig, DeviceRate, HourRange,
    IdForm, JobsConfig, LakeConfig, LakeRoot, LeakConfig, LeakRule, LoadProfileConfig, ModbusDevice, ModbusFraming,
    ModbusLine, ModbusLink, ModbusListener, ModbusTransport, MqttBroker, MqttProtocol, MqttTls, PacketPart,
    PacketPattern, Parity, ProfileWeights, ProfilesConfig, ReceiptTopic, RetentionConfig, S3Config, S3Credentials,
    Secret, SerialPort, ServeConfig, StormConfig, Takeover, TlsIdentity, UndervoltageConfig, UsageConfig,
    VoltageLimits, Weather,
};
pub use settings::{EXPORT_COLUMNS, ExportConfig};
