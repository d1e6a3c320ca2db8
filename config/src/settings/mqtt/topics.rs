//! Topic filters, and the topics that we write to.

/// The rules of MQTT 5 for topic filters (4.7, 4.8.2).
pub(super) fn check_filter(filter: &str) -> Result<(), &'static str> {
    if filter.is_empty() || filter.len() > 65_535 {
        return Err("has no letters, or more than 65535 bytes");
    }
    if filter.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    let mut levels: Vec<&str> = filter.split('/').collect();
    if levels[0] == "$share" {
        if levels.len() < 3 || levels[1].is_empty() || levels[1].contains(['+', '#']) {
            return Err("is no shared subscription; it has the form $share/GROUP/TOPIC");
        }
        levels.drain(..2);
    }
    let last = levels.len() - 1;
    for (at, level) in levels.iter().enumerate() {
        if level.contains('+') && *level != "+" {
            return Err("has a `+` that is not a whole level");
        }
        if level.contains('#') && (*level != "#" || at != last) {
            return Err("has a `#` that is not the whole last level");
        }
    }
    Ok(())
}

/// Whether the members of a group share what the filter matches.
pub(super) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Whether some topic is matched by both filters.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (mut left, mut right) = (a.split('/'), b.split('/'));
    let mut first = true;
    loop {
        let (x, y) = (left.next(), right.next());
        // `a/#` matches `a` too.
        let met = match (x, y) {
            (None, None) => return true,
            (Some("#"), other) | (other, Some("#")) => {
                return !(first && other.is_some_and(|level| level.starts_with('$')));
            }
            (None, _) | (_, None) => return false,
            (Some("+"), Some(other)) | (Some(other), Some("+")) => !(first && other.starts_with('$')),
            (Some(x), Some(y)) => x == y,
        };
        if !met {
            return false;
        }
        first = false;
    }
}

/// Where the receipts of each gateway go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptTopic {
    before: String,
    after: String,
}

const GATEWAY: &str = "{gateway}";

impl ReceiptTopic {
    /// Reads `meterlake/v1/{gateway}/receipts` and the like.
    ///
    /// # Errors
    /// What is wrong, to follow the key's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let levels = text.split('/').filter(|level| *level == GATEWAY).count();
        let plain = text.replace(GATEWAY, "");
        if levels != 1 || plain.contains(['{', '}']) {
            return Err(format!(
                "is \"{text}\"; one level of it must be {{gateway}}, such as \"receipts/{{gateway}}\""
            ));
        }
        if plain.contains(['+', '#']) || plain.starts_with('$') || check_filter(text).is_err() {
            return Err(format!("is \"{text}\"; it must be a topic that can be written to"));
        }
        let (before, after) = text.split_once(GATEWAY).unwrap_or((text, ""));
        Ok(Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// The topic of one gateway; `None` where its name cannot be a level of a topic.
    pub fn of(&self, gateway: &str) -> Option<String> {
        let unfit = |letter: char| matches!(letter, '/' | '+' | '#') || letter.is_control();
        let topic = format!("{}{gateway}{}", self.before, self.after);
        let fits = !gateway.is_empty() && !gateway.contains(unfit) && topic.len() <= 65_535 && !topic.starts_with('$');
        fits.then_some(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_filters_follow_mqtt() {
        for filter in ["a", "a/b", "a/+/c", "+", "#", "a/#", "/a", "a//b", "$share/g/a/+", "$SYS/#"] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for filter in ["", "a+", "a/b#", "#/a", "a/+b/c", "a\0", "$share/g", "$share//a", "$share/+/a"] {
            assert!(check_filter(filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn filters_overlap_where_one_topic_meets_both() {
        for (a, b, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "a/c", true),
            ("a/+/x", "a/c/y", false),
            ("a/+/x", "+/c/x", true),
            ("a/#", "a", true),
            ("a/#", "b/#", false),
            ("#", "a/b/c", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} and {b}");
            assert_eq!(overlap(b, a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn receipts_go_to_a_topic_of_their_gateway_and_nowhere_else() {
        let topic = ReceiptTopic::parse("meterlake/v1/{gateway}/receipts").unwrap();
        assert_eq!(topic.of("gw-7").as_deref(), Some("meterlake/v1/gw-7/receipts"));
        for gateway in ["", "a/b", "+", "#", "a\0"] {
            assert_eq!(topic.of(gateway), None, "{gateway:?}");
        }
        assert_eq!(ReceiptTopic::parse("{gateway}/r").unwrap().of("$SYS"), None);
        for wrong in [
            "",
            "receipts",
            "a/{meter}",
            "a{gateway}/b",
            "{gateway}/{gateway}",
            "a/+/{gateway}",
            "{gateway}/#",
            "$SYS/{gateway}",
        ] {
            assert!(ReceiptTopic::parse(wrong).is_err(), "{wrong}");
        }
    }
}
