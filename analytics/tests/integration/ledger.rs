//! Bills issued, corrected, edited and computed again, in a lake.

use meterlake_analytics::book::{BillLine, Runs, Scope, answer, bill_lines, bill_step, edit_step, issue, load_book};
use meterlake_analytics::jobs::bills_again;
use meterlake_analytics::ledger::{Cause, EditStep, EditTarget, ItemKey, Materiality, NoticeState};
use meterlake_analytics::runs::{BillState, GateRules, Step};
use meterlake_analytics::{Job, JobOptions, JobReport, run_job};
use meterlake_model::{Amount, ReadingBatch, Timestamp};

use crate::fixture::{TestLake, at, channel, day, push, quarter_year, registry};

const FEBRUARY: (&str, &str) = ("2026-02-01", "2026-03-01");
const TODAY: &str = "2026-03-05";

fn options(today: &str) -> JobOptions {
    JobOptions { today: Some(day(today)), ..JobOptions::new(day(FEBRUARY.0), day(FEBRUARY.1)) }
}

async fn bill_february(lake: &TestLake) -> JobReport {
    lake.run(Job::Usage, "2026-01-01", "2026-04-01").await;
    run_job(&lake.lake, Job::Billing, &options(TODAY)).await.unwrap()
}

/// The quarter year without e1's readings between two instants, and the one of them at its middle, which comes late.
fn with_a_hole(from: Timestamp, to: Timestamp, late: Timestamp) -> (ReadingBatch, ReadingBatch) {
    let (mut batch, mut after) = (ReadingBatch::default(), ReadingBatch::default());
    let all = quarter_year();
    for commodity in meterlake_model::Commodity::ALL {
        let rows = all.rows(commodity);
        for (index, header) in rows.headers().iter().enumerate() {
            let values: Vec<_> = rows.values(index).collect();
            let missing = header.meter_id.as_str() == "e1" && from < header.ts && header.ts < to;
            if !missing {
                batch.rows_mut(commodity).push(header.clone(), &values);
            } else if header.ts == late {
                // Not what was estimated: all of the day's use came after it.
                push(&mut after, "e1", late, &[("energy_import_kwh", values[0].1 - 1500)]);
            }
        }
    }
    (batch, after)
}

async fn holed() -> (TestLake, ReadingBatch) {
    let mut lake = TestLake::new(&registry()).await;
    // 28 February, six in the morning, to 1 March, six in the evening; the month ends at midnight in Madrid.
    let hole = (at("2026-02-28T05:00:00Z"), at("2026-03-01T17:00:00Z"));
    let (batch, late) = with_a_hole(hole.0, hole.1, at("2026-02-28T23:00:00Z"));
    lake.commit(batch).await;
    (lake, late)
}

async fn lines(lake: &TestLake) -> Vec<BillLine> {
    let book = load_book(&lake.lake, &Runs::All).await.unwrap();
    bill_lines(&lake.lake, &book, "2026-02", &GateRules::default(), day(TODAY)).await.unwrap()
}

fn key(point: &str, determinant: &str) -> ItemKey {
    ItemKey {
        usage_point_id: point.to_owned(),
        determinant: determinant.to_owned(),
        part: "energy_import_kwh".to_owned(),
        first_day: day(FEBRUARY.0),
        end_day: day(FEBRUARY.1),
    }
}

const NO_RULES: fn() -> (GateRules, Materiality) = || (GateRules::default(), Materiality::default());

async fn issue_february(lake: &TestLake, by: &str) -> Option<meterlake_analytics::book::IssuedList> {
    let (gates, notices) = NO_RULES();
    issue(&lake.lake, "2026-02", by, (&gates, &notices), day(TODAY), None).await.unwrap()
}

/// Every account's sum is what the run says now.
async fn assert_ledger_is_the_present_value(lake: &TestLake) {
    let unequal = lake
        .rows(
            "SELECT usage_point_id, total, use_amount FROM billing_reads JOIN
               (SELECT usage_point_id, part, sum(delta) AS total FROM billing_corrections
                WHERE determinant = 'use' AND run = '2026-02' GROUP BY 1, 2) l USING (usage_point_id)
             WHERE channel = part AND run = '2026-02' AND total <> use_amount",
        )
        .await;
    assert_eq!(unequal, Vec::<String>::new(), "the sum of all deltas is the present value");
}

#[tokio::test]
async fn a_month_is_issued_once_and_a_late_reading_is_a_correction() {
    let (mut lake, late) = holed().await;
    let first = bill_february(&lake).await;
    let before = lines(&lake).await;
    assert_eq!(before.len(), 6);
    for line in &before {
        assert_eq!(line.state, BillState::Ready, "{} {:?}", line.usage_point_id, line.gate);
    }
    let list = issue_february(&lake, "ana").await.unwrap();
    assert_eq!((list.bills, list.items.len()), (6, 18), "start, end and use of six points");
    assert!(issue_february(&lake, "ana").await.is_none(), "nothing goes out twice");
    assert!(lines(&lake).await.iter().all(|l| l.state == BillState::Issued(list.number)));
    assert_ledger_is_the_present_value(&lake).await;
    assert_eq!(answer(&lake.lake, list.number, None, "sap", None).await.unwrap(), 6);
    assert_eq!(answer(&lake.lake, list.number, None, "sap", None).await.unwrap(), 0, "twice is once");
    assert!(lines(&lake).await.iter().all(|l| l.state == BillState::Acked(list.number)));

    // The same again adds nothing. The end that was issued as an estimate is pinned now, which is noted once.
    let noted = bill_february(&lake).await;
    assert!(!noted.summary.contains("corrections"), "{}", noted.summary);
    let again = bill_february(&lake).await;
    assert_eq!((again.partitions_changed, again.summary.contains("corrections")), (0, false), "{}", again.summary);

    let pin = JobOptions {
        commit_seq: Some(first.commit_seq),
        registry_revision: Some(first.registry_revision),
        events: Some(0),
        ..options(TODAY)
    };
    let hash = lake.rows(&format!("SELECT output_hash FROM job_runs WHERE run_id = '{}'", first.run_id)).await;
    let old = bills_again(&lake.lake, &pin).await.unwrap();
    assert_eq!(vec![old.hash.clone()], hash, "from readings alone, without any derived table");

    lake.commit(late).await;
    let corrected = bill_february(&lake).await;
    assert!(corrected.summary.ends_with("2 corrections of issued bills"), "{}", corrected.summary);
    let rows = lake
        .rows(
            "SELECT usage_point_id, determinant, seq, cause, delta < 0 FROM billing_corrections WHERE seq > 0
             ORDER BY determinant",
        )
        .await;
    assert_eq!(rows, ["E1,end_read,1,late_read,true", "E1,use,1,late_read,true"]);
    assert_ledger_is_the_present_value(&lake).await;
    let same = bill_february(&lake).await;
    assert!(!same.summary.contains("corrections"), "{}", same.summary);

    // What was billed, what is now, and what the ledger says of the difference, item by item.
    let now = bills_again(&lake.lake, &options(TODAY)).await.unwrap();
    let book = load_book(&lake.lake, &Runs::All).await.unwrap();
    let mut differing = 0;
    for (was, is) in old.items.iter().zip(&now.items) {
        assert_eq!(was.key, is.key);
        let posted: Vec<Amount> = book.accounts[&was.key].account.rows().iter().skip(1).map(|row| row.delta).collect();
        assert_eq!(is.value.checked_sub(was.value), Amount::sum(posted), "{}", was.key);
        differing += usize::from(is.value != was.value);
    }
    assert_eq!(differing, 2);

    lake.compact().await;
    let after = bills_again(&lake.lake, &pin).await.unwrap();
    assert_eq!((after.hash, after.items), (old.hash, old.items), "the same pin, the same bytes");
    assert_eq!(after.reads, old.reads);

    // The billing system has what it acknowledged, and is told the rest.
    let notices = Materiality::default();
    let of_use = book.standing(&key("E1", "use"), &notices).unwrap();
    assert_eq!(of_use.rows, [NoticeState::Acked, NoticeState::None]);
    let told = issue_february(&lake, "ana").await.unwrap();
    assert_eq!((told.bills, told.items.len()), (0, 2));
    assert_eq!(told.items[1].delta, of_use.due[0].delta);
    assert_eq!(answer(&lake.lake, told.number, Some("E1"), "sap", None).await.unwrap(), 1);
    let book = load_book(&lake.lake, &Runs::Only("2026-02".to_owned())).await.unwrap();
    for what in ["end_read", "use"] {
        let standing = book.standing(&key("E1", what), &notices).unwrap();
        assert_eq!(standing.acked, book.accounts[&key("E1", what)].account.current());
    }
}

#[tokio::test]
async fn people_hold_release_reject_and_cancel_and_are_named() {
    let (lake, _) = holed().await;
    bill_february(&lake).await;
    let rules = GateRules::default();
    let step = async |point: &str, by: &str, step: Step| {
        let scope = Scope { run: "2026-02".to_owned(), usage_point_id: Some(point.to_owned()) };
        bill_step(&lake.lake, &scope, by, &step, (&rules, day(TODAY))).await.map_err(|e| e.to_string())
    };
    let hold = Step::Hold { reason: "asks about the leak".to_owned() };
    assert!(step("W1", " ", hold.clone()).await.unwrap_err().contains("who does it is missing"));
    assert_eq!(step("W1", "bo", hold).await, Ok(1));
    assert_eq!(step("E2", "bo", Step::Cancel { reason: "moved".to_owned() }).await, Ok(1));
    assert!(step("X9", "bo", Step::Cancel { reason: "moved".to_owned() }).await.unwrap_err().contains("X9"));
    let list = issue_february(&lake, "ana").await.unwrap();
    assert_eq!(list.bills, 4, "all but the held and the cancelled one");
    let state = async |point: &str| lines(&lake).await.into_iter().find(|l| l.usage_point_id == point).unwrap().state;
    let BillState::Held(reasons) = state("W1").await else { panic!("held") };
    assert_eq!(reasons[0].by.as_deref(), Some("bo"));
    let release = Step::Release { covers: reasons.into_iter().map(|r| r.key).collect() };
    assert_eq!(step("W1", "ana", release).await, Ok(1));
    assert_eq!(state("W1").await, BillState::Ready);
    assert_eq!(state("E2").await, BillState::Cancelled);

    assert_eq!(answer(&lake.lake, list.number, Some("W2"), "sap", Some("unknown account")).await.unwrap(), 1);
    assert_eq!(answer(&lake.lake, list.number, Some("E1"), "sap", None).await.unwrap(), 1);
    let both = answer(&lake.lake, list.number, Some("E1"), "sap", Some("no")).await.unwrap_err();
    assert!(both.to_string().contains("answered otherwise"), "{both}");
    assert!(answer(&lake.lake, 999, None, "sap", None).await.is_err());
    assert_eq!(state("W2").await, BillState::Rejected(list.number));
    let second = issue_february(&lake, "ana").await.unwrap();
    let points: Vec<&str> = second.items.iter().map(|i| i.key.usage_point_id.as_str()).collect();
    assert_eq!(points, ["W1", "W1", "W1", "W2", "W2", "W2"], "the released one, and the rejected one again");
    assert!(second.number > list.number);
    assert_eq!(state("W2").await, BillState::Issued(second.number));
    let current = |book: &meterlake_analytics::book::Book| {
        let of = |(key, a): (&ItemKey, &meterlake_analytics::book::BookAccount)| (key.clone(), a.account.rows().len());
        book.accounts.iter().map(of).filter(|(_, rows)| *rows > 1).count()
    };
    assert_eq!(current(&load_book(&lake.lake, &Runs::All).await.unwrap()), 0, "a list that goes out again adds no row");
}

#[tokio::test]
async fn an_edit_takes_two_people_and_corrects_what_was_issued() {
    let (lake, _) = holed().await;
    bill_february(&lake).await;
    issue_february(&lake, "ana").await.unwrap();
    let target = EditTarget {
        usage_point_id: "E3".to_owned(),
        channel: channel("energy_import_kwh"),
        first_day: day("2026-02-10"),
        end_day: day("2026-02-11"),
    };
    let value = Amount::parse("1.5").unwrap();
    let propose = EditStep::Propose { target, value, reason: "meter was tested".to_owned() };
    let id = edit_step(&lake.lake, None, "ana", propose.clone()).await.unwrap();
    let alone = edit_step(&lake.lake, Some(id), "Ana", EditStep::Approve).await.unwrap_err();
    assert!(alone.to_string().contains("somebody else has to approve"), "{alone}");
    let unedited = bill_february(&lake).await;
    assert!(!unedited.summary.contains("corrections"), "a proposal changes nothing: {}", unedited.summary);
    assert_eq!(edit_step(&lake.lake, Some(id), "bo", EditStep::Approve).await.unwrap(), id);
    let edited = bill_february(&lake).await;
    assert!(edited.summary.ends_with("1 corrections of issued bills"), "{}", edited.summary);
    let book = load_book(&lake.lake, &Runs::All).await.unwrap();
    let row = book.accounts[&key("E3", "use")].account.last().unwrap().clone();
    assert_eq!(row.cause, Cause::Edit);
    assert_ledger_is_the_present_value(&lake).await;
    let remarks = lines(&lake).await.into_iter().find(|l| l.usage_point_id == "E3").unwrap().remarks;
    assert!(remarks[0].starts_with(&format!("contested: edit {id} says 1.5")), "{remarks:?}");
    let told = issue_february(&lake, "ana").await.unwrap();
    assert_eq!((told.items.len(), told.items[0].cause.as_str()), (1, "edit"));

    let release = EditStep::Release { reason: "the test was wrong".to_owned() };
    edit_step(&lake.lake, Some(id), "ana", release).await.unwrap();
    bill_february(&lake).await;
    let book = load_book(&lake.lake, &Runs::All).await.unwrap();
    let rows = book.accounts[&key("E3", "use")].account.rows().to_vec();
    assert_eq!((rows.len(), rows[2].new), (3, rows[0].new), "released, it is as it was read");
    assert_eq!(rows[2].cause, Cause::Edit);
}

#[tokio::test]
async fn a_cycle_that_ends_in_silence_is_projected_once_its_deadline_has_passed() {
    let mut registry = registry();
    registry.installations[0].installed_at = Some(at("2025-12-31T23:00:00Z"));
    let mut lake = TestLake::new(&registry).await;
    let (batch, _) = with_a_hole(at("2026-02-20T05:00:00Z"), at("2027-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    lake.commit(batch).await;
    lake.run(Job::Usage, "2026-01-01", "2026-04-01").await;
    for (today, state, covered) in [("2026-03-03", "waiting", 19), ("2026-03-04", "ready", 28)] {
        run_job(&lake.lake, Job::Billing, &options(today)).await.unwrap();
        let book = load_book(&lake.lake, &Runs::All).await.unwrap();
        let lines = bill_lines(&lake.lake, &book, "2026-02", &GateRules::default(), day(today)).await.unwrap();
        let line = lines.iter().find(|l| l.usage_point_id == "E1").unwrap();
        assert_eq!(line.state.as_str(), state, "{today}: {:?}", line.gate);
        let days =
            lake.rows("SELECT days_covered FROM billing_reads WHERE usage_point_id = 'E1' AND run = '2026-02'").await;
        assert_eq!(days, [covered.to_string()], "{today}");
    }
    // An issued estimate is pinned: when the meter talks again, the next cycle begins where the bill ended.
    issue_february(&lake, "ana").await.unwrap();
    let mut more = ReadingBatch::default();
    push(&mut more, "e1", at("2026-03-20T00:00:00Z"), &[("energy_import_kwh", 1_700_000)]);
    lake.commit(more).await;
    lake.run(Job::Usage, "2026-01-01", "2026-04-01").await;
    let march = JobOptions { today: Some(day("2026-04-05")), ..JobOptions::new(day("2026-02-01"), day("2026-04-01")) };
    let report = run_job(&lake.lake, Job::Billing, &march).await.unwrap();
    assert!(!report.summary.contains("corrections"), "{}", report.summary);
    let meet = lake
        .rows(
            "SELECT f.end_register = m.start_register, f.end_quality, m.start_quality
             FROM billing_reads f JOIN billing_reads m USING (usage_point_id)
             WHERE f.usage_point_id = 'E1' AND f.run = '2026-02' AND m.run = '2026-03'",
        )
        .await;
    assert_eq!(meet.len(), 1);
    assert!(meet[0].starts_with("true,estimated"), "{meet:?}");
    let pin = JobOptions {
        commit_seq: Some(report.commit_seq),
        events: Some(load_book(&lake.lake, &Runs::All).await.unwrap().last_event),
        ..march
    };
    let hash = lake.rows(&format!("SELECT output_hash FROM job_runs WHERE run_id = '{}'", report.run_id)).await;
    assert_eq!(vec![bills_again(&lake.lake, &pin).await.unwrap().hash], hash, "with what was issued as it was then");
}
