//! Bytes to packets.
//!
//! Messages are read here and not by the codec: their properties say nothing to us, so none that it cannot read may end
//! a connection, after which the broker would send the same message again, for ever. A message larger than what we keep
//! never stands in memory whole.

use bytes::{Buf, Bytes, BytesMut};
use meterlake_config::MqttBroker;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::source::{Message, Packet, SourceError};
use super::packet::{Codec, Incoming, no_mqtt};
use super::stream;

/// What is read at once.
const READ: usize = 64 * 1024;
/// Of a larger message, only so much is kept.
pub(super) const KEPT_PAYLOAD: usize = 4 << 20;
/// With a longest topic before it, and properties.
const KEPT_PACKET: usize = KEPT_PAYLOAD + 128 * 1024;
/// Of everything that is not a message; the answer to a subscription of many topics is the longest.
const LONGEST_ANSWER: usize = 256 * 1024;

pub(super) struct Reader {
    socket: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    codec: Codec,
    broker: MqttBroker,
    /// The rest of a message that is too large to be kept.
    skipping: Option<Skipping>,
}

struct Skipping {
    left: usize,
    message: Message,
}

impl Reader {
    pub(super) fn new(socket: Box<dyn AsyncRead + Send + Unpin>, codec: Codec, broker: MqttBroker) -> Self {
        Self { socket, buffer: BytesMut::with_capacity(READ), codec, broker, skipping: None }
    }

    /// A packet that is already here.
    pub(super) fn buffered(&mut self) -> Result<Option<Incoming>, SourceError> {
        if let Some(skipping) = &mut self.skipping {
            let gone = skipping.left.min(self.buffer.len());
            self.buffer.advance(gone);
            skipping.left -= gone;
            let whole = self.skipping.take_if(|skipping| skipping.left == 0);
            return Ok(whole.map(|skipping| Incoming::Message(skipping.message)));
        }
        let Some(head) = Head::read(&self.buffer)? else { return Ok(None) };
        let kept = head.rest.min(if head.is_message() { KEPT_PACKET } else { head.rest });
        if !head.is_message() && head.rest > LONGEST_ANSWER {
            return Err(no_mqtt(&format_args!("an answer of {} bytes", head.rest)));
        }
        if self.buffer.len() < head.length + kept {
            return Ok(None);
        }
        let mut packet = self.buffer.split_to(head.length + kept);
        if !head.is_message() {
            return self.codec.read(&mut packet, &self.broker).map(Some);
        }
        packet.advance(head.length);
        let left = head.rest - kept;
        let message = message(head.first, packet.freeze(), left, self.codec.has_properties())?;
        if left > 0 {
            self.skipping = Some(Skipping { left, message });
            return self.buffered();
        }
        Ok(Some(Incoming::Message(message)))
    }

    /// Whether a packet has begun to come in.
    pub(super) fn is_amid_a_packet(&self) -> bool {
        self.skipping.is_some() || !self.buffer.is_empty()
    }

    /// Waits for more bytes. May be dropped while it waits.
    pub(super) async fn more(&mut self) -> Result<(), SourceError> {
        self.buffer.reserve(READ);
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(SourceError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(stream::broken(&error)),
        }
    }

    pub(super) async fn packet(&mut self) -> Result<Incoming, SourceError> {
        loop {
            match self.buffered()? {
                Some(packet) => return Ok(packet),
                None => self.more().await?,
            }
        }
    }
}

/// The beginning of a packet.
struct Head {
    first: u8,
    /// Bytes of the head itself.
    length: usize,
    /// Bytes that follow it.
    rest: usize,
}

impl Head {
    /// `None` while it is not all here.
    fn read(bytes: &[u8]) -> Result<Option<Self>, SourceError> {
        let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
        match number(rest)? {
            Some((rest, length)) => Ok(Some(Self { first: *first, length: 1 + length, rest })),
            None => Ok(None),
        }
    }

    fn is_message(&self) -> bool {
        self.first >> 4 == 3
    }
}

/// A number of one to four digits to the base of 128, the lowest first, and how many digits it has.
pub(super) fn number(bytes: &[u8]) -> Result<Option<(usize, usize)>, SourceError> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(no_mqtt(&"a length of more than four digits")) }
}

/// A message without its head, of which the last `cut` bytes are missing.
fn message(first: u8, mut body: Bytes, cut: usize, has_properties: bool) -> Result<Message, SourceError> {
    let torn = || no_mqtt(&"a message that ends in its topic");
    let topic_length = usize::from(body.try_get_u16().map_err(|_| torn())?);
    if body.len() < topic_length {
        return Err(torn());
    }
    let topic = body.split_to(topic_length);
    // Without an alias, which we did not allow, nobody knows what an empty topic stands for.
    if topic.is_empty() {
        return Err(SourceError::Lost("the broker sent a message without a topic".to_owned()));
    }
    let packet = match (first >> 1) & 3 {
        0 => None,
        quality @ 1..=2 => {
            let id = body.try_get_u16().map_err(|_| torn())?;
            Some(Packet { id, exactly_once: quality == 2 })
        }
        _ => return Err(no_mqtt(&"a message of QoS 3")),
    };
    let mut size = body.len() + cut;
    if has_properties {
        let (length, digits) = number(&body)?.ok_or_else(torn)?;
        size = size.checked_sub(digits + length).ok_or_else(torn)?;
        // Properties so long that they were cut leave nothing of the payload.
        body.advance((digits + length).min(body.len()));
    }
    Ok(Message { topic, payload: body, size, packet, retained: first & 1 == 1 })
}

#[cfg(test)]
mod tests;
