//! mosquitto with a certificate authority of our own, client certificates and access rules; paho as publisher.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use meterlake_config::{Config, MqttBroker, MqttProtocol};
use meterlake_ingest::IngestError;
use meterlake_model::{DeadReason, ReadingFlags};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::broker_process::{Mosquitto, ROOMY};
use crate::harness::{TOPIC, broker, collect, count, in_both_versions, reading, registers};

in_both_versions! {
    flavor = "multi_thread":
    paho_over_tls_is_collected_and_a_spoofed_gateway_never_arrives,
    who_cannot_prove_who_they_are_is_refused_at_once,
}

/// Each gateway may write below its own name, the collector may read and answer.
const RULES: &str = "user collector\ntopic read meters/#\ntopic write receipts/#\n\npattern write meters/%u/#\n";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `NAME.pem` and `NAME.key`.
fn issue(authority: &Authority, name: &str, names: &[&str], folder: &Path) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// A broker that admits only who bears a certificate of its authority, under the name that stands in it.
async fn guarded() -> Option<Mosquitto> {
    Mosquitto::with(|folder| {
        let own = authority("our authority");
        fs::write(folder.join("ca.pem"), own.pem()).unwrap();
        issue(&own, "localhost", &["localhost"], folder);
        for name in ["collector", "gw-1", "gw-2"] {
            issue(&own, name, &[], folder);
        }
        let foreign = authority("another authority");
        fs::write(folder.join("foreign-ca.pem"), foreign.pem()).unwrap();
        issue(&foreign, "stranger", &[], folder);
        fs::write(folder.join("rules"), RULES).unwrap();
        let file = |name: &str| folder.join(name).display().to_string();
        format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n\
             allow_anonymous false\nacl_file {}\n{ROOMY}",
            file("ca.pem"),
            file("localhost.pem"),
            file("localhost.key"),
            file("rules")
        )
    })
    .await
}

/// As a configuration says it; the rest as in other tests.
fn settings(mosquitto: &Mosquitto, protocol: MqttProtocol, tls: &str) -> MqttBroker {
    let text = format!(
        "[[mqtt]]\nname = 'x'\nhost = 'localhost'\ntls = true\ntopics = ['{TOPIC}']\nmaps = ['meterlake-json', \
         'by-gateway.toml']\n{tls}"
    );
    let map = "name = 'by-gateway'\nversion = 1\ntopic = 'meters/+/{meter}/readings'\nformat = 'json'\nby_name = true\n\
               [time]\npath = '$.ts'\nformat = 'rfc3339'\n";
    fs::write(mosquitto.file("by-gateway.toml"), map).unwrap();
    let read = Config::parse(&text, mosquitto.file("").as_path()).unwrap().mqtt.remove(0);
    let topics = vec!["meters/#".to_owned()];
    MqttBroker { protocol, tls: read.tls, maps: read.maps, topics, host: read.host, ..broker(mosquitto.port) }
}

const CONVINCING: &str = "ca_file = 'ca.pem'\nclient_cert_file = 'collector.pem'\nclient_key_file = 'collector.key'\n";

/// Publishes with paho as one of the gateways and gives how many messages the broker answered.
async fn paho(mosquitto: &Mosquitto, protocol: MqttProtocol, name: &str, messages: Vec<serde_json::Value>) -> usize {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/paho_publisher.py");
    let protocol = if protocol == MqttProtocol::V5 { "5" } else { "3.1.1" };
    let files = ["ca.pem".to_owned(), format!("{name}.pem"), format!("{name}.key")].map(|file| mosquitto.file(&file));
    let port = mosquitto.port.to_string();
    let publish = move || {
        let mut paho = Command::new("python3")
            .arg(script)
            .args([protocol, &port])
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut input = paho.stdin.take().unwrap();
        for message in messages {
            writeln!(input, "{message}").expect("paho listens: python3 -m pip install paho-mqtt");
        }
        drop(input);
        let output = paho.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    tokio::task::spawn_blocking(publish).await.unwrap()
}

fn message(topic: &str, kwh: u32) -> serde_json::Value {
    serde_json::json!({ "topic": topic, "payload": reading(kwh) })
}

async fn paho_over_tls_is_collected_and_a_spoofed_gateway_never_arrives(protocol: MqttProtocol) {
    let Some(mosquitto) = guarded().await else { return };
    let mut old = message("meters/gw-1/e1/readings", 7000);
    old["retain"] = true.into();
    assert_eq!(paho(&mosquitto, protocol, "gw-1", vec![old]).await, 1);

    let mut collector = collect(settings(&mosquitto, protocol, CONVINCING));
    collector.connected().await;
    let mut messages = Vec::new();
    for number in 1..=300 {
        messages.push(message("meters/gw-1/e1/readings", number));
        // Another gateway's level: the broker takes the message and gives it to nobody.
        messages.push(message("meters/gw-2/e1/readings", 5000 + number));
    }
    messages.push(message("meters/gw-1/e1/elsewhere", 6000));
    messages.push(message("meters/gw-1/e1/readings", 301));
    assert_eq!(paho(&mosquitto, protocol, "gw-1", messages).await, 602);

    let (mut fresh, mut retained, mut dead) = (BTreeSet::new(), Vec::new(), Vec::new());
    while !fresh.contains(&301) {
        let delivery = collector.next().await;
        let headers = delivery.batch.electricity.headers();
        for (header, kwh) in headers.iter().zip(registers(&delivery)) {
            if header.flags.contains(ReadingFlags::RETAINED) {
                retained.push(kwh);
            } else {
                fresh.insert(kwh);
            }
        }
        dead.extend(delivery.batch.dead_letters);
        delivery.ack.durable();
    }
    assert!(fresh.iter().copied().eq(1..=301), "{fresh:?}");
    assert!(matches!(&dead[..], [letter] if letter.reason == DeadReason::NoMap), "{dead:?}");
    // MQTT 5 can ask for none; in 3.1.1 they come, and are told apart.
    let expected: &[i64] = if protocol == MqttProtocol::V5 { &[] } else { &[7000] };
    assert_eq!((&retained[..], count(&collector.stats.retained)), (expected, expected.len() as u64));
    collector.stopped().await.unwrap();
}

async fn who_cannot_prove_who_they_are_is_refused_at_once(protocol: MqttProtocol) {
    let Some(mosquitto) = guarded().await else { return };
    let identity = "client_cert_file = 'collector.pem'\nclient_key_file = 'collector.key'\n";
    for (tls, complaint) in [
        (identity.to_owned(), "TLS: "),
        (format!("ca_file = 'foreign-ca.pem'\n{identity}"), "TLS: the broker's certificate does not convince"),
        (format!("{CONVINCING}server_name = 'example.org'\n"), "TLS: the broker's certificate does not convince"),
        ("ca_file = 'ca.pem'\n".to_owned(), "TLS: our certificate does not convince the broker"),
        (
            "ca_file = 'ca.pem'\nclient_cert_file = 'stranger.pem'\nclient_key_file = 'stranger.key'\n".to_owned(),
            "TLS: our certificate does not convince the broker",
        ),
        (
            "ca_file = 'ca.pem'\nclient_cert_file = 'collector.pem'\nclient_key_file = 'gw-1.key'\n".to_owned(),
            "TLS: our certificate and key",
        ),
    ] {
        let ended = collect(settings(&mosquitto, protocol, &tls)).ended().await;
        let Err(IngestError::ConnectionRefused { reason, .. }) = &ended else { panic!("{tls}: {ended:?}") };
        assert!(reason.starts_with(complaint), "{tls}: {reason}");
    }
}

#[test]
fn keys_that_do_not_fit_are_found_before_anything_connects() {
    let folder = tempfile::tempdir().unwrap();
    let own = authority("our authority");
    fs::write(folder.path().join("ca.pem"), own.pem()).unwrap();
    for name in ["one", "two"] {
        issue(&own, name, &[], folder.path());
    }
    let check = |certificate: &str, key: &str| {
        let text = format!(
            "[[mqtt]]\nname = 'x'\nhost = 'broker.example'\ntls = true\ntopics = ['#']\nmaps = ['meterlake-json']\n\
             ca_file = 'ca.pem'\nclient_cert_file = '{certificate}'\nclient_key_file = '{key}'\n"
        );
        meterlake_ingest::mqtt::check(&Config::parse(&text, folder.path()).unwrap().mqtt[0])
    };
    assert_eq!(check("one.pem", "one.key"), Ok(()));
    assert!(check("one.pem", "two.key").unwrap_err().contains("our certificate and key"));
    // Only the words around the data are sound.
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(folder.path().join("ca.pem"), torn).unwrap();
    assert!(check("one.pem", "one.key").unwrap_err().contains("`ca_file` is not sound"));
}
