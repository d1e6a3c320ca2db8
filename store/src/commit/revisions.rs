//! Same meter, same time, again: what is dropped, what completes a row, what becomes a further revision.
//!
//! Pure. Equal values are dropped; other columns are one more row of the same revision, merged when read; a differing
//! value is one more revision, kept beside the first and flagged. Whatever the order in which rows arrive, the values
//! that are kept are the same.

use meterlake_model::Channel;

/// Values of one row by channel.
pub(crate) type Values = Vec<(Channel, i64)>;

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything it says is there already.
    Duplicate,
    /// It is kept under this revision; above 0 it contradicts another row.
    Keep(i32),
}

/// The rows of one meter and time: merged values by revision, in rising order.
#[derive(Debug, Default)]
pub(crate) struct Revisions(Vec<(i32, Values)>);

impl Revisions {
    /// Takes a row that is in the table.
    pub(crate) fn insert(&mut self, revision: i32, values: &[(Channel, i64)]) {
        match self.0.binary_search_by_key(&revision, |(r, _)| *r) {
            Ok(at) => complete(&mut self.0[at].1, values),
            Err(at) => self.0.insert(at, (revision, values.to_vec())),
        }
    }

    /// Judges a row that comes, and takes it in.
    pub(crate) fn judge(&mut self, values: &[(Channel, i64)]) -> Verdict {
        if self.0.iter().any(|(_, known)| values.iter().all(|(c, v)| value(known, *c) == Some(*v))) {
            return Verdict::Duplicate;
        }
        let agrees = |known: &Values| values.iter().all(|(c, v)| value(known, *c).is_none_or(|k| k == *v));
        if let Some((revision, known)) = self.0.iter_mut().find(|(_, known)| agrees(known)) {
            complete(known, values);
            return Verdict::Keep(*revision);
        }
        let revision = self.0.last().map_or(0, |(last, _)| last + 1);
        self.0.push((revision, values.to_vec()));
        Verdict::Keep(revision)
    }
}

fn value(values: &Values, channel: Channel) -> Option<i64> {
    values.iter().find(|(c, _)| *c == channel).map(|(_, v)| *v)
}

fn complete(known: &mut Values, values: &[(Channel, i64)]) {
    for (channel, v) in values {
        if value(known, *channel).is_none() {
            known.push((*channel, *v));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Duplicate, Keep};

    fn row(text: &str) -> Values {
        let channels = ["energy_import_kwh", "voltage_l1_v", "power_kw"];
        let parse = |(i, v): (usize, &str)| Some((Channel::by_name(channels[i]).unwrap(), v.parse().ok()?));
        text.split(' ').enumerate().filter_map(parse).collect()
    }

    fn check(rows: &[&str], expected: &[Verdict]) {
        let mut revisions = Revisions::default();
        let verdicts: Vec<_> = rows.iter().map(|r| revisions.judge(&row(r))).collect();
        assert_eq!(verdicts, expected, "{rows:?}");
    }

    #[test]
    fn equal_values_are_dropped_other_columns_complete_and_differing_ones_are_kept_beside() {
        check(&["5 - -", "5 - -"], &[Keep(0), Duplicate]);
        check(&["5 7 -", "5 - -"], &[Keep(0), Duplicate]);
        check(&["5 - -", "5 7 -", "- 7 -"], &[Keep(0), Keep(0), Duplicate]);
        check(&["5 - -", "- 7 -", "- - 9", "5 7 9"], &[Keep(0), Keep(0), Keep(0), Duplicate]);
        check(&["5 - -", "6 - -", "5 - -", "6 - -", "7 - -"], &[Keep(0), Keep(1), Duplicate, Duplicate, Keep(2)]);
        check(&["5 7 -", "5 8 -", "- 8 3", "- 9 -"], &[Keep(0), Keep(1), Keep(1), Keep(2)]);
        check(&["- - -", "- - -"], &[Keep(0), Duplicate]);
    }

    #[test]
    fn what_the_table_holds_counts_as_arrived() {
        let mut revisions = Revisions::default();
        revisions.insert(1, &row("6 - -"));
        revisions.insert(0, &row("5 - -"));
        revisions.insert(0, &row("- 7 -"));
        assert_eq!(revisions.judge(&row("5 7 -")), Duplicate);
        assert_eq!(revisions.judge(&row("6 8 -")), Keep(1));
        assert_eq!(revisions.judge(&row("4 - -")), Keep(2));
    }
}
