//! Which topics a map reads, and which level of them names the meter.

use std::fmt;

/// A topic filter in which one level may be `{meter}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern(Vec<Level>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Exact(String),
    Meter,
    Any,
    Rest,
}

impl TopicPattern {
    /// Reads `tele/{meter}/SENSOR`, `+/data/#` and the like.
    ///
    /// # Errors
    /// What is wrong, to follow the key's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        let mut levels = Vec::new();
        for level in text.split('/') {
            if levels.last() == Some(&Level::Rest) {
                return Err(format!("is \"{text}\"; nothing may follow `#`"));
            }
            levels.push(match level {
                "{meter}" if levels.contains(&Level::Meter) => {
                    return Err(format!("is \"{text}\"; only one level can be {{meter}}"));
                }
                "{meter}" => Level::Meter,
                "+" => Level::Any,
                "#" => Level::Rest,
                other if other.contains(['+', '#', '{', '}', '\0']) => {
                    return Err(format!("is \"{text}\"; `+`, `#` and {{meter}} each fill a whole level"));
                }
                other => Level::Exact(other.to_owned()),
            });
        }
        Ok(Self(levels))
    }

    /// Whether a level names the meter.
    pub fn names_meter(&self) -> bool {
        self.0.contains(&Level::Meter)
    }

    /// Whether a topic is read, and the level that names its meter.
    pub fn matches<'t>(&self, topic: &'t str) -> Option<Option<&'t str>> {
        let mut meter = None;
        let mut parts = topic.split('/');
        for level in &self.0 {
            let part = match level {
                // As brokers do it: `a/#` takes `a` too.
                Level::Rest => return Some(meter),
                _ => parts.next()?,
            };
            match level {
                Level::Exact(text) if text != part => return None,
                Level::Meter if part.is_empty() => return None,
                Level::Meter => meter = Some(part),
                _ => {}
            }
        }
        parts.next().is_none().then_some(meter)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, level) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            f.write_str(match level {
                Level::Exact(text) => text,
                Level::Meter => "{meter}",
                Level::Any => "+",
                Level::Rest => "#",
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_matches_level_by_level_and_names_its_meter() {
        for (pattern, topic, expected) in [
            ("tele/{meter}/SENSOR", "tele/plug-1/SENSOR", Some(Some("plug-1"))),
            ("tele/{meter}/SENSOR", "tele/plug-1/STATE", None),
            ("tele/{meter}/SENSOR", "tele//SENSOR", None),
            ("tele/{meter}/SENSOR", "tele/a/b/SENSOR", None),
            ("+/{meter}/#", "x/m1", Some(Some("m1"))),
            ("+/{meter}/#", "x/m1/a/b", Some(Some("m1"))),
            ("a/#", "a", Some(None)),
            ("a/#", "b", None),
            ("a/+", "a/b", Some(None)),
            ("a/+", "a", None),
            ("#", "anything/at/all", Some(None)),
        ] {
            let parsed = TopicPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(topic), expected, "{pattern} on {topic}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["", "a/#/b", "a+", "a/b#", "{meter}/{meter}", "x{meter}", "{name}/a"] {
            assert!(TopicPattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
