//! A broker that says what the test tells it to, byte by byte, in as much MQTT as that takes.

use meterlake_config::MqttProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::PATIENCE;

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const SUBSCRIBE: u8 = 0x82;
pub(crate) const UNSUBSCRIBE: u8 = 0xa2;
pub(crate) const PINGREQ: u8 = 0xc0;
pub(crate) const DISCONNECT: u8 = 0xe0;
/// In MQTT 5; what MQTT 3.1.1 says in its place is sent there.
pub(crate) const NOT_AUTHORIZED: u8 = 0x87;

pub(crate) struct FakeBroker {
    listener: TcpListener,
    pub(crate) port: u16,
    protocol: MqttProtocol,
}

pub(crate) struct Connection {
    stream: TcpStream,
    protocol: MqttProtocol,
    /// The body of the CONNECT packet.
    pub(crate) connect: Vec<u8>,
}

/// One packet: first byte and body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) head: u8,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Subscribe {
    pub(crate) id: u16,
    /// Topic filters with their option bytes.
    pub(crate) filters: Vec<(String, u8)>,
}

impl FakeBroker {
    pub(crate) async fn start() -> Self {
        Self::speaking(MqttProtocol::V5).await
    }

    pub(crate) async fn speaking(protocol: MqttProtocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port, protocol }
    }

    /// Accepts a client and reads its CONNECT.
    pub(crate) async fn accept(&self) -> Connection {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a client in time").unwrap();
        let mut connection = Connection { stream, protocol: self.protocol, connect: Vec::new() };
        let packet = connection.packet().await.expect("a CONNECT");
        assert_eq!(packet.head, 0x10);
        connection.connect = packet.body;
        connection
    }

    /// Accepts a client, lets it in and grants what it asks for.
    pub(crate) async fn welcome(&self, session_present: bool) -> Connection {
        let mut connection = self.accept().await;
        connection.connack(session_present, 0).await;
        let subscribe = connection.subscribe().await;
        connection.suback(&subscribe, &vec![1; subscribe.filters.len()]).await;
        connection
    }
}

impl Connection {
    /// The next packet, without pings; `None` at the end.
    pub(crate) async fn packet(&mut self) -> Option<Packet> {
        loop {
            let head = timeout(PATIENCE, self.stream.read_u8()).await.expect("a packet in time").ok()?;
            let (mut length, mut shift) = (0_usize, 0);
            loop {
                let byte = self.stream.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            if head == PINGREQ {
                self.send(&[0xd0, 0]).await;
                continue;
            }
            return Some(Packet { head, body });
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn connack(&mut self, session_present: bool, code: u8) {
        let session = u8::from(session_present);
        match (self.protocol, code) {
            (MqttProtocol::V5, _) => self.send(&[0x20, 3, session, code, 0]).await,
            (MqttProtocol::V311, NOT_AUTHORIZED) => self.send(&[0x20, 2, session, 5]).await,
            (MqttProtocol::V311, _) => self.send(&[0x20, 2, session, code]).await,
        }
    }

    pub(crate) async fn subscribe(&mut self) -> Subscribe {
        let Packet { head, body } = self.packet().await.expect("a SUBSCRIBE");
        assert_eq!(head, SUBSCRIBE);
        let id = u16::from_be_bytes([body[0], body[1]]);
        let mut rest = match self.protocol {
            MqttProtocol::V5 => {
                assert!(body[2] < 0x80, "short properties");
                &body[3 + usize::from(body[2])..]
            }
            MqttProtocol::V311 => &body[2..],
        };
        let mut filters = Vec::new();
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            filters.push((String::from_utf8(rest[2..2 + length].to_vec()).unwrap(), rest[2 + length]));
            rest = &rest[3 + length..];
        }
        Subscribe { id, filters }
    }

    pub(crate) async fn suback(&mut self, subscribe: &Subscribe, codes: &[u8]) {
        let mut body = subscribe.id.to_be_bytes().to_vec();
        if self.protocol == MqttProtocol::V5 {
            body.push(0);
        }
        body.extend(codes.iter().map(|code| match (self.protocol, *code) {
            (MqttProtocol::V311, NOT_AUTHORIZED) => 0x80,
            (_, code) => code,
        }));
        let mut packet = vec![0x90, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        self.send(&packet).await;
    }

    /// The next packet, which takes topics back: its id and they.
    pub(crate) async fn unsubscribe(&mut self) -> (u16, Vec<String>) {
        let Packet { head, body } = self.packet().await.expect("an UNSUBSCRIBE");
        assert_eq!(head, UNSUBSCRIBE);
        let mut rest = match self.protocol {
            MqttProtocol::V5 => {
                assert_eq!(body[2], 0, "no properties");
                &body[3..]
            }
            MqttProtocol::V311 => &body[2..],
        };
        let mut filters = Vec::new();
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            filters.push(String::from_utf8(rest[2..2 + length].to_vec()).unwrap());
            rest = &rest[2 + length..];
        }
        (u16::from_be_bytes([body[0], body[1]]), filters)
    }

    /// Answers that, in MQTT 5 with a reason for each topic.
    pub(crate) async fn unsuback(&mut self, id: u16, codes: &[u8]) {
        let mut body = id.to_be_bytes().to_vec();
        if self.protocol == MqttProtocol::V5 {
            body.push(0);
            body.extend(codes);
        }
        let mut packet = vec![0xb0, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        self.send(&packet).await;
    }

    pub(crate) async fn publish(&mut self, id: u16, meter: &str, payload: &str) {
        self.send(&self.message(id, meter, payload.as_bytes())).await;
    }

    /// A PUBLISH at QoS 1, or at QoS 0 where the id is 0, of a meter's readings.
    pub(crate) fn message(&self, id: u16, meter: &str, payload: &[u8]) -> Vec<u8> {
        publish(self.protocol, id, false, &format!("meterlake/v1/{meter}/readings"), payload)
    }

    pub(crate) async fn publish_on(&mut self, topic: &str, id: u16, retained: bool, payload: &[u8]) {
        self.send(&publish(self.protocol, id, retained, topic, payload)).await;
    }

    /// The packet ids of the next acknowledgements.
    pub(crate) async fn pubacks(&mut self, count: usize) -> Vec<u16> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let packet = self.packet().await.expect("a PUBACK");
            assert_eq!(packet.head, PUBACK);
            ids.push(u16::from_be_bytes([packet.body[0], packet.body[1]]));
        }
        ids
    }

    /// Every acknowledgement until the client is gone or takes leave.
    pub(crate) async fn pubacks_to_the_end(&mut self) -> Vec<u16> {
        let mut ids = Vec::new();
        while let Some(packet) = self.packet().await {
            if packet.head == DISCONNECT {
                break;
            }
            assert_eq!(packet.head, PUBACK);
            ids.push(u16::from_be_bytes([packet.body[0], packet.body[1]]));
        }
        ids
    }
}

fn publish(protocol: MqttProtocol, id: u16, retained: bool, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    if id > 0 {
        body.extend(id.to_be_bytes());
    }
    if protocol == MqttProtocol::V5 {
        body.push(0);
    }
    body.extend(payload);
    let mut packet = vec![if id > 0 { 0x32 } else { 0x30 } | u8::from(retained)];
    let mut length = body.len();
    loop {
        let digit = u8::try_from(length & 0x7f).unwrap();
        length >>= 7;
        packet.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}
