//! Which topic filters the session holds at the broker, and which of them nobody wants any more.
//!
//! A broker keeps the filters of a lasting session until they are taken back: whatever matches one is queued and delivered, also
//! when nobody asks for it any more, and the broker tells nobody what it keeps. So what a session may hold is written down
//! before it is asked for, and forgotten only when the broker has said that it is gone.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meterlake_config::MqttBroker;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::broker_word;
use super::stats::MqttStats;

/// Filters that are remembered beyond those that are wanted.
const MOST_UNWANTED: usize = 1_000;
/// Some brokers may close the connection instead of answering. After so many in a row they are not asked again before the
/// next start.
const UNANSWERED: u32 = 3;

/// Keeps what a session may hold beyond the life of the process.
pub trait FilterStore: Send + Sync {
    /// What was saved last; `None` where nothing is known, be it that nothing was saved yet.
    fn load(&self) -> Option<BTreeSet<String>>;

    /// Saves the filters, whole or not at all, and so that they outlast a loss of power.
    ///
    /// # Errors
    /// When they cannot be saved; what was saved before still holds.
    fn save(&self, filters: &BTreeSet<String>) -> io::Result<()>;
}

/// The filters of one session. Only its connection changes them.
pub(super) struct Filters {
    broker: String,
    wanted: BTreeSet<String>,
    store: Option<Arc<dyn FilterStore>>,
    stats: Arc<MqttStats>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the store has; `None` before it was asked, or where it has nothing.
    saved: Option<BTreeSet<String>>,
    is_loaded: bool,
    /// What the session may hold.
    held: BTreeSet<String>,
    /// What the broker was asked to forget on this connection and has not answered.
    asked: Vec<String>,
    /// Connections in a row that ended before it answered.
    unanswered: u32,
    cannot_save: bool,
}

impl Filters {
    pub(super) fn new(broker: &MqttBroker, store: Option<Arc<dyn FilterStore>>, stats: Arc<MqttStats>) -> Self {
        let word = broker.broker_stats.then(|| broker_word::DROPPED.to_owned());
        Self {
            broker: broker.name.clone(),
            wanted: broker.topics.iter().cloned().chain(word).collect(),
            store,
            stats,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before the session is asked for anything: writes down what it may hold from now on.
    pub(super) async fn about_to_subscribe(&self, session_is_present: bool) {
        let Some(store) = &self.store else { return };
        if !self.state().is_loaded {
            let store = Arc::clone(store);
            let saved = spawn_blocking(move || store.load()).await.ok().flatten();
            let mut state = self.state();
            (state.saved, state.is_loaded) = (saved, true);
        }
        let mut held = self.wanted.clone();
        if session_is_present {
            let mut unwanted = BTreeSet::new();
            {
                let state = self.state();
                let known = state.saved.iter().flatten().chain(&state.held);
                unwanted.extend(known.filter(|filter| !self.wanted.contains(*filter)).cloned());
            }
            if unwanted.len() > MOST_UNWANTED {
                warn!(
                    broker = self.broker,
                    filters = unwanted.len(),
                    most = MOST_UNWANTED,
                    "the session may hold more filters than are remembered, none of them wanted: take another client id"
                );
            }
            held.extend(unwanted.into_iter().take(MOST_UNWANTED));
        }
        self.hold(held).await;
    }

    /// What the broker is to be asked to forget, now that all that is wanted was granted.
    pub(super) fn to_forget(&self) -> Vec<String> {
        let mut state = self.state();
        if state.unanswered >= UNANSWERED {
            return Vec::new();
        }
        state.asked = state.held.difference(&self.wanted).cloned().collect();
        state.asked.clone()
    }

    /// The broker answered, for each filter; `None` where one answer is for all.
    pub(super) async fn forgotten(&self, answers: Option<Vec<Result<(), String>>>) {
        let (asked, mut held) = {
            let mut state = self.state();
            state.unanswered = 0;
            (std::mem::take(&mut state.asked), state.held.clone())
        };
        for (at, filter) in asked.iter().enumerate() {
            let answer = answers
                .as_ref()
                .map_or(Ok(()), |answers| answers.get(at).cloned().unwrap_or_else(|| Err("no answer".to_owned())));
            match answer {
                Ok(()) => {
                    held.remove(filter);
                    info!(broker = self.broker, filter, "unsubscribed");
                }
                Err(reason) => {
                    warn!(broker = self.broker, filter, reason, "the broker goes on with a filter that nobody wants");
                }
            }
        }
        self.hold(held).await;
    }

    /// The connection ended.
    pub(super) fn ended(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.asked).is_empty() {
            return;
        }
        state.unanswered += 1;
        if state.unanswered == UNANSWERED {
            warn!(
                broker = self.broker,
                connections = UNANSWERED,
                "the broker does not answer when it is to forget filters: it is not asked again before the next start"
            );
        }
    }

    /// Writes down what the session may hold. Where that fails readings go on: what is lost is that a filter may stay behind.
    async fn hold(&self, held: BTreeSet<String>) {
        MqttStats::set(&self.stats.filters_unwanted, held.difference(&self.wanted).count());
        let is_saved = {
            let mut state = self.state();
            state.held.clone_from(&held);
            state.saved.as_ref() == Some(&held)
        };
        let Some(store) = self.store.as_ref().filter(|_| !is_saved) else { return };
        let (store, saving) = (Arc::clone(store), held.clone());
        let saved = spawn_blocking(move || store.save(&saving)).await;
        let mut state = self.state();
        match saved.unwrap_or_else(|join| Err(io::Error::other(join))) {
            Ok(()) => (state.saved, state.cannot_save) = (Some(held), false),
            Err(error) if !std::mem::replace(&mut state.cannot_save, true) => {
                warn!(broker = self.broker, %error, "cannot keep what the session holds: a topic that is taken out may stay");
            }
            Err(_) => {}
        }
    }
}
