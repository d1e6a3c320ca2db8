//! Where a walk can be taken up again: a reading that stands, with what has to be known of the readings before it.
//!
//! A walk from an anchor on gives the same as the walk from the installation on, or it says that it would have had to look
//! at what lies before the anchor ([`super::PointUsage::short`]): then it is taken up further back. So nothing rests on how
//! much a meter's past is thought to matter.

use meterlake_model::{ReadingFlags, Timestamp};

use super::register::PointKind;
use super::walk::{RETURN_US, Walked};
use super::{InstallationReadings, PointInput, Reading};

/// A point is looked for among so many before the border.
const SEARCH: usize = 4096;
/// Rows of an hour that the wall clock shows twice are moved by up to so much, and by what lies so near.
const FOLD_US: i64 = 3 * 3_600_000_000;

/// An accepted reading from which a walk can go on. Registers are in millionths, unwrapped, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Which of the input's installations it belongs to.
    pub installation: usize,
    /// The time of the reading; of an interval channel, the start of a slot that was read.
    pub ts: Timestamp,
    /// The register with its wraps counted on; 0 for interval channels.
    pub register: i64,
    /// The first register of the line that it is on.
    pub line_register: i64,
    /// The time of that register.
    pub line_start: Timestamp,
    /// Whether that line is the installation's first.
    pub first_line: bool,
    /// Whether the anchor stands was decided by readings up to here: one that comes later changes nothing, one that comes
    /// at this time or before makes the anchor void.
    pub settled_at: Timestamp,
}

/// What is known at a border between months.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Border {
    /// The border.
    pub ts: Timestamp,
    /// Where a walk into the time behind it can begin.
    pub start: Start,
    /// No reading and no outage behind this time changes anything that starts before the border. `None`: any may.
    pub closed_at: Option<Timestamp>,
}

/// Where a walk can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// No installation said anything up to then: a walk needs the readings behind it only.
    Nothing,
    /// The last reading up to then that surely stands.
    Anchor(Anchor),
    /// There were readings, and none of them is sure enough: a walk has to come from further back.
    Unsure,
}

/// The end of the last civil day that begins before the border.
pub(super) fn last_day(point: &PointInput<'_>, border: Timestamp) -> Timestamp {
    let zone = &point.usage_point.zone;
    zone.start_of_day(zone.day_of(border.plus_micros(-1)).plus_days(1))
}

/// From when on nothing of a walked installation changes any more before `border`: the first reading that stands behind the
/// last day is settled, and too long ago for a return that would drop it.
pub(super) fn closed_at(
    point: &PointInput<'_>,
    installation: usize,
    (walked, rows): (&Walked, &[Reading]),
    settle_us: i64,
    border: Timestamp,
) -> Option<Timestamp> {
    let end = last_day(point, border);
    let from = walked.points.partition_point(|p| p.ts < end);
    walked.points[from..].iter().take(SEARCH).find_map(|candidate| {
        let stands = candidate.kind == PointKind::Read && is_alone(point, installation, candidate.ts);
        let settled = settled_at(rows, candidate.ts, settle_us).filter(|_| stands)?;
        Some(settled.max(candidate.ts.plus_micros(RETURN_US)))
    })
}

/// As [`closed_at`], where nothing was said up to the border and no meter is known to have hung there: then nothing starts
/// before it, but for the slot that a first reading just behind it ends.
pub(super) fn closed_before_any(point: &PointInput<'_>, start: Start, border: Timestamp) -> Option<Timestamp> {
    let later = |of: &InstallationReadings<'_>| of.installation.installed_at.is_none_or(|from| from >= border);
    let nothing = start == Start::Nothing && point.installations.iter().all(later);
    nothing.then(|| border.plus_seconds(86_400))
}

/// The last point of a walked installation up to `border` that can be an anchor.
pub(super) fn of_register(
    point: &PointInput<'_>,
    installation: usize,
    (walked, rows): (&Walked, &[Reading]),
    settle_us: i64,
    border: Timestamp,
) -> Option<Anchor> {
    let end = walked.points.partition_point(|p| p.ts <= border);
    let (mut line, mut line_begin) = (walked.lines.partition_point(|from| *from < end), 0);
    let found = (0..end).rev().take(SEARCH).find_map(|at| {
        let candidate = walked.points[at];
        if candidate.kind != PointKind::Read || !is_alone(point, installation, candidate.ts) {
            return None;
        }
        settled_at(rows, candidate.ts, settle_us).map(|settled| (at, candidate, settled))
    });
    let (at, candidate, settled_at) = found?;
    while line > 0 {
        line_begin = walked.lines[line - 1];
        if line_begin <= at {
            break;
        }
        line -= 1;
    }
    let first = walked.points[line_begin];
    let seed = walked.seed.filter(|_| line_begin == 0);
    Some(Anchor {
        installation,
        ts: candidate.ts,
        register: candidate.register,
        line_register: seed.map_or(first.register, |seed| seed.line_register),
        line_start: seed.map_or(first.ts, |seed| seed.line_start),
        first_line: seed.map_or(line_begin == 0, |seed| seed.first_line),
        settled_at,
    })
}

/// Up to which reading a walk looks before it decides about the readings at and before `ts`; `None` when that one is not
/// there yet, or where the wall clock is ambiguous.
fn settled_at(rows: &[Reading], ts: Timestamp, settle_us: i64) -> Option<Timestamp> {
    if is_folded(rows, ts) {
        return None;
    }
    let mut after = rows[rows.partition_point(|row| row.ts <= ts)..].iter().map(|row| row.ts);
    // Two of other times confirm a jump, three come into the choice between values of one time.
    let (mut third, mut distinct) = (ts, 0);
    for at in after.by_ref() {
        if at != third {
            (third, distinct) = (at, distinct + 1);
        }
        if distinct == 3 {
            break;
        }
    }
    if distinct < 3 {
        return None;
    }
    // So long a look ahead takes when the register falls.
    if third.micros_since(ts) >= settle_us { Some(third) } else { after.find(|at| at.micros_since(ts) >= settle_us) }
}

/// Whether a row near `ts` was moved, or may have been, between the two hours of one wall clock.
pub(super) fn is_folded(rows: &[Reading], ts: Timestamp) -> bool {
    let from = rows.partition_point(|row| ts.micros_since(row.ts) > FOLD_US);
    let near = rows[from..].iter().take_while(|row| row.ts.micros_since(ts) <= FOLD_US);
    near.into_iter().any(|row| row.flags.contains(ReadingFlags::AMBIGUOUS_LOCAL_TIME))
}

/// Whether every other installation lies wholly before or wholly behind this time.
pub(super) fn is_alone(point: &PointInput<'_>, installation: usize, ts: Timestamp) -> bool {
    let apart = |(at, of): (usize, &InstallationReadings<'_>)| {
        let (from, to) = (of.installation.installed_at, of.installation.removed_at);
        if at < installation { to.is_some_and(|to| to <= ts) } else { from.is_some_and(|from| from > ts) }
    };
    point.installations.iter().enumerate().filter(|(at, _)| *at != installation).all(apart)
}
