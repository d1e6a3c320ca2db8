mod bench;
mod maps;

use super::*;
use meterlake_model::{
    Channel, Commodity, EventKind, InstalledMultiplier, MeterEntry, MeterId, ReadingFlags, Timestamp, Zone,
};
use proptest::prelude::*;

const RECEIVED: &str = "2026-11-21T12:00:00Z";

fn directory() -> MeterDirectory {
    let entry = |commodity, serial: Option<&str>| MeterEntry {
        serial: serial.map(Into::into),
        ..MeterEntry::new(commodity, Zone::parse("Europe/Madrid").unwrap())
    };
    MeterDirectory::new([
        (MeterId::new("e1").unwrap(), entry(Commodity::Electricity, None)),
        (MeterId::new("w1").unwrap(), entry(Commodity::Water, Some("S-1"))),
    ])
}

fn message(topic: &str, payload: &str) -> RawMessage {
    RawMessage {
        source: "test".into(),
        topic: topic.into(),
        payload: payload.as_bytes().to_vec(),
        received_at_s: Timestamp::parse_rfc3339(RECEIVED).unwrap().unix_seconds(),
    }
}

fn shipped(name: &str) -> Vec<PayloadMap> {
    vec![PayloadMap::shipped(name).unwrap()]
}

fn decoded(maps: &[PayloadMap], topic: &str, payload: &str) -> ReadingBatch {
    let mut out = ReadingBatch::default();
    decode(maps, &message(topic, payload), false, &directory(), &mut out);
    out
}

fn own(payload: &str) -> ReadingBatch {
    decoded(&shipped("meterlake-json"), "meterlake/v1/e1/readings", payload)
}

fn value(batch: &ReadingBatch, row: usize, channel: &str) -> Option<i64> {
    let channel = Channel::by_name(channel).unwrap();
    batch.rows(channel.commodity()).value(row, channel)
}

#[test]
fn rule_4_one_bad_row_keeps_a_whole_frame_out() {
    let good = r#"{"ts":"2026-11-21T10:00:00Z","energy_import_kwh":1}"#;
    let bad = r#"{"ts":"2026-11-21T10:15:00Z","energy_import_kwh":1.2345}"#;
    let batch = own(&format!("{{\"readings\":[{good},{bad},{good}]}}"));
    assert_eq!(batch.reading_count(), 0);
    assert_eq!(batch.dead_letters.len(), 1);
    let dead = &batch.dead_letters[0];
    assert_eq!(dead.reason, DeadReason::Overflow);
    assert_eq!(
        dead.detail,
        "reading 2: `energy_import_kwh` is the number 1.2345, which has more decimals than the 3 of `energy_import_kwh`"
    );
    assert_eq!(&*dead.decoder, "meterlake-json@1");
    assert_eq!(own(&format!("{{\"readings\":[{good},{good}]}}")).reading_count(), 2);
}

#[test]
fn each_fault_has_its_reason_and_names_field_and_value() {
    let at = |rest: &str| format!("{{\"ts\":\"2026-11-21T10:00:00Z\",{rest}}}");
    for (payload, reason, detail) in [
        ("{".to_owned(), DeadReason::Syntax, "byte 1"),
        ("[]".to_owned(), DeadReason::MissingField, "empty"),
        ("7".to_owned(), DeadReason::BadValue, "the number 7; an object"),
        ("null".to_owned(), DeadReason::MissingField, "`readings` or `$`"),
        ("{\"energy_import_kwh\":1}".to_owned(), DeadReason::BadTime, "`ts` is missing"),
        ("{\"ts\":5,\"energy_import_kwh\":1}".to_owned(), DeadReason::BadTime, "the number 5"),
        ("{\"ts\":\"2026-11-21T10:00:00\",\"energy_import_kwh\":1}".to_owned(), DeadReason::BadTime, "with an offset"),
        (
            "{\"ts\":\"1999-12-31T23:59:59Z\",\"energy_import_kwh\":1}".to_owned(),
            DeadReason::ImplausibleTime,
            "before 2000",
        ),
        (
            "{\"ts\":\"2026-11-22T12:00:01Z\",\"energy_import_kwh\":1}".to_owned(),
            DeadReason::ImplausibleTime,
            "a day ahead",
        ),
        (at("\"rssi\":1"), DeadReason::MissingField, "no value and no event"),
        (at("\"energy_import_kwh\":null"), DeadReason::MissingField, "no value and no event"),
        (at("\"energy_import_kwh\":\"1\""), DeadReason::BadValue, "`energy_import_kwh` is the text \"1\"; a number"),
        (
            at("\"energy_import_kwh\":1,\"energy_import_kwh\":2"),
            DeadReason::BadValue,
            "`energy_import_kwh` is there twice",
        ),
        (at("\"energy_import_kwh\":1e12"), DeadReason::Overflow, "too large for `energy_import_kwh`"),
        (at("\"energy_import_kwh\":1,\"volume_m3\":1"), DeadReason::BadValue, "two commodities"),
        (at("\"volume_m3\":1"), DeadReason::Identity, "the message speaks of water"),
        (
            at("\"energy_import_kwh\":1,\"meter\":\"e2\""),
            DeadReason::Identity,
            "topic speaks of meter `e1`, the payload of `e2`",
        ),
        (at("\"events\":[\"party\"]"), DeadReason::BadValue, "the text \"party\""),
        (format!("{}1{}", "[".repeat(17), "]".repeat(17)), DeadReason::TooLarge, "16 levels"),
        (format!("[{}1]", "1,".repeat(10_000)), DeadReason::TooLarge, "10000 values"),
        (" ".repeat(MAX_PAYLOAD_BYTES + 1), DeadReason::TooLarge, "262145 bytes"),
    ] {
        let shown = document::shortened(&payload).into_owned();
        let batch = own(&payload);
        assert_eq!((batch.reading_count(), batch.dead_letters.len()), (0, 1), "{shown}");
        let dead = &batch.dead_letters[0];
        assert_eq!(dead.reason, reason, "{shown}: {}", dead.detail);
        assert!(dead.detail.contains(detail), "{shown}: {}", dead.detail);
        assert_eq!(dead.message.payload, payload.as_bytes(), "the input is kept whole");
    }
    let nowhere = decoded(&shipped("meterlake-json"), "other/topic", "{}");
    assert_eq!(nowhere.dead_letters[0].reason, DeadReason::NoMap);
    let long = format!("meterlake/v1/{}/readings", "x".repeat(65));
    let batch = decoded(&shipped("meterlake-json"), &long, &at("\"volume_m3\":1"));
    assert_eq!(batch.dead_letters[0].reason, DeadReason::BadMeterId);
}

#[test]
fn exponents_read_and_physical_values_round() {
    let batch =
        own(r#"{"ts":"2026-11-21T10:00:00Z","energy_import_kwh":4e+05,"voltage_l1_v":230.25,"power_kw":-0.0005}"#);
    assert_eq!(value(&batch, 0, "energy_import_kwh"), Some(400_000_000));
    assert_eq!(value(&batch, 0, "voltage_l1_v"), Some(2302));
    assert_eq!(value(&batch, 0, "power_kw"), Some(0));
}

#[test]
fn flags_say_what_is_known_beside_the_values() {
    let flags = |topic: &str, ts: &str, retained: bool| {
        let payload = format!("{{\"ts\":\"{ts}\",\"volume_m3\":1}}");
        let mut out = ReadingBatch::default();
        decode(&shipped("meterlake-json"), &message(topic, &payload), retained, &directory(), &mut out);
        out.water.headers()[0].flags
    };
    let known = "meterlake/v1/w1/readings";
    let unknown = "meterlake/v1/stranger/readings";
    assert_eq!(flags(known, "2026-11-21T12:05:00Z", false), ReadingFlags::NONE);
    assert_eq!(flags(known, "2026-11-21T12:05:01Z", false), ReadingFlags::CLOCK_SUSPECT);
    assert_eq!(flags(known, "2026-11-22T12:00:00Z", true), ReadingFlags::CLOCK_SUSPECT.with(ReadingFlags::RETAINED));
    assert_eq!(flags(unknown, "2026-11-21T12:00:00Z", false), ReadingFlags::UNKNOWN_METER);
}

#[test]
fn local_time_takes_the_meters_zone() {
    let maps = shipped("litres-local-json");
    let read = |meter: &str, local: &str| {
        decoded(&maps, &format!("litres/{meter}/reading"), &format!("{{\"datetime\":\"{local}\",\"litres\":207774}}"))
    };
    for (local, ts, flags) in [
        ("01/07/2016 12:00:00", "2016-07-01T10:00:00Z", ReadingFlags::NONE),
        ("30/10/2016 02:15:00", "2016-10-30T00:15:00Z", ReadingFlags::AMBIGUOUS_LOCAL_TIME),
        ("27/03/2016 02:15:00", "2016-03-27T01:15:00Z", ReadingFlags::CLOCK_SUSPECT),
    ] {
        let batch = read("w1", local);
        let header = &batch.water.headers()[0];
        assert_eq!((header.ts, header.flags), (Timestamp::parse_rfc3339(ts).unwrap(), flags), "{local}");
        assert_eq!(value(&batch, 0, "volume_m3"), Some(207_774));
    }
    let stranger = read("w2", "01/07/2016 12:00:00");
    assert_eq!(stranger.dead_letters[0].reason, DeadReason::BadTime);
    assert!(stranger.dead_letters[0].detail.contains("does not know the zone of meter `w2`"));
    assert_eq!(read("w1", "07/13/2016 12:00:00").dead_letters[0].reason, DeadReason::BadTime);
}

fn map(rest: &str) -> Vec<PayloadMap> {
    let text = format!("name = \"x\"\nversion = 1\nformat = \"json\"\n{rest}");
    vec![PayloadMap::parse(&text, "x").unwrap_or_else(|problems| panic!("{problems:#?}"))]
}

#[test]
fn times_read_as_the_map_says() {
    for (rule, written, ts) in [
        ("path = \"t\"\nformat = \"unix_s\"", "1700000000", "2023-11-14T22:13:20Z"),
        ("path = \"t\"\nformat = \"unix_s\"", "\"1700000000.25\"", "2023-11-14T22:13:20.25Z"),
        ("path = \"t\"\nformat = \"unix_ms\"", "1.700000000001e12", "2023-11-14T22:13:20.001Z"),
        ("path = \"t\"\nformat = \"rfc3339\"", "\"2023-11-14T23:13:20+01:00\"", "2023-11-14T22:13:20Z"),
        (
            "path = \"t\"\nformat = \"local\"\npattern = \"%Y%m%d%H%M\"\nzone = \"Asia/Shanghai\"",
            "\"202311150613\"",
            "2023-11-14T22:13:00Z",
        ),
        (
            "path = \"t\"\nformat = \"unix_s\"\nstamp = \"start\"\ninterval = \"15m\"",
            "1700000000",
            "2023-11-14T22:28:20Z",
        ),
        ("format = \"arrival\"", "0", RECEIVED),
    ] {
        let maps = map(&format!("topic = \"t/{{meter}}\"\n[time]\n{rule}\n[fields.volume_delta_m3]\npath = \"v\""));
        let batch = decoded(&maps, "t/w1", &format!("{{\"t\":{written},\"v\":0.0125}}"));
        let header = batch.water.headers().first().unwrap_or_else(|| panic!("{rule}: {:?}", batch.dead_letters));
        assert_eq!(header.ts, Timestamp::parse_rfc3339(ts).unwrap(), "{rule}");
        assert_eq!(header.flags.contains(ReadingFlags::COLLECTOR_TIME), rule.contains("arrival"));
        assert_eq!(value(&batch, 0, "volume_delta_m3"), Some(12_500));
    }
}

#[test]
fn topic_payload_and_registry_must_agree() {
    let maps = map(concat!(
        "topic = \"t/{meter}\"\n[meter]\npath = \"id\"\ntopic_may_be = [\"name\"]\nserial = \"sn\"\n",
        "[time]\nformat = \"arrival\"\n[fields.volume_m3]\npath = \"v\"\n"
    ));
    for (topic, payload, reason) in [
        ("t/w1", r#"{"id":"w1","v":1}"#, None),
        ("t/kitchen", r#"{"id":"w1","name":"kitchen","v":1}"#, None),
        ("t/kitchen", r#"{"id":"w1","name":"cellar","v":1}"#, Some(DeadReason::Identity)),
        ("t/w1", r#"{"v":1}"#, Some(DeadReason::MissingField)),
        ("t/w1", r#"{"id":"w1","sn":"S-1","v":1}"#, None),
        ("t/w1", r#"{"id":"w1","sn":"S-2","v":1}"#, Some(DeadReason::Identity)),
        ("t/e1", r#"{"id":"e1","v":1}"#, Some(DeadReason::Identity)),
        ("t/77", r#"{"id":77,"v":1}"#, None),
        ("t/77", r#"{"id":7.7e1,"v":1}"#, Some(DeadReason::BadMeterId)),
    ] {
        let batch = decoded(&maps, topic, payload);
        assert_eq!(batch.dead_letters.first().map(|dead| dead.reason), reason, "{topic} {payload}");
    }
}

#[test]
fn status_fields_become_events() {
    let maps = map(concat!(
        "topic = \"t/{meter}\"\n[time]\nformat = \"arrival\"\n",
        "[[events]]\npath = \"s\"\nword = \"LEAK\"\nkind = \"leak\"\n",
        "[[events]]\npath = \"code\"\nbit = 3\nkind = \"tamper\"\n",
        "[[events]]\npath = \"lid\"\nflag = true\nkind = \"cover_open\"\n",
        "[[events]]\npath = \"b\"\nequals = \"low\"\nkind = \"low_battery\"\n",
    ));
    let batch = decoded(&maps, "t/w1", r#"{"s":"DRY LEAK","code":8,"lid":true,"b":"low"}"#);
    let kinds: Vec<_> = batch.events.iter().map(|event| (event.kind, &*event.detail)).collect();
    assert_eq!(
        kinds,
        [
            (EventKind::Leak, "DRY LEAK"),
            (EventKind::Tamper, "8"),
            (EventKind::CoverOpen, "true"),
            (EventKind::LowBattery, "low")
        ]
    );
    assert_eq!(batch.reading_count(), 0);
    let quiet = decoded(&maps, "t/w1", r#"{"s":"LEAKAGE","code":7,"lid":0,"b":"ok"}"#);
    assert_eq!(quiet.dead_letters[0].reason, DeadReason::MissingField);
    assert_eq!(decoded(&maps, "t/w1", r#"{"code":"x"}"#).dead_letters[0].reason, DeadReason::BadValue);
}

#[test]
fn the_first_map_whose_conditions_hold_reads_the_message() {
    let mut maps = shipped("tasmota");
    maps.extend(map("topic = \"tele/{meter}/#\"\nkeep_raw = true\n[time]\nformat = \"arrival\"\n[fields.temperature_c]\npath = \"AM2301.Temperature\"\n"));
    let water = decoded(&maps, "tele/w1/SENSOR", r#"{"Time":"2026-11-21T12:00:00","AM2301":{"Temperature":7.25}}"#);
    assert_eq!(value(&water, 0, "temperature_c"), Some(72));
    assert_eq!(water.raw.len(), 1);
    let neither = decoded(&maps[..1], "tele/w1/SENSOR", "{}");
    assert_eq!(neither.dead_letters[0].reason, DeadReason::NoMap);
    assert!(neither.dead_letters[0].detail.contains("tasmota@1"), "{}", neither.dead_letters[0].detail);
}

#[test]
fn numbers_in_text_read_only_where_the_map_says_so() {
    let maps =
        map("topic = \"t/{meter}\"\n[time]\nformat = \"arrival\"\n[fields.volume_m3]\npath = \"v\"\ntext = true\n");
    assert_eq!(value(&decoded(&maps, "t/w1", r#"{"v":" 1.5 "}"#), 0, "volume_m3"), Some(1500));
    assert_eq!(decoded(&maps, "t/w1", r#"{"v":"1,5"}"#).dead_letters[0].reason, DeadReason::BadValue);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_each_message_leaves_something(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        for name in PayloadMap::shipped_names() {
            let mut message = message("meterlake/v1/e1/readings", "");
            message.payload.clone_from(&payload);
            let mut out = ReadingBatch::default();
            decode(&shipped(name), &message, false, &directory(), &mut out);
            prop_assert!(!out.is_empty());
        }
    }

    /// Mutilated messages of each shipped map: cut, or a byte changed.
    #[test]
    fn mutilated_messages_are_whole_readings_or_one_dead_letter(
        which in 0_usize..4, cut in 0_usize..400, place in 0_usize..400, byte in any::<u8>(), change in any::<bool>()
    ) {
        let (name, topic, text) = [
            ("meterlake-json", "meterlake/v1/e1/readings",
             r#"{"meter":"e1","readings":[{"ts":"2026-11-21T10:00:00Z","energy_import_kwh":12.5},{"ts":"2026-11-21T10:15:00Z","energy_import_kwh":13e0,"events":["tamper"]}]}"#),
            ("wmbusmeters", "wmbusmeters/w1", r#"{"media":"water","id":"w1","total_m3":6.408,"status":"DRY LEAK","timestamp":"2026-11-21T10:00:00Z"}"#),
            ("tasmota", "tele/e1/SENSOR", r#"{"Time":"2026-11-21T12:00:00","ENERGY":{"Total":3.185,"Power":[1,2,3],"Voltage":230,"Factor":0.95}}"#),
            ("litres-local-json", "litres/w1/reading", r#"{"datetime":"30/10/2016 02:15:00","litres":4e+05}"#),
        ][which];
        let mut payload = text.as_bytes().to_vec();
        if change {
            let at = place % payload.len();
            payload[at] = byte;
        } else {
            payload.truncate(cut);
        }
        let mut message = message(topic, "");
        message.payload = payload;
        let mut out = ReadingBatch::default();
        decode(&shipped(name), &message, false, &directory(), &mut out);
        prop_assert!(out.dead_letters.len() <= 1);
        prop_assert_eq!(out.dead_letters.is_empty(), out.reading_count() > 0 || !out.events.is_empty());
        if let Some(dead) = out.dead_letters.first() {
            prop_assert_eq!(out.reading_count(), 0);
            prop_assert!(!dead.detail.is_empty());
        }
    }
}

/// A meter whose transformers had a ratio of 40 until March and have 20 since.
fn with_multipliers() -> MeterDirectory {
    let march = Timestamp::parse_rfc3339("2026-03-01T00:00:00Z").unwrap();
    let of = |from, to, micros| InstalledMultiplier { from, to, micros };
    let entry = MeterEntry {
        multipliers: [of(None, Some(march), 40_000_000), of(Some(march), None, 20_000_000)].into(),
        ..MeterEntry::new(Commodity::Electricity, Zone::utc())
    };
    let unknown = MeterEntry::new(Commodity::Electricity, Zone::utc());
    MeterDirectory::new([(MeterId::new("e1").unwrap(), entry), (MeterId::new("e2").unwrap(), unknown)])
}

const WITH_RATIO: &str = "name = 'own'\nversion = 1\ntopic = 'own/{meter}'\nformat = 'json'\n[meter]\nmultiplier = 'ct'\n\
                          [time]\npath = 'ts'\nformat = 'rfc3339'\n[fields.energy_import_kwh]\npath = 'kwh'\n";

#[test]
fn g06_a_multiplier_that_is_not_the_installation_s_is_set_aside_and_can_be_read_again() {
    let maps = [PayloadMap::parse(WITH_RATIO, "own.toml").unwrap()];
    let decoded = |meter: &str, ts: &str, ct: &str, directory: &MeterDirectory| {
        let payload = format!("{{\"ts\":\"{ts}\",\"ct\":{ct},\"kwh\":1}}");
        let mut out = ReadingBatch::default();
        decode(&maps, &message(&format!("own/{meter}"), &payload), false, directory, &mut out);
        out
    };
    let (before, since) = ("2026-02-01T00:00:00Z", "2026-04-01T00:00:00Z");
    for (meter, ts, ct, refused) in [
        ("e1", since, "20", None),
        ("e1", since, "\"20.0\"", None),
        ("e1", since, "null", None),
        ("e1", before, "40", None),
        ("e2", since, "40", None),
        ("e9", since, "40", None),
        ("e1", since, "40", Some(DeadReason::Multiplier)),
        ("e1", before, "20", Some(DeadReason::Multiplier)),
        ("e1", since, "[20]", Some(DeadReason::BadValue)),
        ("e1", since, "\"x\"", Some(DeadReason::BadValue)),
    ] {
        let batch = decoded(meter, ts, ct, &with_multipliers());
        assert_eq!(batch.dead_letters.first().map(|dead| dead.reason), refused, "{meter} {ts} {ct}");
        assert_eq!(batch.reading_count(), usize::from(refused.is_none()), "{meter} {ts} {ct}");
    }
    let refused = decoded("e1", since, "40", &with_multipliers());
    let dead = &refused.dead_letters[0];
    assert_eq!(dead.detail, "the message states multiplier 40, the registry has 20 for meter `e1`");
    // The registry is mended: the letter is whole, and becomes the reading that it was.
    let entry = MeterEntry {
        multipliers: [InstalledMultiplier { from: None, to: None, micros: 40_000_000 }].into(),
        ..MeterEntry::new(Commodity::Electricity, Zone::utc())
    };
    let mut again = ReadingBatch::default();
    let mended = MeterDirectory::new([(MeterId::new("e1").unwrap(), entry)]);
    decode(&maps, &dead.message, false, &mended, &mut again);
    assert_eq!((again.reading_count(), again.dead_letters.len()), (1, 0));
    assert_eq!(value(&again, 0, "energy_import_kwh"), Some(1000));
}
