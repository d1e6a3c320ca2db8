//! Merges the fields of a profile into the fewest requests. Pure; what the registers mean is not known here.

use std::fmt;

use meterlake_config::device_profile::{DeviceProfile, Function, MAX_REGISTERS, RegisterRange};

/// Registers that are fetched at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRequest {
    /// Function code.
    pub function: Function,
    /// The registers, at most [`MAX_REGISTERS`].
    pub range: RegisterRange,
}

impl BlockRequest {
    /// Number of registers.
    pub fn registers(self) -> u16 {
        u16::try_from(self.range.len()).unwrap_or(u16::MAX)
    }
}

impl fmt::Display for BlockRequest {
    /// `function/start+count`, as in `4/0+80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}+{}", self.function.code(), self.range.first, self.range.len())
    }
}

/// What limits a request.
struct Limits<'a> {
    max_registers: u32,
    max_hole: u32,
    never: &'a [RegisterRange],
}

/// The requests that fetch every field of a profile: as few as its limits allow, and among those the ones that move the
/// fewest registers. Neighbours differ in length where that can be had, so that swapped answers show.
pub fn plan(profile: &DeviceProfile) -> Vec<BlockRequest> {
    let mut requests = Vec::new();
    for function in [Function::HoldingRegisters, Function::InputRegisters] {
        let values = profile.fields.iter().map(|f| (f.function, f.address, f.kind));
        let status = profile.status.iter().map(|s| (s.function, s.address, s.kind));
        let mut ranges: Vec<_> = values
            .chain(status)
            .filter(|(of, ..)| *of == function)
            .map(|(_, address, kind)| RegisterRange::starting_at(address, kind.registers()))
            .collect();
        ranges.sort_unstable();
        ranges.dedup();
        let never: Vec<_> =
            profile.never_read.iter().filter(|never| never.function == function).map(|never| never.range).collect();
        let limits = Limits {
            max_registers: u32::from(profile.max_registers.min(MAX_REGISTERS)),
            max_hole: u32::from(profile.max_hole),
            never: &never,
        };
        requests.extend(merge(&ranges, &limits).into_iter().map(|range| BlockRequest { function, range }));
    }
    vary_lengths(&mut requests);
    requests
}

/// Requests and registers of a way to fetch the first fields, and the field that its last request begins with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    requests: usize,
    registers: u32,
    from: usize,
}

/// `ranges` are sorted. Tries every request that begins and ends with a field: the cheapest way to each prefix is built
/// on the cheapest ways to shorter ones.
fn merge(ranges: &[RegisterRange], limits: &Limits<'_>) -> Vec<RegisterRange> {
    let mut best: Vec<Option<Cost>> = vec![None; ranges.len() + 1];
    best[0] = Some(Cost { requests: 0, registers: 0, from: 0 });
    for (from, &first) in ranges.iter().enumerate() {
        let Some(before) = best[from] else { continue };
        let mut whole = first;
        for (at, &next) in ranges.iter().enumerate().skip(from) {
            let Some(longer) = extended(whole, next, limits).or((at == from).then_some(first)) else { break };
            whole = longer;
            let cost = Cost { requests: before.requests + 1, registers: before.registers + whole.len(), from };
            if best[at + 1].is_none_or(|known| cost < known) {
                best[at + 1] = Some(cost);
            }
        }
    }
    let mut merged = Vec::new();
    let mut end = ranges.len();
    while let Some(Some(cost)) = best.get(end).filter(|_| end > 0) {
        let last = ranges[cost.from..end].iter().map(|range| range.last).max().unwrap_or_default();
        merged.push(RegisterRange { first: ranges[cost.from].first, last });
        end = cost.from;
    }
    merged.reverse();
    merged
}

/// `whole` with `next`, which does not begin before it, read along, if that is allowed.
fn extended(whole: RegisterRange, next: RegisterRange, limits: &Limits<'_>) -> Option<RegisterRange> {
    let hole = u32::from(next.first).saturating_sub(u32::from(whole.last) + 1);
    let longer = RegisterRange { first: whole.first, last: whole.last.max(next.last) };
    let allowed = hole <= limits.max_hole
        && longer.len() <= limits.max_registers
        && !limits.never.iter().any(|never| never.overlaps(longer));
    allowed.then_some(longer)
}

/// Changes the order so that no request has the length of the one before it, as far as that goes.
fn vary_lengths(requests: &mut [BlockRequest]) {
    for at in 1..requests.len() {
        let before = requests[at - 1].registers();
        if requests[at].registers() == before
            && let Some(other) = (at + 1..requests.len()).find(|&i| requests[i].registers() != before)
        {
            requests.swap(at, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(pairs: &[(u16, u16)]) -> Vec<RegisterRange> {
        pairs.iter().map(|&(first, registers)| RegisterRange::starting_at(first, registers)).collect()
    }

    fn shown(merged: &[RegisterRange]) -> Vec<(u16, u32)> {
        merged.iter().map(|range| (range.first, range.len())).collect()
    }

    #[test]
    fn fields_merge_across_small_holes_only() {
        let limits = Limits { max_registers: 10, max_hole: 2, never: &[] };
        for (fields, expected) in [
            (&[(0, 2), (2, 2), (4, 2)][..], &[(0, 6)][..]),
            (&[(0, 2), (4, 2)], &[(0, 6)]),
            (&[(0, 2), (5, 2)], &[(0, 2), (5, 2)]),
            (&[(0, 4), (4, 4), (8, 4)], &[(0, 4), (4, 8)]),
            (&[(0, 2), (1, 1), (1, 4)], &[(0, 5)]),
            (&[], &[]),
        ] {
            assert_eq!(shown(&merge(&ranges(fields), &limits)), expected, "{fields:?}");
        }
    }

    #[test]
    fn no_request_crosses_what_must_not_be_read() {
        let never = ranges(&[(2, 1)]);
        let limits = Limits { max_registers: 10, max_hole: 5, never: &never };
        assert_eq!(shown(&merge(&ranges(&[(0, 2), (3, 2)]), &limits)), [(0, 2), (3, 2)]);
    }

    #[test]
    fn equal_counts_of_requests_move_the_fewest_registers() {
        // The middle field goes with either neighbour: 6 + 2 registers with the one before, 2 + 5 with the one after.
        let limits = Limits { max_registers: 6, max_hole: 4, never: &[] };
        let merged = merge(&ranges(&[(0, 2), (4, 2), (7, 2)]), &limits);
        assert_eq!(shown(&merged), [(0, 2), (4, 5)], "the smaller hole is read");
    }

    #[test]
    fn shipped_profiles_need_one_request() {
        for name in DeviceProfile::shipped_names() {
            let plan = plan(&DeviceProfile::shipped(name).unwrap());
            assert_eq!(plan.len(), 1, "{name}: {plan:?}");
        }
        assert_eq!(plan(&DeviceProfile::shipped("eastron-sdm630").unwrap())[0].to_string(), "4/0+80");
    }

    #[test]
    fn neighbours_differ_in_length_where_they_can() {
        let request = |first, registers| BlockRequest {
            function: Function::InputRegisters,
            range: RegisterRange::starting_at(first, registers),
        };
        let mut requests = [request(0, 2), request(10, 2), request(20, 4)];
        vary_lengths(&mut requests);
        assert_eq!(requests.map(BlockRequest::registers), [2, 4, 2]);
    }

    /// Takes each field along with the one before whenever it may.
    fn greedy(ranges: &[RegisterRange], limits: &Limits<'_>) -> Vec<RegisterRange> {
        let mut merged: Vec<RegisterRange> = Vec::new();
        for &range in ranges {
            match merged.last_mut().and_then(|whole| extended(*whole, range, limits).map(|longer| (whole, longer))) {
                Some((whole, longer)) => *whole = longer,
                None => merged.push(range),
            }
        }
        merged
    }

    proptest! {
        #[test]
        fn every_field_lies_in_one_request_and_no_request_breaks_a_limit(
            fields in prop::collection::vec((0_u16..600, 1_u16..=4), 0..60),
            max_registers in 4_u32..=125,
            max_hole in 0_u32..40,
            never in prop::collection::vec((0_u16..600, 1_u16..20), 0..4),
        ) {
            let never = ranges(&never);
            let mut fields = ranges(&fields);
            fields.retain(|field| !never.iter().any(|n| n.overlaps(*field)));
            fields.sort_unstable();
            fields.dedup();
            let limits = Limits { max_registers, max_hole, never: &never };
            let merged = merge(&fields, &limits);

            for field in &fields {
                let holders = merged.iter().filter(|r| r.first <= field.first && field.last <= r.last).count();
                prop_assert!(holders >= 1, "{field:?} in {merged:?}");
            }
            prop_assert!(merged.len() <= greedy(&fields, &limits).len());
            for request in &merged {
                prop_assert!(request.len() <= max_registers && request.len() <= u32::from(MAX_REGISTERS));
                prop_assert!(!never.iter().any(|n| n.overlaps(*request)), "{request:?} crosses {never:?}");
                let mut inside: Vec<_> =
                    fields.iter().filter(|f| request.first <= f.first && f.last <= request.last).collect();
                inside.sort_unstable();
                let mut end = u32::from(request.first);
                for field in inside {
                    prop_assert!(u32::from(field.first) <= end + max_hole, "hole before {field:?} in {request:?}");
                    end = end.max(u32::from(field.last) + 1);
                }
                prop_assert_eq!(end, u32::from(request.last) + 1, "no register behind the last field");
            }
        }

        #[test]
        fn fields_apart_from_each_other_lie_in_exactly_one_request(
            gaps in prop::collection::vec((0_u16..30, 1_u16..=4), 1..60),
            max_registers in 4_u32..=125,
            max_hole in 0_u32..40,
        ) {
            let mut at = 0;
            let fields: Vec<_> = gaps.iter().map(|&(gap, registers)| {
                let field = RegisterRange::starting_at(at + gap, registers);
                at += gap + registers;
                field
            }).collect();
            let merged = merge(&fields, &Limits { max_registers, max_hole, never: &[] });
            for field in &fields {
                prop_assert_eq!(merged.iter().filter(|r| r.overlaps(*field)).count(), 1);
            }
        }
    }
}
