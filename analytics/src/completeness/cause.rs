//! Why readings are missing: the lowest common cause.
//!
//! A meter reports through a gateway (where the registry names one), that through a source, a broker or a Modbus line,
//! and all sources through the collector. What hangs on a node directly are its units: meters, and gateways. A node is to
//! blame when at least 60 % of its units and three of its meters are silent within a quarter of an hour, and more than
//! one unit is: a broker with one silent gateway is well, and so is a gateway with one silent meter. The highest node
//! that is to blame is the cause of a missing reading; without one it is the meter alone. Before all that come dead
//! letters: what came and could not be read is not silence.
//!
//! The collector is to blame when every source is silent and nothing at all arrived in those minutes. With one source
//! alone the two cannot be told apart, and the source is named. Whether a broker was down, or only our session with it,
//! or had dropped what it held for us, readings do not tell; the collector's log does.

mod board;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use meterlake_model::Timestamp;

use super::bits::Bits;
use super::{CompletenessRules, MainCause, MeterDay, Reason};
use board::{Board, CHUNK_S};

/// What the source of a Modbus line begins with.
const LINE_PREFIX: &str = "modbus/";
/// A dead letter that arrives so long before the time of a reading may be that reading.
const LETTER_SLACK_S: i64 = 60;

/// A reason with its subject.
type Cause = (Reason, Option<Arc<str>>);

/// Texts by number.
#[derive(Debug, Default)]
pub(crate) struct Names {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Names {
    pub(crate) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    pub(crate) fn is_known(&self, text: &str) -> bool {
        self.numbers.contains_key(text)
    }

    pub(crate) fn text(&self, number: u32) -> Option<&Arc<str>> {
        self.texts.get(usize::try_from(number).ok()?)
    }
}

/// What is known beside the readings.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) sources: Names,
    pub(crate) gateways: Names,
    /// The minute since 1970 from which the others are counted.
    first_minute: i64,
    /// Minutes in which anything arrived.
    alive: Bits,
    /// By name of a meter or gateway: when dead letters of it arrived, in seconds since 1970, with their reason.
    letters: HashMap<String, BTreeSet<(i64, Arc<str>)>>,
}

/// What arrives so many minutes after the first is of no interest: half a year.
const MOST_MINUTES: usize = 1440 * 183;

impl Evidence {
    /// Of what happens from an instant on.
    pub(crate) fn new(from: Timestamp) -> Self {
        Self {
            sources: Names::default(),
            gateways: Names::default(),
            first_minute: from.unix_seconds().div_euclid(60),
            alive: Bits::default(),
            letters: HashMap::new(),
        }
    }

    fn minute(&self, at_s: i64) -> Option<usize> {
        usize::try_from(at_s.div_euclid(60) - self.first_minute).ok().filter(|minute| *minute < MOST_MINUTES)
    }

    /// Takes down that something arrived.
    pub(crate) fn arrived(&mut self, at_s: i64) {
        if let Some(minute) = self.minute(at_s) {
            self.alive.insert(minute);
        }
    }

    /// Takes down a dead letter of a meter or gateway, to the minute.
    pub(crate) fn add_letter(&mut self, name: &str, at_s: i64, reason: &str) {
        let letter = (at_s.div_euclid(60) * 60, Arc::from(reason));
        match self.letters.get_mut(name) {
            Some(letters) => drop(letters.insert(letter)),
            None => drop(self.letters.insert(name.to_owned(), BTreeSet::from([letter]))),
        }
    }

    /// Whether anything arrived in the minute of an instant or the next one.
    fn is_alive(&self, at_s: i64) -> bool {
        self.minute(at_s).is_some_and(|minute| self.alive.contains(minute) || self.alive.contains(minute + 1))
    }

    /// The reason of the first dead letter under a name that arrived between two instants.
    fn letter(&self, name: &str, from_s: i64, to_s: i64) -> Option<&Arc<str>> {
        let none: Arc<str> = Arc::from("");
        let (at, reason) = self.letters.get(name)?.range((from_s, none)..).next()?;
        (*at <= to_s).then_some(reason)
    }
}

/// Gives each day the cause of most of what is missing. Days come by (day, meter).
pub(crate) fn assign(days: &mut [MeterDay], evidence: &Evidence, rules: &CompletenessRules) {
    let mut found: BTreeMap<usize, BTreeMap<Cause, i32>> = BTreeMap::new();
    for chunk in chunks(days) {
        let from = chunk * CHUNK_S;
        let here: Vec<usize> = overlapping(days, from).collect();
        let board = Board::of(here.iter().map(|at| &days[*at]), from, rules);
        for at in here {
            let day = &days[at];
            for slot in day.count.missing.iter() {
                let time = day.count.slots.time(slot);
                if !(from..from + CHUNK_S).contains(&time.unix_seconds()) {
                    continue;
                }
                let cause = cause(day, slot, evidence, &board);
                *found.entry(at).or_default().entry(cause).or_default() += 1;
            }
        }
    }
    for (at, causes) in found {
        // Of equal ones the first, which is the one that more evidence speaks for.
        let main = causes.into_iter().rev().max_by_key(|(_, count)| *count);
        days[at].cause = main.map(|((reason, subject), explains)| MainCause { reason, subject, explains });
    }
}

/// The UTC days in which anything is missing.
fn chunks(days: &[MeterDay]) -> BTreeSet<i64> {
    let missing =
        days.iter().flat_map(|day| day.count.missing.iter().map(|slot| day.count.slots.time(slot).unix_seconds()));
    missing.map(|at| at.div_euclid(CHUNK_S)).collect()
}

/// The days that reach into a UTC day: a civil day begins at most a day before or after.
fn overlapping(days: &[MeterDay], from_s: i64) -> impl Iterator<Item = usize> + use<> {
    let utc = meterlake_model::Zone::utc();
    let found = Timestamp::from_unix_seconds(from_s).map(|at| utc.day_of(at));
    let range = found.map_or(0..0, |day| {
        let begin = days.partition_point(|d| d.day < day.plus_days(-1));
        begin..days.partition_point(|d| d.day <= day.plus_days(1))
    });
    let reaches: Vec<usize> = range
        .filter(|at| days[*at].start.unix_seconds() < from_s + CHUNK_S && days[*at].end.unix_seconds() > from_s)
        .collect();
    reaches.into_iter()
}

fn cause(day: &MeterDay, slot: usize, evidence: &Evidence, board: &Board) -> Cause {
    let at_s = day.count.slots.time(slot).unix_seconds();
    let gateway = day.gateway.and_then(|number| evidence.gateways.text(number));
    let names = [Some(day.meter_id.as_str()), gateway.map(|name| &**name)];
    // What came on time lies around its own time; what came in arrears, where its neighbours arrived.
    let on_time = (at_s - LETTER_SLACK_S.min(day.interval_s / 2), at_s + day.interval_s - 1);
    let arrears = day.count.arrears.binary_search_by_key(&slot, |(of, _)| *of).ok().map(|at| day.count.arrears[at].1);
    let spans = || [Some(on_time), arrears.map(|(from, to)| (from.div_euclid(60) * 60, to))].into_iter().flatten();
    let mut letters = names
        .into_iter()
        .flatten()
        .flat_map(|name| spans().filter_map(move |(from, to)| evidence.letter(name, from, to)));
    if let Some(reason) = letters.next() {
        return (Reason::Decode, Some(reason.clone()));
    }
    if board.all_silent(at_s) && !evidence.is_alive(at_s) {
        return (Reason::Collector, None);
    }
    let source = day.source.filter(|source| board.source_down(*source, at_s));
    if let Some(name) = source.and_then(|number| evidence.sources.text(number)) {
        return match name.strip_prefix(LINE_PREFIX) {
            Some(line) => (Reason::Line, Some(line.into())),
            None => (Reason::Broker, Some(name.clone())),
        };
    }
    let is_down = day.gateway.is_some_and(|gateway| board.gateway_down(day.source, gateway, at_s));
    match gateway.filter(|_| is_down) {
        Some(name) => (Reason::Gateway, Some(name.clone())),
        None => (Reason::Meter, Some(day.meter_id.as_str().into())),
    }
}
