//! Round axis steps for pictures.

/// A value axis from zero: its top and the values with a label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) top: f64,
    pub(crate) ticks: Vec<f64>,
    decimals: usize,
}

impl Axis {
    /// From zero to a round number at or above `highest`, with at most `most` steps of 1, 2 or 5 times a power of ten.
    pub(crate) fn new(highest: f64, most: u32) -> Self {
        let highest = if highest.is_finite() && highest > 0.0 { highest } else { 1.0 };
        let rough = highest / f64::from(most.max(1));
        let mut exponent = rough.log10().floor();
        let mut step = 0.0;
        'search: for _ in 0..2 {
            for factor in [1.0, 2.0, 5.0] {
                step = factor * 10_f64.powf(exponent);
                // A hair of tolerance, so that 5 × 0.2 reaches 1.
                if step * f64::from(most) >= highest * (1.0 - 1e-9) {
                    break 'search;
                }
            }
            exponent += 1.0;
        }
        let mut ticks = vec![0.0];
        let mut n = 0_u32;
        while f64::from(n) * step < highest * (1.0 - 1e-9) {
            n += 1;
            ticks.push(f64::from(n) * step);
        }
        let top = ticks.last().copied().unwrap_or(step);
        Self { top, ticks, decimals: decimals_of(step) }
    }

    /// A value of this axis as text.
    pub(crate) fn label(&self, value: f64) -> String {
        format!("{value:.*}", self.decimals)
    }
}

fn decimals_of(step: f64) -> usize {
    (0..9_i32).find(|d| step * 10_f64.powi(*d) >= 1.0 - 1e-9).and_then(|d| usize::try_from(d).ok()).unwrap_or(9)
}

/// A figure with about three digits that count.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (highest, top, step, label) in [
            (0.83, 1.0, "0.2", "1.0"),
            (1.0, 1.0, "0.2", "1.0"),
            (4.0, 4.0, "1", "4"),
            (37.0, 40.0, "10", "40"),
            (0.0, 1.0, "0.2", "1.0"),
            (0.0042, 0.005, "0.001", "0.005"),
            (1_234.0, 1_500.0, "500", "1500"),
        ] {
            let axis = Axis::new(highest, 5);
            assert_eq!(axis.label(axis.top), label, "{highest}");
            assert!((axis.top - top).abs() < 1e-9, "{highest}: {axis:?}");
            assert_eq!(axis.label(axis.ticks[1]), step, "{highest}");
            assert!(axis.ticks.len() <= 6);
        }
        assert!(Axis::new(f64::NAN, 5).top > 0.0);
    }

    #[test]
    fn figures_have_three_digits_that_count() {
        assert_eq!([0.1234, 1.234, 12.34, 123.4].map(short), ["0.123", "1.23", "12.3", "123"]);
    }
}
