//! One profile as text for a terminal: bars of Unicode blocks, without colours.

use super::picture::Sheet;
use super::scale::{Axis, short};
use super::{DayType, Shape};

const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ROWS: u32 = 6;

/// Draws the mean day by day type, the use of each day and the key figures; at most 78 columns wide.
pub fn draw(sheet: &Sheet<'_>) -> String {
    let mut lines = vec![sheet.title.to_owned(), sheet.subtitle.to_owned(), String::new()];
    let highest = sheet.profile.shapes.iter().flatten().flatten().copied().fold(0.0, f64::max);
    if highest > 0.0 {
        let axis = Axis::new(highest, ROWS);
        lines.push(format!("mean day, {} per hour", sheet.unit));
        lines.extend(chart(&sheet.profile.shapes[0], &axis));
        for (kind, shape) in DayType::ALL.iter().zip(&sheet.profile.shapes).skip(1) {
            let bars: String = shape.iter().map(|v| cell(*v, axis.top).repeat(2)).collect();
            lines.push(format!("{:>8} │{}│", kind.as_str(), bars));
        }
        lines.push(String::new());
    }
    lines.extend(days(sheet));
    lines.extend(figures(sheet));
    lines.join("\n")
}

/// Workdays as bars with a value axis and hours below.
fn chart(shape: &Shape, axis: &Axis) -> Vec<String> {
    let mut lines = Vec::new();
    for row in (0..ROWS).rev() {
        let floor = axis.top * f64::from(row) / f64::from(ROWS);
        let height = axis.top / f64::from(ROWS);
        let bars: String =
            shape.iter().map(|v| cell(Some((v.unwrap_or(0.0) - floor).clamp(0.0, height)), height).repeat(2)).collect();
        let label = if row + 1 == ROWS { axis.label(axis.top) } else { String::new() };
        lines.push(format!("{label:>8} ┤{bars}│"));
    }
    lines.push(format!("{:>8} └{}┘", "0", "─".repeat(48)));
    lines.push(format!("{:>8}  {}", "workday", "0     3     6     9     12    15    18    21    h"));
    lines
}

/// One character; a dot where nothing is known.
fn cell(value: Option<f64>, top: f64) -> String {
    let Some(value) = value else { return "·".to_owned() };
    let eighths = if top > 0.0 { (value / top * 8.0).round().clamp(0.0, 8.0) } else { 0.0 };
    let index = (0..9_u8).rev().find(|i| f64::from(*i) <= eighths).unwrap_or(0);
    BLOCKS[usize::from(index)].to_string()
}

fn days(sheet: &Sheet<'_>) -> Vec<String> {
    let daily = &sheet.profile.daily;
    let highest = daily.iter().flatten().map(|a| a.to_f64()).fold(0.0, f64::max);
    let bars: String = daily.iter().map(|d| cell(d.map(|a| a.to_f64()), highest)).collect();
    vec![
        format!("{:>8} │{bars}│ highest {} {}", "days", short(highest), sheet.unit),
        format!("{:>8}  from {}, · where an hour was not read", "", sheet.profile.first_day),
    ]
}

fn figures(sheet: &Sheet<'_>) -> Vec<String> {
    let Some(f) = &sheet.profile.figures else {
        return vec![format!("no key figures: {} complete days are too few", sheet.profile.complete_days())];
    };
    let percent = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |s| format!("{:.0} %", s * 100.0));
    let unit = sheet.unit;
    vec![
        String::new(),
        format!("a day {} {unit} · base {} · peak {} {unit}/h", short(f.daily_use), short(f.base_load), short(f.peak)),
        format!(
            "night {} · midday {} · evening {} · load factor {}",
            percent(f.night_share),
            percent(f.midday_share),
            percent(f.evening_share),
            percent(f.load_factor)
        ),
    ]
}
