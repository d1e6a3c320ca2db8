//! `[[mqtt]]`: brokers, what to subscribe to there, and how its payloads are read.

mod tls;
mod topics;

use std::net::IpAddr;
use std::time::Duration;

use super::collect::plain_name;
use super::secret::read_password;
use super::{Named, Secret, Surroundings, named};
use crate::document::{At, Section};
use crate::payload_map::PayloadMap;
pub(super) use tls::certificates;
pub use tls::{MqttTls, TlsIdentity};
pub use topics::ReceiptTopic;

use crate::quantity::{DAY, KIB, MIB, MINUTE, SECOND};

/// One broker and one persistent session there.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttBroker {
    /// Names it in the `source` of its rows, in logs and metrics.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Which MQTT is spoken.
    pub protocol: MqttProtocol,
    /// How the connection is protected; `None`: not at all.
    pub tls: Option<MqttTls>,
    /// Names the session at the broker. It must never change, or what the broker holds for it is lost.
    pub client_id: String,
    /// Who we are.
    pub username: Option<String>,
    /// How we prove it.
    pub password: Option<Secret>,
    /// Topic filters to subscribe to, at least one.
    pub topics: Vec<String>,
    /// How payloads are read, at least one.
    pub maps: Vec<PayloadMap>,
    /// Messages that the broker may send ahead of our acknowledgements.
    pub receive_maximum: u16,
    /// Silence after which each side asks whether the other lives.
    pub keep_alive: Duration,
    /// How long the broker holds messages for us while we are away.
    pub session_expiry: Duration,
    /// A larger payload is not read but kept as a dead letter.
    pub max_packet_bytes: u32,
    /// What to do when another client takes our session.
    pub takeover: Takeover,
    /// Whether to ask the broker how many messages it dropped.
    pub broker_stats: bool,
    /// Where gateways are told what is durable; `None`: they are not told.
    pub receipts: Option<ReceiptTopic>,
    /// What one device may send.
    pub device_rate: DeviceRate,
    /// Whether messages and password may cross a network unencrypted.
    pub allow_plaintext: bool,
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MqttProtocol {
    /// MQTT 5.
    #[default]
    V5,
    /// MQTT 3.1.1, which announces neither a receive maximum nor how long a session lasts.
    V311,
}

/// What to do when another client takes our session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Takeover {
    /// Leave it the session and come back after a long while.
    #[default]
    Yield,
    /// Take it back, as after any lost connection.
    Fight,
}

/// What one device may send on average and at once; what exceeds it becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRate {
    /// Messages in a second, at least 1.
    pub messages_per_s: u32,
    /// Messages at once, at least 1.
    pub burst: u32,
}

impl Default for DeviceRate {
    fn default() -> Self {
        // Far beyond what a meter says, and room for a gateway that sends the readings of a week's outage one by one.
        Self { messages_per_s: 1000, burst: 100_000 }
    }
}

const MAPS: Named<PayloadMap> = Named {
    word: "payload map",
    names: || PayloadMap::shipped_names().collect(),
    shipped: PayloadMap::shipped,
    parse: PayloadMap::parse,
};

/// Reads every broker that is complete; what is wrong or missing is noted.
pub(super) fn read_all(sections: Vec<Section<'_>>, collector: &str, around: &Surroundings<'_>) -> Vec<MqttBroker> {
    let mut brokers: Vec<MqttBroker> = Vec::new();
    for mut section in sections {
        let Some(broker) = read(&mut section, collector, around) else { continue };
        if brokers.iter().any(|other| other.name == broker.name) {
            section.refuse("name", format_args!("`{}` is given to two brokers", broker.name));
        }
        let same = |other: &&MqttBroker| {
            (&other.host, other.port, &other.client_id) == (&broker.host, broker.port, &broker.client_id)
        };
        if let Some(other) = brokers.iter().find(same) {
            let (id, name) = (&broker.client_id, &other.name);
            section
                .refuse("client_id", format_args!("`{id}` is that of broker `{name}`; each would throw the other out"));
        }
        brokers.push(broker);
    }
    brokers
}

fn read(s: &mut Section<'_>, collector: &str, around: &Surroundings<'_>) -> Option<MqttBroker> {
    let name = s.parsed("name", plain_name);
    let name = s.required("name", name);
    let host = s.text("host");
    let host = s.required("host", host);
    let tls_wanted = s.boolean("tls").unwrap_or(false);
    let tls = tls::read(s, tls_wanted, host.as_deref(), around);
    let port = s.integer("port", 1..=u16::MAX).unwrap_or(if tls_wanted { 8883 } else { 1883 });
    let protocol = s.choice("protocol", &[("5", MqttProtocol::V5), ("3.1.1", MqttProtocol::V311)]).unwrap_or_default();
    let client_id = s.parsed("client_id", plain_name);
    let username = s.text("username");
    let password = read_password(s, around);
    let topics = read_topics(s);
    let maps = read_maps(s, around);
    let receive_maximum = s.integer("receive_maximum", 1..=u16::MAX).unwrap_or(1000);
    let keep_alive = s.duration("keep_alive", 5 * SECOND..=18 * 60 * MINUTE).unwrap_or(30 * SECOND);
    let session_expiry = s.duration("session_expiry", MINUTE..=400 * DAY).unwrap_or(7 * DAY);
    let max_packet_bytes = s.bytes("max_packet_bytes", KIB..=4 * MIB).unwrap_or(256 * KIB);
    let takeover = s.choice("takeover", &[("yield", Takeover::Yield), ("fight", Takeover::Fight)]).unwrap_or_default();
    let broker_stats = s.boolean("broker_stats").unwrap_or(true);
    let receipts = s.parsed("receipts", ReceiptTopic::parse);
    let rate = DeviceRate::default();
    let device_rate = DeviceRate {
        messages_per_s: s.integer("device_messages_per_s", 1..=1_000_000_u32).unwrap_or(rate.messages_per_s),
        burst: s.integer("device_burst", 1..=1_000_000_u32).unwrap_or(rate.burst),
    };
    let allow_plaintext = s.boolean("allow_plaintext").unwrap_or(false);

    if username.is_none() && (s.has("password_file") || s.has("password_env")) {
        s.refuse("username", "is missing beside the password");
    }
    if let Some(host) = &host
        && !is_loopback(host)
        && !allow_plaintext
        && !tls_wanted
    {
        s.refuse(
            "host",
            format_args!(
                "is {host}, to which readings and password would go unencrypted: say `tls = true`, or `allow_plaintext = \
                 true` where the network itself is protected"
            ),
        );
    }
    if protocol == MqttProtocol::V311 && s.has("session_expiry") {
        s.refuse("session_expiry", "cannot be asked for in MQTT 3.1.1: how long a session lasts is set at the broker");
    }
    if tls_wanted && tls.is_none() {
        return None;
    }
    let name = name?;
    Some(MqttBroker {
        client_id: client_id.unwrap_or_else(|| format!("meterlake-{collector}-{name}")),
        name,
        host: host?,
        port,
        protocol,
        tls,
        username,
        password,
        topics: topics?,
        maps: maps?,
        receive_maximum,
        keep_alive,
        session_expiry,
        max_packet_bytes: u32::try_from(max_packet_bytes).unwrap_or(u32::MAX),
        takeover,
        broker_stats,
        receipts,
        device_rate,
        allow_plaintext,
    })
}

/// What the settings allow and a person should know of, one sentence each.
pub(super) fn cautions(brokers: &[MqttBroker]) -> Vec<String> {
    let mut cautions = Vec::new();
    for (at, broker) in brokers.iter().enumerate() {
        let name = &broker.name;
        for topic in broker.topics.iter().filter(|topic| topics::is_shared(topic)) {
            cautions.push(format!(
                "broker `{name}`: \"{topic}\" is shared: the broker deals messages to members that are offline too, and drops \
                 them when a member's session expires; order is kept by no one. Topics of their own for each collector \
                 lose nothing"
            ));
        }
        for other in &brokers[..at] {
            let same = (&other.host, other.port) == (&broker.host, broker.port);
            let pairs = other.topics.iter().flat_map(|a| broker.topics.iter().map(move |b| (a, b)));
            for (a, b) in pairs.filter(|(a, b)| same && topics::overlap(a, b)) {
                let first = &other.name;
                cautions.push(format!(
                    "brokers `{first}` and `{name}` are the same, and \"{a}\" and \"{b}\" overlap: what both match is \
                     collected twice"
                ));
            }
        }
    }
    cautions
}

fn read_topics(s: &mut Section<'_>) -> Option<Vec<String>> {
    let texts = s.texts("topics");
    let texts = s.required("topics", texts)?;
    if texts.is_empty() {
        s.refuse("topics", "is empty; name at least one, such as \"meters/+/readings\"");
    }
    let mut topics: Vec<String> = Vec::new();
    for At { value: topic, line } in texts {
        if let Err(complaint) = topics::check_filter(&topic) {
            s.document().note(line, format!("`mqtt.topics`: \"{topic}\" {complaint}"));
        } else if topics.contains(&topic) {
            s.document().note(line, format!("`mqtt.topics` names \"{topic}\" twice"));
        }
        topics.push(topic);
    }
    Some(topics)
}

fn read_maps(s: &mut Section<'_>, around: &Surroundings<'_>) -> Option<Vec<PayloadMap>> {
    let names = s.texts("maps");
    let names = s.required("maps", names)?;
    if names.is_empty() {
        s.refuse("maps", format_args!("is empty; there are {}", (MAPS.names)().join(", ")));
    }
    let mut maps: Vec<PayloadMap> = Vec::new();
    for At { value: name, line } in names {
        let Some(map) = named(s, ("mqtt.maps", line), &name, around, &MAPS) else { continue };
        if maps.iter().any(|other| other.name == map.name) {
            s.document().note(line, format!("`mqtt.maps` has two maps of the name `{}`", map.name));
        }
        maps.push(map);
    }
    Some(maps)
}

/// Whether a host can only be this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["broker", "0.0.0.0", "10.0.0.1", "localhost.example.org", "::"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
