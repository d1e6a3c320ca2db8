use super::*;

const LEAST: &str = r#"
name = "x"
version = 1
topic = "t/{meter}"
format = "json"

[time]
path = "ts"
format = "rfc3339"

[fields.volume_m3]
path = "v"
"#;

fn problems(text: &str) -> Vec<String> {
    PayloadMap::parse(text, "m.toml").unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn every_shipped_map_reads_and_bears_its_own_name() {
    for name in PayloadMap::shipped_names() {
        let text = PayloadMap::shipped_text(name).unwrap();
        let map = PayloadMap::parse(text, name).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
        assert_eq!(map.name, name);
        assert_eq!(PayloadMap::shipped(name), Some(map));
    }
    assert_eq!(PayloadMap::shipped("none"), None);
}

#[test]
fn the_least_map_has_plain_defaults() {
    let map = PayloadMap::parse(LEAST, "m.toml").unwrap();
    assert_eq!(&*map.label, "x@1");
    assert_eq!(map.samples, [ValuePath::message()]);
    assert_eq!(map.time.add_micros, 0);
    assert!(!map.keep_raw && !map.by_name && map.conditions.is_empty() && map.commodity.is_none());
    let field = &map.fields[0];
    assert!(!field.optional && !field.text);
    assert_eq!(field.conversion, Conversion::identity(field.channel));
}

#[test]
fn all_problems_come_at_once_with_their_lines() {
    let text = r#"name = "x y"
version = 0
topic = "t/#/{meter}"
format = "cbor"
comodity = "water"
commodity = "electricity"

[meter]
serial = "a..b"

[time]
format = "local"
pattern = "plain"
zone = "Mars/Olympus"
stamp = "start"

[fields.volume_m3]
path = "v"
unit = "kWh"

[fields.voltage_l4_v]
path = "v"

[[events]]
path = "s"
word = "A"
bit = 1
kind = "noise"

[[match]]
path = "m"
"#;
    let found = problems(text);
    let lines: Vec<_> = found.iter().map(|p| p.split(':').nth(1).unwrap().parse::<usize>().unwrap()).collect();
    for line in [1, 2, 3, 4, 5, 9, 11, 13, 14, 17, 19, 21, 25, 28, 30] {
        assert!(lines.contains(&line), "line {line} is not blamed in {found:#?}");
    }
}

#[test]
fn a_map_must_know_who_speaks_and_say_something() {
    let nameless = LEAST.replace("t/{meter}", "t/+");
    assert_eq!(problems(&nameless), ["m.toml:1: `meter.path` is missing: the topic does not name the meter either"]);
    let mute = LEAST.replace("[fields.volume_m3]\npath = \"v\"", "");
    assert_eq!(
        problems(&mute),
        ["m.toml:1: `fields` is missing: without fields, events or `by_name` the map reads nothing"]
    );
    let twice = LEAST.replace("path = \"v\"", "path = \"v\"\npaths = [\"w\"]");
    assert_eq!(
        problems(&twice),
        ["m.toml:13: `fields.volume_m3.paths` stands beside `path`; only one of them can be given"]
    );
}

#[test]
fn the_start_of_an_interval_is_moved_to_its_end() {
    let text = LEAST
        .replace("fields.volume_m3", "fields.volume_delta_m3")
        .replace("format = \"rfc3339\"", "format = \"rfc3339\"\nstamp = \"start\"\ninterval = \"15m\"");
    assert_eq!(PayloadMap::parse(&text, "m.toml").unwrap().time.add_micros, 900_000_000);
    let register = text.replace("volume_delta_m3", "volume_m3");
    assert_eq!(problems(&register).len(), 1);
}
