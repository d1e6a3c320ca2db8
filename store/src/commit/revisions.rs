//! Same meter, same time, again: what is dropped, what completes a row, what becomes a further revision.
//!
//! Pure. Equal values are dropped; other columns are one more row of the same revision, merged when read; a differing
//! value is one more revision, kept beside the first and flagged. Whatever the order in which rows arrive, the values
//! that are kept are the same. A row of history that was decoded again begins a generation, in the stead of all others.

use meterlake_model::{Channel, ReadingFlags, revision};

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

/// The rows of one meter and time that stand: merged values by revision, in rising order.
#[derive(Debug, Default)]
pub(crate) struct Revisions {
    standing: Vec<(i32, Values)>,
    /// The highest revision, be it one that says that nothing stands.
    last: Option<i32>,
}

impl Revisions {
    /// Takes a row that is in the table.
    pub(crate) fn insert(&mut self, revision: i32, values: &[(Channel, i64)]) {
        let generation = revision::generation(revision);
        match self.last.map(revision::generation) {
            Some(known) if known > generation => return,
            Some(known) if known < generation => self.standing.clear(),
            _ => {}
        }
        self.last = self.last.max(Some(revision));
        if revision::is_void(revision) {
            return;
        }
        match self.standing.binary_search_by_key(&revision, |(r, _)| *r) {
            Ok(at) => complete(&mut self.standing[at].1, values),
            Err(at) => self.standing.insert(at, (revision, values.to_vec())),
        }
    }

    /// Judges a row that comes, and takes it in.
    pub(crate) fn judge(&mut self, values: &[(Channel, i64)], flags: ReadingFlags) -> Verdict {
        if flags.contains(ReadingFlags::RE_DECODED) {
            return self.judge_re_decoded(values);
        }
        if self.standing.iter().any(|(_, known)| values.iter().all(|(c, v)| value(known, *c) == Some(*v))) {
            return Verdict::Duplicate;
        }
        let agrees = |known: &Values| values.iter().all(|(c, v)| value(known, *c).is_none_or(|k| k == *v));
        if let Some((revision, known)) = self.standing.iter_mut().find(|(_, known)| agrees(known)) {
            complete(known, values);
            return Verdict::Keep(*revision);
        }
        let revision = self.last.map_or(0, revision::after);
        self.insert(revision, values);
        Verdict::Keep(revision)
    }

    /// A row that begins what stands, or says that nothing does.
    fn judge_re_decoded(&mut self, values: &[(Channel, i64)]) -> Verdict {
        let again = self.last.is_some_and(|last| revision::generation(last) > 0);
        let known = self.standing.first().map_or(&[][..], |(_, known)| known);
        let says = values.iter().all(|(c, v)| value(known, *c) == Some(*v));
        let repeats = match (known.len(), values.len()) {
            (0, 0) => again || self.last.is_none(),
            (_, 0) => false,
            // What completed it since is no reason to begin anew.
            (_, _) if again => says,
            (known, values) => says && known == values && self.standing.len() == 1,
        };
        if repeats {
            return Verdict::Duplicate;
        }
        let last = self.last.unwrap_or(0);
        let revision = if values.is_empty() { revision::next_void(last) } else { revision::next_generation(last) };
        self.insert(revision, values);
        Verdict::Keep(revision)
    }
}

fn value(values: &[(Channel, i64)], channel: Channel) -> Option<i64> {
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
        let verdicts: Vec<_> = rows.iter().map(|r| revisions.judge(&row(r), ReadingFlags::NONE)).collect();
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
        let mut judge = |text| revisions.judge(&row(text), ReadingFlags::NONE);
        assert_eq!(judge("5 7 -"), Duplicate);
        assert_eq!(judge("6 8 -"), Keep(1));
        assert_eq!(judge("4 - -"), Keep(2));
    }

    /// Rows in order; those with a star were decoded again.
    fn check_again(rows: &[&str], expected: &[Verdict]) {
        let mut revisions = Revisions::default();
        let flags = |again| if again { ReadingFlags::RE_DECODED } else { ReadingFlags::NONE };
        let verdicts: Vec<_> =
            rows.iter().map(|r| revisions.judge(&row(r.trim_start_matches('*')), flags(r.starts_with('*')))).collect();
        assert_eq!(verdicts, expected, "{rows:?}");
    }

    #[test]
    fn what_was_decoded_again_stands_alone_and_comes_once() {
        const G: i32 = revision::FIRST_RE_DECODED;
        // In the stead of one and of several; what it says is not compared with what does not stand any more.
        check_again(&["50 - -", "*5 - -", "*5 - -", "50 - -"], &[Keep(0), Keep(G), Duplicate, Keep(G + 1)]);
        check_again(&["50 - -", "60 - -", "*50 - -", "50 - -"], &[Keep(0), Keep(1), Keep(G), Duplicate]);
        check_again(&["50 - -", "*5 - -", "*50 - -", "*5 - -"], &[Keep(0), Keep(G), Keep(2 * G), Keep(3 * G)]);
        // The only one that stands says it already.
        check_again(&["5 7 -", "*5 7 -"], &[Keep(0), Duplicate]);
        check_again(&["5 7 -", "*5 - -"], &[Keep(0), Keep(G)]);
        // What comes behind completes or contradicts it, and a repetition of both changes nothing.
        check_again(
            &["50 - -", "*5 - -", "6 - -", "*5 - -", "6 - -", "- 7 -", "*5 - -"],
            &[Keep(0), Keep(G), Keep(G + 1), Duplicate, Duplicate, Keep(G), Duplicate],
        );
    }

    #[test]
    fn nothing_stands_where_nothing_is_decoded_any_more_until_something_comes() {
        const G: i32 = revision::FIRST_RE_DECODED;
        check_again(&["50 - -", "*- - -", "*- - -"], &[Keep(0), Keep(2 * G - 1), Duplicate]);
        check_again(&["50 - -", "*- - -", "50 - -", "50 - -"], &[Keep(0), Keep(2 * G - 1), Keep(2 * G), Duplicate]);
        check_again(&["50 - -", "*- - -", "*4 - -"], &[Keep(0), Keep(2 * G - 1), Keep(2 * G)]);
        check_again(&["*4 5 -", "*- - -", "*4 - -"], &[Keep(G), Keep(3 * G - 1), Keep(3 * G)]);
        check_again(&["*- - -", "*4 - -", "*- - -"], &[Duplicate, Keep(G), Keep(3 * G - 1)]);
    }

    #[test]
    fn generations_in_the_table_stand_in_any_order_of_reading() {
        const G: i32 = revision::FIRST_RE_DECODED;
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let rows = [(0, "50 - -"), (G, "5 - -"), (G + 1, "6 - -")];
            let mut revisions = Revisions::default();
            order.iter().for_each(|at| revisions.insert(rows[*at].0, &row(rows[*at].1)));
            assert_eq!(revisions.judge(&row("6 - -"), ReadingFlags::NONE), Duplicate);
            assert_eq!(revisions.judge(&row("50 - -"), ReadingFlags::NONE), Keep(G + 2));
        }
    }
}
