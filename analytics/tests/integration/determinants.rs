//! Determinants through the billing job, against SQL over the same spans.

use std::sync::Arc;

use meterlake_analytics::{Job, JobOptions, JobReport, Rules, run_job};
use meterlake_model::calendar::{Calendar, CalendarPlan, CalendarRule, Calendars, DayKinds, MonthDays};
use meterlake_model::determinant::{
    CloseTo, Determinant, Kind, Peak, Ratchet, Rounding, Scope, TierPeriod, UnmeteredItem, UnmeteredLoad, Window,
    Within,
};
use meterlake_model::formula::Formula;
use meterlake_model::{Amount, UsagePointId};
use meterlake_store::query::ReadOptions;

use crate::fixture::{TestLake, channel, day, lake_with_usage, quarter_year, registry, zone};

const ENERGY: &str = "energy_import_kwh";

fn amount(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}

/// Peak on workdays from 8 to 22 o'clock but for an edge within a quarter of an hour, valley else.
fn calendars() -> Calendars {
    let mut plan = CalendarPlan::new("home", zone(), ["valley", "peak"]);
    plan.default = Some(0);
    plan.rules = vec![CalendarRule::new(DayKinds::workdays(), MonthDays::all(), (8 * 60, 22 * 60), 1)];
    [("home".to_owned(), Calendar::prove(plan).unwrap())].into()
}

fn within(buckets: &[&str]) -> Within {
    Within { calendar: "home".to_owned(), buckets: buckets.iter().map(|bucket| (*bucket).to_owned()).collect() }
}

fn peak(length_s: i64, step_s: i64) -> Peak {
    Peak {
        channel: channel(ENERGY),
        window: Window { length_s, step_s },
        within: None,
        estimated: false,
        restored: false,
        nth: 1,
        by_day: false,
        ratchet: None,
    }
}

fn determinant(id: &str, points: &[&str], kind: Kind) -> Determinant {
    let points = points.iter().map(|point| UsagePointId::new(point).unwrap()).collect();
    let scope = Scope { points, ..Scope::default() };
    Determinant { id: id.to_owned(), scope, kind, round: Rounding::default() }
}

fn everything() -> Rules {
    let energy = channel(ENERGY);
    let close_to = CloseTo::UseOf(energy);
    let item = UnmeteredItem { name: "lamp".to_owned(), count: 10, load: UnmeteredLoad::Hourly(amount("0.1")) };
    let limits = ["500", "900"].map(amount).to_vec();
    let sum = "sum(energy_import_kwh) + energy_import_kwh@\"E1\" * 0 + use_kwh * 0";
    let others = ["E2", "E3"].map(|id| UsagePointId::new(id).unwrap()).to_vec();
    Rules {
        calendars: calendars(),
        determinants: vec![
            determinant("reads", &[], Kind::Boundary { channel: energy }),
            determinant("use_kwh", &[], Kind::Use { channel: energy }),
            determinant("tou", &[], Kind::Bucket { channel: energy, within: within(&[]), close_to }),
            determinant("max_kw", &[], Kind::Peak(peak(900, 900))),
            determinant("sliding_kw", &[], Kind::Peak(Peak { within: Some(within(&["peak"])), ..peak(1800, 900) })),
            determinant(
                "ratchet_kw",
                &["E1"],
                Kind::Peak(Peak { ratchet: Some(Ratchet { permille: 999, cycles: 11 }), ..peak(900, 900) }),
            ),
            determinant("together_kw", &[], Kind::Coincident(peak(3600, 3600))),
            determinant(
                "tiers",
                &[],
                Kind::Tier { channel: energy, limits, period: TierPeriod::Year(1, 1), prorate: false },
            ),
            determinant("curve", &["W1"], Kind::Curve { channel: channel("volume_m3"), interval_s: 7200 }),
            determinant(
                "virtual_kwh",
                &["E1"],
                Kind::Formula { formula: Formula::parse(sum).unwrap(), of: others, unit: "kWh".to_owned() },
            ),
            determinant("evidence", &["E4"], Kind::Evidence { channel: energy }),
            determinant(
                "lamps",
                &["W2"],
                Kind::Unmetered { items: vec![item], within: Some(within(&["valley"])), unit: "kWh".to_owned() },
            ),
        ],
        ..Rules::default()
    }
}

async fn bill(lake: &TestLake, rules: &Rules, from: &str, to: &str) -> JobReport {
    let options = JobOptions { rules: rules.clone(), ..JobOptions::new(day(from), day(to)) };
    run_job(&lake.lake, Job::Billing, &options).await.unwrap()
}

/// The rows of a query that may ask `tou_bucket`.
async fn rows(lake: &TestLake, sql: &str) -> Vec<String> {
    let options = ReadOptions { calendars: Arc::new(calendars()), ..ReadOptions::default() };
    let session = lake.lake.session(options).await.unwrap();
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    let mut text = Vec::new();
    let mut writer = arrow::csv::WriterBuilder::new().with_header(false).build(&mut text);
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    drop(writer);
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

async fn assert_same(lake: &TestLake, found: &str, expected: &str, least: usize) {
    let (found, expected) = (rows(lake, found).await, rows(lake, expected).await);
    assert!(found.len() >= least, "{found:?}");
    assert_eq!(found, expected);
}

#[tokio::test]
async fn rule_8_determinants_of_three_months_are_what_sql_says_of_the_same_spans() {
    let lake = lake_with_usage().await;
    let report = bill(&lake, &everything(), "2026-01-01", "2026-04-01").await;
    assert!(report.summary.contains("figures of determinants"), "{}", report.summary);

    // Slots of a quarter of an hour begin where buckets do; cycles are civil months.
    let month = "substr(CAST(civil_day(start, 'Europe/Madrid') AS VARCHAR), 1, 7)";
    assert_same(
        &lake,
        "SELECT usage_point_id, month, part, value FROM billing_determinants WHERE determinant = 'tou' ORDER BY 1, 2, 3",
        &format!(
            "SELECT usage_point_id, {month} AS mon, tou_bucket(start, 'home', usage_point_id) AS part, \
             CAST(sum(value) AS DECIMAL(18,6)) FROM usage_spans WHERE level = 'slot' AND channel = '{ENERGY}' \
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ),
        4 * 3 * 2,
    )
    .await;
    for (determinant, parts) in [("tou", 2), ("tiers", 3), ("use_kwh", 1)] {
        assert_same(
            &lake,
            &format!(
                "SELECT usage_point_id, month, CAST(sum(value) AS DECIMAL(18,6)), count(*) FROM billing_determinants \
                 WHERE determinant = '{determinant}' GROUP BY 1, 2 ORDER BY 1, 2"
            ),
            &format!(
                "SELECT usage_point_id, month, use_amount, {parts} FROM billing_reads WHERE channel = '{ENERGY}' \
                 ORDER BY 1, 2"
            ),
            4 * 3,
        )
        .await;
    }
    assert_same(
        &lake,
        "SELECT usage_point_id, month, value FROM billing_determinants WHERE determinant = 'max_kw' ORDER BY 1, 2",
        &format!(
            "SELECT usage_point_id, {month} AS mon, CAST(max(value) * 4 AS DECIMAL(18,6)) FROM usage_spans \
             WHERE level = 'slot' AND channel = '{ENERGY}' AND quality = 'valid' GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        4 * 3,
    )
    .await;
    assert_same(
        &lake,
        "SELECT month, CAST(sum(value) AS DECIMAL(18,6)), count(*) FROM billing_determinants \
         WHERE determinant = 'curve' GROUP BY 1 ORDER BY 1",
        "SELECT month, use_amount, CASE month WHEN '2026-01' THEN 372 WHEN '2026-02' THEN 336 ELSE 372 END \
         FROM billing_reads WHERE usage_point_id = 'W1' ORDER BY 1",
        3,
    )
    .await;
    assert_same(
        &lake,
        "SELECT month, value, unit FROM billing_determinants WHERE determinant = 'virtual_kwh' ORDER BY 1",
        "SELECT month, CAST(sum(use_amount) AS DECIMAL(18,6)), 'kWh' FROM billing_reads \
         WHERE usage_point_id IN ('E2', 'E3') GROUP BY 1 ORDER BY 1",
        3,
    )
    .await;
    // One hour of a month in which the four together used most; each has its own share of it.
    let shares = rows(
        &lake,
        "SELECT month, count(*), CAST(sum(value) FILTER (WHERE part = '') AS DECIMAL(18,6)) - max(value) FILTER \
         (WHERE part = 'together'), count(DISTINCT at_start) FROM billing_determinants \
         WHERE determinant = 'together_kw' GROUP BY 1 ORDER BY 1",
    )
    .await;
    assert_eq!(shares, ["2026-01,8,0.000000,1", "2026-02,8,0.000000,1", "2026-03,8,0.000000,1"]);
    assert_same(
        &lake,
        "SELECT DISTINCT month, value FROM billing_determinants WHERE determinant = 'together_kw' AND part = 'together' \
         AND month <> '2026-02' ORDER BY 1",
        &format!(
            "SELECT mon, max(used) FROM (SELECT {month} AS mon, date_trunc('hour', start) AS hour, \
             CAST(sum(value) AS DECIMAL(18,6)) AS used FROM usage_spans WHERE level = 'slot' AND channel = '{ENERGY}' \
             GROUP BY 1, 2) AS hours WHERE mon IN ('2026-01', '2026-03') GROUP BY 1 ORDER BY 1"
        ),
        2,
    )
    .await;
    // January and March have 31 days: 22 workdays each of 14 hours, and in March an hour less of the night.
    let lamps = "SELECT month, value FROM billing_determinants WHERE determinant = 'lamps' ORDER BY 1";
    assert_eq!(rows(&lake, lamps).await, ["2026-01,436.000000", "2026-02,392.000000", "2026-03,435.000000"]);
    let held = "SELECT DISTINCT determinant, notes FROM billing_determinants WHERE held ORDER BY 1";
    assert_eq!(rows(&lake, held).await, Vec::<String>::new());
}

#[tokio::test]
async fn d13_tiers_of_a_year_begin_with_the_customer() {
    // Another customer from 11 February on.
    let mut registry = registry();
    let point = registry.usage_points.get_mut(&UsagePointId::new("E2").unwrap()).unwrap();
    point.customer_since = Some(zone().start_of_day(day("2026-02-11")));
    let mut lake = TestLake::new(&registry).await;
    lake.commit(quarter_year()).await;
    lake.run(Job::Usage, "2026-01-01", "2026-04-01").await;
    let tiers = |id: &str, prorate: bool| {
        let limits = ["200", "300"].map(amount).to_vec();
        determinant(
            id,
            &["E2"],
            Kind::Tier { channel: channel(ENERGY), limits, period: TierPeriod::Year(1, 1), prorate },
        )
    };
    let determinants = vec![tiers("whole", false), tiers("eleven_months", true)];
    bill(&lake, &Rules { determinants, ..Rules::default() }, "2026-01-01", "2026-04-01").await;

    let used = |from: &str, to: &str| {
        format!(
            "(SELECT sum(value) FROM usage_spans WHERE usage_point_id = 'E2' AND level = 'day' AND channel = '{ENERGY}' \
             AND civil_day(start, 'Europe/Madrid') >= DATE '{from}' AND civil_day(start, 'Europe/Madrid') < DATE '{to}')"
        )
    };
    let (february, before, march) =
        (used("2026-02-01", "2026-03-01"), used("2026-02-11", "2026-03-01"), used("2026-03-01", "2026-04-01"));
    // In its first cycle nothing is used before; in March the second tier begins where its own days have filled the first.
    for (id, month, first, second, before, total) in [
        ("whole", "2026-02", "200", "300", "0", &february),
        ("whole", "2026-03", "200", "300", &before, &march),
        ("eleven_months", "2026-03", "183.333333", "275", &before, &march),
    ] {
        let parts = format!(
            "SELECT CAST({first} - {before} AS DECIMAL(18,6)), \
             CAST(least({second} - {first}, {total} + {before} - {first}) AS DECIMAL(18,6)), \
             CAST(greatest(0, {total} + {before} - {second}) AS DECIMAL(18,6))"
        );
        let found = format!(
            "SELECT max(value) FILTER (WHERE part = 't1'), max(value) FILTER (WHERE part = 't2'), \
             max(value) FILTER (WHERE part = 't3') FROM billing_determinants WHERE determinant = '{id}' AND month = '{month}'"
        );
        assert_same(&lake, &found, &parts, 1).await;
    }
    // The customer before has a year of its own.
    let january =
        "SELECT part, value FROM billing_determinants WHERE month = '2026-01' AND part = 't1' ORDER BY determinant";
    assert_eq!(rows(&lake, january).await, ["t1,200.000000", "t1,200.000000"]);
}

#[tokio::test]
async fn rule_6_a_rerun_leaves_the_bytes_of_determinants_and_a_ratchet_looks_back_over_runs() {
    let lake = lake_with_usage().await;
    let rules = everything();
    let tables = ["billing_determinants", "billing_reads"];
    bill(&lake, &rules, "2026-01-01", "2026-02-01").await;
    bill(&lake, &rules, "2026-02-01", "2026-04-01").await;
    let files = lake.files(&tables);
    let again = bill(&lake, &rules, "2026-02-01", "2026-04-01").await;
    assert_eq!(again.partitions_changed, 0, "{}", again.summary);
    bill(&lake, &rules, "2026-01-01", "2026-04-01").await;
    assert_eq!(lake.files(&tables).keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    assert!(lake.files(&tables) == files, "the same bytes, in one run or in two");
    let billed = "SELECT m.month, b.value >= CAST(0.999 * p.value AS DECIMAL(18,6)) FROM billing_determinants m \
                  JOIN billing_determinants b ON b.determinant = 'ratchet_kw' AND b.part = '' AND b.month = m.month \
                  JOIN billing_determinants p ON p.determinant = 'ratchet_kw' AND p.part = 'measured' AND p.month = '2026-01' \
                  WHERE m.determinant = 'ratchet_kw' AND m.part = 'measured' ORDER BY 1";
    assert_eq!(rows(&lake, billed).await, ["2026-01,true", "2026-02,true", "2026-03,true"]);
}

#[tokio::test]
async fn with_nothing_configured_nothing_more_is_read_or_written() {
    let lake = lake_with_usage().await;
    let plain = bill(&lake, &Rules::default(), "2026-01-01", "2026-02-01").await;
    assert!(lake.files(&["billing_determinants"]).is_empty());
    let more = bill(&lake, &everything(), "2026-01-01", "2026-02-01").await;
    assert!(more.rows_read > plain.rows_read);
    // Taken out of the configuration again, figures of the runs asked for go.
    bill(&lake, &Rules::default(), "2026-01-01", "2026-02-01").await;
    assert_eq!(rows(&lake, "SELECT count(*) FROM billing_determinants").await, ["0"]);
}
