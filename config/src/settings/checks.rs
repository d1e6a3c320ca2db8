//! `[checks]` and `[[check]]`: one's own checks, and what follows from which check for whom and when.

use std::path::PathBuf;

use meterlake_model::CivilDay;
use meterlake_model::check::{Catalogue, Check, Days, OnFail, Params, Scope, Setting, Severity, Source};

use super::Surroundings;
use crate::check;
use crate::document::{At, Section};
use crate::spelling::near_miss;

/// Findings of one check and month, unless it says otherwise.
const MOST: usize = 10_000;
/// The most settings.
const MOST_SETTINGS: usize = 1000;

/// The checks and what is made of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChecksConfig {
    /// Where one's own checks are.
    pub folder: Option<PathBuf>,
    /// Those that come with the program and one's own, and their settings.
    pub catalogue: Catalogue,
}

impl Default for ChecksConfig {
    fn default() -> Self {
        Self { folder: None, catalogue: Catalogue { most: Some(MOST), ..check::shipped() } }
    }
}

impl ChecksConfig {
    pub(super) fn read(root: &mut Section<'_>, around: &Surroundings<'_>) -> Self {
        let mut read = Self::default();
        let mut section = root.section("checks");
        let folder = section.text("folder");
        read.catalogue.most =
            section.integer("most_findings", 1..=10_000_000_u32).map_or(Some(MOST), |most| usize::try_from(most).ok());
        if let Some(folder) = folder {
            let folder = around.path(&folder);
            match check::read_folder(&folder) {
                Ok(own) => own.into_iter().for_each(|check| read.catalogue.put(check)),
                Err(problems) => section.document().note_all(problems),
            }
            read.folder = Some(folder);
        }
        for section in root.sections("check") {
            let line = section.line();
            if let Some(setting) = setting(section, &read.catalogue) {
                read.catalogue.settings.push(setting);
            }
            if read.catalogue.settings.len() > MOST_SETTINGS {
                root.document().note(line, format!("there are more than {MOST_SETTINGS} [[check]]"));
                break;
            }
        }
        read
    }
}

fn setting(mut section: Section<'_>, catalogue: &Catalogue) -> Option<Setting> {
    let s = &mut section;
    let id = s.parsed("id", |text| match &catalogue.called(text)[..] {
        [check] => Ok(check.id.clone()),
        [] => {
            let known: Vec<&str> = catalogue.checks.iter().map(|check| check.id.as_str()).collect();
            let hint = near_miss(text, &known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let end = if hint.is_empty() { ";" } else { "" };
            Err(format!("is \"{text}\", which is no check{hint}{end} `meterlake checks list` shows them"))
        }
        several => {
            let names = several.iter().map(|check| check.id.as_str()).collect::<Vec<_>>().join(" or ");
            Err(format!("is \"{text}\"; is it {names}?"))
        }
    });
    let id = s.required("id", id);
    let days = Days { from: day(s, "valid_from"), to: day(s, "valid_to") };
    if let (Some(from), Some(to)) = (days.from, days.to)
        && from >= to
    {
        s.refuse("valid_to", format_args!("is {to}, which is not after `valid_from` {from}"));
    }
    let scope = s.parsed("scope", Scope::parse);
    let severity = s.choice("severity", &Severity::ALL.map(|severity| (severity.as_str(), severity)));
    let policies: Vec<(&str, OnFail)> = OnFail::ALL.map(|policy| (policy.as_str(), policy)).to_vec();
    let on_fail = s.choice("on_fail", &policies);
    let given = s.values_by_key("params").unwrap_or_default();
    let check = catalogue.get(&id?)?;
    if let Some(complaint) = on_fail.and_then(|policy| cannot(check, policy)) {
        s.refuse("on_fail", complaint);
    }
    if !check.runs() && scope.as_ref().is_some_and(|scope| !scope.as_str().is_empty()) && is_far(check) {
        s.refuse("scope", format_args!("is given, but {} acts before anybody knows whose it is", check.id));
    }
    let mut params = Params::new();
    for (At { value: name, line }, value) in given {
        let document = s.document();
        let Some(known) = check.params.get(&name) else {
            let known: Vec<&str> = check.params.keys().map(String::as_str).collect();
            let hint = match near_miss(&name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "it has none".to_owned(),
                None => format!("it has {}", known.join(", ")),
            };
            document.note(line, format!("`check.params`: {} has no parameter `{name}`; {hint}", check.id));
            continue;
        };
        match value.clone().like(known) {
            Some(value) => drop(params.insert(name, value)),
            None => document.note(line, format!("`check.params.{name}` is {value}; {} is wanted", known.kind())),
        }
    }
    Some(Setting { check: check.id.clone(), days, scope, severity, on_fail, params })
}

/// Whether it acts where messages come in.
fn is_far(check: &Check) -> bool {
    matches!(check.source, Source::Operator(meterlake_model::check::Operator::Collector))
}

/// Why a policy is not for a check.
fn cannot(check: &Check, policy: OnFail) -> Option<String> {
    use meterlake_model::check::Operator;
    let own = policy == check.on_fail;
    let by = match &check.source {
        _ if own => return None,
        Source::Operator(Operator::Collector) => "the collector sets aside what it finds, whatever is said here",
        Source::Operator(Operator::Gate) => "the gates are set under [billing]",
        Source::Operator(Operator::Walk) if matches!(policy, OnFail::Keep | OnFail::Verify | OnFail::Hold) => {
            return None;
        }
        Source::Operator(Operator::Walk) => "a rule of the walk can be kept, verified or held",
        _ if matches!(policy, OnFail::Fill | OnFail::SetAside) => "a check finds, and never writes a value",
        _ => return None,
    };
    Some(format!("is \"{}\", which {} cannot do: {by}", policy.as_str(), check.id))
}

fn day(s: &mut Section<'_>, key: &'static str) -> Option<CivilDay> {
    s.parsed(key, |text| {
        CivilDay::parse(text).map_err(|_| format!("is \"{text}\"; a day such as \"2026-01-01\" is wanted"))
    })
}
