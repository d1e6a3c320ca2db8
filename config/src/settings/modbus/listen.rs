//! `[[modbus_listen]]`: ports that device servers behind mobile networks connect to.

use std::net::SocketAddr;
use std::time::Duration;

use super::devices_csv;
use super::packet::PacketPattern;
use super::stagger::{self, Stagger};
use super::{Known, ModbusDevice, ModbusFraming, ModbusLine, ModbusTransport, plain_name, read_devices};
use crate::document::Section;
use crate::quantity::{DAY, HOUR, MILLISECOND, MINUTE, SECOND};
use crate::settings::Surroundings;

/// A port that device servers connect to; each connection is a line.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusListener {
    /// Names it in logs and metrics, and before the `/` in the names of its lines.
    pub name: String,
    /// Address and port to listen at.
    pub bind: SocketAddr,
    /// Form of requests and answers.
    pub framing: ModbusFraming,
    /// The packets with which a device server says who it is; each has an id.
    pub registration: Vec<PacketPattern>,
    /// The packets that it sends to keep the connection alive, each of a fixed length.
    pub heartbeats: Vec<PacketPattern>,
    /// Connections at a time, those that have not said who they are included.
    pub max_links: usize,
    /// Connections at a time from one address.
    pub max_links_per_address: usize,
    /// How long a connection may take to say who it is.
    pub registration_timeout: Duration,
    /// Bytes that it may send until then.
    pub registration_bytes: usize,
    /// A connection that says nothing for so long is ended.
    pub idle_timeout: Duration,
    /// Who may connect.
    pub links: Vec<ModbusLink>,
}

/// A device server that may connect, and the line behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusLink {
    /// The id of its registration packet.
    pub id: String,
    /// Its line, named `LISTENER/ID`.
    pub line: ModbusLine,
}

/// What all lines of a listener have in common.
struct Common {
    listener: String,
    framing: ModbusFraming,
    timeout: Duration,
    pause: Duration,
}

impl Common {
    fn link(&self, id: String, devices: Vec<ModbusDevice>) -> ModbusLink {
        let line = ModbusLine {
            name: format!("{}/{id}", self.listener),
            transport: ModbusTransport::DialIn(self.framing),
            timeout: self.timeout,
            connect_timeout: SECOND,
            pause: self.pause,
            devices,
        };
        ModbusLink { id, line }
    }
}

/// Reads every listener that is complete; what is wrong or missing is noted.
pub(super) fn read_all(
    sections: Vec<Section<'_>>,
    lines: &[ModbusLine],
    around: &Surroundings<'_>,
    known: &mut Known,
) -> Vec<ModbusListener> {
    let mut listeners: Vec<ModbusListener> = Vec::new();
    for mut section in sections {
        let Some(listener) = read(&mut section, around, known) else { continue };
        let names = lines.iter().map(|line| &line.name).chain(listeners.iter().map(|listener| &listener.name));
        if names.into_iter().any(|name| *name == listener.name) {
            section.refuse("name", format_args!("`{}` is given to another line or listener", listener.name));
        }
        if let Some(other) = listeners.iter().find(|other| other.bind == listener.bind && listener.bind.port() != 0) {
            section.refuse("bind", format_args!("{} is that of listener `{}`", listener.bind, other.name));
        }
        listeners.push(listener);
    }
    listeners
}

fn read(s: &mut Section<'_>, around: &Surroundings<'_>, known: &mut Known) -> Option<ModbusListener> {
    let name = s.parsed("name", plain_name);
    let name = s.required("name", name);
    let bind = s.parsed("bind", |text| {
        text.parse().map_err(|_| format!("is \"{text}\"; an address and port such as \"127.0.0.1:5020\" is wanted"))
    });
    let bind: Option<SocketAddr> = s.required("bind", bind);
    let public = s.boolean("allow_public").unwrap_or(false);
    if let Some(bind) = bind.filter(|bind| !bind.ip().is_loopback() && !public) {
        let why = "which other machines reach, and a registration packet proves nothing; let a private network or a \
                   tunnel bring the devices, or say `allow_public = true`";
        s.refuse("bind", format_args!("is {bind}, {why}"));
    }
    let protocols = [("rtu", ModbusFraming::Rtu), ("tcp", ModbusFraming::Tcp)];
    let framing = s.choice("protocol", &protocols).unwrap_or(ModbusFraming::Rtu);
    let registration = read_registration(s);
    let heartbeats = read_heartbeats(s);
    let max_links = s.integer("max_links", 1..=20_000_usize).unwrap_or(2_000);
    let max_links_per_address = s.integer("max_links_per_address", 1..=20_000_usize).unwrap_or(max_links);
    let registration_timeout =
        s.duration("registration_timeout", 100 * MILLISECOND..=5 * MINUTE).unwrap_or(10 * SECOND);
    let registration_bytes = s.integer("registration_bytes", 1..=4_096_usize).unwrap_or(512);
    let idle_timeout = s.duration("idle_timeout", SECOND..=7 * DAY).unwrap_or(HOUR);
    let timeout = s.duration("timeout", 10 * MILLISECOND..=MINUTE).unwrap_or(5 * SECOND);
    let pause = s.duration("pause", Duration::ZERO..=10 * SECOND).unwrap_or_default();
    let stagger = stagger::read(s).unwrap_or(Stagger::Auto);
    let common = Common { listener: name.clone().unwrap_or_default(), framing, timeout, pause };
    let mut links = read_links(s, &common, stagger, around, known);
    links.extend(
        devices_csv::read(s, stagger, &links, around, known).into_iter().map(|(id, devices)| common.link(id, devices)),
    );
    if links.is_empty() && !s.has("link") && !s.has("devices") {
        s.refuse("link", "is missing; name who may connect under [[modbus_listen.link]], or a file of `devices`");
    }
    if links.len() > max_links {
        s.refuse("max_links", format_args!("is {max_links}, and {} device servers may connect", links.len()));
    }
    let quiet = links.iter().flat_map(|link| &link.line.devices).find(|device| device.interval >= idle_timeout);
    if let Some(device) = quiet.filter(|_| heartbeats.is_empty() && registration.is_some()) {
        let meter = &device.meter_id;
        s.refuse("idle_timeout", format_args!("is not above the interval of `{meter}`, and there are no heartbeats"));
    }
    if framing == ModbusFraming::Rtu
        && let Some(link) = links.iter().find(|link| link.line.devices.iter().any(|device| device.unit == 0))
    {
        s.refuse("protocol", format_args!("rtu: `{}` has a device with unit 0, which nobody answers", link.id));
    }
    Some(ModbusListener {
        name: name?,
        bind: bind?,
        framing,
        registration: registration?,
        heartbeats,
        max_links,
        max_links_per_address,
        registration_timeout,
        registration_bytes,
        idle_timeout,
        links,
    })
}

fn read_links(
    s: &mut Section<'_>,
    common: &Common,
    stagger: Stagger,
    around: &Surroundings<'_>,
    known: &mut Known,
) -> Vec<ModbusLink> {
    let mut links: Vec<ModbusLink> = Vec::new();
    for mut section in s.sections("link") {
        let id = section.parsed("id", plain_name);
        let id = section.required("id", id);
        let devices = read_devices(&mut section, "[[modbus_listen.link.device]]", stagger, around, known);
        let Some(id) = id else { continue };
        if links.iter().any(|link| link.id == id) {
            section.refuse("id", format_args!("`{id}` is given to two device servers"));
        }
        links.push(common.link(id, devices));
    }
    links
}

fn read_registration(s: &mut Section<'_>) -> Option<Vec<PacketPattern>> {
    let patterns = read_patterns(s, "registration", |pattern| match pattern.has_id() {
        true => None,
        false => Some("has no {id}: it would not say who calls"),
    });
    let patterns = s.required("registration", patterns)?;
    if patterns.is_empty() {
        return None;
    }
    Some(patterns)
}

fn read_heartbeats(s: &mut Section<'_>) -> Vec<PacketPattern> {
    let patterns = read_patterns(s, "heartbeats", |pattern| match (pattern.length(), pattern.has_bytes()) {
        (None, _) => Some("has an id without a length: where the packet ends could not be told"),
        (_, false) => Some("has no byte that is always the same: anything would be a heartbeat"),
        _ => None,
    });
    patterns.unwrap_or_default()
}

fn read_patterns(
    s: &mut Section<'_>,
    key: &'static str,
    complaint: impl Fn(&PacketPattern) -> Option<&'static str>,
) -> Option<Vec<PacketPattern>> {
    let texts = s.texts(key)?;
    if texts.is_empty() {
        s.refuse(key, "is empty");
    }
    let mut patterns = Vec::new();
    for text in texts {
        let read = PacketPattern::parse(&text.value).and_then(|pattern| match complaint(&pattern) {
            Some(complaint) => Err(format!("\"{}\" {complaint}", text.value)),
            None => Ok(pattern),
        });
        match read {
            Ok(pattern) => patterns.push(pattern),
            Err(complaint) => s.document().note(text.line, format!("`modbus_listen.{key}` {complaint}")),
        }
    }
    Some(patterns)
}
