//! The hour that a clock without offset shows twice: which of the two instants a row belongs to.
//!
//! The collector stores such rows at the earlier instant and flags them. Two rows at (nearly) the same wall clock are one
//! in each hour, and the register rises from the first to the second; a row alone goes where it breaks no order.

use meterlake_model::{LocalResolution, ReadingFlags, Zone};

use super::Reading;

/// Moves flagged rows of `rows`, in canonical order, to their true instants and restores the order.
pub(super) fn place(rows: &mut [Reading], zone: &Zone, interval_s: i64) {
    let flagged = |row: &Reading| row.flags.contains(ReadingFlags::AMBIGUOUS_LOCAL_TIME);
    let mut moved = false;
    let mut at = 0;
    while let Some(from) = rows[at..].iter().position(flagged).map(|i| at + i) {
        at = from + 1;
        let local = zone.local_text(rows[from].ts);
        let Ok(LocalResolution::Ambiguous { earlier, later }) = zone.resolve_local(&local) else { continue };
        let shift = later.micros_since(earlier);
        let end = rows[from..].partition_point(|row| row.ts.micros_since(rows[from].ts) < shift) + from;
        // Rows with an offset of their own may lie between.
        let fold: Vec<usize> = (from..end).filter(|i| flagged(&rows[*i])).collect();
        place_fold(rows, &fold, shift, interval_s.saturating_mul(1_000_000) / 10);
        moved = true;
        at = end;
    }
    if moved {
        rows.sort_unstable_by_key(Reading::order);
    }
}

fn place_fold(rows: &mut [Reading], fold: &[usize], shift: i64, near: i64) {
    let mut second = vec![None; fold.len()];
    let mut i = 0;
    while i < fold.len() {
        let here = rows[fold[i]].ts;
        let mut twins: Vec<usize> =
            (i..fold.len()).take_while(|j| rows[fold[*j]].ts.micros_since(here) <= near).collect();
        // More than two within a moment are a conflict of one instant, unless they share no exact time.
        if twins.len() > 2 && twins.iter().any(|j| rows[fold[*j]].ts != here) {
            twins.truncate(2);
        }
        let next = i + twins.len();
        if twins.len() > 1 {
            twins.sort_by_key(|j| {
                let row = &rows[fold[*j]];
                (row.value, row.received_at_s, row.revision, row.ts)
            });
            let last = twins.len() - 1;
            for (rank, j) in twins.into_iter().enumerate() {
                second[j] = Some(rank == last);
            }
        }
        i = next;
    }
    for i in 0..fold.len() {
        if second[i].is_some() {
            continue;
        }
        let breaks = |later: bool| {
            let mine = (later, rows[fold[i]].ts, rows[fold[i]].value);
            (0..fold.len())
                .filter(|j| {
                    let Some(other_later) = second[*j] else { return false };
                    let other = (other_later, rows[fold[*j]].ts, rows[fold[*j]].value);
                    ((other.0, other.1) < (mine.0, mine.1)) != (other.2 < mine.2) && other.2 != mine.2
                })
                .count()
        };
        second[i] = Some(breaks(true) < breaks(false));
    }
    for (i, at) in fold.iter().enumerate() {
        if second[i] == Some(true) {
            rows[*at].ts = rows[*at].ts.plus_micros(shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterlake_model::{Amount, Timestamp};

    fn row(ts: &str, value: &str, revision: i32) -> Reading {
        Reading {
            ts: Timestamp::parse_rfc3339(ts).unwrap(),
            received_at_s: 0,
            revision,
            value: Amount::parse(value).unwrap(),
            flags: ReadingFlags::AMBIGUOUS_LOCAL_TIME,
        }
    }

    fn check(interval_s: i64, rows: &[Reading], expected: &[(&str, &str)]) {
        let mut rows = rows.to_vec();
        rows.sort_unstable_by_key(Reading::order);
        place(&mut rows, &Zone::parse("Europe/Madrid").unwrap(), interval_s);
        let found: Vec<_> = rows.iter().map(|r| (r.ts.to_string(), r.value.to_string())).collect();
        let expected: Vec<_> =
            expected.iter().map(|(t, v)| (format!("2016-10-30T{t}Z"), Amount::parse(v).unwrap().to_string())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_register_rises_from_the_first_hour_to_the_second() {
        // The clock drifts back two seconds between the hours.
        check(
            3600,
            &[row("2016-10-30T00:31:11Z", "86.038", 0), row("2016-10-30T00:31:13Z", "86.037", 0)],
            &[("00:31:13", "86.037"), ("01:31:11", "86.038")],
        );
    }

    #[test]
    fn a_quarter_that_was_stored_once_goes_where_it_breaks_no_order() {
        let rows = [
            row("2016-10-30T00:00:00Z", "100", 0),
            row("2016-10-30T00:00:00Z", "104", 1),
            row("2016-10-30T00:15:00Z", "101", 0),
            row("2016-10-30T00:30:00Z", "105", 0),
            row("2016-10-30T00:45:00Z", "103", 0),
            row("2016-10-30T00:45:00Z", "106", 1),
        ];
        check(
            900,
            &rows,
            &[
                ("00:00:00", "100"),
                ("00:15:00", "101"),
                ("00:45:00", "103"),
                ("01:00:00", "104"),
                ("01:30:00", "105"),
                ("01:45:00", "106"),
            ],
        );
    }

    #[test]
    fn a_row_alone_stays_in_the_first_hour() {
        check(3600, &[row("2016-10-30T00:44:43Z", "185.262", 0)], &[("00:44:43", "185.262")]);
    }
}
