//! What of a batch is shown.

use meterlake_config::Config;
use meterlake_model::{Commodity, DeadLetter};

use super::TapArgs;
use super::show::{Item, Kind};

/// An MQTT topic filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicFilter(Vec<String>);

impl TopicFilter {
    /// # Errors
    /// When `+` or `#` do not fill a level, or something follows `#`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let levels: Vec<String> = text.split('/').map(str::to_owned).collect();
        let whole = levels.iter().all(|level| level.len() == 1 || !level.contains(['+', '#']));
        let last = levels.iter().rev().skip(1).all(|level| level != "#");
        match (text.is_empty(), whole, last) {
            (true, ..) => Err("it is empty; # stands for every topic".to_owned()),
            (_, false, _) => Err("+ and # each fill a whole level, as in meters/+/state".to_owned()),
            (_, _, false) => Err("nothing may follow #".to_owned()),
            _ => Ok(Self(levels)),
        }
    }

    /// As it was written.
    pub(crate) fn text(&self) -> String {
        self.0.join("/")
    }

    /// As brokers match: a filter that begins with a wildcard does not take topics that begin with `$`.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.first().is_some_and(|level| level == "+" || level == "#") {
            return false;
        }
        let mut parts = topic.split('/');
        for level in &self.0 {
            if level == "#" {
                return true;
            }
            match parts.next() {
                Some(part) if level == "+" || level == part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }
}

/// The options of one call.
pub(super) struct Selection {
    meters: Vec<String>,
    topics: Vec<TopicFilter>,
    sources: Vec<String>,
    commodity: Option<Commodity>,
    readings: bool,
    events: bool,
    dead_letters: bool,
}

impl Selection {
    pub(super) fn new(config: &Config, args: &TapArgs) -> Self {
        let some = args.readings || args.events || args.dead_letters;
        let chosen = |kind: bool| if some { kind } else { args.commodity.is_none() };
        // A line is known by its name; its rows say `modbus/` before it.
        let lines = config.modbus_lines().filter(|line| args.source.contains(&line.name));
        let sources = lines.map(|line| format!("modbus/{}", line.name)).chain(args.source.clone()).collect();
        Self {
            meters: args.meter.clone(),
            topics: args.topic.clone(),
            sources,
            commodity: args.commodity,
            readings: !some || args.readings,
            events: chosen(args.events),
            dead_letters: chosen(args.dead_letters),
        }
    }

    pub(super) fn takes_topic(&self, topic: &str) -> bool {
        self.topics.iter().any(|filter| filter.matches(topic))
    }

    pub(super) fn takes(&self, item: &Item<'_>) -> bool {
        let source = self.sources.is_empty() || self.sources.iter().any(|source| source == item.source());
        source
            && match item.kind {
                Kind::Reading { commodity, header, .. } => {
                    self.readings
                        && self.commodity.is_none_or(|wanted| wanted == commodity)
                        && self.takes_meter(header.meter_id.as_str())
                }
                Kind::Event(event) => self.events && self.takes_meter(event.meter_id.as_str()),
                Kind::Dead(dead) => self.dead_letters && (self.meters.is_empty() || self.names_meter(dead)),
                // Asked for by its topic; its readings are chosen after it.
                Kind::Message(_) => self.meters.is_empty() && self.commodity.is_none() && self.readings,
            }
    }

    fn takes_meter(&self, id: &str) -> bool {
        let is = |wanted: &String| wanted.strip_suffix('*').map_or(id == wanted, |start| id.starts_with(start));
        self.meters.is_empty() || self.meters.iter().any(is)
    }

    /// Whether a dead letter speaks of a wanted meter anywhere: who misses its readings looks for it.
    fn names_meter(&self, dead: &DeadLetter) -> bool {
        let payload = String::from_utf8_lossy(&dead.message.payload);
        self.meters.iter().map(|wanted| wanted.strip_suffix('*').unwrap_or(wanted)).any(|wanted| {
            dead.message.topic.contains(wanted) || dead.detail.contains(wanted) || payload.contains(wanted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_topics_as_a_broker_does() {
        for (filter, topic, taken) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b", "a", false),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a//c", true),
            ("a/+", "a", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "anything/at/all", true),
            ("#", "$SYS/broker", false),
            ("+/broker", "$SYS/broker", false),
            ("$SYS/#", "$SYS/broker", true),
            ("7/4/+", "7/4/0+80", true),
            ("/a", "a", false),
        ] {
            assert_eq!(TopicFilter::parse(filter).unwrap().matches(topic), taken, "{filter} on {topic}");
        }
        for wrong in ["", "a+/b", "a/b#", "#/a", "a/#/b", "++"] {
            assert!(TopicFilter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
