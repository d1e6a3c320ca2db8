//! Messages that were kept, read once more: the way from a topic to readings.

use meterlake_config::{Config, ModbusLine, MqttBroker};
use meterlake_ingest::decode::Decoder;
use meterlake_ingest::modbus;
use meterlake_model::{MeterDirectory, RawMessage, ReadingBatch};

use crate::setup;

/// The present maps, profiles and registry.
pub(crate) struct Messages {
    /// Each with what its earlier messages said.
    brokers: Vec<(MqttBroker, Decoder)>,
    lines: Vec<ModbusLine>,
    directory: MeterDirectory,
}

impl Messages {
    /// # Errors
    /// When the registry is there and cannot be read.
    pub(crate) async fn new(config: &Config) -> anyhow::Result<Self> {
        let directory = match setup::open_lake(config) {
            Ok(lake) => lake.read_registry(None).await?.directory(),
            // No lake yet: every meter is unknown.
            Err(_) => MeterDirectory::default(),
        };
        let brokers = config.mqtt.iter().map(|broker| (broker.clone(), Decoder::default())).collect();
        Ok(Self { brokers, lines: config.modbus_lines().cloned().collect(), directory })
    }

    /// What a message says.
    pub(super) fn read(&mut self, message: &RawMessage) -> ReadingBatch {
        let mut batch = self.decode(message);
        // It was read when it came: what is refused now is not a dead letter of this lake.
        batch.dead_letters.clear();
        batch.raw.clear();
        batch
    }

    /// What a message says, or why it is refused now. Messages are to be handed over in order of receipt.
    pub(crate) fn decode(&mut self, message: &RawMessage) -> ReadingBatch {
        let mut batch = ReadingBatch::default();
        match self.brokers.iter_mut().find(|(broker, _)| broker.name == *message.source) {
            // Whether it was retained is known at its arrival only.
            Some((broker, decoder)) => {
                decoder.decode(&broker.maps, message, false, &self.directory, &mut batch);
            }
            None => modbus::replay(&self.lines, message, &self.directory, &mut batch),
        }
        batch
    }

    /// What to tell of sources whose good messages are not kept; `None` when all are.
    pub(super) fn unkept(&self, config: &Config) -> Option<String> {
        let maps = config.mqtt.iter().flat_map(|broker| &broker.maps).filter(|map| !map.keep_raw);
        let profiles = config.modbus_lines().flat_map(|line| &line.devices).map(|device| &device.profile);
        let profiles = profiles.filter(|profile| !profile.keep_raw).map(|profile| profile.name.clone());
        let mut names: Vec<_> = maps.map(|map| map.name.clone()).chain(profiles).collect();
        names.sort_unstable();
        names.dedup();
        (!names.is_empty()).then(|| {
            let names = names.join(", ");
            format!(
                "by topic only dead letters can be shown of {names}: `keep_raw = true` there keeps what could be read"
            )
        })
    }
}
