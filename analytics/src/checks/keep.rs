//! How many findings of one check are kept: those that come first in their order, and beyond, of those over which a bill must not
//! go out, one a place. So the list is bounded by the fleet, and no bill slips through where it ends.

use std::collections::BTreeMap;

use super::Found;

/// The findings of one check and month.
#[derive(Debug)]
pub(super) struct Keep {
    most: usize,
    rows: Vec<Found>,
    /// The last stopping finding of each place beyond the limit, with how many it stands for.
    beyond: BTreeMap<(String, String), (Found, u64)>,
    cut: u64,
}

impl Keep {
    pub(super) fn new(most: Option<usize>) -> Self {
        Self { most: most.unwrap_or(usize::MAX), rows: Vec::new(), beyond: BTreeMap::new(), cut: 0 }
    }

    pub(super) fn put(&mut self, found: Found) {
        if self.rows.len() < self.most {
            self.rows.push(found);
        } else if found.on_fail.stops() {
            let key = (found.usage_point_id.clone(), found.channel.clone());
            match self.beyond.get_mut(&key) {
                Some((kept, count)) => {
                    // One row for all of them: it touches what any of them touches.
                    kept.start = kept.start.min(found.start);
                    kept.end = kept.end.max(found.end);
                    *count += 1;
                    self.cut += 1;
                }
                None => drop(self.beyond.insert(key, (found, 1))),
            }
        } else {
            self.cut += 1;
        }
    }

    /// The rows, and how many are not among them.
    pub(super) fn close(self) -> (Vec<Found>, u64) {
        let mut rows = self.rows;
        rows.extend(self.beyond.into_values().map(|(found, count)| match count {
            1 => found,
            count => Found { evidence: format!("{}, and {} more", found.evidence, count - 1), ..found },
        }));
        (rows, self.cut)
    }
}

#[cfg(test)]
mod tests {
    use meterlake_model::Timestamp;
    use meterlake_model::check::{OnFail, Severity};

    use super::*;

    fn found(point: &str, hour: i64, on_fail: OnFail) -> Found {
        let start = Timestamp::from_unix_seconds(hour * 3600).unwrap();
        Found {
            usage_point_id: point.to_owned(),
            channel: "energy_import_kwh".to_owned(),
            start,
            rule: "V27_x".to_owned(),
            end: start.plus_seconds(3600),
            severity: Severity::Issue,
            on_fail,
            measured: None,
            reference: None,
            limit: None,
            meter_id: String::new(),
            evidence: "seen".to_owned(),
        }
    }

    #[test]
    fn what_is_only_told_is_cut_off_and_counted() {
        let mut keep = Keep::new(Some(3));
        (0..10).for_each(|hour| keep.put(found("E-1", hour, OnFail::Keep)));
        let (rows, cut) = keep.close();
        assert_eq!((rows.len(), cut), (3, 7));
    }

    #[test]
    fn what_holds_bills_is_kept_once_a_place_beyond_the_limit() {
        let mut keep = Keep::new(Some(1));
        for point in ["E-1", "E-2", "E-3"] {
            (0..4).for_each(|hour| keep.put(found(point, hour, OnFail::Hold)));
        }
        let (rows, cut) = keep.close();
        let shown: Vec<_> = rows.iter().map(|f| (f.usage_point_id.as_str(), f.evidence.as_str())).collect();
        let more =
            [("E-1", "seen"), ("E-1", "seen, and 2 more"), ("E-2", "seen, and 3 more"), ("E-3", "seen, and 3 more")];
        assert_eq!((shown, cut), (more.to_vec(), 8));
        assert_eq!(rows[2].end.micros_since(rows[2].start), 4 * 3_600_000_000);
    }
}
