//! What is wrong with a file that people write: the same shape for configuration, maps, profiles and registry.

use std::fmt;

/// One thing to mend in a file.
///
/// Readers collect all of them before they refuse a file, so that it is mended in one go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// The file as the user named it.
    pub file: String,
    /// The line, counted from 1; `None` when it concerns the file as a whole.
    pub line: Option<usize>,
    /// What was found and what is allowed: lower case, no final stop.
    pub message: String,
}

impl Problem {
    /// A problem of one line.
    pub fn at(file: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.into(), line: Some(line), message: message.into() }
    }

    /// A problem of a file as a whole.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// The line, counted from 1, on which the byte at `offset` of `text` stands.
pub fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_like_a_compiler_message() {
        assert_eq!(Problem::at("meterlake.toml", 7, "no such key").to_string(), "meterlake.toml:7: no such key");
        assert_eq!(Problem::of_file("meters.csv", "missing").to_string(), "meters.csv: missing");
    }

    #[test]
    fn lines_count_from_one() {
        for (offset, line) in [(0, 1), (1, 1), (2, 2), (3, 3), (99, 3)] {
            assert_eq!(line_of("a\n\nb", offset), line, "offset {offset}");
        }
    }
}
