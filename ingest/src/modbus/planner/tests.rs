//! Plans by hand, against the greedy rule, and against every way there is.

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
    let limits = Limits { max_registers: 10, max_hole: 2, never: &[], request_cost: 50 };
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
    let limits = Limits { max_registers: 10, max_hole: 5, never: &never, request_cost: 50 };
    assert_eq!(shown(&merge(&ranges(&[(0, 2), (3, 2)]), &limits)), [(0, 2), (3, 2)]);
}

#[test]
fn equal_counts_of_requests_move_the_fewest_registers() {
    // The middle field goes with either neighbour: 6 + 2 registers with the one before, 2 + 5 with the one after.
    let limits = Limits { max_registers: 6, max_hole: 4, never: &[], request_cost: 50 };
    let merged = merge(&ranges(&[(0, 2), (4, 2), (7, 2)]), &limits);
    assert_eq!(shown(&merged), [(0, 2), (4, 5)], "the smaller hole is read");
}

#[test]
fn a_small_profile_needs_one_request() {
    for (name, request) in [("eastron-sdm630", "4/0+80"), ("pulse-water", "3/0+5")] {
        let plan = plan(&DeviceProfile::shipped(name).unwrap());
        assert_eq!(plan.iter().map(ToString::to_string).collect::<Vec<_>>(), [request], "{name}");
    }
    assert_eq!(plan(&DeviceProfile::shipped("sunspec-meter").unwrap()), [], "nobody knows yet where");
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

/// Every way to share fields among requests, whatever their order, and the cost of the cheapest.
fn cheapest(ranges: &[RegisterRange], limits: &Limits<'_>, most: usize) -> u32 {
    fn share(left: &[RegisterRange], groups: &mut Vec<Vec<RegisterRange>>, most: usize, limits: &Limits<'_>) -> u32 {
        let Some((range, left)) = left.split_first() else {
            let lengths = groups.iter().map(|group| {
                let mut fields = group.iter();
                let first = *fields.next()?;
                fields.try_fold(first, |whole, next| extended(whole, *next, limits)).map(RegisterRange::len)
            });
            let turns = u32::try_from(groups.len()).unwrap() * limits.request_cost;
            return lengths.sum::<Option<u32>>().map_or(u32::MAX, |registers| turns + registers);
        };
        let mut best = u32::MAX;
        for at in 0..groups.len() {
            groups[at].push(*range);
            best = best.min(share(left, groups, most, limits));
            groups[at].pop();
        }
        if groups.len() < most {
            groups.push(vec![*range]);
            best = best.min(share(left, groups, most, limits));
            groups.pop();
        }
        best
    }
    share(ranges, &mut Vec::new(), most, limits)
}

fn cost(merged: &[RegisterRange], limits: &Limits<'_>) -> u32 {
    let turns = u32::try_from(merged.len()).unwrap() * limits.request_cost;
    turns + merged.iter().map(|range| range.len()).sum::<u32>()
}

proptest! {
    #[test]
    fn every_field_lies_in_one_request_and_no_request_breaks_a_limit(
        fields in prop::collection::vec((0_u16..600, 1_u16..=4), 0..60),
        max_registers in 4_u32..=125,
        max_hole in 0_u32..40,
        never in prop::collection::vec((0_u16..600, 1_u16..20), 0..4),
        request_cost in 0_u32..80,
    ) {
        let never = ranges(&never);
        let mut fields = ranges(&fields);
        fields.retain(|field| !never.iter().any(|n| n.overlaps(*field)));
        fields.sort_unstable();
        fields.dedup();
        let limits = Limits { max_registers, max_hole, never: &never, request_cost };
        let merged = merge(&fields, &limits);

        for field in &fields {
            let holders = merged.iter().filter(|r| r.first <= field.first && field.last <= r.last).count();
            prop_assert!(holders >= 1, "{field:?} in {merged:?}");
        }
        let greedy = greedy(&fields, &limits);
        prop_assert!(merged.len() <= greedy.len());
        prop_assert!(cost(&merged, &limits) <= cost(&greedy, &limits));
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
        let merged = merge(&fields, &Limits { max_registers, max_hole, never: &[], request_cost: 50 });
        for field in &fields {
            prop_assert_eq!(merged.iter().filter(|r| r.overlaps(*field)).count(), 1);
        }
    }

    #[test]
    fn no_way_to_share_the_fields_costs_less(
        fields in prop::collection::vec((0_u16..60, 1_u16..=4), 1..7),
        max_registers in 4_u32..40,
        max_hole in 0_u32..30,
        never in prop::collection::vec((0_u16..60, 1_u16..5), 0..2),
        request_cost in 0_u32..40,
    ) {
        let never = ranges(&never);
        let mut fields = ranges(&fields);
        fields.retain(|field| !never.iter().any(|n| n.overlaps(*field)));
        fields.sort_unstable();
        fields.dedup();
        let limits = Limits { max_registers, max_hole, never: &never, request_cost };
        let merged = merge(&fields, &limits);
        let most = greedy(&fields, &limits).len();
        prop_assert_eq!(cost(&merged, &limits), cheapest(&fields, &limits, most));
        // And the greedy rule has the fewest requests that such holes allow.
        let few = Limits { max_hole: max_hole.min(request_cost), request_cost: 1_000, ..limits };
        prop_assert_eq!(u32::try_from(most).unwrap(), cheapest(&fields, &few, fields.len()) / 1_000);
    }
}

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn within(&mut self, least: u16, below: u16) -> u16 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        least + u16::try_from((self.0 >> 32) % u64::from(below - least)).unwrap()
    }
}

/// A map as meters have them: groups of values side by side, holes between the groups.
fn random_map(random: &mut Random) -> Vec<RegisterRange> {
    let mut map = Vec::new();
    let mut at = 0_u16;
    for _ in 0..random.within(3, 12) {
        for _ in 0..random.within(1, 8) {
            let registers = [1, 2, 2, 4][usize::from(random.within(0, 4))];
            map.push(RegisterRange::starting_at(at, registers));
            at += registers;
        }
        at += random.within(1, 90);
    }
    map
}

#[test]
fn on_random_maps_it_costs_less_than_the_greedy_rules() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let limits = |max_hole| Limits { max_registers: 125, max_hole, never: &[], request_cost: REQUEST_COST };
    let mut sums = [(0, 0, 0); 4];
    for _ in 0..2_000 {
        let map = random_map(&mut random);
        // Without holes, with the holes of a cautious and of a usual setting, and ours.
        let plans =
            [greedy(&map, &limits(0)), greedy(&map, &limits(10)), greedy(&map, &limits(50)), merge(&map, &limits(125))];
        for (sum, plan) in sums.iter_mut().zip(&plans) {
            let registers: u32 = plan.iter().map(|range| range.len()).sum();
            *sum = (sum.0 + plan.len(), sum.1 + registers, sum.2 + cost(plan, &limits(125)));
        }
        assert_fewer(&plans);
    }
    let [none, cautious, usual, ours] = sums;
    println!(
        "requests, registers, cost: no holes {none:?}, holes of 10 {cautious:?}, of 50 {usual:?}, planned {ours:?}"
    );
    assert!(ours.0 * 100 <= cautious.0 * 85, "15 % fewer requests than with holes of ten registers");
    assert!(ours.0 <= usual.0 && ours.1 < usual.1 && ours.2 < usual.2, "and fewer registers than the usual setting");
}

fn assert_fewer(plans: &[Vec<RegisterRange>; 4]) {
    let [none, cautious, usual, ours] = plans;
    assert!(ours.len() <= usual.len() && usual.len() <= cautious.len() && cautious.len() <= none.len(), "{plans:?}");
}
