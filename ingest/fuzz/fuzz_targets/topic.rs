#![no_main]
//! The topic matcher: a pattern, a line feed, a topic.

use libfuzzer_sys::fuzz_target;
use meterlake_config::payload_map::TopicPattern;

fuzz_target!(|input: &str| {
    let Some((pattern, topic)) = input.split_once('\n') else { return };
    let Ok(parsed) = TopicPattern::parse(pattern) else { return };
    let matched = parsed.matches(topic).is_some();
    // Without wildcards and places a pattern matches itself and nothing else.
    if !pattern.contains(['+', '#', '{']) {
        assert_eq!(matched, pattern == topic, "`{pattern}` and `{topic}`");
    }
});
