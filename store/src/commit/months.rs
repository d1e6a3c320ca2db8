//! Rows by the UTC month of their time, in the order in which they come.

use std::collections::BTreeMap;

use meterlake_model::{Timestamp, month_key};

const DAY: i64 = 86_400_000_000;

/// Deals rows to months.
#[derive(Debug)]
pub(crate) struct ByMonth<T> {
    months: BTreeMap<String, Vec<T>>,
    /// The day asked for last and its month: the calendar is asked once a day of data, not once a row.
    last: Option<(i64, String)>,
}

impl<T> Default for ByMonth<T> {
    fn default() -> Self {
        Self { months: BTreeMap::new(), last: None }
    }
}

impl<T> ByMonth<T> {
    /// Adds rows of one time, in microseconds since 1970.
    pub(crate) fn extend(&mut self, micros: i64, rows: impl IntoIterator<Item = T>) {
        let day = micros.div_euclid(DAY);
        let month = match self.last.take() {
            Some((of, month)) if of == day => month,
            _ => Timestamp::from_micros(micros).map_or_else(|_| "0000-00".to_owned(), month_key),
        };
        match self.months.get_mut(&month) {
            Some(there) => there.extend(rows),
            None => drop(self.months.insert(month.clone(), rows.into_iter().collect())),
        }
        self.last = Some((day, month));
    }

    /// The months in their order.
    pub(crate) fn finish(self) -> BTreeMap<String, Vec<T>> {
        self.months
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_microsecond_of_a_month_is_still_in_it() {
        let first = Timestamp::parse_rfc3339("2026-11-01T00:00:00Z").unwrap().micros();
        let mut months = ByMonth::default();
        months.extend(first, [1]);
        months.extend(first - 1, [2]);
        months.extend(first + 1, [3, 4]);
        let months = months.finish();
        assert_eq!(months["2026-11"], [1, 3, 4]);
        assert_eq!(months["2026-10"], [2]);
    }
}
