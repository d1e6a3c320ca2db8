//! Whether some bytes name somebody: words found in topics, payloads and texts.
//!
//! A word ends where no letter, digit, `-` or `_` follows, so that `M-1` is not found in `M-10`. Short numbers are found
//! only where they stand in quotes, between slashes or alone: `7` is a value far more often than a meter.

/// What somebody is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words(Vec<Vec<u8>>);

/// A number of fewer digits than this may be any value.
const SURE_DIGITS: usize = 6;

impl Words {
    /// From names; empty ones name nobody and are left out.
    pub fn new<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Self {
        let mut words: Vec<Vec<u8>> = names.into_iter().map(|n| n.as_ref().trim().as_bytes().to_vec()).collect();
        words.retain(|w| !w.is_empty());
        words.sort();
        words.dedup();
        Self(words)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the words is there.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|word| holds(bytes, word))
    }
}

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    let number = word.len() < SURE_DIGITS && word.iter().all(u8::is_ascii_digit);
    let part = |b: u8| {
        if number {
            !matches!(b, b'"' | b'\'' | b'/')
        } else {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_') || b >= 0x80
        }
    };
    let Some(first) = word.first() else { return false };
    let mut from = 0;
    while let Some(at) = bytes.get(from..).and_then(|rest| rest.iter().position(|b| b == first)) {
        let (start, end) = (from + at, from + at + word.len());
        let before = start.checked_sub(1).and_then(|i| bytes.get(i));
        if bytes.get(start..end) == Some(word)
            && before.is_none_or(|b| !part(*b))
            && bytes.get(end).is_none_or(|b| !part(*b))
        {
            return true;
        }
        from = start + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_whole_and_a_short_number_only_where_it_is_a_name() {
        for (word, text, found) in [
            ("M-1", "meters/M-1/readings", true),
            ("M-1", r#"{"meter":"M-1","v":1}"#, true),
            ("M-1", "M-1", true),
            ("M-1", "M-10 xM-1 M-1-2 M-1_b", false),
            ("M-1", "M-10 M-1", true),
            ("Ann Field", "for Ann Field, Mill Lane", true),
            ("Zoë", "Zoës", false),
            ("12345678", "id=12345678;", true),
            ("7", r#"{"v":7}"#, false),
            ("7", "unit 7", false),
            ("7", "line/7/answer", true),
            ("7", r#"{"meter":"7"}"#, true),
            ("7", "7", true),
            ("", "anything", false),
        ] {
            assert_eq!(Words::new([word]).are_in(text.as_bytes()), found, "{word} in {text}");
        }
        assert!(Words::new(["a", "b"]).are_in(b"x b"));
        assert!(Words::new([" "]).is_empty());
    }
}
