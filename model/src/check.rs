//! Checks as data: what they are called, what they ask, of whom and when, and what follows from a finding. How a check is run
//! is not known here.
//!
//! A check and what follows from it are apart: a [`Setting`] of the configuration changes the parameters, the scope and the
//! policy of a [`Check`] between two days, and a finding goes by what was in force when it began.

mod scope;

use std::collections::BTreeMap;
use std::fmt;

use crate::amount::Amount;
use crate::time::CivilDay;

pub use scope::{Attribute, Scope, Subject};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing: it is told.
    Information,
    /// Somebody should look; bills go out.
    Issue,
    /// No bill goes out over it before a person or a new fact has settled it.
    Stop,
}

impl Severity {
    /// All, from the least on.
    pub const ALL: [Self; 3] = [Self::Information, Self::Issue, Self::Stop];

    /// The name in tables and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::Issue => "issue",
            Self::Stop => "stop",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text)
    }
}

/// What follows from a finding. No policy changes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnFail {
    /// The check is not run.
    Off,
    /// The finding is kept, and that is all.
    Keep,
    /// The walk fills what failed. Of its own rules only.
    Fill,
    /// Input is set aside whole and can be read again. Of the collector's own rules only.
    SetAside,
    /// Somebody is to go there.
    WorkItem,
    /// No bill goes out over it until a named person has looked.
    Verify,
    /// No bill goes out over it until a person or a new fact has settled it.
    Hold,
}

impl OnFail {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::Off, Self::Keep, Self::Fill, Self::SetAside, Self::WorkItem, Self::Verify, Self::Hold];

    /// The name in tables and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Keep => "keep",
            Self::Fill => "fill",
            Self::SetAside => "set_aside",
            Self::WorkItem => "work_item",
            Self::Verify => "verify",
            Self::Hold => "hold",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text)
    }

    /// Whether a bill waits for it.
    pub const fn stops(self) -> bool {
        matches!(self, Self::Verify | Self::Hold)
    }
}

/// The value of a parameter. What stands in the file decides its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// A number with a point, to six decimals.
    Decimal(Amount),
    /// `true` or `false`.
    Flag(bool),
    /// Text.
    Text(String),
}

impl Value {
    /// Reads `28`, `0.50`, `true` or `'text'`. The error says what is wrong, as in "`days` …".
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("is {text}; a number, true, false or 'text' is wanted");
        match text {
            "true" => return Ok(Self::Flag(true)),
            "false" => return Ok(Self::Flag(false)),
            _ => {}
        }
        if let Some(inside) = text.strip_prefix('\'') {
            let inside = inside.strip_suffix('\'').filter(|inside| !inside.contains('\'')).ok_or_else(wrong)?;
            return Ok(Self::Text(inside.to_owned()));
        }
        if text.contains('.') {
            return Amount::parse(text).map(Self::Decimal).map_err(|_| wrong());
        }
        text.parse().map(Self::Integer).map_err(|_| wrong())
    }

    /// The type in words.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "a whole number",
            Self::Decimal(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::Text(_) => "a text",
        }
    }

    /// This value in the type of another: a whole number serves as a number.
    pub fn like(self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Integer(n), Self::Decimal(_)) => Amount::from_scaled(n, 0).ok().map(Self::Decimal),
            (value, other) if std::mem::discriminant(&value) == std::mem::discriminant(other) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Decimal(amount) => {
                let text = amount.to_string();
                let text = text.trim_end_matches('0');
                write!(f, "{text}{}", if text.ends_with('.') { "0" } else { "" })
            }
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Text(text) => write!(f, "'{text}'"),
        }
    }
}

/// Parameters by name.
pub type Params = BTreeMap<String, Value>;

/// Days from the first up to the last, which is not among them; open where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Days {
    /// The first day.
    pub from: Option<CivilDay>,
    /// The day after the last.
    pub to: Option<CivilDay>,
}

impl Days {
    /// Whether a day is among them.
    pub fn has(&self, day: CivilDay) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day < to)
    }

    /// Whether any day from `from` up to the day before `to` is among them.
    pub fn touch(&self, from: CivilDay, to: CivilDay) -> bool {
        self.from.is_none_or(|first| first < to) && self.to.is_none_or(|end| from < end)
    }
}

/// Who answers a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A query that only reads. `$name` stands for a parameter, `$from`, `$to` and `$month` for the month that is checked.
    Sql(String),
    /// A part of the program.
    Operator(Operator),
}

/// Checks that need order, or that act where something comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// Input that is set aside before it is a reading.
    Collector,
    /// A rule of the walk from readings to use.
    Walk,
    /// A gate of a bill.
    Gate,
    /// The highest slot of a day against the third highest.
    Spike,
    /// A row of slots alike.
    Run,
    /// A slot against the valid one before it.
    Step,
}

impl Operator {
    /// The name in lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Walk => "walk",
            Self::Gate => "gate",
            Self::Spike => "spike",
            Self::Run => "run",
            Self::Step => "step",
        }
    }

    /// Whether it looks at slots in their order and is run as a check of its own.
    pub const fn of_slots(self) -> bool {
        matches!(self, Self::Spike | Self::Run | Self::Step)
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Number and name, such as `V20_high_low`.
    pub id: String,
    /// What it looks for, one line.
    pub about: String,
    /// How much a finding matters.
    pub severity: Severity,
    /// What follows from it.
    pub on_fail: OnFail,
    /// Of whom it asks.
    pub scope: Scope,
    /// Its parameters with what holds unless it is changed.
    pub params: Params,
    /// When it is in force.
    pub days: Days,
    /// Who answers it.
    pub source: Source,
}

impl Check {
    /// The lasting number, such as `V20`.
    pub fn number(&self) -> &str {
        self.id.split_once('_').map_or(self.id.as_str(), |(number, _)| number)
    }

    /// Whether a name means it: its id, or its number.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.number() == name
    }

    /// Whether it is run over the tables, rather than by what writes them.
    pub fn runs(&self) -> bool {
        !matches!(self.source, Source::Operator(operator) if !operator.of_slots())
    }
}

/// What the configuration says about a check: `[[check]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Id of the check.
    pub check: String,
    /// When it is in force.
    pub days: Days,
    /// Of whom; `None`: as the check says.
    pub scope: Option<Scope>,
    /// How much a finding matters; `None`: as the check says.
    pub severity: Option<Severity>,
    /// What follows; `None`: as the check says.
    pub on_fail: Option<OnFail>,
    /// Parameters that are not as the check says.
    pub params: Params,
}

/// A check as one setting has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// How much a finding matters.
    pub severity: Severity,
    /// What follows from it.
    pub on_fail: OnFail,
    /// Of whom it asks.
    pub scope: Scope,
    /// All parameters.
    pub params: Params,
    /// When it is in force.
    pub days: Days,
}

/// All checks, with what the configuration makes of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    /// In order of their ids.
    pub checks: Vec<Check>,
    /// In the order of the file.
    pub settings: Vec<Setting>,
    /// Findings of one check and month that are written down; beyond, only those that hold a bill, one a place.
    pub most: Option<usize>,
}

impl Catalogue {
    /// The check of this id.
    pub fn get(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }

    /// The checks that a name means: an id, or a number that several may share.
    pub fn called(&self, name: &str) -> Vec<&Check> {
        self.checks.iter().filter(|check| check.is_called(name)).collect()
    }

    /// Takes a check in, in the place of one of the same id.
    pub fn put(&mut self, check: Check) {
        match self.checks.binary_search_by(|known| known.id.cmp(&check.id)) {
            Ok(at) => self.checks[at] = check,
            Err(at) => self.checks.insert(at, check),
        }
    }

    /// A check as it ships, and as each setting has it, in the order of the file. A later one goes before an earlier.
    pub fn variants(&self, check: &Check) -> Vec<Variant> {
        let base = Variant {
            severity: check.severity,
            on_fail: check.on_fail,
            scope: check.scope.clone(),
            params: check.params.clone(),
            days: check.days,
        };
        let mut variants = vec![base.clone()];
        variants.extend(self.settings.iter().filter(|s| s.check == check.id).map(|setting| {
            let mut params = base.params.clone();
            params.extend(setting.params.iter().map(|(name, value)| (name.clone(), value.clone())));
            Variant {
                severity: setting.severity.unwrap_or(base.severity),
                on_fail: setting.on_fail.unwrap_or(base.on_fail),
                scope: setting.scope.clone().unwrap_or_else(|| base.scope.clone()),
                params,
                days: setting.days,
            }
        }));
        variants
    }
}

/// Which variant goes for a subject on a day: the last one that is in force and asks of it.
pub fn in_force(variants: &[Variant], subject: &Subject<'_>, day: CivilDay) -> Option<usize> {
    variants.iter().rposition(|variant| variant.days.has(day) && variant.scope.holds(subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for policy in OnFail::ALL {
            assert_eq!(OnFail::parse(policy.as_str()), Some(policy));
        }
        for severity in Severity::ALL {
            assert_eq!(Severity::parse(severity.as_str()), Some(severity));
        }
    }

    #[test]
    fn what_stands_in_the_file_decides_the_type_of_a_parameter() {
        let decimal = |text: &str| Value::Decimal(Amount::parse(text).unwrap());
        for (text, expected) in [
            ("28", Some(Value::Integer(28))),
            ("-1", Some(Value::Integer(-1))),
            ("0.50", Some(decimal("0.5"))),
            ("true", Some(Value::Flag(true))),
            ("'kWh; --'", Some(Value::Text("kWh; --".to_owned()))),
            ("''", Some(Value::Text(String::new()))),
            ("'a'b'", None),
            ("0.1234567", None),
            ("1e3", None),
            ("kWh", None),
            ("", None),
            ("'", None),
        ] {
            assert_eq!(Value::parse(text).ok(), expected, "{text}");
            if let Some(value) = expected {
                assert_eq!(Value::parse(&value.to_string()), Ok(value));
            }
        }
        assert_eq!(Value::Integer(2).like(&decimal("1.5")), Some(decimal("2.0")));
        assert_eq!(decimal("1.5").like(&Value::Integer(2)), None);
    }

    fn check() -> Check {
        Check {
            id: "V16_closure".to_owned(),
            about: String::new(),
            severity: Severity::Issue,
            on_fail: OnFail::Keep,
            scope: Scope::default(),
            params: Params::from([("tolerance".to_owned(), Value::parse("1.2").unwrap())]),
            days: Days::default(),
            source: Source::Sql(String::new()),
        }
    }

    #[test]
    fn g10_a_finding_of_december_goes_by_what_was_in_force_in_december() {
        let day = |text: &str| CivilDay::parse(text).unwrap();
        let setting = Setting {
            check: "V16_closure".to_owned(),
            days: Days { from: Some(day("2026-01-01")), to: None },
            scope: None,
            severity: None,
            on_fail: None,
            params: Params::from([("tolerance".to_owned(), Value::parse("1.5").unwrap())]),
        };
        let catalogue = Catalogue { checks: vec![check()], settings: vec![setting], most: None };
        let variants = catalogue.variants(&catalogue.checks[0]);
        let subject = Subject::default();
        let tolerance =
            |on: &str| variants[in_force(&variants, &subject, day(on)).unwrap()].params["tolerance"].to_string();
        assert_eq!([tolerance("2025-12-31"), tolerance("2026-01-01"), tolerance("2026-02-03")], ["1.2", "1.5", "1.5"]);
    }

    #[test]
    fn the_last_setting_that_asks_of_a_subject_goes_for_it() {
        let of = |scope: &str, on_fail| Setting {
            check: "V16_closure".to_owned(),
            days: Days::default(),
            scope: Some(Scope::parse(scope).unwrap()),
            severity: None,
            on_fail: Some(on_fail),
            params: Params::new(),
        };
        let settings = vec![of("commodity = 'water'", OnFail::Off), of("class = 'hospital'", OnFail::Hold)];
        let catalogue = Catalogue { checks: vec![check()], settings, most: None };
        let variants = catalogue.variants(&catalogue.checks[0]);
        let day = CivilDay::parse("2026-01-01").unwrap();
        let policy = |commodity, class| {
            let subject = Subject { commodity: Some(commodity), class: Some(class), ..Subject::default() };
            variants[in_force(&variants, &subject, day).unwrap()].on_fail
        };
        assert_eq!(policy("electricity", "home"), OnFail::Keep);
        assert_eq!(policy("water", "home"), OnFail::Off);
        assert_eq!(policy("water", "hospital"), OnFail::Hold);
    }
}
