//! `[[mqtt]]`: brokers, what to subscribe to there, and how its payloads are read.

use std::net::IpAddr;
use std::time::Duration;

use super::collect::plain_name;
use super::secret::read_password;
use super::{Named, Secret, Surroundings, named};
use crate::document::{At, Section};
use crate::payload_map::PayloadMap;
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
    /// A larger packet is refused.
    pub max_packet_bytes: u32,
    /// Whether messages and password may cross a network unencrypted.
    pub allow_plaintext: bool,
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
    let port = s.integer("port", 1..=u16::MAX).unwrap_or(1883);
    let client_id = s.parsed("client_id", plain_name);
    let username = s.text("username");
    let password = read_password(s, around);
    let topics = read_topics(s);
    let maps = read_maps(s, around);
    let receive_maximum = s.integer("receive_maximum", 1..=u16::MAX).unwrap_or(1000);
    let keep_alive = s.duration("keep_alive", 5 * SECOND..=18 * 60 * MINUTE).unwrap_or(30 * SECOND);
    let session_expiry = s.duration("session_expiry", MINUTE..=400 * DAY).unwrap_or(7 * DAY);
    let max_packet_bytes = s.bytes("max_packet_bytes", KIB..=16 * MIB).unwrap_or(256 * KIB);
    let allow_plaintext = s.boolean("allow_plaintext").unwrap_or(false);

    if username.is_none() && (s.has("password_file") || s.has("password_env")) {
        s.refuse("username", "is missing beside the password");
    }
    if let Some(host) = &host
        && !is_loopback(host)
        && !allow_plaintext
    {
        s.refuse(
            "host",
            format_args!(
                "is {host}, to which readings and password would go unencrypted: TLS is not built in yet; go through a \
                 tunnel on 127.0.0.1, or say `allow_plaintext = true` where the network itself is protected"
            ),
        );
    }
    let name = name?;
    Some(MqttBroker {
        client_id: client_id.unwrap_or_else(|| format!("meterlake-{collector}-{name}")),
        name,
        host: host?,
        port,
        username,
        password,
        topics: topics?,
        maps: maps?,
        receive_maximum,
        keep_alive,
        session_expiry,
        max_packet_bytes: u32::try_from(max_packet_bytes).unwrap_or(u32::MAX),
        allow_plaintext,
    })
}

fn read_topics(s: &mut Section<'_>) -> Option<Vec<String>> {
    let texts = s.texts("topics");
    let texts = s.required("topics", texts)?;
    if texts.is_empty() {
        s.refuse("topics", "is empty; name at least one, such as \"meters/+/readings\"");
    }
    let mut topics: Vec<String> = Vec::new();
    for At { value: topic, line } in texts {
        if let Err(complaint) = check_filter(&topic) {
            s.document().note(line, format!("`mqtt.topics`: \"{topic}\" {complaint}"));
        } else if topics.contains(&topic) {
            s.document().note(line, format!("`mqtt.topics` names \"{topic}\" twice"));
        }
        topics.push(topic);
    }
    Some(topics)
}

/// The rules of MQTT 5 for topic filters (4.7, 4.8.2).
fn check_filter(filter: &str) -> Result<(), &'static str> {
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
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
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
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["broker", "0.0.0.0", "10.0.0.1", "localhost.example.org", "::"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
