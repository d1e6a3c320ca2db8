//! Which topics a map reads, and which of their levels say something.

use std::fmt;

use super::path::is_name;

/// The most levels of a topic that can be named.
const MOST_NAMES: usize = 8;
/// The level that names the meter.
const METER: &str = "meter";
/// The level that names the gateway.
const GATEWAY: &str = "gateway";

/// A topic filter in which levels may be `{meter}`, `{gateway}` or any other `{name}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern {
    levels: Vec<Level>,
    names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Exact(String),
    Named,
    Any,
    Rest,
}

/// The named levels of one topic.
#[derive(Debug, Clone, Copy)]
pub struct TopicParts<'t> {
    names: &'t [String],
    parts: [&'t str; MOST_NAMES],
}

impl<'t> TopicParts<'t> {
    /// The level of this name.
    pub fn get(&self, name: &str) -> Option<&'t str> {
        self.names.iter().zip(self.parts).find(|(known, _)| *known == name).map(|(_, part)| part)
    }

    /// The level `{meter}`.
    pub fn meter(&self) -> Option<&'t str> {
        self.get(METER)
    }

    /// The level `{gateway}`.
    pub fn gateway(&self) -> Option<&'t str> {
        self.get(GATEWAY)
    }
}

impl TopicPattern {
    /// Reads `tele/{meter}/SENSOR`, `{gateway}/data/#` and the like.
    ///
    /// # Errors
    /// What is wrong, to follow the key's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        let (mut levels, mut names) = (Vec::new(), Vec::<String>::new());
        for level in text.split('/') {
            if levels.last() == Some(&Level::Rest) {
                return Err(format!("is \"{text}\"; nothing may follow `#`"));
            }
            let name = level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).filter(|name| is_name(name));
            levels.push(match (name, level) {
                (Some(name), _) if names.iter().any(|known| known == name) => {
                    return Err(format!("is \"{text}\"; only one level can be {{{name}}}"));
                }
                (Some(_), _) if names.len() == MOST_NAMES => {
                    return Err(format!("is \"{text}\"; at most {MOST_NAMES} levels can have a name"));
                }
                (Some(name), _) => {
                    names.push(name.to_owned());
                    Level::Named
                }
                (None, "+") => Level::Any,
                (None, "#") => Level::Rest,
                (None, other) if other.contains(['+', '#', '{', '}', '\0']) => {
                    return Err(format!("is \"{text}\"; `+`, `#` and names such as {{meter}} each fill a whole level"));
                }
                (None, other) => Level::Exact(other.to_owned()),
            });
        }
        Ok(Self { levels, names })
    }

    /// Whether a level names the meter.
    pub fn names_meter(&self) -> bool {
        self.has(METER)
    }

    /// Whether a level names the gateway.
    pub fn names_gateway(&self) -> bool {
        self.has(GATEWAY)
    }

    /// Whether a level has this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Whether a topic is read, and its named levels.
    pub fn matches<'t>(&'t self, topic: &'t str) -> Option<TopicParts<'t>> {
        let mut found = TopicParts { names: &self.names, parts: [""; MOST_NAMES] };
        let mut named = 0;
        let mut parts = topic.split('/');
        for level in &self.levels {
            let part = match level {
                // As brokers do it: `a/#` takes `a` too.
                Level::Rest => return Some(found),
                _ => parts.next()?,
            };
            match level {
                Level::Exact(text) if text != part => return None,
                Level::Named if part.is_empty() => return None,
                Level::Named => {
                    found.parts[named] = part;
                    named += 1;
                }
                _ => {}
            }
        }
        parts.next().is_none().then_some(found)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.names.iter();
        for (at, level) in self.levels.iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            match level {
                Level::Exact(text) => f.write_str(text)?,
                Level::Named => write!(f, "{{{}}}", names.next().map_or("", String::as_str))?,
                Level::Any => f.write_str("+")?,
                Level::Rest => f.write_str("#")?,
            }
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
            let found = parsed.matches(topic).map(|parts| parts.meter());
            assert_eq!(found, expected, "{pattern} on {topic}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn named_levels_are_found_by_their_names() {
        let pattern = TopicPattern::parse("site/{gateway}/{meter}/emeter/{phase}/+").unwrap();
        let parts = pattern.matches("site/gw-7/m1/emeter/0/total").unwrap();
        let found = ["gateway", "meter", "phase", "other"].map(|name| parts.get(name));
        assert_eq!(found, [Some("gw-7"), Some("m1"), Some("0"), None]);
        assert!(pattern.names_meter() && pattern.names_gateway() && !pattern.has("other"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let nine = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| format!("{{{name}}}")).join("/");
        for pattern in ["", "a/#/b", "a+", "a/b#", "{meter}/{meter}", "x{meter}", "{Name}/a", "{}/a", &nine] {
            assert!(TopicPattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
