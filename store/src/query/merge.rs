//! One row for each meter and time, out of rows sorted by meter, time and revision: repeats and complements merged, the
//! highest revision's value where they differ, and then flagged. Of what was decoded again the last time alone stands.
//!
//! It walks the rows once and holds one batch back, since the next may begin with the same meter and time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::{Decimal128Type, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use meterlake_model::{Channel, ReadingFlags, revision};

use super::provider::COMMIT_SEQ;

/// The columns that the walk looks at.
pub(super) const KEY: [&str; 3] = ["meter_id", "ts", "revision"];
/// Where a conflict is told.
const FLAGS: &str = "flags";

/// Which rows come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keep {
    /// One row for each meter and time.
    All,
    /// Of those the last of each meter.
    Latest,
}

/// Where the columns are in the rows that come.
#[derive(Debug, Clone)]
struct Layout {
    schema: SchemaRef,
    meter: usize,
    ts: usize,
    revision: usize,
    commit_seq: Option<usize>,
    flags: Option<usize>,
    /// Columns of channels, whose values may contradict each other.
    channels: Vec<usize>,
}

/// The walk over one sorted stream.
#[derive(Debug)]
pub(super) struct Resolver {
    layout: Layout,
    keep: Keep,
    held: Option<RecordBatch>,
}

impl Resolver {
    pub(super) fn new(schema: SchemaRef, keep: Keep) -> Result<Self, ArrowError> {
        let channels = schema.fields().iter().enumerate();
        let channels = channels.filter(|(_, f)| Channel::by_name(f.name()).is_some()).map(|(i, _)| i).collect();
        let layout = Layout {
            meter: schema.index_of(KEY[0])?,
            ts: schema.index_of(KEY[1])?,
            revision: schema.index_of(KEY[2])?,
            commit_seq: schema.index_of(COMMIT_SEQ).ok(),
            flags: schema.index_of(FLAGS).ok(),
            channels,
            schema,
        };
        Ok(Self { layout, keep, held: None })
    }

    /// Takes the next rows; gives those that no later row can change.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>, ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        let Some(held) = self.held.take() else {
            self.held = Some(batch);
            return Ok(None);
        };
        let (before, after) = (Keys::of(&held, &self.layout), Keys::of(&batch, &self.layout));
        let last = held.num_rows() - 1;
        let same_meter = before.meters.value(last) == after.meters.value(0);
        if !same_meter || before.times[last] != after.times[0] {
            let done = self.close(&held, same_meter)?;
            self.held = Some(batch);
            return Ok(Some(done));
        }
        // The last group goes on in the new batch.
        let start = (0..last).rev().take_while(|row| before.same(*row, last)).last().unwrap_or(last);
        let done = held.slice(0, start);
        let goes_on = start > 0 && before.meters.value(start - 1) == before.meters.value(start);
        let group = held.slice(start, held.num_rows() - start);
        self.held = Some(concat_batches(&self.layout.schema, [&group, &batch])?);
        if start == 0 { Ok(None) } else { self.close(&done, goes_on).map(Some) }
    }

    /// The rows that were held back.
    pub(super) fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        self.held.take().map(|held| self.close(&held, false)).transpose()
    }

    /// Resolves whole groups. `goes_on`: more rows of the last meter follow.
    fn close(&self, rows: &RecordBatch, goes_on: bool) -> Result<RecordBatch, ArrowError> {
        let resolved = resolve(rows, &self.layout)?;
        match self.keep {
            Keep::All => Ok(resolved),
            Keep::Latest => {
                let meters = resolved.column(self.layout.meter).as_string::<i32>();
                let count = resolved.num_rows();
                let is_last =
                    |row: usize| if row + 1 < count { meters.value(row) != meters.value(row + 1) } else { !goes_on };
                filter_record_batch(&resolved, &BooleanArray::from_iter((0..count).map(|row| Some(is_last(row)))))
            }
        }
    }
}

struct Keys<'a> {
    meters: &'a StringArray,
    times: &'a [i64],
}

impl<'a> Keys<'a> {
    fn of(batch: &'a RecordBatch, layout: &Layout) -> Self {
        Self {
            meters: batch.column(layout.meter).as_string::<i32>(),
            times: batch.column(layout.ts).as_primitive::<TimestampMicrosecondType>().values(),
        }
    }

    fn same(&self, a: usize, b: usize) -> bool {
        self.times[a] == self.times[b] && self.meters.value(a) == self.meters.value(b)
    }
}

fn resolve(rows: &RecordBatch, layout: &Layout) -> Result<RecordBatch, ArrowError> {
    let keys = Keys::of(rows, layout);
    let count = rows.num_rows();
    let revisions = rows.column(layout.revision).as_primitive::<Int32Type>();
    let void = revisions.values().iter().any(|r| revision::is_void(*r));
    if !void && (1..count).all(|row| !keys.same(row - 1, row)) {
        return Ok(rows.clone());
    }
    // For each row that comes out, the rows that it is made of, what overrides last.
    let mut groups: Vec<Vec<usize>> = Vec::with_capacity(count);
    for row in 0..count {
        match groups.last_mut() {
            Some(group) if keys.same(row - 1, row) => group.push(row),
            _ => groups.push(vec![row]),
        }
    }
    for group in &mut groups {
        let newest = group.iter().map(|row| revision::generation(revisions.value(*row))).max().unwrap_or(0);
        let stands = |revision: i32| revision::generation(revision) == newest && !revision::is_void(revision);
        group.retain(|row| newest == 0 || stands(revisions.value(*row)));
    }
    groups.retain(|group| !group.is_empty());
    let commits = layout.commit_seq.map(|c| rows.column(c).as_primitive::<Int64Type>());
    for group in groups.iter_mut().filter(|g| g.len() > 1) {
        // Hot rows have no commit and are newer than any that has one.
        let commit = |row: usize| commits.map_or(0, |c| if c.is_null(row) { i64::MAX } else { c.value(row) });
        group.sort_by_key(|row| (revisions.value(*row), commit(*row)));
    }
    let columns = rows.columns().iter().enumerate().map(|(at, column)| {
        if layout.flags == Some(at) {
            return Ok(resolved_flags(rows, layout, &groups));
        }
        let picks = groups.iter().map(|group| pick(column, group)).collect::<UInt32Array>();
        take(column, &picks, None)
    });
    RecordBatch::try_new(layout.schema.clone(), columns.collect::<Result<_, _>>()?)
}

/// The last row of the group that has a value.
fn pick(column: &ArrayRef, group: &[usize]) -> Option<u32> {
    let row = match group {
        [only] => *only,
        _ => *group.iter().rev().find(|row| column.is_valid(**row)).or(group.last())?,
    };
    u32::try_from(row).ok()
}

fn resolved_flags(rows: &RecordBatch, layout: &Layout, groups: &[Vec<usize>]) -> ArrayRef {
    let Some(at) = layout.flags else { return Arc::new(Int32Array::new_null(groups.len())) };
    let flags = rows.column(at).as_primitive::<Int32Type>();
    let conflict = ReadingFlags::CONFLICT.bits().cast_signed();
    let resolved = groups.iter().map(|group| {
        let all = group.iter().fold(0, |all, row| all | flags.value(*row));
        if group.len() > 1 && contradicts(rows, layout, group) { all | conflict } else { all }
    });
    Arc::new(Int32Array::from_iter_values(resolved))
}

fn contradicts(rows: &RecordBatch, layout: &Layout, group: &[usize]) -> bool {
    let revisions = rows.column(layout.revision).as_primitive::<Int32Type>();
    let first = group.first().map(|row| revisions.value(*row));
    if group.iter().any(|row| Some(revisions.value(*row)) != first) {
        return true;
    }
    layout.channels.iter().any(|at| {
        let values = rows.column(*at).as_primitive::<Decimal128Type>();
        let mut present = group.iter().filter(|row| values.is_valid(**row)).map(|row| values.value(*row));
        present.next().is_some_and(|first| present.any(|value| value != first))
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;
    use crate::schema::{channel_type, instant};

    /// meter, time, revision, energy, voltage, commit
    type Row = (&'static str, i64, i32, Option<i128>, Option<i128>, Option<i64>);

    fn batch(rows: &[Row]) -> RecordBatch {
        let channel = |name: &str| Field::new(name, channel_type(Channel::by_name(name).unwrap()), true);
        let schema = Arc::new(Schema::new(vec![
            Field::new("meter_id", DataType::Utf8, false),
            Field::new("ts", instant(), false),
            Field::new("revision", DataType::Int32, false),
            channel("energy_import_kwh"),
            channel("voltage_l1_v"),
            Field::new("flags", DataType::Int32, false),
            Field::new("commit_seq", DataType::Int64, true),
        ]));
        let decimals = |precision, scale, value: fn(&Row) -> Option<i128>| {
            let array: Decimal128Array = rows.iter().map(value).collect();
            array.with_precision_and_scale(precision, scale).unwrap()
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.1)).with_timezone("UTC")),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.2))),
            Arc::new(decimals(15, 3, |r| r.3)),
            Arc::new(decimals(9, 1, |r| r.4)),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|_| 1))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.5))),
        ];
        RecordBatch::try_new(schema, columns).unwrap()
    }

    /// Rows that come out, as `meter time energy voltage flags`.
    fn run(parts: &[RecordBatch], keep: Keep) -> Vec<String> {
        let mut resolver = Resolver::new(parts[0].schema(), keep).unwrap();
        let mut out = Vec::new();
        for part in parts {
            out.extend(resolver.push(part.clone()).unwrap());
        }
        out.extend(resolver.finish().unwrap());
        let text = |column: &ArrayRef, row: usize| arrow::util::display::array_value_to_string(column, row).unwrap();
        out.iter()
            .flat_map(|b| (0..b.num_rows()).map(move |row| (b, row)))
            .map(|(b, row)| {
                let ts = b.column(1).as_primitive::<TimestampMicrosecondType>().value(row);
                format!(
                    "{} {ts} {} {} {}",
                    text(b.column(0), row),
                    text(b.column(3), row),
                    text(b.column(4), row),
                    text(b.column(5), row)
                )
            })
            .collect()
    }

    fn check(rows: &[Row], expected: &[&str]) {
        assert_eq!(run(&[batch(rows)], Keep::All), expected);
        // However the rows are cut into batches.
        for cut in 1..rows.len() {
            assert_eq!(run(&[batch(&rows[..cut]), batch(&rows[cut..])], Keep::All), expected, "cut at {cut}");
        }
        let single: Vec<_> = rows.iter().map(|row| batch(&[*row])).collect();
        assert_eq!(run(&single, Keep::All), expected, "one by one");
    }

    #[test]
    fn rows_without_repeats_pass_unchanged() {
        check(
            &[
                ("a", 1, 0, Some(5), None, Some(1)),
                ("a", 2, 0, Some(6), Some(2300), Some(1)),
                ("b", 2, 0, None, Some(1), Some(2)),
            ],
            &["a 1 0.005  1", "a 2 0.006 230.0 1", "b 2  0.1 1"],
        );
    }

    #[test]
    fn other_columns_complete_a_row_and_equal_ones_repeat_it() {
        check(
            &[
                ("a", 1, 0, Some(5), None, Some(1)),
                ("a", 1, 0, None, Some(2300), Some(2)),
                ("a", 1, 0, Some(5), None, None),
                ("b", 1, 0, Some(7), None, Some(1)),
            ],
            &["a 1 0.005 230.0 1", "b 1 0.007  1"],
        );
    }

    #[test]
    fn rule_3_a_contradiction_shows_the_highest_revision_and_is_flagged() {
        check(
            &[
                ("a", 1, 0, Some(5), Some(2300), Some(1)),
                ("a", 1, 1, Some(6), None, Some(2)),
                ("a", 2, 0, Some(9), None, Some(2)),
            ],
            &["a 1 0.006 230.0 3", "a 2 0.009  1"],
        );
    }

    #[test]
    fn rule_3_a_hot_row_that_contradicts_a_committed_one_is_newer() {
        check(&[("a", 1, 0, Some(6), None, None), ("a", 1, 0, Some(5), None, Some(7))], &["a 1 0.006  3"]);
    }

    #[test]
    fn what_was_decoded_again_stands_alone_and_a_void_hides_its_time() {
        const G: i32 = revision::FIRST_RE_DECODED;
        check(
            &[
                ("a", 1, 0, Some(50), Some(2300), Some(1)),
                ("a", 1, 1, Some(60), None, Some(2)),
                ("a", 1, G, Some(5), None, Some(3)),
                ("a", 2, 0, Some(70), None, Some(1)),
                ("a", 2, 2 * G - 1, None, None, Some(3)),
                ("a", 3, 2 * G - 1, None, None, Some(3)),
                ("b", 1, 0, Some(9), None, Some(1)),
                ("b", 1, G, Some(7), None, Some(3)),
                ("b", 1, G + 1, Some(8), None, Some(4)),
            ],
            &["a 1 0.005  1", "b 1 0.008  3"],
        );
    }

    #[test]
    fn the_latest_row_of_each_meter_is_the_last_resolved_one() {
        let rows = [
            ("a", 1, 0, Some(1), None, Some(1)),
            ("a", 2, 0, Some(2), None, Some(1)),
            ("a", 2, 1, Some(3), None, Some(1)),
            ("b", 1, 0, Some(4), None, Some(1)),
            ("c", 5, 0, Some(5), None, Some(1)),
            ("c", 6, 0, Some(6), None, Some(1)),
        ];
        let expected = ["a 2 0.003  3", "b 1 0.004  1", "c 6 0.006  1"];
        assert_eq!(run(&[batch(&rows)], Keep::Latest), expected);
        for cut in 1..rows.len() {
            assert_eq!(run(&[batch(&rows[..cut]), batch(&rows[cut..])], Keep::Latest), expected, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn the_cut_into_batches_makes_no_difference(
            mut rows in prop::collection::vec((0..3_usize, 0..4_i64, 0..2_i32, prop::option::of(0..3_i128)), 1..30),
            cuts in prop::collection::vec(0..30_usize, 0..5),
        ) {
            rows.sort();
            let rows: Vec<Row> = rows.iter().map(|(m, t, r, v)| (["a", "b", "c"][*m], *t, *r, *v, None, Some(1))).collect();
            let mut cuts: Vec<_> = cuts.into_iter().filter(|c| *c < rows.len()).chain([0, rows.len()]).collect();
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|w| batch(&rows[w[0]..w[1]])).collect();
            for keep in [Keep::All, Keep::Latest] {
                prop_assert_eq!(run(&parts, keep), run(&[batch(&rows)], keep));
            }
        }
    }
}
