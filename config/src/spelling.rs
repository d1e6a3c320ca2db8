//! Suggests the word that was probably meant.

/// The candidate that differs least from a word, if it differs by no more than a third.
pub(crate) fn near_miss<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let (distance, nearest) = candidates.iter().map(|near| (edit_distance(word, near), *near)).min()?;
    let letters = word.chars().count();
    (distance < letters && distance <= (letters / 3).max(1)).then_some(nearest)
}

/// Letters to insert, delete, replace or swap with their neighbour to make one word of the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            rows[i][j] = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
            }
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_suggested_and_a_stranger_is_not() {
        let keys = ["commit_interval", "commit_rows", "name"];
        for (word, expected) in [
            ("comit_interval", Some("commit_interval")),
            ("commit_row", Some("commit_rows")),
            ("naem", Some("name")),
            ("colour", None),
        ] {
            assert_eq!(near_miss(word, &keys), expected, "{word}");
        }
    }
}
