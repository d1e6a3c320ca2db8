//! What maps can say beyond a path to a value.

use super::*;

/// A map of one topic `t/{meter}` in JSON, but for what `rest` says.
fn json(rest: &str) -> Vec<PayloadMap> {
    super::map(&format!("topic = \"t/{{meter}}\"\n{rest}"))
}

const ARRIVAL: &str = "[time]\nformat = \"arrival\"\n";

/// Rows as the golden files write them, without the marks of arrival and of a meter that nobody knows.
fn rows(maps: &[PayloadMap], topic: &str, payload: &str) -> Vec<String> {
    golden::rows(&decoded(maps, topic, payload))
        .into_iter()
        .map(|row| row.replace(" !collector_time", "").replace(" !unknown_meter", "").replace("-> ", ""))
        .collect()
}

fn one(maps: &[PayloadMap], payload: &str) -> String {
    rows(maps, "t/w1", payload).join("; ")
}

#[test]
fn rows_with_named_columns_and_parallel_lists_are_readings() {
    let time = "[time]\npath = \"time\"\nformat = \"unix_s\"\n[fields.volume_m3]\npath = \"v\"\n";
    let expected = "water w1 2023-11-14T22:13:20Z volume_m3=1.500; water w1 2023-11-14T22:28:20Z volume_m3=1.625";
    let named = json(&format!("samples = [\"series[0].values\"]\ncolumns_path = \"series[0].columns\"\n{time}"));
    let payload = r#"{"series":[{"columns":["time","v"],"values":[[1700000000,1.5],[1700000900,1.625]]}]}"#;
    assert_eq!(one(&named, payload), expected);
    let stated = json(&format!("columns = [\"time\", \"v\"]\n{time}"));
    assert_eq!(one(&stated, "[[1700000000,1.5],[1700000900,1.625]]"), expected);
    assert_eq!(one(&stated, "[1700000000,1.5]"), "water w1 2023-11-14T22:13:20Z volume_m3=1.500");
    let parallel = json(&format!("parallel = true\n{time}"));
    assert_eq!(one(&parallel, r#"{"unit":"m3","time":[1700000000,1700000900],"v":[1.5,1.625]}"#), expected);
    for (maps, payload, detail) in [
        (&stated, "[[1700000000]]", "a row is a list of 1; a list of 2 values is wanted"),
        (&stated, "[[1700000000,1],7]", "a row is the number 7"),
        (&named, r#"{"series":[{"values":[[1,2]]}]}"#, "no list of names stands at `series[0].columns`"),
        (&parallel, r#"{"time":[1,2],"v":[1]}"#, "one has 2 values, one 1"),
        (&parallel, r#"{"time":1,"v":1}"#, "lists that run in parallel are wanted"),
        (&stated, "[]", "a row is a list of 0"),
    ] {
        let found = one(maps, payload);
        assert!(found.starts_with("dead ") && found.contains(detail), "{payload}: {found}");
    }
    let long = format!("[\"{}\"]", "x".repeat(200_000));
    let many = format!("{{\"series\":[{{\"columns\":{long},\"values\":[{}[1]]}}]}}", "[1],".repeat(4_000));
    assert!(one(&named, &many).starts_with("dead "), "a long name is kept once");
}

#[test]
fn values_are_found_by_their_own_names_in_a_list() {
    let maps = json(&format!(
        "{ARRIVAL}[fields.energy_import_kwh]\npath = \"data[obis=1-0:1.8.0].value\"\n\
         unit_path = \"data[obis=1-0:1.8.0].unit\"\nunits = {{ KWT = \"kWh\" }}\n"
    ));
    let list = |value: &str, unit: &str| {
        format!(r#"{{"data":[{{"obis":"0-0:96.1.0","value":"x"}},{{"obis":"1-0:1.8.0","value":{value}{unit}}}]}}"#)
    };
    for (value, unit, expected) in [
        ("12", r#","unit":"kWh""#, "energy_import_kwh=12.000"),
        ("12", r#","unit":"Wh""#, "energy_import_kwh=0.012"),
        ("12", r#","unit":" MWh ""#, "energy_import_kwh=12000.000"),
        ("12", r#","unit":"KWT""#, "energy_import_kwh=12.000"),
        ("12", r#","unit":"m3""#, "the text \"m3\", which `energy_import_kwh` does not take"),
        ("12", "", "the unit `data[obis=1-0:1.8.0].unit` of `energy_import_kwh` is missing"),
    ] {
        let found = rows(&maps, "t/e1", &list(value, unit)).join("; ");
        assert!(found.contains(expected), "{value} {unit}: {found}");
    }
    let twice = r#"{"data":[{"obis":"1-0:1.8.0","value":1},{"obis":"1-0:1.8.0","value":2}]}"#;
    assert!(one(&maps, twice).contains("`obis=1-0:1.8.0` is there twice"));
}

#[test]
fn one_message_of_many_meters_names_each_by_its_parent() {
    let maps = super::map(
        "topic = \"t/{gateway}\"\nsamples = [\"meters[*].readings\", \"meters[*]\"]\n[meter]\npath = \"^.id\"\n\
         [time]\npath = \"ts\"\nformat = \"unix_s\"\n[fields.volume_m3]\npath = \"v\"\n",
    );
    let payload = r#"{"meters":[{"id":"w1","readings":[{"ts":1700000000,"v":1},{"ts":1700000060,"v":2}]},
                                {"id":"w2","readings":{"ts":1700000000,"v":3}},{"id":"w3","readings":null}]}"#;
    assert_eq!(
        rows(&maps, "t/gw", payload),
        [
            "water w1 2023-11-14T22:13:20Z volume_m3=1.000",
            "water w1 2023-11-14T22:14:20Z volume_m3=2.000",
            "water w2 2023-11-14T22:13:20Z volume_m3=3.000"
        ]
    );
    let by_name = r#"{"meters":{"a":{"id":"w1","ts":1700000000,"v":1},"b":{"id":"w2","ts":1700000000,"v":2}}}"#;
    assert_eq!(rows(&maps, "t/gw", by_name).len(), 2);
    let broken = payload.replace("\"v\":3", "\"v\":\"x\"");
    assert!(rows(&maps, "t/gw", &broken)[0].starts_with("dead bad_value reading 3: "));
}

#[test]
fn sums_constants_and_conditions_beside_a_field() {
    let maps = json(&format!(
        "{ARRIVAL}[fields.volume_m3]\nsum = [\"a\", \"b\"]\noptional = true\n\
         [fields.battery_v]\nconstant = \"3.6\"\nwhen = [\"a\"]\n\
         [fields.flow_m3h]\npath = \"flow\"\nwhen = [\"kind=x|y\", \"!off\"]\noptional = true\n"
    ));
    for (payload, expected) in [
        (r#"{"a":0.001,"b":1.5}"#, "volume_m3=1.501 battery_v=3.600"),
        (r#"{"a":1}"#, "battery_v=3.600"),
        (r#"{"kind":"y","flow":2}"#, "flow_m3h=2.000"),
        (r#"{"kind":"z","flow":2}"#, "no value and no event"),
        (r#"{"kind":"x","off":1,"flow":2}"#, "no value and no event"),
        (r#"{"a":999999999999.999,"b":0.001}"#, "the sum at `b` is too large for `volume_m3`"),
    ] {
        assert!(one(&maps, payload).contains(expected), "{payload}: {}", one(&maps, payload));
    }
}

#[test]
fn counts_of_time_begin_where_the_map_says() {
    for (rule, written, ts) in [
        ("format = \"unix_us\"", "1700000000000001", "2023-11-14T22:13:20.000001Z"),
        ("format = \"unix_ns\"", "1700000000000001999", "2023-11-14T22:13:20.000001Z"),
        ("format = \"unix_s\"\nepoch = \"2000-01-01T00:00:00Z\"", "753315200", "2023-11-14T22:13:20Z"),
        ("format = \"unix_ms\"\nepoch = \"2000-01-01T00:00:00Z\"", "\"753315200500\"", "2023-11-14T22:13:20.5Z"),
    ] {
        let maps = json(&format!("[time]\npath = \"t\"\n{rule}\n[fields.volume_m3]\npath = \"v\"\n"));
        assert_eq!(
            one(&maps, &format!("{{\"t\":{written},\"v\":1}}")),
            format!("water w1 {ts} volume_m3=1.000"),
            "{rule}"
        );
    }
    let maps = json("[time]\npath = \"t\"\nformat = \"unix_ns\"\n[fields.volume_m3]\npath = \"v\"\n");
    for written in ["true", "\"x\"", "1e30", "{}"] {
        assert!(
            one(&maps, &format!("{{\"t\":{written},\"v\":1}}")).contains("the nanoseconds since 1970"),
            "{written}"
        );
    }
}

#[test]
fn a_date_and_a_time_of_day_are_joined() {
    let maps = json(
        "[time]\npaths = [\"d\", \"h\"]\njoined = true\nformat = \"local\"\npattern = \"%Y%m%d %H%M\"\n\
         zone = \"registry\"\n[fields.volume_m3]\npath = \"v\"\n",
    );
    assert_eq!(one(&maps, r#"{"d":20160701,"h":"1200","v":1}"#), "water w1 2016-07-01T10:00:00Z volume_m3=1.000");
    assert!(one(&maps, r#"{"d":20160701,"v":1}"#).contains("the time `d` and `h` is missing"));
    assert!(one(&maps, r#"{"d":[1],"h":"1200","v":1}"#).starts_with("dead bad_time"));
}

#[test]
fn where_no_time_stands_that_of_arrival_can_be_taken_but_never_for_a_retained_message() {
    let maps = json(
        "[time]\npath = \"t\"\nformat = \"unix_s\"\nor_arrival = true\n[fields.volume_m3]\npath = \"v\"\noptional = true\n[[events]]\npath = \"e\"\nflag = true\nkind = \"leak\"\n",
    );
    let read = |payload: &str, retained: bool| {
        let mut out = ReadingBatch::default();
        let outcome = Decoder::default().decode(&maps, &message("t/w1", payload), retained, &directory(), &mut out);
        (out.reading_count() + out.events.len(), out.dead_letters.len(), outcome.ignored)
    };
    assert_eq!(one(&maps, r#"{"v":1}"#), format!("water w1 {RECEIVED} volume_m3=1.000"));
    assert_eq!(read(r#"{"v":1,"e":true}"#, false), (2, 0, false));
    assert_eq!(read(r#"{"v":1,"e":true}"#, true), (0, 0, true));
    assert_eq!(read(r#"{"e":true}"#, true), (0, 0, true));
    assert_eq!(read(r#"{"t":1700000000,"v":1}"#, true), (1, 0, false));
}

#[test]
fn a_live_sender_that_is_late_has_a_wrong_clock() {
    let suspect = |live: &str, ts: &str| {
        let maps =
            json(&format!("[time]\npath = \"t\"\nformat = \"rfc3339\"\n{live}[fields.volume_m3]\npath = \"v\"\n"));
        let batch = decoded(&maps, "t/w1", &format!("{{\"t\":\"{ts}\",\"v\":1}}"));
        batch.water.headers()[0].flags.contains(ReadingFlags::CLOCK_SUSPECT)
    };
    for (live, ts, expected) in [
        ("", "2026-11-01T00:00:00Z", false),
        ("live = true\n", "2026-11-21T11:57:00Z", false),
        ("live = true\n", "2026-11-21T11:56:59Z", true),
        ("live = true\n", "2026-11-21T12:03:00Z", false),
        ("live = true\n", "2026-11-21T12:03:01Z", true),
    ] {
        assert_eq!(suspect(live, ts), expected, "{live}{ts}");
    }
}

#[test]
fn parts_of_the_topic_are_names_values_and_conditions() {
    let maps = super::map(&format!(
        "topic = \"s/{{site}}/{{kind}}/{{no}}\"\n[[match]]\npath = \"{{kind}}\"\nany = [\"water\"]\n\
         [meter]\nname = \"{{site}}-{{no}}\"\n{ARRIVAL}[fields.volume_m3]\npath = \"v\"\n"
    ));
    assert_eq!(rows(&maps, "s/north/water/7", r#"{"v":1}"#), [format!("water north-7 {RECEIVED} volume_m3=1.000")]);
    assert!(rows(&maps, "s/north/gas/7", r#"{"v":1}"#)[0].starts_with("dead no_map"));
    let unnamed = PayloadMap::parse(
        "name = \"x\"\nversion = 1\nformat = \"json\"\ntopic = \"t/{a}\"\n[meter]\npath = \"{b}\"\nname = \"{c}\"\n\
         [time]\nformat = \"arrival\"\n[fields.volume_m3]\npath = \"v\"\n",
        "x",
    );
    let problems: Vec<_> = unnamed.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "x:4: `topic` has no level {b}, which a path of the map names",
            "x:4: `topic` has no level {c}, which a path of the map names"
        ]
    );
}

#[test]
fn gateways_of_topic_payload_and_registry_must_agree() {
    let entry = |gateway: Option<&str>| MeterEntry {
        gateway: gateway.map(Into::into),
        ..MeterEntry::new(Commodity::Water, Zone::utc())
    };
    let directory = MeterDirectory::new([
        (MeterId::new("behind").unwrap(), entry(Some("gw-1"))),
        (MeterId::new("free").unwrap(), entry(None)),
    ]);
    let maps = super::map(&format!(
        "topic = \"g/{{gateway}}/{{meter}}\"\n[meter]\ngateway = \"gw\"\n[receipt]\ngateway = \"{{gateway}}\"\n\
         sequence = \"$.n\"\n{ARRIVAL}[fields.volume_m3]\npath = \"v\"\n"
    ));
    let read = |topic: &str, payload: &str| {
        let mut out = ReadingBatch::default();
        let outcome = Decoder::default().decode(&maps, &message(topic, payload), false, &directory, &mut out);
        (out.dead_letters.first().map(|dead| (dead.reason, dead.detail.clone())), outcome.receipt)
    };
    let identity = |detail: &str| Some((DeadReason::Identity, detail.to_owned()));
    for (topic, payload, expected) in [
        ("g/gw-1/behind", r#"{"v":1}"#, None),
        ("g/gw-1/behind", r#"{"v":1,"gw":"gw-1"}"#, None),
        ("g/gw-2/free", r#"{"v":1}"#, None),
        (
            "g/gw-2/behind",
            r#"{"v":1}"#,
            identity("the message came by gateway `gw-2`, the registry knows meter `behind` behind `gw-1`"),
        ),
        (
            "g/gw-1/behind",
            r#"{"v":1,"gw":"gw-2"}"#,
            identity("the topic speaks of gateway `gw-1`, the payload of `gw-2`"),
        ),
    ] {
        assert_eq!(read(topic, payload).0, expected, "{topic} {payload}");
    }
    let receipt = |n| Some(Receipt { gateway: "gw-1".into(), sequence: n });
    for (payload, expected) in [
        (r#"{"v":1,"n":41}"#, receipt(41)),
        (r#"{"v":1,"n":"42"}"#, receipt(42)),
        (r#"{"v":1}"#, None),
        (r#"{"v":1,"n":-1}"#, None),
        // What cannot be read is durable as a dead letter.
        (r#"{"v":"x","n":43}"#, receipt(43)),
    ] {
        assert_eq!(read("g/gw-1/behind", payload).1, expected, "{payload}");
    }
}

#[test]
fn tables_of_words_values_and_bits_become_events() {
    let maps = json(&format!(
        "{ARRIVAL}[[events]]\npath = \"s\"\nwords = {{ LEAK = \"leak\", DRY = \"dry\" }}\n\
         [[events]]\npath = \"code\"\nvalues = {{ 3 = \"tamper\", door = \"cover_open\" }}\n\
         [[events]]\npath = \"bits\"\nbits = {{ 0 = \"last_gasp\", 4 = \"restoration\" }}\n\
         [[events]]\npath = \"battery\"\nbelow = \"2.5\"\nkind = \"low_battery\"\n\
         [[events]]\npath = \"flow\"\nabove = \"10\"\nkind = \"burst\"\nwhen = [\"{{meter}}=w1\"]\n"
    ));
    for (payload, expected) in [
        (r#"{"s":"OK,LEAK|DRY"}"#, "leak, dry"),
        (r#"{"s":"LEAKING;DRY"}"#, "dry"),
        (r#"{"code":3}"#, "tamper"),
        (r#"{"code":"door"}"#, "cover_open"),
        (r#"{"bits":17}"#, "last_gasp, restoration"),
        (r#"{"bits":"0x10"}"#, "restoration"),
        (r#"{"bits":"16"}"#, "restoration"),
        (r#"{"battery":2.49999}"#, "low_battery"),
        (r#"{"battery":2.5,"flow":"10.01"}"#, "burst"),
    ] {
        let batch = decoded(&maps, "t/w1", payload);
        let kinds: Vec<_> = batch.events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds.join(", "), expected, "{payload}: {:?}", batch.dead_letters);
    }
    for payload in [r#"{"bits":"0xZZ"}"#, r#"{"battery":true}"#, r#"{"s":1}"#, r#"{"bits":1.5}"#] {
        assert_eq!(decoded(&maps, "t/w1", payload).dead_letters[0].reason, DeadReason::BadValue, "{payload}");
    }
}

#[test]
fn what_a_meter_says_of_its_own_reading_marks_it() {
    let maps = json(&format!(
        "{ARRIVAL}[fields.volume_m3]\npath = \"v\"\n[event_list]\npath = \"events\"\n\
         [[events]]\npath = \"code\"\nbits = {{ 0 = \"test_mode\", 1 = \"memory_fault\", 2 = \"leak\" }}\n\
         [[events]]\npath = \"s\"\nwords = {{ CLOCK = \"clock_invalid\", FULL = \"overflow\" }}\n"
    ));
    for (payload, marks, events) in [
        (r#"{"v":1,"code":0,"s":"OK"}"#, "", 0),
        (r#"{"v":1,"code":1}"#, " !test_mode", 0),
        (r#"{"v":1,"code":6}"#, " !memory_fault", 1),
        (r#"{"v":1,"code":1,"s":"FULL CLOCK"}"#, " !overflow !test_mode !clock_invalid", 0),
        (r#"{"v":1,"events":["overflow","tamper"]}"#, " !overflow", 1),
    ] {
        let batch = decoded(&maps, "t/w1", payload);
        assert_eq!((batch.reading_count(), batch.events.len()), (1, events), "{payload}: {:?}", batch.dead_letters);
        let row = &rows(&maps, "t/w1", payload)[0];
        let found = row.split_once("volume_m3=1.000").unwrap().1;
        assert_eq!(found, marks, "{payload}: {row}");
    }
    // What the collector itself remarks is none of a meter's to say.
    for payload in [r#"{"v":1,"events":["conflict"]}"#, r#"{"v":1,"events":["re_decoded"]}"#] {
        assert_eq!(decoded(&maps, "t/w1", payload).dead_letters[0].reason, DeadReason::BadValue, "{payload}");
    }
}

#[test]
fn what_the_map_knows_to_say_nothing_leaves_nothing() {
    let maps =
        json(&format!("{ARRIVAL}[[ignore]]\npath = \"type\"\nany = [\"ping\"]\n[fields.volume_m3]\npath = \"v\"\n"));
    let quiet = json(&format!("may_be_empty = true\n{ARRIVAL}[fields.volume_m3]\npath = \"v\"\n"));
    for (maps, payload, expected) in [
        (&maps, r#"{"type":"ping","v":1}"#, (0, 0, true)),
        (&maps, r#"{"type":"pong"}"#, (0, 1, false)),
        (&maps, r#"{"v":1}"#, (1, 0, false)),
        (&quiet, r#"{"type":"ping"}"#, (0, 0, true)),
        (&quiet, r#"{"v":1}"#, (1, 0, false)),
        (&quiet, r#"[{"v":1},{"x":1}]"#, (1, 0, false)),
        (&quiet, r#"{"v":"x"}"#, (0, 1, false)),
        (&quiet, "7", (0, 1, false)),
    ] {
        let mut out = ReadingBatch::default();
        let outcome = Decoder::default().decode(maps, &message("t/w1", payload), false, &directory(), &mut out);
        assert_eq!((out.reading_count(), out.dead_letters.len(), outcome.ignored), expected, "{payload}");
    }
}

#[test]
fn two_formats_can_share_a_topic() {
    let text = PayloadMap::parse(
        "name = \"bare\"\nversion = 1\ntopic = \"t/{meter}\"\nformat = \"text\"\n[time]\nformat = \"arrival\"\n\
         [fields.volume_m3]\npath = \"value\"\n",
        "bare",
    )
    .unwrap();
    let mut maps = json(&format!("{ARRIVAL}[fields.volume_m3]\npath = \"v\"\n"));
    maps[0].conditions.push(meterlake_config::payload_map::Condition {
        paths: vec![meterlake_config::payload_map::ValuePath::parse("v").unwrap()],
        test: meterlake_config::payload_map::ConditionTest::Exists(true),
    });
    maps.push(text);
    assert!(one(&maps, r#"{"v":1}"#).ends_with("volume_m3=1.000"));
    assert!(one(&maps, " 2.5 ").ends_with("volume_m3=2.500"));
    assert!(one(&maps, "+3").ends_with("volume_m3=3.000"));
    assert!(one(&maps, "").starts_with("dead "));
}

#[test]
fn packed_payloads_are_read_as_they_were() {
    use std::io::Write;
    let maps = json(&format!("compression = \"auto\"\nkeep_raw = true\n{ARRIVAL}[fields.volume_m3]\npath = \"v\"\n"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(br#"{"v":1.5}"#).unwrap();
    let packed = encoder.finish().unwrap();
    let mut sent = message("t/w1", "");
    sent.payload.clone_from(&packed);
    let mut out = ReadingBatch::default();
    decode(&maps, &sent, false, &directory(), &mut out);
    assert_eq!(value(&out, 0, "volume_m3"), Some(1_500));
    assert_eq!(out.raw[0].payload, packed, "kept as it came");
    let plain = decoded(&maps, "t/w1", r#"{"v":1.5}"#);
    assert_eq!(value(&plain, 0, "volume_m3"), Some(1_500));
}

/// Golden messages of every shipped map, for other tests to mutilate.
fn recorded() -> Vec<(PayloadMap, RawMessage, MeterDirectory)> {
    golden::shipped()
        .flat_map(|(name, text)| {
            let golden = golden::Golden::parse(text, name).unwrap();
            let directory = golden.directory;
            let messages = golden.cases.into_iter().flat_map(|case| case.messages);
            messages
                .map(|recorded| (PayloadMap::shipped(name).unwrap(), recorded.message, directory.clone()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Whole readings, one dead letter, or nothing that was meant so.
fn holds(map: &PayloadMap, message: &RawMessage, directory: &MeterDirectory) -> Result<(), TestCaseError> {
    let mut out = ReadingBatch::default();
    let maps = std::slice::from_ref(map);
    let outcome = Decoder::default().decode(maps, message, false, directory, &mut out);
    let taken = out.reading_count() + out.events.len();
    let ways = [taken > 0, out.dead_letters.len() == 1, outcome.ignored].into_iter().filter(|way| *way).count();
    prop_assert_eq!(ways, 1, "{}: {:?}", map.name, message);
    if let Some(dead) = out.dead_letters.first() {
        prop_assert_eq!(&dead.message, message);
    }
    Ok(())
}

proptest! {
    #[test]
    fn golden_messages_of_every_map_mutilated_are_whole_or_one_dead_letter(
        which in any::<prop::sample::Index>(), places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>())
    ) {
        let recorded = recorded();
        let (map, mut message, directory) = recorded[which.index(recorded.len())].clone();
        for (place, byte) in places {
            if !message.payload.is_empty() {
                let at = place.index(message.payload.len());
                message.payload[at] = byte;
            }
        }
        if let Some(cut) = cut {
            message.payload.truncate(cut.index(message.payload.len() + 1));
        }
        holds(&map, &message, &directory)?;
    }

    #[test]
    fn no_bytes_make_any_map_panic(which in any::<prop::sample::Index>(), payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let recorded = recorded();
        let (map, message, directory) = recorded[which.index(recorded.len())].clone();
        holds(&map, &RawMessage { payload, ..message }, &directory)?;
    }
}
