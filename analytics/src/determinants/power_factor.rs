//! D6: cos φ of the cycle's energies, and the adjustment of the Chinese rule of 1983 (力调).

use meterlake_model::determinant::{PowerFactorStandard, RoundMode, Rounding};
use meterlake_model::{Amount, Quality};

use super::{Figure, Note};

/// The table of the rule; its head names the source.
const TABLE: &str = include_str!("../../data/power-factor-cn-1983.csv");

/// cos φ = P ÷ √(P² + Q²) in millionths, rounded half up, exactly; `None` without any energy.
pub fn cos_phi_micros(active: Amount, reactive: Amount) -> Option<i64> {
    let (p, q) = (u128::from(active.micros().unsigned_abs()), u128::from(reactive.micros().unsigned_abs()));
    let square = p * p + q * q;
    if square == 0 {
        return None;
    }
    // The largest c of which c − ½ does not exceed the value: (2c − 1)² (P² + Q²) ≤ (2·10⁶ P)².
    let right = product(2_000_000 * p, 2_000_000 * p);
    let reaches = |c: u128| c == 0 || product((2 * c - 1) * (2 * c - 1), square) <= right;
    let (mut low, mut high) = (0_u128, 1_000_000_u128);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if reaches(middle) { low = middle } else { high = middle - 1 }
    }
    i64::try_from(low).ok()
}

/// The 256 bits of a product.
fn product(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = (1 << 64) - 1;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (low, cross, other, high) = (a0 * b0, a1 * b0, a0 * b1, a1 * b1);
    let middle = (low >> 64) + (cross & LOW) + (other & LOW);
    (high + (cross >> 64) + (other >> 64) + (middle >> 64), (middle << 64) | (low & LOW))
}

/// The adjustment of the bill in ‱ (1/100 of a percent) at a cos φ in hundredths: positive is a surcharge. `None` when the
/// table has no such line.
pub fn adjustment_permyriad(standard: PowerFactorStandard, hundredths: i64) -> Option<i64> {
    let column = match standard {
        PowerFactorStandard::P90 => 1,
        PowerFactorStandard::P85 => 2,
        PowerFactorStandard::P80 => 3,
    };
    let mut rows = TABLE.lines().filter(|line| !line.starts_with('#')).skip(1);
    let cell = |line: &str, at: usize| line.split(',').nth(at).and_then(|cell| cell.trim().parse::<i64>().ok());
    rows.find(|line| cell(line, 0) == Some(hundredths)).and_then(|line| cell(line, column))
}

/// Part empty: cos φ; part `adjustment`: in % of the bill, where there is a standard. `active` and `reactive` are the uses of
/// the channels; reactive ones count by their size.
pub fn power_factor(
    active: &[Figure],
    reactive: &[Figure],
    standard: Option<PowerFactorStandard>,
    rounding: Rounding,
) -> Vec<Figure> {
    let all = || active.iter().chain(reactive);
    let sum = |figures: &[Figure]| {
        let sizes = figures.iter().map(|figure| figure.value.map(|value| i128::from(value.micros()).abs()));
        sizes.sum::<Option<i128>>().and_then(|sum| i64::try_from(sum).ok()).and_then(Amount::from_micros)
    };
    let cos = sum(active).zip(sum(reactive)).and_then(|(p, q)| cos_phi_micros(p, q));
    let Some(cos) = cos else {
        let note = Note::new("missing", true, "no energy, or not all of it is known");
        return vec![Figure::unknown("", "1", note)];
    };
    let mut notes = Vec::new();
    if all().any(|figure| figure.notes.iter().any(|note| note.holds)) {
        notes.push(Note::new("held", true, "an energy that it rests on is held"));
    }
    let figure = Figure {
        part: String::new(),
        value: Amount::from_micros(cos).and_then(|cos| rounding.amount(cos)),
        unit: "1".to_owned(),
        quality: all().map(|figure| figure.quality).min().unwrap_or(Quality::Missing),
        estimated_ppm: all().map(|figure| figure.estimated_ppm).max().unwrap_or(0),
        at: None,
        notes,
    };
    let Some(standard) = standard else { return vec![figure] };
    // The rule rounds cos φ to two decimals, halves up.
    let hundredths = Rounding { digits: 2, mode: RoundMode::HalfUp };
    let hundredths = Amount::from_micros(cos).and_then(|cos| hundredths.amount(cos)).map(|cos| cos.micros() / 10_000);
    let permyriad = hundredths.and_then(|hundredths| adjustment_permyriad(standard, hundredths));
    let adjustment = Figure {
        part: "adjustment".to_owned(),
        value: permyriad.and_then(|permyriad| Amount::from_micros(permyriad * 10_000)),
        unit: "%".to_owned(),
        ..figure.clone()
    };
    vec![figure, adjustment]
}
