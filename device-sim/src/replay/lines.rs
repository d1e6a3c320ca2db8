//! Lines of a compressed text file, one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::error::SimError;

/// A line longer than this is no line of a recorded file.
const MAX_LINE: usize = 4096;

/// Reads a file line by line, without its header.
pub(super) struct Lines {
    reader: BufReader<MultiGzDecoder<File>>,
    path: PathBuf,
    text: String,
    number: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, SimError> {
        let file = File::open(path).map_err(|e| SimError::io(path.display().to_string(), e))?;
        let reader = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file));
        let mut lines = Self { reader, path: path.to_owned(), text: String::new(), number: 0 };
        lines.advance()?;
        Ok(lines)
    }

    /// Goes to the next line; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, SimError> {
        self.text.clear();
        self.number += 1;
        let length =
            self.reader.read_line(&mut self.text).map_err(|e| SimError::io(self.path.display().to_string(), e))?;
        if length > MAX_LINE {
            return Err(self.bad(format!("the line has {length} bytes")));
        }
        Ok(length > 0)
    }

    /// The line, without its end.
    pub(super) fn text(&self) -> &str {
        self.text.trim_end_matches(['\r', '\n'])
    }

    /// What is wrong with the line.
    pub(super) fn bad(&self, message: String) -> SimError {
        SimError::BadLine { path: self.path.clone(), line: self.number, message }
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("path", &self.path).field("number", &self.number).finish_non_exhaustive()
    }
}
