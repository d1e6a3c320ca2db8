//! Merges the registers of a profile into the cheapest requests. Pure; what the registers mean is not known here.

use std::fmt;

use meterlake_config::device_profile::{
    DeviceProfile, Field, Function, Layout, MAX_REGISTERS, Register, RegisterRange,
};

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

/// What a request costs besides its registers, in registers: 20 bytes of frames and silence, the turn of the device and
/// of the gateway, some 80 ms together, at two bytes a register and one byte a millisecond (9,600 baud). A hole that is
/// larger is cheaper to leave out.
const REQUEST_COST: u32 = 50;

/// What limits a request, and what it costs.
struct Limits<'a> {
    max_registers: u32,
    max_hole: u32,
    never: &'a [RegisterRange],
    /// In registers.
    request_cost: u32,
}

/// The requests that fetch every field of a profile: those that cost the least in registers and turns of the line within
/// the profile's limits, and never more of them than by reading along every hole that is worth its registers. Neighbours
/// differ in length where that can be had, so that swapped answers show.
///
/// A profile by discovery has none before its device was asked where its model lies.
pub fn plan(profile: &DeviceProfile) -> Vec<BlockRequest> {
    if matches!(profile.layout, Layout::SunSpec(_)) {
        return Vec::new();
    }
    let values = profile.fields.iter().flat_map(Field::registers);
    requests_for(profile, &values.chain(profile.status.iter().map(|status| &status.register)).collect::<Vec<_>>())
}

/// The requests that ask a device what it is.
pub fn plan_identity(profile: &DeviceProfile) -> Vec<BlockRequest> {
    requests_for(profile, &profile.identify.registers().collect::<Vec<_>>())
}

fn requests_for(profile: &DeviceProfile, registers: &[&Register]) -> Vec<BlockRequest> {
    let mut requests = Vec::new();
    for function in Function::ALL {
        let mut ranges: Vec<_> = registers
            .iter()
            .filter(|register| register.function == function)
            .map(|register| register.range())
            .collect();
        ranges.sort_unstable();
        ranges.dedup();
        let never: Vec<_> =
            profile.never_read.iter().filter(|never| never.function == function).map(|never| never.range).collect();
        // The rest before a request is time that the line could have moved registers in.
        let pause = u32::try_from(profile.pause.as_millis() / 2).unwrap_or(u32::MAX);
        let limits = Limits {
            max_registers: u32::from(profile.max_registers.min(MAX_REGISTERS)),
            max_hole: u32::from(profile.max_hole),
            never: &never,
            request_cost: REQUEST_COST.saturating_add(pause.min(u32::from(MAX_REGISTERS))),
        };
        requests.extend(merge(&ranges, &limits).into_iter().map(|range| BlockRequest { function, range }));
    }
    vary_lengths(&mut requests);
    requests
}

/// The cheapest way to fetch the first fields with so many requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    registers: u32,
    /// The field that the last request begins with.
    from: usize,
}

/// `ranges` are sorted. Tries every request that begins and ends with a field: the cheapest way to each prefix with one
/// request more is built on the cheapest ways to shorter ones.
fn merge(ranges: &[RegisterRange], limits: &Limits<'_>) -> Vec<RegisterRange> {
    let most = greedy(ranges, limits).len();
    let mut ways: Vec<Vec<Option<Way>>> = Vec::with_capacity(most + 1);
    let mut none = vec![None; ranges.len() + 1];
    none[0] = Some(Way { registers: 0, from: 0 });
    ways.push(none);
    for requests in 1..=most {
        let mut longer = vec![None; ranges.len() + 1];
        for (from, &first) in ranges.iter().enumerate() {
            let Some(before) = ways[requests - 1][from] else { continue };
            let mut whole = first;
            for (at, &next) in ranges.iter().enumerate().skip(from) {
                let Some(extended) = extended(whole, next, limits).or((at == from).then_some(first)) else { break };
                whole = extended;
                let way = Way { registers: before.registers + whole.len(), from };
                if longer[at + 1].is_none_or(|known| way < known) {
                    longer[at + 1] = Some(way);
                }
            }
        }
        ways.push(longer);
    }
    let cost = |requests: usize| {
        let way = ways[requests][ranges.len()]?;
        let turns = u32::try_from(requests).ok()?.saturating_mul(limits.request_cost);
        Some((turns.saturating_add(way.registers), requests))
    };
    let Some((_, requests)) = (0..=most).filter_map(cost).min() else { return Vec::new() };
    let mut merged = Vec::new();
    let mut end = ranges.len();
    for way in ways.iter().take(requests + 1).skip(1).rev() {
        let Some(Way { from, .. }) = way[end] else { break };
        let last = ranges[from..end].iter().map(|range| range.last).max().unwrap_or_default();
        merged.push(RegisterRange { first: ranges[from].first, last });
        end = from;
    }
    merged.reverse();
    merged
}

/// Takes each field along with the one before wherever it may and the hole is worth it: as few requests as such holes
/// allow, of whatever length.
fn greedy(ranges: &[RegisterRange], limits: &Limits<'_>) -> Vec<RegisterRange> {
    let limits = Limits { max_hole: limits.max_hole.min(limits.request_cost), ..*limits };
    let mut merged: Vec<RegisterRange> = Vec::new();
    for &range in ranges {
        match merged.last_mut().and_then(|whole| extended(*whole, range, &limits).map(|longer| (whole, longer))) {
            Some((whole, longer)) => *whole = longer,
            None => merged.push(range),
        }
    }
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
mod tests;
