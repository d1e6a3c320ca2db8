//! What follows from findings of the walk, where the configuration says other than the walk.

use meterlake_model::check::{Catalogue, OnFail, Severity, Subject, in_force};
use meterlake_model::registry::UsagePoint;

use crate::usage::{Finding, Rule};

/// Gives findings of the walk the weight that the settings in force when they began give them. Without a setting they stay.
pub(crate) fn apply_policy(catalogue: &Catalogue, point: &UsagePoint, channel: &str, findings: &mut [Finding]) {
    if catalogue.settings.is_empty() {
        return;
    }
    for finding in findings {
        let Some(check) = catalogue.get(&finding.rule.id()) else { continue };
        let variants = catalogue.variants(check);
        let subject = Subject {
            commodity: Some(point.commodity.as_str()),
            channel: Some(channel),
            usage_point: Some(point.id.as_str()),
            customer: point.customer_id.as_ref().map(|id| id.as_str()),
            node: point.node_id.as_ref().map(|id| id.as_str()),
            class: Some(&point.class),
            zone: Some(point.zone.name()),
            meter: None,
            active: Some(point.active),
            continuous_use: Some(point.continuous_use),
        };
        // The first is the walk's own.
        let Some(at) = in_force(&variants, &subject, point.zone.day_of(finding.start)).filter(|at| *at > 0) else {
            continue;
        };
        finding.severity = match (variants[at].on_fail, finding.rule) {
            // What the walk only tells of, such as a wrap that it accepts, is never more than that.
            (OnFail::Verify | OnFail::Hold, Rule::V12) if finding.severity == Severity::Information => continue,
            (OnFail::Verify | OnFail::Hold, _) => Severity::Stop,
            (OnFail::Keep, _) => Severity::Information,
            _ => variants[at].severity,
        };
    }
}
