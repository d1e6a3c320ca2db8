//! What the program itself answers, in the same list as the queries: rules that need order, or that act where something comes in.

use meterlake_model::check::{Check, Days, OnFail, Operator, Params, Scope, Severity, Source, Value};

/// Id, what it looks for, severity, policy, who answers, parameters.
type Row = (&'static str, &'static str, Severity, OnFail, Operator, &'static [(&'static str, &'static str)]);

const ROWS: [Row; 16] = {
    use OnFail::{Fill, Hold, Keep, Off, SetAside, Verify};
    use Operator::{Collector, Gate, Run, Spike, Step, Walk};
    use Severity::{Information, Issue, Stop};
    [
        (
            "V01_serial",
            "a message of another meter, serial number or gateway than the registry's",
            Issue,
            SetAside,
            Collector,
            &[],
        ),
        ("V02_unit", "a unit or commodity that the column does not take", Issue, SetAside, Collector, &[]),
        ("V03_multiplier", "a multiplier other than that of the installation", Issue, SetAside, Collector, &[]),
        (
            "V04_interval_length",
            "an interval that does not end on the grid of the installation",
            Issue,
            SetAside,
            Walk,
            &[],
        ),
        ("V05_conflict", "two values for one meter, channel and time", Information, Keep, Walk, &[]),
        ("V09_gap", "a missing slot or boundary", Issue, Fill, Walk, &[]),
        ("V11_backward", "a register that fell", Stop, Hold, Walk, &[]),
        ("V12_wrap", "a register that wrapped, or seems to have", Stop, Verify, Walk, &[]),
        ("V13_foreign", "a reading that leaves the register and comes back to it", Issue, SetAside, Walk, &[]),
        ("V14_capacity", "more than the connection can carry", Stop, Hold, Walk, &[]),
        ("V15_digits", "more digits or decimals than the register has", Issue, SetAside, Walk, &[]),
        ("V16_closure", "parts that do not add up to their whole", Stop, Hold, Walk, &[]),
        (
            "V21_spike",
            "the highest slot of a day far above the third highest",
            Issue,
            Verify,
            Spike,
            &[("percent", "180"), ("floor", "5.0"), ("min_slots", "20")],
        ),
        (
            "V22_run",
            "a row of slots that are 'zero', 'equal', 'above' or 'below' a value, or 'estimated', across midnights",
            Issue,
            Keep,
            Run,
            &[("of", "'zero'"), ("slots", "96"), ("value", "0.0")],
        ),
        (
            "V23_step",
            "a slot that differs from the valid one before it by more than a share of that",
            Issue,
            Off,
            Step,
            &[("percent", "1000"), ("floor", "5.0")],
        ),
        ("V26_long_estimate", "no actual boundary for too long", Stop, Hold, Gate, &[]),
    ]
};

/// All of them.
pub(super) fn all() -> impl Iterator<Item = Check> {
    ROWS.into_iter().map(|(id, about, severity, on_fail, operator, params)| {
        let value = |text: &str| Value::parse(text).unwrap_or(Value::Flag(false));
        let params: Params = params.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        Check {
            id: id.to_owned(),
            about: about.to_owned(),
            severity,
            on_fail,
            scope: Scope::default(),
            params,
            days: Days::default(),
            source: Source::Operator(operator),
        }
    })
}
