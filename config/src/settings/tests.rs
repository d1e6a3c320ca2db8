//! The default file is current, and settings mean what it says. Wrong files are in `tests/wrong-configurations`.

use std::collections::BTreeSet;
use std::time::Duration;

use meterlake_model::{Amount, CivilDay};

use super::*;

/// Reads text as if it stood in `dir`, with one variable in the environment.
fn read(text: &str, dir: &Path) -> Result<Config, ConfigErrors> {
    let variable = |name: &str| (name == "METERLAKE_YARD_PASSWORD").then(|| "from the environment".to_owned());
    Config::read("f.toml", text, &Surroundings { base_dir: dir, variable: &variable })
}

fn problems(text: &str) -> Vec<String> {
    let errors = read(text, Path::new("")).expect_err("is to be refused");
    errors.problems().iter().map(ToString::to_string).collect()
}

/// The default text with every setting that is commented out set.
fn everything_set() -> String {
    let set = |line: &str| {
        let key = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
        key.unwrap_or(line).to_owned() + "\n"
    };
    Config::default_text().lines().map(set).collect()
}

/// Keys that are of no use without TLS.
const FOR_TLS: [&str; 4] = ["ca_file", "client_cert_file", "client_key_file", "server_name"];

#[test]
fn the_default_text_is_the_default() {
    assert_eq!(Config::parse(Config::default_text(), Path::new("")), Ok(Config::default()));
    assert_eq!(Config::parse("", Path::new("")), Ok(Config::default()), "what is left out has its default");
}

#[test]
fn every_example_of_the_default_text_is_valid_and_a_default() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("yard.password"), "from the file\n").unwrap();
    std::fs::write(dir.path().join("s3.secret"), "from the other file\n").unwrap();
    let devices = "link,unit,meter_id,profile,interval,offset\n861234567890124,1,WATER-0002,pulse-water,15m,0s\n";
    std::fs::write(dir.path().join("devices.csv"), devices).unwrap();
    std::fs::write(dir.path().join("weather.csv"), "region,day,mean_c\n*,2026-01-31,-3.5\n").unwrap();
    std::fs::write(
        dir.path().join("homes.csv"),
        "day_type,time,weight\nworkday,00:00,1\nsaturday,00:00,2\nsunday,00:00,0.5\n",
    )
    .unwrap();
    std::fs::create_dir(dir.path().join("checks")).unwrap();
    let text: String = everything_set()
        .lines()
        .filter(|line| {
            !["password_env", "secret_access_key_env", "receipts", "holiday_like"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .filter(|line| !FOR_TLS.iter().any(|key| line.starts_with(key)))
        .map(|line| match line {
            "profile = \"en50160\"" => "profile = \"own\"\n".to_owned(),
            "root = \"lake\"" => "root = \"s3://readings/lake\"\n".to_owned(),
            line => format!("{line}\n"),
        })
        .collect();
    let config = read(&text, dir.path()).unwrap();

    let least = "[lake]\nroot = 's3://readings/lake/'\n[lake.s3]\nendpoint = 'https://s3.example.org:9000'\naccess_key_id = \
                 'meterlake'\nsecret_access_key_file = 's3.secret'\n";
    assert_eq!(config.lake, read(least, dir.path()).unwrap().lake);
    assert_eq!(config.lake.root.to_string(), "s3://readings/lake");

    let [broker] = &config.mqtt[..] else { panic!("one broker") };
    assert_eq!(broker.password, Some(Secret::new("from the file")));
    let [line, serial] = &config.modbus[..] else { panic!("two lines") };
    assert_eq!((line.devices.len(), serial.devices.len()), (1, 1));
    let [listener] = &config.modbus_listen[..] else { panic!("one listener") };
    assert_eq!(listener.links.len(), 2, "one in the file, one in the table");
    let cold = CivilDay::parse("2026-01-31").unwrap();
    assert_eq!(config.usage.weather, Weather::from([("*".to_owned(), [(cold, -3_500)].into())]));
    let [homes] = &config.usage.profiles[..] else { panic!("one profile") };
    assert_eq!(homes.weights[11], [vec![1_000_000], vec![2_000_000], vec![500_000]]);
    assert_eq!(homes.daily_use, Amount::parse("9.5").ok());
    let own = VoltageLimits::Own { nominal_dv: 2300, low_permille: 900, severe_permille: 850 };
    assert_eq!(config.alerts.undervoltage, UndervoltageConfig { limits: own, ..UndervoltageConfig::default() });

    // The examples show the defaults, so a broker and a line with nothing else than they need are the same.
    let least = "[[mqtt]]\nname = 'yard'\nhost = 'localhost'\nusername = 'meterlake'\npassword_env = \
                 'METERLAKE_YARD_PASSWORD'\ntopics = ['meters/+/readings']\nmaps = ['meterlake-json']\n[[modbus]]\nname = \
                 'hall-3'\nhost = '127.0.0.1'\n[[modbus.device]]\nunit = 1\nmeter_id = 'SDM630-0001'\nprofile = \
                 'eastron-sdm630'\n[[modbus]]\nname = 'cellar'\ntransport = 'rtu'\nserial = \
                 '/dev/ttyUSB0'\n[[modbus.device]]\nunit = 7\nmeter_id = 'WATER-0007'\nprofile = \
                 'pulse-water'\n[[modbus_listen]]\nname = 'dtus'\nbind = '127.0.0.1:5020'\nregistration = \
                 ['{id:15}']\nheartbeats = ['\\x00', 'ping\\r\\n']\ndevices = \
                 'devices.csv'\n[[modbus_listen.link]]\nid = \
                 '861234567890123'\n[[modbus_listen.link.device]]\nunit = 1\nmeter_id = 'WATER-0001'\nprofile = \
                 'pulse-water'\n";
    let least = read(least, dir.path()).unwrap();
    let password = Some(Secret::new("from the environment"));
    assert_eq!(least.mqtt, [MqttBroker { password, ..broker.clone() }]);
    assert_eq!(least.modbus, config.modbus);
    assert_eq!(least.modbus_listen, config.modbus_listen);
}

#[test]
fn every_key_stands_in_the_default_text() {
    // A section names the keys that it knows to whoever writes an unknown one: so ask each section, and compare.
    let stranger = "zzzzzzzzzzzzzzzzzzzz";
    let text: String = everything_set()
        .lines()
        .map(|line| if line.starts_with('[') { format!("{line}\n{stranger} = 1\n") } else { format!("{line}\n") })
        .collect();
    let text = format!("{stranger} = 1\n{text}");
    let mut asked = 0;
    for problem in problems(&text).iter().filter(|problem| problem.contains(stranger)) {
        let (path, known) = problem.split_once("`; known here: ").unwrap();
        let (_, path) = path.split_once("unknown key `").unwrap();
        let path = path.trim_end_matches(stranger).trim_end_matches('.');
        asked += 1;
        let headers: BTreeSet<String> = [format!("[{path}]"), format!("[[{path}]]")].into();
        // A list of tables shows a key in any of them.
        let mut within = path.is_empty();
        let own: Vec<_> = text
            .lines()
            .filter(|line| {
                if line.starts_with('[') {
                    within = headers.contains(*line);
                }
                within
            })
            .filter_map(|line| line.split_once(" = ").map(|(key, _)| key))
            .collect();
        for key in known.split(", ") {
            let below = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let section = ["[", "[["].iter().any(|open| text.contains(&format!("\n{open}{below}")));
            assert!(section || own.contains(&key), "`{below}` does not stand in default.toml");
        }
    }
    let sections = everything_set().lines().filter(|line| line.starts_with('[')).count();
    assert_eq!(asked, sections + 1, "each section, and the file as a whole");
}

#[test]
fn a_secret_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p"), "hunter2\r\n").unwrap();
    let broker =
        "[[mqtt]]\nname = 'a'\nhost = 'localhost'\ntopics = ['#']\nmaps = ['meterlake-json']\nusername = 'u'\n";
    let config = read(&format!("{broker}password_file = 'p'\n"), dir.path()).unwrap();
    assert_eq!(config.mqtt[0].password.as_ref().map(Secret::expose), Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));

    let refused = problems(&format!("{broker}password = 'hunter2'\n"));
    assert!(refused[0].starts_with("f.toml:7: `mqtt.password` would put a secret into this file"), "{refused:?}");
    assert!(!refused[0].contains("hunter2"));
}

#[test]
fn a_lake_on_an_object_store_is_reached_as_the_file_says_and_closed_by_default() {
    let dir = tempfile::tempdir().unwrap();
    let variable = "secret_access_key_env = 'METERLAKE_YARD_PASSWORD'";
    let keys = format!("[lake.s3]\naccess_key_id = 'me'\n{variable}\n");
    let lake = |root: &str, more: &str| {
        let text = format!("[lake]\nroot = '{root}'\n{keys}{more}\n");
        read(&text, dir.path()).map(|config| config.lake.root)
    };
    let LakeRoot::S3(s3) = lake("s3://readings", "").unwrap() else { panic!("a folder") };
    assert_eq!((s3.bucket.as_str(), s3.prefix.as_str(), &s3.endpoint), ("readings", "", &None));
    let secret = Secret::new("from the environment");
    let expected = S3Credentials::Keys { access_key_id: "me".into(), secret_access_key: secret };
    assert_eq!(s3.credentials, expected);
    assert!(!format!("{s3:?}").contains("from the environment"));

    for (endpoint, refused) in [
        ("https://s3.example.org", false),
        ("https://[2001:db8::1]:9000/", false),
        ("http://127.0.0.1:9000", false),
        ("http://[::1]:9000", false),
        ("http://localhost", false),
        ("http://s3.example.org", true),
        ("http://10.0.0.7:9000", true),
    ] {
        assert_eq!(lake("s3://readings/a", &format!("endpoint = '{endpoint}'")).is_err(), refused, "{endpoint}");
        let allowed = lake("s3://readings/a", &format!("endpoint = '{endpoint}'\nallow_plaintext = true"));
        assert!(allowed.is_ok(), "{endpoint}");
    }
    for endpoint in ["s3.example.org", "ftp://a", "https://", "https://me:pass@a", "https://a/path", "https://a:0"] {
        assert!(lake("s3://readings/a", &format!("endpoint = '{endpoint}'")).is_err(), "{endpoint}");
    }
    for root in ["s3://", "s3://Readings", "s3://ab", "s3://readings//a", "s3://readings/../a", "gs://readings/a"] {
        assert!(lake(root, "").is_err(), "{root}");
    }
    let machine = read("lake.root = 's3://readings'\nlake.s3.credentials = 'machine'\n", dir.path()).unwrap();
    let LakeRoot::S3(s3) = machine.lake.root else { panic!("a folder") };
    assert_eq!(s3.credentials, S3Credentials::Machine);
}

#[test]
fn tls_is_read_whole_and_its_key_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["collector".to_owned()]).unwrap();
    std::fs::write(dir.path().join("c.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("c.key"), made.signing_key.serialize_pem()).unwrap();
    let text = "[[mqtt]]\nname = 'a'\nhost = 'broker.example'\ntopics = ['#']\nmaps = ['meterlake-json']\ntls = true\n";
    let plain = read(text, dir.path()).unwrap();
    let tls = plain.mqtt[0].tls.as_ref().unwrap();
    assert_eq!((plain.mqtt[0].port, &tls.authorities, &tls.identity), (8883, &None, &None));
    assert_eq!(tls.server_name.to_str(), "broker.example");

    let files = "ca_file = 'c.pem'\nclient_cert_file = 'c.pem'\nclient_key_file = 'c.key'\nserver_name = '10.0.0.7'\n";
    let config = read(&format!("{text}port = 1\n{files}"), dir.path()).unwrap();
    let tls = config.mqtt[0].tls.as_ref().unwrap();
    let certificate = made.cert.der().clone();
    assert_eq!((config.mqtt[0].port, tls.server_name.to_str().as_ref()), (1, "10.0.0.7"));
    assert_eq!(tls.authorities.as_deref(), Some(&[certificate.clone()][..]));
    let identity = tls.identity.as_ref().unwrap();
    assert_eq!(identity.chain, [certificate]);
    assert_eq!(identity.key.secret_der(), made.signing_key.serialize_der());
    let shown = format!("{:?}", identity.key);
    assert!(shown.contains("elided") && format!("{config:?}").contains(&shown), "{shown}");
}

#[test]
fn what_promises_less_than_it_seems_is_said() {
    let broker = |name: &str, topics: &str| {
        format!("[[mqtt]]\nname = '{name}'\nhost = 'localhost'\ntopics = [{topics}]\nmaps = ['meterlake-json']\n")
    };
    let cautions = |text: &str| read(text, Path::new("")).unwrap().cautions();
    assert!(cautions(&format!("{}{}", broker("a", "'m/1/#'"), broker("b", "'m/2/#'"))).is_empty(), "shards");
    let shared = cautions(&broker("a", "'$share/g/m/#', 'x'"));
    assert!(shared.len() == 1 && shared[0].contains("members that are offline"), "{shared:?}");
    let twice = cautions(&format!("{}{}", broker("a", "'m/#'"), broker("b", "'m/+/x', 'n'")));
    assert!(twice.len() == 1 && twice[0].contains("collected twice"), "{twice:?}");
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    for (bind, refused) in
        [("127.0.0.1:0", false), ("[::1]:9464", false), ("0.0.0.0:9464", true), ("10.0.0.7:80", true)]
    {
        let text = format!("[serve]\nbind = '{bind}'\n");
        assert_eq!(read(&text, Path::new("")).is_err(), refused, "{bind}");
        assert!(read(&format!("{text}allow_public = true\n"), Path::new("")).is_ok(), "{bind}");
    }
    for (host, refused) in [("localhost", false), ("broker.example", true)] {
        let text = format!("[[mqtt]]\nname = 'a'\nhost = '{host}'\ntopics = ['#']\nmaps = ['meterlake-json']\n");
        assert_eq!(read(&text, Path::new("")).is_err(), refused, "{host}");
        assert!(read(&format!("{text}allow_plaintext = true\n"), Path::new("")).is_ok(), "{host}");
    }
}

#[test]
fn paths_begin_at_the_folder_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meterlake.toml");
    std::fs::write(&file, "[lake]\nroot = 'data'\n[collect]\njournal = '/var/lib/j'\n").unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.lake.root, LakeRoot::Folder(dir.path().join("data")));
    assert_eq!(config.collect.journal, Path::new("/var/lib/j"));
    assert_eq!(read("lake.root = 'file:///lake'", Path::new("x")).unwrap().lake.root, LakeRoot::Folder("/lake".into()));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = Config::load(Path::new("no/such/file.toml")).unwrap_err();
    assert!(errors.to_string().starts_with("no/such/file.toml: cannot be read: "), "{errors}");
}

#[test]
fn figures_arrive_in_the_units_of_the_tables() {
    let text = "[alerts.leak]\nrule = 'calendar_day'\nabove_l_per_h = 2.5\nwindow = '1d'\n[alerts.undervoltage]\nprofile = \
                'gbt12325'\nhysteresis_percent = 1.5\n[usage]\nlookback = '8w'\n[collect]\ncommit_interval = '1m30s'\n";
    let config = read(text, Path::new("")).unwrap();
    assert_eq!(config.alerts.leak.rule, LeakRule::CalendarDay);
    assert_eq!(config.alerts.leak.above_m3_per_h, Amount::parse("0.0025").unwrap());
    assert_eq!(config.alerts.leak.window_hours, 24);
    assert_eq!(config.alerts.undervoltage.hysteresis_permille, 15);
    assert_eq!(config.alerts.undervoltage.open_minutes, 60, "usual where GB/T 12325 holds");
    assert_eq!(config.usage.lookback_days, 56);
    assert_eq!(config.collect.commit_interval, Duration::from_secs(90));
}

#[test]
fn exports_have_the_columns_and_participants_that_are_asked_for() {
    let config =
        read("[billing.export]\ncolumns = [\"value\", \"item\"]\nnem12_to = \"RETAILER1\"", Path::new("")).unwrap();
    assert_eq!(config.export.columns, ["value", "item"]);
    assert_eq!((config.export.nem12_from.as_str(), config.export.nem12_to.as_str()), ("", "RETAILER1"));
    let wrong = "[billing.export]\ncolumns = [\n\"value\",\n\"prize\",\n\"value\"]\nnem12_from = \"A PARTICIPANT\"\nnem12_to = 7";
    let found = problems(wrong);
    assert!(
        found[0].starts_with("f.toml:4: `billing.export.columns` names no column `prize`; there are item, run,"),
        "{found:?}"
    );
    assert_eq!(
        found[1..],
        [
            "f.toml:5: `billing.export.columns` names `value` twice",
            "f.toml:6: `billing.export.nem12_from` is `A PARTICIPANT`; at most 10 letters and digits are wanted",
            "f.toml:7: `billing.export.nem12_to` is the number 7; text in quotes is wanted",
        ]
    );
    assert_eq!(problems("[billing.export]\ncolumns = []").len(), 1);
}
