//! Expected rows beside those that came, line by line.

use std::fmt::Write;

/// Above this many rows on either side lines are not matched with each other.
const MAX_ROWS: usize = 500;

/// What differs: `-` for expected rows that did not come, with their line in the file, `+` for rows that came instead,
/// and below a pair of them the words in which they differ. Rows that are as expected are left out.
pub(super) fn diff(expected: &[(usize, String)], got: &[String]) -> String {
    let mut text = String::new();
    for (missing, extra) in hunks(expected, got) {
        for (line, row) in missing {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{line:>6} - {row}");
        }
        for row in extra {
            let _ = writeln!(text, "       + {row}");
        }
        for ((_, before), now) in missing.iter().zip(extra) {
            let (before, now) = (only(before, now), only(now, before));
            if !before.is_empty() || !now.is_empty() {
                let or_nothing = |words: &str| if words.is_empty() { "nothing".to_owned() } else { words.to_owned() };
                let _ = writeln!(text, "         expected {}, read {}", or_nothing(&before), or_nothing(&now));
            }
        }
    }
    text
}

/// Values and flags of one row that another lacks.
fn only(row: &str, other: &str) -> String {
    let marked = |word: &&str| word.contains('=') || word.starts_with('!');
    let words: Vec<_> = row.split(' ').filter(marked).filter(|word| !other.split(' ').any(|o| o == *word)).collect();
    words.join(" ")
}

type Hunk<'r> = (&'r [(usize, String)], &'r [String]);

/// Stretches between rows that both have, in order.
fn hunks<'r>(expected: &'r [(usize, String)], got: &'r [String]) -> Vec<Hunk<'r>> {
    let mut hunks = Vec::new();
    let (mut from, mut upto) = (0, 0);
    let mut close = |e: usize, g: usize, from: &mut usize, upto: &mut usize| {
        if e > *from || g > *upto {
            hunks.push((&expected[*from..e], &got[*upto..g]));
        }
        (*from, *upto) = (e + 1, g + 1);
    };
    for (e, g) in common(expected, got) {
        close(e, g, &mut from, &mut upto);
    }
    close(expected.len(), got.len(), &mut from, &mut upto);
    hunks
}

/// The longest common subsequence, as pairs of places.
fn common(expected: &[(usize, String)], got: &[String]) -> Vec<(usize, usize)> {
    if expected.len() > MAX_ROWS || got.len() > MAX_ROWS {
        return expected
            .iter()
            .zip(got)
            .enumerate()
            .filter(|(_, ((_, e), g))| e == *g)
            .map(|(at, _)| (at, at))
            .collect();
    }
    // Length of the best from each place on.
    let width = got.len() + 1;
    let mut best = vec![0_usize; (expected.len() + 1) * width];
    for (e, (_, row)) in expected.iter().enumerate().rev() {
        for (g, other) in got.iter().enumerate().rev() {
            let at = e * width + g;
            best[at] = if row == other { best[at + width + 1] + 1 } else { best[at + width].max(best[at + 1]) };
        }
    }
    let (mut pairs, mut e, mut g) = (Vec::new(), 0, 0);
    while e < expected.len() && g < got.len() {
        let at = e * width + g;
        if expected[e].1 == got[g] {
            pairs.push((e, g));
            (e, g) = (e + 1, g + 1);
        } else if best[at + width] >= best[at + 1] {
            e += 1;
        } else {
            g += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expected: &[&str], got: &[&str]) -> String {
        let expected: Vec<_> = (10..).zip(expected.iter().map(|row| (*row).to_owned())).collect();
        let got: Vec<_> = got.iter().map(|row| (*row).to_owned()).collect();
        diff(&expected, &got)
    }

    #[test]
    fn only_what_differs_is_shown_with_its_line() {
        assert_eq!(shown(&["a", "b"], &["a", "b"]), "");
        assert_eq!(shown(&["a", "b", "c"], &["a", "c"]), "    11 - b\n");
        assert_eq!(shown(&["a"], &["x", "a", "y"]), "       + x\n       + y\n");
        assert_eq!(shown(&[], &["x"]), "       + x\n");
        let text = shown(&["-> water m t volume_m3=1.000 !retained"], &["-> water m t volume_m3=1.001 battery_v=3.6"]);
        assert!(text.ends_with("expected volume_m3=1.000 !retained, read volume_m3=1.001 battery_v=3.6\n"), "{text}");
    }

    #[test]
    fn many_rows_are_compared_place_by_place() {
        let many: Vec<String> = (0..MAX_ROWS + 1).map(|row| row.to_string()).collect();
        let rows: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut other = rows.clone();
        other[7] = "x";
        assert_eq!(shown(&rows, &other), "    17 - 7\n       + x\n");
    }
}
