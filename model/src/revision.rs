//! Numbers of revisions: which rows of one meter and time stand.
//!
//! A differing value of the same meter and time is one more revision, and all of them stand beside each other. When
//! history is decoded again a new generation begins, which stands in the stead of the earlier ones: they stay where they
//! are, and only who asks for the past sees them. Both are in one number, so that whoever reads rows in order of revision
//! needs no other column to know.

/// Revisions of one generation.
const PLACES: i32 = 1 << 20;

/// The first revision of what was decoded again: a row with this or a higher one stands in the stead of others.
pub const FIRST_RE_DECODED: i32 = PLACES;

/// How often the row's meter and time were decoded again: rows of a lower generation do not stand any more.
pub const fn generation(revision: i32) -> i32 {
    revision / PLACES
}

/// Whether the row only says that nothing stands of its meter and time.
pub const fn is_void(revision: i32) -> bool {
    revision % PLACES == PLACES - 1
}

/// Whether the row contradicts others of its generation.
pub const fn contradicts(revision: i32) -> bool {
    revision % PLACES > 0 && !is_void(revision)
}

/// The revision of a differing value behind these. Behind a void it begins anew; the last place of a generation is shared
/// by all that do not fit.
pub const fn after(revision: i32) -> i32 {
    if !is_void(revision) && is_void(revision + 1) { revision } else { revision.saturating_add(1) }
}

/// The first revision of the generation behind; the last generation stays.
pub const fn next_generation(revision: i32) -> i32 {
    match (generation(revision) + 1).checked_mul(PLACES) {
        Some(first) => first,
        None => generation(revision) * PLACES,
    }
}

/// As [`next_generation`], for a row that says that nothing stands.
pub const fn next_void(revision: i32) -> i32 {
    next_generation(revision) + PLACES - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_begins_behind_all_revisions_of_the_one_before() {
        let void = 2 * PLACES - 1;
        for (revision, of, next, behind) in [
            (0, 0, PLACES, 1),
            (7, 0, PLACES, 8),
            (PLACES - 2, 0, PLACES, PLACES - 2),
            (PLACES, 1, 2 * PLACES, PLACES + 1),
            (void, 1, 2 * PLACES, 2 * PLACES),
            (i32::MAX - 1, 2047, 2047 * PLACES, i32::MAX - 1),
            (i32::MAX, 2047, 2047 * PLACES, i32::MAX),
        ] {
            assert_eq!((generation(revision), next_generation(revision)), (of, next), "{revision}");
            assert_eq!(after(revision), behind, "{revision}");
        }
        assert_eq!((next_void(0), next_void(PLACES + 3)), (void, 3 * PLACES - 1));
        assert!(is_void(void) && !is_void(PLACES) && !is_void(0));
        assert_eq!([0, 1, PLACES, PLACES + 1, void].map(contradicts), [false, true, false, true, false]);
    }
}
