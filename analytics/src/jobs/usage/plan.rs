//! Which usage points are derived in which months, and where their walks begin.
//!
//! A month that no run has derived over the same basis takes in every point. In the others only the points that new rows
//! touched are derived, from the first month on that is not closed to such rows; all other rows of a partition are kept. A
//! walk is taken up a month before, at an anchor; where that says it would have had to look further back, from some months
//! before, and in the end from the installation on.

use std::collections::{BTreeSet, HashMap, HashSet};

use meterlake_model::{Channel, CivilDay, Commodity, Timestamp, UsagePointId, Zone};

use super::super::JobError;
use super::super::derive::{Outages, Plans, PointPlan, Suspensions, above};
use super::super::run::{Month, Run, furthest_commit, newest_commit};
use super::known::Known;
use super::marks;
use super::point::Point;
use super::progress::Progress;
use super::storm::changed;
use crate::alerts::hex;
use crate::tables::buckets_for;
use crate::usage::{Anchor, Start};
use sha2::{Digest, Sha256};

/// A walk is taken up so many months before the first one that is derived, one after the other until it suffices.
const MONTHS_BEFORE: [i32; 2] = [1, 5];
/// An anchor is looked for in so many months from there back.
const TRIES: usize = 3;
/// Points whose anchor lies further before the others' are walked by themselves.
const NEAR_S: i64 = 10 * 86_400;
/// A run follows what is touched so far back before the asked days. What lies before is derived when it is asked for.
const FOLLOW_DAYS: i64 = 400;
/// Raised when equal readings give other rows than before.
const DERIVATION: u32 = 2;

/// Points whose walks are taken up together.
pub(super) struct Group {
    pub(super) commodity: Commodity,
    pub(super) plans: Plans,
    /// No row before is needed.
    pub(super) from: Option<Timestamp>,
}

/// What a run has to do.
pub(super) struct Work {
    /// The asked months, and those before that new rows touch where the run is to follow them.
    pub(super) months: Vec<Month>,
    pub(super) buckets: u16,
    points: Vec<Point>,
    by_id: HashMap<UsagePointId, usize>,
    before: Progress,
    begun: Progress,
    after: Progress,
    /// First instants of the months whose rows and anchors stand, but for what new rows touch.
    standing: BTreeSet<Timestamp>,
    known: Known,
    /// What is still to be walked, after so many attempts.
    pending: Vec<usize>,
    attempt: usize,
    ready: Vec<Group>,
}

impl Work {
    pub(super) async fn plan(run: &Run<'_>, outages: &Outages, suspended: &Suspensions) -> Result<Self, JobError> {
        let before = Progress::read(run).await?;
        let buckets = buckets_for(run.registry.usage_points.len());
        let basis = basis(run, buckets);
        let seen = run.commit_seq.min(furthest_commit(run.lake).await?);
        let complete = run.commit_seq.min(newest_commit(run.lake).await?).min(seen);
        let same = before.basis == basis;
        let goes_on = same && before.commit_seq <= complete && before.reached <= seen;
        let months = run.months();
        let mut begun = before.clone();
        if goes_on {
            begun.reached = seen;
        } else if same {
            // Pinned to what was before: these months are no longer what the others are.
            begun.months.retain(|key| months.iter().all(|month| month.key != *key));
        } else {
            let suspended = suspended.clone();
            begun = Progress { basis, commit_seq: complete, reached: seen, months: BTreeSet::new(), suspended };
        }
        let mut work = Self {
            months,
            buckets,
            points: Point::all(&run.registry, buckets),
            by_id: HashMap::new(),
            after: begun.clone(),
            before,
            begun,
            standing: BTreeSet::new(),
            known: Known::default(),
            pending: Vec::new(),
            attempt: 0,
            ready: Vec::new(),
        };
        work.by_id = work.points.iter().enumerate().map(|(at, p)| (p.id.clone(), at)).collect();
        if goes_on {
            work.standing = work.begun.months.iter().filter_map(|key| first_instant(key)).collect();
            work.mark(run, outages, &changed(&work.before.suspended, suspended)).await?;
            work.after.commit_seq = complete;
            work.after.suspended.clone_from(suspended);
        }
        if goes_on || !same {
            work.after.months.extend(work.months.iter().map(|m| m.key.clone()));
        }
        if let Some(fresh) = work.months.iter().position(|m| !work.standing.contains(&m.start)) {
            for point in &mut work.points {
                point.first = Some(point.first.map_or(fresh, |first| first.min(fresh)));
            }
        }
        work.pending = (0..work.points.len()).filter(|at| work.points[*at].first.is_some()).collect();
        Ok(work)
    }

    /// Finds what new rows touch: the months from the first one on that is not closed to them.
    async fn mark(&mut self, run: &Run<'_>, outages: &Outages, storms: &Suspensions) -> Result<(), JobError> {
        let marks = marks::since(run, self.begun.commit_seq, outages).await?;
        for point in &mut self.points {
            point.marks = marks.get(&point.id).cloned().unwrap_or_default();
            let of = run.registry.usage_points.get(&point.id).filter(|_| !storms.is_empty());
            if let Some(since) = of.and_then(|of| above(&run.registry, of).filter_map(|node| storms.get(node)).min()) {
                point.marks.extend(point.channels.iter().map(|channel| (*channel, *since)));
            }
        }
        let mut open: Vec<usize> = (0..self.points.len()).filter(|at| !self.points[*at].marks.is_empty()).collect();
        // From which border on each is touched.
        let mut touched: Vec<(usize, Timestamp)> = Vec::new();
        let standing: Vec<Timestamp> = self.standing.iter().rev().copied().collect();
        for border in &standing {
            if open.is_empty() {
                break;
            }
            self.load(run, *border, &open).await?;
            let (closed, still): (Vec<_>, Vec<_>) = open.into_iter().partition(|at| self.is_closed(*at, *border));
            touched.extend(closed.into_iter().map(|at| (at, *border)));
            open = still;
        }
        // All that was ever derived.
        if let Some(first) = standing.last() {
            touched.extend(open.into_iter().map(|at| (at, *first)));
        }
        let Some(earliest) = touched.iter().map(|(_, border)| *border).min() else { return Ok(()) };
        if run.options.follow {
            let furthest = run.instants().0.plus_seconds(-FOLLOW_DAYS * 86_400);
            self.months = run.months_from(earliest.max(furthest));
        }
        for (at, border) in touched {
            self.points[at].first = self.months.iter().position(|month| month.start >= border);
        }
        // What is touched and not asked for does not stand any more.
        let asked = |start: Timestamp| self.months.iter().any(|month| month.start == start);
        self.after.months.retain(|key| first_instant(key).is_some_and(|start| start < earliest || asked(start)));
        Ok(())
    }

    /// Whether nothing before a border can be changed by what touched a point.
    fn is_closed(&self, at: usize, border: Timestamp) -> bool {
        let point = &self.points[at];
        point.channels.iter().all(|channel| {
            let Some(mark) = point.mark_of(*channel) else { return true };
            let closed_at = match self.known.of(point.id.as_str(), border, *channel) {
                Some(known) => known.closed_at,
                // Nothing was said, so nothing starts before, unless a meter hung there.
                None => Some(border.plus_seconds(86_400)).filter(|_| point.installed_at.is_none_or(|ts| ts >= border)),
            };
            closed_at.is_some_and(|closed| closed < mark)
        })
    }

    /// Where the walk of a point can be taken up at a border, and from when on its rows are needed.
    fn seed(&self, at: usize, border: Timestamp) -> Option<(Vec<(Channel, Anchor)>, Timestamp)> {
        let point = &self.points[at];
        let mut anchors = Vec::new();
        let mut from = border;
        for channel in &point.channels {
            let sure_of = |ts: Timestamp| point.mark_of(*channel).is_none_or(|mark| ts < mark);
            match self.known.of(point.id.as_str(), border, *channel).map_or(Start::Nothing, |known| known.start) {
                Start::Anchor(anchor) if sure_of(anchor.settled_at) => {
                    anchors.push((*channel, anchor));
                    from = from.min(anchor.ts);
                }
                Start::Nothing if sure_of(border) => {}
                _ => return None,
            }
        }
        Some((anchors, from))
    }

    /// Reads what is known of some points at a border.
    async fn load(&mut self, run: &Run<'_>, border: Timestamp, wanted: &[usize]) -> Result<(), JobError> {
        let wanted: Vec<&str> = wanted.iter().map(|at| self.points[*at].id.as_str()).collect();
        self.known.load(run, border, &wanted).await
    }

    /// Says that the run begins to write.
    pub(super) async fn begin(&self, run: &Run<'_>) -> Result<(), JobError> {
        if !self.derives() || self.begun == self.before { Ok(()) } else { self.begun.write(run).await }
    }

    /// Says that all is written.
    pub(super) async fn finish(&self, run: &Run<'_>) -> Result<(), JobError> {
        let there = if self.derives() { &self.begun } else { &self.before };
        if &self.after == there { Ok(()) } else { self.after.write(run).await }
    }

    /// Whether anything is derived.
    fn derives(&self) -> bool {
        self.points.iter().any(|point| point.first.is_some())
    }

    /// The next points to walk; `short` are those of the last group whose walk must be taken up further back.
    pub(super) async fn next(&mut self, run: &Run<'_>, short: Vec<UsagePointId>) -> Result<Option<Group>, JobError> {
        self.pending.extend(short.iter().filter_map(|id| self.by_id.get(id)));
        while self.ready.is_empty() && !self.pending.is_empty() {
            let mut pending = std::mem::take(&mut self.pending);
            pending.sort_unstable();
            let before = MONTHS_BEFORE.get(self.attempt).copied();
            self.attempt += 1;
            match before {
                Some(before) if !self.standing.is_empty() => {
                    let (seeded, rest) = self.seeded(run, pending, before).await?;
                    self.pending = rest;
                    self.group(seeded);
                }
                _ => {
                    let all = pending.into_iter().map(|at| (at, Vec::new(), None)).collect();
                    self.group(all);
                }
            }
        }
        Ok(self.ready.pop())
    }

    /// The points that have anchors so many months before their first one, and those that have not.
    async fn seeded(
        &mut self,
        run: &Run<'_>,
        open: Vec<usize>,
        before: i32,
    ) -> Result<(Vec<Seeded>, Vec<usize>), JobError> {
        let utc = Zone::utc();
        let latest = |at: usize| {
            let first = self.months[self.points[at].first.unwrap_or(0)].start;
            utc.start_of_day(utc.day_of(first).plus_months(-before))
        };
        let mut open: Vec<(usize, Timestamp, usize)> = open.into_iter().map(|at| (at, latest(at), 0)).collect();
        let (mut seeded, mut rest) = (Vec::new(), Vec::new());
        for border in self.standing.clone().into_iter().rev() {
            let (here, later): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, latest, _)| border <= *latest);
            open = later;
            if here.is_empty() {
                continue;
            }
            let wanted: Vec<usize> = here.iter().map(|(at, ..)| *at).collect();
            self.load(run, border, &wanted).await?;
            for (at, latest, tries) in here {
                match self.seed(at, border) {
                    Some((anchors, from)) => seeded.push((at, anchors, Some(from))),
                    None if tries + 1 < TRIES => open.push((at, latest, tries + 1)),
                    None => rest.push(at),
                }
            }
        }
        rest.extend(open.into_iter().map(|(at, ..)| at));
        Ok((seeded, rest))
    }

    /// Puts points together that are of one commodity and begin at about the same time.
    fn group(&mut self, seeded: Vec<Seeded>) {
        for commodity in Commodity::ALL {
            let of: Vec<&Seeded> = seeded.iter().filter(|(at, ..)| self.points[*at].commodity == commodity).collect();
            let newest = of.iter().filter_map(|(_, _, from)| *from).max();
            let near = |from: Option<Timestamp>| {
                from.zip(newest).is_some_and(|(from, newest)| newest.micros_since(from) <= NEAR_S * 1_000_000)
            };
            let (near, far): (Vec<_>, Vec<_>) = of.into_iter().partition(|(_, _, from)| near(*from));
            for of in [far, near] {
                if of.is_empty() {
                    continue;
                }
                let from: Option<Vec<Timestamp>> = of.iter().map(|(_, _, from)| *from).collect();
                let from = from.and_then(|from| from.into_iter().min());
                let plans: Plans = of
                    .into_iter()
                    .map(|(at, anchors, _)| {
                        let point = &self.points[*at];
                        let from = self.months[point.first.unwrap_or(0)].start;
                        (point.id.clone(), PointPlan { from, anchors: anchors.clone() })
                    })
                    .collect();
                self.ready.push(Group { commodity, plans, from });
            }
        }
    }

    /// Whether a month was derived by no run over the same basis.
    pub(super) fn is_fresh(&self, month: usize) -> bool {
        !self.standing.contains(&self.months[month].start)
    }

    /// The points of a bucket that are derived in a month.
    pub(super) fn derived(&self, month: usize, bucket: u16) -> HashSet<&str> {
        let here = |p: &&Point| p.bucket == bucket && p.first.is_some_and(|first| first <= month);
        self.points.iter().filter(here).map(|p| p.id.as_str()).collect()
    }
}

type Seeded = (usize, Vec<(Channel, Anchor)>, Option<Timestamp>);

/// Hash of all but the readings that the rows depend on.
fn basis(run: &Run<'_>, buckets: u16) -> String {
    let text = format!(
        "{}|{}|{}|{DERIVATION}|{buckets}",
        run.registry.revision,
        run.rules.usage_hash(),
        super::super::run::PROGRAM
    );
    hex(&Sha256::digest(text)[..12])
}

/// The first instant of a month such as `2026-11`.
fn first_instant(key: &str) -> Option<Timestamp> {
    CivilDay::parse(&format!("{key}-01")).ok().map(|day| Zone::utc().start_of_day(day))
}
