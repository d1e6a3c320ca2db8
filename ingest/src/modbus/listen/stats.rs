//! Counters of one listener, read by metrics while it runs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use meterlake_config::ModbusListener;

use crate::modbus::stats::LineStats;

/// Lines by name.
type Lines = Arc<[(String, Arc<LineStats>)]>;

/// What one listener did since it started.
#[derive(Debug, Default)]
pub struct ListenStats {
    /// Connections taken.
    pub accepted: AtomicU64,
    /// Connections that could not be taken, mostly for want of open files.
    pub accept_errors: AtomicU64,
    /// Connections that said who they are and may stay.
    pub registered: AtomicU64,
    /// Connections that ended because the same device server called again.
    pub replaced: AtomicU64,
    /// Connections refused since their id is not configured.
    pub unknown: AtomicU64,
    /// Connections refused since they did not say who they are.
    pub unrecognised: AtomicU64,
    /// Connections refused since there were too many.
    pub too_many: AtomicU64,
    lines: Mutex<Lines>,
    address: OnceLock<SocketAddr>,
}

impl ListenStats {
    /// By link, in the order of the configuration that holds now: its line's name and counters. None before it listens.
    pub fn lines(&self) -> Lines {
        Arc::clone(&self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the links of a listener: those that it knows keep their counters. Returns them.
    pub(super) fn follow(&self, listener: &ModbusListener) -> Lines {
        let before = self.lines();
        let known: HashMap<&String, &Arc<LineStats>> = before.iter().map(|(name, line)| (name, line)).collect();
        let lines = listener.links.iter().map(|link| {
            let name = &link.line.name;
            (name.clone(), known.get(name).map(|line| Arc::clone(line)).unwrap_or_default())
        });
        let lines: Lines = lines.collect();
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&lines);
        lines
    }

    /// Links that are connected now.
    pub fn links_up(&self) -> usize {
        self.lines().iter().filter(|(_, line)| line.connected.load(Ordering::Relaxed)).count()
    }

    /// Connections refused, for whatever reason.
    pub fn refused(&self) -> u64 {
        [&self.unknown, &self.unrecognised, &self.too_many].map(|counter| counter.load(Ordering::Relaxed)).iter().sum()
    }

    /// Where it listens, once it does: port 0 takes any that is free.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }

    pub(super) fn set_address(&self, address: SocketAddr) {
        // Set once: counters belong to one listener.
        let _ = self.address.set(address);
    }
}
