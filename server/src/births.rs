//! What Sparkplug's births said, kept in the journal's folder, so that a restart and a replay of dead letters know the
//! names that data leave out.
//!
//! Births are kept soon after they changed; the count of messages, by which a collector knows that it missed none, when it
//! stops. What a killed collector did not keep costs one birth of the edge nodes that it concerns, and no reading.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use meterlake_config::MqttBroker;
use meterlake_config::payload_map::Format;
use meterlake_ingest::decode::{Births, SharedBirths};
use tokio::time::MissedTickBehavior;

use crate::kept_file;

/// Between two looks for a change.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// The births of one broker and the file that keeps them.
pub(crate) struct KeptBirths {
    births: SharedBirths,
    /// `None`: nobody speaks Sparkplug there.
    path: Option<PathBuf>,
    /// As the file has it: the change of names, the count of messages.
    kept: (u64, u64),
}

impl KeptBirths {
    /// What is known of a broker's edge nodes; nothing where nothing can be read.
    pub(crate) fn load(journal: &Path, broker: &MqttBroker) -> Self {
        let speaks = broker.maps.iter().any(|map| map.format == Format::SparkplugB);
        let path = speaks.then(|| journal.join(format!("births-{}.bin", broker.name)));
        let births = path.as_deref().map_or_else(Births::new, |path| {
            read(path).unwrap_or_else(|error| {
                let error = format!("{error:#}");
                tracing::warn!(broker = broker.name, error, "the edge nodes are asked to be born again");
                Births::new()
            })
        });
        let kept = (births.revision(), births.messages());
        Self { births: SharedBirths::new(births.into()), path, kept }
    }

    /// To be shared with whoever decodes.
    pub(crate) fn shared(&self) -> SharedBirths {
        SharedBirths::clone(&self.births)
    }

    /// Keeps what changes until `work` has ended, and once more then.
    pub(crate) async fn keep_during<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(KEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            let done = tokio::select! {
                done = &mut work => Some(done),
                _ = ticks.tick() => None,
            };
            match self.keep(done.is_some()).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(error = format!("{error:#}"), "cannot keep the births of edge nodes");
                }
                Err(_) => {}
            }
            if let Some(done) = done {
                return done;
            }
        }
    }

    async fn keep(&mut self, at_the_end: bool) -> anyhow::Result<()> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let (now, bytes) = {
            let births = lock(&self.births);
            let now = (births.revision(), births.messages());
            let due = now.0 != self.kept.0 || at_the_end && now != self.kept;
            if !due {
                return Ok(());
            }
            (now, births.to_bytes())
        };
        tokio::task::spawn_blocking(move || kept_file::replace(&path, &bytes)).await??;
        self.kept = now;
        Ok(())
    }
}

fn lock(births: &SharedBirths) -> MutexGuard<'_, Births> {
    births.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(path: &Path) -> anyhow::Result<Births> {
    match fs::read(path) {
        Ok(bytes) => Births::from_bytes(&bytes).with_context(|| format!("cannot use {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Births::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterlake_config::payload_map::PayloadMap;
    use meterlake_ingest::decode::Decoder;
    use meterlake_model::{MeterDirectory, RawMessage, ReadingBatch};

    /// An `NBIRTH` of one metric, `A` with alias 1, and its count 0.
    const BIRTH: &[u8] = &[0x12, 0x07, 0x0a, 0x01, b'A', 0x10, 0x01, 0x20, 0x08, 0x18, 0x00];

    fn sparkplug() -> Vec<PayloadMap> {
        vec![PayloadMap::shipped("sparkplug-b").unwrap()]
    }

    fn kept(path: &Path) -> KeptBirths {
        KeptBirths {
            births: SharedBirths::new(read(path).unwrap_or_default().into()),
            path: Some(path.to_owned()),
            kept: (0, 0),
        }
    }

    fn born(births: SharedBirths) {
        let message = RawMessage {
            source: "test".into(),
            topic: "spBv1.0/g/NBIRTH/e".into(),
            payload: BIRTH.to_vec(),
            received_at_s: 1_795_255_200,
        };
        let mut out = ReadingBatch::default();
        Decoder::new(births).decode(&sparkplug(), &message, false, &MeterDirectory::default(), &mut out);
        assert!(out.dead_letters.is_empty(), "{:?}", out.dead_letters);
    }

    #[tokio::test(start_paused = true)]
    async fn births_are_kept_soon_and_the_count_of_messages_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("births-b.bin");
        let births = kept(&path);
        let shared = births.shared();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(births.keep_during(stopped));
        born(SharedBirths::clone(&shared));
        while !path.exists() {
            tokio::time::sleep(KEEP_EVERY).await;
        }
        let known = read(&path).unwrap();
        assert_ne!(known, Births::new());
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
        let mut expected = lock(&shared).clone().to_bytes();
        assert_eq!(fs::read(&path).unwrap(), std::mem::take(&mut expected));
    }

    #[test]
    fn a_file_that_was_cut_is_no_births_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("births-b.bin");
        assert_eq!(read(&path).unwrap(), Births::new(), "none yet");
        let births = kept(&path);
        born(births.shared());
        let bytes = lock(&births.births).to_bytes();
        kept_file::replace(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap().to_bytes(), bytes);
        kept_file::replace(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("checksum"));
    }
}
