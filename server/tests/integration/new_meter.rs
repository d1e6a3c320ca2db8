//! The commands for the person who connects a new meter: what comes in as it comes in, golden files, and Modbus devices
//! asked by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;

use futures::stream;
use meterlake_device_sim::modbus::{Behaviour, Gateway, Layout, Unit, UnitValues};
use meterlake_device_sim::publisher::{Publisher, PublisherOptions};
use meterlake_device_sim::{
    BrokerOptions, EmbeddedBroker, FleetPlan, History, Message, MessageForm, MessageKind, Scenario, Simulation,
};
use meterlake_model::Timestamp;
use serde_json::Value;

use crate::mosquitto::broker_table;
use crate::peers;
use crate::process::until;
use crate::site::{Answer, PATIENCE, Site, program, rows};

fn ask(words: &[&str]) -> Answer {
    Answer::of(&program().args(words).output().unwrap())
}

fn simulation() -> Arc<Simulation> {
    let from = Timestamp::parse_rfc3339("2026-11-01T00:00:00Z").unwrap();
    let mut plan = FleetPlan::new(3, from, from.plus_seconds(86_400));
    (plan.electricity_mqtt, plan.water_mqtt) = (2, 2);
    let scenario = Scenario { malformed_ppm: 50_000, ..Scenario::none() };
    Arc::new(Simulation::new(plan, scenario).unwrap())
}

async fn publish(broker: SocketAddr, client: &str, messages: &[Message]) {
    let options = PublisherOptions::new("127.0.0.1", broker.port(), client);
    Publisher::new(options).publish(stream::iter(messages.to_vec())).await.unwrap();
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// Meter, time, and the first value with all its digits, of the readings among some lines.
fn readings(lines: &[Value]) -> BTreeSet<(String, i64)> {
    let reading = |line: &&Value| line["kind"] == "reading";
    let of = |line: &Value| {
        let ts = Timestamp::parse_rfc3339(line["ts"].as_str().unwrap()).unwrap();
        (line["meter_id"].as_str().unwrap().to_owned(), ts.micros())
    };
    lines.iter().filter(reading).map(of).collect()
}

fn sent(messages: &[Message]) -> BTreeSet<(String, i64)> {
    let good = messages.iter().filter(|message| message.kind == MessageKind::Fresh);
    good.map(|message| (message.rows.meter_id.to_string(), message.rows.iter().next().unwrap().0.micros())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tap_shows_what_comes_in_through_a_restart_of_the_collector() {
    let broker = EmbeddedBroker::start(&BrokerOptions::default()).await.unwrap().address();
    let simulation = simulation();
    let site = Site::new(&broker_table(broker, "meterlake/v1/+/readings", "meterlake-json"));
    site.import(&simulation.registry().unwrap());
    let messages: Vec<_> = History::new(Arc::clone(&simulation), MessageForm::Singles).collect();
    let (before, after) = messages.split_at(messages.len() / 2);
    let bad = messages.iter().filter(|message| message.kind != MessageKind::Fresh).count();
    assert!(bad > 5 && before.len() > 100, "{bad} of {}", messages.len());

    // Looked at before there is a journal, through two collectors.
    let count = messages.len().to_string();
    let mut tap = site.command(&["tap", "--from", "oldest", "--count", &count]);
    let tap = tap.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let collector = site.collect();
    publish(broker, "first", before).await;
    until("the first half acknowledged", PATIENCE, || {
        let report = site.report(&collector)?;
        let figure = |name: &str| report.brokers[0].1.iter().find(|(figure, _)| figure == name).map_or(0, |f| f.1);
        (figure("acknowledged") >= before.len() as u64 && figure("unacknowledged") == 0).then_some(())
    });
    site.stop(collector);
    let collector = site.collect();
    publish(broker, "second", after).await;
    let output = tokio::task::spawn_blocking(|| tap.wait_with_output().unwrap()).await.unwrap();
    // Selections; nothing here waits for more.
    let of = |words: &[&str]| json_lines(&site.tell(&[&["tap", "--from", "oldest", "--no-follow"], words].concat()));
    // The broker may have sent some of the first half again: the journal holds it twice, and so it is shown.
    until("every reading and every dead letter", PATIENCE, || {
        let shown = of(&[]);
        let dead = shown.iter().filter(|line| line["kind"] == "dead_letter").count();
        (readings(&shown) == sent(&messages) && dead >= bad).then_some(())
    });
    site.stop(collector);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(lines.len(), messages.len());

    // What was collected, selected in each way.
    let whole = of(&[]);
    assert_eq!(whole[..lines.len()], lines, "followed or read back, it is the same");
    let lines = whole;
    let positions: Vec<_> = lines.iter().map(|line| line["position"].as_u64().unwrap()).collect();
    assert!(positions.is_sorted() && positions[0] == 1, "{positions:?}");
    let bad = lines.iter().filter(|line| line["kind"] == "dead_letter").count();
    assert_eq!(of(&["--count", "3"]), lines[..3]);
    let (position, all) = (positions[positions.len() / 2].to_string(), lines.len());
    let rest = json_lines(&site.tell(&["tap", "--from", &position, "--no-follow"]));
    assert!(!rest.is_empty() && rest.len() < all && lines.ends_with(&rest));
    let meter = messages[0].rows.meter_id.as_str();
    let (one, others) = (of(&["--meter", meter]), of(&["--meter", &meter[..1]]));
    assert!(one.iter().all(|line| line["meter_id"] == meter || line.to_string().contains(meter)), "{one:?}");
    assert_eq!(others.iter().filter(|line| line["kind"] == "reading").count(), 0, "a whole name is asked for");
    let stem = format!("{}*", &meter[..1]);
    let by_stem = readings(&of(&["--meter", &stem]));
    assert!(by_stem.len() > readings(&one).len() && by_stem.iter().all(|(id, _)| id.starts_with(&meter[..1])));
    let water = of(&["--commodity", "water"]);
    assert!(!water.is_empty() && water.iter().all(|line| line["kind"] == "reading" && line["commodity"] == "water"));
    let dead = of(&["--dead-letters"]);
    assert!(dead.len() == bad && dead.iter().all(|line| line["kind"] == "dead_letter"));
    assert_eq!(of(&["--source", "yard"]).len(), all);
    assert!(of(&["--source", "elsewhere"]).is_empty());
    assert!(of(&["--events"]).is_empty());

    // By topic: this map does not keep what it read, so the dead letters of that topic.
    let topic = dead[0]["topic"].as_str().unwrap();
    let by_topic = of(&["--topic", topic]);
    assert!(!by_topic.is_empty() && by_topic.iter().all(|line| line["topic"] == topic), "{by_topic:?}");
    assert_eq!(of(&["--topic", "meterlake/+/+/readings"]).len(), bad);
    assert!(of(&["--topic", "elsewhere/#"]).is_empty());

    let text = site.tell(&["tap", "--from", "oldest", "--no-follow", "--format", "text", "--readings", "--count", "1"]);
    assert!(
        text.contains(" yard ") && text.contains(" kWh") | text.contains(" m³") && text.lines().count() == 1,
        "{text}"
    );
    assert_eq!(site.number("SELECT count(*) FROM dead_letters"), i64::try_from(bad).unwrap(), "nothing was disturbed");
}

#[tokio::test(flavor = "multi_thread")]
async fn tap_by_topic_reads_kept_messages_once_more() {
    let broker = EmbeddedBroker::start(&BrokerOptions::default()).await.unwrap().address();
    let simulation = simulation();
    let site = Site::new("");
    let map = program().args(["maps", "show", "meterlake-json"]).output().unwrap().stdout;
    let map = String::from_utf8(map).unwrap().replacen("version = ", "keep_raw = true\nversion = ", 1);
    std::fs::write(site.path("kept.toml"), map).unwrap();
    site.configure(&broker_table(broker, "meterlake/v1/+/readings", "kept.toml"));
    site.import(&simulation.registry().unwrap());
    let collector = site.collect();
    let messages: Vec<_> = History::new(simulation, MessageForm::Singles).take(40).collect();
    publish(broker, "meters", &messages).await;
    let topic = messages.iter().find(|message| message.kind == MessageKind::Fresh).unwrap().topic.to_string();
    let of_topic: Vec<_> = messages.iter().filter(|message| *message.topic == *topic).cloned().collect();
    crate::process::until("all are in the journal", crate::site::PATIENCE, || {
        let lines = json_lines(&site.tell(&["tap", "--from", "oldest", "--no-follow"]));
        (lines.len() == messages.len()).then_some(())
    });
    let lines = json_lines(&site.tell(&["tap", "--from", "oldest", "--no-follow", "--topic", &topic]));
    site.stop(collector);
    assert!(lines.iter().all(|line| line["topic"] == topic.as_str()), "{lines:?}");
    assert_eq!(readings(&lines), sent(&of_topic));
    let payloads: Vec<_> = lines.iter().filter_map(|line| line["payload"].as_str()).collect();
    let expected: Vec<_> = of_topic.iter().map(|message| std::str::from_utf8(&message.payload).unwrap()).collect();
    assert_eq!(BTreeSet::from_iter(payloads), BTreeSet::from_iter(expected), "as they came, good and bad");
}

const MAP: &str = r#"# A flat thing.
name = "flat"
version = 1
topic = "flat/{meter}"
format = "json"

[time]
path = "t"
format = "unix_s"

[fields.volume_m3]
path = "litres"
unit = "l"
"#;

const GOLDEN: &str = r#"meter W-1 water Europe/Madrid

# a reading
topic flat/W-1
payload {"t":1763719200,"litres":1500}
-> water W-1 2025-11-21T10:00:00Z volume_m3=1.501

# no time
topic flat/W-1
payload {"litres":1}
-> dead missing
"#;

#[test]
fn a_golden_file_that_differs_is_shown_by_line_and_can_be_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (map, golden) = (folder.path().join("flat.toml"), folder.path().join("flat.txt"));
    std::fs::write(&map, MAP).unwrap();
    std::fs::write(&golden, GOLDEN).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "# not a golden file\n").unwrap();
    let paths = [folder.path(), &map, &golden].map(|path| path.to_str().unwrap().to_owned());
    for path in &paths {
        let answer = ask(&["test", path]);
        assert!(!answer.good, "{path}: {}", answer.out);
        for told in [
            ":5: \"a reading\" differs (flat/W-1):",
            "     6 - -> water W-1 2025-11-21T10:00:00Z volume_m3=1.501\n",
            "       + -> water W-1 2025-11-21T10:00:00Z volume_m3=1.500\n",
            "expected volume_m3=1.501, read volume_m3=1.500",
            "    11 - -> dead missing\n",
            "0 of 2 cases in 1 files as recorded\n",
        ] {
            assert!(answer.out.contains(told), "{path}: {told:?} is not in\n{}", answer.out);
        }
    }
    assert_eq!(std::fs::read_to_string(&golden).unwrap(), GOLDEN, "nothing is written unasked");
    let accepted = ask(&["test", "--accept", &paths[0]]);
    assert!(accepted.good && accepted.out.contains("now record"), "{}{}", accepted.out, accepted.err);
    let text = std::fs::read_to_string(&golden).unwrap();
    assert!(text.starts_with(&GOLDEN[..GOLDEN.find("1.501").unwrap()]) && text.contains("=1.500\n"), "{text}");
    let again = ask(&["test", &paths[1]]);
    assert!(again.good && again.out == "2 of 2 cases in 1 files as recorded\n", "{}", again.out);
}

#[test]
fn a_vector_stands_beside_its_profile_and_is_brought_up_to_date_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("golden")).unwrap();
    let vector = folder.path().join("golden/own.txt");
    let show = |words: &[&str]| ask(&[&["profiles", "show", "pulse-water"], words].concat()).out;
    std::fs::write(folder.path().join("own.toml"), show(&[])).unwrap();
    let right = show(&["--golden"]);
    let wrong = right.replacen("-> event leak\n", "", 1).replacen("battery_v=0.000", "battery_v=9.999", 1);
    std::fs::write(&vector, &wrong).unwrap();
    let path = folder.path().to_str().unwrap();
    let answer = ask(&["test", path]);
    assert!(!answer.good && answer.out.contains("\n  - battery_v=9.999\n  + battery_v=0.000\n"), "{}", answer.out);
    assert!(answer.out.contains("own.txt:1: ") && answer.out.contains("  + event leak\n"), "{}", answer.out);
    assert!(answer.out.ends_with("1 of 3 cases in 1 files as recorded\n"), "{}", answer.out);
    assert!(ask(&["test", "--accept", path]).good);
    let text = std::fs::read_to_string(&vector).unwrap();
    let again = ask(&["test", folder.path().join("own.toml").to_str().unwrap()]);
    assert!(again.good && again.out.starts_with("3 of 3 "), "{}\n{text}", again.out);
    let lines = |text: &str| -> BTreeSet<String> { text.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(lines(&text), lines(&right));
    assert!(text.ends_with(right.split("\n\n").last().unwrap()), "what was right stays as it was");
}

#[test]
fn what_cannot_be_tested_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    write("flat.toml", &MAP.replace("unix_s", "unix_days"));
    write("flat.txt", GOLDEN);
    write("other.txt", &format!("map no-such-map\n{GOLDEN}"));
    write("alone.txt", GOLDEN);
    write("broken.txt", &GOLDEN.replace("payload", "paylaod"));
    write("prose.txt", "no case at all\n");
    for (name, told) in [
        ("flat.txt", "flat.toml:9:"),
        ("other.txt", "other.txt:1: no map `no-such-map`"),
        ("alone.txt", "alone.txt: names no map"),
        ("broken.txt", "broken.txt:5: `paylaod`"),
        ("prose.txt", "is no golden file"),
        ("absent.txt", "cannot read"),
    ] {
        let answer = ask(&["test", &path(name)]);
        let said = answer.out + &answer.err;
        assert!(!answer.good && said.contains(told), "{name}: {told:?} is not in\n{said}");
    }
    let all = ask(&["test", folder.path().to_str().unwrap()]);
    assert!(!all.good && all.out.contains("4 files cannot be tested"), "{}", all.out);
}

#[test]
fn the_shipped_maps_and_profiles_pass_their_own_tests_and_can_be_shown() {
    let answer = ask(&["test", "--shipped"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let of = |text: &str| -> usize { text.trim().split(' ').next().unwrap().parse().unwrap() };
    assert!(of(&answer.out) > 10, "{}", answer.out);
    for kind in ["maps", "profiles"] {
        let listed = rows(&ask(&[kind, "list"]).out);
        assert!(listed.len() >= 2, "{listed:?}");
        for row in &listed {
            let text = ask(&[kind, "show", &row[0]]);
            assert!(text.good && text.out.contains(&format!("name = \"{}\"", row[0])), "{}: {}", row[0], text.err);
            let golden = ask(&[kind, "show", &row[0], "--golden"]);
            assert!(golden.good && golden.out.contains("\n# "), "{}: {}", row[0], golden.err);
        }
        let unknown = ask(&[kind, "show", "no-such"]);
        assert!(!unknown.good && unknown.err.contains("`no-such`") && unknown.err.contains(&listed[0][0]));
    }
    let profiles = rows(&ask(&["profiles", "list"]).out);
    assert_eq!(row(&profiles, "eastron-sdm630")[1..4], ["electricity", "Eastron", "SDM630-Modbus V2"]);
}

/// A gateway with a three-phase meter, a water meter, a dead one and nobody else.
async fn gateway() -> Gateway {
    let values = UnitValues { register_milli: 12_345_678, volts_dv: [2301, 2302, 2299], watts: 1500 };
    let unit = |layout, behaviour| Unit { layout, behaviour, source: Arc::new(move || values) };
    let units = BTreeMap::from([
        (1, unit(Layout::Sdm630, Behaviour::Answers)),
        (3, unit(Layout::PulseWater, Behaviour::Answers)),
        (4, unit(Layout::PulseWater, Behaviour::Dead)),
    ]);
    Gateway::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), units).await.unwrap()
}

/// Asks the gateway with `modbus` and these words.
fn modbus(gateway: &Gateway, command: &str, words: &[&str]) -> Answer {
    let port = gateway.address().port().to_string();
    ask(&[&["modbus", command, "--host", "127.0.0.1", "--port", &port], words].concat())
}

fn row<'r>(rows: &'r [Vec<String>], first: &str) -> Vec<&'r str> {
    let row = rows.iter().find(|row| row[0] == first).unwrap_or_else(|| panic!("{first}: {rows:?}"));
    row[1..].iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_read_once_with_values_units_and_registers() {
    let gateway = gateway().await;
    let answer = modbus(&gateway, "read", &["--unit", "1", "--profile", "eastron-sdm630"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let read = rows(&answer.out);
    // Single-precision floats by IEEE 754: 230.1 is 0x4366199A, 1500 is 0x44BB8000.
    assert_eq!(row(&read, "voltage_l1_v"), ["230.1", "V", "4366 199A", "4:0x0000", ""]);
    assert_eq!(row(&read, "power_kw"), ["1.500", "kW", "44BB 8000", "4:0x0034", ""]);
    assert_eq!(row(&read, "power_factor")[..2], ["0.960", ""]);
    let json = modbus(&gateway, "read", &["--unit", "3", "--profile", "pulse-water", "--format", "json"]);
    let read = json_lines(&json.out);
    assert_eq!((read[3]["channel"].as_str(), read[3]["value"].as_str()), (Some("status"), Some("-")));
    assert_eq!((read[0]["channel"].as_str(), read[0]["value"].as_str()), (Some("volume_m3"), Some("12345.678")));

    // A profile of another device: what it has not is told, value by value.
    let own = tempfile::tempdir().unwrap();
    let file = own.path().join("own.toml");
    let profile = "name = \"own\"\nversion = 1\nmaker = \"x\"\nmodel = \"y\"\nsource = \"z\"\ncommodity = \"water\"\n\
                   [defaults]\nfunction = 3\ntype = \"u16\"\n[[field]]\nchannel = \"battery_v\"\naddress = 2\nunit = \"mV\"\n\
                   [[field]]\nchannel = \"pressure_kpa\"\naddress = 500\nunit = \"kPa\"\n";
    std::fs::write(&file, profile).unwrap();
    let answer = modbus(&gateway, "read", &["--unit", "3", "--profile", file.to_str().unwrap()]);
    let read = rows(&answer.out);
    assert!(!answer.good);
    assert_eq!(row(&read, "battery_v"), ["3.612", "V", "0E1C", "3:0x0002", ""]);
    assert!(row(&read, "pressure_kpa")[4].contains("illegal data address"), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_registers_are_shown_and_silence_is_named_with_what_to_try() {
    let gateway = gateway().await;
    let answer = modbus(&gateway, "read", &["--unit", "3", "--registers", "3:0+4", "--registers", "3:0x0F+1"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let read = rows(&answer.out);
    assert_eq!(read.len(), 5);
    assert_eq!(row(&read, "3:0x0002"), ["2", "0E1C", "3612", "3612", "..", ""]);
    let beyond = modbus(&gateway, "read", &["--unit", "3", "--registers", "3:12+8", "--max-registers", "4"]);
    assert!(
        !beyond.good && rows(&beyond.out).len() == 5 && beyond.out.contains("illegal data address"),
        "{}",
        beyond.out
    );

    for (words, told) in [
        (&["--unit", "4", "--registers", "3:0+1", "--timeout", "100ms"][..], "is the unit right"),
        (&["--unit", "9", "--registers", "3:0+1"], "gateway target did not respond"),
        (&["--unit", "1", "--registers", "3:0+1"], "another function code or address"),
        (&["--unit", "1"], "name a --profile"),
        (&["--unit", "1", "--profile", "no-such"], "eastron-sdm630"),
        (&["--unit", "1", "--registers", "6:0+1"], "function code 6 does not read"),
        (&["--unit", "1", "--profile", "absent.toml"], "cannot read absent.toml"),
    ] {
        let answer = modbus(&gateway, "read", words);
        assert!(!answer.good && answer.err.contains(told), "{words:?}: {}", answer.err);
    }
    for (words, told) in [
        (&["modbus", "read", "--unit", "1"][..], "--host"),
        (&["modbus", "read", "--unit", "1", "--line", "hall"], "--config"),
        (&["modbus", "read", "--unit", "1", "--host", "127.0.0.1", "--port", "1", "--registers", "0"], "connect"),
    ] {
        let answer = ask(words);
        assert!(!answer.good && answer.err.contains(told), "{words:?}: {}", answer.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_the_configuration_is_asked_with_its_own_profile() {
    let gateway = gateway().await;
    let port = gateway.address().port();
    let site = Site::new(&format!(
        "[[modbus]]\nname = \"hall\"\nhost = \"127.0.0.1\"\nport = {port}\n[[modbus.device]]\nunit = 3\n\
         meter_id = \"W-1\"\nprofile = \"pulse-water\"\n"
    ));
    let read = rows(&site.tell(&["modbus", "read", "--line", "hall", "--unit", "3"]));
    assert_eq!(row(&read, "volume_m3")[..2], ["12345.678", "m³"]);
    for (words, told) in [
        (["modbus", "read", "--line", "hall", "--unit", "1"], "no device with unit 1"),
        (["modbus", "read", "--line", "cellar", "--unit", "3"], "hall"),
    ] {
        let answer = site.ask(&words);
        assert!(!answer.good && answer.err.contains(told), "{words:?}: {}", answer.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_finds_who_answers_and_nobody_else() {
    let gateway = gateway().await;
    let answer = modbus(&gateway, "scan", &["--units", "1-5", "--timeout", "100ms"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let found = rows(&answer.out);
    assert_eq!(found.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(row(&found, "1")[..2], ["4:0x0000", "4366 199A"], "after an exception to function code 3");
    assert_eq!(row(&found, "3")[..2], ["3:0x0000", "00BC"], "12,345,678 litres are 0x00BC614E");
    assert!(row(&found, "1")[2].starts_with("eastron-sdm"), "{found:?}");
    assert!(row(&found, "3")[2].contains("pulse-water"), "{found:?}");
    let bare = rows(&modbus(&gateway, "scan", &["--units", "1", "--no-identify"]).out);
    assert_eq!(row(&bare, "1")[2..4], ["", ""]);
    let nobody = modbus(&gateway, "scan", &["--units", "5-7", "--timeout", "100ms"]);
    assert!(!nobody.good && nobody.err.contains("5 to 7 (3 units)"), "{}", nobody.err);
    let refused = ask(&["modbus", "scan", "--host", "127.0.0.1", "--port", "1"]);
    assert!(!refused.good && refused.err.contains("127.0.0.1:1 cannot be connected"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_writes_a_profile_that_reads_the_meter_and_its_vector() {
    let gateway = gateway().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my-meter.toml");
    let file = file.to_str().unwrap();
    let words = [
        "--unit",
        "1",
        "--registers",
        "4:0+80",
        "--again",
        "0s",
        "--expect",
        "voltage_l1_v=230",
        "--expect",
        "voltage_l2_v=230.2@3",
        "--expect",
        "energy_import_kwh=12345.7",
        "--write",
        file,
    ];
    let answer = modbus(&gateway, "doctor", &words);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let candidates = rows(&answer.out);
    let best = |channel: &str| candidates.iter().find(|row| row[0] == channel).unwrap();
    assert_eq!(best("energy_import_kwh")[1], "12345.678", "{candidates:?}");
    assert_eq!(best("energy_import_kwh")[3], "4:0x0048");
    assert!(answer.err.contains("eastron-sdm630 fits"), "{}", answer.err);
    assert!(answer.err.contains(&format!("--profile {file}")), "{}", answer.err);

    // What it wrote passes its own test and reads the meter.
    let tested = ask(&["test", file]);
    assert!(tested.good && tested.out.starts_with("1 of 1 "), "{}", tested.out);
    let read = rows(&modbus(&gateway, "read", &["--unit", "1", "--profile", file]).out);
    assert_eq!(read.len(), 3, "only what was expected");
    assert_eq!(row(&read, "energy_import_kwh")[..2], ["12345.678", "kWh"]);
    assert_eq!(row(&read, "voltage_l2_v")[..4], ["230.2", "V", "4366 3333", "4:0x0002"], "the manual counts from 1");

    // Nothing is replaced unasked, and what it cannot find it does not write.
    let again = modbus(&gateway, "doctor", &words);
    assert!(!again.good && again.err.contains("--force"), "{}", again.err);
    let other = folder.path().join("other.toml");
    let words = ["--unit", "1", "--registers", "4:0+80", "--again", "0s", "--write", other.to_str().unwrap()];
    let lost = modbus(&gateway, "doctor", &[&words[..], &["--expect", "energy_export_kwh=777.7"]].concat());
    assert!(!lost.good && lost.err.contains("energy_export_kwh") && !other.exists(), "{}", lost.err);
    for (expect, told) in [("voltage=1", "voltage_l1_v"), ("voltage_l1_v=high", "no number"), ("x", "write it as")] {
        let answer = modbus(&gateway, "doctor", &["--unit", "1", "--expect", expect]);
        assert!(!answer.good && answer.err.contains(told), "{expect}: {}", answer.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_without_hints_names_the_shipped_profile_that_fits() {
    let gateway = gateway().await;
    let answer = modbus(&gateway, "doctor", &["--unit", "1", "--again", "0s", "--timeout", "300ms"]);
    assert!(answer.good, "{}{}", answer.out, answer.err);
    let fit = answer.err.lines().find(|line| line.contains(" fits, ")).unwrap();
    assert!(fit.contains("profile eastron-sdm"), "{}", answer.err);
    let absent = modbus(&gateway, "doctor", &["--unit", "4", "--again", "0s", "--timeout", "50ms"]);
    assert!(!absent.good && absent.err.contains("is the unit right"), "{}", absent.err);
}

#[test]
fn devices_of_pymodbus_on_a_serial_line_are_found_and_read() {
    if !peers::asked_for() {
        return;
    }
    let mut server = std::process::Command::new("python3")
        .arg(peers::script("modbus_serial.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("METERLAKE_PEERS=1 needs python3");
    let mut device = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut device).unwrap();
    let line = ["--serial", device.trim(), "--baud", "19200"];
    let found =
        ask(&[&["modbus", "scan", "--units", "1-3", "--timeout", "500ms", "--no-identify"][..], &line].concat());
    let read = ask(&[&["modbus", "read", "--unit", "1", "--profile", "eastron-sdm630"][..], &line].concat());
    drop(server.stdin.take());
    server.wait().unwrap();
    let answers: Vec<_> = rows(&found.out).iter().map(|row| row[..3].join(" ")).collect();
    // pymodbus speaks for units that it does not have, too.
    let expected = ["1 3:0x0000 0000", "2 3:0x0000 0001", "3 3:0x0000 exception 4 (device failure)"];
    assert_eq!(answers, expected, "{}", found.err);
    assert!(read.good, "{}{}", read.out, read.err);
    let read = rows(&read.out);
    assert_eq!(row(&read, "voltage_l2_v"), ["231.5", "V", "4367 8000", "4:0x0002", ""]);
    assert_eq!(row(&read, "energy_import_kwh")[0], "12345.678");
}
