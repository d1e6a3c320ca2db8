//! What is stored of one meter and time against what the messages that brought it say now. Pure.
//!
//! A stored row belongs to a message when both came from one source in one second and the message still gives a row of
//! this meter and time. Where the message gives none any more (another meter, another time, a refusal) the row belongs to
//! it if no other message of that second explains it. Rows of other messages stay as they are: they are repeated beside the
//! new values, since the new generation stands for all.

use meterlake_model::{Channel, ReadingFlags, RowHeader, revision};

/// Values of one row by channel.
pub(crate) type Values = Vec<(Channel, i64)>;

/// A row of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) header: RowHeader,
    pub(crate) revision: i32,
    pub(crate) commit_seq: i64,
    pub(crate) values: Values,
    /// A selected message came from its source in its second, and no map keeps its own messages back.
    pub(crate) may_be_asked: bool,
}

/// A row that a message gives now, in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) header: RowHeader,
    pub(crate) values: Values,
    /// Whether the message was asked for; others only explain rows.
    pub(crate) selected: bool,
}

/// One value of one meter and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) channel: Channel,
    pub(crate) old: Option<i64>,
    pub(crate) new: Option<i64>,
}

/// What is to be written of one meter and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// In order; the first begins the generation, and is without values where nothing stands any more.
    pub(crate) rows: Vec<(RowHeader, Values)>,
    /// The first revision of that generation.
    pub(crate) revision: i32,
}

/// What became of one meter and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing of it was asked for.
    Passed,
    /// What is stored is what is decoded.
    Equal(Vec<Cell>),
    /// Something else stands from now on.
    Changed(Vec<Cell>, Change),
}

/// Compares. `stored` are all rows of one meter and time, `decoded` what messages give of it now.
pub(crate) fn compare(stored: &[Stored], decoded: &[Decoded]) -> Outcome {
    let newest = stored.iter().map(|row| revision::generation(row.revision)).max().unwrap_or(0);
    let stands = |row: &&Stored| revision::generation(row.revision) == newest && !revision::is_void(row.revision);
    let mut standing: Vec<&Stored> = stored.iter().filter(stands).collect();
    standing.sort_by_key(|row| (row.revision, row.commit_seq));
    let is_of = |row: &Stored, message: &Decoded| {
        row.header.source == message.header.source && row.header.received_at_s == message.header.received_at_s
    };
    let asked = |row: &Stored| {
        let mut explained = decoded.iter().filter(|d| is_of(row, d)).peekable();
        if explained.peek().is_none() { row.may_be_asked } else { explained.any(|d| d.selected) }
    };
    let (replaced, kept): (Vec<&Stored>, Vec<&Stored>) = standing.iter().partition(|row| asked(row));
    if replaced.is_empty() && !decoded.iter().any(|d| d.selected) {
        return Outcome::Passed;
    }
    let mut arrived: Vec<(&RowHeader, &Values)> = kept.iter().map(|row| (&row.header, &row.values)).collect();
    arrived.extend(decoded.iter().filter(|d| d.selected).map(|d| (&d.header, &d.values)));
    arrived.sort_by_key(|(header, _)| header.received_at_s);
    let old = merged(standing.iter().map(|row| (&row.header, &row.values)));
    let mut rows = by_message(arrived.into_iter());
    let new = merged(rows.iter().map(|(header, values)| (header, values)));
    let cells = cells(&old, &new);
    if same(&old, &new) {
        return Outcome::Equal(cells);
    }
    let mut last = stored.iter().map(|row| row.revision).max().unwrap_or(0);
    for (at, (header, _)) in rows.iter_mut().enumerate() {
        header.flags = plain(header.flags);
        if at == 0 {
            header.flags = header.flags.with(ReadingFlags::RE_DECODED);
        }
    }
    // A row that says less than one that was decoded again is taken for its repetition, unless nothing stands first.
    let less = newest > 0 && old.first().zip(rows.first()).is_some_and(|((_, old), (_, new))| says(old, new));
    if let Some((header, _)) = old.into_iter().next().filter(|_| less || rows.is_empty()) {
        let flags = plain(header.flags).with(ReadingFlags::RE_DECODED);
        rows.insert(0, (RowHeader { flags, ..header }, Values::new()));
        last = revision::next_void(last);
    }
    let is_void = rows.len() == 1 && rows.iter().all(|(_, values)| values.is_empty());
    let revision = if is_void { last } else { revision::next_generation(last) };
    Outcome::Changed(cells, Change { rows, revision })
}

/// Without what the committer says of a row.
fn plain(flags: ReadingFlags) -> ReadingFlags {
    ReadingFlags::from_bits(flags.bits() & !ReadingFlags::CONFLICT.bits() & !ReadingFlags::RE_DECODED.bits())
}

/// Whether a row says all that another does.
fn says(row: &Values, other: &Values) -> bool {
    other.iter().all(|(channel, value)| value_of(row, *channel) == Some(*value))
}

fn value_of(values: &Values, channel: Channel) -> Option<i64> {
    values.iter().find(|(c, _)| *c == channel).map(|(_, value)| *value)
}

/// Rows that say something new, one for each message: what completes another message's row stays its own.
fn by_message<'r>(rows: impl Iterator<Item = (&'r RowHeader, &'r Values)>) -> Vec<(RowHeader, Values)> {
    let mut kept: Vec<(RowHeader, Values)> = Vec::new();
    for (header, values) in rows.filter(|(_, values)| !values.is_empty()) {
        if merged(kept.iter().map(|(h, v)| (h, v))).iter().any(|(_, known)| says(known, values)) {
            continue;
        }
        let same = |h: &RowHeader| h.source == header.source && h.received_at_s == header.received_at_s;
        match kept.iter_mut().find(|(h, known)| same(h) && agree(known, values)) {
            Some((_, known)) => complete(known, values),
            None => kept.push((header.clone(), sorted(values))),
        }
    }
    kept
}

fn agree(known: &Values, values: &Values) -> bool {
    values.iter().all(|(channel, value)| value_of(known, *channel).is_none_or(|k| k == *value))
}

fn complete(known: &mut Values, values: &Values) {
    let more: Values = values.iter().filter(|(channel, _)| value_of(known, *channel).is_none()).copied().collect();
    known.extend(more);
    known.sort_by_key(|(channel, _)| *channel);
}

/// Rows as the committer keeps them: repeats dropped, complements in one, contradictions beside each other.
fn merged<'r>(rows: impl Iterator<Item = (&'r RowHeader, &'r Values)>) -> Vec<(RowHeader, Values)> {
    let mut kept: Vec<(RowHeader, Values)> = Vec::new();
    for (header, values) in rows.filter(|(_, values)| !values.is_empty()) {
        if kept.iter().any(|(_, known)| says(known, values)) {
            continue;
        }
        match kept.iter_mut().find(|(_, known)| agree(known, values)) {
            Some((_, known)) => complete(known, values),
            None => kept.push((header.clone(), sorted(values))),
        }
    }
    kept
}

fn sorted(values: &Values) -> Values {
    let mut values = values.clone();
    values.sort_by_key(|(channel, _)| *channel);
    values
}

/// Whether the same values stand, in whatever order they came.
fn same(old: &[(RowHeader, Values)], new: &[(RowHeader, Values)]) -> bool {
    let values = |rows: &[(RowHeader, Values)]| {
        let mut values: Vec<Values> = rows.iter().map(|(_, values)| values.clone()).collect();
        values.sort();
        values
    };
    values(old) == values(new)
}

/// By channel what is shown of it: the last value of those that stand.
fn cells(old: &[(RowHeader, Values)], new: &[(RowHeader, Values)]) -> Vec<Cell> {
    let of =
        |rows: &[(RowHeader, Values)], channel| rows.iter().rev().find_map(|(_, values)| value_of(values, channel));
    let mut channels: Vec<Channel> = old.iter().chain(new).flat_map(|(_, v)| v.iter().map(|(c, _)| *c)).collect();
    channels.sort_unstable();
    channels.dedup();
    channels.into_iter().map(|channel| Cell { channel, old: of(old, channel), new: of(new, channel) }).collect()
}

#[cfg(test)]
mod tests {
    use meterlake_model::{MeterId, Timestamp};
    use proptest::prelude::*;

    use super::*;

    const G: i32 = revision::FIRST_RE_DECODED;

    fn header(source: &str, received_at_s: i64) -> RowHeader {
        RowHeader {
            meter_id: MeterId::new("m1").unwrap(),
            ts: Timestamp::from_unix_seconds(1_700_000_000).unwrap(),
            received_at_s,
            source: source.into(),
            profile: "map@1".into(),
            flags: ReadingFlags::NONE,
        }
    }

    fn values(text: &str) -> Values {
        let names = ["energy_import_kwh", "voltage_l1_v"];
        let parse = |(at, v): (usize, &str)| Some((Channel::by_name(names[at]).unwrap(), v.parse().ok()?));
        text.split(' ').enumerate().filter_map(parse).collect()
    }

    fn stored(came: i64, revision: i32, text: &str) -> Stored {
        Stored { header: header("b", came), revision, commit_seq: 1, values: values(text), may_be_asked: false }
    }

    fn decoded(came: i64, text: &str) -> Decoded {
        Decoded { header: header("b", came), values: values(text), selected: true }
    }

    /// What is written, as `flags:values` by row, and the first revision.
    fn written(stored: &[Stored], decoded: &[Decoded]) -> Option<(Vec<String>, i32)> {
        let Outcome::Changed(_, change) = compare(stored, decoded) else { return None };
        let show = |(header, values): &(RowHeader, Values)| {
            let values: Vec<_> = values.iter().map(|(c, v)| format!("{c}={v}")).collect();
            format!("{}:{}", header.flags.bits(), values.join(","))
        };
        Some((change.rows.iter().map(show).collect(), change.revision))
    }

    #[test]
    fn a_value_that_differs_begins_a_generation_and_one_that_does_not_leaves_all_alone() {
        let e = |n: i64| format!("64:energy_import_kwh={n}");
        assert_eq!(written(&[stored(5, 0, "50 -")], &[decoded(5, "5 -")]), Some((vec![e(5)], G)));
        assert_eq!(written(&[stored(5, 0, "50 -")], &[decoded(5, "50 -")]), None);
        assert_eq!(written(&[], &[decoded(5, "5 -")]), Some((vec![e(5)], G)), "new");
        // Decoded again before: what stands is what is compared.
        let twice = [stored(5, 0, "50 -"), stored(5, G, "5 -")];
        assert_eq!(written(&twice, &[decoded(5, "5 -")]), None);
        assert_eq!(written(&twice, &[decoded(5, "50 -")]), Some((vec![e(50)], 2 * G)));
        // A message that came twice, and a row of which a channel is not read any more.
        assert_eq!(written(&[stored(5, 0, "50 -")], &[decoded(5, "50 -"), decoded(9, "50 -")]), None);
        assert_eq!(written(&[stored(5, 0, "50 7")], &[decoded(5, "50 -")]), Some((vec![e(50)], G)));
        // Less than what was decoded again before: first nothing stands, or it would be taken for a repetition.
        let less = written(&[stored(5, G, "5 7")], &[decoded(5, "5 -")]);
        assert_eq!(less, Some((vec!["64:".to_owned(), e(5)], 3 * G)));
        // Blocks of one poll complete each other.
        assert_eq!(written(&[stored(5, 0, "50 7")], &[decoded(5, "50 -"), decoded(5, "- 7")]), None);
    }

    #[test]
    fn what_other_messages_said_stays_beside_it() {
        let other = |came, text| Stored { header: header("other", came), ..stored(came, 1, text) };
        let rows = [stored(5, 0, "50 -"), other(7, "- 9")];
        let all = vec!["64:energy_import_kwh=5".to_owned(), "0:voltage_l1_v=9".to_owned()];
        assert_eq!(written(&rows, &[decoded(5, "5 -")]), Some((all, G)));
        // One that contradicts, later: both stand, the later one last.
        let rows = [stored(5, 0, "50 -"), other(7, "6 -")];
        let both = vec!["64:energy_import_kwh=5".to_owned(), "0:energy_import_kwh=6".to_owned()];
        assert_eq!(written(&rows, &[decoded(5, "5 -")]), Some((both, G)));
        // One message was asked for, the other was not: it explains its own row, and that stays.
        let unasked = Decoded { selected: false, ..decoded(9, "70 -") };
        assert_eq!(compare(&[stored(9, 0, "7 -")], std::slice::from_ref(&unasked)), Outcome::Passed);
        let may = Stored { may_be_asked: true, ..stored(9, 0, "7 -") };
        assert_eq!(compare(&[may], &[unasked]), Outcome::Passed);
    }

    #[test]
    fn a_row_that_no_message_explains_any_more_is_void() {
        let may = |revision, text| Stored { may_be_asked: true, ..stored(5, revision, text) };
        assert_eq!(written(&[may(0, "50 7")], &[]), Some((vec!["64:".to_owned()], 2 * G - 1)));
        assert_eq!(compare(&[stored(5, 0, "50 7")], &[]), Outcome::Passed);
        // Void already.
        let void = Stored { values: Values::new(), ..may(2 * G - 1, "") };
        assert_eq!(compare(&[may(0, "50 7"), void.clone()], &[]), Outcome::Passed);
        let back = written(&[may(0, "50 7"), void], &[decoded(5, "5 -")]);
        assert_eq!(back, Some((vec!["64:energy_import_kwh=5".to_owned()], 2 * G)));
    }

    #[test]
    fn cells_tell_what_was_shown_and_what_will_be() {
        let Outcome::Changed(cells, _) = compare(&[stored(5, 0, "50 7")], &[decoded(5, "5 -")]) else { panic!() };
        let told: Vec<_> = cells.iter().map(|c| (c.old, c.new)).collect();
        assert_eq!(told, [(Some(50), Some(5)), (Some(7), None)]);
    }

    proptest! {
        /// What was written, read back, is what is decoded: a second time nothing is to be done.
        #[test]
        fn once_written_nothing_is_to_be_written(
            came in prop::collection::vec((0..4_i64, 0..3_i64, prop::option::of(0..3_i64)), 0..5),
            now in prop::collection::vec((0..4_i64, 0..3_i64, prop::option::of(0..3_i64)), 0..5),
        ) {
            let text = |e: i64, v: Option<i64>| format!("{e} {}", v.map_or("-".to_owned(), |v| v.to_string()));
            let rows: Vec<Stored> = came
                .iter()
                .enumerate()
                .map(|(at, (came, e, v))| Stored {
                    may_be_asked: *came > 1,
                    ..stored(*came, i32::try_from(at).unwrap(), &text(*e, *v))
                })
                .collect();
            let decoded: Vec<Decoded> = now.iter().map(|(came, e, v)| decoded(*came, &text(*e, *v))).collect();
            if let Outcome::Changed(_, change) = compare(&rows, &decoded) {
                let mut after = rows.clone();
                for (at, (header, values)) in (0_i32..).zip(&change.rows) {
                    after.push(Stored {
                        may_be_asked: header.received_at_s > 1,
                        header: header.clone(),
                        revision: change.revision + at,
                        commit_seq: 2,
                        values: values.clone(),
                    });
                }
                prop_assert!(!matches!(compare(&after, &decoded), Outcome::Changed(..)), "{rows:?} {decoded:?}");
            }
        }
    }
}
