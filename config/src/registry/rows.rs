//! The rows of one file by their id.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use super::table::{Row, Table};

/// What a row became, and its line.
pub(super) struct Lined<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// A file's rows by id, and whether an id that is not among them is known to be missing.
pub(super) struct Rows<I, T> {
    by_id: BTreeMap<I, Lined<T>>,
    complete: bool,
}

impl<I: Ord + Clone + fmt::Display, T> Rows<I, T> {
    /// Reads a file; `read` gives id and value of a row, or `None` when it has no usable id.
    pub(super) fn read(table: &Table<'_>, mut read: impl FnMut(&Row<'_>) -> Option<(I, T)>) -> Self {
        let mut by_id: BTreeMap<I, Lined<T>> = BTreeMap::new();
        let readable = table.each_row(|row| {
            let Some((id, value)) = read(row) else { return };
            match by_id.entry(id) {
                Entry::Occupied(first) => {
                    row.refuse(format_args!("`{}` stands already in line {}", first.key(), first.get().line));
                }
                Entry::Vacant(free) => {
                    free.insert(Lined { line: row.line, value });
                }
            }
        });
        // A file that need not be there says nothing by having no rows.
        let complete = readable && !(table.spec.may_be_absent && by_id.is_empty());
        Self { by_id, complete }
    }

    /// The row of an id.
    pub(super) fn get(&self, id: &I) -> Option<&T> {
        self.by_id.get(id).map(|row| &row.value)
    }

    /// The line of an id.
    pub(super) fn line_of(&self, id: &I) -> Option<usize> {
        self.by_id.get(id).map(|row| row.line)
    }

    /// Whether the file was read and does not have the id.
    pub(super) fn lacks(&self, id: &I) -> bool {
        self.complete && !self.by_id.contains_key(id)
    }

    /// All rows with their lines, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&I, usize, &T)> {
        self.by_id.iter().map(|(id, row)| (id, row.line, &row.value))
    }

    /// Without the lines.
    pub(super) fn into_values(self) -> BTreeMap<I, T> {
        self.by_id.into_iter().map(|(id, row)| (id, row.value)).collect()
    }
}
