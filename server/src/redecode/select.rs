//! Which messages are decoded again.

use anyhow::{Context, ensure};
use clap::Args;
use meterlake_config::Config;
use meterlake_model::{CivilDay, MeterId, Timestamp, Zone};
use serde_json::{Value, json};

use crate::jobs;
use crate::tap::select::TopicFilter;

/// Which messages are decoded again. What is left out does not narrow it.
#[derive(Debug, Clone, Args, PartialEq, Eq)]
pub struct Selection {
    /// Messages that arrived on this day (UTC) or later
    #[arg(long, value_name = "DAY", value_parser = jobs::day)]
    pub(super) from: CivilDay,
    /// Messages that arrived before this day (UTC)
    #[arg(long, value_name = "DAY", value_parser = jobs::day)]
    pub(super) to: CivilDay,
    /// Only of this broker or Modbus line, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// Only of topics that match this MQTT filter (+ one level, # the rest)
    #[arg(long, value_name = "FILTER", value_parser = TopicFilter::parse)]
    pub(super) topic: Option<TopicFilter>,
    /// Only of this unit of a Modbus line
    #[arg(long, value_name = "N", requires = "source", conflicts_with = "topic")]
    pub(super) unit: Option<u8>,
    /// Only readings of this meter
    #[arg(long, value_name = "ID", value_parser = MeterId::new)]
    pub(super) meter: Option<MeterId>,
    /// Only what this payload map or device profile reads now, by its name without version
    #[arg(long, value_name = "NAME")]
    pub(super) map: Option<String>,
}

impl Selection {
    /// Refuses what can select nothing, or what is not there any more.
    pub(super) fn check(&self, config: &Config, now: Timestamp) -> anyhow::Result<()> {
        ensure!(self.from < self.to, "no days from {} to {}: --to is the day after the last", self.from, self.to);
        if let Some(name) = &self.source {
            let known = config.mqtt.iter().any(|b| b.name == *name) || config.modbus_lines().any(|l| l.name == *name);
            let names: Vec<_> = config.mqtt.iter().map(|b| b.name.clone()).collect();
            let names = names.into_iter().chain(config.modbus_lines().map(|l| l.name.clone())).collect::<Vec<_>>();
            ensure!(known, "no broker or Modbus line `{name}` is configured; there are {}", names.join(", "));
        }
        if let Some(name) = &self.map {
            let maps = config.mqtt.iter().flat_map(|b| b.maps.iter().map(|m| m.name.as_str()));
            let profiles = config.modbus_lines().flat_map(|l| l.devices.iter().map(|d| d.profile.name.as_str()));
            let mut names: Vec<&str> = maps.chain(profiles).collect();
            names.sort_unstable();
            names.dedup();
            let known = names.contains(&name.as_str());
            ensure!(known, "no map or profile `{name}` is configured; there are {}", names.join(", "));
        }
        if let Some(keep) = config.retention.tables.get("raw_messages").copied().flatten() {
            let keep_s = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
            let first = Zone::utc().day_of(now.plus_seconds(-keep_s)).plus_days(1);
            let days = keep_s / 86_400;
            ensure!(
                self.from >= first,
                "messages are kept {days} days ([retention] raw_messages): those of before {first} are gone, and --from is {}",
                self.from
            );
        }
        Ok(())
    }

    /// The first instant, and the one behind the last.
    pub(super) fn span(&self) -> (Timestamp, Timestamp) {
        (Zone::utc().start_of_day(self.from), Zone::utc().start_of_day(self.to))
    }

    /// The value of the column `source`.
    pub(super) fn source_column(&self, config: &Config) -> Option<String> {
        let name = self.source.as_ref()?;
        let line = config.modbus_lines().any(|line| line.name == *name);
        Some(if line { format!("modbus/{name}") } else { name.clone() })
    }

    /// Whether a message is asked for, as far as its topic tells.
    pub(super) fn takes_topic(&self, topic: &str) -> bool {
        let of_unit = |unit: u8| topic.split_once('/').is_some_and(|(of, _)| of == unit.to_string());
        self.topic.as_ref().is_none_or(|filter| filter.matches(topic)) && self.unit.is_none_or(of_unit)
    }

    /// Whether what a map reads is asked for; `label` has the version.
    pub(super) fn takes_map(&self, label: &str) -> bool {
        let name = label.rsplit_once('@').map_or(label, |(name, _)| name);
        self.map.as_ref().is_none_or(|wanted| wanted == name)
    }

    /// Whether readings of a meter are asked for.
    pub(super) fn takes_meter(&self, meter: &str) -> bool {
        self.meter.as_ref().is_none_or(|wanted| wanted.as_str() == meter)
    }

    /// For the table.
    pub(super) fn to_json(&self) -> String {
        json!({
            "from": self.from.to_string(),
            "to": self.to.to_string(),
            "source": self.source,
            "topic": self.topic.as_ref().map(TopicFilter::text),
            "unit": self.unit,
            "meter": self.meter.as_ref().map(MeterId::as_str),
            "map": self.map,
        })
        .to_string()
    }

    /// Reads [`Self::to_json`] back.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let word = |name: &str| value[name].as_str().map(str::to_owned);
        let day = |name: &str| CivilDay::parse(&word(name).unwrap_or_default()).map_err(anyhow::Error::from);
        Ok(Self {
            from: day("from").context("a re-decode has no first day")?,
            to: day("to").context("a re-decode has no last day")?,
            source: word("source"),
            topic: word("topic").map(|t| TopicFilter::parse(&t)).transpose().map_err(anyhow::Error::msg)?,
            unit: value["unit"].as_u64().and_then(|n| u8::try_from(n).ok()),
            meter: word("meter").map(|m| MeterId::new(&m)).transpose()?,
            map: word("map"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn selection(text: &str) -> Selection {
        Selection::parse(text).unwrap()
    }

    #[test]
    fn a_selection_is_read_back_from_what_is_kept_of_it() {
        for text in [
            r#"{"from":"2026-01-01","to":"2026-04-01"}"#,
            r#"{"from":"2026-01-01","to":"2026-04-01","source":"a","topic":"m/+/x","meter":"m1","map":"json"}"#,
            r#"{"from":"2026-01-01","to":"2026-04-01","source":"line","unit":7}"#,
        ] {
            let of = selection(text);
            assert_eq!(Selection::parse(&of.to_json()).unwrap(), of);
        }
        assert!(Selection::parse(r#"{"from":"2026-01-01"}"#).is_err());
    }

    #[test]
    fn topics_units_maps_and_meters_narrow_it() {
        let of = selection(r#"{"from":"2026-01-01","to":"2026-04-01","unit":7,"map":"json","meter":"m1"}"#);
        assert!(of.takes_topic("7/3/0+10") && !of.takes_topic("71/3/0+10") && !of.takes_topic("7"));
        assert!(of.takes_map("json@3") && of.takes_map("json") && !of.takes_map("json2@3"));
        assert!(of.takes_meter("m1") && !of.takes_meter("m11"));
    }

    #[test]
    fn what_is_gone_or_not_there_is_refused_with_what_there_is() {
        let config = Config::parse("[retention]\nraw_messages = \"100d\"\n", Path::new("")).unwrap();
        let now = Timestamp::parse_rfc3339("2026-06-30T12:00:00Z").unwrap();
        let refused = |text: &str| selection(text).check(&config, now).unwrap_err().to_string();
        let gone = refused(r#"{"from":"2026-03-22","to":"2026-04-01"}"#);
        assert!(gone.contains("kept 100 days") && gone.contains("before 2026-03-23 are gone"), "{gone}");
        assert!(selection(r#"{"from":"2026-03-23","to":"2026-04-01"}"#).check(&config, now).is_ok());
        assert!(refused(r#"{"from":"2026-04-01","to":"2026-04-01"}"#).contains("day after the last"));
        assert!(refused(r#"{"from":"2026-04-01","to":"2026-04-02","source":"x"}"#).contains("`x` is configured"));
        assert!(refused(r#"{"from":"2026-04-01","to":"2026-04-02","map":"y"}"#).contains("map or profile `y`"));
    }
}
