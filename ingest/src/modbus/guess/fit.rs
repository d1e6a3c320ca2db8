//! Which known profile reads a device as a meter that could exist.

use meterlake_config::device_profile::DeviceProfile;
use meterlake_model::{Channel, ChannelKind, parse_scaled_rounding};

use super::super::identity::identify;
use super::super::image::Image;
use super::super::sunspec::{Discovery, located};
use super::physics::{is_possible_power, plausibility};
use super::tries::Held;
use super::{Evidence, Hint};
use crate::decode::golden::decimal;

/// How well a profile reads a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// The profile's name.
    pub profile: String,
    /// The higher, the better; 0 when the device cannot be of this kind.
    pub score: u32,
    /// What speaks for it and against it.
    pub reasons: Vec<String>,
    /// What it reads, in the units of the columns.
    pub values: Vec<(Channel, String)>,
}

/// How well each profile reads the device, the best first. Those that read nothing are left out.
pub fn fits(evidence: &Evidence<'_>, profiles: &[DeviceProfile]) -> Vec<Fit> {
    let held = Held::of(evidence.first);
    let again = evidence.again.map(Held::of);
    let mut fits: Vec<Fit> =
        profiles.iter().filter_map(|profile| fit(profile, evidence, &held, again.as_ref())).collect();
    fits.sort_by(|a, b| (b.score, &a.profile).cmp(&(a.score, &b.profile)));
    fits
}

struct Scale {
    score: i32,
    reasons: Vec<String>,
}

impl Scale {
    fn add(&mut self, score: i32, reason: String) {
        self.score += score;
        self.reasons.push(reason);
    }
}

fn fit(profile: &DeviceProfile, evidence: &Evidence<'_>, held: &Held, again: Option<&Held>) -> Option<Fit> {
    let profile = found(profile, evidence.first)?;
    let mut scale = Scale { score: 0, reasons: Vec::new() };
    let mut values: Vec<(Channel, i64)> = Vec::new();
    let (mut lacking, mut unreadable) = (0, 0);
    for field in &profile.fields {
        if !held.has(field) {
            lacking += 1;
            continue;
        }
        let Some(value) = held.value(field) else {
            unreadable += i32::from(field.registers().all(|register| register.absent.is_empty()));
            continue;
        };
        let (score, what) = plausibility(field.channel, value);
        scale.score += score;
        if score < 0 {
            scale.reasons.push(format!("{} would be {}: {what}", field.channel, decimal(value, field.channel.scale())));
        }
        if field.channel.kind() == ChannelKind::Register
            && let Some(later) = again.and_then(|again| again.value(field))
        {
            let score = if later < value { -20 } else { i32::from(later > value) * 5 };
            scale.score += score;
            if score < 0 {
                scale.reasons.push(format!("{} would run backward", field.channel));
            }
        }
        values.push((field.channel, value));
    }
    if values.is_empty() {
        return None;
    }
    if lacking > 0 {
        scale.add(-8 * lacking, format!("the device lacks the registers of {lacking} columns"));
    }
    if unreadable > 0 {
        scale.add(-10 * unreadable, format!("{unreadable} columns cannot be read"));
    }
    weigh_power(&values, &mut scale);
    weigh_nameplate(&profile, evidence.hints, held, &mut scale);
    for hint in evidence.hints {
        weigh_hint(hint, &values, &mut scale);
    }
    let values = values.into_iter().map(|(channel, value)| (channel, decimal(value, channel.scale()))).collect();
    let score = u32::try_from(scale.score).unwrap_or(0);
    Some(Fit { profile: profile.name, score, reasons: scale.reasons, values })
}

/// The profile with addresses; `None` when it finds none by discovery.
fn found(profile: &DeviceProfile, image: &Image) -> Option<DeviceProfile> {
    let Some(mut walk) = Discovery::of(profile) else { return Some(profile.clone()) };
    while let Some(request) = walk.next() {
        walk.take(image.block(request).as_ref().map(|block| block.words.as_slice()));
    }
    match walk.result() {
        Some(Ok(found)) => Some(located(profile, found)),
        _ => None,
    }
}

/// Power of each phase against its voltage and current, and of all against their sum.
fn weigh_power(values: &[(Channel, i64)], scale: &mut Scale) {
    let of = |name: &str| values.iter().find(|(channel, _)| channel.name() == name).map(|(_, value)| *value);
    for phase in 1..=3 {
        let phase_power = of(&format!("power_l{phase}_kw"));
        let is_single = of("voltage_l2_v").is_none() && phase == 1;
        let power = if is_single { phase_power.or(of("power_kw")) } else { phase_power };
        let (Some(voltage), Some(current), Some(power)) =
            (of(&format!("voltage_l{phase}_v")), of(&format!("current_l{phase}_a")), power)
        else {
            continue;
        };
        match is_possible_power(voltage, current, power) {
            (false, _) => scale.add(-15, format!("phase {phase} would have more power than voltage times current")),
            (true, true) => scale.add(8, format!("phase {phase} has a power that goes with voltage and current")),
            (true, false) => {}
        }
    }
    let phases: Option<Vec<i64>> = (1..=3).map(|phase| of(&format!("power_l{phase}_kw"))).collect();
    if let (Some(phases), Some(total)) = (phases, of("power_kw"))
        && total != 0
    {
        let off = (phases.iter().sum::<i64>() - total).abs();
        if off * 50 <= total.abs() + 250 {
            scale.add(8, "the phases add up to the whole power".to_owned());
        }
    }
}

fn weigh_nameplate(profile: &DeviceProfile, hints: &[Hint], held: &Held, scale: &mut Scale) {
    if profile.identify.is_empty() {
        return;
    }
    let blocks = held.blocks();
    match identify(profile, None, &blocks) {
        Err(why) => scale.add(-60, why),
        Ok(nameplate) => {
            if let Some(model) = &nameplate.model {
                scale.add(40, format!("the device says {model} for its model"));
            }
            let texts = hints.iter().filter_map(|hint| match hint {
                Hint::Text(text) => Some(text.trim()),
                Hint::Value { .. } => None,
            });
            for text in texts {
                let says = |said: &Option<String>| said.as_deref().is_some_and(|said| said.eq_ignore_ascii_case(text));
                if says(&nameplate.serial) || says(&nameplate.model) {
                    scale.add(50, format!("the device says {text} for itself"));
                }
            }
        }
    }
}

fn weigh_hint(hint: &Hint, values: &[(Channel, i64)], scale: &mut Scale) {
    let Hint::Value { channel, about, tolerance_permille, .. } = hint else { return };
    let Ok(about) = parse_scaled_rounding(about, channel.scale()) else { return };
    let Some((_, value)) = values.iter().find(|(other, _)| other == channel) else { return };
    let allowed = (i128::from(about).abs() * i128::from(*tolerance_permille) / 1000).max(1);
    let [shown, known] = [*value, about].map(|number| decimal(number, channel.scale()));
    if (i128::from(*value) - i128::from(about)).abs() <= allowed {
        scale.add(30, format!("{channel} is {shown}, {known} is known"));
    } else {
        scale.add(-30, format!("{channel} would be {shown}, {known} is known"));
    }
}
