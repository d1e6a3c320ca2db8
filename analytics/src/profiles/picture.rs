//! One profile as an SVG picture: the mean day by day type, the use of each day, the key figures.
//!
//! Self-contained (no script, no fonts to fetch), readable on light and dark pages, and told apart without colours too:
//! day types differ by dashes. All text is escaped.

use std::fmt::Write as _;

use super::scale::{Axis, short};
use super::{DayType, Profile};

/// What a picture shows.
#[derive(Debug, Clone, Copy)]
pub struct Sheet<'a> {
    /// Headline, such as the usage point.
    pub title: &'a str,
    /// Second line, such as channel, period and peer class.
    pub subtitle: &'a str,
    /// Unit of the channel, such as `kWh` or `m³`.
    pub unit: &'a str,
    /// First day counts as day type Sunday when it is a holiday; the days themselves are in here.
    pub profile: &'a Profile,
    /// Type of each day of the period, for the colours of the bars.
    pub day_types: &'a [DayType],
}

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 640.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 848.0;

/// Light first; a page or viewer that prefers dark gets the second set.
const STYLE: &str = "\
.bg{fill:#fff}.t{fill:#17202b;font:600 20px system-ui,sans-serif}.s{fill:#566273;font:13px system-ui,sans-serif}\
.h{fill:#17202b;font:600 14px system-ui,sans-serif}.n{fill:#17202b;font:600 16px system-ui,sans-serif}\
.g{stroke:#e1e7ee}.a{stroke:#8b97a6}.k{fill:#f4f7fa}.o{fill:#8b97a6}\
.l{fill:none;stroke-width:2.5;stroke-linejoin:round;stroke-linecap:round}\
.l0{stroke:#1666d8}.l1{stroke:#c26a0a;stroke-dasharray:8 5}.l2{stroke:#8a3fb3;stroke-dasharray:2 5}\
.b0{fill:#1666d8}.b1{fill:#d98a2f}.b2{fill:#a763cc}.f{fill:#1666d8;opacity:.1}\
@media(prefers-color-scheme:dark){.bg{fill:#11161d}.t,.h,.n{fill:#e7ecf3}.s{fill:#9aa7b7}\
.g{stroke:#29323d}.a{stroke:#647183}.k{fill:#1a222c}\
.l0{stroke:#6fabff}.l1{stroke:#f2ae60}.l2{stroke:#cf9bef}.b0{fill:#5a97ec}.b1{fill:#e0a05a}.b2{fill:#bb86dd}.f{fill:#6fabff}}";

/// Draws the picture; the text of a complete SVG file.
pub fn svg(sheet: &Sheet<'_>) -> String {
    let mut out = Svg::default();
    out.add(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"t d\"><title id=\"t\">{}</title><desc id=\"d\">{}</desc>\
         <style>{STYLE}</style><rect class=\"bg\" width=\"100%\" height=\"100%\" rx=\"8\"/>",
        escape(sheet.title),
        escape(&format!("{}. Mean use by hour for each day type, and use by day.", sheet.subtitle)),
    ));
    out.text("t", 32.0, 42.0, "start", sheet.title);
    out.text("s", 32.0, 64.0, "start", sheet.subtitle);
    tiles(&mut out, sheet);
    mean_day(&mut out, sheet, Frame { top: 200.0, bottom: 384.0 });
    each_day(&mut out, sheet, Frame { top: 468.0, bottom: 584.0 });
    out.add("</svg>\n");
    out.0
}

/// The vertical place of a chart.
#[derive(Clone, Copy)]
struct Frame {
    top: f64,
    bottom: f64,
}

impl Frame {
    fn y(self, value: f64, axis: &Axis) -> f64 {
        self.bottom - (value / axis.top).clamp(0.0, 1.0) * (self.bottom - self.top)
    }
}

#[derive(Default)]
struct Svg(String);

impl Svg {
    fn add(&mut self, part: &str) {
        self.0.push_str(part);
        self.0.push('\n');
    }

    fn text(&mut self, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escape(text);
        self.add(&format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.add(&format!("<path class=\"{class}\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>"));
    }

    fn value_axis(&mut self, frame: Frame, axis: &Axis) {
        for tick in &axis.ticks {
            let y = frame.y(*tick, axis);
            self.line(if *tick > 0.0 { "g" } else { "a" }, (LEFT, y), (RIGHT, y));
            self.text("s", LEFT - 8.0, y + 4.0, "end", &axis.label(*tick));
        }
    }
}

fn tiles(out: &mut Svg, sheet: &Sheet<'_>) {
    let percent = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |s| format!("{:.0} %", s * 100.0));
    let unit = sheet.unit;
    let Some(f) = &sheet.profile.figures else {
        let text = format!("no key figures: {} complete days are too few", sheet.profile.complete_days());
        out.text("s", 32.0, 112.0, "start", &text);
        return;
    };
    let figures = [
        ("use of a day", format!("{} {unit}", short(f.daily_use))),
        ("base load", format!("{} {unit}/h", short(f.base_load))),
        ("strongest hour", format!("{} {unit}", short(f.peak))),
        ("load factor", percent(f.load_factor)),
        ("at night, 0–6 h", percent(f.night_share)),
        ("evening, 17–22 h", percent(f.evening_share)),
    ];
    let mut x = 32.0;
    for (name, value) in figures {
        out.add(&format!("<rect class=\"k\" x=\"{x:.1}\" y=\"82\" width=\"128\" height=\"58\" rx=\"6\"/>"));
        out.text("s", x + 10.0, 104.0, "start", name);
        out.text("n", x + 10.0, 128.0, "start", &value);
        x += 137.6;
    }
}

fn mean_day(out: &mut Svg, sheet: &Sheet<'_>, frame: Frame) {
    out.text("h", 32.0, frame.top - 26.0, "start", &format!("Mean day, {} per hour", sheet.unit));
    let highest = sheet.profile.shapes.iter().flatten().flatten().copied().fold(0.0, f64::max);
    let axis = Axis::new(highest, 5);
    out.value_axis(frame, &axis);
    let step = (RIGHT - LEFT) / 24.0;
    for hour in (0..=24_u32).step_by(3) {
        let x = LEFT + f64::from(hour) * step;
        out.line("a", (x, frame.bottom), (x, frame.bottom + 4.0));
        out.text("s", x, frame.bottom + 20.0, "middle", &format!("{hour}"));
    }
    out.text("s", f64::midpoint(LEFT, RIGHT), frame.bottom + 38.0, "middle", "hour of the day");
    let mut legend_x = RIGHT;
    for (index, (kind, shape)) in DayType::ALL.iter().zip(&sheet.profile.shapes).enumerate().rev() {
        if shape.iter().all(Option::is_none) {
            continue;
        }
        if index == 0 && shape.iter().all(Option::is_some) {
            out.add(&format!(
                "<path class=\"f\" d=\"{}L{:.1} {:.1}L{:.1} {:.1}Z\"/>",
                path(shape, step, frame, &axis),
                LEFT + step * 23.5,
                frame.bottom,
                LEFT + step * 0.5,
                frame.bottom
            ));
        }
        out.add(&format!("<path class=\"l l{index}\" d=\"{}\"/>", path(shape, step, frame, &axis)));
        out.text("s", legend_x, frame.top - 26.0, "end", name_of(*kind));
        legend_x -= 12.0 + 7.4 * text_width(name_of(*kind));
        out.line(&format!("l l{index}"), (legend_x - 26.0, frame.top - 30.5), (legend_x, frame.top - 30.5));
        legend_x -= 44.0;
    }
}

/// A line through the middles of the hours; broken where an hour is not known.
fn path(shape: &[Option<f64>; 24], step: f64, frame: Frame, axis: &Axis) -> String {
    let (mut d, mut pen, mut x) = (String::new(), 'M', LEFT + step / 2.0);
    for value in shape {
        match value {
            Some(value) => {
                let _ = write!(d, "{pen}{x:.1} {:.1}", frame.y(*value, axis));
                pen = 'L';
            }
            None => pen = 'M',
        }
        x += step;
    }
    d
}

fn each_day(out: &mut Svg, sheet: &Sheet<'_>, frame: Frame) {
    let profile = sheet.profile;
    out.text("h", 32.0, frame.top - 22.0, "start", &format!("Use of each day, {}", sheet.unit));
    let highest = profile.daily.iter().flatten().map(|a| a.to_f64()).fold(0.0, f64::max);
    let axis = Axis::new(highest, 4);
    out.value_axis(frame, &axis);
    let days = u32::try_from(profile.daily.len().max(1)).unwrap_or(1);
    let step = (RIGHT - LEFT) / f64::from(days);
    let every = days.div_ceil(16);
    let mut x = LEFT;
    for (index, use_) in profile.daily.iter().enumerate() {
        let middle = x + step / 2.0;
        let day = profile.first_day.plus_days(i32::try_from(index).unwrap_or(i32::MAX));
        if let Some(amount) = use_ {
            let kind = sheet.day_types.get(index).copied().unwrap_or(DayType::Workday);
            let class = DayType::ALL.iter().position(|k| *k == kind).unwrap_or(0);
            let y = frame.y(amount.to_f64(), &axis);
            let (left, width, height) = (x + step * 0.14, step * 0.72, (frame.bottom - y).max(0.5));
            let tip = escape(&format!("{day}: {} {}", short(amount.to_f64()), sheet.unit));
            out.add(&format!(
                "<rect class=\"b{class}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
                 rx=\"1.5\"><title>{tip}</title></rect>"
            ));
        } else {
            out.add(&format!("<circle class=\"o\" cx=\"{middle:.1}\" cy=\"{:.1}\" r=\"2.5\"/>", frame.bottom - 6.0));
        }
        if u32::try_from(index).unwrap_or(0) % every == 0 {
            out.text("s", middle, frame.bottom + 18.0, "middle", &day.day().to_string());
        }
        x += step;
    }
    let last = profile.first_day.plus_days(i32::try_from(days).unwrap_or(1) - 1);
    let mut note = format!("day, {} to {last}", profile.first_day);
    if profile.complete_days() < profile.daily.len() {
        note.push_str("; a dot where an hour was not read");
    }
    out.text("s", f64::midpoint(LEFT, RIGHT), frame.bottom + 38.0, "middle", &note);
}

const fn name_of(kind: DayType) -> &'static str {
    match kind {
        DayType::Workday => "workdays",
        DayType::Saturday => "Saturdays",
        DayType::Sunday => "Sundays, holidays",
    }
}

/// Number of characters; the labels are short.
fn text_width(text: &str) -> f64 {
    u32::try_from(text.chars().count()).map_or(0.0, f64::from)
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // What XML does not allow cannot be shown.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
