//! A machine that loses power: it knows which bytes and names were synced, and forgets of the others what it likes.
//!
//! The journal and the lake do their work on real files, so nothing that is tested is replaced; what a power cut leaves
//! is written over them afterwards. Of bytes that were not synced each sector of 512 stays or goes by itself, and so
//! does each name. A failed sync leaves its bytes unsynced for good, as Linux does, which takes the pages for clean.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::random::Random;

const SECTOR: usize = 512;
/// Where what a killed process would have left lies until the restart.
const ASIDE: &str = "aside";

/// How the machine or the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// `kill -9`: what was written is there.
    Process,
    /// Power cut: what was not synced may be gone.
    Machine,
}

/// One call that the machine can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Op {
    /// The journal makes, opens or cuts a file.
    File,
    /// The journal writes.
    Write,
    /// The journal syncs a file or folder.
    Sync,
    /// The journal removes a segment.
    Remove,
    /// The lake's store puts an object.
    Put,
    /// The lake's store syncs a file or folder below a put.
    PutSync,
    /// The lake's store deletes.
    Delete,
    /// The lake's store reads or lists.
    Read,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Pass,
    /// It fails and has no effect.
    Before,
    /// It takes effect and fails nevertheless.
    After,
    /// A write takes a part only, without an error.
    Short,
    /// No space for this call and the next ones.
    Full,
    /// The process is killed at it, before or after its effect.
    Kill(bool),
    /// The power goes at it, before or after its effect.
    Cut(bool),
}

/// How often what goes wrong, in a thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) disk: usize,
    pub(crate) store: usize,
    pub(crate) reads: usize,
    pub(crate) kill: usize,
    pub(crate) cut: usize,
}

/// One fault at one call, for runs that go through all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strike {
    pub(crate) op: Op,
    pub(crate) nth: usize,
    pub(crate) fate: Fate,
}

struct Synced {
    bytes: Vec<u8>,
    /// Keeps the number of the file from being used again.
    _file: File,
    /// A sync failed with these sectors in it: they are never brought to disk unless written again.
    lost: BTreeSet<usize>,
}

impl Synced {
    fn nothing(file: &File) -> Self {
        Self { bytes: Vec::new(), _file: file.try_clone().unwrap(), lost: BTreeSet::new() }
    }

    /// A sector as it is on disk, so many bytes of it.
    fn sector(&self, sector: usize, len: usize) -> Vec<u8> {
        let from = sector * SECTOR;
        let mut bytes = self.bytes.get(from..(from + len).min(self.bytes.len()).max(from)).unwrap_or_default().to_vec();
        bytes.resize(len, 0);
        bytes
    }
}

struct State {
    root: PathBuf,
    random: Random,
    weather: Weather,
    strike: Option<Strike>,
    calls: HashMap<Op, usize>,
    full: usize,
    dead: Option<Death>,
    synced: HashMap<u64, Synced>,
    names: HashMap<PathBuf, BTreeMap<OsString, u64>>,
    aside: Vec<(PathBuf, PathBuf)>,
    clock_s: i64,
    trace: Vec<String>,
    struck: BTreeMap<String, usize>,
    reads: HashMap<PathBuf, u64>,
    seed: u64,
}

/// The machine. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Mutex<State>>);

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("machine")
    }
}

fn down() -> io::Error {
    io::Error::other("the machine is down")
}

pub(crate) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

pub(crate) fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Machine {
    /// A machine with sound, synced, empty folders below `root`.
    pub(crate) fn new(root: &Path, seed: u64, clock_s: i64) -> Self {
        let state = State {
            root: root.canonicalize().unwrap(),
            random: Random::new(seed ^ 0x005e_ed0f_fa17),
            weather: Weather::default(),
            strike: None,
            calls: HashMap::new(),
            full: 0,
            dead: None,
            synced: HashMap::new(),
            names: HashMap::new(),
            aside: Vec::new(),
            clock_s,
            trace: Vec::new(),
            struck: BTreeMap::new(),
            reads: HashMap::new(),
            seed,
        };
        let machine = Self(Arc::new(Mutex::new(state)));
        machine.lock().all_is_synced();
        machine
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    pub(crate) fn set_strike(&self, strike: Option<Strike>) {
        self.lock().strike = strike;
    }

    /// Calls of a kind so far.
    pub(crate) fn calls(&self, op: Op) -> usize {
        self.lock().calls.get(&op).copied().unwrap_or(0)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().dead.is_some()
    }

    /// How often each fault came, by its name.
    pub(crate) fn struck(&self) -> BTreeMap<String, usize> {
        self.lock().struck.clone()
    }

    pub(crate) fn clock_s(&self) -> i64 {
        self.lock().clock_s
    }

    pub(crate) fn set_clock_s(&self, clock_s: i64) {
        self.lock().clock_s = clock_s;
    }

    pub(crate) fn note(&self, line: impl Into<String>) {
        let mut state = self.lock();
        // The folder has another name each time.
        let line = line.into().replace(state.root.to_str().unwrap_or_default(), "");
        state.trace.push(line);
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    /// Ends everything now.
    pub(crate) fn kill(&self, death: Death) {
        let mut state = self.lock();
        state.trace.push(format!("!! {death:?} dies"));
        *state.struck.entry(format!("{death:?} dies at rest")).or_insert(0) += 1;
        state.dead = Some(death);
    }

    /// What becomes of a call. An error is what the caller gets at once.
    pub(crate) fn meet(&self, op: Op, path: &Path) -> io::Result<Fate> {
        let mut state = self.lock();
        if state.dead.is_some() {
            return Err(down());
        }
        let at = state.calls.entry(op).or_insert(0);
        let nth = *at;
        *at += 1;
        let fate = state.fate(op, nth, path);
        if fate == Fate::Pass {
            return Ok(fate);
        }
        let name = path.strip_prefix(&state.root).unwrap_or(path).display().to_string();
        let line = format!("!! {fate:?} at {op:?} {nth} of {name}");
        state.trace.push(line);
        *state.struck.entry(format!("{op:?} {fate:?}")).or_insert(0) += 1;
        match fate {
            Fate::Kill(false) => {
                state.dead = Some(Death::Process);
                Err(down())
            }
            Fate::Cut(false) => {
                state.dead = Some(Death::Machine);
                Err(down())
            }
            Fate::Before => Err(eio()),
            Fate::Full => Err(enospc()),
            other => Ok(other),
        }
    }

    /// After the effect of a call: the error that its fate asks for.
    pub(crate) fn settle(&self, fate: Fate) -> io::Result<()> {
        match fate {
            Fate::Kill(_) => self.lock().dead = Some(Death::Process),
            Fate::Cut(_) => self.lock().dead = Some(Death::Machine),
            Fate::After => return Err(eio()),
            _ => return Ok(()),
        }
        Err(down())
    }

    /// A file's bytes are on disk, those apart that an earlier failed sync lost.
    pub(crate) fn file_synced(&self, file: &File) {
        let bytes = whole(file);
        let number = file.metadata().unwrap().ino();
        let mut state = self.lock();
        let known = state.synced.entry(number).or_insert_with(|| Synced::nothing(file));
        let sectors = bytes.chunks(SECTOR).enumerate().flat_map(|(sector, now)| {
            if known.lost.contains(&sector) { known.sector(sector, now.len()) } else { now.to_vec() }
        });
        known.bytes = sectors.collect();
    }

    /// A sync failed: what it would have brought to disk never gets there.
    pub(crate) fn file_sync_failed(&self, file: &File) {
        let bytes = whole(file);
        let number = file.metadata().unwrap().ino();
        let mut state = self.lock();
        let known = state.synced.entry(number).or_insert_with(|| Synced::nothing(file));
        for (sector, now) in bytes.chunks(SECTOR).enumerate() {
            if known.sector(sector, now.len()) != now {
                known.lost.insert(sector);
            }
        }
    }

    /// Bytes were written, again perhaps: the next sync counts for them.
    pub(crate) fn written(&self, file: &File, offset: u64, len: usize) {
        let number = file.metadata().unwrap().ino();
        if let Some(known) = self.lock().synced.get_mut(&number) {
            let from = usize::try_from(offset).unwrap();
            for sector in from / SECTOR..=(from + len.max(1) - 1) / SECTOR {
                known.lost.remove(&sector);
            }
        }
    }

    /// The names in a folder are on disk.
    pub(crate) fn folder_synced(&self, folder: &Path) {
        if !folder.starts_with(&self.lock().root) {
            return;
        }
        let names = listing(folder);
        self.lock().names.insert(folder.to_owned(), names);
    }

    /// Keeps a file that a killed process would have left but that an error removes.
    pub(crate) fn keep_aside(&self, path: &Path) {
        let mut state = self.lock();
        let aside = state.root.join(ASIDE);
        fs::create_dir_all(&aside).unwrap();
        let place = aside.join(state.aside.len().to_string());
        if fs::hard_link(path, &place).is_ok() {
            state.aside.push((place, path.to_owned()));
        }
    }

    /// Gives a file the machine's own time.
    pub(crate) fn stamp(&self, path: &Path) {
        let seconds = u64::try_from(self.lock().clock_s.max(0)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        if let Ok(file) = File::options().write(true).open(path) {
            file.set_modified(time).unwrap();
        }
    }

    /// Starts again after a death; tells which.
    pub(crate) fn restart(&self) -> Option<Death> {
        let mut state = self.lock();
        let death = state.dead.take()?;
        for (place, path) in std::mem::take(&mut state.aside) {
            if path.exists() {
                fs::remove_file(place).unwrap();
            } else {
                fs::rename(place, path).unwrap();
            }
        }
        state.full = 0;
        state.trace.push(format!("-- starts again after the end of the {death:?}"));
        if death == Death::Machine {
            state.lose_power();
        }
        Some(death)
    }
}

impl State {
    fn fate(&mut self, op: Op, nth: usize, path: &Path) -> Fate {
        if let Some(strike) = self.strike {
            return if (strike.op, strike.nth) == (op, nth) { strike.fate } else { Fate::Pass };
        }
        if op == Op::Read {
            // Other threads read too, so that only the path and how often it was read may decide.
            let times = self.reads.entry(path.to_owned()).or_insert(0);
            *times += 1;
            let name = path.strip_prefix(&self.root).unwrap_or(path).as_os_str().as_encoded_bytes();
            let key = name
                .iter()
                .fold(self.seed ^ (*times << 32), |key, byte| (key ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
            let strikes = Random::new(key).per_mille(self.weather.reads);
            return if strikes { Fate::Before } else { Fate::Pass };
        }
        if self.full > 0 && matches!(op, Op::Write | Op::File | Op::Put) {
            self.full -= 1;
            return Fate::Full;
        }
        let weather = self.weather;
        let roll = self.random.below(1000);
        let after = self.random.next().is_multiple_of(2);
        if roll < weather.kill {
            return Fate::Kill(after);
        }
        if roll < weather.kill + weather.cut {
            return Fate::Cut(after);
        }
        let common = weather.kill + weather.cut;
        match op {
            Op::Put if roll < common + weather.store => match self.random.below(4) {
                0 => Fate::Before,
                1 => self.fills_up(),
                _ => Fate::After,
            },
            Op::PutSync | Op::Delete if roll < common + weather.store => Fate::Before,
            Op::Write if roll < common + weather.disk => match self.random.below(3) {
                0 => Fate::Before,
                1 => Fate::Short,
                _ => self.fills_up(),
            },
            Op::File if roll < common + weather.disk => {
                if after {
                    self.fills_up()
                } else {
                    Fate::Before
                }
            }
            Op::Sync | Op::Remove if roll < common + weather.disk => Fate::Before,
            _ => Fate::Pass,
        }
    }

    fn fills_up(&mut self) -> Fate {
        self.full = self.random.below(3);
        Fate::Full
    }

    fn all_is_synced(&mut self) {
        self.synced.clear();
        self.names.clear();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            self.names.insert(folder.clone(), listing(&folder));
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let file = File::open(&path).unwrap();
                    let number = file.metadata().unwrap().ino();
                    let bytes = whole(&file);
                    self.synced.insert(number, Synced { bytes, _file: file, lost: BTreeSet::new() });
                }
            }
        }
    }

    /// Writes over the files what a power cut leaves of them.
    fn lose_power(&mut self) {
        let mut left: BTreeMap<PathBuf, Option<(Vec<u8>, SystemTime)>> = BTreeMap::new();
        let root = self.root.clone();
        self.leftovers(&root, &mut left);
        for entry in fs::read_dir(&root).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        for (path, file) in left {
            match file {
                None => fs::create_dir_all(path).unwrap(),
                Some((bytes, time)) => {
                    fs::write(&path, bytes).unwrap();
                    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
                }
            }
        }
        self.all_is_synced();
    }

    fn leftovers(&mut self, folder: &Path, left: &mut BTreeMap<PathBuf, Option<(Vec<u8>, SystemTime)>>) {
        let now = if folder.is_dir() { listing(folder) } else { BTreeMap::new() };
        let then = self.names.get(folder).cloned().unwrap_or_default();
        let names: BTreeSet<OsString> = now.keys().chain(then.keys()).cloned().collect();
        for name in names {
            let number = match (now.get(&name), then.get(&name)) {
                (Some(a), Some(b)) if a == b => *a,
                (a, b) => match if self.random.next().is_multiple_of(2) { a } else { b } {
                    Some(number) => *number,
                    None => continue,
                },
            };
            let path = folder.join(&name);
            if now.get(&name) == Some(&number) && path.is_dir() {
                left.insert(path.clone(), None);
                self.leftovers(&path, left);
                continue;
            }
            let written = (now.get(&name) == Some(&number)).then(|| fs::read(&path).unwrap());
            let time = path.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let synced = self.synced.get(&number).map(|s| s.bytes.clone());
            let bytes = match (synced, written) {
                (Some(synced), Some(written)) => self.mix(&synced, &written),
                (Some(bytes), None) => bytes,
                // Never synced: empty, zeros, a part or all of it.
                (None, Some(written)) => match self.random.below(4) {
                    0 => Vec::new(),
                    1 => vec![0; written.len()],
                    2 => written[..self.random.below(written.len() + 1)].to_vec(),
                    _ => self.mix(&vec![0; written.len()], &written),
                },
                (None, None) => continue,
            };
            left.insert(path, Some((bytes, time)));
        }
    }

    /// Of each sector that was not synced, the old or the new.
    fn mix(&mut self, synced: &[u8], written: &[u8]) -> Vec<u8> {
        if synced == written {
            return synced.to_vec();
        }
        let len = if self.random.next().is_multiple_of(2) { synced.len() } else { written.len() };
        let mut bytes = Vec::with_capacity(len);
        // All of it, none of it or any part.
        let chance = [0, 1000, 500, 900][self.random.below(4)];
        for at in (0..len).step_by(SECTOR) {
            let end = (at + SECTOR).min(len);
            let pick = |from: &[u8]| {
                let mut sector = from.get(at..end.min(from.len()).max(at)).unwrap_or_default().to_vec();
                sector.resize(end - at, 0);
                sector
            };
            bytes.extend(if self.random.per_mille(chance) { pick(written) } else { pick(synced) });
        }
        bytes
    }
}

fn whole(file: &File) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut bytes = vec![0; len];
    // The store syncs files that it opened for writing only: they are read by another way in.
    if file.read_exact_at(&mut bytes, 0).is_err() {
        use std::os::fd::AsRawFd;
        bytes = fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    }
    bytes
}

fn listing(folder: &Path) -> BTreeMap<OsString, u64> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let numbered = entries.filter(|e| e.file_name() != ASIDE).map(|e| (e.file_name(), e.metadata().unwrap().ino()));
    numbered.collect()
}
