//! How usage points are shared out to the partitions of large tables.

/// Usage points in a bucket, at most about so many.
const BUCKET_POINTS: usize = 1 << 14;

/// How many buckets the slots and days of so many usage points are shared out to: 1 up to some ten thousand points, 64 for
/// a million.
pub fn buckets_for(points: usize) -> u16 {
    let buckets = points.div_ceil(BUCKET_POINTS).max(1).next_power_of_two();
    u16::try_from(buckets).unwrap_or(1 << 15)
}

/// The bucket of a usage point: the same on every machine and in every version (FNV-1a over its id, mixed as MurmurHash 3
/// mixes).
pub fn bucket_of(point: &str, buckets: u16) -> u16 {
    let hash = point
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    u16::try_from((hash ^ (hash >> 33)) % u64::from(buckets.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_some_ten_thousand_points_and_they_spread_evenly() {
        let buckets = [0, 1, 10_000, 16_384, 16_385, 100_000, 1_000_000].map(buckets_for);
        assert_eq!(buckets, [1, 1, 1, 1, 2, 8, 64]);
        let mut counts = [0_usize; 64];
        (0..64_000).for_each(|n| counts[usize::from(bucket_of(&format!("ES00{n:08}"), 64))] += 1);
        assert!(counts.iter().all(|n| (800..1200).contains(n)), "{counts:?}");
        assert_eq!([bucket_of("E1", 1), bucket_of("E1", 64), bucket_of("E2", 64)], [0, 35, 49], "for ever");
    }
}
