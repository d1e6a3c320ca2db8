//! Typed, validated configuration: what people write in files, read whole and refused with every problem at once.

pub mod device_profile;
mod document;
pub mod payload_map;
mod problem;
mod quantity;
pub mod registry;
mod settings;

pub use problem::{Problem, line_of};
pub use quantity::{bytes_text, duration_text, parse_bytes, parse_duration};
pub use settings::{
    AlertsConfig, BillingConfig, CollectConfig, Config, ConfigErrors, HourRange, JobsConfig, LakeConfig, LeakConfig,
    LeakRule, ModbusDevice, ModbusLine, MqttBroker, ProfilesConfig, Secret, ServeConfig, UndervoltageConfig, UsageConfig,
    VoltageLimits,
};
