//! Small formulas over uses and other determinants: `energy_import_kwh - energy_export_kwh`, `sum(volume_m3) * 1.02`,
//! `max(0, use_kwh - 100)`, `energy_import_kwh@"E-17"`, `tou["peak"] / 2`.
//!
//! Numbers are exact fractions; nothing is rounded before the end. Reading and computing are bounded by the length of the
//! text and by the depth of its brackets, and a number that grows beyond 38 digits is an error.

mod parse;
mod ratio;

use std::collections::BTreeSet;

use crate::amount::Amount;
use crate::channel::Channel;
use crate::id::UsagePointId;
pub use ratio::Ratio;

/// The longest formula, in bytes.
pub const MAX_LENGTH: usize = 1000;
/// Brackets within brackets, at most.
pub const MAX_DEPTH: usize = 32;

/// What a formula names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// The use of a channel over the cycle: of the determinant's own usage point, or of another.
    Use(Channel, Option<UsagePointId>),
    /// The use of a channel, added up over the determinant's `of`.
    Sum(Channel),
    /// A determinant of the same usage point, and which part of it; the empty part is the whole.
    Determinant(String, String),
}

/// A formula that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formula {
    text: String,
    root: Node,
}

/// Why a formula gives no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormulaFault {
    /// A name has no value.
    #[error("a value that the formula names is not known")]
    Unknown,
    /// A division by zero.
    #[error("the formula divides by zero")]
    Zero,
    /// A number of more than 38 digits.
    #[error("a number of the formula has more than 38 digits")]
    Overflow,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Number(Ratio),
    Name(Name),
    Negative(Box<Node>),
    Two(Sign, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
    Times,
    By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Min,
    Max,
    Abs,
}

impl Formula {
    /// Reads a formula. Names that are no channel are taken for determinants.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned(), root: parse::formula(text)? })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everything that it names.
    pub fn names(&self) -> BTreeSet<&Name> {
        let mut names = BTreeSet::new();
        self.root.collect(&mut names);
        names
    }

    /// Computes it, asking for the value of each name.
    ///
    /// # Errors
    /// When a name has no value, at a division by zero, or when a number does not fit.
    pub fn evaluate(&self, mut value: impl FnMut(&Name) -> Option<Amount>) -> Result<Ratio, FormulaFault> {
        self.root.evaluate(&mut value)
    }
}

impl Node {
    fn collect<'n>(&'n self, names: &mut BTreeSet<&'n Name>) {
        match self {
            Self::Number(_) => {}
            Self::Name(name) => {
                names.insert(name);
            }
            Self::Negative(of) => of.collect(names),
            Self::Two(_, a, b) => {
                a.collect(names);
                b.collect(names);
            }
            Self::Call(_, of) => of.iter().for_each(|node| node.collect(names)),
        }
    }

    fn evaluate(&self, value: &mut dyn FnMut(&Name) -> Option<Amount>) -> Result<Ratio, FormulaFault> {
        Ok(match self {
            Self::Number(number) => *number,
            Self::Name(name) => Ratio::of(value(name).ok_or(FormulaFault::Unknown)?),
            Self::Negative(of) => of.evaluate(value)?.negative(),
            Self::Two(sign, a, b) => {
                let (a, b) = (a.evaluate(value)?, b.evaluate(value)?);
                let done = match sign {
                    Sign::Plus => a.plus(b),
                    Sign::Minus => a.plus(b.negative()),
                    Sign::Times => a.times(b),
                    Sign::By => a.times(b.inverse().ok_or(FormulaFault::Zero)?),
                };
                done.ok_or(FormulaFault::Overflow)?
            }
            Self::Call(function, of) => {
                let mut best: Option<Ratio> = None;
                for node in of {
                    let next = node.evaluate(value)?;
                    best = Some(match (best, function) {
                        (None, Function::Abs) => next.size(),
                        (None, _) => next,
                        (Some(best), Function::Min) => best.least(next).ok_or(FormulaFault::Overflow)?,
                        (Some(best), _) => best.most(next).ok_or(FormulaFault::Overflow)?,
                    });
                }
                best.ok_or(FormulaFault::Unknown)?
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::determinant::Rounding;
    use proptest::prelude::*;

    fn value(name: &Name) -> Option<Amount> {
        let text = match name {
            Name::Use(channel, None) => match channel.name() {
                "energy_import_kwh" => "120.5",
                "energy_export_kwh" => "20.5",
                _ => return None,
            },
            Name::Use(_, Some(point)) if point.as_str() == "E-17" => "7",
            Name::Sum(_) => "10",
            Name::Determinant(id, part) if id == "tou" && part == "peak" => "3",
            _ => return None,
        };
        Amount::parse(text).ok()
    }

    fn check(text: &str, expected: Result<&str, FormulaFault>) {
        let found = Formula::parse(text).unwrap().evaluate(value);
        let expected = expected.map(|text| Amount::parse(text).unwrap());
        assert_eq!(found.map(|ratio| ratio.round(Rounding::default()).unwrap()), expected, "{text}");
    }

    #[test]
    fn formulas_are_computed_as_people_read_them() {
        check("energy_import_kwh - energy_export_kwh", Ok("100"));
        check("1 + 2 * 3 - 4 / 2", Ok("5"));
        check("(1 + 2) * -3", Ok("-9"));
        check("10 / 3 * 3", Ok("10"));
        check("energy_import_kwh * 1.035", Ok("124.7175"));
        check("max(0, energy_export_kwh - energy_import_kwh)", Ok("0"));
        check("min(3, 1, 2) + abs(-2.5)", Ok("3.5"));
        check("energy_import_kwh@\"E-17\" + sum(volume_m3) + tou[\"peak\"]", Ok("20"));
        check("1 / (2 - 2)", Err(FormulaFault::Zero));
        check("other", Err(FormulaFault::Unknown));
        check(&["999999999"; 5].join(" * "), Err(FormulaFault::Overflow));
    }

    #[test]
    fn what_is_no_formula_is_refused_with_its_place() {
        for (text, expected) in [
            ("", "ends where a number, a name or a bracket is wanted"),
            ("1 +", "ends where a number, a name or a bracket is wanted"),
            ("1 2", "has `2` at place 3, where an operator is wanted"),
            ("(1", "ends where `)` is wanted"),
            ("1 & 2", "has `&` at place 3, which means nothing here"),
            ("pow(1, 2)", "has no function `pow`; there are min, max, abs and sum"),
            ("abs(1, 2)", "gives abs 2 values; 1 is wanted"),
            ("sum(1 + 1)", "wants the name of a channel in sum(...)"),
            ("1.2345678901", "has the number 1.2345678901; at most 9 decimals and 18 digits are possible"),
            ("use@\"E1\"", "names a usage point behind `use`, which is no channel"),
            ("a[\"b\"", "ends where `]` is wanted"),
            ("a@\"b", "has a text at place 3 that does not end"),
        ] {
            assert_eq!(Formula::parse(text).unwrap_err(), expected, "{text}");
        }
        assert!(Formula::parse(&"(".repeat(40)).unwrap_err().contains("brackets"));
        assert!(Formula::parse(&"-".repeat(900)).unwrap_err().contains("brackets"));
        assert!(Formula::parse(&"1".repeat(2000)).unwrap_err().contains("longer"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~]{0,80}") {
            let _ = Formula::parse(&text);
        }

        #[test]
        fn what_is_divided_and_multiplied_again_is_the_same(a in -1_000_000_i64..1_000_000, b in 1_i64..100_000) {
            let formula = Formula::parse(&format!("({a} / {b}) * {b}")).unwrap();
            let found = formula.evaluate(|_| None).unwrap().round(Rounding::default()).unwrap();
            prop_assert_eq!(found, Amount::from_scaled(a, 0).unwrap());
        }
    }
}
