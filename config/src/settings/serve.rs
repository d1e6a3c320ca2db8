//! `[jobs]` and `[serve]`: when jobs run, and where health and metrics are asked for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use meterlake_model::CivilDay;

use crate::document::Section;
use crate::quantity::{DAY, MINUTE};

/// When jobs run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsConfig {
    /// From one start to the next.
    pub interval: Duration,
    /// Days that count as a Sunday, in every zone.
    pub holidays: BTreeSet<CivilDay>,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self { interval: 15 * MINUTE, holidays: BTreeSet::new() }
    }
}

impl JobsConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let interval = section.duration("interval", MINUTE..=7 * DAY);
        let mut holidays = BTreeSet::new();
        for text in section.texts("holidays").unwrap_or_default() {
            match CivilDay::parse(&text.value) {
                Ok(day) if holidays.insert(day) => {}
                Ok(day) => section.document().note(text.line, format!("`jobs.holidays` names {day} twice")),
                Err(error) => section.document().note(text.line, format!("`jobs.holidays`: {error}")),
            }
        }
        Self { interval: interval.unwrap_or(Self::default().interval), holidays }
    }
}

/// Health and metrics over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeConfig {
    /// Address and port to listen at.
    pub bind: SocketAddr,
    /// Whether `bind` may be reached from other machines, though nothing asks them who they are.
    pub allow_public: bool,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self { bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464), allow_public: false }
    }
}

impl ServeConfig {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let bind = section.parsed("bind", |text| {
            text.parse().map_err(|_| format!("is \"{text}\"; an address and port such as \"127.0.0.1:9464\" is wanted"))
        });
        let config = Self {
            bind: bind.unwrap_or(default.bind),
            allow_public: section.boolean("allow_public").unwrap_or(default.allow_public),
        };
        if !config.bind.ip().is_loopback() && !config.allow_public {
            section.refuse(
                "bind",
                format_args!(
                    "is {}, which other machines reach without TLS or password; bind 127.0.0.1 and put a proxy before \
                     it, or say `allow_public = true`",
                    config.bind
                ),
            );
        }
        config
    }
}
