//! Which topic filters the lasting sessions may hold: a small file in the journal's folder for each session, by client id
//! and address, so that it outlives the name that the configuration gives the broker.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meterlake_config::MqttBroker;
use meterlake_ingest::mqtt::FilterStore;
use serde::{Deserialize, Serialize};

use crate::kept_file;

/// The file of one session.
pub(crate) struct KeptFilters {
    path: PathBuf,
    session: Session,
}

/// Whose the file is: names and addresses together may be longer than the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    host: String,
    port: u16,
    client_id: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    session: Session,
    filters: BTreeSet<String>,
}

impl KeptFilters {
    /// That of a broker's session, whether it is there or not.
    pub(crate) fn of(journal: &Path, broker: &MqttBroker) -> Self {
        let session = Session { host: broker.host.clone(), port: broker.port, client_id: broker.client_id.clone() };
        let path = journal.join(format!("session-{:016x}.json", session.hash()));
        Self { path, session }
    }

    fn read(&self) -> anyhow::Result<Option<BTreeSet<String>>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        };
        let content: Content =
            serde_json::from_slice(&bytes).with_context(|| format!("cannot use {}", self.path.display()))?;
        // Of two sessions with one hash the newer has the file.
        Ok((content.session == self.session).then_some(content.filters))
    }
}

impl Session {
    /// FNV-1a; the file's name hangs on it.
    fn hash(&self) -> u64 {
        let text = format!("{}\n{}\n{}", self.host, self.port, self.client_id);
        text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
    }
}

impl FilterStore for KeptFilters {
    fn load(&self) -> Option<BTreeSet<String>> {
        self.read().unwrap_or_else(|error| {
            let (client_id, error) = (&self.session.client_id, format!("{error:#}"));
            tracing::warn!(
                client_id,
                error,
                "not known what the session holds: topics that were taken out stay with it"
            );
            None
        })
    }

    fn save(&self, filters: &BTreeSet<String>) -> io::Result<()> {
        let content = Content { session: self.session.clone(), filters: filters.clone() };
        kept_file::replace(&self.path, &serde_json::to_vec_pretty(&content)?).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterlake_config::Config;

    fn broker(keys: &str) -> MqttBroker {
        let text = format!("[[mqtt]]\nname = 'yard'\ntopics = ['a/b']\nmaps = ['meterlake-json']\n{keys}");
        let config = Config::parse(&text, Path::new("")).unwrap_or_else(|errors| panic!("{errors}"));
        config.mqtt.into_iter().next().unwrap()
    }

    fn filters(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_session_has_its_own_file_whatever_the_broker_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let kept = |keys: &str| KeptFilters::of(folder.path(), &broker(keys));
        let one = kept("host = '127.0.0.1'\nclient_id = 'yard.1'");
        assert_eq!(one.load(), None);
        one.save(&filters(&["x", "$share/g/y/#"])).unwrap();
        for other in [
            "host = '127.0.0.2'\nclient_id = 'yard.1'",
            "host = '127.0.0.1'\nclient_id = 'b'",
            "host = '127.0.0.1'\nport = 1884\nclient_id = 'yard.1'",
        ] {
            assert_eq!(kept(other).load(), None, "{other}");
        }
        let renamed = KeptFilters { path: one.path.clone(), session: one.session.clone() };
        assert_eq!(renamed.load(), Some(filters(&["x", "$share/g/y/#"])));
        one.save(&filters(&["x"])).unwrap();
        assert_eq!(one.load(), Some(filters(&["x"])));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing stays beside it");
    }

    #[test]
    fn a_file_of_another_session_or_of_no_sense_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ours = KeptFilters::of(folder.path(), &broker("host = '127.0.0.1'"));
        ours.save(&filters(&["x"])).unwrap();
        let mut other = KeptFilters::of(folder.path(), &broker("host = '127.0.0.1'\nclient_id = 'other'"));
        other.path.clone_from(&ours.path);
        assert_eq!(other.load(), None);
        std::fs::write(&ours.path, "{\"session\"").unwrap();
        assert_eq!(ours.load(), None);
        ours.save(&filters(&["y"])).unwrap();
        assert_eq!(ours.load(), Some(filters(&["y"])));
    }
}
