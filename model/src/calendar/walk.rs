//! Where buckets end: stretches of time, in order, each with its bucket.

use super::{Bucket, Calendar, CalendarEvent, DAY_MINUTES};
use crate::id::UsagePointId;
use crate::time::Timestamp;

const MINUTE_US: i64 = 60_000_000;

/// A stretch of time in one bucket, or in none where the calendar does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSlice {
    /// First instant.
    pub start: Timestamp,
    /// The instant after the last.
    pub end: Timestamp,
    /// Its bucket; `None` outside the calendar's years.
    pub bucket: Option<Bucket>,
}

/// Tells the bucket of instants that rise, and how long it lasts.
pub struct BucketWalk<'c> {
    calendar: &'c Calendar,
    /// Those of the usage point, in order of time.
    events: Vec<&'c CalendarEvent>,
    /// What was told last.
    slice: BucketSlice,
    /// The zone's next clock change after the slice's start.
    change: Option<Timestamp>,
}

impl<'c> BucketWalk<'c> {
    pub(super) fn new(calendar: &'c Calendar, point: Option<&UsagePointId>) -> Self {
        let nowhere = BucketSlice { start: Timestamp::EPOCH, end: Timestamp::EPOCH, bucket: None };
        let events = calendar.plan.events.iter().filter(|event| event.is_for(point)).collect();
        Self { calendar, events, slice: nowhere, change: None }
    }

    /// The stretch that an instant lies in, from that instant on or from before it.
    pub fn at(&mut self, ts: Timestamp) -> BucketSlice {
        if ts < self.slice.start || ts >= self.slice.end {
            self.slice = self.find(ts);
        }
        self.slice
    }

    /// The stretches from `start` up to `end`: they tile it, and neighbours may be of one bucket.
    pub fn between(&mut self, start: Timestamp, end: Timestamp) -> impl Iterator<Item = BucketSlice> + use<'_, 'c> {
        let mut at = start;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let slice = self.at(at);
            let part = BucketSlice { start: at, end: slice.end.min(end), bucket: slice.bucket };
            at = part.end;
            Some(part)
        })
    }

    fn find(&mut self, ts: Timestamp) -> BucketSlice {
        let zone = self.calendar.zone();
        if self.change.is_none_or(|change| change <= ts) || ts < self.slice.start {
            self.change = zone.next_change(ts);
        }
        let wall = zone.micros_of_day(ts);
        let pattern = self.calendar.pattern(zone.day_of(ts));
        let stretch = pattern.and_then(|p| p.iter().find(|(end, _)| wall < i64::from(*end) * MINUTE_US));
        let (minute, bucket) = stretch.map_or((DAY_MINUTES, None), |(end, bucket)| (*end, Some(*bucket)));
        // Up to the next clock change the wall runs as time does.
        let mut end = ts.plus_micros(i64::from(minute) * MINUTE_US - wall);
        if let Some(change) = self.change {
            end = end.min(change);
        }
        let mut slice = BucketSlice { start: ts, end, bucket };
        let next = self.events.partition_point(|event| event.to <= ts);
        if let Some(event) = self.events.get(next) {
            if event.from > ts {
                slice.end = slice.end.min(event.from);
            } else {
                slice.end = slice.end.min(event.to);
                slice.bucket = slice.bucket.map(|_| event.bucket);
            }
        }
        slice
    }
}
