//! Checks over a lake and over rows in memory: each shipped case by its id, what holds a bill, and that nothing else is touched.

use meterlake_analytics::book::{BillLine, Runs, Scope, bill_lines, bill_step, issue, load_book};
use meterlake_analytics::checks::cases::{CaseInput, run_case};
use meterlake_analytics::ledger::Materiality;
use meterlake_analytics::runs::{BillState, GateRules, Step};
use meterlake_analytics::{Job, JobOptions, Rules, run_job};
use meterlake_config::check::{Cases, parse, shipped, shipped_cases};
use meterlake_model::check::{Catalogue, Days, OnFail, Params, Setting, Value};

use crate::fixture::{TestLake, day, lake_with_usage};

const VALUES: [&str; 12] = [
    "electricity_readings",
    "water_readings",
    "usage_spans",
    "usage_days",
    "usage_anchors",
    "findings",
    "billing_runs",
    "billing_reads",
    "alerts",
    "alert_events",
    "profiles",
    "completeness",
];

/// Runs the cases of a check whose names begin so; how many there were.
async fn cases(id: &str, begins: &str) -> usize {
    let catalogue = shipped();
    let check = catalogue.get(id).unwrap();
    let (_, text) = shipped_cases().find(|(name, _)| *name == id).unwrap();
    let all = Cases::parse(text, id).unwrap();
    let mut run = 0;
    for case in all.cases.iter().filter(|case| case.name.starts_with(begins)) {
        let input = CaseInput { month: &case.month, params: &case.params, rows: &case.rows, expect: &case.expect };
        let outcome = run_case(check, &input).await.unwrap_or_else(|e| panic!("{id}, {}: {e}", case.name));
        assert_eq!(outcome.found, outcome.expected, "{id}, {}: columns {:?}", case.name, outcome.columns);
        run += 1;
    }
    run
}

#[tokio::test]
async fn c04_96_quarters_on_a_day_of_92_are_an_over_count() {
    assert_eq!(cases("V08_count", "C04").await, 1);
}

#[tokio::test]
async fn d06_tariff_registers_that_do_not_close() {
    assert_eq!(cases("V16_tariffs", "D06").await, 1);
}

#[tokio::test]
async fn g01_spike_of_200_percent_fails_and_of_166_passes() {
    assert_eq!(cases("V21_spike", "G01").await, 1);
}

#[tokio::test]
async fn g02_high_low_by_the_average_of_28_days() {
    assert_eq!(cases("V20_high_low", "G02").await, 1);
}

#[tokio::test]
async fn g05_zero_use_inside_an_outage_is_no_work_item() {
    assert_eq!(cases("V24_zero_use", "G05").await, 1);
}

#[tokio::test]
async fn g07_a_run_of_zeros_is_seen_across_midnight() {
    assert_eq!(cases("V22_run", "G07").await, 1);
}

#[tokio::test]
async fn g08_use_at_a_vacant_account() {
    assert_eq!(cases("V25_inactive_use", "G08").await, 1);
}

#[tokio::test]
async fn g09_load_hours_beyond_the_hours_of_the_cycle() {
    assert_eq!(cases("V28_load_hours", "G09").await, 1);
}

#[tokio::test]
async fn every_shipped_case_holds() {
    let mut run = 0;
    for (id, _) in shipped_cases() {
        run += cases(id, "").await;
    }
    assert!(run >= 20, "{run} cases");
}

#[tokio::test]
async fn a_case_that_is_wrong_or_does_not_hold_is_told() {
    let catalogue = shipped();
    let check = catalogue.get("V25_inactive_use").unwrap();
    let none = Params::new();
    let run = |rows: &'static str, expect: &'static str| {
        let rows = vec![("usage_days".to_owned(), rows.to_owned())];
        let none = &none;
        async move { run_case(check, &CaseInput { month: "2026-04", params: none, rows: &rows, expect }).await }
    };
    let outcome = run("usage_point_id,start,end,value\n", "usage_point_id\nE-1").await.unwrap();
    assert!(!outcome.holds());
    for (rows, expect, complaint) in [
        ("usage_point,start\nE-1,x", "", "rows of `usage_days`: the table has no column `usage_point`"),
        ("usage_point_id,start\nE-1,x", "", "rows of `usage_days`: start is x"),
        ("usage_point_id,value\nE-1,much", "", "rows of `usage_days`: value"),
        ("usage_point_id,value\nE-1,1", "who\nE-1", "`expect` names `who`; a finding has usage_point_id"),
        ("usage_point_id,value\nE-1,1", "usage_point_id,channel\nE-1", "`expect` has 1 cells in `E-1`, and 2 columns"),
    ] {
        let error = run(rows, expect).await.unwrap_err();
        assert!(error.starts_with(complaint), "{error}");
    }
}

/// A check of one's own.
fn own(id: &str, on_fail: &str, params: &str, sql: &str) -> meterlake_model::check::Check {
    let text =
        format!("-- check: {id}\n-- about: a test\n-- severity: issue\n-- on_fail: {on_fail}\n{params}\n{sql}\n");
    parse(&text, &format!("{id}.sql")).unwrap()
}

async fn outcome_of(sql: &str) -> Result<Vec<Vec<String>>, String> {
    let check = own("V27_own", "keep", "", sql);
    let rows = [(
        "usage_days".to_owned(),
        "usage_point_id,start,end,value\nE-1,2026-04-02T00:00:00Z,2026-04-03T00:00:00Z,5".to_owned(),
    )];
    let input = CaseInput { month: "2026-04", params: &Params::new(), rows: &rows, expect: "" };
    run_case(&check, &input).await.map(|outcome| outcome.found)
}

#[tokio::test]
async fn a_check_reads_tables_and_nothing_else() {
    for (sql, complaint) in [
        ("DELETE FROM usage_days", "only SELECT, EXPLAIN, SHOW and DESCRIBE"),
        ("INSERT INTO usage_days SELECT * FROM usage_days", "only SELECT, EXPLAIN, SHOW and DESCRIBE"),
        ("CREATE TABLE x AS SELECT 1", "only SELECT, EXPLAIN, SHOW and DESCRIBE"),
        ("COPY usage_days TO '/tmp/x.csv'", "only SELECT, EXPLAIN, SHOW and DESCRIBE"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT * FROM '/etc/passwd'", ""),
        ("SELECT usage_point_id, start FROM usage_days", "it gives no column end"),
        ("SELECT usage_point_id, start, \"end\", value FROM usage_days", "it gives a column value; a finding has"),
        ("SELECT usage_point_id, start, \"end\" FROM usage_day", ""),
    ] {
        let error = outcome_of(sql).await.unwrap_err();
        assert!(error.contains(complaint), "{sql}: {error}");
    }
    let all = outcome_of("SELECT usage_point_id, start, \"end\", value AS measured FROM usage_days").await.unwrap();
    assert_eq!(all.len(), 1);
}

#[tokio::test]
async fn a_text_parameter_stays_a_text() {
    let sql = "SELECT usage_point_id, start, \"end\", $word AS evidence FROM usage_days WHERE usage_point_id <> $word";
    let check = own("V27_own", "keep", "-- param: word = 'x'", sql);
    let rows = [(
        "usage_days".to_owned(),
        "usage_point_id,start,end\nE-1,2026-04-02T00:00:00Z,2026-04-03T00:00:00Z".to_owned(),
    )];
    let word = "x' OR 1=1; DROP TABLE usage_days --";
    let params = Params::from([("word".to_owned(), Value::Text(word.to_owned()))]);
    let input = CaseInput { month: "2026-04", params: &params, rows: &rows, expect: "evidence\n" };
    assert_eq!(run_case(&check, &input).await.unwrap().found, [[word.to_owned()]]);
}

async fn with_checks(lake: &TestLake, checks: Catalogue, from: &str, to: &str) -> meterlake_analytics::JobReport {
    let rules = Rules { checks, ..Rules::default() };
    let options = JobOptions { rules, ..JobOptions::new(day(from), day(to)) };
    run_job(&lake.lake, Job::Checks, &options).await.unwrap()
}

#[tokio::test]
async fn a_check_never_writes_a_value_and_a_rerun_gives_the_same_bytes() {
    let lake = lake_with_usage().await;
    for job in [Job::Billing, Job::Alerts, Job::Profiles, Job::Completeness] {
        lake.run(job, "2026-01-01", "2026-04-01").await;
    }
    let before = lake.files(&VALUES);
    assert!(before.len() > 12);
    // Everything on, with limits so low that much is found.
    let everything = |on_fail, most| {
        let mut catalogue = Catalogue { most: Some(most), ..shipped() };
        let low = [
            ("V20_high_low", "high", Value::parse("1.01").unwrap()),
            ("V21_spike", "floor", Value::parse("0.000001").unwrap()),
            ("V22_run", "slots", Value::Integer(3)),
            ("V23_step", "percent", Value::Integer(5)),
        ];
        let checks = catalogue.checks.iter().filter(|check| check.runs());
        catalogue.settings = checks
            .map(|check| Setting {
                check: check.id.clone(),
                days: Days::default(),
                scope: None,
                severity: None,
                on_fail: Some(on_fail),
                params: low
                    .iter()
                    .filter(|l| l.0 == check.id)
                    .map(|(_, name, v)| ((*name).to_owned(), v.clone()))
                    .collect(),
            })
            .collect();
        catalogue
    };
    for (on_fail, most) in [(OnFail::Hold, 1_000_000), (OnFail::Verify, 3)] {
        let report = with_checks(&lake, everything(on_fail, most), "2026-01-01", "2026-04-01").await;
        assert!(report.findings > 10, "{}", report.summary);
        assert_eq!(report.summary.contains("not kept"), most == 3, "{}", report.summary);
        assert!(before == lake.files(&VALUES), "{}", report.summary);
        let again = with_checks(&lake, everything(on_fail, most), "2026-01-01", "2026-04-01").await;
        assert_eq!(again.partitions_changed, 0, "{}", again.summary);
        // A month's findings do not depend on which other months were asked for.
        let alone = with_checks(&lake, everything(on_fail, most), "2026-02-10", "2026-02-11").await;
        assert_eq!((alone.partitions_changed, alone.partitions), (0, 1), "{}", alone.summary);
    }
}

async fn february(lake: &TestLake) -> Vec<BillLine> {
    let book = load_book(&lake.lake, &Runs::All).await.unwrap();
    bill_lines(&lake.lake, &book, "2026-02", &GateRules::default(), day("2026-03-05")).await.unwrap()
}

#[tokio::test]
async fn what_is_to_be_verified_holds_the_bill_until_a_named_person_lets_it_go() {
    let lake = lake_with_usage().await;
    let options =
        JobOptions { today: Some(day("2026-03-05")), ..JobOptions::new(day("2026-02-01"), day("2026-03-01")) };
    run_job(&lake.lake, Job::Billing, &options).await.unwrap();
    let sql = "SELECT usage_point_id, channel, start, \"end\", use_amount AS measured, 'too much' AS evidence FROM billing_reads
               WHERE month = $month AND usage_point_id IN ('E1', 'E2', 'E3')";
    let mut catalogue = Catalogue { checks: vec![own("V27_own", "verify", "", sql)], ..Catalogue::default() };
    let of = |point: &str, on_fail| Setting {
        check: "V27_own".to_owned(),
        days: Days::default(),
        scope: Some(meterlake_model::check::Scope::parse(&format!("usage_point_id = '{point}'")).unwrap()),
        severity: None,
        on_fail: Some(on_fail),
        params: Params::new(),
    };
    catalogue.settings = vec![of("E2", OnFail::WorkItem), of("E3", OnFail::Hold)];
    with_checks(&lake, catalogue.clone(), "2026-02-01", "2026-03-01").await;
    let state =
        |lines: &[BillLine], point: &str| lines.iter().find(|l| l.usage_point_id == point).unwrap().state.clone();
    let lines = february(&lake).await;
    assert_eq!(state(&lines, "E2"), BillState::Ready, "somebody goes there; the bill goes out");
    let (BillState::Held(verify), BillState::Held(hold)) = (state(&lines, "E1"), state(&lines, "E3")) else {
        panic!("{:?} {:?}", state(&lines, "E1"), state(&lines, "E3"))
    };
    assert_eq!(verify[0].detail, "V27_own: too much, to be looked at by a person");
    assert!(verify[0].key.starts_with("verify:V27_own@energy_import_kwh 2026-01-31T23:00:00"), "{}", verify[0].key);
    assert_eq!(hold[0].detail, "V27_own: too much");

    let scope = Scope { run: "2026-02".to_owned(), usage_point_id: Some("E1".to_owned()) };
    let step = Step::Release { covers: verify.iter().map(|reason| reason.key.clone()).collect() };
    bill_step(&lake.lake, &scope, "ana", &step, (&GateRules::default(), day("2026-03-05"))).await.unwrap();
    let lines = february(&lake).await;
    assert_eq!(state(&lines, "E1"), BillState::Ready, "ana has looked");
    assert!(matches!(state(&lines, "E3"), BillState::Held(_)));

    // What was computed after the checks looked goes nowhere before they look again.
    run_job(&lake.lake, Job::Billing, &options).await.unwrap();
    let list = || async {
        let rules = (&GateRules::default(), &Materiality::default());
        issue(&lake.lake, "2026-02", "ana", rules, day("2026-03-05"), Some("E1")).await
    };
    let refused = list().await.unwrap_err().to_string();
    assert!(refused.contains("`meterlake job run checks` comes first"), "{refused}");

    // The fact goes away, and with it the hold.
    catalogue.settings.push(of("E3", OnFail::Off));
    with_checks(&lake, catalogue, "2026-02-01", "2026-03-01").await;
    assert_eq!(state(&february(&lake).await, "E3"), BillState::Ready);
    assert_eq!(list().await.unwrap().unwrap().bills, 1);
}

#[tokio::test]
async fn g10_december_is_judged_by_what_was_in_force_in_december_whenever_it_is_loaded() {
    let lake = lake_with_usage().await;
    let sql =
        "SELECT usage_point_id, channel, start, \"end\", value AS measured, $tolerance AS \"limit\" FROM usage_days
               WHERE start >= $from AND start < $to AND usage_point_id = 'E1' AND value > $tolerance";
    let mut catalogue =
        Catalogue { checks: vec![own("V27_own", "keep", "-- param: tolerance = 1.2", sql)], ..Catalogue::default() };
    catalogue.settings = vec![Setting {
        check: "V27_own".to_owned(),
        days: Days { from: Some(day("2026-02-15")), to: None },
        scope: None,
        severity: None,
        on_fail: None,
        params: Params::from([("tolerance".to_owned(), Value::parse("1.5").unwrap())]),
    }];
    with_checks(&lake, catalogue, "2026-02-01", "2026-03-01").await;
    let limits =
        lake.rows("SELECT \"limit\", count(*) FROM check_findings WHERE month = '2026-02' GROUP BY 1 ORDER BY 1").await;
    // By the civil day of Madrid, of which the 15th begins at 23:00 of the 14th. The day of 1 February began in January.
    assert_eq!(limits, ["1.200000,13", "1.500000,15"]);
    let border = lake.rows("SELECT max(start) FROM check_findings WHERE \"limit\" < 1.4").await;
    assert_eq!(border, ["2026-02-13T23:00:00Z"]);
}

#[tokio::test]
async fn a_check_that_fails_stops_no_other_and_is_named() {
    let lake = lake_with_usage().await;
    let good = own(
        "V27_good",
        "keep",
        "",
        "SELECT usage_point_id, start, \"end\" FROM usage_days WHERE start >= $from AND start < $to",
    );
    let bad = own("V27_bad", "keep", "", "SELECT usage_point_id, start, \"end\" FROM no_such_table");
    let checks = Catalogue { checks: vec![bad, good], ..Catalogue::default() };
    let options = JobOptions {
        rules: Rules { checks, ..Rules::default() },
        ..JobOptions::new(day("2026-02-01"), day("2026-03-01"))
    };
    let error = run_job(&lake.lake, Job::Checks, &options).await.unwrap_err().to_string();
    assert!(error.contains("1 of the checks could not be run: V27_bad: "), "{error}");
    assert_eq!(lake.rows("SELECT DISTINCT rule FROM check_findings").await, ["V27_good"]);
}
