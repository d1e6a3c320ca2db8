//! One CSV file as rows with named cells; its form is checked here, its meaning is not.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;

use csv::StringRecord;

use crate::problem::Problem;
use crate::spelling::near_miss;

/// The columns of a file.
pub(crate) struct FileSpec {
    pub(crate) name: &'static str,
    pub(crate) required: &'static [&'static str],
    pub(crate) optional: &'static [&'static str],
    pub(crate) may_be_absent: bool,
}

impl FileSpec {
    pub(crate) fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.required.iter().chain(self.optional).copied()
    }
}

/// A file of a million wrong rows is mended by its first thousand.
const MOST_PROBLEMS: usize = 1000;

/// Collects problems of all files.
#[derive(Default)]
pub(crate) struct Problems {
    kept: RefCell<Vec<Problem>>,
    more: Cell<usize>,
}

impl Problems {
    pub(crate) fn note(&self, problem: Problem) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < MOST_PROBLEMS {
            kept.push(problem);
        } else {
            self.more.set(self.more.get() + 1);
        }
    }

    /// `Err` with all problems by file and line, if there are any.
    pub(crate) fn settle(self, dir: &Path) -> Result<(), Vec<Problem>> {
        let mut problems = self.kept.into_inner();
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort();
        if self.more.get() > 0 {
            problems
                .push(Problem::of_file(dir.display().to_string(), format!("and {} more problems", self.more.get())));
        }
        Err(problems)
    }
}

/// An open file of the registry.
pub(crate) struct Table<'p> {
    pub(crate) spec: &'static FileSpec,
    path: String,
    problems: &'p Problems,
}

impl<'p> Table<'p> {
    pub(crate) fn new(spec: &'static FileSpec, dir: &Path, problems: &'p Problems) -> Self {
        Self { spec, path: dir.join(spec.name).display().to_string(), problems }
    }

    /// A file of any name.
    pub(crate) fn of_file(spec: &'static FileSpec, path: &Path, problems: &'p Problems) -> Self {
        Self { spec, path: path.display().to_string(), problems }
    }

    pub(crate) fn note(&self, line: usize, message: impl fmt::Display) {
        self.problems.note(Problem::at(&*self.path, line, message.to_string()));
    }

    fn note_file(&self, message: impl fmt::Display) {
        self.problems.note(Problem::of_file(&*self.path, message.to_string()));
    }

    /// Calls `each` with every row that has the form of the file. `false` when the file as a whole cannot be read.
    pub(crate) fn each_row(&self, mut each: impl FnMut(&Row<'_>)) -> bool {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && self.spec.may_be_absent => return false,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.note_file("is missing");
                return false;
            }
            Err(error) => {
                self.note_file(format_args!("cannot be read: {error}"));
                return false;
            }
        };
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(BufReader::new(file));
        let mut columns: Option<Columns> = None;
        let mut record = StringRecord::new();
        loop {
            match reader.read_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let line = error.position().map_or(1, line_number);
                    match error.kind() {
                        csv::ErrorKind::Utf8 { .. } => self.note(line, "is not UTF-8 text"),
                        _ => self.note_file(format_args!("cannot be read: {error}")),
                    }
                    if error.is_io_error() {
                        break;
                    }
                    continue;
                }
            }
            let line = record.position().map_or(1, line_number);
            match &columns {
                None => match self.header(&record, line) {
                    Some(found) => columns = Some(found),
                    None => return false,
                },
                Some(columns) if record.len() != columns.count => {
                    self.note(
                        line,
                        format_args!("number of cells is {}, the header has {}", record.len(), columns.count),
                    );
                }
                Some(columns) => each(&Row { table: self, columns, record: &record, line }),
            }
        }
        if columns.is_none() {
            self.note_file(format_args!("is empty; its first line is to be {}", self.header_line()));
        }
        columns.is_some()
    }

    fn header_line(&self) -> String {
        self.spec.columns().collect::<Vec<_>>().join(",")
    }

    /// Where each column stands, or `None` when the rows cannot be read by it.
    fn header(&self, record: &StringRecord, line: usize) -> Option<Columns> {
        let names: Vec<&str> = record.iter().map(|name| name.trim_start_matches('\u{feff}')).collect();
        if let [only] = names[..]
            && let Some(separator) = [';', '\t', '|'].into_iter().find(|c| only.contains(*c))
        {
            self.note(line, format_args!("separates its columns by {separator:?}; commas are wanted"));
            return None;
        }
        let known: Vec<_> = self.spec.columns().collect();
        let mut readable = true;
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                self.note(line, format_args!("column `{name}` stands twice"));
            } else if !known.contains(name) {
                let hint = match near_miss(name, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.note(line, format_args!("unknown column `{name}`; {hint}"));
            }
        }
        for name in self.spec.required {
            if !names.contains(name) {
                self.note(line, format_args!("column `{name}` is missing"));
                readable = false;
            }
        }
        let at = known.iter().map(|name| (*name, names.iter().position(|found| found == name))).collect();
        readable.then_some(Columns { at, count: names.len() })
    }
}

fn line_number(position: &csv::Position) -> usize {
    usize::try_from(position.line()).unwrap_or(usize::MAX)
}

struct Columns {
    at: Vec<(&'static str, Option<usize>)>,
    count: usize,
}

/// A row that has as many cells as the header.
pub(crate) struct Row<'r> {
    table: &'r Table<'r>,
    columns: &'r Columns,
    record: &'r StringRecord,
    pub(crate) line: usize,
}

impl Row<'_> {
    /// The cell, without outer blanks; empty where the file has no such column.
    pub(crate) fn cell(&self, column: &'static str) -> &str {
        let at = self.columns.at.iter().find(|(name, _)| *name == column).and_then(|(_, at)| *at);
        at.and_then(|at| self.record.get(at)).unwrap_or("")
    }

    /// Notes a problem of this row.
    pub(crate) fn refuse(&self, message: impl fmt::Display) {
        self.table.note(self.line, message);
    }

    /// What `read` makes of the cell, or `None` when the cell is empty or wrong; what is wrong is noted.
    pub(crate) fn read<T, E: fmt::Display>(
        &self,
        column: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let cell = self.cell(column);
        if cell.is_empty() {
            return None;
        }
        read(cell).map_err(|error| self.refuse(format_args!("`{column}`: {error}"))).ok()
    }

    /// As [`Self::read`], for a cell that must be filled.
    pub(crate) fn require<T, E: fmt::Display>(
        &self,
        column: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if self.cell(column).is_empty() {
            self.refuse(format_args!("`{column}` is empty"));
        }
        self.read(column, read)
    }
}
