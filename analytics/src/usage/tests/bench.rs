//! How fast a walk is; run with `--ignored --nocapture` and optimisation.

use super::*;

#[test]
#[ignore = "a measurement"]
fn a_walk_goes_at_decode_speed() {
    let (meters, days) = (200, 365);
    for (name, case, seconds) in
        [("water, hourly", Case::water(), 3600), ("electricity, quarters", Case::electricity(), 900)]
    {
        let count = days * 86_400 / seconds;
        let start = at("2026-01-01").plus_seconds(117);
        let rows: Vec<Reading> = (0..count)
            .map(|n| {
                let mut row = reading(start.plus_seconds(n * seconds), "0", n);
                row.value = Amount::from_scaled(1_000_000 + n * 13 / 7, 3).unwrap();
                row
            })
            .collect();
        let case = case.meter(&[]).readings(rows).with(|_, c| c.interval_s = seconds);
        let begin = std::time::Instant::now();
        let mut spans = 0;
        for _ in 0..meters {
            spans += case.run().spans.len();
        }
        let rate = f64::from(i32::try_from(count * meters).unwrap()) / begin.elapsed().as_secs_f64() / 1e6;
        println!("{name}: {rate:.1} million readings a second, {spans} spans");
    }
}
