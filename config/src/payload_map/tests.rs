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

#[test]
fn keys_that_do_not_go_together_are_refused_with_their_lines() {
    for (change, expected) in [
        (
            ("format = \"json\"", "format = \"json\"\n[csv]\ndelimiter = \";\""),
            "m.toml:5: `csv` has a meaning only with",
        ),
        (("format = \"json\"", "format = \"csv\"\n[csv]\nheader = false"), "m.toml:5: `csv.columns` is missing"),
        (("format = \"json\"", "format = \"csv\"\n[csv]\ndecimal = \"comma\""), "m.toml:5: `csv.delimiter` is `,`"),
        (("format = \"json\"", "format = \"csv\"\n[csv]\ndelimiter = \"ab\""), "m.toml:6: `csv.delimiter` is \"ab\""),
        (("format = \"json\"", "format = \"csv\"\n[csv]\ncolumns = [\"a\", \"a\"]"), "names \"a\" twice"),
        (
            ("format = \"json\"", "format = \"protobuf\""),
            "m.toml:10: `fields` has no meaning with `format = \"protobuf\"`",
        ),
        (("format = \"json\"", "format = \"json\"\ncompression = \"lz4\""), "`compression` is \"lz4\"; it is one of"),
        (
            ("format = \"json\"", "format = \"json\"\ncolumns = [\"a\"]\nparallel = true"),
            "`parallel` stands beside `columns`",
        ),
        (("path = \"v\"", "path = \"v\"\nconstant = \"1\""), "`fields.volume_m3.constant` stands beside `path`"),
        (("path = \"v\"", "sum = [\"a\"]\npaths = [\"b\"]"), "stands beside"),
        (("path = \"v\"", "constant = \"1.2345\""), "`fields.volume_m3.constant` is \"1.2345\""),
        (("path = \"v\"", "path = \"v\"\nunits = { a = \"l\" }"), "`fields.volume_m3.units` needs a `unit_path`"),
        (("path = \"v\"", "path = \"v\"\nunit_path = \"u\"\nunits = { a = \"kWh\" }"), "`units` for \"a\" is \"kWh\""),
        (("path = \"v\"", "path = \"v\"\ndecimal = \"comma\""), "add `text = true`"),
        (("path = \"v\"", "path = \"v\"\nwhen = [\"a..b=1\"]"), "`when` is \"a..b\"; a path"),
        (("path = \"v\"", "path = \"v[*]\""), "`[*]` belongs only into `samples`"),
        (
            ("format = \"rfc3339\"", "format = \"rfc3339\"\nepoch = \"2000-01-01T00:00:00Z\""),
            "`time.epoch` has a meaning only",
        ),
        (("format = \"rfc3339\"", "format = \"unix_s\"\nepoch = \"2000\""), "`time.epoch` is \"2000\""),
        (("path = \"ts\"\nformat = \"rfc3339\"", "format = \"arrival\"\nlive = true"), "`time.live` has no meaning"),
        (("[time]", "[meter]\nname = \"{a\"\n[time]"), "`meter.name` is \"{a\""),
        (("[time]", "[meter]\nstrip_prefix = \"x\"\n[time]"), "`meter.strip_prefix` needs a `path`"),
        (("[time]", "[receipt]\nsequence = \"n\"\n[time]"), "`receipt.gateway` is missing"),
        (("[time]", "[[events]]\npath = \"s\"\nwords = { A = \"noise\" }\n[time]"), "`words` for \"A\" is \"noise\""),
        (
            ("[time]", "[[events]]\npath = \"s\"\nbits = { 63 = \"leak\" }\n[time]"),
            "`bits` for \"63\" 0 to 62 is wanted",
        ),
        (
            ("[time]", "[[events]]\npath = \"s\"\nwords = { A = \"leak\" }\nkind = \"leak\"\n[time]"),
            "`events.kind` stands beside",
        ),
        (("[time]", "[[events]]\npath = \"s\"\nkind = \"leak\"\n[time]"), "`events.path` needs exactly one of"),
        (("[time]", "[[ignore]]\npath = \"s\"\n[time]"), "or `exists` is missing"),
    ] {
        let text = LEAST.trim_start().replace(change.0, change.1);
        assert_ne!(text, LEAST.trim_start(), "{expected}");
        let found = problems(&text);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected} in {found:#?}\n{text}");
    }
}
