//! A measurement, run by hand: the jobs over a fleet of the size of the demo.
//!
//! `cargo test -p meterlake-analytics --test integration -- --ignored --nocapture scale`, with `METERLAKE_SCALE_METERS`
//! for another number of meters.

use meterlake_analytics::{Job, JobOptions, run_job};
use meterlake_model::registry::{Meter, Registry};
use meterlake_model::{Commodity, MeterId, ReadingBatch, UsagePointId};

use crate::fixture::{QUARTER_S, TestLake, day, push, registry, zone};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn scale() {
    let meters: i64 = std::env::var("METERLAKE_SCALE_METERS").map_or(500, |text| text.parse().unwrap());
    let template = registry();
    let mut all = Registry::default();
    for number in 0..meters {
        let id = format!("E{number:05}");
        let mut point = template.usage_points[&UsagePointId::new("E1").unwrap()].clone();
        point.id = UsagePointId::new(&id).unwrap();
        let mut installation = template.installations[0].clone();
        installation.meter_id = MeterId::new(&id.to_lowercase()).unwrap();
        installation.usage_point_id = point.id.clone();
        let meter = installation.meter_id.clone();
        let commodity = Commodity::Electricity;
        let made = Meter { id: meter.clone(), commodity, serial: None, model: String::new(), gateway_id: None };
        all.meters.insert(meter, made);
        all.usage_points.insert(point.id.clone(), point);
        all.installations.push(installation);
    }
    let mut lake = TestLake::new(&all).await;
    let (from, to) = (zone().start_of_day(day("2026-01-27")), zone().start_of_day(day("2026-03-03")));
    for meter in all.meters.keys() {
        let mut batch = ReadingBatch::default();
        let (mut ts, mut register) = (from, 1_000_000);
        while ts <= to {
            let values = [("energy_import_kwh", register), ("voltage_l1_v", 2300 + register % 37)];
            push(&mut batch, meter.as_str(), ts, &values);
            register += 40 + register % 83;
            ts = ts.plus_seconds(QUARTER_S);
        }
        lake.queue(batch);
    }
    lake.flush().await;
    for job in Job::ALL.into_iter().chain(Job::ALL) {
        // From here on the peak is that of the job alone; where the kernel refuses, it is that of all so far.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let options = JobOptions::new(day("2026-01-27"), day("2026-03-03"));
        let report = run_job(&lake.lake, job, &options).await.unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default().replace("VmHWM:", "peak");
        println!("{:8} {:?} {peak}: {}", job.as_str(), report.duration, report.summary);
    }
}
