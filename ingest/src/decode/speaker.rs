//! Who speaks: topic, payload and registry must agree.

use std::borrow::Cow;

use meterlake_config::payload_map::{PayloadMap, Piece, Start, TopicParts};
use meterlake_model::{DeadReason, MeterDirectory, MeterEntry, MeterId};

use super::Refusal;
use super::document::{Kind, Value, shortened};
use super::find::Places;

/// Who speaks, as topic, payload and registry agree.
pub(super) struct Speaker<'a> {
    pub(super) id: MeterId,
    pub(super) entry: Option<&'a MeterEntry>,
}

/// What a message says of its sender.
#[derive(Default)]
pub(super) struct Claims<'c> {
    /// The meter by the topic.
    pub(super) topic: Option<Cow<'c, str>>,
    /// The meter by the payload.
    pub(super) named: Option<Cow<'c, str>>,
    /// The topic may say this instead of the meter's name.
    pub(super) topic_bears_other: bool,
    /// The meter's serial number.
    pub(super) serial: Option<Cow<'c, str>>,
    /// The gateway by the topic.
    pub(super) topic_gateway: Option<&'c str>,
    /// The gateway by the payload.
    pub(super) gateway: Option<Cow<'c, str>>,
}

impl<'c> Claims<'c> {
    /// Of a topic alone.
    pub(super) fn of_topic(map: &'c PayloadMap, parts: &TopicParts<'c>) -> Self {
        Self { topic: by_topic(map, parts), topic_gateway: parts.gateway(), ..Self::default() }
    }

    /// Of a reading; `named` is what stands at the map's path of the meter.
    pub(super) fn of_reading(
        map: &'c PayloadMap,
        places: &Places<'c>,
        named: Option<Value<'c>>,
    ) -> Result<Self, Refusal> {
        let rule = &map.meter;
        let mut claims = Self::of_topic(map, places.topic);
        claims.named = named.map(name_of).transpose()?.map(|name| match &rule.strip_prefix {
            Some(prefix) => stripped(name, prefix),
            None => name,
        });
        if let Some(topic) = &claims.topic {
            for path in &rule.topic_may_be {
                claims.topic_bears_other |= places.find(path)?.is_some_and(|value| value.unescaped() == *topic);
            }
        }
        if let Some(path) = &rule.serial {
            claims.serial = places.find(path)?.map(Value::unescaped);
        }
        if let Some(path) = &rule.gateway {
            claims.gateway = places.find(path)?.map(Value::unescaped);
        }
        Ok(claims)
    }

    /// Who it is.
    pub(super) fn agreed<'d>(self, map: &PayloadMap, directory: &'d MeterDirectory) -> Result<Speaker<'d>, Refusal> {
        let gateway = self.gateway()?.map(str::to_owned);
        let serial = self.serial.clone();
        let id = self.name(map)?;
        let (id, entry) = match directory.get_key(&id) {
            Some((id, entry)) => (id.clone(), Some(entry)),
            None => {
                let id = MeterId::new(&id).map_err(|error| Refusal::new(DeadReason::BadMeterId, error.to_string()))?;
                (id, None)
            }
        };
        if let (Some(serial), Some(registered)) = (serial, entry.and_then(|entry| entry.serial.as_deref()))
            && serial != registered
        {
            return Err(identity(format!(
                "the message bears serial number `{}`, the registry knows meter `{id}` as `{registered}`",
                shortened(&serial)
            )));
        }
        if let (Some(gateway), Some(registered)) = (gateway, entry.and_then(|entry| entry.gateway.as_deref()))
            && gateway != registered
        {
            return Err(identity(format!(
                "the message came by gateway `{}`, the registry knows meter `{id}` behind `{registered}`",
                shortened(&gateway)
            )));
        }
        Ok(Speaker { id, entry })
    }

    /// The gateway that topic and payload name.
    pub(super) fn gateway(&self) -> Result<Option<&str>, Refusal> {
        match (self.topic_gateway, self.gateway.as_deref()) {
            (Some(topic), Some(named)) if topic != named => Err(identity(format!(
                "the topic speaks of gateway `{}`, the payload of `{}`",
                shortened(topic),
                shortened(named)
            ))),
            (Some(topic), _) => Ok(Some(topic)),
            (None, named) => Ok(named),
        }
    }

    fn name(self, map: &PayloadMap) -> Result<Cow<'c, str>, Refusal> {
        match (self.topic, self.named) {
            (Some(topic), Some(named)) if topic != named && !self.topic_bears_other => Err(identity(format!(
                "the topic speaks of meter `{}`, the payload of `{}`",
                shortened(&topic),
                shortened(&named)
            ))),
            (_, Some(named)) => Ok(named),
            // Where the topic may bear something else, it alone does not say who speaks.
            (Some(topic), None) if map.meter.topic_may_be.is_empty() => Ok(topic),
            (_, None) => {
                let path = map.meter.path.as_ref().map(|path| format!(" `{path}`")).unwrap_or_default();
                Err(Refusal::new(DeadReason::MissingField, format!("the meter's name{path} is missing")))
            }
        }
    }
}

/// Whether what a reading says of its speaker beside the name can change from one reading to the next.
pub(super) fn varies(map: &PayloadMap) -> bool {
    let rule = &map.meter;
    let paths = [&rule.serial, &rule.gateway].into_iter().flatten().chain(&rule.topic_may_be);
    paths.into_iter().any(|path| matches!(path.start, Start::Reading | Start::Parent))
}

fn by_topic<'c>(map: &'c PayloadMap, parts: &TopicParts<'c>) -> Option<Cow<'c, str>> {
    match &map.meter.template[..] {
        [] => parts.meter().map(Cow::Borrowed),
        [Piece::Text(text)] => Some(Cow::Borrowed(text)),
        pieces => Some(
            pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.as_str(),
                    Piece::Topic(name) => parts.get(name).unwrap_or_default(),
                })
                .collect::<String>()
                .into(),
        ),
    }
}

fn identity(detail: String) -> Refusal {
    Refusal::new(DeadReason::Identity, detail)
}

fn stripped<'c>(name: Cow<'c, str>, prefix: &str) -> Cow<'c, str> {
    match name {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(prefix).unwrap_or(text)),
        Cow::Owned(text) => Cow::Owned(text.strip_prefix(prefix).unwrap_or(&text).to_owned()),
    }
}

/// The name of a meter: text, or a number as it is written.
fn name_of(value: Value<'_>) -> Result<Cow<'_, str>, Refusal> {
    match value.kind() {
        Kind::Text { .. } => Ok(value.unescaped()),
        Kind::Number if value.raw().bytes().all(|byte| byte.is_ascii_digit()) => Ok(Cow::Borrowed(value.raw())),
        _ => Err(Refusal::new(DeadReason::BadMeterId, format!("the meter's name is {}", value.described()))),
    }
}
